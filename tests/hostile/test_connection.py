"""Connections that break, stall and come back: every stream goes on by itself."""

import itertools
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    LinearBackoff,
    MeterData,
    MicrogridApiClient,
    OperationTimedOut,
    Receiver,
    ServiceUnavailable,
)
from microgrid_sync.wire import v0_15_schema as schema
from tests.support.messages import component
from tests.support.proxy import Proxy
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis

QUICK = LinearBackoff(interval=0.1, jitter=0.0)
KEPT_ALIVE = "?keep_alive_interval_s=1&keep_alive_timeout_s=1"


@pytest.fixture
def proxy(server: ScriptedServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def powers_rise(receiver: Receiver[MeterData], count: int) -> bool:
    """Whether the next values come one after the other: they count up in each connection."""
    values = [receiver.receive(PATIENCE).active_power for _ in range(count)]
    return all(b == a + 1 for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("pause", [0.2, 5.0])
def test_server_is_killed_and_comes_back(pause: float) -> None:
    meters = [component(number, "meter") for number in range(1, 6)]
    with (
        ScriptedServer(*meters) as server,
        MicrogridApiClient(server.url, retry_strategy=QUICK) as client,
    ):
        receivers = [client.meter_data(number, 10_000) for number in range(1, 6)]
        for receiver in receivers:
            receiver.receive(PATIENCE)
        server.stop()
        time.sleep(pause)
        # All that the old connection has had is there.
        assert eventually(
            lambda: all(stream.state.name == "FAILING" for stream in client.stats().streams)
        )
        for receiver in receivers:
            receiver.drain()
        server.start()
        for receiver in receivers:
            # Nothing but the gap: it begins with the first value of the new connection.
            assert receiver.receive(PATIENCE).active_power == 0
            assert powers_rise(receiver, 20)


def test_server_is_killed_twenty_times_in_a_row() -> None:
    meters = [component(number, "meter") for number in range(1, 4)]
    with (
        ScriptedServer(*meters) as server,
        MicrogridApiClient(server.url, retry_strategy=QUICK) as client,
    ):
        receivers = [client.meter_data(number, 10_000) for number in range(1, 4)]
        threads = None
        for number in range(20):
            for receiver in receivers:
                receiver.receive(PATIENCE)
            assert eventually(
                lambda n=number: all(s.reconnects >= n for s in client.stats().streams)  # type: ignore[misc] # mypy cannot infer a lambda's default
            )
            streams = [
                thread
                for thread in threading.enumerate()
                if re.match(r"microgrid-stream-\d", thread.name)
            ]
            threads = threads or len(streams)
            assert len(streams) == threads == 3
            server.stop()
            for receiver in receivers:
                receiver.drain()
            server.start()
        assert eventually(lambda: all(s.reconnects >= 20 for s in client.stats().streams))
        for receiver in receivers:
            receiver.receive(PATIENCE)


def test_connection_that_is_cut_is_made_again(proxy: Proxy) -> None:
    with MicrogridApiClient(proxy.url, retry_strategy=QUICK) as client:
        receiver = client.meter_data(1)
        for _ in range(3):
            receiver.receive(PATIENCE)
            accepted = proxy.accepted
            proxy.cut()
            receiver.drain()
            assert eventually(lambda n=accepted: proxy.accepted > n)  # type: ignore[misc] # mypy cannot infer a lambda's default
        receiver.receive(PATIENCE)


def test_connection_that_stalls_is_noticed_and_made_again(proxy: Proxy) -> None:
    with MicrogridApiClient(proxy.url + KEPT_ALIVE, retry_strategy=QUICK) as client:
        receiver = client.meter_data(1, 10_000)
        receiver.receive(PATIENCE)
        proxy.stalled.set()
        # Noticed by interval and timeout of the keep-alive: nobody has closed anything.
        assert eventually(lambda: client.stats().streams[0].reconnects > 0)
        proxy.stalled.clear()
        receiver.drain()
        # A busy proxy may be taken for a stalled one once more.
        assert eventually(lambda: powers_rise(receiver, 20))


def test_slow_connection_delays_values_and_loses_none(proxy: Proxy) -> None:
    proxy.delay = 0.05
    proxy.bytes_per_second = 100_000
    with MicrogridApiClient(proxy.url) as client:
        receiver = client.meter_data(1, 10_000)
        assert powers_rise(receiver, 100)
        assert client.stats().streams[0].reconnects == 0


def test_silent_stream_survives_a_server_that_finds_pings_too_many(
    server: ScriptedServer,
) -> None:
    """The server has gRPC's default limits: after a few pings of a silent client it hangs up."""
    speak = threading.Event()

    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from itertools.islice(server.count_up(component_id, context), 1)
        while context.is_active() and not server.released.is_set():
            if speak.wait(0.05):
                yield from server.count_up(component_id, context)

    server.stream = stream
    url = server.url + "&keep_alive_interval_s=0.2&keep_alive_timeout_s=5"
    with MicrogridApiClient(url, retry_strategy=QUICK) as client:
        receiver = client.meter_data(1, 10_000)
        receiver.receive(PATIENCE)
        assert eventually(lambda: client.stats().streams[0].reconnects > 0)
        speak.set()
        receiver.drain()
        assert eventually(lambda: receiver.receive(PATIENCE).active_power > 10)


def test_answer_after_the_deadline_disturbs_nobody(server: ScriptedServer) -> None:
    late = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        del context
        if request.power == 1.0:
            late.wait(PATIENCE)
        return schema.ComponentList()

    server.answers["SetPowerActive"] = answer
    with MicrogridApiClient(server.url) as client:
        began = time.monotonic()
        with pytest.raises(OperationTimedOut):
            client.set_power(1, 1.0, timeout=0.5)
        assert time.monotonic() - began < PATIENCE / 2
        late.set()
        client.set_power(1, 2.0)
        assert list(client.components())
        stats = client.stats()
        assert (stats.calls, stats.failures) == (3, 1)


def test_server_that_is_not_there_is_an_error_at_once() -> None:
    with MicrogridApiClient("grpc://127.0.0.1:1", call_retry=None) as client:
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:1"):
            list(client.components())
        assert time.monotonic() - began < PATIENCE / 2
