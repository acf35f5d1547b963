"""Unary calls: attempts, deadlines, the order of set-points, ends from other threads."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
import grpc_testing
import pytest
import tenacity
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.empty_pb2 import Empty

from microgrid_sync import (
    DEFAULT_CALL_RETRY,
    ApiClientError,
    ClientNotConnected,
    EntityNotFound,
    InternalError,
    InvalidArgument,
    MicrogridApiClient,
    OperationCancelled,
    OperationTimedOut,
    ServiceUnavailable,
    SetPointSuperseded,
)
from microgrid_sync.transport.attempts import CallOptions, CallPlan
from microgrid_sync.transport.calls import CallCounters, Calls
from microgrid_sync.transport.reachability import Reachability
from microgrid_sync.transport.set_points import SetPoints
from microgrid_sync.wire import SetPointRequest
from microgrid_sync.wire import v0_15_schema as schema
from tests.support.server import ScriptedServer, failing
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis


def _service() -> Any:
    """The service of version 0.15, as far as the fake channel needs to know it."""
    file = FileDescriptorProto(name="service.proto", package="frequenz.api.microgrid")
    file.message_type.add(name="Any")
    service = file.service.add(name="Microgrid")
    for name in ("SetPowerActive", "ListComponents"):
        kind = ".frequenz.api.microgrid.Any"
        service.method.add(name=name, input_type=kind, output_type=kind, server_streaming=True)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("frequenz.api.microgrid.Microgrid")


SERVICE = _service()
SET_POWER = SERVICE.methods_by_name["SetPowerActive"]

QUICK = DEFAULT_CALL_RETRY.copy(wait=tenacity.wait_none())


class Caller:
    """Makes calls over gRPC's fake channel; the test plays the server."""

    def __init__(self, channel: grpc_testing.Channel, pool: futures.Executor) -> None:
        self._channel = channel
        self._pool = pool
        self.counters = CallCounters()
        self.calls = Calls("grpc://fake", channel, self.counters, Reachability(), "v0.15")
        self.set_points = SetPoints(self.calls)
        self._kinds = itertools.count()

    def close(self) -> None:
        self.calls.close()
        self.set_points.close()

    def start(
        self,
        retry: tenacity.Retrying | None = QUICK,
        *,
        timeout: float = 60.0,
        power: float = 1.0,
        kind: str | None = None,
    ) -> "futures.Future[Any]":
        plan = CallPlan("set_power()", lambda api: api.set_power(7, power))
        options = CallOptions(timeout, retry)
        order_by = kind or f"of its own, {next(self._kinds)}", 7
        return self._pool.submit(self.set_points.call, plan, options, order_by)

    def answer(
        self,
        code: grpc.StatusCode,
        details: str = "",
        *,
        answers: Sequence[bytes] = (Empty().SerializeToString(),),
    ) -> Any:
        _, request, rpc = self._channel.take_unary_stream(SET_POWER)
        for answer in answers if code is grpc.StatusCode.OK else ():
            rpc.send_response(answer)
        rpc.terminate((), code, details)
        return schema.SetPowerActiveParam.FromString(request)


@pytest.fixture
def caller() -> Iterator[Caller]:
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    with futures.ThreadPoolExecutor(4) as pool:
        caller = Caller(channel, pool)
        yield caller
        caller.close()


def test_call_that_succeeds_makes_one_attempt(caller: Caller) -> None:
    call = caller.start()
    assert caller.answer(grpc.StatusCode.OK).power == 1.0
    assert call.result(PATIENCE) is None
    assert caller.counters.read() == (1, 0, 0, 0)


def test_retryable_error_is_tried_again(caller: Caller) -> None:
    call = caller.start()
    caller.answer(grpc.StatusCode.UNAVAILABLE)
    caller.answer(grpc.StatusCode.INTERNAL)
    caller.answer(grpc.StatusCode.OK)
    assert call.result(PATIENCE) is None
    assert caller.counters.read() == (1, 2, 0, 0)


def test_last_real_error_comes_with_the_number_of_attempts(caller: Caller) -> None:
    call = caller.start()
    for code in ("UNAVAILABLE", "ABORTED", "UNKNOWN", "INTERNAL"):
        caller.answer(grpc.StatusCode[code], f"because of {code}")
    with pytest.raises(InternalError, match=r"because of INTERNAL.*\(4 attempts\)"):
        call.result(PATIENCE)
    assert caller.counters.read() == (1, 3, 1, 0)


def test_error_that_is_not_retryable_is_not_tried_again(caller: Caller) -> None:
    call = caller.start()
    caller.answer(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(InvalidArgument, match=r"\(1 attempt\)"):
        call.result(PATIENCE)


def test_no_policy_makes_a_single_attempt(caller: Caller) -> None:
    call = caller.start(None)
    caller.answer(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(ServiceUnavailable, match=r"\(1 attempt\)"):
        call.result(PATIENCE)


@pytest.mark.parametrize(
    "policy",
    [
        tenacity.Retrying(stop=tenacity.stop_after_attempt(2)),
        tenacity.Retrying(stop=lambda state: state.attempt_number >= 2),
        tenacity.Retrying(stop=tenacity.stop_after_attempt(2), retry_error_callback=lambda _: None),
    ],
)
def test_policy_of_the_users_never_hides_the_real_error(
    caller: Caller, policy: tenacity.Retrying
) -> None:
    call = caller.start(policy)
    caller.answer(grpc.StatusCode.UNAVAILABLE)
    caller.answer(grpc.StatusCode.NOT_FOUND)
    with pytest.raises(EntityNotFound, match=r"\(2 attempts\)"):
        call.result(PATIENCE)


def test_policy_without_predicate_does_not_retry_what_is_not_retryable(caller: Caller) -> None:
    call = caller.start(tenacity.Retrying(stop=tenacity.stop_after_attempt(3)))
    caller.answer(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(InvalidArgument, match=r"\(1 attempt\)"):
        call.result(PATIENCE)


def test_policy_may_say_what_to_retry(caller: Caller) -> None:
    call = caller.start(
        tenacity.Retrying(
            stop=tenacity.stop_after_attempt(3),
            retry=tenacity.retry_if_exception_type(InvalidArgument),
        )
    )
    caller.answer(grpc.StatusCode.INVALID_ARGUMENT)
    caller.answer(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(ServiceUnavailable, match=r"\(2 attempts\)"):
        call.result(PATIENCE)


def test_superseded_during_a_pause_whatever_the_last_error_was(caller: Caller) -> None:
    policy = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ApiClientError), wait=tenacity.wait_fixed(1000)
    )
    older = caller.start(policy, timeout=10_000.0, kind="a")
    caller.answer(grpc.StatusCode.INVALID_ARGUMENT)
    newer = caller.start(kind="a")
    caller.answer(grpc.StatusCode.OK)
    assert newer.result(PATIENCE) is None
    with pytest.raises(SetPointSuperseded) as raised:
        older.result(PATIENCE)
    assert isinstance(raised.value.__cause__, InvalidArgument)


def test_answer_is_never_a_reason_to_try_again(caller: Caller) -> None:
    policy = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda _: True), stop=tenacity.stop_after_attempt(2)
    )
    call = caller.start(policy)
    caller.answer(grpc.StatusCode.OK)
    assert call.result(PATIENCE) is None


def test_no_attempt_starts_after_the_deadline(caller: Caller) -> None:
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(30))
    call = caller.start(policy, timeout=20.0)
    caller.answer(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(ServiceUnavailable, match=r"\(1 attempt\)"):
        call.result(PATIENCE)


def test_close_ends_a_pause_and_nothing_is_tried_again(caller: Caller) -> None:
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(1000))
    call = caller.start(policy, timeout=10_000.0)
    caller.answer(grpc.StatusCode.UNAVAILABLE)
    caller.close()
    with pytest.raises(ServiceUnavailable, match=r"\(1 attempt\)"):
        call.result(PATIENCE)


def test_closed_calls_refuse_new_ones(caller: Caller) -> None:
    caller.close()
    with pytest.raises(ClientNotConnected):
        caller.start().result(PATIENCE)


def test_older_set_point_in_a_pause_is_superseded(caller: Caller) -> None:
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(1000))
    older = caller.start(policy, timeout=10_000.0, kind="a")
    caller.answer(grpc.StatusCode.UNAVAILABLE)
    newer = caller.start(power=2.0, kind="a")
    assert caller.answer(grpc.StatusCode.OK).power == 2.0
    assert newer.result(PATIENCE) is None
    with pytest.raises(SetPointSuperseded, match=r"\(1 attempt\)") as raised:
        older.result(PATIENCE)
    assert isinstance(raised.value.__cause__, ServiceUnavailable)


# Over TCP


def _client(server: ScriptedServer, **options: Any) -> MicrogridApiClient:
    return MicrogridApiClient(server.url, **options)


def test_server_that_never_answers_ends_by_the_timeout(server: ScriptedServer) -> None:
    server.answers["SetPowerActive"] = server.never
    with _client(server) as client:
        started = time.monotonic()
        with pytest.raises(OperationTimedOut, match=r"\(1 attempt\)"):
            client.set_power(1, 5.0, timeout=0.3)
        assert 0.29 < time.monotonic() - started < 10
        # A busy machine may not even have sent it.
        assert server.count("SetPowerActive") <= 1


def test_timeout_spans_all_attempts(server: ScriptedServer) -> None:
    policy = tenacity.Retrying(wait=tenacity.wait_none())
    for timeout in (3.0, 6.0, 12.0):
        attempts = itertools.count(1)

        def fail_twice(
            request: Any, context: grpc.ServicerContext, attempts: Iterator[int] = attempts
        ) -> Any:
            if next(attempts) <= 2:
                context.abort(grpc.StatusCode.ABORTED, "not now")
            return server.never(request, context)

        server.answers["SetPowerActive"] = fail_twice
        with _client(server, call_retry=policy, timeout=timeout) as client:
            started = time.monotonic()
            with pytest.raises(OperationTimedOut) as raised:
                client.set_power(1, 5.0)
            assert timeout - 0.1 < time.monotonic() - started < timeout + PATIENCE
        if raised.value.attempts == 3:
            return
        # A busy machine has had no time for all of them.
    pytest.fail(f"{raised.value.attempts} attempts")


def test_deadline_of_the_servers_own_is_tried_again(server: ScriptedServer) -> None:
    server.answers["SetPowerActive"] = failing(grpc.StatusCode.DEADLINE_EXCEEDED)
    with (
        _client(server, call_retry=QUICK) as client,
        pytest.raises(OperationTimedOut, match=r"\(4 attempts\)"),
    ):
        client.set_power(1, 5.0)


def test_mistyped_id_does_not_block(server: ScriptedServer) -> None:
    server.answers["SetPowerActive"] = failing(grpc.StatusCode.NOT_FOUND)
    with _client(server) as client:
        started = time.monotonic()
        with pytest.raises(EntityNotFound, match=r"\(4 attempts\)"):
            client.set_power(99, 5.0)
        assert time.monotonic() - started < 15


@pytest.mark.parametrize("end", ["disconnect", "connect"])
def test_end_of_the_connection_ends_a_call(server: ScriptedServer, end: str) -> None:
    server.answers["SetPowerActive"] = server.never
    errors: list[ApiClientError] = []
    with _client(server) as client:
        thread = threading.Thread(target=_collect, args=(errors, lambda: client.set_power(1, 5.0)))
        thread.start()
        assert eventually(lambda: server.count("SetPowerActive") == 1)
        if end == "disconnect":
            client.disconnect()
        else:
            client.connect(f"grpc://localhost:{server.port}")
        thread.join(PATIENCE)
        assert isinstance(errors[0], OperationCancelled)
        assert server.count("SetPowerActive") == 1


def _collect(errors: list[ApiClientError], call: Callable[[], object]) -> None:
    try:
        call()
    except ApiClientError as error:
        errors.append(error)


@pytest.mark.parametrize("method", ["set_power", "set_reactive_power"])
def test_newer_set_point_cancels_the_older_one_in_flight(
    server: ScriptedServer, method: str
) -> None:
    rpc = {"set_power": "SetPowerActive", "set_reactive_power": "SetPowerReactive"}[method]
    cancelled = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Empty:
        if request.power == 1.0:
            if not context.add_callback(cancelled.set):
                # It is over already.
                cancelled.set()
            server.silence(context)
        return Empty()

    server.answers[rpc] = answer
    errors: list[ApiClientError] = []
    with _client(server) as client:
        older = threading.Thread(
            target=_collect, args=(errors, lambda: getattr(client, method)(7, 1.0))
        )
        older.start()
        assert eventually(lambda: server.count(rpc) == 1)
        # Neither another component nor another kind touches it.
        getattr(client, method)(8, 3.0)
        client.set_bounds(7, -1.0, 1.0)
        {"set_power": client.set_reactive_power, "set_reactive_power": client.set_power}[method](
            7, 3.0
        )
        assert older.is_alive()
        getattr(client, method)(7, 2.0)
        older.join(PATIENCE)
        assert cancelled.wait(PATIENCE)
    assert isinstance(errors[0], SetPointSuperseded)
    assert not errors[0].is_retryable


class _Recorder(SetPoints):
    """Writes down which calls have begun, and which attempts start."""

    def __init__(self, server: ScriptedServer, channel: grpc.Channel) -> None:
        self._real_channel = channel
        self.events: list[tuple[str, float]] = []
        self._one_by_one = threading.Lock()
        recording: Any = self
        calls = Calls(server.url, recording, CallCounters(), Reachability(), "v0.15")
        self.calls = calls
        super().__init__(calls)

    def unary_stream(self, path: str, *_: object) -> Any:
        """Stand in for the channel."""
        open_call: Any = self._real_channel.unary_stream(path, None, None)

        def start(payload: bytes, timeout: float) -> Any:
            message = schema.SetPowerActiveParam.FromString(payload)
            self.events.append(("start", message.power))
            return open_call(payload, timeout)

        return start

    def _begin(self, plan: Any, order_by: Any) -> Any:
        # One by one, so that the order of the lines is that of the calls.
        with self._one_by_one:
            given = super()._begin(plan, order_by)
            self.events.append(("begun", float(plan.operation)))
            return given


def test_no_attempt_of_an_older_set_point_starts_after_a_newer_call_began(
    server: ScriptedServer,
) -> None:
    server.api = "v0.15"
    answers = iter(range(10**6))

    def answer(_: Any, context: grpc.ServicerContext) -> Empty:
        if next(answers) % 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "again")
        return Empty()

    server.answers["SetPowerActive"] = answer
    outcomes: list[str] = []

    def set_power(power: int) -> "CallPlan[SetPointRequest]":
        return CallPlan(str(power), lambda api: api.set_power(7, power))

    def work(set_points: SetPoints, offset: int) -> None:
        for power in range(offset, offset + 30):
            try:
                set_points.call(set_power(power), CallOptions(60.0, QUICK), ("a", 7))
                outcomes.append("done")
            except ApiClientError as error:
                outcomes.append(type(error).__name__)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            recorder = _Recorder(server, channel)
            threads = [threading.Thread(target=work, args=(recorder, 100 * n)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            recorder.calls.close()
            recorder.close()
    finally:
        sys.setswitchinterval(interval)
    assert len(outcomes) == 120
    assert {"done", "SetPointSuperseded"} <= set(outcomes)
    newest = None
    for what, power in recorder.events:
        if what == "begun":
            newest = power
        else:
            # An attempt may start before its own beginning has been written down.
            later_begun = [p for w, p in recorder.events if w == "begun"]
            position = later_begun.index(power)
            assert newest is None or later_begun.index(newest) <= position


@pytest.mark.parametrize(
    "policy",
    [
        "microgrid_sync.DEFAULT_CALL_RETRY",
        "None",
        "tenacity.Retrying(retry=tenacity.retry_if_not_exception_type(KeyError))",
    ],
)
def test_ctrl_c_leaves_a_call_at_once_and_cancels_it(server: ScriptedServer, policy: str) -> None:
    cancelled = threading.Event()

    def answer(_: Any, context: grpc.ServicerContext) -> Empty:
        if not context.add_callback(cancelled.set):
            # It is over already.
            cancelled.set()
        server.silence(context)
        return Empty()

    server.answers["SetPowerActive"] = answer
    script = (
        "import sys, microgrid_sync, tenacity\n"
        f"client = microgrid_sync.MicrogridApiClient({server.url!r}, call_retry={policy})\n"
        "try:\n"
        "    client.set_power(1, 1.0)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    assert eventually(lambda: server.count("SetPowerActive") == 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 7, errors
    assert b"Traceback" not in errors
    assert cancelled.wait(PATIENCE)


def test_ctrl_c_leaves_a_pause_at_once(server: ScriptedServer) -> None:
    server.answers["SetPowerActive"] = failing(grpc.StatusCode.UNAVAILABLE)
    script = (
        "import sys, microgrid_sync, tenacity\n"
        "policy = tenacity.Retrying(wait=tenacity.wait_fixed(1000))\n"
        f"client = microgrid_sync.MicrogridApiClient({server.url!r}, call_retry=policy,"
        " timeout=10000.0)\n"
        "try:\n"
        "    client.set_power(1, 1.0)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    assert eventually(lambda: server.count("SetPowerActive") == 1)
    time.sleep(0.2)  # into the pause; sooner is another place to be interrupted in, not an error
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 7


@pytest.mark.parametrize(
    ("answers", "words"),
    [([], "no message"), ([b"", b""], "more than one"), ([b"\xff\xff"], "the answer is broken")],
)
def test_success_with_anything_but_one_answer_is_an_error(
    caller: Caller, answers: list[bytes], words: str
) -> None:
    call = caller.start(None)
    caller.answer(grpc.StatusCode.OK, answers=answers)
    with pytest.raises(InternalError, match=words):
        call.result(PATIENCE)


def test_call_that_is_interrupted_is_cancelled_at_once(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever Ctrl-C comes; not when somebody lets go of the exception, and the call with it."""
    began, cancelled = threading.Event(), threading.Event()

    def answer(_: Any, context: grpc.ServicerContext) -> Empty:
        context.add_callback(cancelled.set)
        began.set()
        server.silence(context)
        return Empty()

    def interrupted(*_: Any) -> bytes:
        assert began.wait(PATIENCE)
        raise KeyboardInterrupt

    server.answers["SetPowerActive"] = answer
    monkeypatch.setattr("microgrid_sync.transport.set_points.next_answer", interrupted)
    with _client(server) as client:
        with pytest.raises(KeyboardInterrupt) as raised:
            client.set_power(1, 1.0)
        assert cancelled.wait(PATIENCE)
        assert raised.tb is not None
