"""The voltage at a charger."""

import math

import pytest

from microgrid_sync.power.voltage import ChargerVoltage

NAN = math.nan
IDLE = (0.0, 0.0, 0.0)
FULL = (230.0, 231.0, 232.0)


def charger(*samples: tuple[float, float, float], now: float = 0.0) -> ChargerVoltage:
    voltage = ChargerVoltage()
    for sample in samples:
        voltage.update(sample, IDLE, now)
    return voltage


@pytest.mark.parametrize(
    ("own", "meter", "expected"),
    [
        (FULL, None, 693.0),
        (FULL, (220.0, 220.0, 220.0), 693.0),
        # None of its own: the meter's.
        ((0.0, NAN, 0.0), (220.0, 221.0, 222.0), 663.0),
        ((0.0, NAN, 2300.0), (220.0, 0.0, NAN), 660.0),
        # A charger of one phase, and of two.
        ((230.0, 0.0, NAN), (220.0, 221.0, 222.0), 230.0),
        ((230.0, 0.0, 0.0), None, 230.0),
        ((230.0, 231.0, 0.0), None, 461.0),
        # What no grid has is no voltage.
        ((0.0, 0.0, 0.0), (0.0, NAN, math.inf), None),
        ((-230.0, 0.0, 0.0), None, None),
        ((2300.0, 2300.0, 2300.0), None, None),
        ((0.3, 0.2, 149.0), None, None),
    ],
)
def test_total(
    own: tuple[float, float, float],
    meter: tuple[float, float, float] | None,
    expected: float | None,
) -> None:
    found = charger(own).total(meter, 0.0)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("odd", [(0.3, 0.2, 230.0), (NAN, NAN, 232.0), (2300.0, 0.0, 0.0)])
def test_one_odd_sample_changes_nothing_for_a_minute(odd: tuple[float, float, float]) -> None:
    voltage = charger(FULL)
    for second in range(1, 60):
        voltage.update(odd, IDLE, float(second))
        assert voltage.total(None, float(second)) == pytest.approx(693.0, rel=0.01)


def test_phase_without_voltage_for_a_minute_is_not_there() -> None:
    voltage = charger(FULL)
    for second in range(61):
        voltage.update((230.0, 0.0, 0.0), IDLE, float(second))
    assert voltage.total(None, 60.0) == 230.0


def test_phase_that_carries_a_current_stays() -> None:
    voltage = charger(FULL)
    for second in range(120):
        voltage.update((230.0, 0.0, 0.0), (16.0, 16.0, 16.0), float(second))
    assert voltage.total(None, 119.0) == pytest.approx(690.0)


def test_voltages_of_its_own_are_forgotten_after_a_minute_without_any() -> None:
    voltage = charger(FULL)
    assert voltage.has_own(59.0)
    assert not voltage.has_own(60.0)
    assert voltage.total((220.0, 220.0, 220.0), 60.0) == 660.0
