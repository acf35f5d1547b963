"""Says what a recording has: its tables, their columns, and what their rows are. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from microgrid_sync.model import BatteryData, EVChargerData, InverterData, MeterData
from microgrid_sync.notebook.columns import COLUMNS

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
SECOND = 1_000_000
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

KINDS: dict[type, str] = {
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

TOTALS = tuple(name for names in TOTAL_COLUMNS.values() for name in names)

TABLES: dict[str, Table] = {
    **{
        name: Table(
            name,
            "samples",
            _OF_SAMPLES,
            {column: "text" if column in _WORDS else "number" for column, _ in COLUMNS[kind]},
        )
        for kind, name in KINDS.items()
    },
    "telemetry": Table("telemetry", "samples", _OF_SAMPLES, {"metrics": "json"}),
    "total": Table(
        "total", "totals", ("site", "timestamp"), dict.fromkeys(TOTALS, "number"), "first"
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


_UNITS = "w|var|va|a|v|hz|percent|wh|celsius"


def is_of_metric(column: str, metric: str) -> bool:
    """Tell whether a column is of a metric: named whole, or without the unit and for all phases."""
    wanted = re.escape(metric.strip().lower().replace("-", "_"))
    return re.fullmatch(rf"{wanted}(_phase_[123])?(_({_UNITS}))?", column) is not None
