"""Plain set-points whose older ones land late."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from microgrid_sync import ApiClientError, MicrogridApiClient, OperationTimedOut
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis

LANDING = 0.6


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microgrid_sync.transport.resend.LANDING_TIME", LANDING)
    monkeypatch.setattr("microgrid_sync.transport.set_points.LANDING_TIME", LANDING)


class SlowServer(ScriptedServer):
    """Takes the first set-point of 22 kW late, whoever has gone meanwhile.

    If it is told so, it takes it before it answers the first one of 7 kW: however busy the machine
    is, none is sent once more before that has landed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[float] = []
        self.lands_before_the_answer = False
        self.goes_on = threading.Event()
        self.answers["SetPowerActive"] = self._take

    def _take(self, request: Any, context: grpc.ServicerContext) -> Empty:
        if request.power == 22_000.0:
            self.goes_on.wait(PATIENCE)
        self.held.append(request.power)
        if request.power == 7000.0 and self.lands_before_the_answer:
            self.goes_on.set()
            eventually(lambda: 22_000.0 in self.held)
        return Empty()


@pytest.fixture
def server() -> Iterator[SlowServer]:
    with SlowServer() as server:
        yield server
        server.goes_on.set()


def give_up(client: MicrogridApiClient, server: SlowServer) -> None:
    """Give up on the slow one when the server has it, which a busy machine may take a while for."""
    timeout = 0.1
    while server.count("SetPowerActive") == 0 and timeout < PATIENCE:
        with pytest.raises(OperationTimedOut):
            client.set_power(1, 22_000.0, timeout=timeout)
        timeout *= 4


def has_settled(client: MicrogridApiClient) -> bool:
    """Tell whether nothing is under way, and nothing is to be sent once more."""
    assert client._session is not None
    set_points = client._session._set_points
    set_points._resends.worker.wait_for_messages()
    return not set_points._resends._open and not set_points._newest


def start_the_slow_one(client: MicrogridApiClient, server: SlowServer) -> threading.Thread:
    def call() -> None:
        with pytest.raises(ApiClientError):
            client.set_power(1, 22_000.0)

    thread = threading.Thread(target=call)
    thread.start()
    assert eventually(lambda: server.count("SetPowerActive") == 1)
    return thread


def test_newest_is_sent_once_more_when_an_older_one_can_no_longer_land(
    server: SlowServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="microgrid_sync")
    with MicrogridApiClient(server.url) as client:
        thread = start_the_slow_one(client, server)
        server.lands_before_the_answer = True
        client.set_power(1, 7000.0)
        thread.join(PATIENCE)
        assert server.held[:2] == [7000.0, 22_000.0]
        assert eventually(lambda: server.held[2:3] == [7000.0])
        # The server has it before the client knows that.
        assert eventually(lambda: client.stats().resent == 1)
        assert eventually(lambda: "sent once more" in caplog.text)

        def is_settled() -> bool:
            # One that was sent once more may itself be cut off on a busy machine; the first is one.
            stats = client.stats()
            return stats.resent == stats.failures and has_settled(client)

        assert eventually(is_settled)
        resent = client.stats().resent
        time.sleep(2 * LANDING)
        assert client.stats().resent == resent
        assert 2 < len(server.held) <= 2 + resent


@pytest.mark.parametrize("how", ["timeout", "superseded"])
def test_same_value_is_not_sent_once_more(server: SlowServer, how: str) -> None:
    with MicrogridApiClient(server.url, call_retry=None) as client:
        if how == "timeout":
            give_up(client, server)
            server.goes_on.set()
            client.set_power(1, 22_000.0)
        else:
            older = start_the_slow_one(client, server)
            newer = threading.Thread(target=lambda: client.set_power(1, 22_000.0))
            newer.start()
            # The newer one has begun.
            older.join(PATIENCE)
            server.goes_on.set()
            newer.join(PATIENCE)
        time.sleep(2 * LANDING)
        assert client.stats().resent == 0


def test_newer_call_calls_it_off(server: SlowServer) -> None:
    with MicrogridApiClient(server.url, call_retry=None) as client:
        give_up(client, server)
        client.set_power(1, 7000.0)
        assert eventually(lambda: has_settled(client))
        # What follows began after the older one could land.
        resent = client.stats().resent
        client.set_power(1, 8000.0)
        time.sleep(2 * LANDING)
        assert client.stats().resent == resent
        assert [power for power in server.held if power != 22_000.0][-1] == 8000.0


def test_other_components_and_kinds_are_left_alone(server: SlowServer) -> None:
    with MicrogridApiClient(server.url, call_retry=None) as client:
        give_up(client, server)
        client.set_power(2, 7000.0)
        client.set_reactive_power(1, 7000.0)
        time.sleep(2 * LANDING)
        assert client.stats().resent == 0


def test_resend_that_is_refused_for_now_is_tried_again(server: SlowServer) -> None:
    with MicrogridApiClient(server.url, call_retry=None) as client:
        take, tries = server.answers["SetPowerActive"], []

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            if request.power == 7000.0:
                tries.append(request)
                if len(tries) == 2:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return take(request, context)

        server.answers["SetPowerActive"] = answer
        older = start_the_slow_one(client, server)
        server.lands_before_the_answer = True
        client.set_power(1, 7000.0)
        older.join(PATIENCE)
        assert eventually(lambda: len(tries) > 2 and server.held[-1] == 7000.0)


def test_call_that_was_refused_does_not_call_it_off(server: SlowServer) -> None:
    with MicrogridApiClient(server.url, call_retry=None) as client:
        take, tries = server.answers["SetPowerActive"], []

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            if request.power == 99_000.0:
                context.abort(grpc.StatusCode.OUT_OF_RANGE, "too much")
            tries.append(request.power)
            return take(request, context)

        server.answers["SetPowerActive"] = answer
        older = start_the_slow_one(client, server)
        server.lands_before_the_answer = True
        client.set_power(1, 7000.0)
        older.join(PATIENCE)
        with pytest.raises(ApiClientError):
            client.set_power(1, 99_000.0)
        assert eventually(lambda: tries.count(7000.0) > 1 and server.held[-1] == 7000.0)


def test_interrupted_call_counts_as_cut_off(
    server: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is, the newer one is to begin while the older one may still land.
    for module in ("resend", "set_points"):
        monkeypatch.setattr(f"microgrid_sync.transport.{module}.LANDING_TIME", 5 * LANDING)

    def interrupted(*_: Any) -> bytes:
        assert eventually(lambda: server.count("SetPowerActive") == 1)
        raise KeyboardInterrupt

    with MicrogridApiClient(server.url, call_retry=None) as client:
        with monkeypatch.context() as patch:
            patch.setattr("microgrid_sync.transport.set_points.next_answer", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.set_power(1, 22_000.0)
        server.lands_before_the_answer = True
        client.set_power(1, 7000.0)
        assert eventually(lambda: server.held[-2:] == [22_000.0, 7000.0])


def test_disconnect_calls_it_off(server: SlowServer) -> None:
    client = MicrogridApiClient(server.url, call_retry=None)
    give_up(client, server)
    client.set_power(1, 7000.0)
    client.disconnect()
    calls, resent = server.count("SetPowerActive"), client.stats().resent
    time.sleep(2 * LANDING)
    assert server.count("SetPowerActive") == calls
    assert client.stats().resent == resent
