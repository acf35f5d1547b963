"""Debian's PostgreSQL, in a process of its own on a free port."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg

from microgrid_sync.simulator.serving.ports import reserved_port
from tests.support.waiting import PATIENCE, eventually


def postgresql_folder() -> Path | None:
    """Give the folder of the server's programs, which Debian keeps out of the path."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return versions[-1].parent if versions else None


class Database:
    """A server that a test can kill and start again on the same port."""

    def __init__(self) -> None:
        # Not in pytest's folders, which another run closes for all but root.
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._port_held = contextlib.ExitStack()
        self.port = self._port_held.enter_context(reserved_port())
        self._programs = postgresql_folder()
        assert self._programs is not None
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._port_held.close()
        # Children of one that was killed may still write for a moment.
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, name: str, *arguments: str) -> list[str]:
        assert self._programs is not None
        return [str(self._programs / name), "-D", str(self._data), *arguments]

    def _options(self) -> dict[str, Any]:
        if self._user is None:
            return {"cwd": self._folder}
        user = pwd.getpwnam(self._user)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [],
                "cwd": self._folder}  # fmt: skip

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(name, *arguments), capture_output=True, check=False, **self._options()
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
        }
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        deadline = time.monotonic() + PATIENCE
        while True:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command("postgres", *arguments), stdout=log, stderr=log, **self._options()
                )
            # One that was killed leaves children that end in a moment; until then none can start.
            if eventually(lambda: self._answers() or self._process_ended()) and self._answers():
                return
            assert time.monotonic() < deadline, self._log.read_text()

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def kill(self) -> None:
        """End it without a farewell."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask something, and give the rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []
