"""Finds out what a destination of a recording is: a file, a folder of Parquet files, a database."""

import os
import re
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

from microgrid_sync.recording.files import SUFFIXES

Kind = Literal["file", "parquet", "postgresql"]

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")

_WAYS = (
    "a file that ends in .csv or .jsonl, a folder for Parquet files such as 'data/', or a database "
    "such as postgresql://user@host/database"
)


class Destination(NamedTuple):
    """Where a recording is."""

    kind: Kind

    path: Path
    """The file or folder."""

    url: str
    """The database's URL, which may have a password in it."""


def destination_of(text: str | Path) -> Destination:
    """Find out what a destination is.

    Args:
        text: A file's name that ends in ``.csv``, ``.jsonl`` or ``.ndjson``; a folder, there
            already, or whose name ends in ``/`` or ``.parquet``; or ``postgresql://...``.

    Raises:
        ValueError: If it is none of these.
    """
    found = _URL.match(str(text))
    if found is not None:
        if found["scheme"] in {"postgresql", "postgres"}:
            return Destination("postgresql", Path(), str(text))
        # What stands behind it may be secret.
        raise ValueError(f"{found['scheme']}:// is no destination; it may be {_WAYS}")
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and not path.is_dir():
        return Destination("file", path, "")
    if path.is_file():
        raise ValueError(f"{str(path)!r} is a file, and no folder; a destination may be {_WAYS}")
    if path.is_dir() or str(text).endswith(("/", os.sep)) or suffix == ".parquet":
        return Destination("parquet", path, "")
    # A URL that is not quite one may have a password in it.
    what = "it" if "@" in str(text) else repr(str(text))
    raise ValueError(f"{what} is no destination; it may be {_WAYS}")


def default_spool(destination: Destination, share: str = "") -> Path:
    """Name the spool of a destination, unless somebody names another one.

    Args:
        destination: The destination: a folder has its spool in it; that of a database is in
            ``$STATE_DIRECTORY``, which systemd sets, or in ``~/.local/state/microgrid_sync``.
        share: Which one of several processes it is for, such as ``3-of-8``.
    """
    name = f"spool{f'-{share}' if share else ''}.sqlite"
    if destination.kind == "parquet":
        return destination.path / f".{name}"
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(given) if given else Path(home) / "microgrid_sync"
    # Two databases have two spools.
    return folder / f"{zlib.crc32(_where(destination.url).encode()):08x}-{name}"


def _where(url: str) -> str:
    """Give which database a URL is of, however it is connected to."""
    _, _, rest = url.partition("://")
    return rest.partition("?")[0].rpartition("@")[2]
