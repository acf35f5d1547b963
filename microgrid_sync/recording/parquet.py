"""Records into a folder of Parquet files. It needs the extra ``parquet``."""

import contextlib
import functools
import logging
import operator
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        "Parquet files need pyarrow: pip install 'microgrid_sync[parquet]'"
    ) from error

from microgrid_sync.model.shown import escaped
from microgrid_sync.recording.schema import (
    SECOND,
    TABLES,
    Row,
    Type,
    Wanted,
    merged,
    micros,
    moment_of,
    start_of,
)
from microgrid_sync.recording.spool import Spool
from microgrid_sync.recording.store import StoreError

if TYPE_CHECKING:
    from pandas import DataFrame

Period = Literal["hour", "day"]

SECONDS: dict[Period, int] = {"hour": 3600, "day": 86_400}

_GRACE = 60.0
"""Seconds after its last row in which a period may still get one that was late."""

_ROWS_AT_A_TIME = 50_000
"""Rows of a row group: so many are in memory at a time."""

_TYPES: dict[Type, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "text": pa.string(),
    "json": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
}

_logger = logging.getLogger(__name__)

_NAME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(T(?P<hour>\d\d))?-(?P<spool>[0-9a-f]{8})-(?P<last>\d+)\.parquet"
)


class _Newest(NamedTuple):
    """The newest batch of a place."""

    number: int
    changed_at: float
    """When it came, on the monotonic clock."""

    began_at: float
    """When the first one did, after the file before."""


class ParquetStore:
    """A folder with a folder for each table, and in it a file an hour or a day. See `Store`.

    A file is written aside, and has its name when it is whole.
    """

    def __init__(self, folder: Path, period: Period = "hour") -> None:
        """Note where it is.

        Args:
            folder: The folder.
            period: How much a file holds.
        """
        self.folder = folder
        self._period = period
        # The deliverer's own.
        self._newest: dict[str, _Newest] = {}

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return str(self.folder)

    def place(self, table: str, timestamp: int) -> str:
        """See `Store.place`."""
        start = start_of(timestamp, SECONDS[self._period] * SECOND)
        text = moment_of(start).isoformat()
        return f"{table}/{text[: len('2026-11-25T13' if self._period == 'hour' else '2026-11-25')]}"

    def check(self) -> None:
        """See `Store.check`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("*/.*.part"):
                # Of a process that was ended meanwhile: its spool still has it all.
                if time.time() - old.stat().st_mtime > _ABANDONED:
                    old.unlink(missing_ok=True)
            probe = self.folder / f".{os.getpid()}.part"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written: {error.strerror}") from error

    def deliver(self, spool: Spool, *, all_of_it: bool) -> int:
        """See `Store.deliver`: it is time for periods that are over."""
        now = time.monotonic()
        moved = 0
        newest = spool.newest()
        for place in [one for one in self._newest if one not in newest]:
            del self._newest[place]
        failed: Exception | None = None
        for place, number in newest.items():
            known = self._newest.get(place)
            if known is None:
                known = self._newest[place] = _Newest(number, now, now)
            elif known.number != number:
                known = self._newest[place] = _Newest(number, now, known.began_at)
            try:
                if all_of_it or self._is_over(place, now - known.changed_at, now - known.began_at):
                    moved += self._write(spool, place, number)
                    del self._newest[place]
            except Exception as error:  # noqa: BLE001 - raised below: others do not wait for it
                failed = error
        if failed is not None:
            raise failed
        return moved

    def _is_over(self, place: str, idle: float, age: float) -> bool:
        """Tell whether all of a period has come: our clock, or a site's that is off, is past it."""
        length = SECONDS[self._period]
        # From the start, not to the end: the last hour of all has none.
        begun = datetime.now(UTC) - _start(place.partition("/")[2])
        if idle >= _GRACE and begun >= timedelta(seconds=length):
            return True
        # A clock that stands still, or is wrong, has files, too.
        return idle >= length or age >= length + _GRACE

    def _write(self, spool: Spool, place: str, last: int) -> int:
        """Write a file with the rows of a place, up to a batch."""
        table, _, period = place.partition("/")
        folder = self.folder / table
        try:
            folder.mkdir(exist_ok=True)
            # Files of this spool, which the program may have been ended behind.
            done = max(
                (
                    int(found["last"])
                    for path in folder.glob(f"{period}-{spool.name}-*.parquet")
                    if (found := _NAME.fullmatch(path.name))
                ),
                default=0,
            )
            count = 0
            if done < last:
                count, refused = _write(
                    folder / f"{period}-{spool.name}-{last}.parquet",
                    table,
                    _chunks(spool, place, done, last),
                )
                if refused:
                    _logger.error(
                        "%s cannot have %d rows, which the spool keeps aside, such as %s",
                        self.folder, len(refused), escaped(repr(refused[0])[:_LONGEST_ROW]),
                    )  # fmt: skip
                    spool.set_aside(refused, "no such value can be in a file")
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"{self.folder} cannot be written: {error.strerror or error}"
            ) from error
        spool.remove(last, place)
        return count

    def hurry(self) -> None:
        """See `Store.hurry`: a disk cannot be hurried."""

    def close(self) -> None:
        """See `Store.close`."""


_LONGEST_ROW = 300

_ABANDONED = 3600.0
"""Seconds after which nobody writes a part any more."""


def _chunks(spool: Spool, place: str, after: int, last: int) -> Iterator[list[Row]]:
    while batches := spool.oldest(_ROWS_AT_A_TIME, place, after):
        rows = [row for batch in batches if batch.number <= last for row in batch.rows]
        after = batches[-1].number
        if rows:
            yield rows
        if after >= last:
            return


def _write(path: Path, table: str, chunks: Iterable[list[Row]]) -> tuple[int, list[Row]]:
    """Write a file aside, and give it its name.

    Returns:
        The number of rows, and those that no file can have.
    """
    part = path.with_name(f".{path.name}.part")
    columns = TABLES[table].columns
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
    count = 0
    refused: list[Row] = []
    try:
        with part.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for rows in chunks:
                    count += len(rows)
                    rows = merged(rows)  # noqa: PLW2901 - fewer of the same
                    rows.sort(key=lambda row: row[1:5])
                    for found, bad in _tables(rows, schema):
                        refused += bad
                        if found is not None:
                            writer.write_table(found)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return count, refused


def _tables(rows: list[Row], schema: Any) -> Iterator[tuple[Any, list[Row]]]:
    """Make tables of rows, as few as it takes to leave out those that cannot be in one."""
    cells = zip(*(row.cells() for row in rows), strict=True)
    try:
        arrays = [
            pa.array(column, pa.int64()).cast(kind)
            if pa.types.is_timestamp(kind)
            else pa.array(column, kind)
            for column, kind in zip(cells, schema.types, strict=True)
        ]
    except (ValueError, TypeError, OverflowError):
        # Errors of Arrow are of these classes, too.
        if len(rows) == 1:
            yield None, rows
            return
        half = len(rows) // 2
        yield from _tables(rows[:half], schema)
        yield from _tables(rows[half:], schema)
    else:
        yield pa.Table.from_arrays(arrays, schema=schema), []


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _start(period: str) -> datetime:
    kind = "%Y-%m-%dT%H" if "T" in period else "%Y-%m-%d"
    return datetime.strptime(period, kind).replace(tzinfo=UTC)


def _files(folder: Path, table: str, start: int | None, end: int | None) -> list[Path]:
    """Name the files of a table that may have rows of a time, in microseconds."""
    found = []
    for path in sorted((folder / table).glob("*.parquet")):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        hour = name["hour"]
        begin = micros(_start(name["day"] if hour is None else f"{name['day']}T{hour}"))
        length = SECONDS["day" if hour is None else "hour"] * SECOND
        if (end is None or begin < end) and (start is None or begin + length > start):
            found.append(path)
    return found


def read(folder: Path, wanted: Wanted) -> "DataFrame":
    """Read what is wanted of the files in a folder.

    Raises:
        StoreError: If one cannot be read.
    """
    names = wanted.read()
    schema = pa.schema([(name, _READ_AS[wanted.table.columns[name]]) for name in names])
    tables = [schema.empty_table()]
    condition = _condition(wanted)
    paths = _files(folder, wanted.table.name, wanted.start, wanted.end)
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                table = file.read(names).cast(schema)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        tables.append(table if condition is None else table.filter(condition))
    return pa.concat_tables(tables).to_pandas()


def _condition(wanted: Wanted) -> pc.Expression | None:
    found = []
    for column, comparison, value in wanted.conditions():
        field = pc.field(column)
        if comparison == "in":
            found.append(field.isin(value))
        else:
            found.append(field >= value if comparison == ">=" else field < value)
    return functools.reduce(operator.and_, found) if found else None


# Times are read as microseconds, as they are everywhere below DataFrames.
_READ_AS = {**_TYPES, "time": pa.int64()}


def wants(wanted: Wanted) -> Callable[[str], bool]:
    """Give what tells whether a place in a spool may have rows that are wanted."""

    def is_wanted(place: str) -> bool:
        table, _, period = place.partition("/")
        begin = micros(_start(period))
        length = SECONDS["hour" if "T" in period else "day"] * SECOND
        return (
            table == wanted.table.name
            and (wanted.end is None or begin < wanted.end)
            and (wanted.start is None or begin + length > wanted.start)
        )

    return is_wanted
