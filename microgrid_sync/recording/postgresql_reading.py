"""Reads what is in a PostgreSQL database, fast.

It needs the extras ``postgresql`` and ``notebook``.
"""

from datetime import UTC, datetime
from typing import Any, LiteralString

import numpy as np
import pandas as pd
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.pq import Format

from microgrid_sync.recording.postgresql import PostgresqlStore, of_schema
from microgrid_sync.recording.schema import KEY, SECOND, Comparison, Type, Wanted, micros, moment_of

_COMPARISONS: dict[Comparison, LiteralString] = {"in": "= ANY", ">=": ">=", "<": "<"}

# A column of a day comes as one array: in PostgreSQL's own form a number takes 12 bytes, of which
# the first four are its length, behind a head of 20 bytes.
_HEAD = 20
_ALL_OF_A_DAY: dict[Type, LiteralString] = {
    "number": "array_agg(coalesce({0}, 'NaN'))",
    "integer": "array_agg({0})",
    "time": "array_agg({0})",
    "text": "array_agg({0})",
    "json": "array_agg({0}::text)",
}


_AT_ONCE = 25 * 3600 * SECOND
"""What is read as one array; no value of PostgreSQL's may be longer than 1 GB."""

_YEAR_2000 = micros(datetime(2000, 1, 1, tzinfo=UTC))


class _Numbers(Loader):
    """Reads an array of numbers, none of which is NULL, without making an object of each."""

    format = Format.BINARY
    kind = ">f8"

    def load(self, data: bytes | bytearray | memoryview) -> Any:
        """Give them as an array of NumPy's."""
        cells = np.frombuffer(data, dtype=[("length", ">i4"), ("value", self.kind)], offset=_HEAD)
        return cells["value"].astype(self.kind.replace(">", "="))


class _Integers(_Numbers):
    kind = ">i8"


class _Times(_Integers):
    def load(self, data: bytes | bytearray | memoryview) -> Any:
        """Give them as microseconds since 1970; PostgreSQL counts from 2000."""
        return super().load(data) + _YEAR_2000


def read(store: PostgresqlStore, wanted: Wanted) -> pd.DataFrame:
    """Read what is wanted; times are given as microseconds since 1970.

    Raises:
        StoreError: If the database cannot be asked.
    """
    kinds = wanted.table.columns
    names = wanted.read()
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(
            sql.SQL(_ALL_OF_A_DAY[kinds[name]]).format(sql.Identifier(name)) for name in names
        ),
        of_schema(wanted.table),
    )
    arguments = []
    for number, (column, comparison, value) in enumerate(wanted.conditions()):
        query += sql.SQL(" AND " if number else " WHERE ")
        query += sql.SQL("{} {} (%s)").format(
            sql.Identifier(column), sql.SQL(_COMPARISONS[comparison])
        )
        arguments.append(moment_of(value) if KEY.get(column) == "time" else value)
    groups: list[sql.Composable] = []
    if wanted.start is None or wanted.end is None or wanted.end - wanted.start > _AT_ONCE:
        groups.append(sql.SQL("date_trunc('day', timestamp)"))
    if wanted.sites is None:
        groups.append(sql.Identifier("site"))
    if groups:
        query += sql.SQL(" GROUP BY ") + sql.SQL(", ").join(groups)
    else:
        # An array of no rows would be NULL.
        query += sql.SQL(" HAVING count(*) > 0")
    with store.reading() as connection, connection.cursor(binary=True) as cursor:
        # The name of an array's type stands for what is in it.
        types = cursor.adapters.types
        cursor.adapters.register_loader(types["float8"].array_oid, _Numbers)
        cursor.adapters.register_loader(types["int8"].array_oid, _Integers)
        cursor.adapters.register_loader(types["timestamptz"].array_oid, _Times)
        days = cursor.execute(query, arguments).fetchall()
    columns = zip(*days, strict=True) if days else ([] for _ in names)
    return pd.DataFrame(
        {name: _joined(parts, kinds[name]) for name, parts in zip(names, columns, strict=True)}
    )


def _joined(parts: Any, kind: Type) -> Any:
    """Make one column of those of several days."""
    if kind in {"text", "json"}:
        return pd.Series([cell for part in parts for cell in part], dtype="object")
    whole = np.dtype("float64" if kind == "number" else "int64")
    return np.concatenate([*parts]) if parts else np.zeros(0, dtype=whole)
