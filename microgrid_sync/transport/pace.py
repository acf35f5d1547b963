"""Holds streams back that send more than is wanted."""

import threading

_BURST = 2.0
"""Seconds for which more may come, as it does when streams begin."""


class Pace:
    """Says when the next message may be read, so that no more come than so many a second.

    The streams of one server share it. What is not read waits at the server: HTTP/2 holds it back.
    """

    def __init__(self, rate: float) -> None:
        """Begin.

        Args:
            rate: How many messages a second are read at the most.
        """
        self._interval = 1.0 / rate
        # Protects the time at which the next message is due.
        self._lock = threading.Lock()
        self._due = 0.0

    def pause(self, now: float) -> float:
        """Count a message, and give for how many seconds no other is to be read.

        Args:
            now: The time on the monotonic clock.
        """
        with self._lock:
            self._due = max(self._due, now - _BURST) + self._interval
            return max(0.0, self._due - now)
