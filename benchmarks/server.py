"""What the benchmarks measure against: a server of their own, in a process of its own.

It speaks version 0.15, where commands are never answered, and v1alpha18, where a set-point is
accepted at once, and its success is told some seconds later.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.wire import v0_15_schema as schema
from microgrid_sync.wire import v1alpha18_schema as alpha

METER = 2
"""The number of a meter's category."""

METRICS = (10, 12, 13, 14, 19, 20, 21, 26, 27, 28, 29, 30, 31, 32, 33)
"""What a meter measures."""

ACCEPTED, SUCCESS = 1, 4


class Service(grpc.GenericRpcHandler):
    """Meters 1 to n that send so many samples a second each."""

    def __init__(self, meters: int, rate: float, delay: float, api: str) -> None:
        """Make a service."""
        self._meters = meters
        self._rate = rate
        self._delay = delay
        self._api = api
        self._arrived: list[float] = []
        self._listed = schema.ComponentList(
            components=[schema.Component(id=n, category=METER) for n in range(1, meters + 1)]
        ).SerializeToString()
        self._new = alpha.ListElectricalComponentsResponse(
            electrical_components=[
                alpha.ElectricalComponent(id=n, category=METER) for n in range(1, meters + 1)
            ]
        ).SerializeToString()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Find what answers a call."""
        package, _, name = handler_call_details.method.rpartition("/")
        streams: dict[str, Any] = {}
        answers: dict[str, Any] = {}
        if "v1alpha18" in package and "v1alpha18" in self._api:
            streams = {
                "SetElectricalComponentPower": self._set,
                "ReceiveElectricalComponentTelemetryStream": self._stream_telemetry,
            }
            answers = {
                "GetMicrogrid": lambda *_: b"",
                "ListElectricalComponents": lambda *_: self._new,
                "Arrived": lambda *_: self._arrivals(),
            }
        elif package.endswith("microgrid.Microgrid") and "v0.15" in self._api:
            streams = {"StreamComponentData": self._stream}
            answers = {
                "GetMicrogridMetadata": lambda *_: b"",
                "ListComponents": lambda *_: self._listed,
                "SetPowerActive": self._never,
            }
        if name in streams:
            return grpc.unary_stream_rpc_method_handler(streams[name])
        return grpc.unary_unary_rpc_method_handler(answers[name]) if name in answers else None

    def _stream_telemetry(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send the same sample of a meter at the rate, in v1alpha18."""
        kind = alpha.ReceiveElectricalComponentTelemetryStreamRequest
        response = alpha.ReceiveElectricalComponentTelemetryStreamResponse()
        telemetry = response.telemetry
        telemetry.electrical_component_id = kind.FromString(request).electrical_component_id
        for metric in METRICS:
            sample = telemetry.metric_samples.add(metric=metric)
            sample.sample_time.GetCurrentTime()
            sample.value.simple_metric.value = 100.0 + metric
        payload = response.SerializeToString()
        due = time.monotonic()
        while context.is_active():
            yield payload
            due += 1 / self._rate
            time.sleep(max(0.0, due - time.monotonic()))

    def _stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send samples at the rate, or as fast as they are read if it is 0."""
        number = schema.ComponentIdParam.FromString(request).id
        message = schema.ComponentData(id=number, ts=Timestamp(seconds=1))
        ac = message.meter.data.ac
        for phase in (ac.phase_1, ac.phase_2, ac.phase_3):
            phase.voltage.value = 230.0
            phase.current.value = 10.0
            phase.power_active.value = 2300.0
        ac.power_active.value = 6900.0
        due = time.monotonic()
        while context.is_active():
            message.ts.GetCurrentTime()
            yield message.SerializeToString()
            if self._rate:
                due += 1 / self._rate
                time.sleep(max(0.0, due - time.monotonic()))

    def _never(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        """Never answer."""
        done = threading.Event()
        context.add_callback(done.set)
        done.wait(600)
        return b""

    def _set(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Accept a set-point, and tell of its success later."""
        self._arrived.append(time.monotonic())
        response = alpha.SetElectricalComponentPowerResponse
        yield response(status=ACCEPTED).SerializeToString()
        if self._delay:
            done = threading.Event()
            context.add_callback(done.set)
            done.wait(self._delay)
        yield response(status=SUCCESS).SerializeToString()

    def _arrivals(self) -> bytes:
        """Tell when set-points have arrived since the last time; in text."""
        arrived, self._arrived = self._arrived, []
        return " ".join(map(str, arrived)).encode()


def serve(port: int, meters: int, rate: float, delay: float, api: str) -> None:
    """Serve until the standard input is closed; print the port."""
    pool = futures.ThreadPoolExecutor(meters + 220)
    handler = Service(meters, rate, delay, api)
    server = grpc.server(pool, handlers=[handler], options=[("grpc.so_reuseport", 0)])
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


@contextlib.contextmanager
def serving(
    port: int = 0,
    *,
    meters: int = 1,
    rate: float = 1.0,
    delay: float = 0.0,
    api: str = "v0.15",
) -> Iterator[int]:
    """Serve in another process; give the port. It is killed at the end."""
    command = [sys.executable, __file__, str(port), str(meters), str(rate), str(delay), api]
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
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
