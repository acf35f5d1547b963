"""Trouble as a client meets it over TCP, on a clock that the tests move on."""

import itertools
import math
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    EVChargerComponentState,
    EVChargerData,
    InternalError,
    LinearBackoff,
    Metadata,
    MicrogridApiClient,
    OperationPreconditionFailed,
    OperationTimedOut,
    Receiver,
    ServiceUnavailable,
)
from microgrid_sync.model.telemetry_codes import DiagnosticCode
from microgrid_sync.simulator import Fault, Simulator, TroubleMaker
from microgrid_sync.wire import v0_15_schema as schema
from tests.support.stub import Stub
from tests.support.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.microgrid(speed=0), pytest.mark.both_apis]

QUICK = LinearBackoff(interval=0.05, jitter=0.0)


@pytest.fixture
def client(microgrid: Simulator) -> Iterator[MicrogridApiClient]:
    with MicrogridApiClient(microgrid.url, call_retry=None, retry_strategy=QUICK) as client:
        yield client


def begin(microgrid: Simulator, kind: str, **options: Any) -> None:
    """Let something go wrong now; nobody has to wait for the clock."""
    microgrid.faults.add(Fault(kind=kind, **options))
    microgrid.step(0.0)


def follow(client: MicrogridApiClient, charger: int = 7) -> Receiver[EVChargerData]:
    receiver = client.ev_charger_data(charger, maxsize=1000)
    receiver.receive(PATIENCE)
    return receiver


def newest(microgrid: Simulator, receiver: Receiver[EVChargerData]) -> EVChargerData:
    """What comes of the next second."""
    microgrid.step(1.0)
    return receiver.receive(PATIENCE)


def set_point(microgrid: Simulator, charger: int = 7) -> float | None:
    return microgrid.change(lambda site: site.charger(charger).active.set_point)


def test_charger_in_error(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver = follow(client)
    microgrid.step(5.0)
    assert eventually(lambda: receiver.receive(PATIENCE).active_power > 10_000)
    receiver.drain()
    begin(microgrid, "error", components=[7], code="OVERCURRENT", lasts=60.0)
    value = newest(microgrid, receiver)
    while value.component_state is not EVChargerComponentState.ERROR:
        value = newest(microgrid, receiver)
    assert value.active_power == 0.0
    assert not value.is_ev_connected()
    assert value.raw is not None
    if client.api == "v0.15":
        assert [error.code for error in value.raw.ev_charger.errors] == [4]
    else:
        codes = [e.diagnostic_code for e in value.raw.state_snapshots[-1].errors]
        assert codes == [DiagnosticCode.OVERCURRENT]
    with pytest.raises(OperationPreconditionFailed, match="component 7: in error"):
        client.set_power(7, 5000.0)
    client.set_power(8, 5000.0)
    # It is over when its time is.
    microgrid.step(60.0)
    values = [receiver.receive(PATIENCE) for _ in range(60)]
    assert values[-1].component_state is EVChargerComponentState.CHARGING


def test_error_is_acknowledged(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver = follow(client)
    begin(microgrid, "error", components=[7])
    assert newest(microgrid, receiver).component_state is EVChargerComponentState.ERROR
    Stub(client.channel).ErrorAck(_id(7))
    assert newest(microgrid, receiver).component_state is EVChargerComponentState.CHARGING


def test_error_that_cannot_be_recovered_from_stays(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    begin(microgrid, "error", components=[4], recoverable=False)
    with pytest.raises(grpc.RpcError) as raised:
        Stub(client.channel).ErrorAck(_id(4))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_inverter_is_in_cold_standby_after_its_error(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    begin(microgrid, "error", components=[4, 5])
    with pytest.raises(grpc.RpcError) as raised:
        Stub(client.channel).Start(_id(4))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    for component_id in (4, 5):
        Stub(client.channel).ErrorAck(_id(component_id))
    microgrid.step(1.0)
    assert client.inverter_data(4).receive(PATIENCE).component_state.name == "STANDBY"
    battery = client.battery_data(5).receive(PATIENCE)
    assert (battery.component_state.name, battery.relay_state.name) == ("OFF", "OPENED")
    Stub(client.channel).Start(_id(4))
    Stub(client.channel).Start(_id(5))


def _id(component_id: int) -> Any:

    return schema.ComponentIdParam(id=component_id)


def test_silent_component(microgrid: Simulator, client: MicrogridApiClient) -> None:
    silent, other = follow(client, 7), follow(client, 8)
    begin(microgrid, "silent", components=[7], lasts=10.0)
    microgrid.step(9.0)
    assert len([other.receive(PATIENCE) for _ in range(9)]) == 9
    assert silent.drain() == []
    with pytest.raises(TimeoutError):
        client.ev_charger_data(7).receive(timeout=0.1)
    microgrid.step(1.0)
    gap = silent.receive(PATIENCE).timestamp - microgrid.time
    assert gap == timedelta(0)


def test_late_timestamps(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver = follow(client)
    begin(microgrid, "late", components=[7], seconds=12.0)
    assert newest(microgrid, receiver).timestamp == microgrid.time - timedelta(seconds=12)


def test_disordered_timestamps(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver = client.ev_charger_data(7, maxsize=1000)
    begin_time = receiver.receive(PATIENCE).timestamp
    begin(microgrid, "disordered", components=[7], lasts=8.0)
    microgrid.step(12.0)
    stamps = [receiver.receive(PATIENCE).timestamp - begin_time for _ in range(12)]
    seconds = [stamp.total_seconds() for stamp in stamps]
    assert seconds == [2.0, 1.0, 4.0, 3.0, 6.0, 5.0, 8.0, 7.0, 9.0, 10.0, 11.0, 12.0]


def test_unknown_state(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver = follow(client)
    begin(microgrid, "wrong-enum", components=[7])
    assert newest(microgrid, receiver).component_state is EVChargerComponentState.UNKNOWN


def test_missing_fields(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver = follow(client)
    microgrid.step(5.0)
    receiver.drain()
    begin(microgrid, "missing", components=[7], fields=["data.ac.power_active"])
    assert eventually(lambda: math.isnan(newest(microgrid, receiver).active_power))


def test_nan(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver = follow(client)
    begin(microgrid, "nan", components=[7])
    value = newest(microgrid, receiver)
    assert math.isnan(value.active_power)
    assert all(math.isnan(volts) for volts in value.voltage_per_phase)


def test_refused_set_point(microgrid: Simulator, client: MicrogridApiClient) -> None:
    begin(microgrid, "refused", components=[7])
    with pytest.raises(InternalError, match="a fault was asked for"):
        client.set_power(7, 5000.0)
    assert set_point(microgrid) is None
    client.set_power(8, 5000.0)
    microgrid.faults.clear()
    begin(microgrid, "refused", status="UNAVAILABLE")
    with pytest.raises(ServiceUnavailable):
        client.set_power(8, 5000.0)


def test_lost_set_point(microgrid: Simulator, client: MicrogridApiClient) -> None:
    begin(microgrid, "lost", components=[7])
    client.set_power(7, 5000.0)
    assert set_point(microgrid) is None


def test_delayed_set_point_is_answered_when_it_takes_effect(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    begin(microgrid, "delayed", components=[7], seconds=10.0)
    answered = threading.Event()

    def command() -> None:
        client.set_power(7, 5000.0)
        answered.set()

    thread = threading.Thread(target=command)
    thread.start()
    clock = microgrid._running_site._clock
    assert eventually(lambda: microgrid.change(lambda _: clock.next_action() < math.inf))
    microgrid.step(9.0)
    assert not answered.is_set()
    assert set_point(microgrid) is None
    microgrid.step(2.0)
    assert answered.wait(PATIENCE)
    assert set_point(microgrid) == 5000.0
    thread.join()


def give_up_when_it_is_planned(
    microgrid: Simulator, client: MicrogridApiClient, component_id: int
) -> None:
    """Give up on a set-point of 5 kW when the server has it, which may take a while."""
    clock = microgrid._running_site._clock
    timeout = 2.0
    while microgrid.change(lambda _: clock.next_action() == math.inf):
        assert timeout <= 4 * PATIENCE
        with pytest.raises(OperationTimedOut):
            client.set_power(component_id, 5000.0, timeout=timeout)
        timeout *= 2


def test_delayed_set_point_takes_effect_although_its_client_gave_up(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    begin(microgrid, "delayed", seconds=10.0)
    give_up_when_it_is_planned(microgrid, client, 7)
    microgrid.faults.clear()
    client.set_power(7, 6000.0)
    assert set_point(microgrid) == 6000.0
    microgrid.step(11.0)
    assert set_point(microgrid) == 5000.0


def test_call_that_is_never_answered(microgrid: Simulator, client: MicrogridApiClient) -> None:
    begin(microgrid, "unanswered", methods=["SetPowerActive"])
    with pytest.raises(OperationTimedOut):
        client.set_power(7, 5000.0, timeout=0.2)
    assert set_point(microgrid) is None
    assert list(client.components())
    begin(microgrid, "unanswered")
    with pytest.raises(OperationTimedOut):
        list(client.components(timeout=0.2))
    assert client.metadata(timeout=0.2) == Metadata()


def test_stream_that_is_never_answered_goes_on_when_it_is(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    begin(microgrid, "unanswered", methods=["StreamComponentData"])
    receiver = client.meter_data(2)
    with pytest.raises(TimeoutError):
        receiver.receive(timeout=0.1)


@pytest.mark.parametrize("status", ["OK", "INTERNAL", "UNAVAILABLE"])
def test_streams_end(microgrid: Simulator, client: MicrogridApiClient, status: str) -> None:
    call = Stub(client.channel).StreamComponentData(_id(8), timeout=PATIENCE)
    next(call)
    other = Stub(client.channel).StreamComponentData(_id(7), timeout=PATIENCE)
    next(other)
    receiver = follow(client, 8)
    begin(microgrid, "stream-end", components=[8], status=status)
    if status == "OK":
        assert list(call) == []
    else:
        with pytest.raises(grpc.RpcError):
            next(call)
    assert call.code() is grpc.StatusCode[status]
    microgrid.step(1.0)
    assert next(other).id == 7
    other.cancel()
    # Our stream is back: it begins with the newest sample.
    assert eventually(lambda: receiver.receive(PATIENCE).timestamp == microgrid.time)


def test_streams_keep_ending(microgrid: Simulator, client: MicrogridApiClient) -> None:
    begin(microgrid, "stream-end", status="DATA_LOSS", lasts=5.0)
    for _ in range(3):
        call = Stub(client.channel).StreamComponentData(_id(8), timeout=PATIENCE)
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() is grpc.StatusCode.DATA_LOSS
    microgrid.step(6.0)
    call = Stub(client.channel).StreamComponentData(_id(8), timeout=PATIENCE)
    assert next(call).id == 8
    call.cancel()


def test_server_restarts(microgrid: Simulator, client: MicrogridApiClient) -> None:
    receiver, url = follow(client), microgrid.url
    begin(microgrid, "restart", seconds=30.0)
    with pytest.raises(ServiceUnavailable):
        client.set_power(7, 5000.0, timeout=PATIENCE)
    microgrid.step(29.0)
    assert receiver.drain() == []
    microgrid.step(2.0)
    assert microgrid.url == url
    assert eventually(lambda: receiver.receive(PATIENCE).timestamp == microgrid.time)
    client.wait_until_ready(PATIENCE)
    client.set_power(7, 5000.0, timeout=PATIENCE)
    assert set_point(microgrid) == 5000.0


def test_simulator_may_be_stopped_while_the_server_is_gone(microgrid: Simulator) -> None:
    begin(microgrid, "restart", seconds=30.0)
    microgrid.stop()
    microgrid.start()
    with MicrogridApiClient(microgrid.url) as client:
        assert list(client.components())
        microgrid.step(60.0)
        assert list(client.components())


@pytest.mark.microgrid(
    faults=[
        {"kind": "silent", "components": [7], "at": "00:02:30", "lasts": "00:01:00"},
        Fault(kind="error", components=[8], at=200.0),
    ]
)
def test_scheduled_trouble(microgrid: Simulator, client: MicrogridApiClient) -> None:
    begin_time = microgrid.time
    seven, eight = (client.ev_charger_data(i, maxsize=1000) for i in (7, 8))
    for receiver in (seven, eight):
        receiver.receive(PATIENCE)
    microgrid.step(300.0)

    def collect(receiver: Receiver[EVChargerData]) -> list[EVChargerData]:
        values = [receiver.receive(PATIENCE)]
        while values[-1].timestamp < microgrid.time:
            values.append(receiver.receive(PATIENCE))
        return values

    stamps = [(value.timestamp - begin_time).total_seconds() for value in collect(seven)]
    assert stamps == [float(second) for second in range(1, 301) if not 150 <= second < 210]
    failing = [
        (value.timestamp - begin_time).total_seconds()
        for value in collect(eight)
        if value.component_state is EVChargerComponentState.ERROR
    ]
    assert failing == [float(second) for second in range(200, 301)]


@pytest.mark.parametrize("count", [1, 8])
def test_trouble_may_be_added_from_many_threads(microgrid: Simulator, count: int) -> None:
    barrier = threading.Barrier(count)

    def work() -> None:
        barrier.wait()
        for kind in itertools.islice(itertools.cycle(["silent", "nan", "error"]), 50):
            number = microgrid.faults.add(Fault(kind=kind, components=[7]))
            microgrid.faults.end(number)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        microgrid.step(1.0)
    microgrid.step(1.0)
    assert microgrid.change(lambda site: site.errors) == {}


def test_trouble_on_a_standing_clock_acts_at_once(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    number = microgrid.faults.add(Fault(kind="error", components=[7]))
    with pytest.raises(OperationPreconditionFailed):
        client.set_power(7, 5000.0)
    microgrid.faults.end(number)
    client.set_power(7, 5000.0)


@pytest.mark.microgrid(faults=[{"kind": "error", "components": [7]}])
def test_trouble_from_the_beginning_is_there_from_the_beginning(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    del microgrid
    with pytest.raises(OperationPreconditionFailed):
        client.set_power(7, 5000.0)
    value = client.ev_charger_data(7).receive(PATIENCE)
    assert value.component_state is EVChargerComponentState.ERROR


@pytest.mark.microgrid("depot", sample_interval=60.0)
def test_trouble_between_samples_keeps_its_time(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    microgrid.step(30.0)
    microgrid.faults.add(Fault(kind="refused", at=5.0, lasts=10.0))
    found = []
    for _ in range(4):
        try:
            client.set_power(101, 5000.0)
            found.append("taken")
        except InternalError:
            found.append("refused")
        microgrid.step(5.5)
    assert found == ["taken", "refused", "refused", "taken"]


def test_errors_overlap(microgrid: Simulator, client: MicrogridApiClient) -> None:
    first = microgrid.faults.add(Fault(kind="error", components=[7]))
    second = microgrid.faults.add(Fault(kind="error", components=[7], code="OVERCURRENT"))
    microgrid.faults.end(first)
    with pytest.raises(OperationPreconditionFailed):
        client.set_power(7, 5000.0)
    microgrid.faults.end(second)
    client.set_power(7, 5000.0)


def test_error_that_stays_is_not_ended_by_that_of_another(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    first = microgrid.faults.add(Fault(kind="error", components=[4]))
    Stub(client.channel).ErrorAck(_id(4))
    microgrid.faults.add(Fault(kind="error", components=[4], recoverable=False))
    microgrid.faults.add(Fault(kind="error", components=[4]))
    microgrid.faults.end(first)
    with pytest.raises(grpc.RpcError) as raised:
        Stub(client.channel).ErrorAck(_id(4))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    microgrid.faults.clear()
    assert microgrid.change(lambda site: site.errors) == {}


def test_acknowledged_error_does_not_come_back(
    microgrid: Simulator, client: MicrogridApiClient
) -> None:
    begin(microgrid, "error", components=[7], lasts=60.0)
    Stub(client.channel).ErrorAck(_id(7))
    begin(microgrid, "silent", components=[8])
    client.set_power(7, 5000.0)
    microgrid.step(120.0)
    client.set_power(7, 5000.0)


@pytest.mark.parametrize("lasts", [0.0, 0.3])
def test_error_that_is_over_at_once_leaves_nothing(
    microgrid: Simulator, client: MicrogridApiClient, lasts: float
) -> None:
    microgrid.step(0.9)
    microgrid.faults.add(Fault(kind="error", components=[7], lasts=lasts))
    microgrid.step(5.0)
    assert microgrid.change(lambda site: site.errors) == {}
    client.set_power(7, 5000.0)


def test_sample_that_was_held_back_goes_with_its_stream(microgrid: Simulator) -> None:
    with MicrogridApiClient(microgrid.url) as client:
        call = Stub(client.channel).StreamComponentData(_id(7), timeout=PATIENCE)
        next(call)
        number = microgrid.faults.add(Fault(kind="disordered", components=[7]))
        microgrid.step(1.0)
        call.cancel()
        microgrid.faults.end(number)
        microgrid.step(3600.0)
        begin_time = microgrid.time
        call = Stub(client.channel).StreamComponentData(_id(7), timeout=PATIENCE)
        stamps = [next(call).ts.ToDatetime(tzinfo=begin_time.tzinfo)]
        microgrid.step(2.0)
        stamps += [next(call).ts.ToDatetime(tzinfo=begin_time.tzinfo) for _ in range(2)]
        call.cancel()
    assert stamps == [begin_time + timedelta(seconds=n) for n in range(3)]


def test_second_restart_prolongs_the_first(microgrid: Simulator) -> None:
    begin(microgrid, "restart", seconds=2.0)
    microgrid.step(1.0)
    begin(microgrid, "restart", seconds=60.0)
    microgrid.step(30.0)
    with (
        MicrogridApiClient(microgrid.url, call_retry=None) as client,
        pytest.raises(ServiceUnavailable),
    ):
        list(client.components(timeout=PATIENCE))
    microgrid.step(32.0)
    with MicrogridApiClient(microgrid.url, call_retry=None) as client:
        assert list(client.components(timeout=PATIENCE))


def test_restart_may_be_asked_for_over_the_wire(
    microgrid: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Until the answer is there, however busy the machine is.
    monkeypatch.setattr("microgrid_sync.simulator.serving.server._ANSWER_GRACE", PATIENCE)
    with grpc.insecure_channel(f"127.0.0.1:{microgrid.port}") as channel:
        TroubleMaker(channel, timeout=PATIENCE).add({"kind": "restart", "seconds": 5.0})
    microgrid.step(6.0)
    with MicrogridApiClient(microgrid.url) as client:
        assert eventually(lambda: list(client.components()))


def test_samples_do_not_depend_on_who_listens() -> None:
    def samples(*, early: bool) -> list[bytes]:
        with (
            Simulator("depot", speed=0, sample_interval=10.0) as simulator,
            MicrogridApiClient(simulator.url) as client,
        ):
            other = client.ev_charger_data(101) if early else None
            if other is not None:
                other.receive(PATIENCE)
            simulator.faults.add(Fault(kind="nan", components=[101], at=0.5, lasts=1.0))
            simulator.step(5.0)
            call = Stub(client.channel).StreamComponentData(_id(101), timeout=PATIENCE)
            first = next(call).SerializeToString(deterministic=True)
            simulator.step(10.0)
            found = [first, next(call).SerializeToString(deterministic=True)]
            call.cancel()
            return found

    assert samples(early=True) == samples(early=False)
