"""The client against a server over TCP."""

import importlib
import logging
import math
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import tenacity
from google.protobuf.empty_pb2 import Empty

from microgrid_sync import (
    ApiClientError,
    ChannelOptions,
    ClientNotConnected,
    Component,
    ComponentCategory,
    Connection,
    GrpcError,
    LinearBackoff,
    Metadata,
    MicrogridApiClient,
    OperationTimedOut,
    Receiver,
    ReceiverStoppedError,
    ServiceUnavailable,
    SslOptions,
)
from microgrid_sync.wire import v0_15_schema as schema
from tests.support.messages import component
from tests.support.server import ScriptedServer, failing
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis

NOWHERE = "grpc://127.0.0.1:1"


# The connection


def test_client_connects_on_making_unless_told_otherwise() -> None:
    client = MicrogridApiClient(NOWHERE)
    assert client.is_connected
    client.disconnect()
    assert not client.is_connected
    assert not MicrogridApiClient(NOWHERE, connect=False).is_connected


def test_client_knows_its_settings() -> None:
    defaults = ChannelOptions(port=7, ssl=SslOptions(enabled=False))
    client = MicrogridApiClient("grpc://host", channel_defaults=defaults, connect=False)
    assert client.server_url == "grpc://host"
    assert client.channel_defaults is defaults
    assert repr(client) == "<MicrogridApiClient of grpc://host, disconnected>"


def test_with_connects_and_disconnects(server: ScriptedServer) -> None:
    client = MicrogridApiClient(server.url, connect=False)
    for _ in range(2):
        with client as entered:
            assert entered is client
            assert len(list(client.components())) == 1
        assert not client.is_connected


@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.channel,
        lambda client: client.stub,
        lambda client: client.components(),
        lambda client: client.connections(),
        lambda client: client.meter_data(1),
        lambda client: client.set_power(1, 1.0),
        lambda client: client.set_reactive_power(1, 1.0),
        lambda client: client.set_bounds(1, -1.0, 1.0),
    ],
)
def test_without_connection_everything_says_so(use: Callable[[MicrogridApiClient], Any]) -> None:
    with pytest.raises(ClientNotConnected, match=r"connect\(\)"):
        use(MicrogridApiClient(NOWHERE, connect=False))


def test_channel_and_stub_can_be_used_directly(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        assert isinstance(client.channel, grpc.Channel)
        # One distribution has the bindings of one family: which, depends on its version.
        name = "" if client.api == "v0.15" else f".{client.api}"
        try:
            importlib.import_module(f"frequenz.api.microgrid{name}.microgrid_pb2_grpc")
        except ImportError:
            words = rf"the stub of API {client.api} needs .* 'frequenz-api-microgrid>=0\.1"
            with pytest.raises(ImportError, match=words):
                _ = client.stub
            return
        stub = client.stub
        if client.api == "v0.15":
            assert stub.GetMicrogridMetadata(Empty(), timeout=PATIENCE).microgrid_id == 7
        else:
            assert stub.GetMicrogrid(Empty(), timeout=PATIENCE).microgrid.id == 7


def test_connecting_to_the_same_url_again_does_nothing(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        channel = client.channel
        receiver = client.meter_data(1)
        client.connect()
        client.connect(server.url)
        assert client.channel is channel
        assert receiver.receive(PATIENCE)


def test_new_url_ends_everything_of_the_old_one_first(server: ScriptedServer) -> None:
    with ScriptedServer(component(5, "battery")) as other, MicrogridApiClient(server.url) as client:
        receiver = client.meter_data(1)
        client.connect(other.url)
        # What waits is still read.
        list(receiver)
        with pytest.raises(ReceiverStoppedError):
            receiver.receive(0)
        assert client.server_url == other.url
        assert client.battery_data(5).receive(PATIENCE)


def test_wrong_new_url_leaves_the_old_connection_alone(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        receiver = client.meter_data(1)
        with pytest.raises(ValueError, match="http"):
            client.connect("http://host")
        assert client.server_url == server.url
        assert receiver.receive(PATIENCE)


def test_client_can_be_connected_again(server: ScriptedServer) -> None:
    client = MicrogridApiClient(server.url)
    client.disconnect()
    client.connect()
    assert client.meter_data(1).receive(PATIENCE)
    client.disconnect()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"server_url": "http://host"}, ValueError, "http"),
        ({"server_url": None}, TypeError, "None"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"timeout": -1.5}, ValueError, "-1.5"),
        ({"timeout": math.nan}, ValueError, "nan"),
        ({"timeout": math.inf}, ValueError, "inf"),
        ({"timeout": "5"}, TypeError, "'5'"),
        ({"timeout": None}, TypeError, "None"),
        ({"channel_defaults": None}, TypeError, "channel_defaults must be"),
        ({"call_retry": 3}, TypeError, "call_retry must be"),
        ({"call_retry": tenacity.AsyncRetrying()}, TypeError, "call_retry must be"),
        ({"retry_strategy": 3}, TypeError, "retry_strategy must be"),
    ],
)
def test_wrong_setting_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(")):
        MicrogridApiClient(**{"server_url": NOWHERE, "connect": False, **options})


def test_strategy_is_copied(server: ScriptedServer) -> None:
    strategy = LinearBackoff(0.01, 0.0, limit=3)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        strategy.next_interval()
        client.meter_data(1).receive(PATIENCE)
    assert strategy.get_progress() == "(1/3)"


# Lists


def _sensor_site() -> ScriptedServer:
    server = ScriptedServer(
        component(1, "grid"), component(2, "meter"), component(3, "sensor"), component(4, "battery")
    )
    pairs = [(1, 2), (2, 3), (3, 4), (2, 4), (0, 1), (2, 9), (9, 2)]
    connections = [schema.Connection(start=s, end=e) for s, e in pairs]
    server.answers["ListConnections"] = lambda *_: schema.ConnectionList(connections=connections)
    return server


def test_components_leave_out_sensors_and_can_be_walked_twice() -> None:
    with _sensor_site() as server, MicrogridApiClient(server.url) as client:
        found = client.components()
        assert [c.component_id for c in found] == [c.component_id for c in found] == [1, 2, 4]
        client.components()
        assert server.count("ListComponents") == 2


def test_connections_leave_out_what_leads_nowhere() -> None:
    with _sensor_site() as server, MicrogridApiClient(server.url) as client:
        found = client.connections()
        assert list(found) == list(found) == [
            Connection(1, 2), Connection(2, 4), Connection(0, 1)
        ]  # fmt: skip


def test_filters_are_sent(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        client.connections({3, 2}, frozenset({5}))
        client.connections()
    requests = [request for method, request in server.calls if method == "ListConnections"]
    assert requests == [
        schema.ConnectionFilter(starts=[2, 3], ends=[5]),
        schema.ConnectionFilter(),
    ]


def test_metadata(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        assert client.metadata() == Metadata(microgrid_id=7)


def test_metadata_is_empty_after_an_error_which_is_logged(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers["GetMicrogridMetadata"] = failing(grpc.StatusCode.UNIMPLEMENTED, "no such")
    with MicrogridApiClient(server.url) as client:
        assert client.metadata() == Metadata()
    assert "no such" in caplog.text
    assert caplog.records[-1].levelno == logging.ERROR


# Subscriptions


def test_each_category_has_its_data() -> None:
    components = [component(n, name) for n, name in
                  enumerate(("meter", "battery", "inverter", "ev_charger"))]  # fmt: skip
    with ScriptedServer(*components) as server, MicrogridApiClient(server.url) as client:
        methods: list[Callable[..., Receiver[Any]]] = [
            client.meter_data, client.battery_data, client.inverter_data, client.ev_charger_data,
        ]  # fmt: skip
        for number, method in enumerate(methods):
            receiver = method(number, maxsize=3)
            assert receiver.receive(PATIENCE).component_id == number
            assert receiver.maxsize == 3


def test_unknown_id_is_refused_after_one_more_list_call(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        client.components()
        with pytest.raises(ValueError, match=r"unknown component 99 .* METER: 1$"):
            client.meter_data(99)
        assert server.count("ListComponents") == 2
        with pytest.raises(ValueError, match="none of category BATTERY"):
            client.battery_data(99)


def test_other_category_is_refused_and_both_are_named(server: ScriptedServer) -> None:
    words = "component 1 .* METER, not EV_CHARGER"
    with MicrogridApiClient(server.url) as client, pytest.raises(ValueError, match=words):
        client.ev_charger_data(1)


def test_component_that_has_been_added_is_found(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        client.meter_data(1)
        server.components.append(component(2, "battery"))
        assert client.battery_data(2).receive(PATIENCE)
        server.components[1] = component(2, "meter")
        client.meter_data(2).close()
        assert server.count("ListComponents") == 3


def test_component_that_has_become_another_gets_a_new_stream() -> None:
    with ScriptedServer(component(1, "meter")) as server, MicrogridApiClient(server.url) as client:
        old = client.meter_data(1)
        old.receive(PATIENCE)
        server.components[0] = component(1, "battery")
        assert client.battery_data(1).receive(PATIENCE)
        old.drain()
        with pytest.raises(ApiClientError, match="another category"):
            list(old)


def test_list_that_was_asked_for_before_is_too_old(server: ScriptedServer) -> None:
    """A component appears while another thread waits for an answer that does not have it."""
    asked, go_on = threading.Event(), threading.Event()

    def answer(*_: Any) -> Any:
        found = schema.ComponentList(components=server.components)
        if not asked.is_set():
            asked.set()
            go_on.wait(PATIENCE)
        return found

    server.answers["ListComponents"] = answer
    errors: list[ValueError] = []
    with MicrogridApiClient(server.url) as client:

        def subscribe_to_the_unknown() -> None:
            try:
                client.meter_data(99)
            except ValueError as error:
                errors.append(error)

        first = threading.Thread(target=subscribe_to_the_unknown)
        first.start()
        assert asked.wait(PATIENCE)
        server.components.append(component(2, "meter"))
        receivers: list[Receiver[Any]] = []
        second = threading.Thread(target=lambda: receivers.append(client.meter_data(2)))
        second.start()
        time.sleep(0.1)  # into its wait; later is no error, only no test
        go_on.set()
        first.join(PATIENCE)
        second.join(PATIENCE)
        assert receivers[0].receive(PATIENCE)
    assert len(errors) == 1


def test_many_subscribers_of_a_dead_server_share_their_failure(server: ScriptedServer) -> None:
    all_are_there = threading.Event()

    def refuse(_: Any, context: grpc.ServicerContext) -> Any:
        all_are_there.wait(PATIENCE)
        context.abort(grpc.StatusCode.UNAVAILABLE, "as the test wants")

    server.answers["ListComponents"] = refuse
    errors: list[ServiceUnavailable] = []
    with MicrogridApiClient(server.url) as client:

        def subscribe() -> None:
            try:
                client.meter_data(1)
            except ServiceUnavailable as error:
                errors.append(error)

        threads = [threading.Thread(target=subscribe) for _ in range(30)]
        for thread in threads:
            thread.start()
        all_are_there.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(errors) == 30
    # Two rounds of four attempts, perhaps three with stragglers; not thirty.
    assert server.count("ListComponents") <= 16


def test_size_is_checked_before_anything_is_asked(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client, pytest.raises(ValueError, match="maxsize"):
        client.meter_data(1, maxsize=0)
    assert not server.calls


def test_long_lists_of_candidates_are_cut() -> None:
    components = [component(n, "meter") for n in range(100)]
    with (
        ScriptedServer(*components) as server,
        MicrogridApiClient(server.url) as client,
        pytest.raises(ValueError, match=r"18, 19, \.\.\.$"),
    ):
        client.meter_data(500)


def test_list_that_fails_reaches_the_subscriber(server: ScriptedServer) -> None:
    server.answers["ListComponents"] = failing(grpc.StatusCode.UNAVAILABLE)
    with MicrogridApiClient(server.url) as client, pytest.raises(ServiceUnavailable):
        client.meter_data(1)


def test_waiting_for_the_list_of_another_thread_has_a_deadline(server: ScriptedServer) -> None:
    asked = threading.Event()

    def answer(_: Any, context: grpc.ServicerContext) -> Any:
        asked.set()
        server.silence(context)
        return schema.ComponentList()

    server.answers["ListComponents"] = answer
    with MicrogridApiClient(server.url, timeout=0.4) as client:
        errors: list[GrpcError] = []

        def subscribe() -> None:
            try:
                client.meter_data(1)
            except GrpcError as error:
                errors.append(error)

        threads = [threading.Thread(target=subscribe) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [type(error) for error in errors] == [OperationTimedOut] * 3


def test_subscribing_while_disconnecting_is_refused_or_ended(server: ScriptedServer) -> None:
    client = MicrogridApiClient(server.url)
    session = client._session
    assert session is not None
    client.meter_data(1)
    client.disconnect()
    with pytest.raises(ClientNotConnected):
        session.subscribe(1, ComponentCategory.METER, 5)


# Commands


def test_commands_reach_the_server(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        client.set_power(3, -1500)
        client.set_reactive_power(3, 2.5)
        client.set_bounds(3, -10, 20)
        client.set_bounds(3, 0, 0)
    sent = [request for method, request in server.calls]
    assert sent[0] == schema.SetPowerActiveParam(component_id=3, power=-1500.0)
    assert sent[1] == schema.SetPowerReactiveParam(component_id=3, power=2.5)
    assert (sent[2].bounds.lower, sent[2].bounds.upper) == (-10.0, 20.0)
    assert (sent[3].bounds.lower, sent[3].bounds.upper) == (0.0, 0.0)


class _Index:
    """An integer of another library."""

    def __index__(self) -> int:
        return 3

    def __float__(self) -> float:
        return 4.0


def test_numbers_of_other_libraries_will_do(server: ScriptedServer) -> None:
    with MicrogridApiClient(server.url) as client:
        client.set_power(_Index(), _Index())  # type: ignore[arg-type] # that is what is tested
    assert server.calls[0][1] == schema.SetPowerActiveParam(component_id=3, power=4.0)


def _all_commands(client: MicrogridApiClient) -> list[Callable[[Any, Any], object]]:
    return [
        client.set_power,
        client.set_reactive_power,
        lambda component_id, value: client.set_bounds(component_id, value, 0.0),
        lambda component_id, value: client.set_bounds(component_id, 0.0, value),
    ]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e39, -1e39, 10**400], ids=lambda v: f"{v!s:.9}"
)
def test_number_that_cannot_be_a_power_is_not_sent(server: ScriptedServer, value: float) -> None:
    with MicrogridApiClient(server.url) as client:
        for command in _all_commands(client):
            with pytest.raises(ValueError, match=r"(power_w|_var|lower|upper) must be"):
                command(1, value)
    assert not server.calls


@pytest.mark.parametrize("value", ["5", None, True, [1.0], b"5"])
def test_what_is_no_number_is_not_sent(server: ScriptedServer, value: object) -> None:
    with MicrogridApiClient(server.url) as client:
        for command in _all_commands(client):
            with pytest.raises(TypeError, match="must be a number, not"):
                command(1, value)
    assert not server.calls


@pytest.mark.parametrize(
    ("component_id", "error"),
    [(-1, ValueError), (2**64, ValueError), ("5", TypeError), (1.0, TypeError), (True, TypeError)],
)
def test_what_is_no_id_is_not_sent(
    server: ScriptedServer, component_id: Any, error: type[Exception]
) -> None:
    with MicrogridApiClient(server.url) as client:
        for command in _all_commands(client):
            with pytest.raises(error, match="a component ID must be"):
                command(component_id, 0.0)
        for use in (
            lambda: client.meter_data(component_id),
            lambda: client.connections({component_id}),
            lambda: client.connections(ends={component_id}),
        ):
            with pytest.raises(error, match="a component ID must be"):
                use()
    assert not server.calls


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [(0.5, 1.0, r"lower .* not 0\.5"), (-1.0, -0.5, r"upper .* not -0\.5")],
)
def test_bounds_of_the_wrong_sign_are_not_sent(
    server: ScriptedServer, lower: float, upper: float, words: str
) -> None:
    with MicrogridApiClient(server.url) as client, pytest.raises(ValueError, match=words):
        client.set_bounds(1, lower, upper)
    assert not server.calls


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 1e10])
def test_impossible_timeout_is_refused(server: ScriptedServer, timeout: float) -> None:
    with MicrogridApiClient(server.url) as client:
        for call in (
            lambda: client.components(timeout=timeout),
            lambda: client.connections(timeout=timeout),
            lambda: client.metadata(timeout=timeout),
            lambda: client.set_power(1, 1.0, timeout=timeout),
            lambda: client.set_reactive_power(1, 1.0, timeout=timeout),
            lambda: client.set_bounds(1, 0.0, 1.0, timeout=timeout),
        ):
            with pytest.raises(ValueError, match="timeout must be"):
                call()
    assert not server.calls


# Counters


def test_stats_count_calls(server: ScriptedServer) -> None:
    server.answers["SetPowerActive"] = failing(grpc.StatusCode.ABORTED)
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))
    client = MicrogridApiClient(server.url, call_retry=policy)
    client.set_bounds(1, 0.0, 1.0)
    with pytest.raises(GrpcError):
        client.set_power(1, 1.0)
    client.disconnect()
    stats = client.stats()
    assert (stats.streams, stats.calls, stats.retries, stats.failures) == ((), 2, 2, 1)


def test_stats_list_the_streams_by_component() -> None:
    components = [component(n, "meter") for n in (9, 4)]
    with ScriptedServer(*components) as server, MicrogridApiClient(server.url) as client:
        receivers = [client.meter_data(9), client.meter_data(4)]
        assert [s.component_id for s in client.stats().streams] == [4, 9]
        receivers[0].close()
        assert eventually(lambda: [s.component_id for s in client.stats().streams] == [4])


def test_client_may_be_used_from_many_threads_at_once(server: ScriptedServer) -> None:
    found: list[Component] = []
    with MicrogridApiClient(server.url) as client:

        def work() -> None:
            for step in range(10):
                found.extend(client.components())
                client.set_bounds(1, -step, step)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert client.stats().calls == 160
    assert found == [Component(1, ComponentCategory.METER)] * 80


@pytest.mark.parametrize(
    "use", [lambda client: client.meter_data(99), lambda client: client.set_power(99, 1.0)]
)
def test_traceback_of_a_wrong_id_is_the_callers_line_and_ours(
    server: ScriptedServer, use: Callable[[MicrogridApiClient], Any]
) -> None:
    server.answers["SetPowerActive"] = failing(grpc.StatusCode.NOT_FOUND)
    with MicrogridApiClient(server.url) as client, pytest.raises(Exception, match="99") as raised:
        use(client)
    lines = "".join(traceback.format_exception(raised.value)).splitlines()
    assert len(lines) < 30
    assert not any("tenacity" in line or "grpc/_" in line for line in lines)
