"""The formulas of the peers' graph library and ours, for many sites.

Runs in an environment of its own, which has that library: ``tox -e interop-v1alpha18``. What
differs, and why, is in docs/site.rst.
"""

import random
from typing import Any

import pytest

from microgrid_sync import ComponentCategory, ComponentMetricId, InverterType
from microgrid_sync.formulas.charger import charger_formula
from microgrid_sync.formulas.text import parse
from microgrid_sync.topology import Topology
from tests.support.formulas import FORMULAS, evaluate
from tests.support.random_sites import RandomSite

pytest.importorskip(
    "frequenz.microgrid_component_graph",
    reason="the graph library is installed in the environment 'interop-v1alpha18' only",
    exc_type=ImportError,
)

# After the lines above: it needs the library.
from frequenz.client.common.microgrid import MicrogridId
from frequenz.client.common.microgrid.components import ComponentId
from frequenz.client.microgrid import component as peers
from frequenz.microgrid_component_graph import ComponentGraph

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_INVERTERS = {
    InverterType.SOLAR: peers.SolarInverter,
    InverterType.BATTERY: peers.BatteryInverter,
    InverterType.HYBRID: peers.HybridInverter,
}
_CLASSES = {
    ComponentCategory.METER: peers.Meter,
    ComponentCategory.EV_CHARGER: peers.AcEvCharger,
    ComponentCategory.BATTERY: peers.LiIonBattery,
    ComponentCategory.CHP: peers.Chp,
}
_WIRES = {"RELAY": peers.Relay, "PRECHARGE_MODULE": peers.Precharger}


def _graph(site: Topology) -> Any:
    components = []
    for c in site.components():
        arguments: dict[str, Any] = {
            "id": ComponentId(c.component_id), "microgrid_id": MicrogridId(1),
        }  # fmt: skip
        if c.category is ComponentCategory.GRID:
            arguments["rated_fuse_current"] = 100
            components.append(peers.GridConnectionPoint(**arguments))
        elif isinstance(c.type, InverterType):
            components.append(_INVERTERS[c.type](**arguments))
        else:
            kind = _CLASSES.get(c.category) or _WIRES[c.category_name or ""]
            components.append(kind(**arguments))
    connections = [
        peers.ComponentConnection(
            source=ComponentId(c.component_id), destination=ComponentId(fed.component_id)
        )
        for c in site.components()
        for fed in site.successors(c.component_id)
    ]
    return ComponentGraph(components, connections)


@pytest.mark.parametrize("seed", range(400))
def test_formulas_have_the_same_values(seed: int) -> None:
    """Of any numbers if nothing is missing; where something is, of a site's formulas or none."""
    site = RandomSite(seed, hybrids=False)
    graph = _graph(site.topology)
    theirs: dict[str, str] = {
        "grid": graph.grid_formula(),
        "consumer": graph.consumer_formula(),
        "producer": graph.producer_formula(),
        "pv": graph.pv_formula(None),
        "battery": graph.battery_formula(None),
        "chp": graph.chp_formula(None),
    }
    ours = {name: rule(site.topology) for name, rule in FORMULAS.items()}
    chargers = [c.component_id for c in site.topology.components(ComponentCategory.EV_CHARGER)]
    chance = random.Random(seed)
    if chargers:
        pool = set(chance.sample(chargers, chance.randint(1, len(chargers))))
        ours["pool"] = charger_formula(site.topology, pool)
        theirs["pool"] = graph.ev_charger_formula({ComponentId(i) for i in pool})
    for name, formula in ours.items():
        other, _ = parse(theirs[name], ComponentMetricId.ACTIVE_POWER)
        numbers = {i: float(chance.randint(-9999, 9999)) for i in site.measured}
        assert evaluate(formula, numbers) == pytest.approx(evaluate(other, numbers)), name
        for _ in range(10):
            heard = {i: power for i, power in site.measured.items() if chance.random() < 0.8}
            one, two = evaluate(formula, heard), evaluate(other, heard)
            if name == "pool":
                # All of it missing: theirs is zero, ours nothing.
                one = 0.0 if one is None else one
            assert one is None or one == pytest.approx(two), (name, site.text, heard)
