"""What the benchmarks measure against: a server of their own, in a process of its own."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from frequenz.api.common import components_pb2
from frequenz.api.microgrid import microgrid_pb2, microgrid_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp


class Service(microgrid_pb2_grpc.MicrogridServicer):
    """Meters 1 to n that send so many samples a second each; commands are never answered."""

    def __init__(self, meters: int, rate: float) -> None:
        """Make a service."""
        self._meters = meters
        self._rate = rate

    def ListComponents(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the API's name, as below
        """List the meters."""
        meter = components_pb2.COMPONENT_CATEGORY_METER
        return microgrid_pb2.ComponentList(
            components=[
                microgrid_pb2.Component(id=number, category=meter)
                for number in range(1, self._meters + 1)
            ]
        )

    def StreamComponentData(  # noqa: N802
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterator[microgrid_pb2.ComponentData]:
        """Send samples at the rate, or as fast as they are read if it is 0."""
        message = microgrid_pb2.ComponentData(id=request.id, ts=Timestamp(seconds=1))
        ac = message.meter.data.ac
        for phase in (ac.phase_1, ac.phase_2, ac.phase_3):
            phase.voltage.value = 230.0
            phase.current.value = 10.0
            phase.power_active.value = 2300.0
        ac.power_active.value = 6900.0
        due = time.monotonic()
        while context.is_active():
            message.ts.GetCurrentTime()
            yield message
            if self._rate:
                due += 1 / self._rate
                time.sleep(max(0.0, due - time.monotonic()))

    def SetPowerActive(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Never answer."""
        done = threading.Event()
        context.add_callback(done.set)
        done.wait(600)


def serve(port: int, meters: int, rate: float) -> None:
    """Serve until the standard input is closed; print the port."""
    pool = futures.ThreadPoolExecutor(meters + 20)
    server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    # What the benchmarks do not use stays as the bindings have it: not implemented.
    service = Service(meters, rate)  # type: ignore[abstract] # see above
    microgrid_pb2_grpc.add_MicrogridServicer_to_server(service, server)
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


@contextlib.contextmanager
def serving(port: int = 0, *, meters: int = 1, rate: float = 1.0) -> Iterator[int]:
    """Serve in another process; give the port. It is killed at the end."""
    command = [sys.executable, __file__, str(port), str(meters), str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
