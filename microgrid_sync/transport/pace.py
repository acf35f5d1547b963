"""Holds streams back that send more than is wanted."""

import math
import threading

_TOLD_AFTER = 5.0
"""Seconds for which messages were held back when that is told."""

_TOLD_AGAIN = 600.0
"""Seconds between two times that it is told."""

_BURST = 2.0
"""Seconds for which more may come, as it does when streams begin."""


class Pace:
    """Says when the next message may be read, so that no more come than so many a second.

    The streams of one server share it. What is not read waits at the server: HTTP/2 holds it back.
    """

    def __init__(self, rate: float, of_each: float = 0.0) -> None:
        """Begin.

        Args:
            rate: How many messages of all streams are read a second at the most.
            of_each: How many of each stream, if that is more together.
        """
        self._least = rate
        self._of_each = of_each
        # Protects all below.
        self._lock = threading.Lock()
        self._streams: set[int] = set()
        self._due = 0.0
        self._held_since: float | None = None
        self._told_at = -math.inf

    @property
    def rate(self) -> float:
        """How many messages are read a second at the most."""
        return max(self._least, self._of_each * len(self._streams))

    def pause(self, stream: int, now: float) -> float:
        """Count a message, and give for how many seconds no other is to be read.

        Args:
            stream: Which stream it is of.
            now: The time on the monotonic clock.
        """
        with self._lock:
            self._streams.add(stream)
            self._due = max(self._due, now - _BURST) + 1.0 / self.rate
            pause = max(0.0, self._due - now)
            if not pause:
                self._held_since = None
            elif self._held_since is None:
                self._held_since = now
            return pause

    def is_news(self, now: float) -> bool:
        """Tell whether it is to be told, now, that more comes than is read: now and then."""
        with self._lock:
            is_held = self._held_since is not None and now - self._held_since >= _TOLD_AFTER
            if not is_held or now - self._told_at < _TOLD_AGAIN:
                return False
            self._told_at = now
            return True
