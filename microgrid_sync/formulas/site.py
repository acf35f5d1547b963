"""Finds the formulas of a whole site: grid, consumers, producers, PV, batteries, CHP. Pure.

Each follows from the topology alone. A formula of a site has no value where that cannot be known:
nothing that is missing counts as zero.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from microgrid_sync.formulas.charger import devices_formula, is_of_one_kind
from microgrid_sync.formulas.expression import (
    Average,
    Constant,
    Expression,
    Metric,
    Product,
    combined,
    difference,
    first_of,
    total,
)
from microgrid_sync.model import ComponentCategory, ComponentMetricId
from microgrid_sync.topology import Topology

_ACTIVE_POWER = ComponentMetricId.ACTIVE_POWER
_METER = ComponentCategory.METER
_DEVICES = frozenset(
    {ComponentCategory.INVERTER, ComponentCategory.EV_CHARGER, ComponentCategory.CHP}
)
"""What is no consumer."""

_ENOUGH = 4
"""So many components can say what is the same everywhere; more of them would not be better."""


def grid_formula(topology: Topology, metric: ComponentMetricId = _ACTIVE_POWER) -> Expression:
    """Find what is drawn from the grid: what its meters read, and what stands at it itself."""
    tops = _at_the_grid(topology)
    if topology.fed_by_several() & set(tops):
        # Behind one of the others, too: how much comes which way is not measured.
        return Constant(None)
    return total([_reading(topology, top, metric) for top in tops]) if tops else Constant(0.0)


def consumer_formula(topology: Topology) -> Expression:
    """Find what consumers take: what the meters at the grid read less all that is known.

    Where several known devices are behind a meter of their own, what that reads is subtracted, and
    their sum if it is missing. A meter at the grid that reads devices of one kind alone has no
    consumers behind it.
    """
    at_the_grid = _at_the_grid(topology) or [c.component_id for c in topology.roots()]
    tops = [i for i in at_the_grid if _is_meter(topology, i) and not is_of_one_kind(topology, i)]
    if not tops:
        return Constant(0.0)
    several = topology.fed_by_several()
    if several & set(at_the_grid):
        return Constant(None)
    # The peers let another meter stand in at the grid only if all that is at it is read here.
    is_all = len(tops) == len(at_the_grid)
    readings = [_reading(topology, i, _ACTIVE_POWER) if is_all else Metric(i) for i in tops]
    site = _Site(
        topology,
        leads_to_devices=topology.leading_to(
            {i for i in topology.ids() if _is_device(topology, i)}
        ),
        leads_to_several=topology.leading_to(several),
    )
    seen: set[int] = set()
    known = [power for top in tops for power in _known_behind(site, top, seen)]
    return difference(total(readings), known)


def pv_formula(topology: Topology) -> Expression:
    """Find what solar inverters give; zero or less."""
    return _of_devices(topology, _pv_inverters(topology))


def chp_formula(topology: Topology) -> Expression:
    """Find what combined heat and power plants give; zero or less."""
    return _of_devices(topology, topology.ids(ComponentCategory.CHP))


def producer_formula(topology: Topology) -> Expression:
    """Find what solar inverters and combined heat and power plants give; zero or less."""
    return _of_devices(topology, _pv_inverters(topology) | topology.ids(ComponentCategory.CHP))


def battery_formula(topology: Topology) -> Expression:
    """Find what batteries take at the AC side of their inverters."""
    return _of_devices(topology, {i for i in topology.ids() if topology.is_battery_inverter(i)})


def soc_formula(topology: Topology) -> Expression:
    """Find the state of charge of all batteries; without a value if there are none.

    Batteries weigh by the capacity between the bounds of their state of charge. Those of which
    something is missing are left out.
    """
    batteries = topology.components(ComponentCategory.BATTERY)
    if not batteries:
        return Constant(None)
    if len(batteries) == 1:
        # Whatever it weighs.
        return Metric(batteries[0].component_id, ComponentMetricId.SOC)
    return Average([_soc_and_weight(battery.component_id) for battery in batteries])


def capacity_formula(topology: Topology) -> Expression:
    """Find the capacity of all batteries together."""
    batteries = topology.components(ComponentCategory.BATTERY)
    metric = ComponentMetricId.CAPACITY
    parts = [Metric(battery.component_id, metric) for battery in batteries]
    return total(parts) if parts else Constant(0.0)


def measured_at_the_grid(topology: Topology, metric: ComponentMetricId) -> Expression:
    """Find what is the same everywhere at the grid, such as voltage and frequency.

    Returns:
        What the first of the meters, else of the devices, nearest to the grid measures that has a
            value; without one if nothing measures it.
    """
    nearest = [number for number in _outwards(topology) if _measures_ac(topology, number)]
    meters = [number for number in nearest if _is_meter(topology, number)]
    found = [Metric(number, metric) for number in (meters or nearest)[:_ENOUGH]]
    return first_of(found) if found else Constant(None)


def _at_the_grid(topology: Topology) -> list[int]:
    """Give what is right behind a grid connection, in the order of the IDs."""
    grids = topology.components(ComponentCategory.GRID)
    return sorted({c.component_id for grid in grids for c in topology.reads(grid.component_id)})


def _reading(topology: Topology, top: int, metric: ComponentMetricId) -> Expression:
    """Give what flows through a component at the grid.

    Instead of a meter, the only meter that it reads says the same, and so do devices of one kind
    that it reads alone.
    """
    ways: list[Expression] = [Metric(top, metric)]
    if not _is_meter(topology, top):
        return ways[0]
    below = topology.reads(top)
    if is_of_one_kind(topology, top):
        if all(len(topology.read_by(c.component_id)) == 1 for c in below):
            ways.append(total([Metric(c.component_id, metric) for c in below]))
        return first_of(ways)
    while len(below) == 1:
        meter = below[0].component_id
        if not _is_meter(topology, meter) or is_of_one_kind(topology, meter):
            break
        if len(topology.read_by(meter)) > 1:
            break
        ways.append(Metric(meter, metric))
        below = topology.reads(meter)
    return first_of(ways)


@dataclass(frozen=True)
class _Site:
    """A topology, and what is asked of it for each meter."""

    topology: Topology

    leads_to_devices: Set[int]
    """What has devices behind it."""

    leads_to_several: Set[int]
    """What has something behind it that others feed, too."""


def _known_behind(site: _Site, top: int, seen: set[int]) -> Iterator[Expression]:
    """Give the powers of all devices behind a meter at the grid, each of them once."""
    topology = site.topology
    to_do = [top]
    while to_do:
        meter = to_do.pop()
        below = [c.component_id for c in topology.reads(meter) if c.component_id not in seen]
        seen.update(below)
        group = None if meter == top else _group(site, meter)
        if group is not None:
            yield group
            seen |= topology.behind(meter)
        else:
            yield from (Metric(i) for i in below if _is_device(topology, i))
            to_do += [i for i in reversed(below) if _is_meter(topology, i)]


def _group(site: _Site, meter: int) -> Expression | None:
    """Give what the devices behind a meter take: what it reads, or their sum.

    Meters behind it that have no device behind them are consumers.

    Returns:
        ``None`` if the meter carries the building's own load, reads no device itself, or reads
            besides them anything but either consumers, or meters of devices of one kind.
    """
    topology = site.topology
    of_one_kind = is_of_one_kind(topology, meter)
    if meter in site.leads_to_several:
        return None
    if topology.is_main_meter(meter) and not of_one_kind:
        return None
    below = [c.component_id for c in topology.reads(meter)]
    devices = [i for i in below if _is_device(topology, i)]
    meters = [i for i in below if is_of_one_kind(topology, i)]
    consumers = [i for i in below if _is_meter(topology, i) and i not in site.leads_to_devices]
    is_all = len(devices) + len(meters) + len(consumers) == len(below)
    if not devices or not is_all or (meters and consumers):
        return None
    parts = [*(Metric(i) for i in devices), *(_reading(topology, i, _ACTIVE_POWER) for i in meters)]
    return first_of([difference(Metric(meter), [Metric(i) for i in consumers]), total(parts)])


def _of_devices(topology: Topology, devices: Set[int]) -> Expression:
    return devices_formula(topology, devices) if devices else Constant(0.0)


def _pv_inverters(topology: Topology) -> set[int]:
    return {i for i in topology.ids() if topology.is_pv_inverter(i)}


def _is_meter(topology: Topology, component_id: int) -> bool:
    return topology.component(component_id).category is _METER


def _is_device(topology: Topology, component_id: int) -> bool:
    return topology.component(component_id).category in _DEVICES


def _measures_ac(topology: Topology, component_id: int) -> bool:
    return topology.component(component_id).category in _DEVICES | {_METER}


def _outwards(topology: Topology) -> list[int]:
    """Give all components, those nearest to the grid first."""
    roots = _at_the_grid(topology) or [c.component_id for c in topology.roots()]
    reached = dict.fromkeys(roots)
    to_do = roots
    while to_do:
        below = {c.component_id for number in to_do for c in topology.reads(number)}
        to_do = sorted(below - reached.keys())
        reached |= dict.fromkeys(to_do)
    return [*reached, *sorted(topology.ids() - reached.keys())]


def _soc_and_weight(battery: int) -> tuple[Expression, Expression]:
    soc, capacity, lower, upper = (
        Metric(battery, metric)
        for metric in (
            ComponentMetricId.SOC,
            ComponentMetricId.CAPACITY,
            ComponentMetricId.SOC_LOWER_BOUND,
            ComponentMetricId.SOC_UPPER_BOUND,
        )
    )
    usable = Product("*", capacity, Product("/", combined("-", upper, lower), Constant(100.0)))
    # Without bounds all of it is usable.
    return soc, first_of([usable, capacity])
