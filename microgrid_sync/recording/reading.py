"""Reads recordings back, as pandas DataFrames. It needs the extra ``notebook``."""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self
from zoneinfo import ZoneInfo

from microgrid_sync.recording.destination import Destination, default_spool, destination_of
from microgrid_sync.recording.gaps import EARLIER, UNKNOWN_END, Coverage, Gap, gaps_of
from microgrid_sync.recording.schema import (
    KEY,
    SAMPLE_TABLES,
    TABLES,
    Row,
    Table,
    Wanted,
    is_of_metric,
    micros,
    moment_of,
)
from microgrid_sync.recording.spool import SpoolError, rows_in
from microgrid_sync.recording.store import StoreError

if TYPE_CHECKING:
    from pandas import DataFrame

_logger = logging.getLogger(__name__)

_KNOWN_FOR = 10.0
"""Seconds for which it is remembered what sites are made of."""

_PIECE = timedelta(hours=2)
"""A note of a recorder is of an hour at the most; one that began so long ago has ended."""

NO_NOTES = ": it has no notes of a site; 'record FILE' writes samples alone, 'record --to' both"
"""Why a recording does not say something."""

_NOW = timedelta(seconds=5)
"""What was recorded so short a time ago is being recorded."""


class _Source(Protocol):
    """Where a recording is read."""

    def read(self, wanted: Wanted) -> "DataFrame":
        """Give rows: times as integers, in microseconds."""

    def close(self) -> None:
        """Let go of it."""


class Recording:
    """A recording that is there. Made by `open`; may be used while it is being recorded.

    Each method gives a DataFrame whose index is the time, in UTC. ``start`` and ``end`` are times
    with a zone, or texts such as ``"2026-11-25T06:00+01:00"``; in UTC if they have none. What is at
    the end itself is not given.
    """

    def __init__(self, source: _Source, name: str) -> None:
        """Read from a source; see `open`."""
        self._source = source
        self._name = name
        self._sites: DataFrame | None = None
        self._sites_at = 0.0

    def __repr__(self) -> str:
        """Name it."""
        return f"<Recording {self._name}>"

    @property
    def name(self) -> str:
        """Where it is, without secrets."""
        return self._name

    def close(self) -> None:
        """Let go of it. Any number of times."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def sites(self) -> list[str]:
        """The names of the sites."""
        return sorted({*self._site_rows()["site"]})

    def components(self, *, site: str | None = None) -> "DataFrame":
        """Give the components: ``site``, ``component_id``, ``category`` and ``name``."""
        import pandas as pd  # noqa: PLC0415 - an extra

        found: dict[tuple[str, int], dict[str, Any]] = {}
        rows = self._site_rows()
        for name, text in zip(rows["site"], rows["components"], strict=True):
            if site is None or name == site:
                # A site that was never heard is there without them.
                for one in json.loads(text) if isinstance(text, str) else ():
                    found[name, one["component_id"]] = {"site": name, **one}
        columns = ["site", "component_id", "category", "name"]
        return pd.DataFrame([found[key] for key in sorted(found)], columns=columns)

    def fuse(self, site: str, at: datetime | None = None) -> float | None:
        """Give the rating of a site's main fuse in A; ``None`` if it is not known.

        Args:
            site: The site.
            at: When; what was told last unless given.
        """
        found = self._last(site, "fuse_a", at)
        return None if found is None else float(found)

    def timezone(self, site: str, at: datetime | None = None) -> str | None:
        """Give the name of a site's time zone; ``None`` if it is not known. See `fuse`."""
        found = self._last(site, "timezone", at)
        return None if found is None else str(found)

    def samples(
        self,
        component: int | str | Iterable[int] | None = None,
        metric: str | Iterable[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        *,
        site: str | None = None,
    ) -> "DataFrame":
        """Give what components have sent.

        Args:
            component: An ID, several, or a category such as ``"ev-charger"``; all unless given.
            metric: What of it: a column such as ``"active_power_w"``, or without the unit and for
                all phases such as ``"active_power"`` and ``"current"``; several; all unless given.
            start: The first time.
            end: The time after the last one.
            site: The site; all unless given.

        Returns:
            The columns ``site``, ``component_id`` and those of the metrics.

        Raises:
            ValueError: If there is no such component, category or metric.
            OSError: If it cannot be read.
        """
        import pandas as pd  # noqa: PLC0415 - an extra

        wanted = [metric] if isinstance(metric, str) else None if metric is None else [*metric]
        numbers = self._numbers(component, site)
        frames = []
        known: set[str] = set()
        for name in SAMPLE_TABLES:
            columns = [*TABLES[name].values]
            if name == "telemetry":
                frame = self._read(name, columns, site, numbers, start=start, end=end)
                frame = _spread(frame)
                columns = [one for one in frame.columns if one not in KEY]
            known |= {*columns}
            chosen = _chosen(columns, wanted)
            if not chosen:
                continue
            if name != "telemetry":
                frame = self._read(name, chosen, site, numbers, start=start, end=end)
            frame = frame[["site", "component_id", "timestamp", "sequence", *chosen]]
            if len(frame):
                frames.append(frame)
        for one in wanted or ():
            if not any(is_of_metric(column, one) for column in known):
                raise ValueError(
                    f"there is no metric {one!r}; there are {', '.join(sorted(known))}"
                )
        if not frames:
            return _indexed(pd.DataFrame(columns=["site", "component_id", "timestamp"]))
        found = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
        found = found.sort_values(["timestamp", "site", "component_id", "sequence"], kind="stable")
        return _indexed(found.drop(columns="sequence"))

    def totals(
        self,
        metric: str | Iterable[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        *,
        site: str | None = None,
    ) -> "DataFrame":
        """Give the totals of sites, a row for each second.

        Args:
            metric: Such as ``"grid_power"`` or ``"grid_current"``; all that are known unless given.
            start: See `samples`.
            end: Likewise.
            site: Likewise.
        """
        wanted = [metric] if isinstance(metric, str) else None if metric is None else [*metric]
        columns = [*TABLES["total"].values]
        for one in wanted or ():
            if not any(is_of_metric(column, one) for column in columns):
                raise ValueError(f"there is no total {one!r}; there are {', '.join(columns)}")
        chosen = _chosen(columns, wanted)
        found = self._read("total", chosen, site, start=start, end=end)
        if wanted is None:
            found = found.drop(columns=[one for one in chosen if found[one].isna().all()])
        return _indexed(found.sort_values(["timestamp", "site"], kind="stable"))

    def results(
        self,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        *,
        site: str | None = None,
    ) -> "DataFrame":
        """Give what came of distributing power to EV chargers; see `samples` for the arguments."""
        return self._plain("result", start, end, site)

    def allocations(
        self,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        *,
        site: str | None = None,
    ) -> "DataFrame":
        """Give what each charger was allowed, and why; see `samples` for the arguments."""
        return self._plain("allocation", start, end, site)

    def set_points(
        self,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        *,
        site: str | None = None,
    ) -> "DataFrame":
        """Give the set-points that were sent; see `samples` for the arguments."""
        return self._plain("set_point", start, end, site)

    def gaps(
        self,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        *,
        site: str | None = None,
    ) -> "DataFrame":
        """Give the times in which nobody recorded, a site was silent, or something was lost.

        Args:
            start: See `samples`.
            end: Likewise; now unless given.
            site: Likewise.

        Returns:
            The columns ``site``, ``start``, ``end``, ``seconds``, ``what`` and ``reason``.
        """
        import pandas as pd  # noqa: PLC0415 - an extra

        found = [
            {
                "site": gap.site,
                "start": gap.start,
                "end": gap.end,
                "seconds": (gap.end - gap.start).total_seconds(),
                "what": gap.what,
                "reason": gap.reason,
            }
            for gap in self.gaps_between(_moment(start), _moment(end), site=site)
        ]
        columns = ["site", "start", "end", "seconds", "what", "reason"]
        return pd.DataFrame(found, columns=columns)

    def gaps_between(
        self, start: datetime | None, end: datetime | None, *, site: str | None = None
    ) -> list[Gap]:
        """Give the same as values: see `gaps`."""
        if start is not None and end is not None and end < start:
            raise ValueError(f"the end, {end}, is before the start, {start}")
        before = None if start is None else start - _PIECE
        columns = ["until", "state", "reason"]
        if not self.sites:
            raise ValueError(f"{self._name} does not say when it was recorded{NO_NOTES}")
        rows = self._read("coverage", columns, site, start=before, end=end)
        now = datetime.now(UTC)
        coverage = [
            Coverage(
                row.site,
                row.state,
                row.timestamp.to_pydatetime(),
                row.until.to_pydatetime(),
                row.reason if isinstance(row.reason, str) else None,
            )
            for row in rows.itertuples()
        ]
        is_until_now = end is None or end >= now
        latest = now if end is None else min(end, now)
        begun = self._begun(site)
        if before is not None:
            # Who has been recorded before is there with what he had last, however long ago.
            coverage += [
                Coverage(name, "recorded", first, before, EARLIER)
                for name, first in begun.items()
                if first < before
            ]
        return [
            gap
            for gap in gaps_of(coverage, start, latest, begun)
            if not (is_until_now and gap.reason == UNKNOWN_END and now - gap.start < _NOW)
        ]

    def _begun(self, site: str | None) -> dict[str, datetime]:
        """Give when each site was recorded first."""
        rows = self._site_rows()
        first = rows.groupby("site")["timestamp"].min()
        return {
            str(name): moment_of(int(time_))
            for name, time_ in first.items()
            if site is None or name == site
        }

    def day(self, day: date, zone: str | None) -> tuple[datetime, datetime]:
        """Give the first moment of a day in a time zone, and that after its last one."""
        here = UTC if zone is None else ZoneInfo(zone)
        start = datetime.combine(day, time(), here)
        end = datetime.combine(day + timedelta(days=1), time(), here)
        return start.astimezone(UTC), end.astimezone(UTC)

    def _check(self, site: str | None) -> None:
        """See whether there is a site of that name, where names are known."""
        known = self.sites
        if site is not None and known and site not in known:
            raise ValueError(f"there is no site {site!r}; there are {', '.join(known)}")

    def _plain(
        self, table: str, start: datetime | str | None, end: datetime | str | None, site: str | None
    ) -> "DataFrame":
        found = self._read(table, [*TABLES[table].values], site, start=start, end=end)
        found = found.sort_values(["timestamp", "sequence"], kind="stable")
        return _indexed(found.drop(columns="sequence"))

    def _numbers(
        self, component: int | str | Iterable[int] | None, site: str | None
    ) -> list[int] | None:
        if component is None:
            return None
        self._check(site)
        known = self.components(site=site)
        if isinstance(component, str):
            category = component.strip().lower().replace("-", "_")
            found = known[known["category"] == category]["component_id"]
            if not len(found):
                there = ", ".join(sorted({*known["category"]})) or "none"
                raise ValueError(f"no component is of category {component!r}; there are {there}")
            return sorted({*map(int, found)})
        numbers = [component] if isinstance(component, int) else [*map(int, component)]
        for one in numbers:
            if len(known) and one not in {*known["component_id"]}:
                listed = ", ".join(map(str, sorted({*known["component_id"]})))
                raise ValueError(f"there is no component {one}; there are {listed}")
        return numbers

    def _site_rows(self) -> "DataFrame":
        now: float = monotonic()
        if self._sites is None or now - self._sites_at > _KNOWN_FOR:
            table = TABLES["site"]
            rows = self._source.read(Wanted(table, [*table.values]))
            self._sites = rows.sort_values("timestamp")
            self._sites_at = now
        return self._sites

    def _last(self, site: str, column: str, at: datetime | None) -> Any:
        rows = self._site_rows()
        found = rows[rows["site"] == site].dropna(subset=[column])
        if at is not None and len(before := found[found["timestamp"] < micros(at)]):
            found = before
        return found[column].iloc[-1] if len(found) else None

    def _read(
        self,
        table: str,
        columns: Sequence[str],
        site: str | None,
        components: Sequence[int] | None = None,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
    ) -> "DataFrame":
        import pandas as pd  # noqa: PLC0415 - an extra

        self._check(site)
        begin, until = _moment(start), _moment(end)
        found = self._source.read(
            Wanted(
                TABLES[table],
                columns,
                None if site is None else [site],
                components if "component_id" in TABLES[table].key else None,
                None if begin is None else micros(begin),
                None if until is None else micros(until),
            )
        )
        kinds = TABLES[table].columns
        for name in found.columns:
            if kinds[name] == "time":
                found[name] = pd.to_datetime(found[name], unit="us", utc=True)
            elif kinds[name] == "number":
                found[name] = found[name].astype("float64")
        return found


def open(destination: str | Path) -> Recording:  # noqa: A001 - recording.open is what it is called
    """Open a recording to read it.

    Args:
        destination: What it was recorded to: see `destination_of`. Of a file that is not finished
            its part is read.

    Raises:
        ValueError: If it is no destination.
        OSError: If there is no recording, or it cannot be read.
        ImportError: If an extra is not installed; the text names it.
    """
    _need_pandas()
    found = destination_of(destination)
    if found.kind == "postgresql":
        database = _Database(found)
        source: _Source = database
        name = database.name
    elif found.kind == "parquet":
        if not found.path.is_dir():
            raise FileNotFoundError(f"there is no folder {str(found.path)!r}")
        source, name = _Folder(found), str(found.path)
    else:
        source, name = _File(found.path), str(found.path)
    recording = Recording(source, name)
    # What cannot be read is known now.
    recording._site_rows()
    return recording


def _need_pandas() -> None:
    try:
        import pandas as pd  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ImportError(
            "reading a recording needs pandas: pip install 'microgrid_sync[notebook]'"
        ) from error


class _Database:
    """A database."""

    def __init__(self, destination: Destination) -> None:
        from microgrid_sync.recording.postgresql import PostgresqlStore  # noqa: PLC0415 - an extra

        self._store = PostgresqlStore(destination.url, makes_schema=False)
        self.name = self._store.name

    def read(self, wanted: Wanted) -> "DataFrame":
        """See `_Source.read`."""
        from microgrid_sync.recording.postgresql_reading import read  # noqa: PLC0415 - extras

        return read(self._store, wanted)

    def close(self) -> None:
        """See `_Source.close`."""
        self._store.close()


class _Folder:
    """A folder of Parquet files, and what is still in spools there."""

    def __init__(self, destination: Destination) -> None:
        from microgrid_sync.recording import parquet  # noqa: PLC0415 - an extra

        self._parquet = parquet
        self._folder = destination.path
        self._pattern = default_spool(destination, "*").name
        self._told: set[str] = set()

    def read(self, wanted: Wanted) -> "DataFrame":
        """See `_Source.read`."""
        import pandas as pd  # noqa: PLC0415 - an extra

        # The spool first: what is moved meanwhile is there twice, and not at all never.
        spooled = _frame_of(wanted, self._rows(self._parquet.wants(wanted)))
        found = self._parquet.read(self._folder, wanted)
        frame = pd.concat([found, spooled], ignore_index=True) if len(spooled) else found
        return _without_repeats(frame, wanted.table)

    def _rows(self, wants: Callable[[str], bool]) -> list[Row]:
        rows: list[Row] = []
        for path in {*self._folder.glob(self._pattern), *self._folder.glob(".spool.sqlite")}:
            try:
                rows += rows_in(path, wants)
            except SpoolError as error:
                # Files are there without it.
                if str(error) not in self._told:
                    self._told.add(str(error))
                    _logger.warning("%s; what is in it alone is left out", error)
        return rows

    def close(self) -> None:
        """See `_Source.close`."""


_TEXTS = {
    name
    for one in TABLES.values()
    for name, kind in one.columns.items()
    if kind in {"text", "json"}
} | {"table"}


class _File:
    """A file of CSV or JSON Lines, whole or a part."""

    def __init__(self, path: Path) -> None:
        import pandas as pd  # noqa: PLC0415 - an extra

        part = path.with_name(f"{path.name}.part")
        there = path if path.exists() else part
        if not there.exists():
            raise FileNotFoundError(f"there is no file {str(path)!r}")
        try:
            if path.suffix.lower() == ".csv":
                # A site may be called 12, or NA.
                self._all = pd.read_csv(
                    there,
                    low_memory=False,
                    on_bad_lines="error",
                    dtype=dict.fromkeys(_TEXTS, "object"),
                    keep_default_na=False,
                    na_values=[""],
                )
            else:
                self._all = pd.DataFrame(_lines(there))
        except (ValueError, OSError) as error:
            first = str(error).splitlines()[0]
            raise StoreError(f"{there} cannot be read: {first}") from error
        if "timestamp" not in self._all:
            raise StoreError(f"{there} is no recording: it has no column 'timestamp'")

    def read(self, wanted: Wanted) -> "DataFrame":
        """See `_Source.read`."""
        import pandas as pd  # noqa: PLC0415 - an extra

        everything = self._all
        if "table" in everything:
            found = everything[everything["table"] == wanted.table.name]
        elif wanted.table.name == _table_of(everything):
            # One component's samples, or several ones', as `microgrid-sync record FILE` writes.
            found = everything.assign(site="", sequence=range(len(everything)))
        else:
            found = everything.iloc[:0]
        found = found.reindex(columns=wanted.read()).reset_index(drop=True)
        for name, kind in wanted.table.columns.items():
            if name in found and kind == "time":
                times = pd.to_datetime(found[name], utc=True, format="ISO8601")
                found[name] = (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(microseconds=1)
            elif name in found and kind == "integer":
                found[name] = found[name].astype("int64")
        return _without_repeats(_filtered(found, wanted), wanted.table)

    def close(self) -> None:
        """See `_Source.close`."""


def _table_of(everything: "DataFrame") -> str:
    """Guess the table of a file without one: that which most of its columns are in."""
    columns = set(everything.columns)
    return max(SAMPLE_TABLES, key=lambda name: len(columns & TABLES[name].values.keys()))


def _lines(path: Path) -> list[Any]:
    """Read lines of JSON; the last one may be broken off."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines):
        try:
            found.append(json.loads(line))
        except ValueError:
            if number < len(lines) - 1:
                raise
    return found


def _frame_of(wanted: Wanted, rows: Iterable[Row]) -> "DataFrame":
    import pandas as pd  # noqa: PLC0415 - an extra

    columns = wanted.table.columns
    cells = [row.cells() for row in rows if row.table == wanted.table.name]
    frame = pd.DataFrame(cells, columns=[*columns])[wanted.read()]
    return _filtered(frame, wanted)


def _filtered(frame: "DataFrame", wanted: Wanted) -> "DataFrame":
    for column, comparison, value in wanted.conditions():
        cells = frame[column]
        if comparison == "in":
            frame = frame[cells.isin(value)]
        else:
            frame = frame[cells >= value if comparison == ">=" else cells < value]
    return frame


def _without_repeats(frame: "DataFrame", table: Table) -> "DataFrame":
    """Make one row of those with the same key, as databases do."""
    key = [*table.key]
    if not frame.duplicated(key).any():
        return frame.reset_index(drop=True)
    if table.merge == "none":
        return frame.drop_duplicates(key).reset_index(drop=True)
    groups = frame.groupby(key, sort=False)
    found = groups.first() if table.merge == "first" else groups.last()
    return found.reset_index()[list(frame.columns)]


def _spread(frame: "DataFrame") -> "DataFrame":
    """Give telemetry's metrics a column each."""
    import pandas as pd  # noqa: PLC0415 - an extra

    metrics = pd.DataFrame([json.loads(one) for one in frame["metrics"]], index=frame.index)
    return pd.concat([frame.drop(columns="metrics"), metrics], axis=1)


def _indexed(frame: "DataFrame") -> "DataFrame":
    return frame.set_index("timestamp")


def _chosen(columns: Iterable[str], metrics: Sequence[str] | None) -> list[str]:
    """Give the columns that are of some metrics; all without any."""
    return [
        column
        for column in columns
        if metrics is None or any(is_of_metric(column, metric) for metric in metrics)
    ]


def _moment(given: datetime | str | None) -> datetime | None:
    if given is None:
        return None
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            raise ValueError(
                f"{given!r} is no time; write it as 2026-11-25T06:00:00+01:00"
            ) from None
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
