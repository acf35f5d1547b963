"""Says what all destinations of a recording have in common."""

from typing import Protocol

from microgrid_sync.recording.spool import Spool


class StoreError(OSError):
    """Rows cannot be stored, or not be read; the text says where and why."""


class Store(Protocol):
    """Where rows belong. One thread delivers to it; any thread may hurry or close it."""

    @property
    def name(self) -> str:
        """What it is called, without secrets."""

    def place(self, table: str, timestamp: int) -> str:
        """Name the place of a row in a spool: those of one place are delivered together."""

    def check(self) -> None:
        """See whether it can be used, and make what it needs.

        Raises:
            StoreError: If it is there, and cannot be used as it is.
        """

    def deliver(self, spool: Spool, *, all_of_it: bool) -> int:
        """Move rows from a spool to where they belong: those that it is time for.

        Args:
            spool: What they are removed from when they are safe.
            all_of_it: Whether it is time for all.

        Returns:
            How many were moved.

        Raises:
            StoreError: If it fails; what was not moved whole is still in the spool.
        """

    def hurry(self) -> None:
        """Break off what has been waited for too long."""

    def close(self) -> None:
        """Let go of it. Any number of times."""
