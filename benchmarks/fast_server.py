"""The benchmarks' cheap server: compiled when it is first needed, run in a process of its own.

Needs a C++ compiler and gRPC's C++ library: on Debian, ``apt-get install g++ libgrpc++-dev
pkg-config``.
"""

import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from microgrid_sync.wire import v0_15_schema as schema

SOURCE = Path(__file__).with_suffix(".cc")
BUSY = 0.8
"""Above this part of a core, the server is what is measured, and the row says nothing."""


@dataclass(frozen=True)
class Work:
    """What the server has done so far."""

    at: float
    cpu: float
    sent: int
    lists: int

    def since(self, before: "Work") -> "Work":
        """Give what it has done since, `at` being the seconds that it took."""
        return Work(
            self.at - before.at,
            self.cpu - before.cpu,
            self.sent - before.sent,
            self.lists - before.lists,
        )

    @property
    def share(self) -> float:
        """The part of a core that it took, of what `since` gave."""
        return self.cpu / self.at


class FastServer:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Wait until it serves."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.port = int(self._stdout.readline())

    def work(self) -> Work:
        """Ask what it has done."""
        self._stdin.write("\n")
        self._stdin.flush()
        cpu, sent, lists = self._stdout.readline().split()
        return Work(time.monotonic(), float(cpu), int(sent), int(lists))


def compiled() -> Path:
    """Compile the server, unless that has been done before; give the path."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    binary = Path(tempfile.gettempdir()) / f"microgrid-sync-fast-server-{digest}"
    if not binary.exists():
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "grpc++"],  # noqa: S607 - wherever it is
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        command = ["g++", "-O2", "-std=c++17", str(SOURCE), "-o", str(binary), *flags, "-lpthread"]
        print("compiling", SOURCE.name, file=sys.stderr)
        subprocess.run(command, check=True)
    return binary


def body() -> bytes:
    """Say what a sample of a meter says, besides its time and ID."""
    message = schema.ComponentData()
    ac = message.meter.data.ac
    ac.frequency.value, ac.power_active.value, ac.power_reactive.value = 50.01, 6900.5, -10.0
    for phase in (ac.phase_1, ac.phase_2, ac.phase_3):
        phase.voltage.value, phase.current.value = 230.1, 10.2
        phase.power_active.value, phase.power_reactive.value = 2300.1, -3.3
    serialized: bytes = message.SerializeToString()
    return serialized


@contextlib.contextmanager
def fast_server(meters: int, rate: float) -> Iterator[FastServer]:
    """Serve meters 1 to n that send so many samples a second each; 0 sends as fast as is read."""
    meter = 2
    ids = range(1, meters + 1)
    listed = schema.ComponentList(
        components=[schema.Component(id=number, category=meter) for number in ids]
    )
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "body", Path(folder) / "components"
        files[0].write_bytes(body())
        files[1].write_bytes(listed.SerializeToString())
        command = [str(compiled()), str(rate), *(str(file) for file in files)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield FastServer(process)
        finally:
            process.kill()
            process.communicate(timeout=10)
