"""Learns how long a charger and its car take to obey a lower set-point. Pure: time is passed in."""

from collections import deque

_REMEMBERED = 5
"""So many of the last reductions count; the slowest of them."""

_LEAST = 1.0
"""s: nothing shorter is believed, as data comes about once a second."""

_GIVEN_UP_AFTER = 60.0
"""Seconds after which a reduction says nothing any more: the car has its own reasons."""

NEAR_SHARE, NEAR = 1.02, 50.0
"""A draw up to this share of the limit, or so many W more, obeys it: so well chargers measure."""


def obeys(draw: float, limit: float) -> bool:
    """Tell whether a draw is within a limit, as well as chargers measure. Both in W."""
    return draw <= max(limit * NEAR_SHARE, limit + NEAR)


class DeadTime:
    """The dead time of one charger, with the car that is there. Times are monotonic seconds."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._times: deque[float] = deque(maxlen=_REMEMBERED)
        self._reduced: tuple[float, float] | None = None
        """When a limit was lowered that it has not obeyed yet, and to what."""

    @property
    def known(self) -> float | None:
        """The dead time in s; ``None`` if it has never been seen."""
        return max(self._times, default=None)

    def sent(self, limit: float, draw: float, now: float) -> None:
        """Note a new limit, in W, and what is drawn."""
        self._reduced = None if obeys(draw, limit) else (now, limit)

    def failed(self) -> None:
        """Note that the limit sent last was not taken, or may not have been."""
        self._reduced = None

    def update(self, draw: float, now: float) -> None:
        """Take a draw, in W."""
        if self._reduced is None:
            return
        since, limit = self._reduced
        if obeys(draw, limit):
            self._times.append(max(now - since, _LEAST))
        if obeys(draw, limit) or now - since > _GIVEN_UP_AFTER:
            self._reduced = None

    def forget_car(self) -> None:
        """Begin with another car: what is known of the charger stays until more is known."""
        self._reduced = None
        slowest = self.known
        self._times.clear()
        if slowest is not None:
            self._times.append(slowest)
