"""Bounds that a charger does not have."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from microgrid_sync.power.charger import Charger
from tests.power.test_status import PLUGGED

NAN, INFINITY = math.nan, math.inf


def heard(lower: float, upper: float, low: float, high: float, rated: float = INFINITY) -> Charger:
    charger = Charger(11, rated_bound=rated)
    charger.update(
        replace(
            PLUGGED,
            active_power_inclusion_lower_bound=lower,
            active_power_inclusion_upper_bound=upper,
            active_power_exclusion_lower_bound=low,
            active_power_exclusion_upper_bound=high,
        ),
        100.0,
    )
    return charger


@pytest.mark.parametrize(
    ("bounds", "rated", "expected"),
    [
        ((0.0, 22_000.0, 0.0, 1380.0), INFINITY, (0.0, 22_000.0, 0.0, 1380.0)),
        ((-INFINITY, 22_000.0, 0.0, 0.0), INFINITY, (0.0, 22_000.0, 0.0, 0.0)),
        ((0.0, INFINITY, 0.0, 0.0), 11_000.0, (0.0, 11_000.0, 0.0, 0.0)),
        ((0.0, 22_000.0, NAN, NAN), INFINITY, (0.0, 22_000.0, 0.0, 0.0)),
        ((0.0, INFINITY, 0.0, 0.0), INFINITY, None),
        ((NAN, NAN, NAN, NAN), 11_000.0, None),
        ((0.0, 22_000.0, NAN, 5.0), 11_000.0, None),
    ],
)
def test_bounds_that_are_not_there(
    bounds: tuple[float, float, float, float],
    rated: float,
    expected: tuple[float, float, float, float] | None,
) -> None:
    data = heard(*bounds, rated).data
    if expected is None:
        # Nobody knows what it may be set to.
        assert data is None
        return
    assert data is not None
    assert (
        data.active_power_inclusion_lower_bound,
        data.active_power_inclusion_upper_bound,
        data.active_power_exclusion_lower_bound,
        data.active_power_exclusion_upper_bound,
    ) == expected


def test_what_it_had_is_kept_until_it_is_too_old() -> None:
    charger = heard(0.0, 9000.0, 0.0, 0.0)
    without = replace(
        PLUGGED,
        timestamp=PLUGGED.timestamp + timedelta(seconds=5),
        active_power_inclusion_upper_bound=NAN,
    )
    charger.update(without, 105.0)
    assert charger.upper_bound == 9000.0
    assert not charger.is_silent(109.0)
    assert charger.is_silent(110.1)
