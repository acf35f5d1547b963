"""What a recorder notes of when a site was recorded."""

import itertools
from datetime import UTC, datetime, timedelta

from microgrid_sync.recording.coverage import CoverageNotes
from microgrid_sync.recording.schema import Row, moment_of

START = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)


class Noted:
    """The notes of a site, as a database has them: one row for each key."""

    def __init__(self) -> None:
        self.notes = CoverageNotes("site", 1, START)
        self.rows: dict[tuple[int, int], Row] = {}

    def note(
        self, clock: float, now: float, *, silence: float | None = None, lost: str | None = None,
        ended: str | None = None,
    ) -> None:  # fmt: skip
        """Note at so many seconds after the start, by the clock and by the monotonic one."""
        moment = START + timedelta(seconds=clock)
        for row in self.notes.note(moment, now, silence=silence, lost=lost, ended=ended):
            self.rows[row.timestamp, row.sequence] = row

    def spans(self, state: str) -> list[tuple[float, float, str | None]]:
        """Give from when to when it was so, in seconds after the start, and why."""
        return sorted(
            (
                (moment_of(row.timestamp) - START).total_seconds(),
                (moment_of(row.values[0]) - START).total_seconds(),
                row.values[2],
            )
            for row in self.rows.values()
            if row.values[1] == state
        )


def test_pieces_are_of_an_hour_and_a_clock_that_steps_leaves_a_gap() -> None:
    noted = Noted()
    for second in range(0, 9001, 10):
        noted.note(second, second)
    # The machine slept for three hours: its monotonic clock stood still.
    noted.note(9000 + 10_800, 9010)
    noted.note(9000 + 10_810, 9020)
    spans = noted.spans("recorded")
    assert all(end - since <= 3600 for since, end, _ in spans)
    steps = [after[0] - before[1] for before, after in itertools.pairwise(spans)]
    assert [step for step in steps if step] == [10_800]


def test_silence_began_when_the_site_was_heard_last() -> None:
    noted = Noted()
    noted.note(0, 0)
    for second in range(60, 120):
        noted.note(second, second, silence=second - 40)
    noted.note(120, 120)
    noted.note(200, 200, silence=20)
    spans = noted.spans("silent")
    assert [(since, end) for since, end, _ in spans] == [(40, 119), (180, 200)]
    assert {why for _, _, why in spans} == {"the site was not heard"}
    assert noted.spans("recorded") == [(0, 200, None)]


def test_losses_in_a_row_are_one_span_and_the_newest_words_tell() -> None:
    noted = Noted()
    noted.note(0, 0)
    noted.note(1, 1, lost="3 values")
    noted.note(2, 2, lost="5 values")
    noted.note(3, 3)
    noted.note(4, 4, lost="1 values")
    assert noted.spans("lost") == [(1, 2, "5 values"), (4, 4, "1 values")]


def test_end_tells_why_in_the_last_piece_alone() -> None:
    noted = Noted()
    noted.note(0, 0)
    noted.note(3600, 3600, ended="closed")
    assert noted.spans("recorded") == [(0, 1800, None), (1800, 3600, "closed")]


def test_notes_are_due_once_a_second() -> None:
    noted = Noted()
    assert noted.notes.is_due(0.0)
    assert not noted.notes.has_begun
    noted.note(0, 0)
    assert noted.notes.has_begun
    assert not noted.notes.is_due(0.9)
    assert noted.notes.is_due(1.0)
