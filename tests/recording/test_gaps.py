"""When nobody recorded, and why."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis import given

from microgrid_sync.recording.gaps import BEFORE, KILLED, UNKNOWN_END, Coverage, gaps_of

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """Give a time."""
    return NOON + timedelta(minutes=minutes)


def covered(
    start: float, end: float, reason: str | None = None, state: str = "recorded"
) -> Coverage:
    """Make a note of a recorder."""
    return Coverage("site", state, at(start), at(end), reason)


def test_a_recorder_that_was_killed_and_one_that_was_stopped() -> None:
    found = gaps_of(
        [covered(0, 10), covered(12, 20, "it was stopped"), covered(21, 30)], None, at(33)
    )
    assert [(gap.start, gap.end, gap.reason) for gap in found] == [
        (at(10), at(12), KILLED),
        (at(20), at(21), "it was stopped"),
        (at(30), at(33), UNKNOWN_END),
    ]
    assert {gap.what for gap in found} == {"not recorded"}


def test_two_recorders_at_once_leave_no_gap() -> None:
    assert gaps_of([covered(0, 10, "stopped"), covered(5, 20), covered(2, 4)], None, at(20)) == []


def test_silence_and_loss_are_gaps_of_their_own() -> None:
    found = gaps_of(
        [
            covered(0, 30),
            covered(5, 7, "the site was not heard", "silent"),
            covered(9, 9, "12 values and more: the disk is full", "lost"),
        ]
    )
    assert [(gap.what, gap.start, gap.end) for gap in found] == [
        ("silent", at(5), at(7)),
        ("lost", at(9), at(9)),
    ]


def test_sites_have_gaps_each_for_itself() -> None:
    other = covered(10, 30)._replace(site="other")
    found = gaps_of([covered(0, 10), covered(20, 30), other], None, at(30))
    assert [(gap.site, gap.start) for gap in found] == [("site", at(10))]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_every_minute_is_covered_or_in_a_gap(
    spans: list[tuple[int, int]], start: int, length: int
) -> None:
    coverage = [covered(begin, begin + long) for begin, long in spans]
    found = gaps_of(coverage, at(start), at(start + length))
    for minute in range(start, start + length):
        moment = at(minute + 0.5)
        is_covered = any(one.since <= moment < one.until for one in coverage)
        in_gap = sum(gap.start <= moment < gap.end for gap in found)
        assert in_gap == int(not is_covered)
    assert gaps_of(coverage, None, at(start + length)) == [
        gap for gap in gaps_of(coverage, at(0), at(start + length)) if gap.reason != BEFORE
    ]


def test_a_time_before_a_site_was_recorded_is_a_gap_if_it_is_asked_for() -> None:
    notes = [covered(10, 30)]
    assert gaps_of(notes, None, at(30)) == []
    (gap,) = gaps_of(notes, at(0), at(30))
    assert (gap.start, gap.end, gap.reason) == (at(0), at(10), BEFORE)
    (gap,) = gaps_of([], at(0), at(5), ["site"])
    assert (gap.site, gap.start, gap.end, gap.reason) == ("site", at(0), at(5), BEFORE)
    # Of a time that is to come nothing is said.
    assert gaps_of(notes, at(40), at(35), ["site"]) == []
