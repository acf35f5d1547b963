"""The generations of the API beside each other, in one run: what each of them costs.

Usage: generations.py [--peer-python PATH]. PATH is a Python that has frequenz-sdk 1.0.0rc2214.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from parts import bare_channel, bare_stream, cpu_seconds, serialized
from server import METRICS, serving

from microgrid_sync import ComponentCategory, MicrogridApiClient, merge
from microgrid_sync.client import start_set_power
from microgrid_sync.wire import generation, v0_15_schema
from microgrid_sync.wire import v1alpha18_schema as alpha

ROUNDS = 15
SET = "/frequenz.api.microgrid.v1alpha18.Microgrid/SetElectricalComponentPower"
ARRIVED = "/frequenz.api.microgrid.v1alpha18.Microgrid/Arrived"

LOADING = """
import time, grpc, microgrid_sync.wire, microgrid_sync.model
import google.protobuf.timestamp_pb2, google.protobuf.empty_pb2
t = time.process_time()
microgrid_sync.wire.generation({name!r})
print(time.process_time() - t)
"""


def loading() -> None:
    """CPU time of loading a generation, in interpreters of their own."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for name in ("v0.15", "v1alpha18"):
        command = [sys.executable, "-c", LOADING.format(name=name)]
        times = [
            float(subprocess.check_output(command, text=True, env=environment))
            for _ in range(ROUNDS)
        ]
        print(f"loading {name}: {min(times) * 1e3:.2f} ms of CPU (less than 3 is wanted)")


def old_payload() -> bytes:
    """A sample of a charger in version 0.15."""
    message = v0_15_schema.ComponentData(id=7)
    message.ts.seconds = 1_700_000_000
    ac = message.ev_charger.data.ac
    ac.frequency.value, ac.power_active.value, ac.power_reactive.value = 50.01, 11_000.0, -12.0
    ac.power_active.system_inclusion_bounds.upper = 22_080.0
    for phase in (ac.phase_1, ac.phase_2, ac.phase_3):
        phase.voltage.value, phase.current.value = 230.1, 16.0
        phase.power_active.value, phase.power_reactive.value = 3600.0, -4.0
    message.ev_charger.state.cable_state = 5
    message.ev_charger.state.component_state = 4
    payload: bytes = message.SerializeToString()
    return payload


def new_payload() -> bytes:
    """The same in v1alpha18: 15 samples of a metric each."""
    response = alpha.ReceiveElectricalComponentTelemetryStreamResponse()
    telemetry = response.telemetry
    telemetry.electrical_component_id = 7
    for metric in METRICS:
        sample = telemetry.metric_samples.add(metric=metric)
        sample.sample_time.seconds = 1_700_000_000
        sample.value.simple_metric.value = 100.0 + metric
        if metric == 26:
            sample.bounds.add(lower=0.0, upper=22_080.0)
    snapshot = telemetry.state_snapshots.add(states=[23, 24, 8])
    snapshot.origin_time.seconds = 1_700_000_000
    payload: bytes = response.SerializeToString()
    return payload


def cpu_time(call: Callable[[], object], times: int = 2000) -> float:
    """CPU time of one call, in us."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6


def decoding(peer: str | None) -> None:
    """CPU time of making a charger's data of its bytes, in turns."""
    old, new = old_payload(), new_payload()
    old_request = generation("v0.15").stream_data(7, ComponentCategory.EV_CHARGER)
    new_request = generation("v1alpha18").stream_data(7, ComponentCategory.EV_CHARGER)
    olds, news = [], []
    for _ in range(ROUNDS):
        olds.append(cpu_time(lambda: old_request.make(old_request.read(old))))
        news.append(cpu_time(lambda: new_request.make(new_request.read(new))))
    ratio = min(news) / min(olds)
    print(
        f"decoding a charger's 15 samples: v1alpha18 {min(news):.1f} us, v0.15 {min(olds):.1f} us"
    )
    print(f"    ratio {ratio:.2f} (at most 2 is wanted)")
    if peer is None:
        return
    script = Path(__file__).with_name("peer_decoding.py")
    theirs = float(subprocess.check_output([peer, str(script)], input=new.hex(), text=True))
    print(f"    client 0.18.4 and the SDK: {theirs:.1f} us, {theirs / min(news):.1f} times as much")


def finding_out() -> None:
    """The first call of a connection, with the API given and without, in turns."""
    calls: dict[str, Callable[[MicrogridApiClient], object]] = {
        "v1alpha18": lambda client: client.set_power(1, 5.0),
        "v0.15": lambda client: client.components(),
    }
    for name, call in calls.items():
        times: dict[str, list[float]] = {"given": [], "found": []}
        with serving(api=name) as port:
            for _ in range(ROUNDS):
                for how, query in (("given", f"?api={name}"), ("found", "")):
                    client = MicrogridApiClient(f"grpc://127.0.0.1:{port}{query}")
                    began = time.perf_counter()
                    call(client)
                    times[how].append(time.perf_counter() - began)
                    client.disconnect()
        given, found = (statistics.median(times[how]) * 1e3 for how in ("given", "found"))
        print(f"first call, {name}: {given:.1f} ms with the API given, {found:.1f} ms without")


def bare_reading(channel: grpc.Channel) -> Callable[[], None]:
    """A set-point with grpcio alone, read to its end."""
    call: Any = channel.unary_stream(SET, None, None)
    parse = alpha.SetElectricalComponentPowerResponse.FromString

    def set_power() -> None:
        message = alpha.SetElectricalComponentPowerRequest(
            electrical_component_id=1, power_type=1, power=1000.0
        )
        for answer in call(message.SerializeToString(), timeout=60.0):
            parse(answer)

    return set_power


def set_points() -> None:
    """Set-points one after the other, in turns with bare grpcio reading the same stream."""
    with (
        serving(api="v1alpha18") as port,
        MicrogridApiClient(f"grpc://127.0.0.1:{port}?api=v1alpha18") as client,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        bare = bare_reading(channel)
        ratios, ours_all, bare_all = [], [], []
        calls: list[Callable[[], object]] = [bare, lambda: client.set_power(1, 1000.0)]
        for _ in range(ROUNDS):
            times = []
            for call in calls:
                call()
                began = time.perf_counter()
                for _ in range(200):
                    call()
                times.append((time.perf_counter() - began) / 200 * 1e6)
            bare_all.append(times[0])
            ours_all.append(times[1])
            ratios.append(times[1] / times[0])
        print(
            f"set_power, accepted and done: {statistics.median(ours_all):.0f} us, bare grpcio "
            f"{statistics.median(bare_all):.0f} us, ratio {statistics.median(ratios):.2f}"
        )


def streams(count: int = 50, rate: float = 20.0, seconds: float = 3.0) -> None:
    """CPU time of a message of many streams, in turns with bare grpcio, in both generations."""
    values: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def bare_old(port: int) -> grpc.Channel:
        channel = bare_channel(port)
        read(bare_stream(channel), v0_15_schema.ComponentIdParam, "id", take_old)
        return channel

    def bare_new(port: int) -> grpc.Channel:
        channel = bare_channel(port)
        path = "/frequenz.api.microgrid.v1alpha18.Microgrid/"
        response = alpha.ReceiveElectricalComponentTelemetryStreamResponse
        call: Any = channel.unary_stream(
            path + "ReceiveElectricalComponentTelemetryStream", serialized, response.FromString
        )
        kind = alpha.ReceiveElectricalComponentTelemetryStreamRequest
        read(call, kind, "electrical_component_id", take_new)
        return channel

    def read(call: Any, kind: Any, name: str, take: Callable[[Any], None]) -> None:
        def run(number: int) -> None:
            try:
                for message in call(kind(**{name: number})):
                    take(message)
            except grpc.RpcError:
                return

        for number in range(1, count + 1):
            threading.Thread(target=run, args=(number,), daemon=True).start()

    def take_old(message: Any) -> None:
        ac = message.meter.data.ac
        phases = ac.phase_1, ac.phase_2, ac.phase_3
        values.put(
            (
                message.ts.seconds + message.ts.nanos / 1e9, message.id,
                ac.power_active.value, ac.power_reactive.value, ac.frequency.value,
                *(p.power_active.value for p in phases), *(p.power_reactive.value for p in phases),
                *(p.current.value for p in phases), *(p.voltage.value for p in phases),
            )
        )  # fmt: skip

    def take_new(message: Any) -> None:
        telemetry = message.telemetry
        samples = telemetry.metric_samples
        stamp = samples[-1].sample_time
        found = {sample.metric: sample.value.simple_metric.value for sample in samples}
        values.put(
            (
                stamp.seconds + stamp.nanos / 1e9, telemetry.electrical_component_id,
                found[26], -found[30], found[10],
                (found[27], found[28], found[29]), (-found[31], -found[32], -found[33]),
                (found[19], found[20], found[21]), (found[12], found[13], found[14]),
            )
        )  # fmt: skip

    def bare_cost(start: Callable[[int], grpc.Channel], port: int) -> float:
        channel = start(port)
        cost = per_message(values.get)
        channel.close()
        return cost

    def our_cost(name: str, port: int) -> float:
        with MicrogridApiClient(f"grpc://127.0.0.1:{port}?api={name}") as client:
            receivers = [client.meter_data(number) for number in range(1, count + 1)]
            with merge(*receivers) as merged:
                return per_message(merged.receive)

    def per_message(take: Callable[[], Any]) -> float:
        for _ in range(count * 3):
            take()
        before, began, taken = cpu_seconds(), time.monotonic(), 0
        while time.monotonic() - began < seconds:
            take()
            taken += 1
        return (cpu_seconds() - before) / taken * 1e6

    for name, bare in (("v0.15", bare_old), ("v1alpha18", bare_new)):
        ours, bares = [], []
        with serving(meters=count, rate=rate, api=name) as port:
            for _ in range(5):
                bares.append(bare_cost(bare, port))
                while not values.empty():
                    values.get()
                ours.append(our_cost(name, port))
        ratio = statistics.median(o / b for o, b in zip(ours, bares, strict=True))
        print(
            f"{count} streams at {rate:g} Hz, {name}: {statistics.median(ours):.0f} us of CPU a "
            f"message, bare grpcio {statistics.median(bares):.0f} us, ratio {ratio:.2f} (1.3)"
        )


def many_decreases(count: int = 100) -> None:
    """Many set-points at a server that tells of success 3 s later: when the last has arrived."""
    with (
        serving(delay=3.0, api="v1alpha18") as port,
        MicrogridApiClient(f"grpc://127.0.0.1:{port}?api=v1alpha18") as client,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        arrived: Any = channel.unary_unary(ARRIVED, None, None)
        client.set_power(1, 1.0)
        arrived(b"", timeout=10.0)
        done = threading.Semaphore(0)

        def ours() -> None:
            for number in range(1, count + 1):
                start_set_power(
                    client,
                    number,
                    0.0,
                    lifetime=60,
                    timeout=5.0,
                    on_accepted=lambda: None,
                    on_done=lambda _: done.release(),
                )

        call: Any = channel.unary_stream(SET, None, None)

        def bare() -> None:
            def read(number: int) -> None:
                message = alpha.SetElectricalComponentPowerRequest(
                    electrical_component_id=number, power_type=1
                )
                for _ in call(message.SerializeToString(), timeout=60.0):
                    continue
                done.release()

            for number in range(1, count + 1):
                threading.Thread(target=read, args=(number,), daemon=True).start()

        for name, send in (("bare grpcio", bare), ("microgrid_sync", ours)):
            # One clock for all processes of a machine.
            began = time.monotonic()
            send()
            for _ in range(count):
                done.acquire(timeout=20.0)
            times = sorted(float(text) for text in arrived(b"", timeout=10.0).split())
            assert len(times) == count
            print(f"{count} decreases, {name}: all there after {times[-1] - began:.3f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The generations of the API beside each other.")
    parser.add_argument("--peer-python")
    options = parser.parse_args()
    loading()
    decoding(options.peer_python)
    finding_out()
    streams()
    set_points()
    many_decreases()
    print(json.dumps({"done": True}))


if __name__ == "__main__":
    main()
