"""Set-points and bounds of a device."""

import math

import pytest

from microgrid_sync.simulator.physics.limits import Limits, OutOfBounds


def test_set_point_is_forgotten_when_its_time_is_over() -> None:
    limits = Limits(-10.0, 10.0)
    limits.command(5.0, ends=60.0)
    limits.forget(59.9)
    assert limits.set_point == 5.0
    limits.forget(60.0)
    assert limits.set_point is None


def test_inclusion_bounds_are_the_narrowest_of_all_that_have_not_ended() -> None:
    limits = Limits(-10.0, 10.0)
    limits.include(-5.0, 8.0, 2.0)
    limits.include(-20.0, 6.0, 1.0)
    assert limits.inclusion_bounds() == (-5.0, 6.0)
    limits.forget(1.0)
    assert limits.inclusion_bounds() == (-5.0, 8.0)
    limits.forget(2.0)
    assert limits.inclusion_bounds() == (-10.0, 10.0)


@pytest.mark.parametrize("rated", [(0.0, 0.0), (-1.5, 0.5)])
def test_exclusion_bounds_are_the_widest_of_all_that_have_not_ended(
    rated: tuple[float, float],
) -> None:
    limits = Limits(-10.0, 10.0, *rated)
    assert limits.exclusion_bounds() == rated
    limits.exclude(-1.0, 3.0, 2.0)
    limits.exclude(-2.0, 1.0, 1.0)
    assert limits.exclusion_bounds() == (-2.0, 3.0)
    limits.forget(1.0)
    assert limits.exclusion_bounds() == (min(-1.0, rated[0]), 3.0)
    limits.forget(2.0)
    assert limits.exclusion_bounds() == rated


@pytest.mark.parametrize("power", [-10.0, -2.0, 0.0, 3.0, 10.0])
def test_set_point_within_the_bounds_is_taken(power: float) -> None:
    limits = Limits(-10.0, 10.0)
    limits.exclude(-2.0, 3.0, math.inf)
    limits.command(power, math.inf)
    assert limits.set_point == power


@pytest.mark.parametrize("power", [-10.1, -1.9, 2.9, 10.1])
def test_set_point_out_of_bounds_is_refused(power: float) -> None:
    limits = Limits(-10.0, 10.0)
    limits.exclude(-2.0, 3.0, math.inf)
    with pytest.raises(OutOfBounds, match=str(power)):
        limits.command(power, math.inf)
    assert limits.set_point is None


@pytest.mark.parametrize("bounds", [(11.0, 12.0), (-12.0, -11.0)])
def test_bounds_that_leave_nothing_of_the_rating_are_refused(bounds: tuple[float, float]) -> None:
    limits = Limits(-10.0, 10.0)
    with pytest.raises(OutOfBounds, match="leave nothing of the rated -10 to 10"):
        limits.include(*bounds, math.inf)
    assert limits.inclusion_bounds() == (-10.0, 10.0)


def test_bounds_with_nothing_in_common_let_nothing_flow() -> None:
    limits = Limits(-10.0, 10.0)
    limits.include(-10.0, -5.0, math.inf)
    limits.include(5.0, 10.0, math.inf)
    assert limits.limit(7.0) == limits.limit(-7.0) == 0.0
    with pytest.raises(OutOfBounds):
        limits.command(7.0, math.inf)
