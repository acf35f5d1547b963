"""Servers that answer without end, send too much, or allow too little."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    InternalError,
    LinearBackoff,
    MicrogridApiClient,
    ReceiverStoppedError,
    ServiceUnavailable,
)
from microgrid_sync.transport.channel import LARGEST_STREAM_MESSAGE
from microgrid_sync.transport.stream_places import Place, StreamPlaces
from microgrid_sync.wire import v0_15_schema as schema
from microgrid_sync.wire.values import MOST_ERRORS
from tests.support.messages import component, data
from tests.support.process import resident
from tests.support.server import ScriptedServer, failing
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis


class EndlessServer(ScriptedServer):
    """Answers whoever wants to know the components with an endless stream."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.ended = threading.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if not handler_call_details.method.endswith("Components"):
            return super().service(handler_call_details)
        return grpc.unary_stream_rpc_method_handler(self._endless)

    def _endless(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.ended.set)
        while context.is_active() and not self.ended.is_set():
            self.sent += 1
            yield bytes(1000)


def test_endless_answer_is_cancelled_after_its_second_message() -> None:
    with EndlessServer() as server, MicrogridApiClient(server.url, call_retry=None) as client:
        with pytest.raises(InternalError, match="more than one message"):
            client.components()
        assert server.ended.wait(PATIENCE)


def test_message_that_is_too_large_ends_the_stream_undecoded() -> None:
    def stream(_: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield data(1, "battery", 1).SerializeToString()
        message = data(1, "battery", 2)
        message.battery.errors.extend([schema.BatteryError()] * LARGEST_STREAM_MESSAGE)
        yield message.SerializeToString()

    with ScriptedServer(component(1, "battery")) as server:
        server.stream = stream
        strategy = LinearBackoff(0.01, 0.0)
        with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
            receiver = client.battery_data(1)
            assert [receiver.receive(PATIENCE).soc for _ in range(3)] == [1.0] * 3
            stats = client.stats().streams[0]
            assert stats.undecodable == 0
            assert "RESOURCE_EXHAUSTED" in (stats.last_error or "")


def test_endless_list_of_errors_is_cut_off() -> None:
    def stream(_: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        message = data(1, "battery", 1)
        message.battery.errors.extend([schema.BatteryError()] * 20_000)
        yield message.SerializeToString()
        context.add_callback(released.set)
        released.wait(PATIENCE)

    released = threading.Event()
    with ScriptedServer(component(1, "battery")) as server:
        server.stream = stream
        with MicrogridApiClient(server.url) as client:
            value = client.battery_data(1).receive(PATIENCE)
            assert len(value.errors) == MOST_ERRORS


def test_message_that_cannot_be_decoded_does_not_reset_the_strategy() -> None:
    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"nonsense"

    with ScriptedServer() as server:
        server.stream = stream
        strategy = LinearBackoff(0.01, 0.0, limit=3)
        with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
            receiver = client.meter_data(1)
            with pytest.raises(ReceiverStoppedError):
                receiver.receive(PATIENCE)
        assert server.count("StreamComponentData") == 4


def test_failed_list_call_keeps_nothing_alive(server: ScriptedServer) -> None:
    class Large:
        pass

    server.answers["ListComponents"] = failing(grpc.StatusCode.PERMISSION_DENIED)
    kept: list[weakref.ref[Large]] = []

    def subscribe(client: MicrogridApiClient) -> None:
        large = Large()
        kept.append(weakref.ref(large))
        with pytest.raises(Exception, match="PERMISSION_DENIED"):
            client.meter_data(1)

    with MicrogridApiClient(server.url, call_retry=None) as client:
        subscribe(client)
        gc.collect()
        assert kept[0]() is None


# Limits of streams on one connection


class NarrowServer(ScriptedServer):
    """Allows only so many calls on one connection at a time."""

    def __init__(self, limit: int, count: int) -> None:
        super().__init__(*(component(number, "meter") for number in range(1, count + 1)))
        self._limit = limit

    def start(self) -> "NarrowServer":
        self.released.clear()
        self._pool = futures.ThreadPoolExecutor(100)
        options = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", self._limit)]
        self._server = grpc.server(self._pool, handlers=[self], options=options)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self


@pytest.mark.parametrize(("limit", "count"), [(4, 4), (4, 14)])
def test_streams_that_find_no_place_are_opened_on_more_connections(
    limit: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.transport.stream_places._PATIENCE", 0.5)
    with NarrowServer(limit, count) as server, MicrogridApiClient(server.url) as client:
        receivers = [client.meter_data(number) for number in range(1, count + 1)]
        # Commands go all the same.
        client.set_power(1, 1.0, timeout=PATIENCE)
        for receiver in receivers:
            assert receiver.receive(PATIENCE)
        assert all(stream.reconnects == 0 for stream in client.stats().streams)


def test_streams_of_a_slow_connection_are_moved_when_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long as nothing has come of a whole connection, a move would not help any of them."""
    monkeypatch.setattr("microgrid_sync.transport.stream_places._PATIENCE", 0.2)
    goes_on = threading.Event()
    with NarrowServer(4, 14) as server, MicrogridApiClient(server.url) as client:

        def stream(number: int, context: grpc.ServicerContext) -> Iterator[bytes]:
            goes_on.wait(PATIENCE)
            yield from server.count_up(number, context)

        server.stream = stream
        receivers = [client.meter_data(number) for number in range(1, 15)]
        assert client._session is not None
        places = client._session._connection.places
        assert eventually(lambda: len(places._given_up) == 14)
        goes_on.set()
        for receiver in receivers:
            assert receiver.receive(PATIENCE)


def test_stream_whose_place_was_given_up_before_it_was_used_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its thread stands still between taking a place and opening its call there."""
    monkeypatch.setattr("microgrid_sync.transport.stream_places._PATIENCE", 0.2)
    take, was_late = StreamPlaces.take, threading.Event()

    def late(places: StreamPlaces, stream: Any) -> Place:
        place = take(places, stream)
        if stream.component_id == 14 and not was_late.is_set():
            was_late.set()
            assert eventually(lambda: place.is_given_up)
        return place

    monkeypatch.setattr(StreamPlaces, "take", late)
    with NarrowServer(4, 14) as server, MicrogridApiClient(server.url) as client:
        receivers = [client.meter_data(number) for number in range(1, 15)]
        for receiver in receivers:
            assert receiver.receive(PATIENCE)
    assert was_late.is_set()


def test_stream_for_which_nothing_comes_anywhere_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("microgrid_sync.transport.stream_places._PATIENCE", 0.2)
    with ScriptedServer(component(1, "meter"), component(2, "meter")) as server:
        server.stream = lambda number, context: (
            server.count_up(number, context)
            if number == 1
            else server.silent_stream(number, context)
        )
        with MicrogridApiClient(server.url) as client:
            client.meter_data(1).receive(PATIENCE)
            one, two = client.meter_data(1), client.meter_data(2)
            assert eventually(lambda: "nothing has come of components 2" in caplog.text)
            assert one.receive(PATIENCE)
            two.close()


def test_streams_and_calls_that_were_cancelled_leave_nothing(server: ScriptedServer) -> None:
    server.interval = 0.0
    with MicrogridApiClient(server.url) as client:

        def open_and_close(times: int) -> None:
            for _ in range(times):
                with client.meter_data(1, 5) as receiver:
                    receiver.receive(PATIENCE)
                assert eventually(lambda: not client.stats().streams)

        open_and_close(100)
        gc.collect()
        before = resident()
        open_and_close(400)
        gc.collect()
        # It was 20 kB for each.
        assert (resident() - before) / 400 < 8000


def test_server_that_is_another_site_now_is_told(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with MicrogridApiClient(server.url, retry_strategy=LinearBackoff(0.05, 0.0)) as client:
        receiver = client.meter_data(1)
        receiver.receive(PATIENCE)
        server.stop()
        assert eventually(lambda: client.stats().streams[0].state.name == "FAILING")

        def not_found(_: int, context: grpc.ServicerContext) -> Iterator[bytes]:
            context.abort(grpc.StatusCode.NOT_FOUND, "no component 1 here")
            yield b""

        server.stream = not_found
        server.start()
        assert eventually(lambda: "NOT_FOUND" in (client.stats().streams[0].last_error or ""))


def test_program_may_start_before_its_server(port: int) -> None:
    with (
        ScriptedServer(port=port) as server,
        MicrogridApiClient(server.url, call_retry=None) as client,
    ):
        server.stop()
        with pytest.raises(ServiceUnavailable):
            client.components()
        assert client.state.name == "FAILING"
        since = client.stats().failing_since
        assert since is not None
        assert since <= datetime.now(UTC)
        with pytest.raises(TimeoutError):
            client.wait_until_ready(0.3)
        timer = threading.Timer(0.3, server.start)
        timer.start()
        client.wait_until_ready(PATIENCE)
        timer.join()
        assert client.state.name == "READY"
        assert client.stats().failing_since is None
        assert list(client.components())
        assert "ready" in repr(client)


def test_wrong_metadata_is_an_answer(server: ScriptedServer) -> None:
    server.answers["GetMicrogridMetadata"] = failing(grpc.StatusCode.UNIMPLEMENTED)
    with MicrogridApiClient(server.url) as client:
        client.wait_until_ready(PATIENCE)
