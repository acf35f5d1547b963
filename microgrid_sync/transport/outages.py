"""Decides which failures and recoveries of a connection's streams are worth a line in the log.

One line for a connection, not one for each of its streams; the failure and the recovery at the same
level; a reason that is new is told, one that stays is not; and never more than a few lines in ten
seconds, however wildly streams come and go. Pure: the time is passed in, and lines come out.
"""

import math

_PAUSE = 10.0
"""Seconds between two lines about failures."""


class Outages:
    """What has been told of the failures of one connection's streams. Not thread-safe."""

    def __init__(self) -> None:
        """Begin with all streams well."""
        self._failing: dict[int, float] = {}
        self._told_reasons: set[str] = set()
        self._is_told = False
        self._told_at = -math.inf

    def failed(self, component_id: int, reason: str, now: float) -> str | None:
        """Note a failed attempt of a stream.

        Args:
            component_id: The stream's component.
            reason: Why, in a word that stays the same as long as the reason does.
            now: The time on the monotonic clock.

        Returns:
            What to add to the line about it; ``None`` if none is due.
        """
        self._failing.setdefault(component_id, now)
        if self._is_told and reason in self._told_reasons:
            return None
        if now - self._told_at < _PAUSE and self._told_reasons:
            return None
        if not self._is_told:
            self._told_reasons.clear()
        self._is_told = True
        self._told_reasons.add(reason)
        self._told_at = now
        others = len(self._failing) - 1
        return f"; {others} other streams fail, too" if others else ""

    def recovered(self, component_id: int, now: float) -> str | None:
        """Note that a stream has data again.

        Returns:
            A line about it; ``None`` if none is due.
        """
        since = self._failing.pop(component_id, None)
        if since is None or not self._is_told:
            return None
        self._is_told = False
        rest = len(self._failing)
        others = f"; {rest} other streams are still being opened" if rest else ""
        return f"component {component_id} has data again after {now - since:.0f} s{others}"

    def ended(self, component_id: int) -> None:
        """Forget a stream that has ended."""
        self._failing.pop(component_id, None)
