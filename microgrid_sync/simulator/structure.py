"""Checks what may be connected to what at a site."""

from collections.abc import Iterable, Mapping

from microgrid_sync.simulator.site import SiteCategory, SiteComponent
from microgrid_sync.simulator.tables import SiteError

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


def check_structure(
    where: str,
    components: Mapping[int, SiteComponent],
    connections: Iterable[tuple[int, int]],
) -> None:
    """Check that power can flow through a site in one way only, and that it makes sense.

    Raises:
        SiteError: If it does not.
    """
    feeders: dict[int, int] = {}
    for number, (start, end) in enumerate(connections, 1):
        here = f"{where}: connections: [{start}, {end}] (number {number})"
        for component_id in (start, end):
            if component_id not in components:
                raise SiteError(f"{here}: there is no component {component_id}")
        if start == end:
            raise SiteError(f"{here}: component {start} cannot feed itself")
        if feeders.get(end) == start:
            raise SiteError(f"{here}: stands there twice")
        if end in feeders:
            raise SiteError(
                f"{here}: component {end} is fed by {feeders[end]} already; only one can feed it"
            )
        feeders[end] = start
        _check_pair(here, components[start], components[end])
    _check_no_cycle(where, feeders)
    _check_roots(where, components, feeders)
    _check_inverters(where, components, feeders)


def _check_pair(here: str, start: SiteComponent, end: SiteComponent) -> None:
    if end.category not in _MAY_FEED.get(start.category, ()):
        raise SiteError(f"{here}: {_name(end)} cannot be behind {_name(start)}")
    if start.category is SiteCategory.INVERTER and start.type == "solar":
        raise SiteError(f"{here}: {_name(end)} cannot be behind a solar inverter")


def _check_no_cycle(where: str, feeders: Mapping[int, int]) -> None:
    checked: set[int] = set()
    for first in feeders:
        path: dict[int, None] = {}
        here: int | None = first
        while here is not None and here not in checked:
            if here in path:
                ids = [*path]
                circle = [here, *reversed(ids[ids.index(here) :])]
                text = " -> ".join(str(component_id) for component_id in circle)
                raise SiteError(f"{where}: connections: a cycle: {text}")
            path[here] = None
            here = feeders.get(here)
        checked |= path.keys()


def _check_roots(
    where: str, components: Mapping[int, SiteComponent], feeders: Mapping[int, int]
) -> None:
    grids = [i for i, c in components.items() if c.category is SiteCategory.GRID]
    if len(grids) != 1:
        raise SiteError(f"{where}: component: there must be one grid connection, not {len(grids)}")
    unfed = {SiteCategory.GRID, SiteCategory.SENSOR, SiteCategory.UNSPECIFIED}
    for component_id, component in components.items():
        if component.category not in unfed and component_id not in feeders:
            raise SiteError(
                f"{where}: connections: nothing feeds component {component_id} ({_name(component)})"
            )


def _check_inverters(
    where: str, components: Mapping[int, SiteComponent], feeders: Mapping[int, int]
) -> None:
    for component_id, component in components.items():
        if component.category is not SiteCategory.INVERTER or component.type == "solar":
            continue
        if not any(
            inverter_of(battery_id, components, feeders) == component_id
            for battery_id, battery in components.items()
            if battery.category is SiteCategory.BATTERY
        ):
            raise SiteError(
                f"{where}: connections: the {component.type} inverter {component_id} has no battery"
            )


def inverter_of(
    component_id: int, components: Mapping[int, SiteComponent], feeders: Mapping[int, int]
) -> int | None:
    """Find the inverter that a component on the DC side hangs on."""
    while components[component_id].category is not SiteCategory.INVERTER:
        if component_id not in feeders:
            return None
        component_id = feeders[component_id]
    return component_id


def _name(component: SiteComponent) -> str:
    word = component.category.name.lower().replace("_", " ").replace("ev ", "EV ")
    return f"{'an' if word[0] in 'aeiouE' else 'a'} {word}".replace("chp", "CHP")
