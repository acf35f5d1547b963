"""Checks what may be connected to what at a site."""

import graphlib
from collections.abc import Iterable, Mapping

from microgrid_sync.simulator.physics.components import SiteCategory, SiteComponent
from microgrid_sync.tables import Mistakes

_AC = frozenset(
    {
        SiteCategory.UNSPECIFIED,
        SiteCategory.METER,
        SiteCategory.INVERTER,
        SiteCategory.EV_CHARGER,
        SiteCategory.CRYPTO_MINER,
        SiteCategory.ELECTROLYZER,
        SiteCategory.CHP,
        SiteCategory.RELAY,
    }
)
_DC = frozenset({SiteCategory.BATTERY, SiteCategory.CONVERTER, SiteCategory.PRECHARGE_MODULE})

_MAY_FEED = {
    SiteCategory.GRID: _AC,
    SiteCategory.METER: _AC,
    SiteCategory.RELAY: _AC,
    SiteCategory.INVERTER: _DC,
    SiteCategory.CONVERTER: _DC,
    SiteCategory.PRECHARGE_MODULE: _DC,
}
"""What each category may feed directly; the others feed nothing."""

_UNFED = (SiteCategory.GRID, SiteCategory.SENSOR, SiteCategory.UNSPECIFIED)


def check_structure(
    where: str,
    components: Mapping[int, SiteComponent],
    connections: Iterable[tuple[int, int]],
    mistakes: Mistakes,
    *,
    unreadable: frozenset[int] | None,
    all_connected: bool,
) -> None:
    """Check that power can flow through a site in one way only, and that it makes sense.

    Args:
        where: What to call the site in errors.
        components: Its components, by ID.
        connections: Who feeds whom.
        mistakes: Where to add what is wrong.
        unreadable: The IDs of components of which nothing else is known, because of other mistakes;
            ``None`` if there are some of which not even that is known. Nothing is held against
            them.
        all_connected: Whether all connections could be read; without, nobody is missed.
    """
    feeders: dict[int, int] = {}
    for number, (start, end) in enumerate(connections, 1):
        here = f"{where}: connections: [{start}, {end}] (number {number})"
        for component_id in dict.fromkeys((start, end)):
            if (
                component_id not in components
                and unreadable is not None
                and component_id not in unreadable
            ):
                mistakes.add(here, f"there is no component {component_id}")
        if start == end:
            mistakes.add(here, f"component {start} cannot feed itself")
        elif feeders.get(end) == start:
            mistakes.add(here, "stands there twice")
        elif end in feeders:
            mistakes.add(
                here, f"component {end} is fed by {feeders[end]} already; only one can feed it"
            )
        else:
            feeders[end] = start
            if start in components and end in components:
                _check_pair(here, components[start], components[end], mistakes)
    all_read = unreadable is not None and not unreadable
    if not _has_cycle(where, feeders, mistakes) and all_read and all_connected:
        _check_inverters(where, components, feeders, mistakes)
    grids = [i for i, c in components.items() if c.category is SiteCategory.GRID]
    if len(grids) > 1 or (not grids and all_read):
        mistakes.add(where, f"component: there must be one grid connection, not {len(grids)}")
    if all_connected:
        _check_all_are_fed(where, components, feeders, mistakes)


def _check_pair(here: str, start: SiteComponent, end: SiteComponent, mistakes: Mistakes) -> None:
    if end.category not in _MAY_FEED.get(start.category, ()):
        mistakes.add(here, f"{_name(end)} cannot be behind {_name(start)}")
    elif start.category is SiteCategory.INVERTER and start.type == "solar":
        mistakes.add(here, f"{_name(end)} cannot be behind a solar inverter")


def _has_cycle(where: str, feeders: Mapping[int, int], mistakes: Mistakes) -> bool:
    sorter = graphlib.TopologicalSorter({end: (start,) for end, start in feeders.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        # Against the direction in which power flows.
        circle = error.args[1][::-1]
        first = circle.index(next(i for i in feeders if i in circle))
        turned = [*circle[first:-1], *circle[:first], circle[first]]
        mistakes.add(where, f"connections: a cycle: {' -> '.join(map(str, turned))}")
        return True
    return False


def _check_all_are_fed(
    where: str,
    components: Mapping[int, SiteComponent],
    feeders: Mapping[int, int],
    mistakes: Mistakes,
) -> None:
    for component_id, component in components.items():
        if component.category not in _UNFED and component_id not in feeders:
            mistakes.add(
                where,
                f"connections: nothing feeds component {component_id} ({_name(component)})",
            )


def _check_inverters(
    where: str,
    components: Mapping[int, SiteComponent],
    feeders: Mapping[int, int],
    mistakes: Mistakes,
) -> None:
    with_battery = {
        inverter_of(component_id, components, feeders)
        for component_id, component in components.items()
        if component.category is SiteCategory.BATTERY
    }
    for component_id, component in components.items():
        is_inverter = component.category is SiteCategory.INVERTER
        if is_inverter and component.type != "solar" and component_id not in with_battery:
            mistakes.add(
                where, f"connections: the {component.type} inverter {component_id} has no battery"
            )


def inverter_of(
    component_id: int, components: Mapping[int, SiteComponent], feeders: Mapping[int, int]
) -> int | None:
    """Find the inverter that a component on the DC side hangs on."""
    here = component_id
    while components[here].category is not SiteCategory.INVERTER:
        if feeders.get(here) not in components:
            return None
        here = feeders[here]
    return here


def _name(component: SiteComponent) -> str:
    word = component.category.name.lower().replace("_", " ").replace("ev ", "EV ")
    return f"{'an' if word[0] in 'aeiouE' else 'a'} {word}".replace("chp", "CHP")
