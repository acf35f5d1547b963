"""Set-points that are answered with a stream: read to the server's last word."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    ApiClientError,
    InternalError,
    Microgrid,
    MicrogridApiClient,
    OperationOutOfRange,
    OperationTimedOut,
    PartialFailure,
    Power,
    ServiceUnavailable,
    SetPointFailed,
    SetPointRejected,
    SetPointSuperseded,
    Success,
)
from microgrid_sync.client import start_set_power
from microgrid_sync.transport.reader_threads import ReaderThreads
from microgrid_sync.wire import v1alpha18_schema as alpha
from tests.support.charger_server import ChargerServer
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

UNKNOWN, ACCEPTED, REJECTED, FAILED, SUCCESS, OVERRIDDEN = range(6)
UNTIL = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def said(status: int, until: datetime | None = None) -> Any:
    answer = alpha.SetElectricalComponentPowerResponse(status=status)
    if until is not None:
        answer.valid_until_time.FromDatetime(until)
    return answer


def saying(*answers: Any) -> Callable[[Any, grpc.ServicerContext], Any]:
    return lambda *_: iter(answers)


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[MicrogridApiClient]:
    with MicrogridApiClient(server.url, call_retry=None) as client:
        yield client


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([said(SUCCESS)], None),
        ([said(SUCCESS, UNTIL)], UNTIL),
        ([said(ACCEPTED), said(SUCCESS, UNTIL)], UNTIL),
        ([said(ACCEPTED, UNTIL)], UNTIL),
        ([said(ACCEPTED, UNTIL), said(ACCEPTED), said(UNKNOWN), said(9)], UNTIL),
        ([said(UNKNOWN), said(ACCEPTED), said(17), said(SUCCESS, UNTIL)], UNTIL),
    ],
)
def test_set_point_that_succeeds(
    server: ScriptedServer, client: MicrogridApiClient, answers: list[Any], expected: Any
) -> None:
    for method, call in (
        ("SetPowerActive", client.set_power), ("SetPowerReactive", client.set_reactive_power),
    ):  # fmt: skip
        server.answers[method] = saying(*answers)
        assert call(1, 5.0) == expected
    assert client.stats().failures == 0


@pytest.mark.parametrize(
    ("answers", "error", "retryable"),
    [
        ([said(REJECTED)], SetPointRejected, False),
        ([said(ACCEPTED), said(REJECTED)], SetPointRejected, False),
        ([said(ACCEPTED), said(FAILED)], SetPointFailed, True),
        ([said(ACCEPTED), said(OVERRIDDEN)], SetPointSuperseded, False),
        ([said(FAILED)], SetPointFailed, True),
        ([], InternalError, True),
        ([said(UNKNOWN)], InternalError, True),
    ],
)
def test_set_point_that_does_not(
    server: ScriptedServer,
    client: MicrogridApiClient,
    answers: list[Any],
    error: type[ApiClientError],
    *,
    retryable: bool,
) -> None:
    server.answers["SetPowerActive"] = saying(*answers)
    with pytest.raises(error, match="SetElectricalComponentPower") as raised:
        client.set_power(1, 5.0)
    assert raised.value.is_retryable is retryable
    assert client.stats().failures == 1


def test_refusal_after_the_acceptance_is_one(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    def answer(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield said(ACCEPTED, UNTIL)
        context.abort(grpc.StatusCode.OUT_OF_RANGE, "too much")

    server.answers["SetPowerActive"] = answer
    with pytest.raises(OperationOutOfRange, match="too much"):
        client.set_power(1, 5.0)


def test_failed_set_point_is_tried_again(server: ScriptedServer) -> None:
    tries = iter([FAILED, FAILED, SUCCESS])
    server.answers["SetPowerActive"] = lambda *_: iter([said(ACCEPTED), said(next(tries))])
    with MicrogridApiClient(server.url) as client:
        client.set_power(1, 5.0)
    assert server.count("SetPowerActive") == 3


def test_overridden_by_somebody_else_is_a_warning(
    server: ScriptedServer, client: MicrogridApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers["SetPowerActive"] = saying(said(ACCEPTED), said(OVERRIDDEN))
    with pytest.raises(SetPointSuperseded):
        client.set_power(1, 5.0)
    assert ["another controller" in r.message for r in caplog.records] == [True]
    assert caplog.records[0].levelno == logging.WARNING


def test_lifetime_is_sent_in_whole_seconds(server: ScriptedServer) -> None:
    seen: list[Any] = []
    original = server._alpha_set_point

    def spy(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        seen.append(request)
        yield from original(request, context)

    server._alpha_set_point = spy  # type: ignore[method-assign] # to see the request itself
    with MicrogridApiClient(server.url) as client:
        client.set_power(1, 5.0, lifetime=10.2)
        client.set_power(1, 5.0, lifetime=timedelta(minutes=15))
        client.set_power(1, 5.0)
    assert [r.request_lifetime for r in seen] == [11, 900, 0]
    assert [r.HasField("request_lifetime") for r in seen] == [True, True, False]


@pytest.mark.parametrize("lifetime", [9.99, 900.1, -1, float("nan"), timedelta(seconds=5)])
def test_lifetime_out_of_range(client: MicrogridApiClient, lifetime: Any) -> None:
    with pytest.raises(ValueError, match="lifetime must be 10 to 900 seconds"):
        client.set_power(1, 5.0, lifetime=lifetime)


class SlowWords:
    """Accepts each set-point, and says its last word when the test lets it."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.words: dict[float, int] = {}
        self.ended: list[float] = []
        server.answers["SetPowerActive"] = self.answer

    def answer(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if not context.add_callback(lambda: self.ended.append(request.power)):
            # It is over already.
            self.ended.append(request.power)
        yield said(ACCEPTED, UNTIL)
        while context.is_active() and not self.server.released.wait(0.01):
            if request.power in self.words:
                yield said(self.words[request.power], UNTIL)
                return

    def accepted(self, client: MicrogridApiClient, power: float) -> "Background":
        # Before it is sent: it may be there at once.
        count = self.server.count("SetPowerActive")
        background = Background(lambda: client.set_power(1, power))
        assert eventually(lambda: self.server.count("SetPowerActive") > count or background.done())
        name = "microgrid-set-point-1"
        assert eventually(lambda: any(t.name.startswith(name) for t in threading.enumerate()))
        return background


class Background:
    """A call in a thread."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except ApiClientError as error:
            self.result = error

    def done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> Any:
        self._thread.join(PATIENCE)
        assert self.done()
        return self.result


def test_accepted_set_point_is_not_cancelled_by_a_newer_one(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    slow = SlowWords(server)
    older = slow.accepted(client, 1.0)
    newer = Background(lambda: client.set_power(1, 2.0))
    # At once: nobody has said anything more of either.
    assert isinstance(older.wait(), SetPointSuperseded)
    assert older.wait().was_sent
    assert not newer.done()
    assert slow.ended == []
    slow.words |= {1.0: OVERRIDDEN, 2.0: SUCCESS}
    assert newer.wait() == UNTIL
    assert eventually(lambda: sorted(slow.ended) == [1.0, 2.0])


def test_override_of_our_own_is_no_warning(
    server: ScriptedServer, client: MicrogridApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SlowWords(server)
    older = slow.accepted(client, 1.0)
    slow.words |= {2.0: SUCCESS}
    client.set_power(1, 2.0)
    slow.words |= {1.0: OVERRIDDEN}
    older.wait()
    assert eventually(lambda: 1.0 in slow.ended)
    assert not caplog.records


def test_older_one_that_succeeds_after_the_newer_one_has_it_sent_again(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    slow = SlowWords(server)
    older = slow.accepted(client, 1.0)
    slow.words |= {2.0: SUCCESS}
    client.set_power(1, 2.0)
    older.wait()
    slow.words |= {1.0: SUCCESS}
    assert eventually(lambda: server.count("SetPowerActive") == 3)
    assert server.calls[-1][1].power == 2.0
    assert eventually(lambda: client.stats().resent == 1)


def test_accepted_and_nothing_more_within_the_timeout(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    slow = SlowWords(server)
    timeout = 0.3
    # A busy machine may not even have sent it.
    while server.count("SetPowerActive") == 0 and timeout < PATIENCE:
        with pytest.raises(OperationTimedOut):
            client.set_power(1, 1.0, timeout=timeout)
        timeout *= 2
    assert eventually(lambda: slow.ended)
    assert set(slow.ended) == {1.0}


def test_disconnecting_ends_what_is_read_on(server: ScriptedServer) -> None:
    slow = SlowWords(server)
    client = MicrogridApiClient(server.url, call_retry=None)
    older = slow.accepted(client, 1.0)
    newer = Background(lambda: client.set_power(1, 2.0))
    older.wait()
    assert eventually(lambda: server.count("SetPowerActive") == 2)
    client.disconnect()
    assert isinstance(newer.wait(), ApiClientError)
    assert eventually(lambda: sorted(slow.ended) == [1.0, 2.0])


def test_connection_that_is_lost_after_the_acceptance(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    slow = SlowWords(server)
    call = slow.accepted(client, 1.0)
    server.stop()
    assert isinstance(call.wait(), ServiceUnavailable | ApiClientError)


def test_endless_words_end_with_the_timeout(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    def answer(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        while context.is_active() and not server.released.wait(0.001):
            yield said(ACCEPTED)

    server.answers["SetPowerActive"] = answer
    with pytest.raises(OperationTimedOut):
        client.set_power(1, 1.0, timeout=0.3)


# Without waiting, as pools do


def test_started_set_point_is_read_to_its_last_word(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    slow = SlowWords(server)
    accepted, done = threading.Event(), threading.Event()
    outcome: list[ApiClientError | None] = []

    def on_done(error: ApiClientError | None) -> None:
        outcome.append(error)
        done.set()

    started = start_set_power(
        client, 1, 1.0, lifetime=60, timeout=5.0, on_accepted=accepted.set, on_done=on_done
    )
    assert accepted.wait(PATIENCE)
    # Too late: the server has it.
    started.give_up()
    time.sleep(0.05)
    assert not done.is_set()
    slow.words |= {1.0: SUCCESS}
    assert done.wait(PATIENCE)
    assert outcome == [None]


def test_started_set_point_that_is_given_up_has_timed_out(
    server: ScriptedServer, client: MicrogridApiClient
) -> None:
    server.answers["SetPowerActive"] = server.never
    outcome: list[ApiClientError | None] = []
    started = start_set_power(
        client, 1, 1.0, lifetime=60, timeout=5.0, on_accepted=lambda: None, on_done=outcome.append
    )
    assert eventually(lambda: server.count("SetPowerActive") == 1)
    started.give_up()
    assert eventually(lambda: outcome)
    assert isinstance(outcome[0], OperationTimedOut)


class SlowSite(ChargerServer):
    """Chargers that take a set-point at once, and say so later."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.last_word_after = 0.0
        self.last_word: int | None = SUCCESS
        self.arrived: list[float] = []
        self.answers["SetPowerActive"] = self._reply

    def _reply(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.sent.append((request.component_id, request.power))
        self.arrived.append(time.monotonic())
        self.hold(request.component_id, request.power)
        yield said(ACCEPTED, UNTIL)
        deadline = time.monotonic() + self.last_word_after
        while context.is_active() and not self.released.wait(0.02):
            if self.last_word is not None and time.monotonic() >= deadline:
                yield said(self.last_word, UNTIL)
                return


@pytest.fixture
def site() -> Iterator[SlowSite]:
    with SlowSite(3) as site:
        yield site


def test_pool_waits_for_the_last_word_and_is_not_uncertain(site: SlowSite) -> None:
    site.last_word_after = 1.5
    with Microgrid(site.url) as microgrid:
        pool = microgrid.new_ev_charger_pool(priority=1)
        results = pool.power_distribution_results.new_receiver()
        pool.propose_power(Power.from_watts(20_000.0))
        result = results.receive(PATIENCE)
        assert isinstance(result, Success), result
        assert result.succeeded_components == set(site.chargers)


def test_pool_whose_set_points_never_get_a_last_word(
    site: SlowSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.power.set_point_ledger.ACCEPTED_REFRESH", 1.0)
    monkeypatch.setattr("microgrid_sync.transport.set_points.READ_ON", 3.0)
    site.last_word = None
    with Microgrid(site.url) as microgrid:
        pool = microgrid.new_ev_charger_pool(priority=1)
        results = pool.power_distribution_results.new_receiver()
        status = pool.power_status.new_receiver()
        pool.propose_power(Power.from_watts(20_000.0))
        # Refreshed, without an older one being cancelled, and not taken for a failure.
        assert eventually(lambda: len(site.set_points(11)) >= 4)
        assert not [r for r in results.drain() if isinstance(r, PartialFailure)]
        assert status.drain()
        # As soon as it says more, power goes on.
        site.last_word = SUCCESS
        assert eventually(lambda: site.total() > 10_000)


def test_pool_is_told_of_a_set_point_that_failed(site: SlowSite) -> None:
    site.last_word = FAILED
    with Microgrid(site.url) as microgrid:
        pool = microgrid.new_ev_charger_pool(priority=1)
        results = pool.power_distribution_results.new_receiver()
        pool.propose_power(Power.from_watts(20_000.0))
        result = results.receive(PATIENCE)
        assert isinstance(result, PartialFailure)


def test_pool_names_a_lifetime_and_renews_well_before() -> None:
    seen: list[int] = []

    class Site(ChargerServer):
        def _alpha_set_point(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            seen.append(request.request_lifetime)
            yield from super()._alpha_set_point(request, context)

    with Site(1) as site, Microgrid(site.url) as microgrid:
        microgrid.new_ev_charger_pool(priority=1).propose_power(Power.from_watts(9000.0))
        assert eventually(lambda: seen)
    assert set(seen) == {60}


def test_pool_gives_up_what_is_not_answered(
    site: SlowSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.power.set_point_ledger.TIMEOUTS", (0.5, 0.5, 1.0, 2.0))
    ended: list[int] = []

    def silent(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(lambda: ended.append(request.component_id))
        return site.never(request, context)

    site.answers["SetPowerActive"] = silent
    with Microgrid(site.url) as microgrid:
        microgrid.new_ev_charger_pool(priority=1).propose_power(Power.from_watts(20_000.0))
        # Long before gRPC's own time-out, which leaves time for a last word.
        assert eventually(lambda: set(ended) == set(site.chargers))


def test_outcome_of_an_earlier_attempt_is_not_taken_for_that_of_the_next(
    server: ScriptedServer,
) -> None:
    slow = SlowWords(server)
    tries: list[float] = []

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        tries.append(request.power)
        if len(tries) == 1:
            yield said(ACCEPTED)
            yield said(FAILED)
            return
        yield from slow.answer(request, context)

    server.answers["SetPowerActive"] = answer
    slow.words |= {2.0: SUCCESS}
    with MicrogridApiClient(server.url) as client:
        older = Background(lambda: client.set_power(1, 1.0))
        assert client._session is not None
        newest = client._session._set_points._newest
        assert eventually(
            lambda: len(tries) == 2 and any(one.is_accepted for one in newest.values())
        )
        client.set_power(1, 2.0)
        assert isinstance(older.wait(), SetPointSuperseded)
        # It goes on, and is reckoned with.
        assert eventually(lambda: slow.ended == [2.0])
        slow.words |= {1.0: SUCCESS}
        assert eventually(lambda: client.stats().resent == 1)


def test_without_a_thread_the_caller_reads_on_and_is_ended_by_a_newer_one(
    server: ScriptedServer, client: MicrogridApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowWords(server)

    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ReaderThreads, "start", start)
    older = Background(lambda: client.set_power(1, 1.0))
    assert eventually(lambda: server.count("SetPowerActive") == 1)
    time.sleep(0.05)
    slow.words |= {2.0: SUCCESS}
    newer = Background(lambda: client.set_power(1, 2.0))
    assert isinstance(older.wait(), SetPointSuperseded)
    newer.wait()


def test_other_controllers_set_point_is_not_replaced_by_an_older_one_of_ours(
    server: ScriptedServer, client: MicrogridApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.transport.resend.LANDING_TIME", 0.3)
    monkeypatch.setattr("microgrid_sync.transport.set_points.LANDING_TIME", 0.3)
    words = {1000.0: None, 2000.0: SUCCESS, 3000.0: OVERRIDDEN}

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        word = words[request.power]
        if word is None:
            server.silence(context)
            return
        yield said(ACCEPTED)
        yield said(word)

    server.answers["SetPowerActive"] = answer
    with pytest.raises(OperationTimedOut):
        client.set_power(1, 1000.0, timeout=0.2)
    client.set_power(1, 2000.0)
    with pytest.raises(SetPointSuperseded):
        client.set_power(1, 3000.0)
    count = server.count("SetPowerActive")
    time.sleep(1.0)
    assert server.count("SetPowerActive") == count


def test_refusals_leave_nothing_behind(server: ScriptedServer, client: MicrogridApiClient) -> None:
    server.answers["SetPowerActive"] = saying(said(REJECTED))
    session: Any = client._session
    for number in range(50):
        with pytest.raises(SetPointRejected):
            client.set_power(1, float(number))
    assert session._set_points._refused == {}
