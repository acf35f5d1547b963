"""Defines what a microgrid is made of: components, their categories and their types."""

import enum
from dataclasses import dataclass, field
from typing import NewType

from microgrid_sync.model.bounds import Bounds
from microgrid_sync.model.shown import Shown, Tabular

ComponentId = NewType("ComponentId", int)
"""The number of a component. Plain integers are accepted wherever one is asked for."""


class ComponentCategory(enum.Enum):
    """What kind of thing a component is, with the numbers of version 0.15 of the API."""

    NONE = 0
    """No category, or one that this package does not know."""

    GRID = 1
    """The point where the microgrid is connected to the public grid."""

    METER = 2
    """A meter, which reads the sum of what is behind it."""

    INVERTER = 3
    """An inverter, between AC and the DC of batteries or solar panels."""

    BATTERY = 5
    """A battery, behind an inverter."""

    EV_CHARGER = 6
    """A charger for electric vehicles."""

    CHP = 10
    """A combined heat and power plant."""


class ComponentType(enum.Enum):
    """A finer distinction within a category; only inverters have one."""


class InverterType(ComponentType):
    """What is on the DC side of an inverter, with the numbers of all APIs."""

    NONE = 0
    """The server does not say."""

    BATTERY = 1
    """Batteries."""

    SOLAR = 2
    """Solar panels."""

    HYBRID = 3
    """Both."""


@dataclass(frozen=True, repr=False)
class Fuse(Shown):
    """A fuse."""

    max_current: float
    """The rated current in A."""


@dataclass(frozen=True, repr=False)
class ComponentMetadata(Shown):
    """What is known of a component beyond its category."""

    fuse: Fuse | None = None
    """The fuse at the component's place in the microgrid, if known."""


@dataclass(frozen=True, repr=False)
class GridMetadata(ComponentMetadata):
    """What is known of the connection to the public grid."""


@dataclass(frozen=True, repr=False)
class Component(Tabular):
    """One component of a microgrid."""

    component_id: int
    """The number that the microgrid knows it by."""

    category: ComponentCategory
    """What kind of thing it is."""

    type: ComponentType | None = None
    """Which kind of inverter it is; ``None`` for all other categories."""

    metadata: ComponentMetadata | None = None
    """A `GridMetadata` for the grid connection; ``None`` for all other categories."""

    name: str | None = field(default=None, compare=False)
    """Its name at the site; ``None`` if the server names none."""

    model: str | None = field(default=None, compare=False)
    """Manufacturer and model; ``None`` if the server names none."""

    category_name: str | None = field(default=None, compare=False)
    """The server's own word for the category, such as ``WIND_TURBINE`` where `category` is
    ``NONE``; ``None`` for a number that this package has no word for."""

    rated_bounds: Bounds[float | None] | None = field(default=None, compare=False)
    """The active power it is rated for, in W, a battery's on its DC side; ``None`` if the server
    does not say, and for a side without a bound."""

    provides_telemetry: bool | None = field(default=None, compare=False)
    """Whether it sends data; ``None`` if the server does not say."""

    accepts_control: bool | None = field(default=None, compare=False)
    """Whether it can be commanded; ``None`` if the server does not say."""

    def is_valid(self) -> bool:
        """Tell whether number and category make sense together.

        Returns:
            True for a positive number with a category other than ``NONE``, and for number 0
                if the category is ``GRID``.
        """
        if self.component_id == 0:
            return self.category is ComponentCategory.GRID
        # A program may hand over any number as the category.
        is_known = isinstance(self.category, ComponentCategory)
        return self.component_id > 0 and is_known and self.category is not ComponentCategory.NONE

    def __hash__(self) -> int:
        """Hash by the number alone."""
        return hash(self.component_id)
