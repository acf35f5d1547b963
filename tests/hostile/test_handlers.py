"""Handlers, finalizers and forks: they come at any moment, and nothing hangs because of them."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from microgrid_sync import (
    ApiClientError,
    Bounds,
    Microgrid,
    MicrogridApiClient,
    Power,
    ReceiverStoppedError,
    merge,
)
from microgrid_sync.program_end import hand_over
from tests.support.charger_server import ChargerServer
from tests.support.messages import component
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually


def run(
    script: str, *, timeout: float = 60.0, watched: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run a script; one that hangs says where, if it is watched."""
    if watched:
        watch = "import faulthandler\nfaulthandler.dump_traceback_later(50, exit=True)\n"
        script = watch + script
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Dropped:
    """Calls a function when it is collected."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._cycle = self

    def __del__(self) -> None:
        self._call()


def test_garbage_collector_may_run_inside_every_locked_section(server: ScriptedServer) -> None:
    """With finalizers that close what is being used, in whichever thread it runs."""
    client = MicrogridApiClient(server.url, timeout=PATIENCE)
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    errors: list[BaseException] = []
    done: list[int] = []

    def use(number: int) -> None:
        Dropped(client.disconnect if number % 5 == 4 else client.stats)
        client.connect()
        receiver = client.meter_data(1, 2)
        Dropped(receiver.close)
        merged = merge(client.meter_data(1), client.meter_data(1))
        Dropped(merged.close)
        client.set_power(1, float(number))
        merged.drain()
        receiver.drain()

    def work() -> None:
        for number in range(200):
            try:
                use(number)
                done.append(number)
            except (ApiClientError, ReceiverStoppedError):
                continue
            except BaseException as error:  # noqa: BLE001 - anything else is what this is for
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    try:
        sys.setswitchinterval(1e-6)
        gc.set_threshold(1)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5 * PATIENCE)
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
        client.disconnect()
    assert not [thread for thread in threads if thread.is_alive()]
    assert errors == []
    assert len(done) > 50


def test_garbage_collector_may_run_inside_the_locked_sections_of_pools() -> None:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    with ChargerServer(2) as site:
        try:
            sys.setswitchinterval(1e-6)
            gc.set_threshold(1)
            for number in range(6):
                microgrid = Microgrid(site.url)
                pool = microgrid.new_ev_charger_pool(priority=1)
                Dropped(pool.power.new_receiver().close)
                Dropped(pool.power_status.new_receiver().close)
                Dropped(pool.stop)
                pool.propose_power(None, bounds=Bounds(None, Power.from_watts(9000.0)))
                Dropped(microgrid.close if number % 2 else pool.stop)
                microgrid.close()
        finally:
            gc.set_threshold(*threshold)
            sys.setswitchinterval(interval)


def test_ctrl_c_does_not_keep_the_list_from_others(server: ScriptedServer) -> None:
    """Three threads wait for one call; the main one is interrupted, the others get their data."""
    script = f"""
import os, signal, threading, time
from microgrid_sync import MicrogridApiClient
client = MicrogridApiClient({server.url!r})
found = []
def read():
    found.append(client.meter_data(1, 10_000).receive(20).component_id)
threads = [threading.Thread(target=read) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    print("ready", flush=True)
    client.meter_data(1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
for thread in threads:
    thread.join(20)
print(found, client.meter_data(1, 10_000).receive(20).component_id, flush=True)
client.disconnect()
"""
    release = threading.Event()
    answer = server.answers

    def slow_list(request: object, context: object) -> object:
        del answer["ListComponents"]
        release.wait(PATIENCE)
        return server._answer("ListComponents", request, context)  # type: ignore[arg-type] # gRPC's

    server.answers["ListComponents"] = slow_list
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert eventually(lambda: server.count("ListComponents") == 1)
    # Until the main thread is sure to wait for it, too.
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    release.set()
    output, errors = process.communicate(timeout=PATIENCE)
    assert (output, errors) == ("[1, 1] 1\n", "")


def test_disconnect_in_a_finalizer_at_the_very_end(server: ScriptedServer) -> None:
    result = run(f"""
from microgrid_sync import MicrogridApiClient
class Late:
    def __init__(self):
        self.client = MicrogridApiClient({server.url!r})
        self.receiver = self.client.meter_data(1, 10_000)
        self.receiver.receive()
    def __del__(self):
        self.receiver.close()
        self.client.disconnect()
late = Late()
late.cycle = late
""")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


INSIDE = {
    "subscribing": "client.meter_data(1).close()",
    "calling": "client.set_power(1, 1.0)",
    "closing": "client.meter_data(1)",
    "merging": "merge(client.meter_data(1), client.meter_data(1)).close()",
    "stats": "client.stats()",
}


@pytest.mark.parametrize("inside", INSIDE)
def test_signal_handler_may_disconnect_inside_the_client(
    server: ScriptedServer, inside: str
) -> None:
    result = run(
        f"""
import itertools, os, signal, sys, threading, time
from microgrid_sync import ApiClientError, MicrogridApiClient, merge
sys.setswitchinterval(1e-5)
client = MicrogridApiClient({server.url!r})
came = []
def handler(*_):
    client.disconnect()
    came.append(1)
signal.signal(signal.SIGUSR1, handler)
for round in range(15):
    client.connect()
    came.clear()
    threading.Timer(0.002 + 0.003 * round, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    while not came:
        try:
            {INSIDE[inside]}
        except ApiClientError:
            pass
    while client.is_connected:
        pass
deadline = time.monotonic() + 20
def ours():
    return [t.name for t in threading.enumerate() if t.name.startswith("microgrid-")]
while ours() and time.monotonic() < deadline:
    time.sleep(0.01)
print(ours(), flush=True)
""",
        timeout=100,
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_handler_may_close_a_microgrid_whose_thread_is_being_started() -> None:
    with ChargerServer(1) as site:
        result = run(f"""
import os, signal, threading
from microgrid_sync import Microgrid, Power, ReceiverStoppedError
microgrid = Microgrid({site.url!r})
pool = microgrid.new_ev_charger_pool(priority=1)
signal.signal(signal.SIGUSR1, lambda *_: microgrid.close())
start = threading.Thread.start
def interrupted(self):
    start(self)
    if "control-loop" in self.name:
        # In the middle of the first use, with its lock held.
        os.kill(os.getpid(), signal.SIGUSR1)
threading.Thread.start = interrupted
try:
    pool.propose_power(Power.from_watts(1.0))
except ReceiverStoppedError:
    pass
print("out", flush=True)
""")
    assert (result.stdout, result.stderr) == ("out\n", "")


FORK = """
import os, sys, time
from microgrid_sync import Bounds, Microgrid, Power
microgrid = Microgrid({url!r})
pool = microgrid.new_ev_charger_pool(priority=1)
power, status = pool.power.new_receiver(), pool.power_status.new_receiver()
data = microgrid.client.ev_charger_data(11)
pool.propose_power(Power.from_watts(5000.0))
power.receive(20); status.receive(20); data.receive(20)
children = []
for _ in range(8):
    child = os.fork()
    if not child:
        said = []
        for use in (
            lambda: [data.receive(5) for _ in range(100)],
            lambda: [power.receive(5) for _ in range(100)],
            lambda: pool.propose_power(Power.from_watts(1.0)), pool.stop,
            pool.power.new_receiver, pool.power_status.new_receiver,
            lambda: microgrid.client.set_power(11, 1.0),
        ):
            try:
                use()
                said.append("nothing")
            except RuntimeError as error:
                said.append("spawn" if "spawn" in str(error) else str(error))
        data.close(); microgrid.close(); microgrid.client.disconnect()
        os.write(1, b"told\\n" if said == ["spawn"] * 7 else repr(said).encode())
        sys.exit(0)
    children.append(child)
deadline = time.monotonic() + 30
while children and time.monotonic() < deadline:
    for child in list(children):
        if os.waitpid(child, os.WNOHANG)[0]:
            children.remove(child)
    time.sleep(0.05)
for child in children:
    os.kill(child, 9)
print(len(children), "left", flush=True)
power.drain(); power.receive(20)
pool.stop()
microgrid.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_forked_children_with_pools_are_told_and_end() -> None:
    with ChargerServer(2) as site:
        # Not watched: the watching thread would be missed by the children at their end.
        result = run(FORK.format(url=site.url), watched=False)
        *told, left = result.stdout.splitlines()
        assert left == "0 left", result.stderr
        assert set(told) == {"told"}, result.stderr
        # gRPC's own core aborts in a child now and then, at its end mostly.
        assert len(told) >= 6, result.stderr
        assert result.returncode == 0


def test_what_is_to_be_closed_is_closed_although_there_is_no_thread_to_be_had(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MicrogridApiClient(server.url)
    receiver = client.meter_data(1)
    receiver.receive(PATIENCE)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        receiver.close()
        assert eventually(lambda: not client.stats().streams)
        client.disconnect()
    assert not client.is_connected
    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert hand_over(lambda: done.append(1)) is None
    assert done == [1]


def test_merged_receiver_that_is_forgotten_needs_no_garbage_collector() -> None:
    with ScriptedServer(component(1, "meter"), component(2, "meter")) as server:
        gc.disable()
        try:
            with MicrogridApiClient(server.url) as client:
                merged = merge(client.meter_data(1), client.meter_data(2))
                merged.receive(PATIENCE)
                del merged
                assert eventually(lambda: not client.stats().streams)
        finally:
            gc.enable()
