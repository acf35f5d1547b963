"""The rows of a recording: what tells them apart, and how they become one."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
from frequenz.quantities import Current, Power
from hypothesis import given

from microgrid_sync.model import MeterData
from microgrid_sync.notebook.columns import COLUMNS
from microgrid_sync.recording.rows import Sequences, sample_row, total_row
from microgrid_sync.recording.schema import TABLES, Row, is_of_metric, merged, micros, moment_of
from microgrid_sync.timeseries import Sample, Sample3Phase

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)


def row(value: float, timestamp: int = 0, component: int = 7) -> Row:
    """Make a row of a charger's allocation."""
    return Row("allocation", "site", component, timestamp, 0, [value, "working", ""])


def numbered(*rows: Row) -> list[int | None]:
    """Give the numbers that rows get, one after the other."""
    sequences = Sequences()
    found = [sequences.next(one) for one in rows]
    return [None if one is None else one.sequence for one in found]


def test_a_sample_that_comes_once_more_is_the_same() -> None:
    first, again, later = numbered(row(1.0), row(1.0), row(1.0, timestamp=1))
    assert again is None
    assert first is not None
    assert later is not None
    # And so it is after the recorder was started again: the database then knows it.
    assert numbered(row(1.0)) == [first]


def test_samples_of_a_clock_that_stands_still_differ() -> None:
    found = numbered(row(1.0), row(2.0), row(1.0))
    assert found[0] != found[1]
    # The same once more is what is there already.
    assert found[2] == found[0]
    # Also after a start: what is different has another number.
    assert numbered(row(3.0))[0] not in found


def test_components_are_numbered_each_for_itself() -> None:
    a, b = numbered(row(1.0), row(1.0, component=8))
    assert a == b


@given(st.integers(min_value=-(10**15), max_value=10**16))
def test_times_keep_their_microseconds(time: int) -> None:
    assert micros(moment_of(time)) == time


def test_a_sample_has_all_columns_and_no_nan() -> None:
    zero = (0.0, 0.0, 0.0)
    data = MeterData(2, NOW, math.nan, zero, 0.0, zero, zero, zero, 50.0)
    found = sample_row("site", data)
    assert found.table == "meter"
    assert found.timestamp == micros(NOW)
    assert len(found.cells()) == len(TABLES["meter"].columns)
    names = [name for name, _ in COLUMNS[MeterData]]
    assert found.values[names.index("active_power_w")] is None


def test_totals_of_a_second_are_one_row() -> None:
    rows = [
        total_row("site", "grid:power", Sample(NOW, Power.from_watts(5.0))),
        total_row(
            "site",
            "grid:current",
            Sample3Phase(NOW, *(Current.from_amperes(n) for n in (1.0, 2.0, 3.0))),
        ),
        total_row("site", "grid:power", Sample(NOW + timedelta(seconds=1), Power.from_watts(6.0))),
    ]
    found = merged(one for one in rows if one is not None)
    first, second = (dict(zip(TABLES["total"].values, one.values, strict=True)) for one in found)
    assert first["grid_power_w"] == 5.0
    assert [first[f"grid_current_phase_{n}_a"] for n in (1, 2, 3)] == [1.0, 2.0, 3.0]
    assert second["grid_power_w"] == 6.0
    assert second["grid_current_phase_1_a"] is None
    assert total_row("site", "grid:power", Sample(NOW, None)) is None


_THREE = st.lists(st.none() | st.integers(0, 9), min_size=3, max_size=3)


@given(st.lists(st.tuples(st.integers(0, 3), _THREE), max_size=12))
def test_merging_keeps_what_was_known_first_or_last(given_rows: list[tuple[int, Any]]) -> None:
    def of(table: str) -> list[Row]:
        width = len(TABLES[table].values)
        return [
            Row(table, "site", 0, time, 0, [*cells, *[None] * (width - 3)][:width])
            for time, cells in given_rows
        ]

    for table, order in (("total", 1), ("coverage", -1)):
        expected: dict[int, list[Any]] = {}
        for time, cells in given_rows[::order]:
            known = expected.setdefault(time, [None] * 3)
            for place, cell in enumerate(cells):
                known[place] = cell if known[place] is None else known[place]
        found = {one.timestamp: list(one.values[:3]) for one in merged(of(table))}
        assert found == expected


def test_metrics_are_named_with_or_without_their_unit() -> None:
    assert is_of_metric("active_power_w", "active_power")
    assert is_of_metric("active_power_phase_2_w", "active-power")
    assert is_of_metric("current_phase_1_a", "current")
    assert is_of_metric("current_phase_1_a", "current_phase_1_a")
    assert not is_of_metric("active_power_inclusion_lower_bound_w", "active_power")
    assert not is_of_metric("reactive_power_var", "active_power")
