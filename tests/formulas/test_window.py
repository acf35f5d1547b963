"""Windows: averages, and what counts as missing."""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import pytest

from microgrid_sync import BatteryData, ComponentCategory, MeterData
from microgrid_sync.formulas.window import Resampling, Window
from microgrid_sync.model import ComponentData, ComponentMetricId
from microgrid_sync.wire import generation
from tests.support.messages import START, data, decode

V0_15 = generation("v0.15")


def sample(second: float, power: float, current: float = 1.0) -> MeterData:
    zero = (0.0, 0.0, 0.0)
    at = START + timedelta(seconds=second)
    return MeterData(1, at, power, zero, 0.0, zero, (current,) * 3, zero, 50.0)


POWER, CURRENT = ComponentMetricId.ACTIVE_POWER, ComponentMetricId.CURRENT_PHASE_2
NOTHING = (None, None)


def close(
    window: Window, samples: Sequence[ComponentData], now: float, period: float
) -> tuple[float | None, float | None]:
    """Close a window, and give power and current of it."""
    window.add(samples)
    window.close(now, period)
    return window.value(POWER), window.value(CURRENT)


def test_values_of_a_window_are_averaged() -> None:
    window = Window(0.0)
    assert close(window, [sample(0, 1.0, 4.0), sample(0.5, 2.0, 6.0)], 1.0, 1.0) == (1.5, 5.0)


@pytest.mark.parametrize(
    ("method", "expected"), [("mean", 3.0), ("last", 2.0), ("min", 1.0), ("max", 6.0)]
)
def test_method(method: Literal["mean", "last", "min", "max"], expected: float) -> None:
    window = Window(0.0, Resampling(method=method))
    samples = [sample(0, 6.0), sample(1, 1.0), sample(2, 2.0), sample(3, math.nan)]
    assert close(window, samples, 1.0, 1.0)[0] == expected


def test_what_has_come_in_parts_is_one_window() -> None:
    window = Window(0.0)
    window.add([sample(0, 1.0)])
    assert close(window, [sample(1, 3.0)], 1.0, 1.0)[0] == 2.0
    assert close(window, [sample(2, 9.0)], 2.0, 1.0)[0] == 9.0


@pytest.mark.parametrize("periods", [1, 2.5, 20])
def test_age_can_be_chosen(periods: float) -> None:
    window = Window(0.0, Resampling(max_age_periods=periods))
    close(window, [sample(0, 7.0)], 0.0, 1.0)
    assert close(window, [], periods - 0.6, 1.0)[0] == 7.0
    assert close(window, [], periods - 0.4, 1.0)[0] is None


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"max_age_periods": 0.5}, ValueError, "1 or more"),
        ({"max_age_periods": math.nan}, ValueError, "1 or more"),
        ({"max_age_periods": math.inf}, ValueError, "finite"),
        ({"max_age_periods": "3"}, TypeError, "must be a number, not '3'"),
        ({"method": "median"}, ValueError, "one of mean, last, min, max, not 'median'"),
    ],
)
def test_impossible_resampling_is_refused(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Resampling(**arguments)


def test_what_was_heard_is_held_for_less_than_three_periods() -> None:
    window = Window(0.0)
    close(window, [sample(0, 7.0)], 1.0, 1.0)
    assert close(window, [], 2.0, 1.0)[0] == 7.0
    assert close(window, [], 3.0, 1.0)[0] == 7.0
    assert close(window, [], 4.0, 1.0) == NOTHING
    assert close(window, [sample(4, 8.0)], 5.0, 1.0)[0] == 8.0


def test_timestamps_that_stand_still_are_no_news() -> None:
    window = Window(0.0)
    close(window, [sample(0, 7.0)], 1.0, 1.0)
    for second in (2.0, 3.0):
        assert close(window, [sample(0, 9.0)], second, 1.0)[0] == 7.0
    assert close(window, [sample(0, 9.0)], 4.0, 1.0) == NOTHING


def test_sender_whose_clock_was_set_back_is_heard_again() -> None:
    window = Window(0.0)
    close(window, [sample(1000, 7.0)], 1.0, 1.0)
    assert close(window, [sample(0, 8.0)], 2.0, 1.0)[0] == 7.0
    assert close(window, [sample(1, 9.0)], 3.0, 1.0)[0] == 9.0


def test_values_that_are_not_finite_are_left_out() -> None:
    window = Window(0.0)
    found = close(window, [sample(0, math.nan, 2.0), sample(1, 3.0, math.inf)], 1.0, 1.0)
    assert found == (3.0, 2.0)


def test_window_of_nothing_but_nan_has_no_value() -> None:
    window = Window(0.0)
    close(window, [sample(0, 7.0)], 1.0, 1.0)
    assert close(window, [sample(1, math.nan)], 2.0, 1.0)[0] is None


def test_component_is_pending_until_it_is_heard_or_late() -> None:
    window = Window(10.0)
    assert window.is_pending(12.9, 1.0)
    assert not window.is_pending(13.0, 1.0)
    close(window, [sample(0, 7.0)], 11.0, 1.0)
    assert not window.is_pending(11.0, 1.0)


def test_data_without_ac_has_no_values() -> None:
    battery = decode(
        V0_15.stream_data(1, ComponentCategory.BATTERY),
        data(1, "battery").SerializeToString(),
    )
    assert isinstance(battery, BatteryData)
    assert close(Window(0.0), [battery], 1.0, 1.0) == NOTHING


@pytest.mark.parametrize("period", [0.2, 1.0, 60.0])
def test_three_periods_are_counted_in_periods(period: float) -> None:
    window = Window(0.0)
    close(window, [sample(0, 7.0)], period, period)
    # A little late, as a loop that wakes up is.
    assert close(window, [], 3 * period * 1.01, period)[0] == 7.0
    assert close(window, [], 4 * period, period) == NOTHING
