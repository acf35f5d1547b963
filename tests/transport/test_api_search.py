"""Finding out which API a server speaks: when, how often, and what if it cannot be found out."""

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
    LinearBackoff,
    MicrogridApiClient,
    OperationNotImplemented,
    OperationTimedOut,
    OperationUnauthenticated,
    ServiceUnavailable,
    SetPointSuperseded,
)
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

ALPHA = "/frequenz.api.microgrid.{}.Microgrid/"


class SomeServer(ScriptedServer):
    """Speaks some APIs, and writes down the path of each call."""

    def __init__(self, *speaks: str, port: int = 0) -> None:
        super().__init__(port=port)
        self.speaks = set(speaks)
        self.paths: list[str] = []
        self.status: grpc.StatusCode | None = None
        self.held: threading.Event | None = None
        self.hangs = "nothing"

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        self.paths.append(path)
        if self.held is not None:
            self.held.wait(PATIENCE)
        if path.startswith(self.hangs):
            return grpc.unary_unary_rpc_method_handler(self.never)
        if self.status is not None:
            return grpc.unary_unary_rpc_method_handler(self._fail)
        for name in self.speaks:
            is_alpha = name.startswith("v1alpha")
            if path.startswith(ALPHA.format(name) if is_alpha else "/frequenz.api.microgrid.Micro"):
                self.api = name
                return super().service(handler_call_details)
        return None

    def _fail(self, _: bytes, context: grpc.ServicerContext) -> Any:
        assert self.status is not None
        context.abort(self.status, "as the test wants")

    def probes(self) -> list[str]:
        """The APIs that were asked for, in order."""
        found = []
        for path in self.paths:
            service, _, method = path.rpartition("/")
            if method in ("GetMicrogrid", "GetMicrogridMetadata"):
                found.append(service.removeprefix("/frequenz.api.microgrid.").split(".")[0])
        return found


@pytest.fixture
def server() -> Iterator[SomeServer]:
    with SomeServer() as server:
        yield server


@pytest.mark.parametrize(
    ("speaks", "asked"),
    [
        (["v1alpha18"], ["v1alpha18"]),
        (["v1alpha19"], ["v1alpha18", "Microgrid", "v1alpha19"]),
        (["v0.15"], ["v1alpha18", "Microgrid", "v1alpha19"]),
        (["v0.15", "v1alpha18"], ["v1alpha18"]),
    ],
)
def test_it_is_found_out_once(server: SomeServer, speaks: list[str], asked: list[str]) -> None:
    server.speaks = set(speaks)
    with MicrogridApiClient(server.url) as client:
        assert client.api is None
        assert server.paths == []
        client.set_power(1, 5.0)
        assert client.api == ("v1alpha18" if "v1alpha18" in speaks else speaks[0])
        client.components()
        client.meter_data(1).receive(PATIENCE)
        # Those of the second round are under way at once, in any order; one that is cancelled
        # because another has been answered may never get there.
        probes = server.probes()
        assert probes[:1] == asked[:1]
        assert len(probes) == len(set(probes))
        assert str(client.api).replace("v0.15", "Microgrid") in probes
        assert set(probes) <= set(asked)
    assert client.api is None


def test_second_connection_finds_it_out_anew(server: SomeServer) -> None:
    server.speaks = {"v0.15"}
    with MicrogridApiClient(server.url) as client:
        client.components()
        client.disconnect()
        server.speaks = {"v1alpha18"}
        client.connect()
        client.components()
        assert client.api == "v1alpha18"


@pytest.mark.parametrize("name", ["v0.15", "v1alpha18", "v1alpha19"])
@pytest.mark.parametrize("by_url", [True, False])
def test_pinned_api_is_not_asked_for(server: SomeServer, name: str, *, by_url: bool) -> None:
    server.speaks = {name}
    url = f"{server.url}?api={name}" if by_url else server.url
    with MicrogridApiClient(url, api="auto" if by_url else name) as client:
        assert client.api == name
        client.components()
        assert server.probes() == []


def test_url_wins_over_the_argument(server: SomeServer) -> None:
    server.speaks = {"v0.15"}
    with MicrogridApiClient(f"{server.url}?api=auto", api="v1alpha18") as client:
        client.components()
        assert client.api == "v0.15"


@pytest.mark.parametrize("make", [
    lambda: MicrogridApiClient("grpc://localhost", api="v2"),
    lambda: MicrogridApiClient("grpc://localhost?api=v2"),
])  # fmt: skip
def test_unknown_api_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"api='v2' must be auto, v1alpha18, v1alpha19, v0\.15"):
        make()


def test_arguments_are_judged_before_anything_is_sent(server: SomeServer) -> None:
    server.speaks = {"v1alpha18"}
    with MicrogridApiClient(server.url) as client:
        for call in (
            lambda: client.set_power(1, float("nan")),
            lambda: client.set_power(-1, 1.0),
            lambda: client.set_power(1, 1.0, lifetime=9),
            lambda: client.set_bounds(1, 1.0, 2.0),
            lambda: client.set_bounds(1, -1.0, 2.0, token=""),
            lambda: client.telemetry(1, []),
            lambda: client.clear_bounds(1, ""),
        ):
            with pytest.raises(ValueError, match="must"):
                call()
        assert server.paths == []


def test_server_of_none_of_them(server: SomeServer) -> None:
    with MicrogridApiClient(server.url) as client:
        with pytest.raises(
            OperationNotImplemented, match=r"v1alpha18, v1alpha19, v0\.15"
        ) as raised:
            client.components()
        assert "v1," not in str(raised.value)
        with pytest.raises(OperationNotImplemented):
            client.wait_until_ready(PATIENCE)
        # It is not remembered.
        server.speaks = {"v0.15"}
        client.components()


@pytest.mark.parametrize(
    ("status", "error", "attempts"),
    [
        ("UNAVAILABLE", ServiceUnavailable, 4),
        ("UNAUTHENTICATED", OperationUnauthenticated, 1),
    ],
)
def test_other_errors_are_the_users(
    server: SomeServer, status: str, error: type[Exception], attempts: int
) -> None:
    server.status = grpc.StatusCode[status]
    with MicrogridApiClient(server.url) as client:
        with pytest.raises(error, match=rf"set_power\(.*\({attempts} attempt"):
            client.set_power(1, 5.0)
        assert server.probes() == ["v1alpha18"] * attempts
        server.status = None
        server.speaks = {"v1alpha18"}
        client.set_power(1, 5.0)


def test_it_has_the_deadline_of_the_call(server: SomeServer) -> None:
    server.held = threading.Event()
    with MicrogridApiClient(server.url) as client:
        started = time.monotonic()
        with pytest.raises(OperationTimedOut):
            client.set_power(1, 5.0, timeout=0.3)
        assert time.monotonic() - started < PATIENCE / 2
        server.held.set()


def test_many_at_once_ask_once(server: SomeServer) -> None:
    server.speaks = {"v1alpha18"}
    with MicrogridApiClient(server.url) as client:
        barrier = threading.Barrier(8)

        def call(number: int) -> None:
            barrier.wait(PATIENCE)
            client.set_power(number, 1.0)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert server.probes() == ["v1alpha18"]
        assert server.count("SetPowerActive") == 8


def test_newer_set_point_wins_although_the_api_is_not_known_yet(server: SomeServer) -> None:
    server.speaks = {"v1alpha18"}
    server.held = threading.Event()
    errors: list[BaseException] = []
    with MicrogridApiClient(server.url) as client:

        def older() -> None:
            try:
                client.set_power(1, 1.0)
            except SetPointSuperseded as error:
                errors.append(error)

        thread = threading.Thread(target=older)
        thread.start()
        assert eventually(lambda: server.paths)
        newer = threading.Thread(target=lambda: client.set_power(1, 2.0))
        newer.start()
        # At once, not only when the server answers.
        thread.join(PATIENCE)
        assert errors
        server.held.set()
        newer.join(PATIENCE)
    assert [r.power for name, r in server.calls if name == "SetPowerActive"] == [2.0]


def test_disconnecting_ends_all_who_wait(server: SomeServer) -> None:
    server.held = threading.Event()
    errors: list[BaseException] = []
    client = MicrogridApiClient(server.url)

    def call(number: int) -> None:
        try:
            client.set_power(number, 1.0)
        except ApiClientError as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: server.paths)
    client.disconnect()
    for thread in threads:
        thread.join(PATIENCE)
    server.held.set()
    # The one that asked has been told so by gRPC.
    kinds = sorted(type(error).__name__ for error in errors)
    assert kinds == ["ClientNotConnected", "ClientNotConnected", "OperationCancelled"]


@pytest.mark.parametrize(("before", "after"), [("v0.15", "v1alpha18"), ("v1alpha18", "v0.15")])
def test_server_that_was_upgraded_is_asked_again(
    server: SomeServer, before: str, after: str
) -> None:
    server.speaks = {before}
    strategy = LinearBackoff(0.05, 0.0)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        client.components()
        client.set_power(1, 1.0)
        receiver = client.meter_data(1)
        receiver.receive(PATIENCE)
        port = server.port
        server.stop()
        with SomeServer(after, port=port) as newer:
            assert eventually(lambda: newer.count("StreamComponentData") > 0)
            receiver.drain()
            receiver.receive(PATIENCE)
            assert client.api == after
            client.set_power(1, 2.0)
            assert newer.count("SetPowerActive") == 1


def test_call_of_a_server_that_was_upgraded_succeeds(server: SomeServer) -> None:
    server.speaks = {"v0.15"}
    with MicrogridApiClient(server.url, call_retry=None) as client:
        client.set_power(1, 1.0)
        server.speaks = {"v1alpha18"}
        client.set_power(1, 2.0)
        assert client.api == "v1alpha18"


def test_gateway_that_knows_nothing_for_a_while_ends_no_stream(server: SomeServer) -> None:
    server.speaks = {"v1alpha18"}
    opened = 0

    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        nonlocal opened
        opened += 1
        for number, payload in enumerate(server.count_up(component_id, context)):
            yield payload
            if opened == 1 and number == 3:
                server.speaks = set()
                return

    server.stream = stream
    with MicrogridApiClient(server.url, retry_strategy=LinearBackoff(0.05, 0.0)) as client:
        receiver = client.meter_data(1, 1000)
        assert eventually(lambda: server.speaks == set())
        assert eventually(lambda: len(server.probes()) > 5)
        server.speaks = {"v1alpha18"}
        assert eventually(lambda: opened == 2)
        assert receiver.receive(PATIENCE) is not None


def test_waiting_for_a_server_behind_a_gateway(server: SomeServer) -> None:
    server.speaks = {"v1alpha18"}
    with MicrogridApiClient(server.url) as client:
        client.components()
        client.set_power(1, 1.0)
        server.speaks = set()
        with pytest.raises(OperationNotImplemented) as raised:
            client.set_power(1, 2.0)
        assert raised.value.is_retryable
        with pytest.raises(TimeoutError):
            client.wait_until_ready(0.5)
        server.speaks = {"v1alpha18"}
        client.wait_until_ready(PATIENCE)


def test_component_that_cannot_do_it_costs_one_question(server: SomeServer) -> None:
    server.speaks = {"v1alpha18"}
    with MicrogridApiClient(server.url) as client:
        client.set_power(1, 1.0)
        server.answers["SetPowerActive"] = lambda _, context: context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "not this one"
        )
        with pytest.raises(OperationNotImplemented, match="not this one"):
            client.set_power(2, 1.0)
        assert server.probes() == ["v1alpha18"] * 2
        assert client.api == "v1alpha18"


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.set_power(1, 1.0, lifetime=60),
        lambda c: c.set_reactive_power(1, 1.0, lifetime=60),
        lambda c: c.set_bounds(1, -1.0, 1.0, lifetime=60),
        lambda c: c.set_bounds(1, -1.0, 1.0, token="mine"),
        lambda c: c.clear_bounds(1, "mine"),
        lambda c: c.sensors(),
        lambda c: c.telemetry(1),
        lambda c: c.sensor_data(1),
    ],
)
def test_what_v0_15_lacks_is_an_error_before_anything_but_the_probe(
    server: SomeServer, call: Any
) -> None:
    server.speaks = {"v0.15"}
    with MicrogridApiClient(server.url) as client:
        with pytest.raises(OperationNotImplemented, match=r"API v0\.15 has no"):
            call(client)
        assert {path.rpartition("/")[2] for path in server.paths} == {
            "GetMicrogrid", "GetMicrogridMetadata",
        }  # fmt: skip


@pytest.mark.parametrize("call", ["components()", "set_power(1, 5.0)", "telemetry(1)"])
def test_ctrl_c_while_it_is_being_found_out(server: SomeServer, call: str) -> None:
    server.held = threading.Event()
    script = (
        "import sys\n"
        "from microgrid_sync import MicrogridApiClient\n"
        f"client = MicrogridApiClient({server.url!r})\n"
        "print('ready', flush=True)\n"
        "try:\n"
        f"    client.{call}\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
        "client.disconnect()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert eventually(lambda: server.paths)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        assert output == "interrupted\n"
        assert process.returncode == 0
    finally:
        server.held.set()
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_one_that_hangs_does_not_keep_another_from_being_found(server: SomeServer) -> None:
    server.speaks = {"v1alpha19"}
    server.hangs = "/frequenz.api.microgrid.Microgrid/"
    with MicrogridApiClient(server.url, timeout=PATIENCE) as client:
        began = time.monotonic()
        client.metadata()
        assert client.api == "v1alpha19"
        assert time.monotonic() - began < PATIENCE / 2
