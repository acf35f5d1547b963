"""Defines a range."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from microgrid_sync.model.shown import Shown

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Bounds(Shown, Generic[T]):
    """A range with both of its ends."""

    lower: T
    """The lower end."""

    upper: T
    """The upper end."""

    def __contains__(self, item: object) -> bool:
        """Tell whether a value is in the range, its ends included; an end of ``None`` is open.

        Raises:
            TypeError: If the value is ``None``, or cannot be compared with the ends.
        """
        if item is None:
            raise TypeError("None is neither inside nor outside of bounds")
        value: Any = item
        return (self.lower is None or self.lower <= value) and (
            self.upper is None or value <= self.upper
        )
