"""Keeps rows on disk until they are where they belong: what is in a spool survives the program."""

import contextlib
import fcntl
import os
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from microgrid_sync.recording.schema import Row

_FORMAT = 1

_BUSY_TIMEOUT = 5.0
"""Seconds for the spool's other thread to end what it writes: it does so in milliseconds."""

_CLOSE = 2.0
"""Seconds at the end for a disk that hangs."""

_RESERVE = 32_000_000
"""Bytes that stay free on the disk, or a third of a small one: without them nothing could be
removed from a spool that has filled it."""

_MOST_BATCHES = 100
"""Batches that are removed in one step."""

_MOST_PAGES = 1024
"""Pages that are given back to the disk at a time."""

_decoder = msgspec.msgpack.Decoder(list[Row])


class SpoolError(OSError):
    """A spool cannot be opened, or not be written to; the text says why."""


class Batch(NamedTuple):
    """Some rows of one place, which were written together."""

    number: int
    """Grows with each batch."""

    place: str
    """Where they belong, in the destination's words."""

    rows: list[Row]


class Spool:
    """Rows on disk, in the order in which they came.

    SQLite keeps them: what was written is there, whatever ends the program or the machine, and what
    was not written whole is not. One thread adds, another one takes; one process uses it.
    """

    def __init__(self, path: Path) -> None:
        """Open a spool; it is made if it is not there.

        Args:
            path: Its file. Others beside it have longer names.

        Raises:
            SpoolError: If it cannot be opened, is no spool, or another process uses it.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file = _locked(path)
        except OSError as error:
            raise SpoolError(f"the spool {path} cannot be used: {_why(error)}") from error
        # Each of the two threads has a connection of its own; these protect them at the end, when
        # a third one closes them.
        self._adding, self._taking = threading.Lock(), threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        try:
            self._writer = self._connect()
            self._prepare(self._writer)
            self._reader = self._connect()
        except sqlite3.Error as error:
            self.close()
            raise SpoolError(f"the spool {path} cannot be used: {error}") from error
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        # Each batch is on the disk, not only on its way there.
        connection.execute("PRAGMA synchronous = FULL")
        # Its log stays small, so that a full disk has room for it.
        connection.execute("PRAGMA wal_autocheckpoint = 128")
        connection.execute("PRAGMA journal_size_limit = 1000000")
        # Some builds overwrite what is deleted, which takes as much room again.
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise SpoolError(f"{self.path} is no spool, but another database")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            # All of it or nothing: the program may be killed in between.
            connection.executescript(
                "BEGIN;"  # noqa: S608 - nothing in it is from outside
                "CREATE TABLE batch (number INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT NOT NULL,"
                " rows INTEGER NOT NULL, body BLOB NOT NULL);"
                "CREATE INDEX batch_place ON batch (place, number);"
                "CREATE TABLE refused (number INTEGER PRIMARY KEY, why TEXT NOT NULL,"
                " body BLOB NOT NULL);"
                "CREATE TABLE name (name TEXT NOT NULL);"
                f"INSERT INTO name VALUES ('{os.urandom(4).hex()}');"
                f"PRAGMA user_version = {_FORMAT};"
                "COMMIT;"
            )
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found != _FORMAT:
            raise SpoolError(f"{self.path} is a spool of format {found}; format {_FORMAT} is known")
        self.name: str = connection.execute("SELECT name FROM name").fetchone()[0]
        """Its own name, which no other spool has."""

    # The thread that adds

    def add(self, groups: Mapping[str, Sequence[Row]]) -> None:
        """Write rows; when this returns, they are on the disk.

        Args:
            groups: The rows by their places.

        Raises:
            SpoolError: If they cannot be written; then none of them is.
        """
        self._check_room()
        batches = [(place, len(rows), _packed(rows)) for place, rows in groups.items()]
        with self._adding, self._transaction(self._writer) as writer:
            writer.executemany("INSERT INTO batch (place, rows, body) VALUES (?, ?, ?)", batches)

    def _check_room(self) -> None:
        """See that there is room on the disk, also for what removes rows, which needs some itself.

        Raises:
            SpoolError: If there is too little.
        """
        try:
            disk = shutil.disk_usage(self.path.parent)
        except OSError as error:
            raise SpoolError(f"the spool {self.path} cannot be written: {_why(error)}") from error
        reserve = min(_RESERVE, disk.total // 3)
        if disk.free < reserve:
            raise SpoolError(
                f"the spool {self.path} cannot be written: database or disk is full; "
                f"{disk.free / 1e6:.1f} MB are free, and {reserve / 1e6:.1f} MB stay so"
            )

    # The thread that takes

    def newest(self) -> dict[str, int]:
        """Give the number of the newest batch of each place.

        Raises:
            SpoolError: If it cannot be read.
        """
        with self._taking, self._failures(self._reader, "read") as reader:
            return dict(reader.execute("SELECT place, max(number) FROM batch GROUP BY place"))

    def waiting(self) -> int:
        """Count the rows.

        Raises:
            SpoolError: If it cannot be read.
        """
        with self._taking, self._failures(self._reader, "read") as reader:
            return int(reader.execute("SELECT coalesce(sum(rows), 0) FROM batch").fetchone()[0])

    def oldest(self, most: int, place: str | None = None, after: int = 0) -> list[Batch]:
        """Give the oldest batches; they stay until they are removed.

        Args:
            most: About how many rows.
            place: Those of one place alone.
            after: Those with higher numbers alone.

        Raises:
            SpoolError: If it cannot be read.
        """
        found: list[tuple[int, str, bytes]] = []
        count = 0
        where = "" if place is None else "AND place = ?"
        with self._taking, self._failures(self._reader, "read") as reader:
            rows = reader.execute(
                f"SELECT number, place, rows, body FROM batch WHERE number > ? {where} "  # noqa: S608 - one of two texts of ours
                "ORDER BY number",
                (after,) if place is None else (after, place),
            )
            for number, name, size, body in rows:
                found.append((number, name, body))
                count += size
                if count >= most:
                    break
            rows.close()
        return [Batch(number, name, _unpacked(body)) for number, name, body in found]

    def remove(self, last: int, place: str | None = None) -> None:
        """Remove batches: their rows are where they belong.

        Args:
            last: The number of the last one; all before it are removed, too.
            place: Those of one place alone.

        Raises:
            SpoolError: If they cannot be removed.
        """
        where, found = ("", (last,)) if place is None else ("AND place = ?", (last, place))
        some = f"SELECT number FROM batch WHERE number <= ? {where} LIMIT {_MOST_BATCHES}"  # noqa: S608 - texts of ours
        done = _MOST_BATCHES
        while done == _MOST_BATCHES:
            # A few at a time: what removes them needs room on the disk, too.
            with self._taking, self._transaction(self._reader) as reader:
                deletion = f"DELETE FROM batch WHERE number IN ({some})"  # noqa: S608 - likewise
                done = reader.execute(deletion, found).rowcount
        with self._taking, contextlib.suppress(sqlite3.Error):
            # What is free may be given back another time.
            if self._reader is not None:
                # As a script: executed by itself it gives but one page back.
                self._reader.executescript(f"PRAGMA incremental_vacuum({_MOST_PAGES})")

    def set_aside(self, rows: Sequence[Row], why: str) -> None:
        """Keep rows that the destination will never take, so that those behind them get there.

        Raises:
            SpoolError: If they cannot be written.
        """
        with self._taking, self._transaction(self._reader) as reader:
            reader.execute("INSERT INTO refused (why, body) VALUES (?, ?)", (why, _packed(rows)))

    # Any thread

    @contextlib.contextmanager
    def _failures(
        self, connection: sqlite3.Connection | None, what: str
    ) -> Iterator[sqlite3.Connection]:
        """Give a connection that is open; say in a line what goes wrong with it."""
        if connection is None:
            raise SpoolError(f"the spool {self.path} is closed")
        try:
            yield connection
        except sqlite3.Error as error:
            raise SpoolError(f"the spool {self.path} cannot be {what}: {error}") from error

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection | None) -> Iterator[sqlite3.Connection]:
        """Do all of it or nothing."""
        with self._failures(connection, "written") as open_one:
            open_one.execute("BEGIN IMMEDIATE")
            try:
                yield open_one
                open_one.execute("COMMIT")
            except BaseException:
                # A disk that is full may have ended it already.
                with contextlib.suppress(sqlite3.Error):
                    open_one.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close it. Any number of times.

        Where a disk hangs, whoever waits for it keeps it open.
        """
        locks = [lock for lock in (self._adding, self._taking) if lock.acquire(timeout=_CLOSE)]
        try:
            if len(locks) == 2:
                self._close()
        finally:
            for lock in locks:
                lock.release()

    def _close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def rows_in(path: Path, wants: Callable[[str], bool] = lambda place: True) -> list[Row]:
    """Read what is in a spool that another process may be writing to.

    Args:
        path: The spool.
        wants: Tells of which places.

    Raises:
        SpoolError: If it cannot be read.
    """
    try:
        with contextlib.closing(_to_read(path)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                # It is just being made.
                return []
            places = [one for (one,) in connection.execute("SELECT DISTINCT place FROM batch")]
            bodies = [
                body
                for place in filter(wants, places)
                for (body,) in connection.execute(
                    "SELECT body FROM batch WHERE place = ? ORDER BY number", (place,)
                )
            ]
    except sqlite3.Error as error:
        raise SpoolError(f"the spool {path} cannot be read: {error}") from error
    return [row for body in bodies for row in _unpacked(body)]


def left_behind(path: Path, pattern: str) -> Iterator[tuple[Path, int]]:
    """Find spools beside one, which nobody uses and that have rows, and how many they have.

    Args:
        path: The spool that is used.
        pattern: What the names of the others are like.
    """
    for other in sorted(path.parent.glob(pattern)):
        if other == path:
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(f"{other}.lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                count = _count_in(other)
                if count:
                    yield other, count
            finally:
                os.close(descriptor)


def _count_in(path: Path) -> int:
    """Count the rows in a spool."""
    try:
        with contextlib.closing(_to_read(path)) as connection:
            return int(connection.execute("SELECT coalesce(sum(rows), 0) FROM batch").fetchone()[0])
    except sqlite3.Error as error:
        raise SpoolError(f"the spool {path} cannot be read: {error}") from error


def _to_read(path: Path) -> sqlite3.Connection:
    """Connect to a spool that another process may be writing to."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() and not os.access(path.parent, os.W_OK):
        # Who may not write there cannot read it otherwise; without its log nobody writes.
        uri += "&immutable=1"
    return sqlite3.connect(uri, uri=True)


def _locked(path: Path) -> int:
    """Keep other processes away from a spool for as long as this one lives."""
    lock = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A process that was just killed lets go of it in a moment.
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise OSError("another process uses it; give each a spool of its own") from None
            time.sleep(0.1)
        else:
            return descriptor


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _packed(rows: Sequence[Row]) -> bytes:
    # The least that it can do makes it five times smaller.
    return zlib.compress(msgspec.msgpack.encode(rows), 1)


def _unpacked(body: bytes) -> list[Row]:
    return _decoder.decode(zlib.decompress(body))
