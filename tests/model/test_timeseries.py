"""Samples of three phases, and what is inside of bounds."""

from datetime import UTC, datetime

import pytest

from microgrid_sync import Bounds, Component, ComponentCategory, Power, Sample3Phase, SystemBounds

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


def watts(value: float) -> Power:
    return Power.from_watts(value)


RANGE = Bounds(watts(-100.0), watts(100.0))
EXCLUDED = Bounds(watts(-10.0), watts(10.0))


@pytest.mark.parametrize(
    ("bounds", "value", "inside"),
    [
        (RANGE, 50.0, True), (RANGE, 100.0, True), (RANGE, -100.0, True), (RANGE, 100.1, False),
        (RANGE, -101.0, False), (Bounds(None, watts(5.0)), -1e9, True),
        (Bounds(None, watts(5.0)), 6.0, False), (Bounds(watts(5.0), None), 1e9, True),
        (Bounds(watts(5.0), None), 4.0, False), (Bounds(None, None), 0.0, True),
    ],
)  # fmt: skip
def test_inside_of_bounds(bounds: Bounds[Power | None], value: float, inside: bool) -> None:
    assert (watts(value) in bounds) is inside


def test_nothing_is_neither_inside_nor_outside() -> None:
    with pytest.raises(TypeError, match="None"):
        None in RANGE  # noqa: B015 - that is what is tested


@pytest.mark.parametrize(
    ("inclusion", "exclusion", "value", "inside"),
    [
        (RANGE, EXCLUDED, 50.0, True), (RANGE, EXCLUDED, 101.0, False),
        (RANGE, EXCLUDED, 10.0, False), (RANGE, EXCLUDED, -9.0, False), (RANGE, None, 0.0, True),
        (None, EXCLUDED, 50.0, False), (None, None, 0.0, False),
    ],
)  # fmt: skip
def test_inside_of_what_a_system_can_be_set_to(
    inclusion: Bounds[Power] | None, exclusion: Bounds[Power] | None, value: float, inside: bool
) -> None:
    assert (watts(value) in SystemBounds(NOW, inclusion, exclusion)) is inside


def test_bounds_of_systems_are_compared_without_their_time() -> None:
    assert SystemBounds(NOW, RANGE, None) == SystemBounds(LATER, RANGE, None)
    assert SystemBounds(NOW, RANGE, None) != SystemBounds(NOW, EXCLUDED, None)


def test_sample_of_three_phases() -> None:
    sample = Sample3Phase(NOW, watts(3.0), None, watts(1.0))
    assert list(sample) == [watts(3.0), None, watts(1.0)]
    assert sample.max() == watts(3.0)
    assert sample.min() == watts(1.0)
    twice = sample.map(lambda power: power * 2.0)
    assert twice == Sample3Phase(NOW, watts(6.0), None, watts(2.0))
    assert list(sample.map(abs, watts(0.0))) == [watts(3.0), watts(0.0), watts(1.0)]
    nothing: Sample3Phase[Power] = Sample3Phase(NOW)
    assert nothing.max() is None
    assert nothing.min(watts(7.0)) == watts(7.0)


def test_component_of_no_category_is_not_valid() -> None:
    assert not Component(666, 666).is_valid()  # type: ignore[arg-type] # that is what is tested
    assert Component(666, ComponentCategory.METER).is_valid()
