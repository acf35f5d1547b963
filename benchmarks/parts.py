"""What several benchmarks do: bare grpcio, CPU time, a process that serves."""

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.experimental
from google.protobuf.empty_pb2 import Empty

from microgrid_sync.wire import v0_15_schema as schema
from microgrid_sync.wire import v1alpha18_schema as alpha

SERVICE = "/frequenz.api.microgrid.Microgrid/"


def bare_channel(port: int) -> grpc.Channel:
    """Make a channel as the client does: the thread that reads a stream drives it."""
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[option])


def read_bare_streams(
    port: int,
    numbers: Iterable[int],
    take: Callable[[int], object] = lambda component_id: None,
    *,
    api: str = "v0.15",
) -> grpc.Channel:
    """Read streams with grpcio, a daemon thread each, until the channel is closed.

    Each message is parsed; `take` is told whose it was.
    """
    channel = bare_channel(port)
    if api == "v0.15":
        stream, kind, name = bare_stream(channel), schema.ComponentIdParam, "id"
    else:
        stream = channel.unary_stream(
            f"/frequenz.api.microgrid.{api}.Microgrid/ReceiveElectricalComponentTelemetryStream",
            serialized,
            alpha.ReceiveElectricalComponentTelemetryStreamResponse.FromString,
        )
        kind = alpha.ReceiveElectricalComponentTelemetryStreamRequest
        name = "electrical_component_id"

    def read(component_id: int) -> None:
        try:
            for _ in stream(kind(**{name: component_id})):
                take(component_id)
        except grpc.RpcError:
            return

    for number in numbers:
        threading.Thread(target=read, args=(number,), daemon=True).start()
    return channel


def bare_stream(channel: grpc.Channel) -> Any:
    """Give the call that streams a component's data, as a stub has it."""
    return channel.unary_stream(
        SERVICE + "StreamComponentData", serialized, schema.ComponentData.FromString
    )


def bare_set_power(channel: grpc.Channel) -> Any:
    """Give the call that sets active power, as a stub has it."""
    return channel.unary_unary(SERVICE + "SetPowerActive", serialized, Empty.FromString)


def serialized(message: Any) -> bytes:
    """Serialize a message."""
    payload: bytes = message.SerializeToString()
    return payload


def cpu_seconds() -> float:
    """Give the CPU time that this process has taken so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def print_cpu_time(*, after: float, seconds: float) -> None:
    """Wait, and print the CPU time that this process takes in some seconds."""
    time.sleep(after)
    before = cpu_seconds()
    time.sleep(seconds)
    print(cpu_seconds() - before, flush=True)


def start_serving(file: str) -> "tuple[subprocess.Popen[str], int]":
    """Start a benchmark's own file as the server; give the process and the port it prints."""
    server = subprocess.Popen(
        [sys.executable, file, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    return server, int(server.stdout.readline())
