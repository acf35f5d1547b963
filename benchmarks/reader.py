"""The readers that the benchmarks compare: each a process of its own.

Usage: reader.py KIND PORT STREAMS SECONDS. KIND is ``bare`` (grpcio: a thread for each stream,
the single-threaded option, the fields read and handed through a SimpleQueue to one reader),
``ours`` (a client, its receivers merged), or ``asyncio`` (the published client; its Python must
have it). Prints a line when everything flows, waits for one on its standard input, measures, and
prints JSON.
"""

import asyncio
import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

LARGE = 100_000

kept: list[object] = []
"""What must live as long as the process."""


def cpu() -> float:
    """Give the CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident() -> int:
    """Give the resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


Reading = tuple[Callable[[], Any], Callable[[Any], float], Callable[[], int]]
"""What gives the next value, the time of a value, and how many were dropped."""


def bare(port: int, streams: int) -> Reading:
    """Start to read with grpcio alone."""
    import grpc
    import grpc.experimental

    from microgrid_sync.wire import v0_15_schema as schema

    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[option])
    stream: Any = channel.unary_stream(
        "/frequenz.api.microgrid.Microgrid/StreamComponentData",
        lambda message: message.SerializeToString(),
        schema.ComponentData.FromString,
    )
    kept.append(channel)
    values: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read(number: int) -> None:
        put = values.put
        for message in stream(schema.ComponentIdParam(id=number)):
            ac = message.meter.data.ac
            one, two, three = ac.phase_1, ac.phase_2, ac.phase_3
            put(
                (
                    message.ts.seconds + message.ts.nanos / 1e9,
                    message.id,
                    ac.power_active.value,
                    one.power_active.value,
                    two.power_active.value,
                    three.power_active.value,
                    ac.power_reactive.value,
                    one.power_reactive.value,
                    two.power_reactive.value,
                    three.power_reactive.value,
                    one.current.value,
                    two.current.value,
                    three.current.value,
                    one.voltage.value,
                    two.voltage.value,
                    three.voltage.value,
                    ac.frequency.value,
                )
            )

    for number in range(1, streams + 1):
        threading.Thread(target=read, args=(number,), daemon=True).start()
    return values.get, lambda value: float(value[0]), lambda: 0


def ours(port: int, streams: int) -> Reading:
    """Start to read with our client."""
    from microgrid_sync import MicrogridApiClient, merge

    client = MicrogridApiClient(f"grpc://127.0.0.1:{port}?api=v0.15")
    began = time.monotonic()
    size = LARGE if streams == 1 else 50
    receivers = [client.meter_data(number, size) for number in range(1, streams + 1)]
    print(f"{time.monotonic() - began:.3f}", flush=True)
    merged = merge(*receivers) if streams > 1 else receivers[0]
    kept.append(client)

    return merged.receive, lambda value: float(value.timestamp.timestamp()), lambda: merged.dropped


class Measured:
    """What one reading thread has read."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.count = 0
        self.delays: list[float] = []
        self.notes_delays = False

    def read(self, next_value: Callable[[], Any], stamp: Callable[[Any], float]) -> None:
        """Read for ever."""
        while True:
            value = next_value()
            self.count += 1
            if self.notes_delays:
                self.delays.append(time.time() - stamp(value))


def measure(measured: Measured, dropped: Callable[[], int], streams: int, seconds: float) -> None:
    """Measure when told to, and print."""
    while measured.count < 2 * streams:
        time.sleep(0.05)
    time.sleep(1.0)
    print("flowing", flush=True)
    sys.stdin.readline()
    # Flat out, the delay is that of a full queue, and says nothing.
    measured.notes_delays = streams > 1
    before = time.monotonic(), cpu(), measured.count, dropped()
    time.sleep(seconds)
    after = time.monotonic(), cpu(), measured.count, dropped()
    taken, used, count, lost = (b - a for a, b in zip(before, after, strict=True))
    delays = sorted(measured.delays)
    result = {
        "rate": count / taken,
        "dropped": lost,
        "cpu_per_message": used / max(count, 1),
        "resident": resident(),
        "p99": delays[len(delays) * 99 // 100] if delays else 0.0,
    }
    print(json.dumps(result), flush=True)
    # A thousand daemon threads need no orderly end.
    os._exit(0)


async def read_asyncio(port: int, seconds: float) -> None:
    """Read one stream with the published asyncio client."""
    from frequenz.client.microgrid import MicrogridApiClient

    client = MicrogridApiClient(f"grpc://127.0.0.1:{port}?api=v0.15")
    receiver = await client.meter_data(1, maxsize=LARGE)
    count, began, used = 0, 0.0, 0.0
    loop = asyncio.get_running_loop()
    stamp: datetime | None = None
    async for value in receiver:
        stamp = value.timestamp
        count += 1
        if count == 1000:
            print("flowing", flush=True)
            await loop.run_in_executor(None, sys.stdin.readline)
            count, began, used = 1000, time.monotonic(), cpu()
        if count > 1000 and time.monotonic() - began > seconds:
            break
    assert stamp is not None
    taken = time.monotonic() - began
    result = {"rate": (count - 1000) / taken, "cpu_per_message": (cpu() - used) / count}
    print(json.dumps(result), flush=True)
    os._exit(0)


def main() -> None:
    """Read and measure."""
    kind, port, streams, seconds = sys.argv[1:]
    if kind == "asyncio":
        asyncio.run(read_asyncio(int(port), float(seconds)))
        return
    start = {"bare": bare, "ours": ours}[kind]
    next_value, stamp, dropped = start(int(port), int(streams))
    measured = Measured()
    threading.Thread(target=measured.read, args=(next_value, stamp), daemon=True).start()
    measure(measured, dropped, int(streams), float(seconds))


if __name__ == "__main__":
    main()
