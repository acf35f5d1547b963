"""Callbacks that are added and taken back by any thread, and called by others meanwhile."""

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Listeners(Generic[T]):
    """Who is told of something. Iterating over them takes no lock."""

    def __init__(self) -> None:
        """Begin without any."""
        self._all: tuple[tuple[T], ...] = ()
        # Protects that the tuple is replaced by one thread at a time; nothing is called under it.
        self._lock = threading.Lock()

    def add(self, listener: T) -> Callable[[], None]:
        """Add one.

        Returns:
            What takes it back, any number of times; what is just being called ends by itself.
        """
        # An entry of its own: one that is added twice is taken back once.
        entry = (listener,)

        def take_back() -> None:
            with self._lock:
                self._all = tuple(one for one in self._all if one is not entry)

        with self._lock:
            self._all = (*self._all, entry)
        return take_back

    def __iter__(self) -> Iterator[T]:
        """Give each of those that are there now."""
        return (listener for (listener,) in self._all)
