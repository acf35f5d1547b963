"""Hands what one writer sends to any number of receivers."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from microgrid_sync.receiver import Receiver, Writer
from microgrid_sync.undecoded import Undecoded

T = TypeVar("T")


class FanOut(Generic[T]):
    """Hands what one writer sends to any number of receivers, until it ends.

    It knows the writers' side of its receivers alone, so that one which its owner forgot to close
    does not keep it busy. Any thread may subscribe and close; one thread writes.
    """

    # As of `Writer`: cold memory at each message of many streams.
    __slots__ = ("_has_ended", "_lock", "_name", "_on_empty", "_writers")

    def __init__(self, name: str, *, on_empty: Callable[[], None] | None = None) -> None:
        """Make a fan-out without receivers.

        Args:
            name: What it hands out, as errors and log lines call it.
            on_empty: Called when the last receiver has gone, with no lock of this class held.
        """
        self._name = name
        self._on_empty = on_empty
        # Protects replacing the writers, which is done as a whole, and the end; they are read
        # without it.
        self._lock = threading.Lock()
        self._writers: tuple[Writer[T], ...] = ()
        self._has_ended = False

    def subscribe(
        self, maxsize: int, *, first: T | None = None, keeps: object = None
    ) -> Receiver[T] | None:
        """Add a receiver.

        Args:
            maxsize: How many values it holds.
            first: What it gets at once, if anything.
            keeps: What must stay alive as long as somebody reads.

        Returns:
            The receiver; ``None`` if nothing more will come.
        """
        writer: Writer[T] = Writer(maxsize, self._name)
        receiver = Receiver(writer, on_close=lambda: self.remove(writer), keeps=keeps)
        if first is not None:
            writer.put(first)
        with self._lock:
            if self._has_ended:
                return None
            writers = (known for known in self._writers if not known.is_forgotten)
            self._writers = (*writers, writer)
        return receiver

    def remove(self, writer: Writer[T] | None = None) -> None:
        """Drop a receiver, and those whose owners have forgotten them."""
        with self._lock:
            self._writers = tuple(
                known for known in self._writers if known is not writer and not known.is_forgotten
            )
            empty = not self._writers
        if empty and self._on_empty is not None:
            self._on_empty()

    def put(self, value: T | Undecoded[T]) -> int:
        """Hand a value, or the message that it is to be made of, to all receivers.

        Returns:
            How many values they dropped for it.
        """
        dropped = 0
        forgotten = False
        for writer in self._writers:
            if writer.is_forgotten:
                forgotten = True
            else:
                dropped += writer.put(value)
        if forgotten:
            self.remove()
        return dropped

    def end(self, error: BaseException | None = None) -> None:
        """Tell all receivers that nothing more will come, and why; refuse new ones."""
        with self._lock:
            self._has_ended = True
        for writer in self._writers:
            writer.end(error)

    def newest(self) -> T | Undecoded[T] | None:
        """Give the newest value, or the message that it is to be made of, if a receiver has it."""
        return next((w.latest for w in self._writers if w.latest is not None), None)

    def __len__(self) -> int:
        """Count the receivers that are not closed."""
        return sum(not writer.is_forgotten for writer in self._writers)
