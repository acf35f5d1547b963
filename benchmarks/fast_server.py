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
from typing import Any

from microgrid_sync.wire import v0_15_schema
from microgrid_sync.wire import v1alpha18_schema as alpha

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


METRICS = (10, 12, 13, 14, 19, 20, 21, 26, 27, 28, 29, 30, 31, 32)
"""What a component of v1alpha18 measures besides 33, which the server itself adds."""


def old_body(category: str) -> bytes:
    """Say what a sample of a meter or charger says in version 0.15, besides its time and ID."""
    message = v0_15_schema.ComponentData()
    ac = getattr(message, category).data.ac
    ac.frequency.value, ac.power_active.value, ac.power_reactive.value = 50.01, 6900.5, -10.0
    for phase in (ac.phase_1, ac.phase_2, ac.phase_3):
        phase.voltage.value, phase.current.value = 230.1, 10.2
        phase.power_active.value, phase.power_reactive.value = 2300.1, -3.3
    if category == "ev_charger":
        ac.power_active.system_inclusion_bounds.upper = 22_080.0
        message.ev_charger.state.cable_state = 5
        message.ev_charger.state.component_state = 4
    serialized: bytes = message.SerializeToString()
    return serialized


def new_body(category: str) -> bytes:
    """Say the same in v1alpha18, besides the ID and the newest sample."""
    response = alpha.ReceiveElectricalComponentTelemetryStreamResponse()
    telemetry = response.telemetry
    for metric in METRICS:
        sample = telemetry.metric_samples.add(metric=metric)
        sample.sample_time.seconds = 1_700_000_000
        sample.value.simple_metric.value = 100.0 + metric
        if metric == 26 and category == "ev_charger":
            sample.bounds.add(lower=0.0, upper=22_080.0)
    if category == "ev_charger":
        snapshot = telemetry.state_snapshots.add(states=[23, 24, 8])
        snapshot.origin_time.seconds = 1_700_000_000
    serialized: bytes = response.SerializeToString()
    return serialized


def listed(api: str, category: str, count: int) -> bytes:
    """List components 1 to n, as the API does."""
    number = {"meter": 2, "ev_charger": 6}[category]
    if api == "v0.15":
        answer: Any = v0_15_schema.ComponentList(
            components=[v0_15_schema.Component(id=n, category=number) for n in range(1, count + 1)]
        )
    else:
        answer = alpha.ListElectricalComponentsResponse(
            electrical_components=[
                alpha.ElectricalComponent(id=n, category=number) for n in range(1, count + 1)
            ]
        )
    serialized: bytes = answer.SerializeToString()
    return serialized


@contextlib.contextmanager
def fast_server(
    count: int, rate: float, *, api: str = "v0.15", category: str = "meter"
) -> Iterator[FastServer]:
    """Serve components 1 to n that send so many samples a second each.

    A rate of 0 sends as fast as is read.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "body", Path(folder) / "components"
        files[0].write_bytes((old_body if api == "v0.15" else new_body)(category))
        files[1].write_bytes(listed(api, category, count))
        command = [str(compiled()), str(rate), api, *(str(file) for file in files)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield FastServer(process)
        finally:
            process.kill()
            process.communicate(timeout=10)
