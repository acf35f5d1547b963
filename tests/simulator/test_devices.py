"""The devices of a simulated site, on a clock of the test's own."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync.simulator.devices import (
    Battery,
    Flow,
    Limits,
    Line,
    OutOfBounds,
    balanced,
    battery_inverter,
    ev_charger,
    solar_inverter,
)

LINE = Line()


def _power(flow: Flow) -> float:
    return sum(flow.active)


def test_set_point_is_forgotten_when_its_time_is_over() -> None:
    limits = Limits(-10.0, 10.0)
    limits.command(5.0, ends=60.0)
    limits.forget(59.9)
    assert limits.set_point == 5.0
    limits.forget(60.0)
    assert limits.set_point is None


def test_inclusion_bounds_are_the_narrowest_of_all_that_have_not_ended() -> None:
    limits = Limits(-10.0, 10.0)
    limits.inclusion += [(-5.0, 8.0, 2.0), (-20.0, 6.0, 1.0)]
    assert limits.inclusion_bounds() == (-5.0, 6.0)
    limits.forget(1.0)
    assert limits.inclusion_bounds() == (-5.0, 8.0)
    limits.forget(2.0)
    assert limits.inclusion_bounds() == (-10.0, 10.0)


def test_exclusion_bounds_are_the_widest_of_all_that_have_not_ended() -> None:
    limits = Limits(-10.0, 10.0)
    assert limits.exclusion_bounds() == (0.0, 0.0)
    limits.exclusion += [(-1.0, 3.0, 2.0), (-2.0, 1.0, 1.0)]
    assert limits.exclusion_bounds() == (-2.0, 3.0)
    limits.forget(1.0)
    assert limits.exclusion_bounds() == (-1.0, 3.0)


@pytest.mark.parametrize("power", [-10.0, -2.0, 0.0, 3.0, 10.0])
def test_set_point_within_the_bounds_is_taken(power: float) -> None:
    limits = Limits(-10.0, 10.0, exclusion=[(-2.0, 3.0, math.inf)])
    limits.command(power, math.inf)
    assert limits.set_point == power


@pytest.mark.parametrize("power", [-10.1, -1.9, 2.9, 10.1])
def test_set_point_out_of_bounds_is_refused(power: float) -> None:
    limits = Limits(-10.0, 10.0, exclusion=[(-2.0, 3.0, math.inf)])
    with pytest.raises(OutOfBounds, match=str(power)):
        limits.command(power, math.inf)
    assert limits.set_point is None


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_current_is_apparent_power_over_voltage_with_the_sign_of_active_power(
    active: float, reactive: float
) -> None:
    for current in balanced(active, reactive).current(LINE):
        assert abs(current) * 230 == pytest.approx(math.hypot(active, reactive) / 3)
        assert current == 0 or math.copysign(1, current) == math.copysign(1, active)


def test_charger_ramps_up_and_follows_its_set_point_down_at_once() -> None:
    charger = ev_charger(7, rating=22_000.0, car_limit=11_000.0)
    assert charger.state.name == "READY"
    charger.advance(1.0, 0.5, LINE)
    assert _power(charger.flow) == pytest.approx(5000.0)
    charger.advance(3.0, 2.0, LINE)
    assert 10_000 < _power(charger.flow) <= 11_000
    charger.active.command(5000.0, math.inf)
    charger.advance(3.1, 0.1, LINE)
    assert _power(charger.flow) == pytest.approx(5000.0)
    assert charger.state.name == "CHARGING"


@pytest.mark.parametrize("allowed", [0.0, 4139.0])
def test_car_does_not_charge_below_the_minimum_current(allowed: float) -> None:
    charger = ev_charger(7, rating=22_000.0, car_limit=11_000.0)
    charger.advance(1.0, 1.0, LINE)
    charger.active.command(allowed, math.inf)
    charger.advance(2.0, 1.0, LINE)
    assert _power(charger.flow) == 0.0
    charger.active.command(4140.0, math.inf)
    charger.advance(3.0, 1.0, LINE)
    assert _power(charger.flow) == pytest.approx(4140.0)


def test_bounds_limit_a_charger_without_a_set_point() -> None:
    charger = ev_charger(7, rating=22_000.0, car_limit=11_000.0)
    charger.active.inclusion.append((0.0, 6000.0, math.inf))
    charger.advance(2.0, 2.0, LINE)
    assert _power(charger.flow) == pytest.approx(6000.0)


def test_sun_is_curtailed_but_not_multiplied() -> None:
    solar = solar_inverter(3, peak=8000.0)
    solar.advance(1.0, 1.0, LINE)
    available = _power(solar.flow)
    assert -8000 < available < 0
    assert solar.state.name == "DISCHARGING"
    solar.active.command(-8000.0, math.inf)
    solar.advance(1.0, 0.0, LINE)
    assert _power(solar.flow) == available
    solar.active.command(-100.0, math.inf)
    solar.advance(1.0, 0.0, LINE)
    assert _power(solar.flow) == pytest.approx(-100.0)
    solar.active.command(0.0, math.inf)
    solar.advance(1.0, 0.0, LINE)
    assert solar.state.name == "IDLE"


def test_reactive_set_point_is_followed() -> None:
    solar = solar_inverter(3, peak=8000.0)
    solar.reactive.command(300.0, math.inf)
    solar.advance(1.0, 1.0, LINE)
    assert solar.flow.reactive == (100.0, 100.0, 100.0)


def test_battery_fills_with_what_its_inverter_takes_less_the_losses() -> None:
    battery = Battery(5, capacity=10_000.0, soc=50.0)
    inverter = battery_inverter(4, battery, rating=10_000.0)
    inverter.active.command(5000.0, math.inf)
    inverter.advance(3600.0, 3600.0, LINE)
    assert battery.soc == pytest.approx(50 + 50 * inverter.efficiency)
    assert battery.state.name == "CHARGING"
    assert inverter.state.name == "CHARGING"
    assert battery.temperature > 24
    inverter.active.command(-5000.0, math.inf)
    before = battery.soc
    inverter.advance(5400.0, 1800.0, LINE)
    assert battery.soc == pytest.approx(before - 25 / inverter.efficiency)
    assert battery.state.name == "DISCHARGING"
    assert inverter.state.name == "DISCHARGING"


@pytest.mark.parametrize(("soc", "power"), [(95.0, 5000.0), (10.0, -5000.0)])
def test_full_or_empty_battery_stands_still(soc: float, power: float) -> None:
    battery = Battery(5, soc=soc)
    inverter = battery_inverter(4, battery, rating=10_000.0)
    inverter.active.command(power, math.inf)
    inverter.advance(60.0, 60.0, LINE)
    assert battery.soc == soc
    assert battery.state.name == "IDLE"
    assert inverter.state.name == "IDLE"


def test_battery_that_nobody_commands_swings() -> None:
    inverter = battery_inverter(4, Battery(5), rating=10_000.0)
    powers = []
    for second in range(60):
        inverter.advance(float(second), 1.0, LINE)
        powers.append(_power(inverter.flow))
    assert min(powers) < -1000
    assert max(powers) > 1000
