"""Shows values as HTML: what Jupyter puts below a cell."""

import functools
import html
import math
import time
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from microgrid_sync.client import ClientStats
from microgrid_sync.ev_charger_pool import EVChargerPool, EVChargerPoolReport
from microgrid_sync.limit import Limit
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.model.shown import Tabular, kilowatts, moment, number, short
from microgrid_sync.notebook.drawing import draw
from microgrid_sync.notebook.markup import table
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.power.charger_set import PowerReport
from microgrid_sync.power.limit_report import LimitReport
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.timeseries import SystemBounds
from microgrid_sync.topology import Topology

UNITS = {
    "w": "W",
    "var": "VAr",
    "va": "VA",
    "a": "A",
    "v": "V",
    "hz": "Hz",
    "wh": "Wh",
    "varh": "VArh",
    "vah": "VAh",
    "percent": "%",
    "celsius": "°C",
    "degrees": "°",
    "s": "s",
    "pa": "Pa",
}
"""The units at the ends of columns' names, as people write them."""

_SPECIAL = ("meters_per_second", "m/s"), ("watts_per_square_meter", "W/m²")

_REPORT_TIMEOUT = 1.5
"""Seconds for a report of a pool in which all chargers are known."""

_MOST_ROWS = 200
"""So many rows of a list are shown."""


def heading(column: str) -> tuple[str, str]:
    """Take a column's name apart: what it is, and its unit, as people write them."""
    for end, unit in _SPECIAL:
        if column.endswith(f"_{end}"):
            return column.removesuffix(f"_{end}").replace("_", " "), unit
    name, _, end = column.rpartition("_")
    if name and end in UNITS:
        return name.replace("_", " "), UNITS[end]
    return column.replace("_", " "), ""


def text_of(value: Any) -> str:
    """Write a value of a row down; "-" for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, float):
        return number(value)
    return str(value)


def _row_table(row: dict[str, Any], caption: str) -> str:
    found = []
    for column, value in row.items():
        name, unit = heading(column)
        text = text_of(value)
        found.append((name, text if text == "-" else f"{text} {unit}".rstrip()))
    return table((), found, caption)


@functools.singledispatch
def html_of(value: Any) -> str:
    """Show a value as HTML."""
    if is_dataclass(value):
        rows = [
            (field.name.replace("_", " "), short(getattr(value, field.name)))
            for field in fields(value)
            if field.repr
        ]
        return table((), rows, type(value).__name__)
    return html.escape(repr(value))


@html_of.register
def _(value: Tabular) -> str:
    return _row_table(row_of(value), type(value).__name__)


def html_of_list(values: Sequence[Any]) -> str:
    """Show components, connections or the like as one table; what nobody has is left out."""
    rows = [row_of(value) for value in values[:_MOST_ROWS]]
    if all(row.get("category") not in {None, "none"} for row in rows):
        # The server's own word says nothing more.
        rows = [{c: v for c, v in row.items() if c != "category_name"} for row in rows]
    columns = [c for c in (rows[0] if rows else ()) if any(row[c] is not None for row in rows)]
    heads = [f"{name} ({unit})" if unit else name for name, unit in map(heading, columns)]
    texts = [["" if row[c] is None else text_of(row[c]) for c in columns] for row in rows]
    more = len(values) - len(rows)
    return table(heads, texts, f"{more} more are not shown" if more > 0 else "")


@html_of.register
def _(stats: ClientStats) -> str:
    failing = "-" if stats.failing_since is None else moment(stats.failing_since)
    counters = table(
        ("calls", "retries", "failures", "resent", "failing since"),
        [(*map(str, (stats.calls, stats.retries, stats.failures, stats.resent)), failing)],
    )
    return counters + (html_of_list(stats.streams) if stats.streams else "")


@html_of.register
def _(bounds: SystemBounds) -> str:
    texts = [("inclusion", bounds.inclusion_bounds), ("exclusion", bounds.exclusion_bounds)]
    rows = [
        (name, "-", "-") if one is None else (name, short(one.lower), short(one.upper))
        for name, one in texts
    ]
    return table(("bounds", "lower", "upper"), rows, moment(bounds.timestamp))


@html_of.register
def _(report: PowerReport) -> str:
    target = "none" if report.target_power is None else short(report.target_power)
    is_commanded = report.target_power is not None or any(
        one.allocation.as_watts() for one in report.chargers.values()
    )
    rows = [
        (
            str(charger),
            # Without a set-point of ours nobody knows what it may.
            kilowatts(one.allocation.as_watts()) if is_commanded else "-",
            kilowatts(None if one.draw is None else one.draw.as_watts()),
            one.status.value,
            one.reason,
        )
        for charger, one in sorted(report.chargers.items())
    ]
    return table(("charger", "may draw", "draws", "status", "why"), rows, f"target: {target}")


@html_of.register
def _(report: LimitReport) -> str:
    def of_phases(name: str, values: Sequence[Any] | None) -> tuple[str, ...]:
        return (name, *("-" if values is None else short(v) for v in values or (None,) * 3))

    found = [of_phases("house", report.house), of_phases("headroom", report.headroom)]
    if report.thermal_state is not None:
        found.append(of_phases("thermal state", report.thermal_state))
    return table(
        ("", "phase 1", "phase 2", "phase 3"), found, f"{moment(report.timestamp)}: {report.reason}"
    )


@html_of.register
def _(limit: Limit) -> str:
    rows = [("chargers", ", ".join(map(str, sorted(limit.chargers))))]
    rows += [(f"phases of charger {i}", rotation) for i, rotation in limit.rotations.items()]
    report = limit.report
    return table((), rows, repr(limit)[1:-1]) + ("" if report is None else html_of(report))


@html_of.register
def _(pool: EVChargerPool) -> str:
    chargers = ", ".join(map(str, sorted(pool.component_ids)))
    rows = [("chargers", chargers), ("power", pool.power.expression)]
    report = _newest_report(pool)
    told = "nothing is known of it" if report is None else html_of(report)
    return table((), rows, repr(pool)[1:-1]) + told


def _newest_report(pool: EVChargerPool) -> EVChargerPoolReport | None:
    try:
        receiver = pool.power_status.new_receiver(maxsize=1)
    except ReceiverStoppedError:
        return None
    with receiver:
        deadline = time.monotonic() + _REPORT_TIMEOUT
        newest: EVChargerPoolReport | None = None
        # The first report may come before the chargers have said anything.
        while newest is None or any(one.draw is None for one in newest.chargers.values()):
            try:
                newest = receiver.receive(timeout=max(0.0, deadline - time.monotonic()))
            except (TimeoutError, ReceiverStoppedError):
                break
        return newest


@html_of.register
def _(topology: Topology) -> str:
    problems = "".join(f"<li>{html.escape(problem)}</li>" for problem in topology.problems())
    listed = f"<p>Problems:</p><ul>{problems}</ul>" if problems else ""
    return draw(topology)._repr_html_() + listed


@html_of.register
def _(microgrid: Microgrid) -> str:
    return html_of(microgrid.topology)
