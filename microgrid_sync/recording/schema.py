"""Says what a recording has: its tables, their columns, and the rows that values become. Pure."""

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from microgrid_sync.model import (
    BatteryData,
    Component,
    EVChargerData,
    InverterData,
    Metadata,
    MeterData,
)
from microgrid_sync.notebook.rows import COLUMNS, jsonable, row_of
from microgrid_sync.power.charger_set import PowerReport
from microgrid_sync.timeseries import Sample, Sample3Phase

Comparison = Literal["in", ">=", "<"]

Type = Literal["number", "integer", "text", "json", "time"]

What = Literal["samples", "totals", "results", "set-points"]

WHAT: tuple[What, ...] = ("samples", "totals", "results", "set-points")
"""What can be recorded, beside what always is: what a site is made of, and when it was recorded."""

KEY: dict[str, Type] = {
    "site": "text",
    "component_id": "integer",
    "timestamp": "time",
    "sequence": "integer",
}
"""What may be part of a row's key, and stands at its beginning, in this order."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000
"""In microseconds, which all times of rows are in."""


@dataclass(frozen=True)
class Table:
    """A table of a recording."""

    name: str
    """What it is called."""

    what: What | None
    """What it is part of; ``None`` if it is always recorded."""

    key: tuple[str, ...]
    """What tells its rows apart, of `KEY`."""

    values: Mapping[str, Type]
    """Its other columns."""

    merge: Literal["none", "first", "last"] = "none"
    """What becomes of a row whose key is there: nothing; or the columns that are known of the
    ``first`` row hold, or those of the ``last``."""

    @property
    def columns(self) -> dict[str, Type]:
        """All columns, in order."""
        return {name: KEY[name] for name in self.key} | dict(self.values)


class Row(NamedTuple):
    """A row of a table, as it is kept in a spool, too."""

    table: str
    site: str
    component_id: int
    """0 where the table has no components."""

    timestamp: int
    """Microseconds since 1970, in UTC."""

    sequence: int
    """Tells rows of the same timestamp apart."""

    values: Sequence[Any]
    """In the order of the table's columns; ``None`` for what is not known."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it apart from all others of its table."""
        known = self._asdict()
        return tuple(known[name] for name in TABLES[self.table].key)

    def cells(self) -> list[Any]:
        """Give its cells, in the order of all columns of its table."""
        return [*self.key, *self.values]


class Wanted(NamedTuple):
    """What is to be read of a table."""

    table: Table
    columns: Sequence[str]
    sites: Sequence[str] | None = None
    components: Sequence[int] | None = None
    start: int | None = None
    end: int | None = None

    def read(self) -> list[str]:
        """Name the columns to read: those of the key, too."""
        return [*self.table.key, *self.columns]

    def conditions(self) -> list[tuple[str, Comparison, Any]]:
        """Give what must hold for the rows: a column, a comparison, and what with."""
        found: list[tuple[str, Comparison, Any]] = []
        if self.sites is not None:
            found.append(("site", "in", [*self.sites]))
        if self.components is not None:
            found.append(("component_id", "in", [*self.components]))
        if self.start is not None:
            found.append(("timestamp", ">=", self.start))
        if self.end is not None:
            found.append(("timestamp", "<", self.end))
        return found


_WORDS = ("relay_state", "component_state", "cable_state", "errors")

_KINDS: dict[type, str] = {
    MeterData: "meter",
    BatteryData: "battery",
    InverterData: "inverter",
    EVChargerData: "ev_charger",
}

_OF_SAMPLES = ("site", "component_id", "timestamp", "sequence")

_PHASES = (1, 2, 3)

TOTAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "grid:power": ("grid_power_w",),
    "grid:current": tuple(f"grid_current_phase_{phase}_a" for phase in _PHASES),
    "grid:frequency": ("grid_frequency_hz",),
    "consumers:power": ("consumers_power_w",),
    "pv:power": ("pv_power_w",),
    "chp:power": ("chp_power_w",),
    "batteries:power": ("batteries_power_w",),
    "batteries:soc": ("batteries_soc_percent",),
    "chargers:power": ("chargers_power_w",),
    "chargers:current": tuple(f"chargers_current_phase_{phase}_a" for phase in _PHASES),
}
"""The columns of each total of a site, by its source."""

_TOTALS = tuple(name for names in TOTAL_COLUMNS.values() for name in names)
_PLACES = {name: place for place, name in enumerate(_TOTALS)}

TABLES: dict[str, Table] = {
    **{
        name: Table(
            name,
            "samples",
            _OF_SAMPLES,
            {column: "text" if column in _WORDS else "number" for column, _ in COLUMNS[kind]},
        )
        for kind, name in _KINDS.items()
    },
    "telemetry": Table("telemetry", "samples", _OF_SAMPLES, {"metrics": "json"}),
    "total": Table(
        "total", "totals", ("site", "timestamp"), dict.fromkeys(_TOTALS, "number"), "first"
    ),
    "result": Table(
        "result",
        "results",
        ("site", "timestamp", "sequence"),
        {"target_power_w": "number", "allocated_w": "number", "result": "text", "details": "json"},
    ),
    "allocation": Table(
        "allocation",
        "results",
        _OF_SAMPLES,
        {"allocation_w": "number", "status": "text", "reason": "text"},
    ),
    "set_point": Table(
        "set_point",
        "set-points",
        _OF_SAMPLES,
        {"kind": "text", "value": "number", "is_confirmed": "number", "error": "text"},
    ),
    "site": Table(
        "site",
        None,
        ("site", "timestamp"),
        {"url": "text", "timezone": "text", "fuse_a": "number", "components": "json"},
        "last",
    ),
    "coverage": Table(
        "coverage",
        None,
        ("site", "timestamp", "sequence"),
        {"until": "time", "state": "text", "reason": "text"},
        "last",
    ),
}
"""The tables of a recording, by name.

``total`` has a row for each second, with all totals; ``coverage`` one for each time in which a site
was recorded, was silent, or something was lost.
"""

SAMPLE_TABLES = tuple(name for name, table in TABLES.items() if table.what == "samples")


def micros(moment: datetime) -> int:
    """Give a time as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(time: int) -> datetime:
    """Give microseconds since 1970 as a time in UTC."""
    return _EPOCH + time * _MICROSECOND


def tables_of(what: Iterable[What]) -> list[Table]:
    """Name the tables that are needed to record something."""
    wanted = set(what)
    return [table for table in TABLES.values() if table.what is None or table.what in wanted]


class Sequences:
    """Numbers the samples of each component that have the same timestamp. One thread uses it.

    A sample that is sent once more, as servers do when a stream begins, has the number that it had
    before: what is different of two samples is part of the number. So nothing is twice, whoever
    records it how often, and nothing is missing where a server's clock stands still.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._last: dict[tuple[str, str, int], tuple[int, int, int]] = {}

    def next(self, row: Row) -> Row | None:
        """Give a row its number; ``None`` if it is the one before once more."""
        source = row.table, row.site, row.component_id
        check = zlib.crc32(msgspec.msgpack.encode(row.values))
        before = self._last.get(source)
        nth = 0
        if before is not None and before[0] == row.timestamp:
            if before[2] == check:
                return None
            nth = before[1] + 1
        self._last[source] = row.timestamp, nth, check
        return row._replace(sequence=nth << 32 | check)


def sample_row(site: str, value: Any) -> Row:
    """Give the row of what a component has sent."""
    for kind, table in _KINDS.items():
        if isinstance(value, kind):
            cells: Sequence[Any] = [_cell(get(value)) for _, get in COLUMNS[kind]]
            break
    else:
        table = "telemetry"
        known = jsonable(row_of(value))
        cells = [_json({name: known[name] for name in known if name not in KEY})]
    return Row(table, site, int(value.component_id), micros(value.timestamp), 0, cells)


def total_row(site: str, source: str, sample: Sample[Any] | Sample3Phase[Any]) -> Row | None:
    """Give the row of a total, with nothing in the columns of others; ``None`` if it is unknown."""
    found = [*sample] if isinstance(sample, Sample3Phase) else [sample.value]
    if all(value is None for value in found):
        return None
    cells: list[float | None] = [None] * len(_TOTALS)
    for name, value in zip(TOTAL_COLUMNS[source], found, strict=True):
        cells[_PLACES[name]] = None if value is None else value.base_value + 0.0
    return Row("total", site, 0, micros(sample.timestamp), 0, cells)


def report_rows(site: str, report: PowerReport, now: datetime) -> Iterator[Row]:
    """Give the rows of a report of a pool: its result, and what each charger may draw and why."""
    row = row_of(report)
    result = report.distribution_result
    details = {
        name: sorted(map(int, value)) if isinstance(value, frozenset | set) else value.as_watts()
        for name in ("succeeded_power", "failed_power", "excess_power", "failed_components")
        if (value := getattr(result, name, None)) is not None
    }
    error = getattr(result, "msg", None)
    if error is not None:
        details["error"] = _text(str(error))
    cells = [row["target_power_w"], row["allocated_w"], row["result"], _json(details)]
    stamp = micros(now)
    yield Row("result", site, 0, stamp, 0, cells)
    for number, one in report.chargers.items():
        cells = [one.allocation.as_watts() + 0.0, one.status.value, _text(one.reason)]
        yield Row("allocation", site, int(number), stamp, 0, cells)


def set_point_row(
    site: str, component_id: int, kind: str, value: float, error: str | None, now: datetime
) -> Row:
    """Give the row of a set-point that has ended.

    Args:
        site: The site.
        component_id: The component.
        kind: ``active power`` or ``reactive power``.
        value: What was set, in W or VAr.
        error: Why it was not confirmed; ``None`` if it was.
        now: When it has ended.
    """
    cells = [kind, value, float(error is None), None if error is None else _text(error)]
    return Row("set_point", site, component_id, micros(now), 0, cells)


def site_row(
    site: str, url: str, metadata: Metadata | None, components: Iterable[Component],
    fuse_a: float | None, now: datetime,
) -> Row:  # fmt: skip
    """Give the row of what a site is made of.

    Args:
        site: The site.
        url: Its URL.
        metadata: Where it is; ``None`` if that is not known.
        components: Its components.
        fuse_a: What its main fuse is rated; ``None`` if that is not known.
        now: Since when that is known.
    """
    zone = None if metadata is None or metadata.location is None else metadata.location.timezone
    listed = [
        {
            "component_id": int(one.component_id),
            "category": one.category.name.lower(),
            "name": None if one.name is None else _text(one.name),
        }
        for one in sorted(components, key=lambda one: one.component_id)
    ]
    cells = [_text(url), None if zone is None else zone.key, fuse_a, _json(listed)]
    return Row("site", site, 0, micros(now), 0, cells)


def coverage_row(
    site: str, run: int, state: str, since: datetime, until: datetime, reason: str | None
) -> Row:
    """Give the row of a time in which a site was recorded, was silent, or something was lost.

    Args:
        site: The site.
        run: Which recorder says so: a number of its own.
        state: ``recorded``, ``silent`` or ``lost``.
        since: When it began.
        until: When it was still so.
        reason: Why it was so; of ``recorded``, why it ended.
    """
    # Two recorders may begin at the same time.
    sequence = run << 32 | zlib.crc32(state.encode())
    cells = [micros(until), state, None if reason is None else _text(reason)]
    return Row("coverage", site, 0, micros(since), sequence, cells)


def merged(rows: Iterable[Row]) -> list[Row]:
    """Make one row of those of the same key; of tables whose rows merge."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = row.table, *row.key
        before = found.get(key)
        if before is None:
            found[key] = row
            continue
        first, last = before.values, row.values
        if TABLES[row.table].merge == "last":
            first, last = last, first
        cells = [one if one is not None else other for one, other in zip(first, last, strict=True)]
        found[key] = before._replace(values=cells)
    return list(found.values())


def start_of(time: int, period: int) -> int:
    """Give the start of the period that a time is in; both in microseconds."""
    return time - time % period


def every(time: int, seconds: float) -> int:
    """Give the number of the interval that a time is in."""
    return time // round(seconds * _SECOND)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Give a text as databases can have it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    return _text(json.dumps(value, allow_nan=False)).replace("\\u0000", "\\ufffd")
