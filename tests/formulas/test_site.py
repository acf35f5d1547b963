"""The formulas of a whole site, for many topologies."""

import random
import time
from collections.abc import Callable

import pytest

from microgrid_sync import Component, ComponentCategory, Connection, InverterType
from microgrid_sync.formulas.charger import charger_formula
from microgrid_sync.formulas.expression import Inputs
from microgrid_sync.formulas.site import capacity_formula, measured_at_the_grid, soc_formula
from microgrid_sync.model import ComponentMetricId
from microgrid_sync.simulator.description.load import load_site
from microgrid_sync.simulator.physics.components import SiteCategory
from microgrid_sync.topology import Topology
from tests.support.formulas import FORMULAS, evaluate, topology
from tests.support.random_sites import RandomSite

EVERYTHING = (
    "g1>m2 m2>m10 m10>s11 m10>s12 m2>m20 m20>v21 v21>b22 m2>m30 m30>c31 m30>c32 m2>h40 m2>m50"
)

# The site, which formula, its text.
TEXTS = [
    (EVERYTHING, "grid", "#2"),
    (
        EVERYTHING, "consumer",
        "#2 - #40 - COALESCE(#10, #11 + #12) - COALESCE(#20, #21) - COALESCE(#30, #31 + #32)",
    ),
    (EVERYTHING, "producer", "COALESCE(#12 + #11, #10) + #40"),
    (EVERYTHING, "pv", "COALESCE(#12 + #11, #10)"),
    (EVERYTHING, "battery", "COALESCE(#21, #20)"),
    (EVERYTHING, "chp", "#40"),
    # Without the thing.
    ("g1>m2", "producer", "0.0"),
    ("g1>m2", "battery", "0.0"),
    ("m2>c3", "grid", "0.0"),
    ("g1>c3 g1>s4", "consumer", "0.0"),
    # The grid: several meters, none, devices at it.
    ("g1>m2 g1>c3 g1>v5 v5>b6", "grid", "#2 + #3 + #5"),
    ("g1>c3 g1>s4", "grid", "#3 + #4"),
    ("g1>m2 m2>c3 m2>c4", "grid", "COALESCE(#2, #3 + #4)"),
    ("g1>m2 m2>m3 m3>m4 m4>m5 m5>c6", "grid", "COALESCE(#2, #3, #4)"),
    ("g1>m2 g1>m3 m2>m9 m3>s5 m3>m8", "grid", "COALESCE(#2, #9) + #3"),
    # Consumers: what carries the building's load, less what is known.
    ("g1>m2 m2>c3 m2>c4", "consumer", "0.0"),
    ("g1>m2 m2>c3 m2>s5", "consumer", "#2 - #3 - #5"),
    ("g1>m2 m2>m9 m2>m10 m10>c11 m10>m12", "consumer", "#2 - COALESCE(#10 - #12, #11)"),
    ("g1>m2 m2>m9 m2>m10 m10>m11 m11>c21 m10>c23", "consumer",
     "#2 - COALESCE(#10, #23 + COALESCE(#11, #21))"),
    ("g1>m2 g1>m3 m2>m9 m3>s5", "consumer", "#2"),
    ("g1>m2 m2>m7 m7>e8 m2>c9", "consumer", "#2 - #9"),
    ("m2>c3 m2>m4", "consumer", "#2 - #3"),
    # Without a grid the root may be the main meter.
    ("m1>c2 m1>s3", "consumer", "#1 - #2 - #3"),
    ("m1>c2 m1>s3", "pv", "#3"),
    ("m1>s3", "pv", "COALESCE(#3, #1)"),
    # What several feed is read by none of them.
    ("g1>m2 g1>m3 m2>m3", "grid", "None"),
    ("g1>m2 g1>m3 m2>m3", "consumer", "None"),
    ("g1>m2 g1>c3 m2>c3", "grid", "None"),
    ("g1>m2 m2>m9 m2>m3 m2>s4 m3>s4 m3>v6 v6>b8", "battery", "#6"),
    ("g1>m2 m2>m10 m10>c11 m10>m12 m12>c13 m2>m20 m20>c13 m2>m9", "consumer", "#2 - #11 - #13"),
    # A battery with two inverters, an inverter with two batteries, a hybrid one.
    ("g1>m2 m2>m9 m2>v3 m2>v4 v3>b5 v4>b5", "battery", "#4 + #3"),
    ("g1>m2 m2>m9 m2>m7 m7>v3 m7>v4 v3>b5 v4>b5", "battery", "COALESCE(#4 + #3, #7)"),
    ("g1>m2 m2>m9 m2>v3 v3>b5 v3>b6", "battery", "#3"),
    ("g1>m2 m2>m9 m2>y3 y3>b5", "battery", "#3"),
    ("g1>m2 m2>m9 m2>y3 y3>b5", "consumer", "#2 - #3"),
    ("g1>m2 m2>m9 m2>m3 m3>p4 p4>v5 v5>r6 r6>b7", "battery", "COALESCE(#5, #3)"),
    # An inverter that does not say what it is for.
    ("g1>m2 m2>m9 m2>i3 i3>b5 m2>i4", "battery", "#3"),
    ("g1>m2 m2>m9 m2>i3 i3>b5 m2>i4", "pv", "#4"),
]  # fmt: skip


@pytest.mark.parametrize(("site", "name", "text"), TEXTS)
def test_text(site: str, name: str, text: str) -> None:
    assert str(FORMULAS[name](topology(site))) == text


@pytest.mark.parametrize("seed", range(400))
def test_numbers_add_up_and_are_never_wrong(seed: int) -> None:
    """Of a site whose meters read the sum of what is behind them, with anything missing."""
    site = RandomSite(seed)
    sun = site.total(InverterType.SOLAR)
    plants = site.total(ComponentCategory.CHP)
    batteries = site.total(InverterType.BATTERY, InverterType.HYBRID)
    cars = site.total(ComponentCategory.EV_CHARGER)
    assert site.grid == pytest.approx(site.loads + sun + plants + batteries + cars)
    truth = {
        "grid": site.grid, "consumer": site.loads, "producer": sun + plants,
        "pv": sun, "battery": batteries, "chp": plants,
    }  # fmt: skip
    formulas = {name: rule(site.topology) for name, rule in FORMULAS.items()}
    for name, formula in formulas.items():
        assert evaluate(formula, site.measured) == pytest.approx(truth[name]), name
    for _ in range(10):
        heard = {i: power for i, power in site.measured.items() if site.random.random() < 0.8}
        for name, formula in formulas.items():
            found = evaluate(formula, heard)
            assert found is None or found == pytest.approx(truth[name]), (name, site.text)


@pytest.mark.parametrize("name", ["demo", "depot", "every_category"])
def test_numbers_of_a_shipped_site_over_a_day(name: str) -> None:
    site = load_site(name)
    kinds = {
        SiteCategory.GRID: ComponentCategory.GRID,
        SiteCategory.METER: ComponentCategory.METER,
        SiteCategory.INVERTER: ComponentCategory.INVERTER,
        SiteCategory.BATTERY: ComponentCategory.BATTERY,
        SiteCategory.EV_CHARGER: ComponentCategory.EV_CHARGER,
        SiteCategory.CHP: ComponentCategory.CHP,
    }
    found = Topology(
        [
            Component(
                c.component_id,
                kinds.get(c.category, ComponentCategory.NONE),
                InverterType[c.type.upper()] if c.category is SiteCategory.INVERTER and c.type
                else None,
                category_name=c.category.name,
            )
            for c in site.components.values()
            if c.category is not SiteCategory.SENSOR
        ],
        [Connection(*pair) for pair in site.connections],
    )  # fmt: skip
    formulas = {name: rule(found) for name, rule in FORMULAS.items()}
    chargers = {c.component_id for c in found.components(ComponentCategory.EV_CHARGER)}
    formulas["cars"] = charger_formula(found, chargers)
    # A CHP has no data of its own in version 0.15.
    mute = {c.component_id for c in found.components(ComponentCategory.CHP)}
    chance = random.Random(name)
    for _ in range(24 * 12):
        site.advance(300.0)
        powers = {i: flow.power for i, flow in site.flows.items() if i not in mute}
        numbers = {name: evaluate(formula, powers) or 0.0 for name, formula in formulas.items()}
        assert numbers["grid"] == pytest.approx(site.flows[1].power, abs=1e-6)
        parts = numbers["consumer"] + numbers["producer"] + numbers["battery"] + numbers["cars"]
        assert numbers["grid"] == pytest.approx(parts, abs=1e-6)
        inside = {
            "battery": sum(site.flows[i].power for i in found.ids()
                           if found.is_battery_inverter(i)),
            "pv": sum(site.flows[i].power for i in found.ids() if found.is_pv_inverter(i)),
            "cars": sum(site.flows[i].power for i in chargers),
            "chp": sum(site.flows[i].power for i in mute),
        }  # fmt: skip
        for kind, power in inside.items():
            assert numbers[kind] == pytest.approx(power, abs=1e-6)
        silent = set(chance.sample(sorted(powers), max(1, len(powers) // 10)))
        heard = {i: power for i, power in powers.items() if i not in silent}
        for kind, formula in formulas.items():
            if kind != "cars":
                value = evaluate(formula, heard)
                assert value is None or value == pytest.approx(numbers[kind], abs=1e-6)


def test_state_of_charge_weighs_by_what_is_usable() -> None:
    site = topology("g1>m2 m2>v3 v3>b4 m2>v5 v5>b6")

    class Batteries:
        def __init__(self, numbers: dict[tuple[int, str], float]) -> None:
            self.numbers = numbers

        def get(self, key: tuple[int, ComponentMetricId], /) -> float | None:
            return self.numbers.get((key[0], key[1].value))

    both = {
        (4, "soc"): 50.0, (4, "capacity"): 10_000.0,
        (4, "soc_lower_bound"): 10.0, (4, "soc_upper_bound"): 90.0,
        (6, "soc"): 20.0, (6, "capacity"): 4000.0,
    }  # fmt: skip
    soc, capacity = soc_formula(site), capacity_formula(site)
    # 8000 Wh of the one are usable, and all of the other, whose bounds are not known.
    expected = (50.0 * 8000.0 + 20.0 * 4000.0) / 12_000.0
    assert soc.evaluate(Inputs(Batteries(both))) == pytest.approx(expected)
    assert capacity.evaluate(Inputs(Batteries(both))) == 14_000.0
    one = {key: number for key, number in both.items() if key[0] == 4}
    inputs = Inputs(Batteries(one))
    assert soc.evaluate(inputs) == 50.0
    assert inputs.left_out == {6}
    assert capacity.evaluate(Inputs(Batteries(one))) is None
    assert soc.evaluate(Inputs(Batteries({}))) is None


def test_site_without_batteries_has_no_state_of_charge() -> None:
    assert evaluate(soc_formula(topology("g1>m2")), {2: 1.0}) is None
    assert evaluate(capacity_formula(topology("g1>m2")), {}) == 0.0


def test_what_is_the_same_everywhere_is_asked_nearest_to_the_grid() -> None:
    frequency = ComponentMetricId.FREQUENCY
    assert str(measured_at_the_grid(topology(EVERYTHING), frequency)) == (
        "COALESCE(#2, #10, #20, #30)"
    )
    assert str(measured_at_the_grid(topology("g1>s4 g1>c3"), frequency)) == "COALESCE(#3, #4)"
    assert evaluate(measured_at_the_grid(topology("g1>e4"), frequency), {4: 50.0}) is None


def _star(count: int) -> Topology:
    """Meters of one charger each, behind the main one."""
    meters = range(10, 10 + 2 * count, 2)
    return Topology(
        [
            Component(1, ComponentCategory.GRID), Component(2, ComponentCategory.METER),
            *(Component(i, ComponentCategory.METER) for i in meters),
            *(Component(i + 1, ComponentCategory.EV_CHARGER) for i in meters),
        ],
        [
            Connection(1, 2), *(Connection(2, i) for i in meters),
            *(Connection(i, i + 1) for i in meters),
        ],
    )  # fmt: skip


def _chain(count: int) -> Topology:
    """Meters behind each other, with a charger each."""
    meters = range(10, 10 + 2 * count, 2)
    return Topology(
        [
            Component(1, ComponentCategory.GRID),
            *(Component(i, ComponentCategory.METER) for i in meters),
            *(Component(i + 1, ComponentCategory.EV_CHARGER) for i in meters),
        ],
        [
            Connection(1, 10), *(Connection(i, i + 2) for i in meters[:-1]),
            *(Connection(i, i + 1) for i in meters),
        ],
    )  # fmt: skip


@pytest.mark.parametrize("shape", [_star, _chain])
def test_time_is_linear(shape: Callable[[int], Topology]) -> None:
    """Ten times as many components take some ten times as long, and not a hundred times."""

    def seconds(count: int) -> float:
        site = shape(count)
        chargers = {c.component_id for c in site.components(ComponentCategory.EV_CHARGER)}
        before = time.process_time()
        for rule in FORMULAS.values():
            rule(site)
        charger_formula(site, chargers)
        return time.process_time() - before

    # Time that a machine takes for others may count as ours, now and then.
    assert min(seconds(5000) for _ in range(3)) < 40 * max(seconds(500) for _ in range(3)) + 0.1
