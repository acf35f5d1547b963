"""Descriptions of small sites, and what tests ask of every site."""

from datetime import UTC, datetime
from typing import Any

from microgrid_sync.simulator import Site, load_site
from microgrid_sync.simulator.description.load import DescribedSite
from microgrid_sync.simulator.physics.components import SiteCategory

NOON = datetime(2026, 6, 21, 11, 0, tzinfo=UTC)
"""About noon by the sun where the sites lie that say nothing about it; in summer."""


def description(*parts: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A grid, 1, a main meter, 2, and some parts behind it; "behind" says where, if not there."""
    components = [{"id": 1, "category": "grid"}, {"id": 2, "category": "meter"}]
    connections = [[1, 2]]
    for part in parts:
        connections.append([part.get("behind", 2), part["id"]])
        components.append({key: value for key, value in part.items() if key != "behind"})
    return {"component": components, "connections": connections, "start": NOON} | rest


def small_site(*parts: dict[str, Any], **rest: Any) -> DescribedSite:
    return load_site(description(*parts, **rest))


CLEAR = {"cloudiness": 0.0}
STIFF = {"resistance": 0.0}

CHARGER = {"id": 7, "category": "ev_charger"}
METER = {"id": 9, "category": "meter"}
SOLAR = {"id": 3, "category": "inverter", "type": "solar", "peak": 8000.0}
BATTERY_INVERTER = {"id": 4, "category": "inverter", "type": "battery", "rating": 10_000.0}
BATTERY = {"id": 5, "category": "battery", "behind": 4, "capacity": 20_000.0, "rating": 10_000.0}
HYBRID = {"id": 4, "category": "inverter", "type": "hybrid", "rating": 10_000.0, "peak": 8000.0}


def imbalance(site: Site) -> float:
    """The most by which a meter of a site differs from what is behind it, on any phase, in W."""
    worst = 0.0
    for component_id, component in site.components.items():
        behind = site.successors(component_id)
        if component.category not in {SiteCategory.METER, SiteCategory.GRID} or not behind:
            continue
        for phase in range(3):
            total = sum(site.flows[successor].active[phase] for successor in behind)
            worst = max(worst, abs(site.flows[component_id].active[phase] - total))
            total = sum(site.flows[successor].reactive[phase] for successor in behind)
            worst = max(worst, abs(site.flows[component_id].reactive[phase] - total))
    return worst
