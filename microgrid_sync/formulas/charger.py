"""Finds the formula of a set of chargers: their sum, and what stands in where one is missing."""

from collections.abc import Iterable, Set

from microgrid_sync.formulas.expression import (
    Binary,
    Coalesce,
    Constant,
    Expression,
    Measured,
    Metric,
    total,
)
from microgrid_sync.model import ComponentCategory
from microgrid_sync.topology import Topology

_MEASURABLE = (
    ComponentCategory.EV_CHARGER,
    ComponentCategory.INVERTER,
    ComponentCategory.CHP,
)
"""What may be behind a meter that stands in for a charger: the rest of its load is known."""


def charger_formula(topology: Topology, chargers: Set[int]) -> Expression:
    """Find the formula of what some chargers draw together.

    Chargers behind one meter, that has nothing but chargers, inverters and CHPs behind it, are
    added up; if one is missing, the meter less its other successors stands in; if that is missing
    too, the sum of those that are there. Other chargers count as zero when they are missing. The
    whole has no value where no component of it has one.

    Args:
        topology: The microgrid.
        chargers: The IDs of the chargers, one at least.

    Returns:
        The formula; IDs in descending order.
    """
    groups: dict[int | None, list[int]] = {}
    for charger in sorted(chargers, reverse=True):
        groups.setdefault(_standing_in(topology, charger), []).append(charger)
    lonely = groups.pop(None, [])
    parts = [
        _behind_meter(topology, meter, group)
        for meter, group in sorted(groups.items(), key=lambda item: item[1], reverse=True)
        if meter is not None
    ]
    parts += [_or_zero(charger) for charger in lonely]
    return Measured(total(parts))


def _standing_in(topology: Topology, charger: int) -> int | None:
    """Find the meter that can stand in for a charger."""
    predecessors = topology.predecessors(charger)
    if len(predecessors) != 1 or predecessors[0].category is not ComponentCategory.METER:
        return None
    meter = predecessors[0].component_id
    successors = topology.successors(meter)
    return meter if all(s.category in _MEASURABLE for s in successors) else None


def _behind_meter(topology: Topology, meter: int, chargers: list[int]) -> Expression:
    others = {s.component_id for s in topology.successors(meter)} - set(chargers)
    stand_in: Expression = Metric(meter)
    for other in sorted(others, reverse=True):
        stand_in = Binary("-", stand_in, Metric(other))
    last = Constant(0.0) if len(chargers) == 1 else total([_or_zero(c) for c in chargers])
    return Coalesce((_sum(chargers), stand_in, last))


def _sum(components: Iterable[int]) -> Expression:
    return total([Metric(component) for component in components])


def _or_zero(component: int) -> Expression:
    return Coalesce((Metric(component), Constant(0.0)))
