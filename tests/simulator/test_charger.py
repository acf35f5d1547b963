"""Chargers and cars, on a clock of the test's own."""

import functools
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync.simulator import Car, Site
from microgrid_sync.simulator.physics.cars import daily
from microgrid_sync.simulator.physics.randomness import generator
from tests.simulator.descriptions import CHARGER, STIFF, small_site

FOREVER = 1e9


def charging(car: Car | None = None, **of_charger: Any) -> Site:
    site = small_site(CHARGER | of_charger, supply=STIFF)
    site.charger(7).plug_in(car or Car(ramp=1e6))
    site.advance(1.0)
    return site


def power(site: Site) -> float:
    return site.flows[7].power


def command(site: Site, watts: float) -> None:
    site.charger(7).active.command(watts, FOREVER)
    site.advance(1.0)


def test_car_takes_its_own_limit() -> None:
    site = charging()
    assert power(site) == pytest.approx(11_000.0)
    assert site.charger(7).state.name == "CHARGING"


def test_car_follows_its_set_point_down_at_once_and_up_slowly() -> None:
    site = charging(Car(ramp=500.0))
    for _ in range(20):
        site.advance(1.0)
    assert power(site) == pytest.approx(11_000.0)
    command(site, 5000.0)
    assert power(site) == pytest.approx(5000.0)
    command(site, 8000.0)
    assert power(site) == pytest.approx(5500.0)


@pytest.mark.parametrize(("phases", "used"), [(1, (2,)), (2, (2, 3)), (3, (1, 2, 3))])
def test_car_loads_the_phases_it_uses(phases: int, used: tuple[int, ...]) -> None:
    site = charging(Car(power=4000.0, phases=phases, ramp=1e6), phases=[2, 3, 1])
    flow = site.flows[2]
    assert flow.power == pytest.approx(4000.0)
    for phase in (1, 2, 3):
        assert (flow.active[phase - 1] > 0) == (phase in used)
    currents = [flow.current(site.line)[phase - 1] for phase in used]
    assert currents == pytest.approx([currents[0]] * len(used))


@pytest.mark.parametrize(
    ("car", "charger", "limit"),
    [
        (Car(power=50_000.0, cable_current=20.0, ramp=1e6), {}, 20.0),
        (Car(power=50_000.0, ramp=1e6), {"rated_current": 16.0}, 16.0),
        (Car(power=50_000.0, cable_current=63.0, ramp=1e6), {}, 32.0),
        (Car(power=50_000.0, cable_current=10.0, phases=1, ramp=1e6), {}, 10.0),
    ],
)
def test_cable_and_charger_limit_the_current(
    car: Car, charger: dict[str, float], limit: float
) -> None:
    site = charging(car, **charger)
    current = max(site.flows[7].current(site.line))
    # Where the voltage is above 230 V, the rated power is reached before the rated current.
    assert 0.98 * limit < current <= limit + 1e-9


@pytest.mark.parametrize("phases", [1, 3])
def test_car_does_not_charge_below_the_minimum_current(phases: int) -> None:
    site = charging(Car(phases=phases, ramp=1e6))
    least = 6.0 * sum(site.line.voltage[:phases])
    # What the voltage wanders meanwhile is not what this is about.
    command(site, least * 0.99)
    assert power(site) == 0.0
    assert site.charger(7).state.name == "READY"
    command(site, least * 1.01)
    assert power(site) == pytest.approx(least * 1.01)
    command(site, 0.0)
    assert power(site) == 0.0


def test_bounds_limit_a_car_without_a_set_point() -> None:
    site = charging()
    charger = site.charger(7)
    charger.active.include(0.0, 6000.0, FOREVER)
    site.advance(1.0)
    assert power(site) == pytest.approx(6000.0)


@pytest.mark.parametrize("phase", [None, 0, 2])
def test_bounds_of_the_current_limit_a_car(phase: int | None) -> None:
    site = charging()
    charger = site.charger(7)
    limits = charger.current if phase is None else charger.current_per_phase[phase]
    # The whole current is that of three phases.
    limits.include(0.0, 24.0 if phase is None else 8.0, FOREVER)
    site.advance(1.0)
    assert max(site.flows[7].current(site.line)) == pytest.approx(8.0)


def test_battery_of_the_car_tapers_and_stops() -> None:
    site = charging(Car(capacity=10_000.0, soc=75.0, ramp=1e6))
    car = site.charger(7).car
    assert car is not None
    powers, socs = [], []
    while power(site) > 0:
        socs.append(car.soc)
        site.advance(30.0)
        powers.append(power(site))
        assert site.now < 5 * 3600
    assert car.soc == pytest.approx(100.0)
    below = [p for p, soc in zip(powers, socs, strict=True) if soc < 79]
    above = [p for p, soc in zip(powers, socs, strict=True) if soc > 81]
    assert below == pytest.approx([11_000.0] * len(below))
    assert above == sorted(above, reverse=True)
    assert above[-1] < 2000
    assert site.charger(7).state.name == "READY"
    # What it took has ended in its battery, less the losses.
    energy = sum(p * 30.0 / 3600 for p in powers)
    assert energy * 0.9 == pytest.approx(10_000 * (100 - socs[0]) / 100)


def test_car_stops_at_its_target() -> None:
    site = charging(Car(capacity=10_000.0, soc=59.0, target_soc=60.0, ramp=1e6))
    for _ in range(20):
        site.advance(10.0)
    assert power(site) == 0.0
    assert site.charger(7).car is not None


@given(
    st.floats(0.0, 22_080.0),
    st.floats(0.0, 22_080.0),
    st.integers(1, 3),
    st.floats(6.0, 63.0),
    st.floats(0.0, 100.0),
)
def test_no_limit_is_ever_broken(
    told: float, bound: float, phases: int, cable: float, soc: float
) -> None:
    site = charging(Car(power=22_000.0, phases=phases, cable_current=cable, soc=soc))
    charger = site.charger(7)
    charger.active.include(0.0, bound, FOREVER)
    charger.active.command(min(told, bound), FOREVER)
    for _ in range(5):
        before = power(site)
        site.advance(1.0)
        now = power(site)
        assert 0 <= now <= min(told, bound, 22_000.0) + 1e-6
        assert now - before <= max(3000.0, 6.0 * sum(site.line.voltage)) + 1e-6
        currents = site.flows[7].current(site.line)
        assert max(currents) <= min(cable, 32.0) + 1e-9
        assert sum(current > 0 for current in currents) in {0, phases}


def test_cable_is_plugged_in_then_locked_and_let_go() -> None:
    site = small_site(CHARGER)
    charger = site.charger(7)
    assert charger.cable_state.name == "UNPLUGGED"
    assert charger.state.name == "NOT_READY"
    charger.plug_in(Car())
    assert charger.cable_state.name == "EV_PLUGGED"
    site.advance(10.0)
    assert charger.cable_state.name == "EV_LOCKED"
    charger.unplug()
    site.advance(1.0)
    assert charger.cable_state.name == "UNPLUGGED"
    assert power(site) == 0.0


def test_reactive_set_point_is_followed_while_charging() -> None:
    site = charging()
    site.charger(7).reactive.command(-300.0, FOREVER)
    site.advance(1.0)
    assert site.flows[7].reactive == pytest.approx((-100.0, -100.0, -100.0))
    site.charger(7).unplug()
    site.advance(1.0)
    assert site.flows[7].reactive == (0.0, 0.0, 0.0)


# Who comes when


def presence(car: dict[str, Any], hours: int, **rest: Any) -> list[bool]:
    """Whether a car is there, at each half hour from midnight of a Sunday in Berlin on."""
    site = small_site(
        CHARGER,
        car=[{"chargers": [7]} | car],
        location={"timezone": "Europe/Berlin"},
        start=datetime(2026, 6, 20, 22, 0, tzinfo=UTC),
        **rest,
    )
    found = []
    for _ in range(2 * hours):
        found.append(site.charger(7).car is not None)
        site.advance(1800.0)
    return found


def test_car_without_times_is_always_there() -> None:
    assert all(presence({}, 48))


def test_car_comes_and_goes_each_day_by_local_time() -> None:
    found = presence({"arrives": "08:00", "leaves": "17:00"}, 48)
    expected = [8 <= half / 2 % 24 < 17 for half in range(96)]
    assert found == expected


def test_car_stays_over_midnight() -> None:
    found = presence({"arrives": "18:00", "leaves": "06:00"}, 48)
    assert found == [half / 2 % 24 < 6 or half / 2 % 24 >= 18 for half in range(96)]


def test_car_comes_again_and_again() -> None:
    found = presence({"stays": "02:00:00", "away": "01:00:00"}, 48)
    assert found == [half / 2 % 3 < 2 for half in range(96)]


def test_times_are_drawn_anew_each_day() -> None:
    chance = functools.partial(generator, 1)
    visits = daily((25_200.0, 32_400.0), (57_600.0, 64_800.0), (10.0, 60.0), chance=chance)
    drawn = set()
    for day in range(30):
        noon = datetime(2026, 6, 1, 12, tzinfo=UTC) + timedelta(days=day)
        visit = visits(day * 86_400.0 + 43_200.0, noon)
        assert visit is not None
        assert 25_200 <= visit.arrives % 86_400 <= 32_400
        assert 57_600 <= visit.leaves % 86_400 <= 64_800
        assert 10 <= visit.soc <= 60
        drawn.add((visit.arrives % 86_400, visit.soc))
    assert len(drawn) == 30
    morning = datetime(2026, 6, 1, 6, tzinfo=UTC)
    assert visits(21_600.0, morning) is None


def test_first_car_keeps_the_others_out() -> None:
    site = small_site(
        CHARGER,
        car=[
            {"chargers": [7], "power": 5000.0, "stays": "01:00:00", "away": "09:00:00"},
            {"chargers": [7], "power": 8000.0},
        ],
    )
    found = []
    for _ in range(3):
        car = site.charger(7).car
        assert car is not None
        found.append(car.power)
        site.advance(1800.0)
    assert found == [5000.0, 5000.0, 8000.0]


def test_car_comes_back_with_another_charge() -> None:
    site = small_site(
        CHARGER,
        car=[{"chargers": [7], "soc": [10.0, 90.0], "stays": "01:00:00", "away": "01:00:00"}],
    )
    charges = []
    for _ in range(3):
        car = site.charger(7).car
        assert car is not None
        charges.append(car.soc)
        site.advance(3600.0)
        assert site.charger(7).car is None
        site.advance(3600.0)
    assert len(set(charges)) == 3
    assert all(10 <= charge <= 90 and math.isfinite(charge) for charge in charges)


def test_car_that_is_sent_away_comes_back_for_its_next_visit() -> None:
    site = small_site(CHARGER, car=[{"chargers": [7], "stays": "01:00:00", "away": "01:00:00"}])
    site.advance(600.0)
    site.charger(7).unplug()
    for _ in range(20):
        site.advance(60.0)
        assert site.charger(7).car is None
    site.advance(6000.0)
    assert site.charger(7).car is not None


@pytest.mark.parametrize("seconds", [1.0, 60.0, 900.0, 3600.0])
def test_energy_ends_in_the_car_whatever_the_step(seconds: float) -> None:
    car = Car(power=22_000.0, capacity=20_000.0, soc=60.0, target_soc=80.0, ramp=1e9)
    site = charging(car)
    energy = 0.0
    before = car.soc
    for _ in range(round(3600 / seconds)):
        site.advance(seconds)
        energy += power(site) * seconds / 3600
    assert car.soc == pytest.approx(80.0)
    assert energy * 0.9 == pytest.approx(200.0 * (car.soc - before))


def test_bound_of_a_phase_that_a_car_does_not_use_does_not_stop_it() -> None:
    site = charging(Car(power=3000.0, phases=1, ramp=1e6))
    site.charger(7).current_per_phase[1].include(0.0, 0.0, FOREVER)
    site.advance(1.0)
    assert power(site) == pytest.approx(3000.0)


def test_excluded_current_does_not_flow() -> None:
    site = charging()
    site.charger(7).current.exclude(0.0, 60.0, FOREVER)
    command(site, 12_000.0)
    assert power(site) == 0.0
    command(site, 22_000.0)
    assert power(site) > 10_000


def test_reactive_power_leaves_the_current_within_its_limits() -> None:
    site = charging(Car(power=7000.0, phases=1, ramp=1e6))
    site.charger(7).reactive.command(11_000.0, FOREVER)
    site.advance(1.0)
    assert site.flows[7].reactive[0] > 500
    assert max(site.flows[7].current(site.line)) <= 32.0 + 1e-9


def test_new_car_begins_anew() -> None:
    site = charging(Car(power=22_000.0, ramp=1e6))
    assert power(site) > 20_000
    charger = site.charger(7)
    charger.unplug()
    charger.plug_in(Car(power=22_000.0, ramp=100.0, soc=10.0))
    site.advance(1.0)
    assert power(site) < 5000


def test_first_to_come_is_the_first_to_charge() -> None:
    site = small_site(
        CHARGER,
        car=[
            {"chargers": [7], "power": 1.0, "arrives": "11:00", "leaves": "20:00"},
            {"chargers": [7], "power": 2.0, "arrives": "10:00", "leaves": "20:00"},
            {"chargers": [7], "power": 3.0, "arrives": "08:00", "leaves": "12:00"},
        ],
        start=datetime(2026, 6, 21, 7, tzinfo=UTC),
    )
    found = []
    for _ in range(7):
        car = site.charger(7).car
        found.append(car and car.power)
        site.advance(3600.0)
    assert found == [None, 3.0, 3.0, 3.0, 3.0, 2.0, 2.0]


def test_two_kinds_of_cars_at_one_charger_are_drawn_apart() -> None:
    car = {"chargers": [7], "soc": [10.0, 90.0]}
    site = small_site(
        CHARGER,
        car=[
            car | {"arrives": "01:00", "leaves": "02:00"},
            car | {"arrives": "03:00", "leaves": "04:00"},
        ],
        start=datetime(2026, 6, 21, tzinfo=UTC),
    )
    charges = []
    for _ in range(2):
        site.advance(3600.0)
        found = site.charger(7).car
        assert found is not None
        charges.append(found.soc)
        site.advance(3600.0)
    assert len(set(charges)) == 2


@pytest.mark.parametrize(
    ("night", "hours"),
    [(datetime(2026, 3, 28, 21, tzinfo=UTC), 7), (datetime(2026, 10, 24, 20, tzinfo=UTC), 9)],
)
def test_car_leaves_by_the_clock_on_the_wall_when_that_is_changed(
    night: datetime, hours: int
) -> None:
    site = small_site(
        CHARGER,
        car=[{"chargers": [7], "soc": 20.0, "arrives": "22:00", "leaves": "06:00"}],
        location={"timezone": "Europe/Berlin"},
        start=night,
    )
    site.advance(1.0)
    car = site.charger(7).car
    assert car is not None
    stayed = 0.0
    while site.charger(7).car is car:
        site.advance(60.0)
        stayed += 60.0
    assert stayed == pytest.approx(hours * 3600, abs=120)
    assert site.charger(7).car is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"phases": 4}, "phases"),
        ({"capacity": 0.0}, "capacity: must be more than 0"),
        ({"power": math.nan}, "power"),
        ({"soc": 101.0}, "soc: must be from 0 to 100"),
    ],
)
def test_impossible_car_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Car(**options)


def test_car_without_a_taper() -> None:
    site = charging(Car(taper_above=100.0, soc=99.0, ramp=1e6))
    assert power(site) == pytest.approx(11_000.0)
