"""Records into a PostgreSQL database, and reads it back. It needs the extra ``postgresql``."""

import contextlib
import logging
import os
import socket
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

try:
    import psycopg
    from psycopg import conninfo, errors, sql
except ImportError as error:
    raise ImportError(
        "a PostgreSQL database needs psycopg: pip install 'microgrid_sync[postgresql]'"
    ) from error

from microgrid_sync.model.shown import escaped
from microgrid_sync.recording.schema import (
    SAMPLE_TABLES,
    TABLES,
    Row,
    Table,
    Type,
    merged,
    moment_of,
)
from microgrid_sync.recording.spool import Spool
from microgrid_sync.recording.store import StoreError

SCHEMA = "microgrid"
"""The schema that all tables are in."""

_MARK = "microgrid_sync recording, format 1"
"""The comment on the schema, by which it is known to be ours."""

_MOST_ROWS = 20_000
"""Rows in one transaction."""

_LEAST_ROWS = 500
"""The same where one has failed several times."""

_LIMITS = {"lock_timeout": 10_000, "statement_timeout": 50_000}
"""Milliseconds: somebody else's lock, and a statement that never ends, are errors."""

_LOCK = 0x6D69_6372_6F67_7264
"""The advisory lock under which the schema is made: many may begin at once."""

_TYPES: dict[Type, str] = {
    "number": "double precision",
    "integer": "bigint",
    "text": "text",
    "json": "jsonb",
    "time": "timestamp with time zone",
}

_DEFAULTS = {
    "application_name": "microgrid_sync",
    "connect_timeout": "10",
    # A network that has gone is noticed.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}

_logger = logging.getLogger(__name__)


_NO_URL = (
    "no URL of a PostgreSQL database such as postgresql://user@host:5432/database; in a name or "
    "password / is written %2F, @ is %40, : is %3A and % is %25"
)


class PostgresqlStore:
    """A database. See `Store`."""

    def __init__(self, url: str, *, makes_schema: bool = True) -> None:
        """Note where it is; nothing is connected yet.

        Args:
            url: Such as ``postgresql://user@host:5432/database``, as libpq reads it.
            makes_schema: Whether what is missing is made; else that is an error.

        Raises:
            ValueError: If it is no such URL.
        """
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # The library's words may be a part of the password.
            raise ValueError(_NO_URL) from None
        if any("@" in str(given.get(name, "")) for name in ("host", "port", "dbname")):
            raise ValueError(_NO_URL)
        self._parameters: dict[str, Any] = {**_DEFAULTS, **given}
        host, database = given.get("host"), given.get("dbname")
        port = f":{given['port']}" if "port" in given else ""
        self._makes_schema = makes_schema
        self._name = f"postgresql://{host or ''}{port}/{database or ''}"
        self._most = _MOST_ROWS
        self._connection: psycopg.Connection[Any] | None = None
        self._preparing: psycopg.Connection[Any] | None = None
        # Protects the connection's being replaced; no call to the server is made under it.
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return self._name

    def place(self, table: str, timestamp: int) -> str:
        """See `Store.place`."""
        del timestamp
        return table

    def check(self) -> None:
        """See `Store.check`; a database that is not there now is waited for later."""
        with self._failures():
            try:
                self._connect()
            except psycopg.OperationalError as error:
                if _is_passing(error):
                    _logger.warning("%s is waited for: %s", self._name, _first_line(error))
                    return
                raise

    def deliver(self, spool: Spool, *, all_of_it: bool) -> int:
        """See `Store.deliver`; it is always time for all."""
        del all_of_it
        batches = spool.oldest(self._most)
        if not batches:
            return 0
        rows = [row for batch in batches for row in batch.rows]
        try:
            with self._failures():
                refused = list(self._insert(rows))
        except StoreError:
            # One that is slow is asked for less at a time.
            self._most = max(_LEAST_ROWS, self._most // 2)
            raise
        self._most = min(_MOST_ROWS, self._most * 2)
        if refused:
            row, why = refused[0]
            _logger.error(
                "%s refuses %d rows, which the spool keeps aside, such as %s: %s",
                self._name, len(refused), escaped(repr(row)[:_LONGEST_ROW]), escaped(why),
            )  # fmt: skip
            spool.set_aside([row for row, _ in refused], why)
        spool.remove(batches[-1].number)
        return len(rows)

    def _insert(self, rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
        """Insert rows, all that the database takes; give those that it does not, and why."""
        connection = self._connect()
        try:
            with connection.transaction():
                _insert(connection, rows)
        except errors.DataError as error:
            # A value that is none; what else is wrong, such as a partition that is missing, is
            # waited for.
            if len(rows) == 1:
                yield rows[0], _first_line(error)
                return
            half = len(rows) // 2
            yield from self._insert(rows[:half])
            yield from self._insert(rows[half:])

    # Reading back

    @contextlib.contextmanager
    def reading(self) -> "Iterator[psycopg.Connection[Any]]":
        """Give the connection, for a query.

        Raises:
            StoreError: If there is none, or the query fails.
        """
        with self._failures():
            yield self._connect()

    # The connection

    def _connect(self) -> "psycopg.Connection[Any]":
        """Give a connection whose schema is as it should be."""
        with self._lock:
            known = self._connection
        if known is not None and not known.closed and not known.broken:
            return known
        connection = psycopg.connect(**self._parameters, autocommit=True)
        with self._lock:
            self._preparing = connection
        try:
            # Who reads a year may take as long as it takes.
            limits = _LIMITS if self._makes_schema else {}
            for name, value in limits.items():
                connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), value))
            _prepare(connection, self._name, makes_schema=self._makes_schema)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._preparing = None
            self._connection, is_closed = connection, self._is_closed
        if is_closed:
            connection.close()
            raise StoreError(f"{self._name} is closed")
        return connection

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Say in a line what goes wrong."""
        try:
            yield
        except psycopg.Error as error:
            self._let_go()
            raise StoreError(f"{self._name}: {_reason(error)}") from error

    def _let_go(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def hurry(self) -> None:
        """See `Store.hurry`: a call that waits for the database ends by an error."""
        with self._lock:
            connection = self._connection or self._preparing
        if connection is None or connection.closed:
            return
        # The library's own way to cancel asks a server that may not answer.
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as connected,
        ):
            connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            self._is_closed = True
        self._let_go()


_LONGEST_ROW = 300

_PASSING = (
    "starting up",
    "shutting down",
    "recovery",
    "not yet accepting",
    "too many",
    "connection slots",
    "terminating connection",
)
"""What a server says that will take connections later."""

_OF_SCHEMA = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.DatatypeMismatch,
    errors.InvalidSchemaName,
    errors.NotNullViolation,
    errors.CheckViolation,
)


def _is_passing(error: psycopg.Error) -> bool:
    """Tell whether a failure is one of a database that is away, starts, ends or is full."""
    if error.sqlstate is not None:
        return error.sqlstate[:2] in {"08", "53", "57", "40", "55"}
    # Of a connection that is refused the library tells the server's words alone.
    text = str(error)
    return "FATAL" not in text or any(words in text for words in _PASSING)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return escaped(lines[0]) if lines else type(error).__name__


def _reason(error: psycopg.Error) -> str:
    if isinstance(error, _OF_SCHEMA):
        return f"{_first_line(error)}; the schema {SCHEMA} is not as this program needs it"
    return _first_line(error)


# The schema


def _prepare(connection: "psycopg.Connection[Any]", name: str, *, makes_schema: bool) -> None:
    """Make what is missing, and check what is there.

    Raises:
        StoreError: If something else is there.
    """
    found = _found(connection)
    if found is None and not makes_schema:
        raise StoreError(f"{name} has no recording: there is no schema {SCHEMA!r}")
    if found is None:
        with connection.transaction():
            # Others that begin at the same time wait, and then find it made.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = _found(connection)
            if found is None:
                for statement in _statements():
                    connection.execute(statement)
                found = _found(connection)
    mark, tables = found or ("", {})
    if mark != _MARK:
        said = f"its comment is {mark!r}" if mark else "it was made by something else"
        raise StoreError(
            f"{name} has a schema {SCHEMA!r} that is not this program's: {said}; "
            f"{_MARK!r} is right; use another database"
        )
    for table in TABLES.values():
        there = tables.get(table.name, {})
        for column, kind in table.columns.items():
            if there.get(column) != _TYPES[kind]:
                is_there = f"is {there[column]}" if column in there else "is missing"
                raise StoreError(
                    f"{name}: {SCHEMA}.{table.name} is not as this program needs it: the column "
                    f"{column} {is_there}, {_TYPES[kind]} is right"
                )
        if not makes_schema:
            continue
        # Gone with the connection.
        connection.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DELETE ROWS").format(
                _incoming(table), of_schema(table)
            )
        )


def _found(
    connection: "psycopg.Connection[Any]",
) -> tuple[str, dict[str, dict[str, str]]] | None:
    """Give the comment on the schema, and its tables' columns; ``None`` if there is none."""
    schema = connection.execute(
        "SELECT oid, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s",
        (SCHEMA,),
    ).fetchone()
    if schema is None:
        return None
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for table, column, kind in connection.execute(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = %s AND c.relkind IN ('r', 'p') AND a.attnum > 0"
        " AND NOT a.attisdropped",
        (schema[0],),
    ):
        tables[table][column] = kind
    if schema[1] is None and not tables:
        # Somebody has made it for us, who may make no schema: the tables are still to come.
        return None
    return schema[1] or "", tables


def _statements() -> Iterator[str]:
    yield f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
    yield f"COMMENT ON SCHEMA {SCHEMA} IS '{_MARK}'"
    for table in TABLES.values():
        columns = "".join(
            f"{name} {_TYPES[kind]}{' NOT NULL' if name in table.key else ''}, "
            for name, kind in table.columns.items()
        )
        yield (
            f"CREATE TABLE {SCHEMA}.{table.name} ({columns}PRIMARY KEY ({', '.join(table.key)}))"
        )
        # A few pages for a year: what asks for a day of all sites, and who deletes what is old.
        yield f"CREATE INDEX ON {SCHEMA}.{table.name} USING brin (timestamp)"
    yield f"CREATE VIEW {SCHEMA}.sample AS {' UNION ALL '.join(_long_forms())}"


def _long_forms() -> Iterator[str]:
    """Give the parts of the view that has a row for each value."""
    for name in (*SAMPLE_TABLES, "total"):
        table = TABLES[name]
        if name == "telemetry":
            values = (
                "jsonb_each(t.metrics) AS m(metric, found) CROSS JOIN LATERAL (VALUES (CASE WHEN "
                "jsonb_typeof(m.found) = 'number' THEN (m.found #>> '{}')::double precision END))"
                " AS v(value)"
            )
            value = "v.value"
        else:
            pairs = ", ".join(
                f"('{column}', t.{column})"
                for column, kind in table.values.items()
                if kind == "number"
            )
            values, value = f"(VALUES {pairs}) AS m(metric, value)", "m.value"
        component = "t.component_id" if "component_id" in table.key else "NULL::bigint"
        sequence = "t.sequence" if "sequence" in table.key else "0::bigint"
        yield (
            f"SELECT t.site, {component} AS component_id, m.metric, t.timestamp, "  # noqa: S608 - names of ours
            f"{sequence} AS sequence, {value} AS value FROM {SCHEMA}.{name} t CROSS JOIN LATERAL "
            f"{values} WHERE {value} IS NOT NULL"
        )


def of_schema(table: Table) -> sql.Identifier:
    """Give the name of a table, with that of its schema."""
    return sql.Identifier(SCHEMA, table.name)


def _incoming(table: Table) -> sql.Identifier:
    return sql.Identifier(f"incoming_{table.name}")


def _insert(connection: "psycopg.Connection[Any]", rows: Sequence[Row]) -> None:
    by_table: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_table[row.table].append(row)
    for name, found in by_table.items():
        table = TABLES[name]
        # No command may change a row twice.
        wanted = merged(found) if table.merge != "none" else found
        times = [place for place, kind in enumerate(table.columns.values()) if kind == "time"]
        with connection.cursor() as cursor:
            with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(_incoming(table))) as copy:
                for row in wanted:
                    copy.write_row(_with_times(row.cells(), times))
            cursor.execute(_insertion(table))
            cursor.execute(sql.SQL("TRUNCATE {}").format(_incoming(table)))


def _with_times(cells: list[Any], times: Iterable[int]) -> list[Any]:
    for place in times:
        if cells[place] is not None:
            cells[place] = _moment(cells[place])
    return cells


def _moment(time: int) -> datetime:
    try:
        return moment_of(time)
    except OverflowError:
        raise errors.DatetimeFieldOverflow(f"a time is out of range: {time} us") from None


def _insertion(table: Table) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL(
        "INSERT INTO {table} AS t ({names}) SELECT {names} FROM {incoming} "
    ).format(table=of_schema(table), names=names, incoming=_incoming(table))
    if table.merge == "none":
        return statement + sql.SQL("ON CONFLICT DO NOTHING")
    both = sql.SQL("coalesce(t.{0}, excluded.{0})")
    if table.merge == "last":
        both = sql.SQL("coalesce(excluded.{0}, t.{0})")
    changes = sql.SQL(", ").join(
        sql.SQL("{0} = ").format(sql.Identifier(name)) + both.format(sql.Identifier(name))
        for name in table.values
    )
    return statement + sql.SQL("ON CONFLICT ({}) DO UPDATE SET {}").format(
        sql.SQL(", ").join(map(sql.Identifier, table.key)), changes
    )
