"""Makes the rows of a recording of what a site says. Pure."""

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from microgrid_sync.model import Component, Metadata
from microgrid_sync.notebook.columns import COLUMNS, jsonable
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.power.charger_set import PowerReport
from microgrid_sync.recording.schema import KEY, KINDS, SECOND, TOTAL_COLUMNS, TOTALS, Row, micros
from microgrid_sync.timeseries import Sample, Sample3Phase

_PLACES = {name: place for place, name in enumerate(TOTALS)}


class Sequences:
    """Numbers samples that have the same timestamp. One thread uses it.

    The number is made of what is in a sample. So one that is sent once more, as servers do when a
    stream begins, is the same for whoever records it how often; and nothing is missing where a
    server's clock stands still.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._last: dict[tuple[str, str, int], tuple[int, int]] = {}

    def next(self, row: Row) -> Row | None:
        """Give a row its number; ``None`` if it is the one before once more."""
        source = row.table, row.site, row.component_id
        text = msgspec.msgpack.encode(row.values)
        # Positive, as large as databases have integers.
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
        if self._last.get(source) == (row.timestamp, number):
            return None
        self._last[source] = row.timestamp, number
        return row._replace(sequence=number)


def sample_row(site: str, value: Any) -> Row:
    """Give the row of what a component has sent."""
    kind = next((one for one in KINDS if isinstance(value, one)), None)
    if kind is not None:
        cells: Sequence[Any] = [_cell(get(value)) for _, get in COLUMNS[kind]]
    else:
        known = jsonable(row_of(value))
        cells = [_json({name: known[name] for name in known if name not in KEY})]
    table = "telemetry" if kind is None else KINDS[kind]
    return Row(table, site, int(value.component_id), micros(value.timestamp), 0, cells)


def total_row(site: str, source: str, sample: Sample[Any] | Sample3Phase[Any]) -> Row | None:
    """Give the row of a total, with nothing in the columns of others; ``None`` if it is unknown."""
    found = [*sample] if isinstance(sample, Sample3Phase) else [sample.value]
    if all(value is None for value in found):
        return None
    cells: list[float | None] = [None] * len(TOTALS)
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
    site: str, component_id: int, kind: str, value: float, error: str | None, *, now: datetime
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
    site: str, url: str, metadata: Metadata | None, components: Iterable[Component] | None, *,
    fuse_a: float | None, now: datetime,
) -> Row:  # fmt: skip
    """Give the row of what a site is made of.

    Args:
        site: The site.
        url: Its URL.
        metadata: Where it is; ``None`` if that is not known.
        components: Its components; ``None`` if they are not known.
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
        for one in sorted(components or (), key=lambda one: one.component_id)
    ]
    cells = [
        _text(url),
        None if zone is None else zone.key,
        fuse_a,
        None if components is None else _json(listed),
    ]
    return Row("site", site, 0, micros(now), 0, cells)


def coverage_row(
    site: str, run: int, state: str, since: datetime, until: datetime, *, reason: str | None
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


def interval_of(time: int, seconds: float) -> int:
    """Give the number of the interval that a time is in."""
    return time // round(seconds * SECOND)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Give a text as databases can have it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    return _text(json.dumps(value, allow_nan=False)).replace("\\u0000", "\\ufffd")
