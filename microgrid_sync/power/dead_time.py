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
        self._reduced: list[tuple[float, float]] = []
        """When limits were lowered that it has not obeyed yet, and to what; the oldest first."""

    @property
    def known(self) -> float | None:
        """The dead time in s; ``None`` if it has never been seen."""
        return max(self._times, default=None)

    def sent(self, limit: float, draw: float, now: float) -> None:
        """Note a new limit, in W, and what is drawn."""
        if obeys(draw, limit):
            self._reduced = []
            return
        # Those on the way stay: else each new one would make a slow car look as fast as the last.
        on_the_way = [(since, max(before, limit)) for since, before in self._reduced]
        self._reduced = [*on_the_way, (now, limit)]

    def failed(self, limit: float | None) -> None:
        """Note that a limit, in W, was not taken, or may not have been."""
        self._reduced = [waiting for waiting in self._reduced if waiting[1] != limit]

    def update(self, draw: float, now: float) -> None:
        """Take a draw, in W."""
        obeyed = [max(now - since, _LEAST) for since, limit in self._reduced if obeys(draw, limit)]
        if obeyed:
            # One observation, however many limits it has passed: the first of them is the slowest.
            self._times.append(obeyed[0])
        self._reduced = [
            (since, limit)
            for since, limit in self._reduced
            if not obeys(draw, limit) and now - since <= _GIVEN_UP_AFTER
        ]

    def forget_car(self) -> None:
        """Begin with another car: what is known of the charger stays until more is known."""
        self._reduced = []
        slowest = self.known
        self._times.clear()
        if slowest is not None:
            self._times.append(slowest)
