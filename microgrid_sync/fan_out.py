"""From one writer to many receivers."""

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from microgrid_sync.receiver import Receiver

T = TypeVar("T")


class FanOut(Generic[T]):
    """Hands what one writer sends to any number of receivers.

    It knows its receivers weakly, so that one which its owner forgot to close does not keep the
    writer busy. Any thread may subscribe and close; one thread writes.
    """

    def __init__(self, name: str, *, on_empty: Callable[[], None] | None = None) -> None:
        """Make a fan-out without receivers.

        Args:
            name: What it hands out, as errors and log lines call it.
            on_empty: Called when the last receiver has gone, with no lock of this class held.
        """
        self._name = name
        self._on_empty = on_empty
        # Protects replacing the receivers, which is done as a whole; they are read without it.
        # Re-entrant, so that a signal handler may close a receiver.
        self._lock = threading.RLock()
        self._receivers: tuple[weakref.ref[Receiver[T]], ...] = ()

    def subscribe(self, maxsize: int, *, first: T | None = None) -> Receiver[T]:
        """Add a receiver.

        Args:
            maxsize: How many values it holds.
            first: What it gets at once, if anything.
        """

        def forget() -> None:
            self.forget(reference)

        receiver: Receiver[T] = Receiver(maxsize=maxsize, name=self._name, on_close=forget)
        reference = weakref.ref(receiver)
        if first is not None:
            receiver.put(first)
        with self._lock:
            open_ones = (kept for kept in self._receivers if kept() is not None)
            self._receivers = (*open_ones, reference)
        return receiver

    def forget(self, reference: "weakref.ref[Receiver[T]] | None" = None) -> None:
        """Drop a receiver, and those whose owners have forgotten them."""
        with self._lock:
            self._receivers = tuple(
                kept for kept in self._receivers if kept is not reference and kept() is not None
            )
            empty = not self._receivers
        if empty and self._on_empty is not None:
            self._on_empty()

    def put(self, value: T) -> int:
        """Hand a value to all receivers; give how many values they dropped for it."""
        dropped = 0
        forgotten = False
        receiver = None
        for reference in self._receivers:
            receiver = reference()
            if receiver is None:
                forgotten = True
            else:
                dropped += receiver.put(value)
        # Not to be kept alive until the next value.
        del receiver
        if forgotten:
            self.forget()
        return dropped

    def end(self, error: BaseException | None = None) -> None:
        """Tell all receivers that nothing more will come, and why."""
        for reference in self._receivers:
            receiver = reference()
            if receiver is not None:
                receiver.end(error)

    def __len__(self) -> int:
        """Count the receivers that are not closed."""
        return sum(reference() is not None for reference in self._receivers)
