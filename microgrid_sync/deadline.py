"""Spreads one timeout over several steps."""

import math
import time


class Deadline:
    """The moment by which all steps of something must be done, on the monotonic clock."""

    def __init__(self, timeout: float | None) -> None:
        """Begin.

        Args:
            timeout: Seconds from now on; ``None`` for no end.
        """
        self._at = math.inf if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float:
        """Give the seconds that are left, 0 at the least; infinite without an end."""
        return max(0.0, self._at - time.monotonic())

    def has_passed(self) -> bool:
        """Tell whether no time is left."""
        return time.monotonic() >= self._at
