"""Writes rows into a CSV or JSON Lines file, which has its name only when it is whole."""

import contextlib
import csv
import io
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from microgrid_sync.notebook.columns import jsonable

SUFFIXES = (".csv", ".jsonl", ".ndjson")
"""The kinds of files, by the ends of their names."""

_FLUSH_INTERVAL = 1.0
"""Seconds: what is older is in the file, whatever becomes of the program."""


class FileRecording:
    """A file that rows are written into.

    Until `finish` it is called ``NAME.part``: what was broken off, by whatever, never looks whole.
    One thread uses it.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, replace: bool = False) -> None:
        """Open the file.

        Args:
            path: Its name; the end says whether it is CSV or JSON Lines.
            columns: The columns of a CSV file, in order.
            replace: Whether a file of that name, whole or not, is replaced.

        Raises:
            ValueError: If the name ends otherwise.
            FileExistsError: If there is such a file, and it is not to be replaced.
            OSError: If it cannot be written.
        """
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.rows = 0
        check_suffix(path)
        if not replace:
            for known in (path, self.part):
                if known.exists():
                    raise FileExistsError(f"{known} exists already")
        # Not buffered: what is not written whole is taken back.
        self._file = self.part.open("wb", buffering=0)
        self._size = 0
        self._flushed_at = time.monotonic()
        self._pending = io.StringIO()
        self._csv: csv.DictWriter[str] | None = None
        if path.suffix.lower() == ".csv":
            self._csv = csv.DictWriter(self._pending, columns, extrasaction="ignore")
            self._csv.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row; what a CSV file has no column for is left out.

        Raises:
            OSError: If it cannot be written.
        """
        self._add(row)
        now = time.monotonic()
        if now - self._flushed_at >= _FLUSH_INTERVAL:
            self._flushed_at = now
            self._flush()

    def write_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, all of them or none.

        Raises:
            OSError: If they cannot be written.
        """
        self._flush()
        before = self.rows
        try:
            for row in rows:
                self._add(row)
            self._flush()
        except BaseException:
            self.rows = before
            self._forget()
            raise

    def _add(self, row: Mapping[str, Any]) -> None:
        plain = jsonable(dict(row))
        if self._csv is None:
            text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
            self._pending.write(text + "\n")
        else:
            self._csv.writerow(plain)
        self.rows += 1

    def _flush(self) -> None:
        left = memoryview(self._pending.getvalue().encode("utf-8", "replace"))
        whole = len(left)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            # Half a row is none.
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise
        self._size += whole
        self._forget()

    def _forget(self) -> None:
        self._pending.seek(0)
        self._pending.truncate()

    def finish(self) -> None:
        """Give the file its name: it is whole.

        Raises:
            OSError: If it cannot be written.
        """
        self._flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.part.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; unless it was finished it keeps the name of a part."""
        if not self._file.closed:
            # What was broken off keeps all that came.
            with contextlib.suppress(OSError):
                self._flush()
        self._file.close()


def check_suffix(path: Path) -> None:
    """Check that a file's name says what kind of file it is.

    Raises:
        ValueError: If it does not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{str(path)!r} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
