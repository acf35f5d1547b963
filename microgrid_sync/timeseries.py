"""Defines values over time: samples and bounds of systems."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from frequenz.quantities import Power, Quantity

from microgrid_sync.model.bounds import Bounds

Q = TypeVar("Q", bound=Quantity)


@dataclass(frozen=True)
class Sample(Generic[Q]):
    """A quantity at a time."""

    timestamp: datetime
    """The end of the window that the value is for, in UTC."""

    value: Q | None = None
    """The value; ``None`` if there is none."""


@dataclass(frozen=True)
class Sample3Phase(Generic[Q]):
    """A quantity of each of three phases at a time."""

    timestamp: datetime
    """The end of the window that the values are for, in UTC."""

    value_p1: Q | None = None
    """The value of phase 1; ``None`` if there is none."""

    value_p2: Q | None = None
    """The value of phase 2; ``None`` if there is none."""

    value_p3: Q | None = None
    """The value of phase 3; ``None`` if there is none."""


@dataclass(frozen=True)
class SystemBounds:
    """What a set of components can be set to, all together."""

    timestamp: datetime
    """When the bounds were found, in UTC."""

    inclusion_bounds: Bounds[Power] | None
    """The range within which power must be; ``None`` if nothing is known yet."""

    exclusion_bounds: Bounds[Power] | None
    """The range within which power must not be; ``None`` if nothing is known yet."""
