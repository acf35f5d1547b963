"""Proposals by priority: targets, and what is left to those below."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync.power.proposals import EVERYTHING, Proposal, Range, System, resolve

KW100 = System(Range(0, 100))
INF = math.inf


def p(
    priority: int, power: float | None = None, lower: float = -INF, upper: float = INF
) -> Proposal:
    return Proposal(priority, power, Range(lower, upper))


A, B, C, D, E = p(4, 20, 0, 90), p(3, 50, 20, 75), p(2, 100), p(1, 60, 60, 60), p(0, 20)

# The system, the proposals, the target, what is left.
CASES: list[tuple[System, list[Proposal], float | None, tuple[float, float]]] = [
    (KW100, [], None, (0, 100)),
    (KW100, [A], 20, (0, 90)),
    (KW100, [A, B], 50, (20, 75)),
    (KW100, [A, B, C], 75, (20, 75)),
    (KW100, [A, B, C, D], 60, (60, 60)),
    (KW100, [A, B, C, D, E], 60, (60, 60)),
    (KW100, [E, D, C, B, A], 60, (60, 60)),
    # A preferred power out of what there is.
    (KW100, [p(1, 500)], 100, (0, 100)),
    (KW100, [p(1, 0)], 0, (0, 100)),
    # Zero is always allowed, and a target is never above what was proposed.
    (System(Range(10, 100)), [p(1, 5)], 5, (0, 100)),
    (System(Range(10, 100)), [p(1, 0)], 0, (0, 100)),
    # Bounds alone: the most that they leave.
    (KW100, [p(1, None, 0, 30)], 30, (0, 30)),
    (KW100, [p(1, None, -INF, 30)], 30, (0, 30)),
    (KW100, [p(1, None, 20, INF)], 100, (20, 100)),
    (KW100, [p(2, None, 0, 70), p(1, None, 0, 30)], 30, (0, 30)),
    (KW100, [p(2, None, 0, 30), p(1, 70)], 30, (0, 30)),
    (KW100, [p(2, 70), p(1, None, 0, 30)], 70, (0, 30)),
    # One's own bounds are for those below.
    (KW100, [p(1, 50, 0, 10)], 50, (0, 10)),
    # Nothing is available any more: the walk ends.
    (KW100, [p(3, None, 0, 50), p(2, None, 60, 80), p(1, 10)], 50, (60, 50)),
    (KW100, [p(3, 40, 0, 50), p(2, 70, 60, 80), p(1, 10)], 50, (60, 50)),
    (KW100, [p(1, None, 200, 300)], 100, (200, 100)),
    (
        System(Range(0, 22), Range(0, 4)),
        [p(3, None, 3, 10), p(2, None, 0, 3.5), p(1, 9)],
        0,
        (4, 0),
    ),
    # Of equal priorities the first counts as the more important.
    (KW100, [p(1, 20), p(1, 30)], 30, (0, 100)),
    # Inside the exclusion range: zero.
    (System(Range(0, 100), Range(0, 10)), [p(1, 6)], 0, (0, 100)),
    (System(Range(0, 100), Range(0, 10)), [p(1, 9.99)], 0, (0, 100)),
    (System(Range(0, 100), Range(0, 10)), [p(1, 4)], 0, (0, 100)),
    (System(Range(0, 100), Range(0, 10)), [p(1, 5)], 0, (0, 100)),
    (System(Range(0, 100), Range(0, 10)), [p(1, 10)], 10, (0, 100)),
    (System(Range(-100, 100), Range(-10, 10)), [p(1, 3)], 0, (-100, 100)),
    (System(Range(-100, 100), Range(-10, 20)), [p(1, 5)], 0, (-100, 100)),
    (System(Range(-100, 100), Range(-10, 10)), [p(1, 0)], 0, (-100, 100)),
    (System(Range(0, 100), Range(-10, 30)), [p(1, 1)], 0, (0, 100)),
    # An upper bound always binds: inside the exclusion range it leaves zero alone.
    (System(Range(0, 100), Range(0, 10)), [p(1, None, 5, 50)], 50, (10, 50)),
    (System(Range(0, 100), Range(0, 10)), [p(1, None, 0, 8)], 0, (0, 0)),
    (System(Range(0, 100), Range(0, 10)), [p(2, None, 0, 8), p(1, 7)], 0, (0, 0)),
    (System(Range(0, 100), Range(0, 10)), [p(2, None, 2, 8), p(1, 50)], 0, (10, 0)),
    (System(Range(0, 100), Range(-10, 10)), [p(2, None, 0, 5)], 0, (0, 0)),
    (System(Range(0, 100), Range(0, 10)), [p(1, None, 0, 10)], 10, (0, 10)),
    (System(Range(0, 100), Range(-10, 10)), [p(2, None, 0, 0), p(1, 50)], 0, (0, 0)),
    # No charger can be used.
    (System(Range(0, 0)), [p(1, 50)], 0, (0, 0)),
]


@pytest.mark.parametrize(("system", "proposals", "target", "left"), CASES)
def test_outcome(
    system: System, proposals: list[Proposal], target: float | None, left: tuple[float, float]
) -> None:
    outcome = resolve(proposals, system)
    assert outcome.target == target
    assert (outcome.available.lower, outcome.available.upper) == left


powers = st.floats(0, 200)


@st.composite
def proposals(draw: st.DrawFn) -> Proposal:
    power = draw(st.none() | powers)
    ends = draw(st.none() | st.tuples(powers, powers))
    bounds = EVERYTHING if ends is None else Range(min(ends), max(ends))
    return Proposal(draw(st.integers(0, 5)), power, bounds)


@given(st.lists(proposals(), max_size=6), st.floats(0, 150), st.floats(0, 20))
def test_target_is_allowed_and_what_is_left_is_narrower(
    wanted: list[Proposal], upper: float, excluded: float
) -> None:
    system = System(Range(0, upper), Range(0, min(excluded, upper)))
    outcome = resolve(wanted, system)
    assert (outcome.target is None) == (not wanted)
    if outcome.target is not None:
        assert 0 <= outcome.target <= upper
        assert not system.excludes(outcome.target) or outcome.target == 0
    if not outcome.available.is_empty():
        assert outcome.available.lower >= 0
        assert outcome.available.upper <= upper


@given(st.lists(proposals(), min_size=1, max_size=6), st.floats(0, 100))
def test_bounds_of_the_highest_priority_bind_everybody_below(
    wanted: list[Proposal], cap: float
) -> None:
    outcome = resolve([Proposal(9, None, Range(0, cap)), *wanted], KW100)
    assert outcome.target is not None
    assert outcome.target <= cap
