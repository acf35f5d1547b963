"""Defines values over time: samples and bounds of systems."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from frequenz.quantities import Power, Quantity

from microgrid_sync.model.bounds import Bounds
from microgrid_sync.model.shown import Tabular

Q = TypeVar("Q", bound=Quantity)


@dataclass(frozen=True, repr=False)
class Sample(Tabular, Generic[Q]):
    """A quantity at a time."""

    timestamp: datetime
    """The end of the window that the value is for, in UTC."""

    value: Q | None = None
    """The value; ``None`` if there is none."""


@dataclass(frozen=True, repr=False)
class Sample3Phase(Tabular, Generic[Q]):
    """A quantity of each of three phases at a time."""

    timestamp: datetime
    """The end of the window that the values are for, in UTC."""

    value_p1: Q | None = None
    """The value of phase 1; ``None`` if there is none."""

    value_p2: Q | None = None
    """The value of phase 2; ``None`` if there is none."""

    value_p3: Q | None = None
    """The value of phase 3; ``None`` if there is none."""

    def __iter__(self) -> Iterator[Q | None]:
        """Walk through the values of phase 1, 2 and 3."""
        return iter((self.value_p1, self.value_p2, self.value_p3))

    def max(self, default: Q | None = None) -> Q | None:
        """Give the largest of the values that are there; without any, what is given here."""
        return max((value for value in self if value is not None), default=default)

    def min(self, default: Q | None = None) -> Q | None:
        """Give the smallest of the values that are there; without any, what is given here."""
        return min((value for value in self if value is not None), default=default)

    def map(self, function: Callable[[Q], Q], default: Q | None = None) -> "Sample3Phase[Q]":
        """Apply a function to each of the values.

        Args:
            function: Gives the new value of an old one.
            default: What stands for a value that is not there; the function does not see it.

        Returns:
            A new sample of the same time.
        """
        values = (default if value is None else function(value) for value in self)
        return Sample3Phase(self.timestamp, *values)


@dataclass(frozen=True, repr=False)
class SystemBounds(Tabular):
    """What a set of components can be set to, all together.

    Two that differ in their timestamps alone are equal.
    """

    timestamp: datetime = field(compare=False)
    """When the bounds were found, in UTC."""

    inclusion_bounds: Bounds[Power] | None
    """The range within which power must be; ``None`` if nothing is known yet."""

    exclusion_bounds: Bounds[Power] | None
    """The range within which power must not be; ``None`` if nothing is known yet."""

    def __contains__(self, item: object) -> bool:
        """Tell whether the components can be set to a power; not as long as nothing is known."""
        if self.inclusion_bounds is None or item not in self.inclusion_bounds:
            return False
        return self.exclusion_bounds is None or item not in self.exclusion_bounds
