"""Where a recorder writes rows down: a file, or the spool of a destination."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.recording.delivery import Delivery
from microgrid_sync.recording.destination import Destination, default_spool
from microgrid_sync.recording.files import FileRecording
from microgrid_sync.recording.schema import KEY, TABLES, Row, What, moment_of, tables_of
from microgrid_sync.recording.spool import Spool, left_behind
from microgrid_sync.recording.store import Store

_logger = logging.getLogger(__name__)


class Sink(Protocol):
    """What takes rows from the recorder's thread."""

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows down for good.

        Raises:
            OSError: If that fails; then none of them is written.
        """

    def close(self) -> None:
        """End it."""


class Opened(NamedTuple):
    """What a recorder writes to."""

    name: str
    sink: Sink
    delivery: Delivery | None
    """What sees to it that all gets there; ``None`` where the sink writes it there itself."""


def opened(
    found: Destination,
    what: Iterable[What],
    spool: str | Path | None,
    period: str,
    *,
    share: str,
    replace: bool,
) -> Opened:
    """Open a file, or a spool for a destination that is still to be looked at."""
    if found.kind == "file":
        sink = _FileSink(found.path, what, replace=replace)
        return Opened(str(found.path), sink, None)
    store = store_of(found, period)
    path = default_spool(found, share) if spool is None else Path(spool)
    kept = Spool(path)
    pattern = default_spool(found, "*").name.replace("-*", "*")
    for other, count in left_behind(path, pattern):
        _logger.warning(
            "%d rows wait in the spool %s, which nobody uses: record to %s with --spool %s for a "
            "moment",
            count, other, store.name, other,
        )  # fmt: skip
    return Opened(store.name, _SpoolSink(kept, store), Delivery(kept, store))


class _SpoolSink:
    """Rows that go into the spool."""

    def __init__(self, spool: Spool, store: Store) -> None:
        self._spool = spool
        self._store = store

    def add(self, rows: Sequence[Row]) -> None:
        """See `Sink.add`."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            groups[self._store.place(row.table, row.timestamp)].append(row)
        self._spool.add(groups)

    def close(self) -> None:
        """See `Sink.close`; what is delivered is taken from the spool until the very end."""


class _FileSink:
    """Rows that go into a file of CSV or JSON Lines."""

    def __init__(self, path: Path, what: Iterable[What], *, replace: bool) -> None:
        columns: dict[str, None] = dict.fromkeys(["table", *KEY])
        for table in tables_of(what):
            columns |= dict.fromkeys(table.columns)
        self._file = FileRecording(path, list(columns), replace=replace)

    def add(self, rows: Sequence[Row]) -> None:
        """See `Sink.add`."""
        self._file.write_all({"table": row.table} | jsonable(_shown(row)) for row in rows)

    def close(self) -> None:
        """See `Sink.close`."""
        with self._file:
            self._file.finish()


def _shown(row: Row) -> dict[str, Any]:
    columns = TABLES[row.table].columns
    return {
        name: moment_of(cell).isoformat().replace("+00:00", "Z")
        if kind == "time" and cell is not None
        else cell
        for (name, kind), cell in zip(columns.items(), row.cells(), strict=True)
    }


def store_of(destination: Destination, period: str) -> Store:
    """Give what stores rows at a destination that has a spool."""
    # What they need is installed where they are wanted.
    if destination.kind == "postgresql":
        from microgrid_sync.recording.postgresql import PostgresqlStore  # noqa: PLC0415

        return PostgresqlStore(destination.url)
    from microgrid_sync.recording.parquet import ParquetStore  # noqa: PLC0415

    return ParquetStore(destination.path, "day" if period == "day" else "hour")
