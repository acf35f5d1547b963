"""The simulated service in v1alpha18 and v1alpha19, as our client sees it."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    ApiClientError,
    BatteryErrorCode,
    Bounds,
    ComponentCategory,
    Connection,
    DiagnosticCode,
    EntityNotFound,
    Metric,
    MicrogridApiClient,
    OperationNotImplemented,
    OperationPreconditionFailed,
    SensorStateCode,
    SetPointFailed,
    SetPointRejected,
    SetPointSuperseded,
    StateCode,
)
from microgrid_sync.simulator import Fault, Simulator
from microgrid_sync.wire import v1alpha18_schema as alpha
from tests.simulator.descriptions import NOON
from tests.simulator.test_trouble import give_up_when_it_is_planned
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid("every_category", speed=0, start=NOON)

SOLAR, STORAGE, BATTERY, CHARGER, HOUSE = 10, 20, 22, 40, 90


@pytest.fixture(params=["v1alpha18", "v1alpha19"])
def client(microgrid: Simulator, request: pytest.FixtureRequest) -> Iterator[MicrogridApiClient]:
    with MicrogridApiClient(microgrid.url, api=request.param) as client:
        yield client


def newest(receiver: Any, microgrid: Simulator, lateness: timedelta = timedelta(0)) -> Any:
    """What is measured after one more second."""
    if receiver.latest() is None:
        # A step before the stream is open would be nobody's.
        receiver.receive(PATIENCE)
    microgrid.step(1.0)
    while (value := receiver.receive(PATIENCE)).timestamp < microgrid.time - lateness:
        continue
    return value


def test_three_apis_on_one_port(microgrid: Simulator) -> None:
    found = []
    for name in ("v0.15", "v1alpha18", "v1alpha19"):
        with MicrogridApiClient(microgrid.url, api=name) as client:
            ids = {c.component_id: c.category for c in client.components()}
            found.append((ids, set(client.connections()), client.metadata().microgrid_id))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) > 10


@pytest.mark.parametrize("api", [["v0.15"], ["v1alpha19"], ["v1alpha18", "v0.15"]])
def test_only_some_of_them(api: list[str]) -> None:
    with Simulator(api=api) as simulator, MicrogridApiClient(simulator.url) as client:
        client.components()
        assert client.api == api[0]


@pytest.mark.parametrize("api", [[], ["v2"], "v0.15"])
def test_no_api_that_there_is_not(api: Any) -> None:
    with pytest.raises(ValueError, match="api must be some of v1alpha18, v1alpha19"):
        Simulator(api=api)


def test_what_there_is(client: MicrogridApiClient) -> None:
    found = {c.component_id: c for c in client.components()}
    assert found[CHARGER].category is ComponentCategory.EV_CHARGER
    assert found[CHARGER].rated_bounds is not None
    assert (found[CHARGER].provides_telemetry, found[CHARGER].accepts_control) == (True, True)
    assert (found[HOUSE].provides_telemetry, found[HOUSE].accepts_control) == (True, False)
    assert found[BATTERY].rated_bounds is not None
    names = {c.category_name for c in found.values()}
    assert {"CHP", "BREAKER", "PRECHARGER", "ELECTROLYZER", "CRYPTO_MINER"} <= names
    (connection,) = client.connections(ends={BATTERY})
    assert isinstance(connection, Connection)


def test_sensors_and_what_they_measure(client: MicrogridApiClient) -> None:
    sensors = client.sensors()
    assert {type(sensor.name) for sensor in sensors} == {str}
    with client.sensor_data(sensors[0].sensor_id) as receiver:
        found = receiver.receive(PATIENCE)
        assert found.component_id == sensors[0].sensor_id
        assert found.states == {SensorStateCode.OK}
        (metric,) = found.metrics
        assert isinstance(metric, Metric)
        assert metric.name.startswith("SENSOR_")
    with pytest.raises(ValueError, match="unknown sensor 999"):
        client.sensor_data(999)


def test_telemetry_of_what_was_asked_for(client: MicrogridApiClient, microgrid: Simulator) -> None:
    with client.telemetry(BATTERY, {Metric.DC_VOLTAGE, Metric.BATTERY_SOC_PCT}) as receiver:
        found = newest(receiver, microgrid)
        assert set(found.metrics) == {Metric.DC_VOLTAGE, Metric.BATTERY_SOC_PCT}
        assert StateCode.RELAY_CLOSED in found.states
    with client.telemetry(CHARGER) as receiver:
        everything = newest(receiver, microgrid)
        assert len(everything.metrics) >= 15
        bounds = everything.metrics[Metric.AC_POWER_ACTIVE].bounds
        assert bounds[0].lower == 0.0
        # The one before may need a moment to end.
        assert eventually(lambda: [s.undecodable for s in client.stats().streams] == [0])
    with pytest.raises(ValueError, match="unknown component 999"):
        client.telemetry(999)


def test_filter_without_metrics_is_refused(client: MicrogridApiClient) -> None:
    path = f"/frequenz.api.microgrid.{client.api}.Microgrid/"
    request = alpha.ReceiveElectricalComponentTelemetryStreamRequest(
        electrical_component_id=CHARGER
    )
    request.filter.SetInParent()
    call: Any = client.channel.unary_stream(
        path + "ReceiveElectricalComponentTelemetryStream", None, None
    )
    with pytest.raises(grpc.RpcError, match="filter without metrics"):
        next(call(request.SerializeToString(), timeout=PATIENCE))


def test_set_point_holds_as_long_as_it_was_asked_to(
    client: MicrogridApiClient, microgrid: Simulator
) -> None:
    def held() -> float | None:
        return microgrid.change(lambda site: site.inverter(STORAGE).active.set_point)

    before = microgrid.time
    assert client.set_power(STORAGE, 2000.0, lifetime=30) == before + timedelta(seconds=30)
    microgrid.step(29.0)
    assert held() == 2000.0
    microgrid.step(2.0)
    assert held() is None
    before = microgrid.time
    expires = client.set_power(STORAGE, 2000.0)
    assert expires is not None
    assert expires > before


def test_reactive_power_keeps_its_sign(client: MicrogridApiClient, microgrid: Simulator) -> None:
    client.set_reactive_power(STORAGE, 1500.0)
    assert microgrid.change(lambda site: site.inverter(STORAGE).reactive.set_point) == 1500.0
    with client.inverter_data(STORAGE) as receiver:
        microgrid.step(5.0)
        assert newest(receiver, microgrid).reactive_power > 0


def test_bounds_tokens_and_lifetimes(client: MicrogridApiClient, microgrid: Simulator) -> None:
    def upper() -> float:
        return microgrid.change(lambda site: site.inverter(STORAGE).active.inclusion_bounds()[1])

    rated = upper()
    before = microgrid.time
    assert client.set_bounds(
        STORAGE, -1000.0, 1000.0, lifetime=20, token="mine"
    ) == before + timedelta(seconds=20)
    assert upper() == 1000.0
    client.set_bounds(STORAGE, -2000.0, 2000.0, lifetime=20, token="mine")
    assert upper() == 2000.0
    client.set_bounds(STORAGE, -3000.0, 3000.0, lifetime=20)
    client.clear_bounds(STORAGE, "mine")
    assert upper() == 3000.0
    microgrid.step(21.0)
    microgrid.step(1.0)
    assert upper() == rated


def test_ranges_of_bounds(client: MicrogridApiClient, microgrid: Simulator) -> None:
    path = f"/frequenz.api.microgrid.{client.api}.Microgrid/AugmentElectricalComponentBounds"
    request = alpha.AugmentElectricalComponentBoundsRequest(
        electrical_component_id=STORAGE, target_metric=26
    )
    request.bounds.add(lower=-1000.0, upper=-300.0)
    request.bounds.add(lower=300.0, upper=1000.0)
    call: Any = client.channel.unary_unary(path, None, None)
    call(request.SerializeToString(), timeout=PATIENCE)
    with client.telemetry(STORAGE, {Metric.AC_POWER_ACTIVE}) as receiver:
        found = newest(receiver, microgrid).metrics[Metric.AC_POWER_ACTIVE].bounds
    assert found == (Bounds(-1000.0, -300.0), Bounds(300.0, 1000.0))
    with pytest.raises(OperationPreconditionFailed):
        client.set_power(STORAGE, 100.0)
    client.set_power(STORAGE, 0.0)
    for bad in ([], [(5.0, 1.0)], [(math.nan, 1.0)]):
        del request.bounds[:]
        for low, high in bad:
            request.bounds.add(lower=low, upper=high)
        with pytest.raises(grpc.RpcError, match="bounds"):
            call(request.SerializeToString(), timeout=PATIENCE)


def test_start_stop_standby_acknowledge(client: MicrogridApiClient, microgrid: Simulator) -> None:
    client.stop(STORAGE)
    with client.inverter_data(STORAGE) as receiver:
        assert newest(receiver, microgrid).component_state.name in {"SWITCHING_OFF", "OFF"}
        microgrid.step(60.0)
        client.start(STORAGE)
        microgrid.step(60.0)
        assert newest(receiver, microgrid).component_state.name == "IDLE"
        client.standby(STORAGE)
        microgrid.step(60.0)
        assert newest(receiver, microgrid).component_state.name == "STANDBY"
    microgrid.faults.add(Fault(kind="error", components=[CHARGER]))
    client.acknowledge_error(CHARGER)
    with pytest.raises(OperationNotImplemented):
        client.standby(CHARGER)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: c.set_power(STORAGE, 1e9), OperationPreconditionFailed),
        (lambda c: c.set_power(999, 1.0), EntityNotFound),
        (lambda c: c.set_power(HOUSE, 1.0), OperationNotImplemented),
        (lambda c: c.set_bounds(STORAGE, -1.0, 1.0, lifetime=5), None),
        (lambda c: c.standby(STORAGE, hot=True), OperationNotImplemented),
    ],
)
def test_statuses(
    client: MicrogridApiClient, call: Any, error: type[ApiClientError] | None
) -> None:
    if error is None:
        call(client)
        return
    with pytest.raises(error):
        call(client)


def test_lifetimes_are_judged_by_the_server_too(client: MicrogridApiClient) -> None:
    path = f"/frequenz.api.microgrid.{client.api}.Microgrid/SetElectricalComponentPower"
    for lifetime, is_right in ((9, False), (10, True), (900, True), (901, False)):
        request = alpha.SetElectricalComponentPowerRequest(
            electrical_component_id=STORAGE, power_type=1, request_lifetime=lifetime
        )
        call: Any = client.channel.unary_stream(path, None, None)
        if is_right:
            assert len(list(call(request.SerializeToString(), timeout=PATIENCE))) == 2
            continue
        with pytest.raises(grpc.RpcError, match=f"a lifetime of {lifetime} s"):
            list(call(request.SerializeToString(), timeout=PATIENCE))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("rejected", SetPointRejected),
        ("failed", SetPointFailed),
        ("overridden", SetPointSuperseded),
    ],
)
def test_set_points_that_come_to_nothing(
    client: MicrogridApiClient, microgrid: Simulator, kind: str, error: type[ApiClientError]
) -> None:
    number = microgrid.faults.add(Fault(kind=kind, components=[STORAGE]))
    with pytest.raises(error):
        client.set_power(STORAGE, 500.0)
    assert microgrid.change(lambda site: site.inverter(STORAGE).active.set_point) is None
    with (
        MicrogridApiClient(microgrid.url, api="v0.15", call_retry=None) as old,
        pytest.raises(ApiClientError, match="a fault was asked for"),
    ):
        old.set_power(STORAGE, 500.0)
    microgrid.faults.end(number)
    client.set_power(STORAGE, 500.0)


def test_late_set_point_is_carried_out_although_its_caller_has_gone(
    client: MicrogridApiClient, microgrid: Simulator
) -> None:
    microgrid.faults.add(Fault(kind="delayed", components=[STORAGE], seconds=5.0))
    give_up_when_it_is_planned(microgrid, client, STORAGE)
    microgrid.step(6.0)
    assert eventually(
        lambda: microgrid.change(lambda site: site.inverter(STORAGE).active.set_point) == 5000.0
    )


def test_lost_set_point_is_answered_with_success(
    client: MicrogridApiClient, microgrid: Simulator
) -> None:
    microgrid.faults.add(Fault(kind="lost", components=[STORAGE]))
    assert client.set_power(STORAGE, 700.0) is not None
    assert microgrid.change(lambda site: site.inverter(STORAGE).active.set_point) is None


def test_faults_of_data(client: MicrogridApiClient, microgrid: Simulator) -> None:
    faults = microgrid.faults
    with client.ev_charger_data(CHARGER) as receiver:
        number = faults.add(
            Fault(kind="missing", components=[CHARGER], fields=["data.ac.power_active"])
        )
        assert math.isnan(newest(receiver, microgrid).active_power)
        faults.end(number)
        number = faults.add(Fault(kind="nan", components=[CHARGER]))
        assert math.isnan(newest(receiver, microgrid).frequency)
        faults.end(number)
        number = faults.add(Fault(kind="wrong-enum", components=[CHARGER]))
        assert newest(receiver, microgrid).component_state.name == "UNKNOWN"
        faults.end(number)
        number = faults.add(Fault(kind="late", components=[CHARGER], seconds=30.0))
        late = timedelta(seconds=30)
        assert newest(receiver, microgrid, late).timestamp == microgrid.time - late
    faults.clear()
    faults.add(Fault(kind="error", components=[BATTERY], code="HIGH_TEMPERATURE"))
    with client.battery_data(BATTERY) as battery:
        # Its relays are open because of that, which is an error of its own there.
        codes = {error.code for error in newest(battery, microgrid).errors}
        assert codes == {BatteryErrorCode.HIGH_TEMPERATURE, BatteryErrorCode.RELAY_ERROR}
    with client.telemetry(BATTERY) as telemetry:
        diagnostics = {error.code for error in newest(telemetry, microgrid).errors}
        assert DiagnosticCode.OVERTEMPERATURE in diagnostics


def test_stream_ends_as_a_fault_says(client: MicrogridApiClient, microgrid: Simulator) -> None:
    with client.meter_data(HOUSE) as receiver:
        receiver.receive(PATIENCE)
        microgrid.faults.add(Fault(kind="stream-end", components=[HOUSE], status="ABORTED"))
        assert eventually(lambda: "ABORTED" in str([s.last_error for s in client.stats().streams]))


def test_call_that_is_never_answered_in_any_api(
    client: MicrogridApiClient, microgrid: Simulator
) -> None:
    microgrid.faults.add(Fault(kind="unanswered", methods=["ListComponents"]))
    with pytest.raises(ApiClientError):
        client.components(timeout=0.3)
    assert client.metadata().microgrid_id == 13


def test_nonsense_is_refused(client: MicrogridApiClient) -> None:
    path = f"/frequenz.api.microgrid.{client.api}.Microgrid/"
    for method in ("ListElectricalComponents", "StopElectricalComponent"):
        call: Any = client.channel.unary_unary(path + method, None, None)
        with pytest.raises(grpc.RpcError, match="the request is no"):
            call(b"\xff\xff", timeout=PATIENCE)


def test_tls() -> None:
    pytest.importorskip("trustme", reason="the certificates are made by trustme")
    with Simulator("demo", tls=True) as simulator:
        assert "ssl=on" in simulator.url
        with MicrogridApiClient(simulator.url) as client:
            assert client.metadata().microgrid_id == 15
        plain = simulator.url.split("?", maxsplit=1)[0]
        with MicrogridApiClient(plain, call_retry=None) as client, pytest.raises(ApiClientError):
            client.components(timeout=2.0)
