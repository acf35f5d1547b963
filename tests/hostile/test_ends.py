"""Ends of all kinds: of a thousand streams, by Ctrl-C, by the end of the program, by a fork."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import grpc
import pytest

from microgrid_sync import ClientNotConnected, MicrogridApiClient, ReceiverStoppedError
from microgrid_sync.simulator import Simulator
from tests.support.messages import component
from tests.support.server import ScriptedServer, failing
from tests.support.waiting import PATIENCE, eventually

STREAMS = 300
"""Enough to be many, and few enough for a busy machine; benchmarks/ has the thousand."""


def many_meters(count: int) -> dict[str, object]:
    ids = range(2, count + 2)
    return {
        "component": [{"id": 1, "category": "grid"}]
        + [{"id": number, "category": "meter"} for number in ids],
        "connections": [[1, number] for number in ids],
    }


@pytest.mark.microgrid(site=many_meters(STREAMS))
@pytest.mark.parametrize("way", ["another thread", "twice at once", "a reader", "subscribing"])
def test_many_streams_end(microgrid: Simulator, way: str) -> None:
    client = MicrogridApiClient(microgrid.url)
    receivers = [client.meter_data(number) for number in range(2, STREAMS + 2)]
    for receiver in receivers:
        receiver.receive(PATIENCE)

    def subscribe() -> None:
        try:
            for number in range(2, STREAMS + 2):
                client.meter_data(number)
        except ClientNotConnected:
            return

    def read_and_disconnect() -> None:
        receivers[0].receive()
        client.disconnect()

    work: list[Callable[[], None]] = {
        "another thread": [client.disconnect],
        "twice at once": [client.disconnect, client.disconnect],
        "a reader": [read_and_disconnect],
        "subscribing": [subscribe, client.disconnect],
    }[way]
    threads = [threading.Thread(target=run) for run in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    for receiver in receivers:
        # What waits is still read. On a busy machine an end may come after the time allowed for it.
        list(receiver)
        with pytest.raises(ReceiverStoppedError):
            receiver.receive(PATIENCE)
    assert eventually(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("microgrid-")]
    )


WAITS = {
    "receive": "client.meter_data(1).receive()",
    "receive with a timeout": "client.meter_data(1).receive(600)",
    "iteration": "[value for value in client.meter_data(1)]",
    "call": "client.set_power(1, 1.0)",
    "pause": "patient.set_power(1, 2.0)",
    "merged": "merge(client.meter_data(1), client.meter_data(2)).receive()",
}

CTRL_C = """
import sys, tenacity
from microgrid_sync import MicrogridApiClient, merge
client = MicrogridApiClient({url!r})
policy = tenacity.Retrying(wait=tenacity.wait_fixed(600))
patient = MicrogridApiClient({url!r}, call_retry=policy, timeout=6000)
client.components()
print("ready", flush=True)
try:
    {wait}
except KeyboardInterrupt:
    client.disconnect()
    patient.disconnect()
    sys.exit(7)
"""


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_leaves_every_wait(server: ScriptedServer, wait: str) -> None:

    server.components.append(component(2, "meter"))
    server.stream = server.silent_stream
    never = server.never

    def answer(request: object, context: grpc.ServicerContext) -> object:
        if getattr(request, "power", 0.0) == 2.0:
            return failing(grpc.StatusCode.UNAVAILABLE)(request, context)
        return never(request, context)

    server.answers["SetPowerActive"] = answer
    script = CTRL_C.format(url=server.url, wait=WAITS[wait])
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    expected = "StreamComponentData" if "meter_data" in WAITS[wait] else "SetPowerActive"
    assert eventually(lambda: server.count(expected))
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (7, "")


FORK = """
import multiprocessing, os, sys
from microgrid_sync import Microgrid, MicrogridApiClient

client = MicrogridApiClient({url!r})
receiver = client.meter_data(1)
receiver.receive()

def child(queue):
    said = []
    for use in (
        client.components, client.connections, client.metadata,
        lambda: client.meter_data(1), lambda: client.set_power(1, 1.0),
        lambda: client.set_bounds(1, -1.0, 1.0),
        lambda: MicrogridApiClient({url!r}), lambda: Microgrid({url!r}),
    ):
        try:
            use()
            said.append("nothing")
        except RuntimeError as error:
            said.append("spawn" if "spawn" in str(error) else str(error))
    client.disconnect()
    queue.put(said)

context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
said = queue.get(timeout=20)
process.join(20)
receiver.drain()
receiver.receive(20)
client.set_power(1, 1.0)
client.disconnect()
print(said)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_forked_child_is_told_and_its_parent_goes_on(server: ScriptedServer) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK.format(url=server.url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(["spawn"] * 8)


STUCK = """
import logging, sys, threading, time
from microgrid_sync import MicrogridApiClient
inside = threading.Event()

class Stuck(logging.Handler):
    def emit(self, record):
        inside.set()
        time.sleep(2)

logging.getLogger("microgrid_sync").addHandler(Stuck())
client = MicrogridApiClient({url!r})
receiver = client.meter_data(1)
receiver.receive()
print("ready", flush=True)
inside.wait(20)
try:
    print("stuck", flush=True)
    while True:
        client.disconnect()
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted", flush=True)
client.disconnect()
assert not client.is_connected
"""


def test_ctrl_c_leaves_a_disconnect_that_waits(server: ScriptedServer) -> None:
    """A thread of the program's own log handler keeps the stream from ending."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK.format(url=server.url)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    server.stop()
    assert process.stdout.readline() == "stuck\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert output == "interrupted\n"
