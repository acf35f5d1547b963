"""Streams over TCP: sharing, reconnecting, ending, skipping, counting."""

import gc
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    ApiClientError,
    ComponentCategory,
    LinearBackoff,
    MeterData,
    MicrogridApiClient,
    OperationUnauthenticated,
    Receiver,
    ReceiverStoppedError,
    ServiceUnavailable,
)
from microgrid_sync.fan_out import FanOut
from microgrid_sync.wire import v0_15, v1alpha18
from tests.support.messages import component, data
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis

QUICK = LinearBackoff(0.02, 0.0)


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[MicrogridApiClient]:
    with MicrogridApiClient(server.url, retry_strategy=QUICK) as client:
        yield client


def _stream_threads() -> list[str]:
    return [
        thread.name.split()[0]
        for thread in threading.enumerate()
        if thread.name.startswith("microgrid-stream-") and "places" not in thread.name
    ]


def _powers(receiver: Receiver[MeterData], count: int) -> list[float]:
    return [receiver.receive(PATIENCE).active_power for _ in range(count)]


def test_values_arrive_in_order(client: MicrogridApiClient) -> None:
    with client.meter_data(1, 10_000) as receiver:
        assert _powers(receiver, 5) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_receivers_of_one_component_share_a_thread_and_a_call(
    client: MicrogridApiClient, server: ScriptedServer
) -> None:
    receivers = [client.meter_data(1) for _ in range(10)]
    for receiver in receivers:
        receiver.receive(PATIENCE)
    assert _stream_threads() == ["microgrid-stream-1"]
    assert server.count("StreamComponentData") == 1


def test_thread_ends_with_its_last_receiver(client: MicrogridApiClient) -> None:
    one, two = client.meter_data(1), client.meter_data(1)
    one.close()
    two.receive(PATIENCE)
    assert _stream_threads()
    two.close()
    assert eventually(lambda: not _stream_threads())


def test_subscribing_after_the_end_starts_afresh(client: MicrogridApiClient) -> None:
    with client.meter_data(1) as receiver:
        _powers(receiver, 3)
    with client.meter_data(1, 10_000) as receiver:
        assert _powers(receiver, 2) == [0.0, 1.0]


def test_stream_goes_on_for_a_receiver_that_joins_while_the_last_one_leaves(
    client: MicrogridApiClient, server: ScriptedServer
) -> None:
    last = client.meter_data(1)
    last.receive(PATIENCE)
    session = client._session
    assert session is not None
    stream = session.streams._by_key[1, None]
    stop_if_empty = stream._receivers._on_empty
    assert stop_if_empty is not None
    joined: list[Receiver[MeterData]] = []

    def join_first() -> None:
        if not joined:
            receiver = stream.subscribe(50)
            assert receiver is not None
            joined.append(receiver)
        stop_if_empty()

    stream._receivers._on_empty = join_first
    last.close()
    _powers(joined[0], 20)
    assert server.count("StreamComponentData") == 1
    joined[0].close()


def test_forgotten_receiver_counts_as_closed(client: MicrogridApiClient) -> None:
    for value in client.meter_data(1, 10_000):
        assert value.active_power == 0.0
        break
    gc.collect()
    assert eventually(lambda: not _stream_threads())


def test_forgotten_receiver_leaves_the_others_alone(client: MicrogridApiClient) -> None:
    kept = client.meter_data(1)
    client.meter_data(1).receive(PATIENCE)
    gc.collect()
    _powers(kept, 10)


def test_forgotten_receiver_does_not_keep_a_failing_stream_alive(
    client: MicrogridApiClient, server: ScriptedServer
) -> None:
    receiver = client.meter_data(1)
    receiver.receive(PATIENCE)
    server.stop()
    del receiver
    gc.collect()
    assert eventually(lambda: not _stream_threads())


def test_receiver_survives_a_restart_of_the_server(
    client: MicrogridApiClient, server: ScriptedServer
) -> None:
    receiver = client.meter_data(1, 10_000)
    _powers(receiver, 3)
    server.stop()
    assert eventually(lambda: client.stats().streams[0].reconnects >= 1)
    receiver.drain()
    server.start()
    assert receiver.receive(PATIENCE).active_power == 0.0
    assert client.stats().streams[0].reconnects >= 1


def test_receivers_survive_a_server_that_is_killed(port: int) -> None:
    """A real process, killed without a word, and started again on the same port."""
    command = [sys.executable, "-m", "microgrid_sync", "simulate", "--port", str(port)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    url = first.stdout.readline().strip()
    processes = [first]
    try:
        with MicrogridApiClient(url, retry_strategy=LinearBackoff(0.1, 0.0)) as client:
            receivers: list[Receiver[object]] = [
                client.meter_data(2),  # type: ignore[list-item] # all that counts is that they receive
                client.ev_charger_data(7),  # type: ignore[list-item] # as above
                client.battery_data(5),  # type: ignore[list-item] # as above
            ]
            for receiver in receivers:
                receiver.receive(PATIENCE)
            os.kill(first.pid, signal.SIGKILL)
            first.wait(PATIENCE)
            for receiver in receivers:
                receiver.drain()
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True))
            for receiver in receivers:
                assert receiver.receive(60)
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE)
        first.stdout.close()


def test_exhausted_stream_is_opened_again(
    client: MicrogridApiClient, server: ScriptedServer
) -> None:
    server.stream = lambda component_id, _: iter([data(component_id).SerializeToString()])
    receiver = client.meter_data(1)
    assert _powers(receiver, 3) == [0.0, 0.0, 0.0]
    assert server.count("StreamComponentData") >= 3


@pytest.mark.parametrize("how", ["error", "exhausted"])
def test_used_up_strategy_ends_the_stream_and_every_reader_learns_why(
    server: ScriptedServer, how: str
) -> None:
    have_subscribed = threading.Event()

    def stream(_: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        have_subscribed.wait(PATIENCE)
        if how == "error":
            context.abort(grpc.StatusCode.UNAVAILABLE, "closed today")
        return iter([])

    server.stream = stream
    strategy = LinearBackoff(0.01, 0.0, limit=2)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        receivers = [client.meter_data(1) for _ in range(3)]
        have_subscribed.set()
        for receiver in receivers:
            with pytest.raises(ReceiverStoppedError) as stopped:
                receiver.receive(PATIENCE)
            cause = stopped.value.__cause__
            assert isinstance(cause, ServiceUnavailable if how == "error" else ApiClientError)
            assert ("closed today" if how == "error" else "ended the stream") in str(cause)
            with pytest.raises(ApiClientError):
                next(receiver)
        assert server.count("StreamComponentData") == 3
        assert strategy.get_progress() == "(0/2)"
        assert client.stats().streams == ()
        server.stream = server.count_up
        assert _powers(client.meter_data(1, 10_000), 1) == [0.0]


def test_error_that_is_not_retryable_ends_the_stream(
    client: MicrogridApiClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield data(component_id).SerializeToString()
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")

    server.stream = stream
    receiver = client.meter_data(1)
    assert _powers(receiver, 1) == [0.0]
    with pytest.raises(OperationUnauthenticated, match="who are you"):
        next(receiver)
    assert server.count("StreamComponentData") == 1
    assert "Giving up" in caplog.text


def test_first_message_resets_the_strategy(server: ScriptedServer) -> None:
    server.stream = lambda component_id, _: iter([data(component_id).SerializeToString()])
    strategy = LinearBackoff(0.01, 0.0, limit=1)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        assert _powers(client.meter_data(1), 5) == [0.0] * 5


def test_outage_is_logged_once_and_so_is_its_end(
    client: MicrogridApiClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "microgrid_sync")
    receiver = client.meter_data(1)
    receiver.receive(PATIENCE)
    server.stop()
    assert eventually(lambda: client.stats().streams[0].reconnects > 5)
    receiver.drain()
    server.start()
    receiver.receive(PATIENCE)
    lines = [r.levelname for r in caplog.records if r.name.endswith("streams")]
    assert lines == ["WARNING", "WARNING"]


def test_messages_that_are_not_what_was_subscribed_to_are_skipped(
    client: MicrogridApiClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    def stream(component_id: int, _: grpc.ServicerContext) -> Iterator[bytes]:
        for number in itertools.count():
            yield b"\xff\xff"
            yield data(component_id + 1).SerializeToString()
            yield data(component_id, "battery").SerializeToString()
            yield data(component_id, "meter", number).SerializeToString()
            server.released.wait(0.01)
            if number == 20 or server.released.is_set():
                break
        server.silence(_)

    server.stream = stream
    receiver = client.meter_data(1)
    assert _powers(receiver, 20) == [float(number) for number in range(20)]
    assert eventually(lambda: client.stats().streams[0].messages == 21)
    stats = client.stats().streams[0]
    assert (stats.undecodable, stats.reconnects, stats.dropped) == (63, 0, 0)
    assert sum("Skipped a message" in r.getMessage() for r in caplog.records) == 1


@pytest.mark.parametrize("how", ["receive", "drain", "batches"])
def test_message_that_turns_out_to_be_broken_when_it_is_taken_is_skipped(
    how: str, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(message: Any) -> MeterData:
        value = MeterData.from_proto(message)
        if value.active_power % 2:
            raise KeyError("odd")
        return value

    for family in (v0_15, v1alpha18):
        kind = ComponentCategory.METER
        asked = family._DATA_OF_CATEGORY[kind][0]
        monkeypatch.setitem(family._DATA_OF_CATEGORY, kind, (asked, broken))

    have_subscribed = threading.Event()

    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        have_subscribed.wait(PATIENCE)
        for number in range(10):
            yield data(component_id, "meter", number).SerializeToString()
        server.silence(context)

    server.stream = stream
    with MicrogridApiClient(server.url) as client:
        one, two = client.meter_data(1), client.meter_data(1)
        have_subscribed.set()
        assert eventually(lambda: two._writer.queue.qsize() == 10)
        assert client.stats().streams[0].undecodable == 0
        values: list[MeterData] = []
        if how == "receive":
            values = [one.receive(PATIENCE) for _ in range(5)]
            with pytest.raises(TimeoutError):
                one.receive(0)
        else:
            values = one.drain() if how == "drain" else next(one.batches(0.01))
        assert [value.active_power for value in values] == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert all(a is b for a, b in zip(values, two.drain(), strict=True))
        # Counted once, not for each receiver.
        stats = client.stats().streams[0]
        assert (stats.undecodable, stats.reconnects) == (5, 0)


def test_reader_that_stops_reading_costs_nothing_but_its_values(
    client: MicrogridApiClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(10_000):
            yield data(component_id, "meter", number).SerializeToString()
        server.silence(context)

    server.stream = stream
    started = time.monotonic()
    lazy = client.meter_data(1, maxsize=7)
    assert eventually(lambda: client.stats().streams[0].messages == 10_000, 60)
    assert eventually(lambda: lazy.dropped == client.stats().streams[0].dropped == 9993)
    assert [value.active_power for value in lazy.drain()] == [9993.0 + n for n in range(7)]
    lines = sum("nobody reads" in r.getMessage() for r in caplog.records)
    assert 1 <= lines <= 1 + (time.monotonic() - started) / 10


def test_stats_tell_how_old_the_newest_message_is(
    client: MicrogridApiClient, server: ScriptedServer
) -> None:
    server.stream = server.silent_stream
    receiver = client.meter_data(1)
    assert client.stats().streams[0].age_s is None
    receiver.close()
    server.released.set()
    assert eventually(lambda: not _stream_threads())
    server.released.clear()
    server.stream = server.count_up
    client.meter_data(1).receive(PATIENCE)


def test_newest_messages_age_grows(client: MicrogridApiClient, server: ScriptedServer) -> None:
    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield data(component_id).SerializeToString()
        server.silence(context)

    server.stream = stream
    receiver = client.meter_data(1)
    receiver.receive(PATIENCE)
    first = client.stats().streams[0].age_s
    assert first is not None
    assert eventually(lambda: (client.stats().streams[0].age_s or 0.0) > first + 0.05)


def test_defect_in_the_thread_reaches_the_readers(
    client: MicrogridApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = client.meter_data(1)
    receiver.receive(PATIENCE)

    def broken(*_: object) -> int:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(FanOut, "put", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        list(receiver)
    assert "The stream of component 1 failed" in caplog.text


def test_many_receivers_come_and_go_in_many_threads(client: MicrogridApiClient) -> None:
    """Subscribe and close as fast as possible: nobody is left without data or with a thread."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(25):
                with client.meter_data(1) as receiver:
                    receiver.receive(PATIENCE)
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failures.append(error)

    try:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    assert eventually(lambda: not _stream_threads())


def test_thousand_subscriptions_make_one_or_two_list_calls() -> None:
    components = [component(number, "meter") for number in range(1, 1001)]
    with ScriptedServer(*components) as server:
        server.interval = 5.0
        with MicrogridApiClient(server.url) as client:
            receivers = [client.meter_data(number) for number in range(1, 1001)]
            assert server.count("ListComponents") == 1
            for receiver in receivers:
                receiver.receive(60)
            assert len(_stream_threads()) == 1000


def test_subscriptions_at_once_share_a_list_call(server: ScriptedServer) -> None:
    barrier = threading.Barrier(20)
    with MicrogridApiClient(server.url) as client:

        def subscribe() -> None:
            barrier.wait(PATIENCE)
            client.meter_data(1)

        threads = [threading.Thread(target=subscribe) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert 1 <= server.count("ListComponents") <= 2
