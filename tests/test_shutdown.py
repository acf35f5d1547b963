"""Ends: in about a second, from any thread, with everybody out and nothing on the terminal."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from microgrid_sync import MicrogridApiClient, ReceiverStoppedError
from tests.support.messages import component
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server with 50 meters that say nothing."""
    with ScriptedServer(*(component(n, "meter") for n in range(1, 51))) as server:
        server.stream = server.silent_stream
        yield server


def _microgrid_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("microgrid-")]


def test_disconnect_gets_everybody_out(server: ScriptedServer) -> None:
    client = MicrogridApiClient(server.url)
    ends: list[BaseException | None] = []

    def read(component_id: int) -> None:
        try:
            client.meter_data(component_id).receive()
        except ReceiverStoppedError as stopped:
            ends.append(stopped.__cause__)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(1, 51)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(client.stats().streams) == 50)
    started = time.monotonic()
    client.disconnect()
    for thread in threads:
        thread.join(PATIENCE)
    # Generous: a second on a machine of one's own.
    assert time.monotonic() - started < 10
    assert ends == [None] * 50
    assert eventually(lambda: not _microgrid_threads())
    assert not client.is_connected


def test_disconnect_may_be_called_in_many_threads_at_once(server: ScriptedServer) -> None:
    client = MicrogridApiClient(server.url)
    receiver = client.meter_data(1)
    barrier = threading.Barrier(8)

    def disconnect() -> None:
        barrier.wait(PATIENCE)
        client.disconnect()

    threads = [threading.Thread(target=disconnect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert list(receiver) == []
    client.disconnect()


EXIT = """
import sys, threading, time
from microgrid_sync import MicrogridApiClient, ReceiverStoppedError
client = MicrogridApiClient({url!r})
def read(component_id):
    try:
        client.meter_data(component_id).receive()
    except ReceiverStoppedError:
        pass
threads = [threading.Thread(target=read, args=(n,), daemon={daemon}) for n in range(1, 51)]
for thread in threads:
    thread.start()
while len(client.stats().streams) < 50:
    time.sleep(0.01)
print("ready", flush=True)
{end}
"""


@pytest.mark.parametrize("daemon", [True, False])
@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(3)", 3), ("threads[0].join()", 1)])
def test_interpreter_exits_with_everybody_out(
    server: ScriptedServer, daemon: bool, end: str, code: int
) -> None:
    script = EXIT.format(url=server.url, daemon=daemon, end=end)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    if code == 1:
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 20
    if code == 1:
        # The one traceback is that of the script's own KeyboardInterrupt.
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode == -signal.SIGINT
    else:
        assert errors == ""
        assert process.returncode == code


def test_signal_handler_may_disconnect(server: ScriptedServer) -> None:
    script = f"""
import signal, sys
from microgrid_sync import MicrogridApiClient
client = MicrogridApiClient({server.url!r})
signal.signal(signal.SIGTERM, lambda *_: client.disconnect())
receiver = client.meter_data(1)
print("ready", flush=True)
for value in receiver:
    pass
print("out", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert out == "out\n"
    assert process.returncode == 0


def test_log_handler_in_a_stream_thread_may_disconnect(server: ScriptedServer) -> None:
    """From one of our own threads: it must not wait for itself."""
    script = f"""
import logging, sys
from microgrid_sync import MicrogridApiClient, LinearBackoff
client = MicrogridApiClient({server.url!r}, retry_strategy=LinearBackoff(0.05, 0.0))
class Disconnecter(logging.Handler):
    def emit(self, record):
        client.disconnect()
logging.getLogger("microgrid_sync").addHandler(Disconnecter())
receiver = client.meter_data(1)
print("ready", flush=True)
print(len(list(receiver)), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    server.stop()
    out, _ = process.communicate(timeout=60)
    assert out == "0\n"
    assert process.returncode == 0


def test_signal_handlers_may_disconnect_at_any_moment(server: ScriptedServer) -> None:
    """The signal falls into calls that hold locks of gRPC's."""
    script = f"""
import faulthandler, os, signal, threading
from microgrid_sync import ApiClientError, MicrogridApiClient
faulthandler.dump_traceback_later(50, exit=True)
client = MicrogridApiClient({server.url!r})
signal.signal(signal.SIGUSR1, lambda *_: client.disconnect())
for round in range(12):
    client.connect()
    receiver = client.meter_data(1)
    threading.Timer(0.001 + 0.0015 * round, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        while client.is_connected:
            client.set_power(1, 2.0)
    except ApiClientError:
        pass
    while client.is_connected:
        pass
    del receiver
print("out", flush=True)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.stdout == "out\n", result.stderr


def test_program_ends_although_its_client_was_forgotten(server: ScriptedServer) -> None:
    script = f"""
import gc, threading
from microgrid_sync import MicrogridApiClient
receiver = MicrogridApiClient({server.url!r}).meter_data(1)
gc.collect()
threading.Thread(target=lambda: list(receiver)).start()
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_last_set_point_can_be_sent_at_exit(server: ScriptedServer) -> None:
    script = f"""
import atexit
from microgrid_sync import MicrogridApiClient
client = MicrogridApiClient({server.url!r})
receiver = client.meter_data(1)
atexit.register(lambda: print(client.is_connected, client.set_power(1, 0.0)))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("True None\n", "")
    assert server.count("SetPowerActive") == 1


def test_client_can_be_made_at_exit(server: ScriptedServer) -> None:
    script = f"""
import atexit
from microgrid_sync import MicrogridApiClient
def last():
    with MicrogridApiClient({server.url!r}) as client:
        print(len(client.components()))
atexit.register(last)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("50\n", "")


def test_program_ends_with_readers_of_a_pool() -> None:
    script = """
import threading
from microgrid_sync import Microgrid, ReceiverStoppedError
from microgrid_sync.simulator import Simulator
simulator = Simulator(sample_interval=0.1).start()
microgrid = Microgrid(simulator.url)
pool = microgrid.new_ev_charger_pool(priority=1)
receivers = [
    pool.power.new_receiver(),
    pool.power_status.new_receiver(),
    pool.power_distribution_results.new_receiver(),
]
for receiver in receivers:
    threading.Thread(target=lambda r=receiver: list(r)).start()
receivers[0].latest()
print("main ends", flush=True)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "main ends\n", "")
