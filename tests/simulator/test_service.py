"""The calls of the Microgrid service, asked over TCP, on a clock that the tests move on."""

import enum
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeAlias

import grpc
import pytest

from microgrid_sync import InverterComponentState, MicrogridApiClient
from microgrid_sync.simulator import Simulator, Site, load_site
from microgrid_sync.simulator.physics.components import STREAMING, SiteCategory
from microgrid_sync.wire import v0_15_schema as schema
from tests.simulator.descriptions import CLEAR, NOON, description
from tests.support.stub import Stub
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid("every_category", speed=0, start=NOON)

SOLAR, STORAGE, BATTERY, CHARGER, HOUSE = 10, 20, 22, 40, 90

_Set = schema.SetPowerActiveParam
_SetReactive = schema.SetPowerReactiveParam
_Id = schema.ComponentIdParam


class _Metric(enum.IntEnum):
    """The metrics that can have bounds."""

    TARGET_METRIC_UNSPECIFIED = 0
    TARGET_METRIC_POWER_ACTIVE = 1
    TARGET_METRIC_CURRENT = 2
    TARGET_METRIC_CURRENT_PHASE_1 = 3
    TARGET_METRIC_CURRENT_PHASE_2 = 4
    TARGET_METRIC_CURRENT_PHASE_3 = 5
    TARGET_METRIC_POWER_REACTIVE = 6


Bytes: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
NAN, INFINITY = math.nan, math.inf


@pytest.fixture
def stub(microgrid: Simulator) -> Iterator[Any]:
    with MicrogridApiClient(microgrid.url) as client:
        yield Stub(client.channel)


def bounds(
    component_id: int, lower: float, upper: float, metric: int = _Metric.TARGET_METRIC_POWER_ACTIVE
) -> Any:
    return schema.SetBoundsParam(
        component_id=component_id,
        target_metric=metric,
        bounds=schema.Bounds(lower=lower, upper=upper),
    )


def newest(stub: Stub, component_id: int) -> Any:
    """What a component says now."""
    call = stub.StreamComponentData(_Id(id=component_id), timeout=PATIENCE)
    try:
        return next(call)
    finally:
        call.cancel()


def ac(stub: Stub, component_id: int) -> Any:
    message = newest(stub, component_id)
    return getattr(message, message.WhichOneof("data")).data.ac


def status(call: Callable[[], object]) -> str:
    """The status code that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name) if isinstance(error, grpc.Call) else repr(error)
    return "OK"


# What there is


def test_metadata(stub: Any) -> None:
    answer = stub.GetMicrogridMetadata(schema.ComponentFilter())
    assert answer.microgrid_id == 13
    assert answer.location.latitude == pytest.approx(37.389)
    assert answer.location.longitude == pytest.approx(-5.984)


def test_components_are_listed_as_described(stub: Any) -> None:
    found = {c.id: c for c in stub.ListComponents(schema.ComponentFilter()).components}
    site = load_site("every_category")
    assert {i: c.category for i, c in found.items()} == {
        i: c.category for i, c in site.components.items()
    }
    assert found[1].grid.rated_fuse_current == 250
    assert [found[i].inverter.type for i in (10, 20, 30)] == [2, 1, 3]
    assert found[101].sensor.type == 1
    assert all(component.name for component in found.values())


@pytest.mark.parametrize(
    ("ids", "categories", "expected"),
    [
        ([], [], set(load_site("every_category").components)),
        ([1, 2, 10], [], {1, 2, 10}),
        ([], [SiteCategory.BATTERY, SiteCategory.EV_CHARGER], {22, 32, 40}),
        ([1, 2, 22, 40], [SiteCategory.BATTERY, SiteCategory.EV_CHARGER], {22, 40}),
        ([1, 2], [SiteCategory.BATTERY], set()),
        ([12345], [], set()),
        ([], [77], set()),
    ],
)
def test_component_filters(
    stub: Any, ids: list[int], categories: list[int], expected: set[int]
) -> None:
    request = schema.ComponentFilter(ids=ids, categories=categories)
    assert {c.id for c in stub.ListComponents(request).components} == expected


@pytest.mark.parametrize(
    ("starts", "ends", "expected"),
    [
        ([], [], set(load_site("every_category").connections)),
        ([2], [], {c for c in load_site("every_category").connections if c[0] == 2}),
        ([], [22, 32], {(21, 22), (31, 32)}),
        ([2, 21], [22, 40, 81], {(21, 22), (2, 40)}),
        ([1], [40], set()),
    ],
)
def test_connection_filters(
    stub: Any, starts: list[int], ends: list[int], expected: set[tuple[int, int]]
) -> None:
    request = schema.ConnectionFilter(starts=starts, ends=ends)
    found = stub.ListConnections(request).connections
    assert {(c.start, c.end) for c in found} == expected


def test_can_stream_tells_who_has_data_and_streams_agree(stub: Any, microgrid: Simulator) -> None:
    components = microgrid.change(lambda site: dict(site.components))
    for component_id, component in components.items():
        expected = component.category in STREAMING
        assert stub.CanStreamData(_Id(id=component_id)).value is expected
        wanted = "OK" if expected else "UNIMPLEMENTED"
        assert status(lambda i=component_id: newest(stub, i)) == wanted  # type: ignore[misc] # mypy cannot infer a lambda's default


def test_each_component_has_its_own_sample_interval(stub: Any, microgrid: Simulator) -> None:
    calls = {i: stub.StreamComponentData(_Id(id=i), timeout=PATIENCE) for i in (2, HOUSE, 101)}
    stamps = {i: [next(call).ts.ToDatetime()] for i, call in calls.items()}
    microgrid.step(20.0)
    for component_id, count in ((2, 20), (HOUSE, 40), (101, 2)):
        stamps[component_id] += [next(calls[component_id]).ts.ToDatetime() for _ in range(count)]
        calls[component_id].cancel()
        interval = timedelta(seconds=20 / count)
        first = stamps[component_id][0]
        assert stamps[component_id] == [first + n * interval for n in range(count + 1)]


def test_battery_tells_what_it_is(stub: Any) -> None:
    battery = newest(stub, BATTERY).battery
    assert battery.properties.capacity == 40_000.0
    assert battery.data.soc.avg == pytest.approx(60.0)
    assert battery.data.soc.system_inclusion_bounds.lower == 10.0
    assert battery.data.dc.voltage.value > 300
    assert battery.data.dc.power.system_inclusion_bounds.upper == 20_000.0
    assert battery.state.relay_state == 3


def test_sensors_tell_the_weather(stub: Any, microgrid: Simulator) -> None:
    sky = microgrid.change(lambda site: site.sky)
    found = {i: newest(stub, i).sensor.data.sensor_data[0] for i in (101, 102, 103, 104)}
    assert [found[i].sensor_metric for i in sorted(found)] == [1, 2, 3, 4]
    assert found[101].value == pytest.approx(sky.temperature, rel=1e-5)
    assert 0 <= found[102].value <= 100
    assert 95_000 < found[103].value < 105_000
    assert found[104].value == pytest.approx(sky.irradiance, rel=1e-5)


# Set-points


def test_set_point_takes_effect_and_is_forgotten(stub: Any, microgrid: Simulator) -> None:
    stub.SetPowerActive(_Set(component_id=STORAGE, power=-5000.0))
    stub.SetPowerReactive(_SetReactive(component_id=STORAGE, power=900.0))
    microgrid.step(59.0)
    assert ac(stub, STORAGE).power_active.value == pytest.approx(-5000.0)
    assert ac(stub, STORAGE).power_reactive.value == pytest.approx(900.0)
    microgrid.step(2.0)
    assert ac(stub, STORAGE).power_active.value == 0.0
    assert ac(stub, STORAGE).power_reactive.value == 0.0


def test_newer_set_point_begins_a_new_lifetime(stub: Any, microgrid: Simulator) -> None:
    for _ in range(3):
        stub.SetPowerActive(_Set(component_id=STORAGE, power=-5000.0))
        microgrid.step(40.0)
    assert ac(stub, STORAGE).power_active.value == pytest.approx(-5000.0)


@pytest.mark.microgrid(
    site=description(
        {"id": 3, "category": "inverter", "type": "solar", "peak": 8000.0},
        set_point_lifetime=10.0,
        bounds_lifetime="00:01:00",
        weather=CLEAR,
    ),
    start=None,
)
def test_lifetimes_are_the_description_s(stub: Any, microgrid: Simulator) -> None:
    stub.SetPowerActive(_Set(component_id=3, power=-1000.0))
    microgrid.step(9.0)
    assert ac(stub, 3).power_active.value == pytest.approx(-1000.0)
    microgrid.step(3.0)
    assert ac(stub, 3).power_active.value < -3000
    stub.AddInclusionBounds(bounds(3, -500.0, 0.0))
    microgrid.step(59.0)
    assert ac(stub, 3).power_active.value == pytest.approx(-500.0)
    microgrid.step(2.0)
    assert ac(stub, 3).power_active.value < -3000


def test_set_point_is_floored_to_the_resolution(stub: Any, microgrid: Simulator) -> None:
    stub.SetPowerActive(_Set(component_id=SOLAR, power=-1000.0))
    microgrid.step(10.0)
    assert ac(stub, SOLAR).power_active.value == pytest.approx(-968.0)


@pytest.mark.parametrize(
    ("method", "request_message", "expected"),
    [
        ("SetPowerActive", _Set(component_id=12345, power=1.0), "NOT_FOUND"),
        ("SetPowerActive", _Set(component_id=0, power=1.0), "NOT_FOUND"),
        *(
            ("SetPowerActive", _Set(component_id=i, power=1.0), "UNIMPLEMENTED")
            for i in (1, 2, 21, 22, 31, 51, 61, 71, 81, 99, 101)
        ),
        ("SetPowerReactive", _SetReactive(component_id=2, power=1.0), "UNIMPLEMENTED"),
        ("SetPowerActive", _Set(component_id=STORAGE, power=NAN), "INVALID_ARGUMENT"),
        ("SetPowerActive", _Set(component_id=STORAGE, power=INFINITY), "INVALID_ARGUMENT"),
        ("SetPowerActive", _Set(component_id=STORAGE, power=20_001.0), "OUT_OF_RANGE"),
        ("SetPowerActive", _Set(component_id=STORAGE, power=199.0), "OUT_OF_RANGE"),
        ("SetPowerActive", _Set(component_id=STORAGE, power=-199.0), "OUT_OF_RANGE"),
        ("SetPowerActive", _Set(component_id=STORAGE, power=0.0), "OK"),
        ("SetPowerActive", _Set(component_id=STORAGE, power=200.0), "OK"),
        ("SetPowerActive", _Set(component_id=SOLAR, power=1.0), "OUT_OF_RANGE"),
        ("SetPowerActive", _Set(component_id=CHARGER, power=-1.0), "OUT_OF_RANGE"),
        ("SetPowerActive", _Set(component_id=CHARGER, power=22_080.0), "OK"),
        ("SetPowerActive", _Set(component_id=CHARGER, power=22_081.0), "OUT_OF_RANGE"),
        ("SetPowerReactive", _SetReactive(component_id=CHARGER, power=-11_040.0), "OK"),
        ("SetPowerReactive", _SetReactive(component_id=CHARGER, power=11_041.0), "OUT_OF_RANGE"),
        ("AddInclusionBounds", bounds(12345, 0.0, 1.0), "NOT_FOUND"),
        ("AddInclusionBounds", bounds(2, 0.0, 1.0), "UNIMPLEMENTED"),
        ("AddInclusionBounds", bounds(CHARGER, 2.0, 1.0), "INVALID_ARGUMENT"),
        ("AddInclusionBounds", bounds(CHARGER, NAN, 1.0), "INVALID_ARGUMENT"),
        ("AddInclusionBounds", bounds(CHARGER, 0.0, 1.0, 0), "INVALID_ARGUMENT"),
        ("AddInclusionBounds", bounds(CHARGER, 0.0, 1.0, 77), "INVALID_ARGUMENT"),
        ("AddInclusionBounds", bounds(CHARGER, 30_000.0, 40_000.0), "OUT_OF_RANGE"),
        (
            "AddInclusionBounds",
            schema.SetBoundsParam(component_id=CHARGER, target_metric=1),
            "INVALID_ARGUMENT",
        ),
        ("AddExclusionBounds", bounds(CHARGER, 30_000.0, 40_000.0), "OK"),
        ("AddExclusionBounds", bounds(CHARGER, 1.0, 0.0), "INVALID_ARGUMENT"),
        ("CanStreamData", _Id(id=12345), "NOT_FOUND"),
        *((name, _Id(id=12345), "NOT_FOUND") for name in ("Start", "Stop", "ErrorAck")),
        *(
            (name, _Id(id=i), "UNIMPLEMENTED")
            for name in ("Start", "HotStandby", "ColdStandby", "Stop")
            for i in (2, CHARGER, 81)
        ),
        ("HotStandby", _Id(id=BATTERY), "UNIMPLEMENTED"),
        ("ColdStandby", _Id(id=BATTERY), "UNIMPLEMENTED"),
        ("ErrorAck", _Id(id=81), "UNIMPLEMENTED"),
        ("ErrorAck", _Id(id=CHARGER), "OK"),
    ],
)
def test_status_codes(stub: Any, method: str, request_message: Any, expected: str) -> None:
    assert status(lambda: getattr(stub, method)(request_message, timeout=PATIENCE)) == expected


def test_request_that_is_no_message_is_an_invalid_argument(microgrid: Simulator) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{microgrid.port}") as channel:
        for method in ("ListComponents", "SetPowerActive"):
            call: Bytes = channel.unary_unary(f"/frequenz.api.microgrid.Microgrid/{method}")
            assert status(lambda call=call: call(b"\xff\xff", timeout=PATIENCE)) == (  # type: ignore[misc] # as above
                "INVALID_ARGUMENT"
            )
        stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            "/frequenz.api.microgrid.Microgrid/StreamComponentData"
        )
        assert status(lambda: list(stream(b"\xff\xff", timeout=PATIENCE))) == "INVALID_ARGUMENT"
        unknown: Bytes = channel.unary_unary("/frequenz.api.microgrid.Microgrid/Dance")
        assert status(lambda: unknown(b"", timeout=PATIENCE)) == "UNIMPLEMENTED"


# Bounds


def test_inclusion_bounds_hold_until_the_time_that_is_answered(
    stub: Any, microgrid: Simulator
) -> None:
    microgrid.step(100.0)
    before = microgrid.time
    until = stub.AddInclusionBounds(bounds(STORAGE, -3000.0, 4000.0))
    assert until.ToDatetime(tzinfo=before.tzinfo) == before + timedelta(seconds=5)
    stub.AddInclusionBounds(bounds(STORAGE, -6000.0, 3500.0))
    assert status(lambda: stub.SetPowerActive(_Set(component_id=STORAGE, power=3501.0))) == (
        "OUT_OF_RANGE"
    )
    microgrid.step(4.0)
    shown = ac(stub, STORAGE).power_active.system_inclusion_bounds
    assert (shown.lower, shown.upper) == (-3000.0, 3500.0)
    microgrid.step(2.0)
    shown = ac(stub, STORAGE).power_active.system_inclusion_bounds
    assert (shown.lower, shown.upper) == (-20_000.0, 20_000.0)


def test_exclusion_bounds_are_the_widest(stub: Any, microgrid: Simulator) -> None:
    stub.AddExclusionBounds(bounds(STORAGE, -500.0, 300.0))
    stub.AddExclusionBounds(bounds(STORAGE, -100.0, 1000.0))
    for power, expected in ((-499.0, "OUT_OF_RANGE"), (999.0, "OUT_OF_RANGE"), (1000.0, "OK")):
        request = _Set(component_id=STORAGE, power=power)
        assert status(lambda request=request: stub.SetPowerActive(request)) == expected  # type: ignore[misc] # as above
    microgrid.step(1.0)
    shown = ac(stub, STORAGE).power_active.system_exclusion_bounds
    assert (shown.lower, shown.upper) == (-500.0, 1000.0)
    microgrid.step(6.0)
    shown = ac(stub, STORAGE).power_active.system_exclusion_bounds
    assert (shown.lower, shown.upper) == (-200.0, 200.0)


def test_bounds_that_are_over_refuse_nothing(stub: Any, microgrid: Simulator) -> None:
    microgrid.step(0.9)
    stub.AddInclusionBounds(bounds(CHARGER, 0.0, 3000.0))
    microgrid.step(5.05)
    stub.SetPowerActive(_Set(component_id=CHARGER, power=9000.0))


@pytest.mark.microgrid(sample_interval=60.0)
def test_set_point_shows_in_the_next_sample_however_late_that_is(
    stub: Any, microgrid: Simulator
) -> None:
    stub.SetPowerActive(_Set(component_id=STORAGE, power=-5000.0))
    microgrid.step(60.0)
    assert ac(stub, STORAGE).power_active.value == pytest.approx(-5000.0)
    microgrid.step(60.0)
    assert ac(stub, STORAGE).power_active.value == 0.0


def test_bounds_of_reactive_power(stub: Any) -> None:
    metric = _Metric.TARGET_METRIC_POWER_REACTIVE
    stub.AddInclusionBounds(bounds(STORAGE, -10.0, 10.0, metric))
    request = _SetReactive(component_id=STORAGE, power=11.0)
    assert status(lambda: stub.SetPowerReactive(request)) == "OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        (_Metric.TARGET_METRIC_CURRENT, "current"),
        (_Metric.TARGET_METRIC_CURRENT_PHASE_1, "phase_1.current"),
        (_Metric.TARGET_METRIC_CURRENT_PHASE_2, "phase_2.current"),
        (_Metric.TARGET_METRIC_CURRENT_PHASE_3, "phase_3.current"),
    ],
)
def test_bounds_of_currents(stub: Any, microgrid: Simulator, metric: int, field: str) -> None:
    stub.SetPowerActive(_Set(component_id=STORAGE, power=15_000.0))
    stub.AddInclusionBounds(bounds(STORAGE, -8.0, 8.0, metric))
    microgrid.step(4.0)
    found = ac(stub, STORAGE)
    assert found.power_active.value <= 8.0 * 3 * 235
    shown = found
    for part in field.split("."):
        shown = getattr(shown, part)
    assert shown.system_inclusion_bounds.upper == 8.0


# Switching


def state(stub: Any, component_id: int) -> str:
    number = newest(stub, component_id).inverter.state.component_state
    return InverterComponentState(number).name


def test_inverter_goes_through_its_states(stub: Any, microgrid: Simulator) -> None:
    one = _Id(id=STORAGE)
    command = _Set(component_id=STORAGE, power=5000.0)
    stub.SetPowerActive(command)
    microgrid.step(3.0)
    assert state(stub, STORAGE) == "CHARGING"
    stub.HotStandby(one)
    assert status(lambda: stub.SetPowerActive(command)) == "FAILED_PRECONDITION"
    microgrid.step(1.0)
    assert (state(stub, STORAGE), ac(stub, STORAGE).power_active.value) == ("IDLE", 0.0)
    stub.ColdStandby(one)
    microgrid.step(1.0)
    assert state(stub, STORAGE) == "STANDBY"
    assert status(lambda: stub.HotStandby(one)) == "FAILED_PRECONDITION"
    stub.Stop(one)
    microgrid.step(1.0)
    assert state(stub, STORAGE) == "OFF"
    assert status(lambda: stub.ColdStandby(one)) == "FAILED_PRECONDITION"
    stub.Start(one)
    microgrid.step(1.0)
    assert state(stub, STORAGE) == "SWITCHING_ON"
    stub.SetPowerActive(command)
    microgrid.step(58.0)
    assert state(stub, STORAGE) == "CHARGING"


def test_battery_is_stopped_only_without_power(stub: Any, microgrid: Simulator) -> None:
    stub.SetPowerActive(_Set(component_id=STORAGE, power=5000.0))
    microgrid.step(3.0)
    assert status(lambda: stub.Stop(_Id(id=BATTERY))) == "FAILED_PRECONDITION"
    stub.SetPowerActive(_Set(component_id=STORAGE, power=0.0))
    microgrid.step(3.0)
    stub.Stop(_Id(id=BATTERY))
    microgrid.step(1.0)
    assert newest(stub, BATTERY).battery.state.relay_state == 1
    stub.Start(_Id(id=BATTERY))
    microgrid.step(1.0)
    assert newest(stub, BATTERY).battery.state.relay_state == 2
    microgrid.step(5.0)
    assert newest(stub, BATTERY).battery.state.relay_state == 3


# Ends


def test_stream_ends_in_good_order_with_the_simulator(
    stub: Any, microgrid: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is.
    monkeypatch.setattr("microgrid_sync.simulator.serving.server._GRACE", PATIENCE)
    call = stub.StreamComponentData(_Id(id=2), timeout=PATIENCE)
    next(call)
    microgrid.stop()
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_stream_of_a_client_that_has_left_is_let_go(stub: Any, microgrid: Simulator) -> None:
    def followed(site: Site) -> int:
        del site
        return sum(len(one.open) for one in microgrid._running_site._streams_of.values())

    call = stub.StreamComponentData(_Id(id=2), timeout=PATIENCE)
    next(call)
    assert microgrid.change(followed) == 1
    call.cancel()
    assert eventually(lambda: microgrid.change(followed) == 0)
