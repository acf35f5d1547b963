"""Holds a message of a stream until somebody wants its value."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class NoValue(Exception):
    """A message that looked well has turned out to have no value."""


class Undecoded(Generic[T]):
    """A message that has been checked, and whose value is made when a reader takes it.

    The stream's thread makes it and puts it into the queues of all receivers; whoever takes it
    first makes the value, and all others get the same one. What a full queue drops is never
    decoded.
    """

    def __init__(
        self, message: Any, make: Callable[[Any], T], on_failure: Callable[[Exception], None]
    ) -> None:
        """Decode nothing yet.

        Args:
            message: The protobuf message.
            make: Makes the value of it.
            on_failure: Told once, in a reader's thread, why there is no value.
        """
        self._message = message
        self._make = make
        self._on_failure = on_failure

    def value(self) -> T:
        """Give the value. Any thread.

        Raises:
            NoValue: If it cannot be decoded.
        """
        outcomes: dict[str, T | _Failure] = vars(self)
        if "outcome" not in outcomes:
            outcome = self._decode()
            # Without a lock, which a signal handler that reads could wait for in vain: two readers
            # may both decode; who comes first with it decides for both.
            is_first = outcomes.setdefault("outcome", outcome) is outcome
            if isinstance(outcome, _Failure) and is_first:
                self._on_failure(ValueError(outcome.reason))
        outcome = outcomes["outcome"]
        if isinstance(outcome, _Failure):
            raise NoValue(outcome.reason)
        return outcome

    def _decode(self) -> "T | _Failure":
        try:
            return self._make(self._message)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and not a reader's
            # Not the error itself: its traceback would keep this alive.
            return _Failure(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class _Failure:
    """Stands for the value of a message that has none."""

    reason: str


def decoded(items: Iterable[Any]) -> list[Any]:
    """Give values, those of messages decoded; what cannot be decoded is left out."""
    values = []
    for item in items:
        if type(item) is Undecoded:
            try:
                values.append(item.value())
            except NoValue:
                continue
        else:
            values.append(item)
    return values
