"""Callbacks, and what a component measures now."""

import contextlib
import threading
import time
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    BatteryData,
    ClientNotConnected,
    DataLoss,
    EVChargerData,
    MicrogridApiClient,
    Subscription,
)
from microgrid_sync.simulator import Fault, Simulator
from tests.support.messages import component
from tests.support.server import ScriptedServer, failing
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.1)


@pytest.fixture
def client(microgrid: Simulator) -> Any:
    with MicrogridApiClient(microgrid.url) as client:
        yield client


def test_function_is_called_with_the_values_of_all(
    client: MicrogridApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long the call that is under way takes.
    monkeypatch.setattr("microgrid_sync.subscription._CLOSE_TIMEOUT", PATIENCE)
    found: list[Any] = []
    with client.subscribe([5, 7], found.append) as subscription:
        assert eventually(lambda: {value.component_id for value in found} == {5, 7})
    assert {type(value) for value in found} == {BatteryData, EVChargerData}
    count = len(found)
    time.sleep(0.3)
    assert len(found) == count
    assert subscription.failures == 0
    assert "closed, 0 failures" in repr(subscription)


def test_one_component_is_enough(client: MicrogridApiClient) -> None:
    found: list[Any] = []
    subscription = client.subscribe(7, found.append)
    assert isinstance(subscription, Subscription)
    assert eventually(lambda: found)
    subscription.close()
    subscription.close()


def test_calls_come_one_after_the_other_in_one_thread(client: MicrogridApiClient) -> None:
    threads: list[str] = []
    inside = threading.Lock()

    def note(_: object) -> None:
        assert inside.acquire(blocking=False)
        threads.append(threading.current_thread().name)
        time.sleep(0.02)
        inside.release()

    with client.subscribe([5, 7, 8], note) as subscription:
        assert eventually(lambda: len(threads) > 12)
    assert subscription.failures == 0
    (name,) = set(threads)
    assert name.startswith("microgrid-callbacks ")


def test_all_functions_of_a_client_are_called_in_one_thread(client: MicrogridApiClient) -> None:
    threads: set[int] = set()
    calls: list[object] = []
    inside = threading.Lock()

    def note(value: object) -> None:
        assert inside.acquire(blocking=False)
        threads.add(threading.get_ident())
        calls.append(value)
        inside.release()

    with client.subscribe([5, 7], note) as one, client.subscribe([7, 8], note) as other:
        assert eventually(lambda: len(calls) > 20)
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("microgrid-callbacks") for name in names) == 1
    assert len(threads) == 1
    assert one.failures == other.failures == 0
    # It ends with the last one, and comes back with the next.
    assert eventually(
        lambda: not any("callbacks" in thread.name for thread in threading.enumerate())
    )
    found: list[Any] = []
    with client.subscribe(7, found.append):
        assert eventually(lambda: found)


def test_one_that_raises_is_not_the_end_of_others(client: MicrogridApiClient) -> None:
    found: list[Any] = []

    def fail(_: object) -> None:
        raise SystemExit(3)

    with client.subscribe(7, fail) as bad, client.subscribe(7, found.append) as good:
        assert eventually(lambda: bad.failures > 3 and len(found) > 3)
        assert not bad.is_closed
    assert good.failures == 0


def test_function_that_raises_is_counted_and_goes_on(
    client: MicrogridApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[object] = []

    def fail(value: object) -> None:
        calls.append(value)
        raise ZeroDivisionError("no luck")

    with client.subscribe([7], fail) as subscription:
        assert eventually(lambda: subscription.failures >= 3)
    assert len(calls) >= 3
    # Told once in ten seconds.
    assert caplog.text.count("ZeroDivisionError: no luck") == 1


def test_function_may_close_its_subscription(client: MicrogridApiClient) -> None:
    found: list[Any] = []
    subscriptions: list[Subscription] = []
    ready = threading.Event()

    def once(value: object) -> None:
        ready.wait(PATIENCE)
        found.append(value)
        subscriptions[0].close()

    subscriptions.append(client.subscribe([7], once))
    ready.set()
    assert eventually(lambda: found)
    time.sleep(0.3)
    assert len(found) == 1


def test_disconnect_ends_it_quietly(
    client: MicrogridApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    subscription = client.subscribe([7], lambda _: None)
    client.disconnect()
    assert eventually(lambda: "closed" in repr(subscription))
    assert caplog.text == ""


def test_slow_function_gets_the_newest_and_older_ones_are_counted(
    client: MicrogridApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.client.RECEIVER_MAX_SIZE", 2)
    go_on = threading.Event()
    with client.subscribe([7], lambda _: go_on.wait(PATIENCE)) as subscription:
        assert eventually(lambda: subscription.dropped > 2)
        go_on.set()


def test_what_makes_no_sense_is_refused(client: MicrogridApiClient) -> None:
    with pytest.raises(TypeError, match="callback must be a function"):
        client.subscribe([7], None)  # type: ignore[arg-type] # on purpose
    with pytest.raises(TypeError, match="component_ids must be"):
        client.subscribe("7", print)  # type: ignore[arg-type] # likewise
    with pytest.raises(ValueError, match="at least one component"):
        client.subscribe([], print)
    with pytest.raises(ValueError, match="unknown component 99"):
        client.subscribe([7, 99], print)
    # Nothing of it is left open.
    assert eventually(lambda: client.stats().streams == ())


def test_stream_that_ends_by_an_error_is_told_and_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        ScriptedServer(component(1, "meter"), component(2, "meter")) as server,
        MicrogridApiClient(server.url) as client,
    ):
        fail = failing(grpc.StatusCode.DATA_LOSS, "no more")
        server.stream = lambda number, context: (fail if number == 1 else server.count_up)(
            number, context
        )
        found: list[Any] = []
        subscription = client.subscribe([1, 2], found.append)
        assert eventually(lambda: isinstance(subscription.error, DataLoss))
        count = len(found)
        assert eventually(lambda: len(found) > count + 3)
        assert not subscription.is_closed
        server.stream = fail
        only = client.subscribe([1], found.append)
        assert eventually(lambda: only.is_closed)
    assert "nothing is called with it any more" in caplog.text


def test_latest_waits_for_the_first_value_and_then_for_nothing(
    client: MicrogridApiClient,
) -> None:
    first = client.latest(7)
    assert isinstance(first, EVChargerData)
    assert len(client.stats().streams) == 1
    # It stays open, and is nobody's loss.
    assert eventually(lambda: client.latest(7).timestamp > first.timestamp)
    stats = client.stats().streams[0]
    assert eventually(lambda: client.stats().streams[0].messages > stats.messages + 3)
    assert client.stats().streams[0].dropped == 0
    assert len(client.stats().streams) == 1


def test_latest_of_a_stream_that_is_open(client: MicrogridApiClient) -> None:
    with client.meter_data(2) as receiver:
        newest = receiver.receive(PATIENCE)
        assert client.latest(2).timestamp >= newest.timestamp
        assert len(client.stats().streams) == 1
        # Nothing was taken from it.
        assert eventually(receiver.drain)


def test_what_is_too_old_is_not_now(microgrid: Simulator, client: MicrogridApiClient) -> None:
    before = client.latest(7)
    number = microgrid.faults.add(Fault(kind="silent", components=[7]))

    def is_too_old() -> bool:
        with contextlib.suppress(TimeoutError):
            client.latest(7, max_age=0.2, timeout=0.3)
            return False
        return True

    # What was under way when it fell silent may come late.
    assert eventually(is_too_old)
    assert client.latest(7).timestamp >= before.timestamp
    microgrid.faults.end(number)
    assert client.latest(7, max_age=0.2).timestamp > before.timestamp


def test_latest_of_a_client_that_is_connected_again(client: MicrogridApiClient) -> None:
    client.latest(7)
    client.disconnect()
    with pytest.raises(ClientNotConnected):
        client.latest(7)
    client.connect()
    assert client.latest(7).component_id == 7


def test_what_sends_no_data_is_refused() -> None:
    with Simulator("every_category", sample_interval=0.1) as simulator:
        for api in ("v1alpha18", "v0.15"):
            with MicrogridApiClient(f"{simulator.url}?api={api}") as client:
                with pytest.raises(ValueError, match="category GRID, which sends no data"):
                    client.latest(1)
                with pytest.raises(ValueError, match="category GRID, which sends no data"):
                    client.subscribe([2, 1], print)
                with pytest.raises(ValueError, match="unknown component 999"):
                    client.latest(999)
                assert eventually(lambda: not client.stats().streams)


def test_latest_says_why_nothing_has_come() -> None:
    with ScriptedServer(component(1, "meter")) as server, MicrogridApiClient(server.url) as client:
        server.stream = failing(grpc.StatusCode.UNAVAILABLE, "the line is cut")
        with client.meter_data(1):
            assert eventually(lambda: client.stats().streams[0].last_error)
            with pytest.raises(
                TimeoutError, match=r"component 1 .* within 0\.5 s: .*the line is cut"
            ):
                client.latest(1, timeout=0.5)


def test_arguments_of_latest_are_checked(client: MicrogridApiClient) -> None:
    for name, value in (("max_age", 0.0), ("timeout", -1.0)):
        with pytest.raises(ValueError, match=f"{name} must be a positive number"):
            client.latest(7, **{name: value})
