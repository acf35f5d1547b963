"""Offers the formulas of a whole site: the grid, consumers, producers, PV, batteries and CHP."""

import functools
from collections.abc import Callable
from typing import Any

from frequenz.quantities import (
    Current,
    Energy,
    Frequency,
    Percentage,
    Power,
    ReactivePower,
    Voltage,
)

from microgrid_sync.formulas.expression import Expression
from microgrid_sync.formulas.formula import (
    Formula,
    Formula3Phase,
    FormulaSource,
    MetricRule,
    formula_of,
    formula_of_phases,
)
from microgrid_sync.formulas.metrics import CURRENTS, VOLTAGES
from microgrid_sync.formulas.site import (
    battery_formula,
    capacity_formula,
    grid_formula,
    measured_at_the_grid,
    soc_formula,
)
from microgrid_sync.model import ComponentMetricId, Fuse
from microgrid_sync.topology import Topology

_M = ComponentMetricId


class SitePower:
    """What one kind of things at a site takes together; negative is what they give."""

    def __init__(
        self, source: FormulaSource, name: str, rule: Callable[[Topology], Expression]
    ) -> None:
        """Make no formula yet.

        Args:
            source: Where formulas are evaluated.
            name: What receivers and log lines call it.
            rule: Finds its power.
        """
        self._source = source
        self._name = name
        self._rule = rule

    def __repr__(self) -> str:
        """Name it, and how its power is found."""
        return f"<{type(self).__name__}, power {self.power.expression}>"

    @functools.cached_property
    def power(self) -> Formula[Power]:
        """The active power; zero at a site without the thing, no value where it is not known."""
        rule = self._rule
        return self._formula(lambda topology, _: rule(topology), "power", _M.ACTIVE_POWER)

    def _formula(self, rule: MetricRule, what: str, metric: ComponentMetricId) -> Formula[Any]:
        return formula_of(rule, metric, self._source, f"the {what} of {self._name}")


class Grid(SitePower):
    """The connection to the public grid. Positive is what the site draws."""

    def __init__(self, source: FormulaSource) -> None:
        """Make no formula yet; see `SitePower`."""
        super().__init__(source, "the grid", grid_formula)

    @functools.cached_property
    def current_per_phase(self) -> Formula3Phase[Current]:
        """The current of each phase, as what measures the power reports it."""
        return formula_of_phases(grid_formula, CURRENTS, self._source, "the current of the grid")

    @functools.cached_property
    def reactive_power(self) -> Formula[ReactivePower]:
        """The reactive power; positive is capacitive (leading)."""
        return self._formula(grid_formula, "reactive power", _M.REACTIVE_POWER)

    @functools.cached_property
    def voltage_per_phase(self) -> Formula3Phase[Voltage]:
        """The voltage of each phase, as the meter nearest to the grid measures it."""
        return formula_of_phases(
            measured_at_the_grid, VOLTAGES, self._source, "the voltage of the grid"
        )

    @functools.cached_property
    def frequency(self) -> Formula[Frequency]:
        """The frequency, as the meter nearest to the grid measures it."""
        return self._formula(measured_at_the_grid, "frequency", _M.FREQUENCY)

    @property
    def fuse(self) -> Fuse | None:
        """The fuse of the grid connection; ``None`` if it is unknown, or there are several."""
        return self._source.found.topology.fuse()


class Batteries(SitePower):
    """All batteries of the site. Positive is charging."""

    def __init__(self, source: FormulaSource) -> None:
        """Make no formula yet; see `SitePower`."""
        super().__init__(source, "the batteries", battery_formula)

    @functools.cached_property
    def soc(self) -> Formula[Percentage]:
        """The state of charge, batteries weighing by the capacity between their bounds.

        A battery of which nothing comes is left out, and the log says so. Without batteries there
        is no value.
        """
        return self._formula(lambda topology, _: soc_formula(topology), "state of charge", _M.SOC)

    @functools.cached_property
    def capacity(self) -> Formula[Energy]:
        """The capacity of all batteries together; no value if that of one is not known."""
        return self._formula(
            lambda topology, _: capacity_formula(topology), "capacity", _M.CAPACITY
        )
