"""Receivers that a test itself writes to."""

from collections.abc import Callable
from typing import Generic, TypeVar

from microgrid_sync.receiver import RECEIVER_MAX_SIZE, Receiver, Writer
from microgrid_sync.undecoded import Undecoded

T = TypeVar("T")


class FedReceiver(Receiver[T], Generic[T]):
    """A receiver with both of its sides."""

    def __init__(
        self,
        *,
        maxsize: int = RECEIVER_MAX_SIZE,
        name: str = "receiver",
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.writer: Writer[T] = Writer(maxsize, name)
        super().__init__(self.writer, on_close=on_close)

    def put(self, value: T | Undecoded[T]) -> int:
        return self.writer.put(value)

    def end(self, error: BaseException | None = None) -> None:
        self.writer.end(error)
