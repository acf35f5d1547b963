"""Windows: averages, and what counts as missing."""

import math
from datetime import timedelta

import pytest

from microgrid_sync import BatteryData, ComponentCategory, MeterData
from microgrid_sync.formulas.window import NOTHING, Window
from microgrid_sync.wire import generation
from tests.support.messages import START, data, decode

V0_15 = generation("v0.15")


def sample(second: float, power: float, current: float = 1.0) -> MeterData:
    zero = (0.0, 0.0, 0.0)
    at = START + timedelta(seconds=second)
    return MeterData(1, at, power, zero, 0.0, zero, (current,) * 3, zero, 50.0)


def test_values_of_a_window_are_averaged() -> None:
    window = Window(0.0)
    found = window.close([sample(0, 1.0, 4.0), sample(0.5, 2.0, 6.0)], 1.0, 1.0)
    assert found == (1.5, 5.0, 5.0, 5.0)


def test_what_was_heard_is_held_for_less_than_three_periods() -> None:
    window = Window(0.0)
    window.close([sample(0, 7.0)], 1.0, 1.0)
    assert window.close([], 2.0, 1.0)[0] == 7.0
    assert window.close([], 3.0, 1.0)[0] == 7.0
    assert window.close([], 4.0, 1.0) == NOTHING
    assert window.close([sample(4, 8.0)], 5.0, 1.0)[0] == 8.0


def test_timestamps_that_stand_still_are_no_news() -> None:
    window = Window(0.0)
    window.close([sample(0, 7.0)], 1.0, 1.0)
    for second in (2.0, 3.0):
        assert window.close([sample(0, 9.0)], second, 1.0)[0] == 7.0
    assert window.close([sample(0, 9.0)], 4.0, 1.0) == NOTHING


def test_sender_whose_clock_was_set_back_is_heard_again() -> None:
    window = Window(0.0)
    window.close([sample(1000, 7.0)], 1.0, 1.0)
    assert window.close([sample(0, 8.0)], 2.0, 1.0)[0] == 7.0
    assert window.close([sample(1, 9.0)], 3.0, 1.0)[0] == 9.0


def test_values_that_are_not_finite_are_left_out() -> None:
    window = Window(0.0)
    found = window.close([sample(0, math.nan, 2.0), sample(1, 3.0, math.inf)], 1.0, 1.0)
    assert found == (3.0, 2.0, 2.0, 2.0)


def test_window_of_nothing_but_nan_has_no_value() -> None:
    window = Window(0.0)
    window.close([sample(0, 7.0)], 1.0, 1.0)
    assert window.close([sample(1, math.nan)], 2.0, 1.0)[0] is None


def test_component_is_pending_until_it_is_heard_or_late() -> None:
    window = Window(10.0)
    assert window.is_pending(12.9, 1.0)
    assert not window.is_pending(13.0, 1.0)
    window.close([sample(0, 7.0)], 11.0, 1.0)
    assert not window.is_pending(11.0, 1.0)


def test_data_without_ac_has_no_values() -> None:
    battery = decode(
        V0_15.stream_data(1, ComponentCategory.BATTERY),
        data(1, "battery").SerializeToString(),
    )
    assert isinstance(battery, BatteryData)
    assert Window(0.0).close([battery], 1.0, 1.0) == NOTHING


@pytest.mark.parametrize("period", [0.2, 1.0, 60.0])
def test_three_periods_are_counted_in_periods(period: float) -> None:
    window = Window(0.0)
    window.close([sample(0, 7.0)], period, period)
    # A little late, as a loop that wakes up is.
    assert window.close([], 3 * period * 1.01, period)[0] == 7.0
    assert window.close([], 4 * period, period) == NOTHING
