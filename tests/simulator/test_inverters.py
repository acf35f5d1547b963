"""Inverters and what is on their DC side, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync.simulator import Car, Site
from microgrid_sync.simulator.physics.components import ComponentError
from microgrid_sync.simulator.physics.inverters import NotPossible
from tests.simulator.descriptions import (
    BATTERY,
    BATTERY_INVERTER,
    CHARGER,
    CLEAR,
    HYBRID,
    METER,
    SOLAR,
    STIFF,
    small_site,
)

EFFICIENCY = 0.97
FOREVER = 1e9


def command(site: Site, component_id: int, power: float) -> None:
    site.inverter(component_id).active.command(power, FOREVER)


def power(site: Site, component_id: int) -> float:
    return site.flows[component_id].power


def storage(**of_battery: float) -> Site:
    return small_site(BATTERY_INVERTER, BATTERY | of_battery, weather=CLEAR)


# Solar


def test_sun_is_curtailed_but_not_multiplied() -> None:
    site = small_site(SOLAR, weather=CLEAR)
    site.advance(60.0)
    available = power(site, 3)
    assert available == pytest.approx(-8000 * site.sky.irradiance / 1000 * EFFICIENCY)
    assert -8000 < available < -5000
    assert site.inverter(3).state.name == "DISCHARGING"
    command(site, 3, -8000.0)
    site.advance(1.0)
    assert power(site, 3) == pytest.approx(available, rel=0.01)
    command(site, 3, -100.0)
    site.advance(60.0)
    assert power(site, 3) == pytest.approx(-100.0)
    command(site, 3, 0.0)
    site.advance(60.0)
    assert power(site, 3) == 0.0
    assert site.inverter(3).state.name == "IDLE"


def test_sun_sets() -> None:
    site = small_site(SOLAR, weather=CLEAR)
    site.advance(12 * 3600.0)
    site.advance(60.0)
    assert power(site, 3) == 0.0


def test_inverter_gives_no_more_than_it_is_rated_for() -> None:
    site = small_site(SOLAR | {"rating": 3000.0}, weather=CLEAR)
    site.advance(60.0)
    assert power(site, 3) == pytest.approx(-3000.0)


def test_inverter_on_one_phase_loads_one_phase() -> None:
    site = small_site(SOLAR | {"phases": [2]}, weather=CLEAR)
    site.inverter(3).reactive.command(300.0, FOREVER)
    site.advance(60.0)
    flow = site.flows[2]
    assert flow.active[0] == flow.active[2] == flow.reactive[0] == flow.reactive[2] == 0.0
    assert flow.active[1] < -5000
    assert flow.reactive[1] == 300.0


# Batteries


def test_battery_fills_with_what_its_inverter_takes_less_the_losses() -> None:
    site = storage(soc=50.0)
    command(site, 4, 5000.0)
    for _ in range(360):
        site.advance(10.0)
    battery = site.batteries[5]
    # Losses in the inverter and in the battery; the inverter took a moment to ramp up.
    assert battery.soc == pytest.approx(50 + 25 * EFFICIENCY**2, abs=0.1)
    assert battery.power == pytest.approx(5000 * EFFICIENCY)
    assert battery.state.name == "CHARGING"
    assert site.inverter(4).state.name == "CHARGING"
    assert battery.temperature > 20
    before = battery.soc
    command(site, 4, -5000.0)
    for _ in range(360):
        site.advance(10.0)
    assert battery.soc == pytest.approx(before - 25 / EFFICIENCY**2, abs=0.2)
    assert battery.power == pytest.approx(-5000 / EFFICIENCY)
    assert battery.state.name == "DISCHARGING"
    assert site.inverter(4).state.name == "DISCHARGING"


@pytest.mark.parametrize(("soc", "told"), [(95.0, 5000.0), (10.0, -5000.0)])
def test_full_or_empty_battery_stands_still(soc: float, told: float) -> None:
    site = storage(soc=soc)
    command(site, 4, told)
    site.advance(60.0)
    assert site.batteries[5].soc == soc
    assert site.batteries[5].state.name == "IDLE"
    assert power(site, 4) == 0.0


@given(
    st.floats(-10_000.0, 10_000.0),
    st.floats(10.0, 95.0),
    st.sampled_from([1.0, 60.0, 900.0, 86_400.0]),
)
def test_charge_stays_within_its_limits_whatever_is_asked(
    told: float, soc: float, seconds: float
) -> None:
    site = storage(soc=soc)
    command(site, 4, told)
    for _ in range(10):
        site.advance(seconds)
        assert 10.0 - 1e-6 <= site.batteries[5].soc <= 95.0 + 1e-6
        assert min(told, 0.0) - 1e-6 <= power(site, 4) <= max(told, 0.0) + 1e-6


def test_battery_eases_off_near_its_limits() -> None:
    site = storage(soc=94.0)
    command(site, 4, 10_000.0)
    site.advance(2.0)
    assert 0 < power(site, 4) < 5000
    lower, upper = site.batteries[5].bounds()
    assert lower == -10_000.0
    assert upper < 5000


def test_power_changes_no_faster_than_the_ramp() -> None:
    site = small_site(BATTERY_INVERTER | {"ramp": 500.0}, BATTERY)
    command(site, 4, 10_000.0)
    powers = [0.0]
    for _ in range(30):
        site.advance(1.0)
        powers.append(power(site, 4))
    assert powers[:4] == pytest.approx([0.0, 500.0, 1000.0, 1500.0])
    assert powers[-1] == pytest.approx(10_000.0)


def test_set_point_is_floored_to_the_resolution() -> None:
    site = small_site(BATTERY_INVERTER | {"resolution": 88.0}, BATTERY)
    for told, expected in ((1000.0, 968.0), (-1000.0, -968.0), (87.0, 0.0)):
        command(site, 4, site.inverter(4).floored(told))
        site.advance(60.0)
        assert power(site, 4) == pytest.approx(expected)


def test_several_batteries_share() -> None:
    second = BATTERY | {"id": 6, "soc": 95.0}
    site = small_site(BATTERY_INVERTER | {"rating": 30_000.0}, BATTERY, second)
    command(site, 4, 20_000.0)
    site.advance(60.0)
    # The second is full, and the first takes what it is made for.
    assert site.batteries[6].power == 0.0
    assert site.batteries[5].power == pytest.approx(10_000.0)
    command(site, 4, -10_000.0)
    site.advance(60.0)
    assert site.batteries[5].power == pytest.approx(site.batteries[6].power)


def test_self_consumption_brings_the_site_to_zero() -> None:
    load = METER | {"load": "constant", "load_power": 4000.0}
    balancing = BATTERY_INVERTER | {"mode": "self-consumption"}
    site = small_site(load, balancing, BATTERY, weather=CLEAR)
    for _ in range(20):
        site.advance(10.0)
        assert power(site, 2) == pytest.approx(0.0, abs=1e-6) or site.now < 20
    assert power(site, 4) < -3000
    # A set-point takes precedence.
    command(site, 4, 2000.0)
    site.advance(10.0)
    assert power(site, 4) == pytest.approx(2000.0)


# Hybrid


def hybrid(**of_battery: float) -> Site:
    return small_site(HYBRID, BATTERY | of_battery, weather=CLEAR)


def test_hybrid_charges_with_what_the_sun_gives_beyond_the_set_point() -> None:
    site = hybrid()
    command(site, 4, -1000.0)
    site.advance(60.0)
    sun = 8.0 * site.sky.irradiance
    assert power(site, 4) == pytest.approx(-1000.0)
    assert site.inverter(4).solar_power == pytest.approx(sun)
    assert site.batteries[5].power == pytest.approx(sun - 1000 / EFFICIENCY)


def test_hybrid_curtails_the_sun_when_the_battery_is_full() -> None:
    site = hybrid(soc=95.0)
    command(site, 4, -1000.0)
    site.advance(60.0)
    assert power(site, 4) == pytest.approx(-1000.0)
    assert site.inverter(4).solar_power == pytest.approx(1000 / EFFICIENCY)
    assert site.batteries[5].power == pytest.approx(0.0)


def test_hybrid_gives_what_sun_and_battery_have() -> None:
    site = hybrid(soc=10.0)
    command(site, 4, -10_000.0)
    site.advance(60.0)
    assert power(site, 4) == pytest.approx(-8.0 * site.sky.irradiance * EFFICIENCY)


def test_hybrid_that_balances_does_not_waste_the_sun() -> None:
    site = small_site(HYBRID | {"mode": "self-consumption"}, BATTERY | {"soc": 95.0}, weather=CLEAR)
    site.advance(60.0)
    assert power(site, 4) == pytest.approx(-8.0 * site.sky.irradiance * EFFICIENCY)


@given(st.floats(-10_000.0, 10_000.0), st.floats(10.0, 95.0), st.sampled_from([0.0, 6.0, 12.0]))
def test_energy_is_conserved_in_a_hybrid_inverter(told: float, soc: float, hours: float) -> None:
    site = hybrid(soc=soc)
    command(site, 4, told)
    site.advance(hours * 3600.0)
    site.advance(60.0)
    ac = power(site, 4)
    dc = ac * EFFICIENCY if ac > 0 else ac / EFFICIENCY
    inverter = site.inverter(4)
    assert dc + inverter.solar_power == pytest.approx(site.batteries[5].power, abs=1e-6)
    assert 0 <= inverter.solar_power <= 8.0 * site.sky.irradiance + 1e-9


# Switching


def test_inverter_is_stopped_and_started() -> None:
    site = storage()
    inverter = site.inverter(4)
    command(site, 4, 5000.0)
    site.advance(10.0)
    assert power(site, 4) == 5000.0
    inverter.hot_standby()
    site.advance(1.0)
    assert (power(site, 4), inverter.state.name) == (0.0, "IDLE")
    inverter.hot_standby()
    inverter.cold_standby()
    site.advance(1.0)
    assert (power(site, 4), inverter.state.name) == (0.0, "STANDBY")
    inverter.cold_standby()
    with pytest.raises(NotPossible, match="start it first"):
        inverter.hot_standby()
    inverter.stop()
    inverter.stop()
    assert inverter.state.name == "OFF"
    with pytest.raises(NotPossible, match="DC relays are open"):
        inverter.cold_standby()
    problem = inverter.check_operational()
    assert problem is not None
    assert "stopped" in problem
    inverter.start(site.now, 60.0)
    assert inverter.state.name == "SWITCHING_ON"
    command(site, 4, 5000.0)
    site.advance(10.0)
    assert power(site, 4) == 0.0
    # The API: back within two minutes.
    site.advance(110.0)
    assert power(site, 4) == 5000.0


def test_hot_standby_is_left_within_five_seconds() -> None:
    site = storage()
    inverter = site.inverter(4)
    inverter.hot_standby()
    inverter.start(site.now, 60.0)
    command(site, 4, 5000.0)
    site.advance(5.0)
    assert power(site, 4) == 5000.0


def test_battery_opens_and_closes_its_relays() -> None:
    site = storage()
    battery = site.batteries[5]
    command(site, 4, 5000.0)
    site.advance(10.0)
    with pytest.raises(NotPossible, match="4850 W"):
        battery.stop()
    command(site, 4, 0.0)
    site.advance(10.0)
    battery.stop()
    assert battery.relay_state.name == "OPENED"
    assert battery.state.name == "OFF"
    command(site, 4, 5000.0)
    site.advance(10.0)
    assert power(site, 4) == 0.0
    assert battery.bounds() == (0.0, 0.0)
    battery.start(site.now, 60.0)
    assert battery.relay_state.name == "PRECHARGING"
    assert battery.state.name == "SWITCHING_ON"
    site.advance(10.0)
    assert battery.relay_state.name == "CLOSED"
    site.advance(10.0)
    assert power(site, 4) == 5000.0


# Several limits at once


def test_bounds_of_the_current_never_push_beyond_the_others() -> None:
    site = storage()
    inverter = site.inverter(4)
    inverter.active.include(-1000.0, 1000.0, FOREVER)
    inverter.current.include(60.0, 120.0, FOREVER)
    for _ in range(10):
        site.advance(1.0)
        assert power(site, 4) == 0.0


def test_bounds_of_the_current_with_nothing_in_common_let_nothing_flow() -> None:
    site = storage()
    inverter = site.inverter(4)
    inverter.current.include(0.0, 10.0, FOREVER)
    inverter.current.include(-10.0, -5.0, FOREVER)
    command(site, 4, 2000.0)
    site.advance(10.0)
    assert power(site, 4) == 0.0


def test_bounded_current_is_that_of_the_phase_with_the_least_voltage() -> None:
    unequal = METER | {"load": "household", "load_power": 60_000.0}
    site = small_site(BATTERY_INVERTER, BATTERY, unequal, supply={"resistance": 0.2})
    for limits in site.inverter(4).current_per_phase:
        limits.include(-8.0, 8.0, FOREVER)
    command(site, 4, 10_000.0)
    for _ in range(10):
        site.advance(10.0)
    currents = site.flows[4].current(site.line)
    assert 7.9 < max(currents) <= 8.0 + 1e-9
    assert min(currents) < 7.99


def test_reactive_power_stays_within_rating_and_current() -> None:
    site = storage()
    inverter = site.inverter(4)
    command(site, 4, 10_000.0)
    inverter.reactive.command(5000.0, FOREVER)
    site.advance(10.0)
    assert site.flows[4].reactive == (0.0, 0.0, 0.0)
    command(site, 4, 6000.0)
    site.advance(10.0)
    assert sum(site.flows[4].reactive) == pytest.approx(5000.0)
    inverter.current_per_phase[0].include(-9.0, 9.0, FOREVER)
    site.advance(10.0)
    assert max(site.flows[4].current(site.line)) <= 9.0 + 1e-9


def test_exclusion_bounds_that_come_later_hold_too() -> None:
    site = storage()
    command(site, 4, 3000.0)
    site.inverter(4).active.exclude(-4000.0, 4000.0, FOREVER)
    site.advance(10.0)
    assert power(site, 4) == 0.0


def test_self_consumption_does_nothing_below_the_minimum_power() -> None:
    load = METER | {"load": "constant", "load_power": 300.0}
    balancing = BATTERY_INVERTER | {"mode": "self-consumption", "minimum_power": 1000.0}
    site = small_site(load, balancing, BATTERY, weather=CLEAR)
    site.advance(10.0)
    site.advance(10.0)
    assert power(site, 4) == 0.0


def test_two_that_balance_share_the_work() -> None:
    one = BATTERY_INVERTER | {"mode": "self-consumption", "ramp": 50_000.0}
    two = one | {"id": 14, "rating": 5000.0}
    site = small_site(one, BATTERY, two, BATTERY | {"id": 15, "behind": 14}, CHARGER, supply=STIFF)
    site.charger(7).plug_in(Car(power=9000.0, ramp=1e6))
    for _ in range(10):
        site.advance(1.0)
    assert power(site, 2) == pytest.approx(0.0, abs=1e-6)
    assert power(site, 4) == pytest.approx(-6000.0)
    assert power(site, 14) == pytest.approx(-3000.0)
    site.charger(7).unplug()
    for _ in range(10):
        site.advance(1.0)
    # Neither charges the other.
    assert power(site, 4) == pytest.approx(0.0, abs=1e-6)
    assert power(site, 14) == pytest.approx(0.0, abs=1e-6)


def test_hybrid_that_nobody_commands_leaves_its_battery_alone() -> None:
    site = small_site(HYBRID | {"peak": 5000.0}, BATTERY)
    for _ in range(600):
        site.advance(1.0)
        assert site.batteries[5].power == 0.0
    site.batteries[5].stop()


def test_inverter_that_starts_from_cold_has_no_short_cut() -> None:
    site = storage()
    inverter = site.inverter(4)
    inverter.stop()
    inverter.start(site.now, 60.0)
    with pytest.raises(NotPossible, match="still switching on"):
        inverter.hot_standby()


def test_solar_inverter_starts_at_zero() -> None:
    site = small_site(SOLAR, weather=CLEAR)
    inverter = site.inverter(3)
    inverter.stop()
    inverter.start(site.now, 60.0)
    for _ in range(8):
        site.advance(10.0)
        assert power(site, 3) == 0.0
    site.advance(20.0)
    site.advance(20.0)
    assert power(site, 3) < -3000


def test_battery_in_error_cannot_be_switched() -> None:
    site = storage()
    site.fail(5, ComponentError())
    for switch in (site.batteries[5].stop, lambda: site.batteries[5].start(site.now, 60.0)):
        with pytest.raises(NotPossible, match="in error"):
            switch()


@pytest.mark.parametrize("steps", [3, 6, 7, 12, 49_999])
def test_multiples_of_a_decimal_resolution_are_taken_as_they_are(steps: int) -> None:
    site = small_site(BATTERY_INVERTER | {"resolution": 0.1}, BATTERY)
    assert site.inverter(4).floored(steps / 10) == pytest.approx(steps / 10)
