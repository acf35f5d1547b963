"""Tests what flows in circuits, and how well that is known: meters, stand-ins, frozen values."""

import dataclasses
import math

import pytest
from frequenz.quantities import Current, Power

from microgrid_sync.model import Component, ComponentCategory, Connection
from microgrid_sync.power.circuits import CircuitLimit, Where, wiring_of
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.house import Stage
from microgrid_sync.simulator import Car
from microgrid_sync.topology import Topology
from tests.support.house import House, garage

WIRING = {11: (1, 2, 3), 12: (2, 3, 1), 13: (3, 1, 2)}
GIVEN = {11: "L1L2L3", 12: "L2L3L1", 13: "L3L1L2"}


def amperes(value: float) -> CircuitLimit:
    return CircuitLimit(Current.from_amperes(value), None)


def house(
    limits: dict[Where, CircuitLimit],
    *,
    nested: tuple[int, ...] = (),
    direct: tuple[int, ...] = (),
    given: bool = True,
) -> House:
    made = House(
        garage(WIRING, nested=nested, direct=direct),
        limits,
        ChargingConfig(phase_rotation=GIVEN if given else {}),
    )
    for number in WIRING:
        made.site.charger(number).active.command(0.0, 1e9)
    return made


def plug(made: House, *numbers: int, phases: int = 3, power: float = 11_000.0) -> None:
    for number in numbers:
        car = Car(power=power, phases=phases, capacity=200_000.0, soc=20.0)
        made.site.charger(number).plug_in(car)


def limits_of(made: House) -> list[float]:
    return [charger.ledger.newest or 0.0 for charger in made.known.values()]


@pytest.mark.computes
@pytest.mark.parametrize("given", [True, False])
def test_charger_right_at_the_grid_counts_although_no_meter_reads_it(given: bool) -> None:
    made = house({"grid": amperes(40.0)}, direct=(12, 13), given=given)
    plug(made, 11, 12)
    plug(made, 13, phases=1, power=7400.0)
    highest = 0.0

    def watch() -> None:
        nonlocal highest
        total = made.site.flows[1].current(made.site.line)
        highest = max(highest, *total)

    made.run(30 * 60, watch)
    assert 28.0 < highest <= 40.0
    circuit = made.circuits.circuits["grid"]
    assert circuit.house.value(0, made.now) == pytest.approx(0.0, abs=0.1)
    # What is exceeded is what flows, not what meters read.
    made.disobeying[12] = 22_000.0
    made.disobeying[11] = 11_000.0
    made.run(20)
    assert circuit.is_exceeded()


def test_grid_without_any_meter_is_held_by_what_chargers_say() -> None:
    made = house({"grid": amperes(30.0)}, direct=(11, 12, 13))
    plug(made, 11)
    made.run(5 * 60)
    assert limits_of(made)[0] > 10_000


def test_frozen_one_of_several_meters_is_found() -> None:
    site = garage(WIRING)
    site["component"].append({"id": 4, "category": "meter"})
    site["connections"].append([1, 4])
    made = House(site, {"grid": amperes(40.0)}, ChargingConfig(phase_rotation=GIVEN))
    for number in WIRING:
        made.site.charger(number).active.command(0.0, 1e9)
    plug(made, 11, 12)
    made.run(10 * 60)
    made.frozen[2] = made.meter(2)

    def jitter() -> None:
        made.loads[4] = (made.now % 7, made.now % 5, 1.0)

    made.run(20, jitter)
    made.site.charger(11).car = None
    made.run(60, jitter)
    assert made.circuits.circuits["grid"].house.frozen_since is not None
    assert max(limits_of(made)) <= 4300


def test_frozen_meter_without_phases_is_found_under_a_limit_of_power() -> None:
    made = house({2: CircuitLimit(None, Power.from_kilowatts(25.0))})
    plug(made, 11, 12)
    made.run(10 * 60)
    assert sum(limits_of(made)) > 20_000
    nan = (math.nan,) * 3
    made.frozen[2] = dataclasses.replace(
        made.meter(2), current_per_phase=nan, active_power_per_phase=nan
    )
    made.run(20)
    assert made.circuits.circuits[2].house.stage(3, made.now) is Stage.HEARD
    made.site.charger(11).car = None
    made.run(60)
    assert made.circuits.circuits[2].house.frozen_since is not None


def test_stand_in_goes_on_for_as_long_as_the_meter_is_silent() -> None:
    made = house({3: amperes(32.0)}, nested=(11, 12))
    plug(made, 11, 12)
    made.run(10 * 60)
    made.silent.add(3)
    heard = []

    def watch() -> None:
        newest = made.circuits.circuits[3].house.newest
        heard.append(newest is not None and newest.at == made.now)

    made.run(60, watch)
    # But for the first seconds, each second says something.
    assert sum(heard) >= 55
    assert not [text for text in made.told if "silent" in text]


def test_stand_in_of_a_meter_that_was_never_heard_may_freeze() -> None:
    made = house({3: amperes(32.0)}, nested=(11, 12))
    plug(made, 11, 12)
    made.silent.add(3)
    made.run(5 * 60)
    assert sum(limits_of(made)) > 10_000
    made.frozen[2] = made.meter(2)
    made.run(10)
    made.site.charger(11).car = None
    made.run(6 * 60)
    assert sum(limits_of(made)) == 0.0


def test_long_pause_does_not_make_a_meter_a_slow_one() -> None:
    made = house({2: amperes(32.0)})
    made.run(60)
    made.silent.add(2)
    made.run(120)
    made.silent.clear()
    made.run(10)
    made.silent.add(2)
    made.run(4)
    assert made.circuits.circuits[2].stage(made.now) is Stage.HELD


def test_slow_meter_is_heard_for_three_of_its_intervals_but_not_longer_than_data_may_be_old() -> (
    None
):
    made = house({2: amperes(32.0)})
    made.interval = 3.0
    made.run(60)
    made.silent.add(2)
    made.run(6)
    assert made.circuits.circuits[2].stage(made.now) is Stage.HEARD
    made.run(5)
    assert made.circuits.circuits[2].stage(made.now) is Stage.OLD


@pytest.mark.computes
def test_feed_in_counts_with_its_sign_and_leaves_more_to_cars() -> None:
    made = house({2: amperes(25.0)})
    made.loads[2] = (-15.0, -15.0, -15.0)
    plug(made, 11, 12)
    made.run(10 * 60)
    assert sum(limits_of(made)) > 21_000
    assert max(made.currents(2)) <= 25.0
    # A cloud.
    made.loads[2] = (-2.0, -2.0, -2.0)
    made.run(3)
    assert max(made.currents(2)) <= 25.0


@pytest.mark.computes
def test_deepest_of_nested_limits_binds_where_it_is_tightest() -> None:
    made = house({2: amperes(63.0), 3: amperes(20.0)}, nested=(12,))
    plug(made, 11, 12)
    made.run(10 * 60)
    assert made.site.charger(11).flow.power == pytest.approx(11_000)
    assert 18.0 < max(made.currents(3)) <= 20.0 or limits_of(made)[1] >= 11_000
    made.loads[3] = (8.0, 0.0, 0.0)
    made.run(5)
    assert max(made.currents(3)) <= 20.0
    assert made.site.charger(11).flow.power == pytest.approx(11_000)


def test_nobody_stands_in_where_something_else_is_not_measured() -> None:
    components = [
        Component(1, ComponentCategory.GRID),
        *(Component(i, ComponentCategory.METER) for i in (2, 3, 4)),
        Component(11, ComponentCategory.EV_CHARGER),
    ]
    pairs = [(1, 2), (2, 3), (2, 4), (3, 11)]
    connections = [Connection(*pair) for pair in pairs]
    topology = Topology(components, connections)
    assert wiring_of(topology, 3).stand_ins == {3: (2, (4,))}
    plant = Component(5, ComponentCategory.CHP)
    topology = Topology([*components, plant], [*connections, Connection(2, 5)])
    assert wiring_of(topology, 3).stand_ins == {}
