"""The clock of a site against the machine's, whose time is passed in."""

import math

import pytest

from microgrid_sync.simulator.life.pace import LONGEST_LAG, Pace


@pytest.mark.parametrize("speed", [0.1, 1.0, 600.0])
def test_site_runs_at_its_speed(speed: float) -> None:
    pace = Pace(speed)
    pace.begin(50.0, 1000.0)
    assert pace.due(50.0) == 1000.0
    assert pace.due(50.0 + speed) == pytest.approx(1001.0)
    assert pace.site_time(1002.0) == pytest.approx(50.0 + 2 * speed)


def test_short_lag_is_caught_up() -> None:
    pace = Pace(1.0)
    pace.begin(0.0, 0.0)
    pace.fall_back(10.0, 10.0 + 0.9 * LONGEST_LAG)
    assert pace.due(20.0) == 20.0


def test_long_lag_is_given_up() -> None:
    pace = Pace(1.0)
    pace.begin(0.0, 0.0)
    pace.fall_back(10.0, 500.0)
    assert pace.due(20.0) == 510.0
    pace.fall_back(math.inf, 900.0)
    assert pace.due(20.0) == 510.0
