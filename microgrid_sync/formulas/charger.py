"""Finds the formula of a set of chargers: their sum, and what stands in where one is missing."""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from microgrid_sync.formulas.expression import (
    Coalesce,
    Expression,
    Measured,
    Metric,
    OrZero,
    difference,
    first_of,
    total,
)
from microgrid_sync.model import ComponentCategory, ComponentMetricId, InverterType
from microgrid_sync.topology import Topology

_ACTIVE_POWER = ComponentMetricId.ACTIVE_POWER


@dataclass(frozen=True)
class _Group:
    """Some devices that are read by the same meters, and can be missing together."""

    devices: tuple[int, ...]
    """Their IDs, in descending order."""

    meters: tuple[int, ...] = ()
    """What stands in for all of them, added up; nothing does if there are none."""

    others: tuple[int, ...] = ()
    """What else those meters read, to be subtracted."""


def _groups(topology: Topology, devices: Set[int], *, trusts_roots: bool) -> list[_Group]:
    """Sort devices by the meter that can stand in for them.

    A meter can that reads nothing besides them but what is known: other devices, and meters that
    read none of them. The main meter carries the building's own load, and stands in for nothing
    unless it reads devices of one kind alone.

    Args:
        topology: The microgrid.
        devices: The IDs of the devices; those that are not part of it have no meter.
        trusts_roots: Whether a meter that nothing feeds reads only what is listed; it may well be
            the main meter of a site whose grid connection is not listed.

    Returns:
        The groups, those with a meter first; the others are one device each.
    """
    by_meter: dict[int, list[int]] = {}
    lonely: list[_Group] = []
    for device in sorted(devices, reverse=True):
        above = topology.read_by(device) if device in topology else []
        meters = [c.component_id for c in above if c.category is ComponentCategory.METER]
        if len(meters) == 1 and len(above) == 1:
            by_meter.setdefault(meters[0], []).append(device)
        elif above and len(meters) == len(above) and _read_nothing_else(topology, meters, device):
            lonely.append(_Group((device,), tuple(meters)))
        else:
            lonely.append(_Group((device,)))
    found: list[_Group] = []
    leading = topology.leading_to(devices)
    for meter, group in sorted(by_meter.items(), key=lambda item: item[1], reverse=True):
        others = _others(topology, meter, devices, leading)
        is_root = not topology.read_by(meter) and not is_of_one_kind(topology, meter)
        if others is None or (is_root and not trusts_roots):
            lonely += [_Group((device,)) for device in group]
        else:
            found.append(_Group(tuple(group), (meter,), others))
    return found + sorted(lonely, key=lambda group: group.devices, reverse=True)


def charger_formula(
    topology: Topology, chargers: Set[int], metric: ComponentMetricId = _ACTIVE_POWER
) -> Expression:
    """Find the formula of what some chargers draw together.

    Chargers behind one meter that reads besides them only what is known are added up; if one is
    missing, the meter less the others stands in; if that is missing too, the sum of those that are
    there. Other chargers count as zero when they are missing. The whole has no value where no
    component of it has one.

    Args:
        topology: The microgrid.
        chargers: The IDs of the chargers, one at least.
        metric: What of them is added up.

    Returns:
        The formula; IDs in descending order.
    """
    parts: list[Expression] = []
    for group in _groups(topology, chargers, trusts_roots=True):
        ways = [_sum(group.devices, metric), *_stand_in(group, metric)]
        if len(group.devices) == 1:
            parts.append(OrZero(ways, group.devices))
        else:
            last = [OrZero((Metric(device, metric),), (device,)) for device in group.devices]
            parts.append(Coalesce((*ways, total(last))))
    return Measured(total(parts))


def devices_formula(
    topology: Topology, devices: Set[int], metric: ComponentMetricId = _ACTIVE_POWER
) -> Expression:
    """Find the formula of what some devices take together, without a value if one is missing.

    Args:
        topology: The microgrid.
        devices: The IDs of the devices, one at least.
        metric: What of them is added up.

    Returns:
        The formula, in which meters stand in as in `charger_formula`.
    """
    return total(
        [
            first_of([_sum(group.devices, metric), *_stand_in(group, metric)])
            for group in _groups(topology, devices, trusts_roots=False)
        ]
    )


def _stand_in(group: _Group, metric: ComponentMetricId = _ACTIVE_POWER) -> list[Expression]:
    """Give what stands in for a group, if anything does."""
    if not group.meters:
        return []
    others = [Metric(other, metric) for other in group.others]
    return [difference(_sum(group.meters, metric), others)]


def _is_known(topology: Topology, component_id: int) -> bool:
    """Tell whether a component is a device whose power is known, and may be subtracted.

    A hybrid inverter is none: the rule is that of the peers.
    """
    component = topology.component(component_id)
    return component.category in {ComponentCategory.EV_CHARGER, ComponentCategory.CHP} or (
        component.category is ComponentCategory.INVERTER
        and component.type is not InverterType.HYBRID
    )


def is_of_one_kind(topology: Topology, meter: int) -> bool:
    """Tell whether a meter reads devices of one kind, and nothing else."""
    return (
        topology.is_ev_charger_meter(meter)
        or topology.is_pv_meter(meter)
        or topology.is_battery_meter(meter)
        or topology.is_chp_meter(meter)
    )


def _others(
    topology: Topology, meter: int, devices: Set[int], leading: Set[int]
) -> tuple[int, ...] | None:
    """Give what a meter reads besides some devices; ``None`` if it cannot stand in for them.

    Args:
        topology: The microgrid.
        meter: The meter.
        devices: The devices.
        leading: What has one of the devices behind it.
    """
    below = {c.component_id for c in topology.reads(meter)}
    if any(len(topology.read_by(i)) > 1 for i in below):
        # It reads a part of that alone.
        return None
    others = below - devices
    if topology.is_main_meter(meter) and not is_of_one_kind(topology, meter):
        return None
    for other in others:
        component = topology.component(other)
        if component.category is ComponentCategory.METER:
            if other in leading:
                return None
        elif not _is_known(topology, other):
            return None
    return tuple(sorted(others, reverse=True))


def _read_nothing_else(topology: Topology, meters: Iterable[int], device: int) -> bool:
    return all([c.component_id for c in topology.reads(meter)] == [device] for meter in meters)


def _sum(components: Iterable[int], metric: ComponentMetricId) -> Expression:
    return total([Metric(component, metric) for component in components])
