"""The readers that the benchmarks compare: each a process of its own.

Usage: reader.py KIND PORT STREAMS SECONDS [--api API] [--category CATEGORY] [--interval SECONDS].
Prints a line when everything flows, waits for one on its standard input, measures, and prints JSON.
"""

import argparse
import asyncio
import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

LARGE = 100_000
EVERY = 10
"""The delay of each tenth value is noted."""

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


class Measured:
    """What one thread has read."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.count = 0
        self.delays: list[float] = []

    def took(self, stamp: Callable[[], float]) -> None:
        """Note that a value has been taken, and now and then how late."""
        self.count += 1
        if self.count % EVERY == 0:
            self.delays.append(time.time() - stamp())


measured: list[Measured] = []
"""One for each thread that reads."""


def start(read: Callable[[Measured], object]) -> None:
    """Let a thread read."""
    mine = Measured()
    measured.append(mine)
    threading.Thread(target=read, args=(mine,), daemon=True).start()


# What bare grpcio reads


class Source(NamedTuple):
    """A generation of the API, as its stub has it."""

    path: str
    request: Callable[[int], bytes]
    parse: Callable[[bytes], Any]
    stamp: Callable[[Any], float]
    fields: Callable[[Any], tuple[float, ...]]


def seconds_of(stamp: Any) -> float:
    """Give a timestamp in seconds."""
    return float(stamp.seconds + stamp.nanos / 1e9)


def old_source(category: str) -> Source:
    """Read version 0.15."""
    from microgrid_sync.wire import v0_15_schema as schema

    def fields(message: Any) -> tuple[float, ...]:
        ac = getattr(message, category).data.ac
        one, two, three = ac.phase_1, ac.phase_2, ac.phase_3
        return (
            message.ts.seconds + message.ts.nanos / 1e9, message.id, ac.power_active.value,
            one.power_active.value, two.power_active.value, three.power_active.value,
            ac.power_reactive.value,
            one.power_reactive.value, two.power_reactive.value, three.power_reactive.value,
            one.current.value, two.current.value, three.current.value,
            one.voltage.value, two.voltage.value, three.voltage.value,
            ac.frequency.value,
        )  # fmt: skip

    return Source(
        "/frequenz.api.microgrid.Microgrid/StreamComponentData",
        lambda number: schema.ComponentIdParam(id=number).SerializeToString(),
        schema.ComponentData.FromString,
        lambda message: seconds_of(message.ts),
        fields,
    )


def new_source(api: str) -> Source:
    """Read v1alpha18, or what has the same messages."""
    from microgrid_sync.wire import v1alpha18_schema as schema

    def fields(message: Any) -> tuple[float, ...]:
        samples = message.telemetry.metric_samples
        found = {sample.metric: sample.value.simple_metric.value for sample in samples}
        stamp = samples[-1].sample_time
        return (
            stamp.seconds + stamp.nanos / 1e9, message.telemetry.electrical_component_id,
            found[26], found[27], found[28], found[29],
            -found[30], -found[31], -found[32], -found[33],
            found[19], found[20], found[21], found[12], found[13], found[14], found[10],
        )  # fmt: skip

    kind = schema.ReceiveElectricalComponentTelemetryStreamRequest
    return Source(
        f"/frequenz.api.microgrid.{api}.Microgrid/ReceiveElectricalComponentTelemetryStream",
        lambda number: kind(electrical_component_id=number).SerializeToString(),
        schema.ReceiveElectricalComponentTelemetryStreamResponse.FromString,
        lambda message: seconds_of(message.telemetry.metric_samples[-1].sample_time),
        fields,
    )


Dropped = Callable[[], int]


def bare_messages(options: argparse.Namespace, source: Source) -> Callable[[int], Iterable[Any]]:
    """Give what opens a stream with grpcio alone, as the client does: its reader drives it."""
    import grpc
    import grpc.experimental

    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    channel = grpc.insecure_channel(f"127.0.0.1:{options.port}", options=[option])
    kept.append(channel)
    call: Any = channel.unary_stream(source.path, None, source.parse)
    return lambda number: call(source.request(number))


def bare(options: argparse.Namespace, source: Source) -> Dropped:
    """Read with grpcio: a thread each takes the fields, and hands them to one reader."""
    open_stream = bare_messages(options, source)
    values: queue.SimpleQueue[tuple[float, ...]] = queue.SimpleQueue()

    def hand_over(number: int) -> None:
        put, fields = values.put, source.fields
        for message in open_stream(number):
            put(fields(message))

    def read(mine: Measured) -> None:
        while True:
            value = values.get()
            mine.took(lambda value=value: value[0])  # type: ignore[misc] # mypy: default of lambda

    for number in range(1, options.streams + 1):
        threading.Thread(target=hand_over, args=(number,), daemon=True).start()
    start(read)
    return lambda: 0


def parsed(options: argparse.Namespace, source: Source) -> Dropped:
    """Read with grpcio: a thread each parses, and hands nothing over."""
    open_stream = bare_messages(options, source)

    def read(mine: Measured, number: int) -> None:
        for message in open_stream(number):
            mine.took(lambda message=message: source.stamp(message))  # type: ignore[misc] # likewise

    for number in range(1, options.streams + 1):
        start(lambda mine, number=number: read(mine, number))  # type: ignore[misc] # likewise
    return lambda: 0


# What our client reads


def subscribed(options: argparse.Namespace) -> Any:
    """Subscribe; print how long that took."""
    from microgrid_sync import MicrogridApiClient, merge

    client = MicrogridApiClient(f"grpc://127.0.0.1:{options.port}?api={options.api}")
    kept.append(client)
    subscribe: Callable[..., Any]
    subscribe = client.meter_data if options.category == "meter" else client.ev_charger_data
    began = time.monotonic()
    size = LARGE if options.streams == 1 else 50
    receivers = [subscribe(number, size) for number in range(1, options.streams + 1)]
    print(f"{time.monotonic() - began:.3f}", flush=True)
    return merge(*receivers) if options.streams > 1 else receivers[0]


def ours(options: argparse.Namespace, source: Source) -> Dropped:
    """Read with our client: one reader that is woken for each value."""
    del source
    receiver = subscribed(options)

    def read(mine: Measured) -> None:
        for value in receiver:
            mine.took(value.timestamp.timestamp)

    start(read)
    return lambda: int(receiver.dropped)


def batches(options: argparse.Namespace, source: Source) -> Dropped:
    """Read with our client, in batches; a field of each value is read."""
    del source
    receiver = subscribed(options)

    def read(mine: Measured) -> None:
        total = 0.0
        for batch in receiver.batches(options.interval):
            for value in batch:
                total += value.active_power
                mine.took(value.timestamp.timestamp)

    start(read)
    return lambda: int(receiver.dropped)


KINDS = {"bare": bare, "parsed": parsed, "ours": ours, "batches": batches}


def measure(dropped: Dropped, options: argparse.Namespace) -> None:
    """Measure when told to, and print."""

    def count() -> int:
        return sum(each.count for each in measured)

    while count() < 2 * options.streams:
        time.sleep(0.05)
    time.sleep(1.0)
    print("flowing", flush=True)
    sys.stdin.readline()
    for each in measured:
        each.delays.clear()
    before = time.monotonic(), cpu(), count(), dropped()
    time.sleep(options.seconds)
    after = time.monotonic(), cpu(), count(), dropped()
    taken, used, number, lost = (b - a for a, b in zip(before, after, strict=True))
    delays = sorted(delay for each in measured for delay in each.delays)
    result = {
        "rate": number / taken,
        "dropped": lost,
        "cpu_per_message": used / max(number, 1),
        "resident": resident(),
        "p99": delays[len(delays) * 99 // 100] if delays else 0.0,
    }
    print(json.dumps(result), flush=True)
    # A thousand daemon threads need no orderly end.
    os._exit(0)


async def read_asyncio(options: argparse.Namespace) -> None:
    """Read one stream with the published asyncio client, version 0.6 or 0.18."""
    from frequenz.client import microgrid as package

    url = f"grpc://127.0.0.1:{options.port}"
    if options.api == "v0.15":
        old: Any = package.MicrogridApiClient(url)
        subscribe = old.meter_data if options.category == "meter" else old.ev_charger_data
        receiver = await subscribe(1, maxsize=LARGE)
    else:
        from frequenz.client.common.microgrid.components import ComponentId
        from frequenz.client.microgrid.metrics import Metric

        client: Any = package.MicrogridApiClient(url)
        kept.append(client)
        receiver = client.receive_component_data_samples_stream(
            ComponentId(1), list(Metric), buffer_size=LARGE
        )
    count, began, used = 0, 0.0, 0.0
    loop = asyncio.get_running_loop()
    stamp: datetime | None = None
    async for value in receiver:
        if options.api == "v0.15":
            stamp = value.timestamp
        count += 1
        if count == 1000:
            print("flowing", flush=True)
            await loop.run_in_executor(None, sys.stdin.readline)
            count, began, used = 1000, time.monotonic(), cpu()
        if count > 1000 and time.monotonic() - began > options.seconds:
            break
    assert stamp is not None or options.api != "v0.15"
    taken = time.monotonic() - began
    result = {"rate": (count - 1000) / taken, "cpu_per_message": (cpu() - used) / count}
    print(json.dumps(result), flush=True)
    os._exit(0)


def main() -> None:
    """Read and measure."""
    parser = argparse.ArgumentParser(description="A reader that a benchmark measures.")
    parser.add_argument("kind", choices=(*KINDS, "asyncio"))
    parser.add_argument("port", type=int)
    parser.add_argument("streams", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--api", default="v0.15")
    parser.add_argument("--category", choices=("meter", "ev_charger"), default="meter")
    parser.add_argument("--interval", type=float, default=0.002)
    options = parser.parse_args()
    if options.kind == "asyncio":
        asyncio.run(read_asyncio(options))
        return
    source = old_source(options.category) if options.api == "v0.15" else new_source(options.api)
    measure(KINDS[options.kind](options, source), options)


if __name__ == "__main__":
    main()
