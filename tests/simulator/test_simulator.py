"""The embedded microgrid, asked over TCP."""

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from frequenz.api.common import components_pb2, metrics_pb2
from frequenz.api.microgrid import microgrid_pb2, microgrid_pb2_grpc

from microgrid_sync import (
    BatteryData,
    ComponentCategory,
    EntityNotFound,
    EVChargerCableState,
    EVChargerComponentState,
    InverterComponentState,
    InverterType,
    MicrogridApiClient,
    OperationNotImplemented,
    OperationOutOfRange,
    Receiver,
)
from microgrid_sync.simulator import Simulator, demo_site
from microgrid_sync.simulator.server import BOUNDS_LIFETIME
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(sample_interval=0.02) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[MicrogridApiClient]:
    with MicrogridApiClient(simulator.url, call_retry=None) as client:
        yield client


@pytest.fixture
def stub(client: MicrogridApiClient) -> microgrid_pb2_grpc.MicrogridStub:
    stub: microgrid_pb2_grpc.MicrogridStub = client.stub
    return stub


def test_site_adds_up_at_every_instant() -> None:
    site = demo_site()
    for _ in range(500):
        flows = site.advance(0.5).flows
        for component in site.components:
            if component.category is not ComponentCategory.METER:
                continue
            behind = [
                flows[s.component_id] for s in site.topology.successors(component.component_id)
            ]
            for kind in ("active", "reactive"):
                for phase in range(3):
                    total = sum(getattr(flow, kind)[phase] for flow in behind)
                    found = getattr(flows[component.component_id], kind)[phase]
                    assert found == pytest.approx(total, abs=1e-6)


def test_site_has_what_it_promises(client: MicrogridApiClient) -> None:
    components = {c.component_id: c for c in client.components()}
    assert [c.category.name for c in components.values()] == [
        "GRID", "METER", "INVERTER", "INVERTER", "BATTERY", "METER", "EV_CHARGER", "EV_CHARGER",
    ]  # fmt: skip
    assert components[3].type is InverterType.SOLAR
    assert components[4].type is InverterType.BATTERY
    assert components[1].metadata is not None
    assert components[1].metadata.fuse is not None
    assert components[1].metadata.fuse.max_current == 100.0
    pairs = {(c.start, c.end) for c in client.connections()}
    assert pairs == {(1, 2), (2, 3), (2, 4), (4, 5), (2, 6), (6, 7), (6, 8)}
    metadata = client.metadata()
    assert metadata.microgrid_id == 15
    assert metadata.location is not None
    assert metadata.location.timezone is not None
    assert metadata.location.timezone.key == "Europe/Berlin"


def test_meters_read_the_sum_of_what_is_behind_them(client: MicrogridApiClient) -> None:
    receivers: dict[int, Receiver[Any]] = {
        2: client.meter_data(2, 500),
        3: client.inverter_data(3, 500),
        4: client.inverter_data(4, 500),
        6: client.meter_data(6, 500),
        7: client.ev_charger_data(7, 500),
        8: client.ev_charger_data(8, 500),
    }
    samples: dict[datetime, dict[int, Any]] = {}
    while sum(len(of_one_time) == 6 for of_one_time in samples.values()) < 20:
        for component_id, receiver in receivers.items():
            value = receiver.receive(PATIENCE)
            samples.setdefault(value.timestamp, {})[component_id] = value
    for values in samples.values():
        if len(values) < 6:
            continue
        power = {i: value.active_power for i, value in values.items()}
        assert power[6] == pytest.approx(power[7] + power[8], abs=0.01)
        assert power[2] == pytest.approx(power[3] + power[4] + power[6], abs=0.01)
        for value in values.values():
            assert sum(value.active_power_per_phase) == pytest.approx(value.active_power, abs=0.01)
            for p, u, i in zip(
                value.active_power_per_phase,
                value.voltage_per_phase,
                value.current_per_phase,
                strict=True,
            ):
                assert u * i == pytest.approx(p, abs=0.01)


def test_values_move_and_time_goes_on(client: MicrogridApiClient) -> None:
    receiver = client.inverter_data(3)
    values = [receiver.receive(PATIENCE) for _ in range(20)]
    assert len({value.active_power for value in values}) > 10
    assert all(one.timestamp < two.timestamp for one, two in itertools.pairwise(values))
    assert abs((values[-1].timestamp - datetime.now(UTC)).total_seconds()) < 60


def test_states_and_bounds_are_told(client: MicrogridApiClient) -> None:
    charger = client.ev_charger_data(7).receive(PATIENCE)
    assert charger.is_ev_connected()
    assert charger.cable_state is EVChargerCableState.EV_LOCKED
    assert charger.component_state in set(EVChargerComponentState)
    assert charger.active_power_inclusion_upper_bound == 22_000.0
    battery = client.battery_data(5).receive(PATIENCE)
    assert isinstance(battery, BatteryData)
    assert battery.soc_lower_bound < battery.soc < battery.soc_upper_bound
    assert battery.capacity == 20_000.0
    solar = client.inverter_data(3).receive(PATIENCE)
    assert solar.component_state is InverterComponentState.DISCHARGING
    assert solar.active_power_inclusion_lower_bound == -8000.0


def test_set_point_takes_effect(client: MicrogridApiClient) -> None:
    charger, meter = client.ev_charger_data(7), client.meter_data(6)
    client.set_power(7, 4500.0)
    client.set_power(8, 0.0)
    assert eventually(lambda: charger.receive(PATIENCE).active_power == pytest.approx(4500.0))
    assert eventually(lambda: meter.receive(PATIENCE).active_power == pytest.approx(4500.0))
    client.set_power(4, -2000.0)
    client.set_reactive_power(4, 900.0)
    inverter = client.inverter_data(4)
    assert eventually(lambda: inverter.receive(PATIENCE).active_power == pytest.approx(-2000.0))
    assert inverter.receive(PATIENCE).reactive_power == pytest.approx(900.0)


def test_bounds_take_effect_and_end(client: MicrogridApiClient) -> None:
    charger = client.ev_charger_data(7)
    client.set_bounds(7, 0.0, 5000.0)
    assert eventually(
        lambda: charger.receive(PATIENCE).active_power_inclusion_upper_bound == 5000.0
    )
    with pytest.raises(OperationOutOfRange, match=r"5001\.0 is not between"):
        client.set_power(7, 5001.0)
    assert eventually(
        lambda: charger.receive(PATIENCE).active_power_inclusion_upper_bound == 22_000.0,
        PATIENCE + BOUNDS_LIFETIME,
    )


def test_exclusion_bounds_take_effect(
    client: MicrogridApiClient, stub: microgrid_pb2_grpc.MicrogridStub
) -> None:
    until = stub.AddExclusionBounds(_bounds(7, 0.0, 4000.0))
    left = (until.ToDatetime(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
    assert 0 < left <= BOUNDS_LIFETIME
    with pytest.raises(OperationOutOfRange, match="excluded"):
        client.set_power(7, 3999.0)
    receiver = client.ev_charger_data(7)
    assert eventually(
        lambda: receiver.receive(PATIENCE).active_power_exclusion_upper_bound == 4000.0
    )


def _bounds(
    component_id: int,
    lower: float,
    upper: float,
    metric: int = microgrid_pb2.SetBoundsParam.TARGET_METRIC_POWER_ACTIVE,
) -> microgrid_pb2.SetBoundsParam:
    return microgrid_pb2.SetBoundsParam(
        component_id=component_id,
        target_metric=metric,  # type: ignore[arg-type] # any number may come
        bounds=metrics_pb2.Bounds(lower=lower, upper=upper),
    )


NAN = float("nan")
_Set = microgrid_pb2.SetPowerActiveParam
_Id = microgrid_pb2.ComponentIdParam


@pytest.mark.parametrize(
    ("method", "request_message", "code"),
    [
        ("SetPowerActive", _Set(component_id=99, power=1.0), "NOT_FOUND"),
        ("SetPowerActive", _Set(component_id=2, power=1.0), "UNIMPLEMENTED"),
        ("SetPowerActive", _Set(component_id=5, power=1.0), "UNIMPLEMENTED"),
        ("SetPowerActive", _Set(component_id=7, power=NAN), "INVALID_ARGUMENT"),
        ("SetPowerActive", _Set(component_id=7, power=-1.0), "OUT_OF_RANGE"),
        ("SetPowerActive", _Set(component_id=7, power=22_001.0), "OUT_OF_RANGE"),
        ("AddInclusionBounds", _bounds(99, 0.0, 1.0), "NOT_FOUND"),
        ("AddInclusionBounds", _bounds(2, 0.0, 1.0), "UNIMPLEMENTED"),
        ("AddInclusionBounds", _bounds(7, 2.0, 1.0), "INVALID_ARGUMENT"),
        ("AddInclusionBounds", _bounds(7, NAN, 1.0), "INVALID_ARGUMENT"),
        ("AddInclusionBounds", _bounds(7, 0.0, 1.0, 2), "UNIMPLEMENTED"),
        ("AddExclusionBounds", _bounds(7, 0.0, 1.0, 77), "UNIMPLEMENTED"),
        ("CanStreamData", _Id(id=99), "NOT_FOUND"),
        ("Start", _Id(id=99), "NOT_FOUND"),
        ("Stop", _Id(id=7), "UNIMPLEMENTED"),
    ],
)
def test_nonsense_gets_its_status(
    stub: microgrid_pb2_grpc.MicrogridStub, method: str, request_message: Any, code: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        getattr(stub, method)(request_message, timeout=PATIENCE)
    assert raised.value.code() is grpc.StatusCode[code], raised.value.details()


def test_reactive_bounds_take_effect(
    client: MicrogridApiClient, stub: microgrid_pb2_grpc.MicrogridStub
) -> None:
    reactive = microgrid_pb2.SetBoundsParam.TARGET_METRIC_POWER_REACTIVE
    stub.AddInclusionBounds(_bounds(4, -10.0, 10.0, reactive))
    with pytest.raises(OperationOutOfRange):
        client.set_reactive_power(4, 11.0)


@pytest.mark.parametrize(("component_id", "code"), [(99, "NOT_FOUND"), (1, "UNIMPLEMENTED")])
def test_what_has_no_data_cannot_be_streamed(
    stub: microgrid_pb2_grpc.MicrogridStub, component_id: int, code: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        next(stub.StreamComponentData(_Id(id=component_id)))
    assert raised.value.code() is grpc.StatusCode[code]


@pytest.mark.parametrize(("component_id", "expected"), [(1, False), (2, True), (5, True)])
def test_can_stream(
    stub: microgrid_pb2_grpc.MicrogridStub, component_id: int, expected: bool
) -> None:
    assert stub.CanStreamData(_Id(id=component_id)).value is expected


def test_filters(client: MicrogridApiClient, stub: microgrid_pb2_grpc.MicrogridStub) -> None:
    answer = stub.ListComponents(
        microgrid_pb2.ComponentFilter(
            ids=[2, 3, 7],
            categories=[
                components_pb2.COMPONENT_CATEGORY_METER,
                components_pb2.COMPONENT_CATEGORY_EV_CHARGER,
            ],
        )
    )
    assert [c.id for c in answer.components] == [2, 7]
    assert {(c.start, c.end) for c in client.connections({6, 2}, {7, 4})} == {(6, 7), (2, 4)}


def test_error_tells_the_reason(client: MicrogridApiClient) -> None:
    with pytest.raises(EntityNotFound, match="there is no component 99"):
        client.set_power(99, 1.0)
    with pytest.raises(OperationNotImplemented, match="BATTERY"):
        client.set_power(5, 1.0)


def test_simulator_can_be_stopped_and_started_on_the_same_port() -> None:
    simulator = Simulator(sample_interval=0.02)
    assert simulator.port == 0
    for _ in range(3):
        with simulator, MicrogridApiClient(simulator.url) as client:
            port = simulator.port
            client.meter_data(2).receive(PATIENCE)
        assert simulator.port == port != 0
    simulator.stop()


def test_port_in_use_is_an_error(simulator: Simulator) -> None:
    with pytest.raises(OSError, match=f"cannot serve on 127.0.0.1:{simulator.port}"):
        Simulator(port=simulator.port).start()
    with pytest.raises(RuntimeError, match="being served already"):
        simulator.start()


@pytest.mark.parametrize(
    "options",
    [{"port": -1}, {"port": 65536}, {"sample_interval": 0}, {"sample_interval": NAN}],
)
def test_impossible_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options)))):
        Simulator(**options)


def test_simulator_serves_ipv6() -> None:
    with (
        Simulator(host="::1", sample_interval=0.02) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        assert simulator.url.startswith("grpc://[::1]:")
        assert client.meter_data(2).receive(PATIENCE)


def test_many_readers_share_the_site(simulator: Simulator) -> None:
    found: list[datetime] = []

    def read() -> None:
        with MicrogridApiClient(simulator.url) as client:
            found.append(client.meter_data(2).receive(PATIENCE).timestamp)

    threads = [threading.Thread(target=read) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 10
