"""Version v1alpha18 of the API: requests, and what becomes of each field of its answers."""

import copy
import math
import pickle
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from microgrid_sync import (
    BatteryComponentState,
    BatteryData,
    BatteryError,
    BatteryErrorCode,
    BatteryRelayState,
    Bounds,
    Component,
    ComponentCategory,
    ComponentData,
    Connection,
    Diagnostic,
    DiagnosticCode,
    ErrorLevel,
    EVChargerCableState,
    EVChargerComponentState,
    EVChargerData,
    GridMetadata,
    InverterComponentState,
    InverterData,
    InverterType,
    Location,
    Metadata,
    MeterData,
    Metric,
    MetricSample,
    Sensor,
    SensorStateCode,
    StateCode,
)
from microgrid_sync.wire import (
    API_NAMES,
    ApiGeneration,
    ComponentListing,
    NotOffered,
    SetPointState,
    UndecodableMessage,
    generation,
    probe_path,
)
from microgrid_sync.wire import v1alpha18_schema as schema
from tests.support.messages import decode

V1_ALPHA_18 = generation("v1alpha18")
START = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
NAN, INFINITY = math.nan, math.inf
AC = (10, 12, 13, 14, 19, 20, 21, 26, 27, 28, 29, 30, 31, 32, 33)


def telemetry(
    values: dict[int, float] | None = None,
    *,
    states: Iterable[int] = (),
    errors: Iterable[int] = (),
    warnings: Iterable[int] = (),
    bounds: dict[int, list[tuple[float | None, float | None]]] | None = None,
) -> Any:
    message = schema.ElectricalComponentTelemetry(electrical_component_id=7)
    for metric, value in (values or {}).items():
        sample = message.metric_samples.add(metric=metric)
        sample.sample_time.FromDatetime(START)
        sample.value.simple_metric.value = value
        for lower, upper in (bounds or {}).get(metric, ()):
            sample.bounds.add(lower=lower, upper=upper)
    if states or errors or warnings:
        snapshot = message.state_snapshots.add(states=states)
        snapshot.origin_time.FromDatetime(START)
        for code in errors:
            snapshot.errors.add(diagnostic_code=code, message="words")
        for code in warnings:
            snapshot.warnings.add(diagnostic_code=code, vendor_diagnostic_code="V9")
    return message


def payload(message: Any) -> bytes:
    response = schema.ReceiveElectricalComponentTelemetryStreamResponse(telemetry=message)
    serialized: bytes = response.SerializeToString()
    return serialized


def received(category: ComponentCategory, message: Any) -> Any:
    return decode(V1_ALPHA_18.stream_data(7, category), payload(message))


def charger(**changes: Any) -> EVChargerData:
    value = received(ComponentCategory.EV_CHARGER, telemetry(**changes))
    assert isinstance(value, EVChargerData)
    return value


# Data


def test_each_metric_fills_its_field() -> None:
    values = {metric: float(metric) for metric in AC}
    expected = {
        "active_power": 26.0,
        "active_power_per_phase": (27.0, 28.0, 29.0),
        # What is inductive is positive there, and negative here.
        "reactive_power": -30.0,
        "reactive_power_per_phase": (-31.0, -32.0, -33.0),
        "current_per_phase": (19.0, 20.0, 21.0),
        "voltage_per_phase": (12.0, 13.0, 14.0),
        "frequency": 10.0,
    }
    for category in (
        ComponentCategory.METER,
        ComponentCategory.INVERTER,
        ComponentCategory.EV_CHARGER,
    ):
        found = received(category, telemetry(values))
        assert {name: getattr(found, name) for name in expected} == expected
        assert (found.component_id, found.timestamp) == (7, START)
        assert found.raw.electrical_component_id == 7


def test_zero_has_no_sign() -> None:
    found = received(ComponentCategory.METER, telemetry(dict.fromkeys(AC, 0.0)))
    assert math.copysign(1.0, found.reactive_power) == 1.0
    assert math.copysign(1.0, found.reactive_power_per_phase[2]) == 1.0


def test_battery() -> None:
    message = telemetry(
        {101: 55.0, 100: 92_000.0, 102: 21.0, 3: -400.0},
        bounds={101: [(10.0, 90.0)], 3: [(-5000.0, -50.0), (60.0, 4000.0)]},
        states=[StateCode.DISCHARGING, StateCode.RELAY_CLOSED],
        errors=[51],
        warnings=[99],
    )
    found = received(ComponentCategory.BATTERY, message)
    assert found == BatteryData(
        component_id=7,
        timestamp=START,
        soc=55.0,
        soc_lower_bound=10.0,
        soc_upper_bound=90.0,
        capacity=92_000.0,
        power_inclusion_lower_bound=-5000.0,
        power_exclusion_lower_bound=-50.0,
        power_inclusion_upper_bound=4000.0,
        power_exclusion_upper_bound=60.0,
        temperature=21.0,
        relay_state=BatteryRelayState.CLOSED,
        component_state=BatteryComponentState.DISCHARGING,
        errors=[
            BatteryError(
                code=BatteryErrorCode.LOW_SOH,
                level=ErrorLevel.CRITICAL,
                message="BATTERY_LOW_SOH: words",
            ),
            BatteryError(level=ErrorLevel.WARN, message="code 99 (vendor V9)"),
        ],
    )


def test_aggregated_value_is_its_average() -> None:
    message = telemetry()
    sample = message.metric_samples.add(metric=Metric.AC_POWER_ACTIVE)
    sample.value.aggregated_metric.avg_value = 5.0
    sample.value.aggregated_metric.max_value = 9.0
    assert received(ComponentCategory.METER, message).active_power == 5.0


def test_sample_without_a_value_is_missing() -> None:
    message = telemetry()
    message.metric_samples.add(metric=Metric.AC_POWER_ACTIVE)
    assert math.isnan(received(ComponentCategory.METER, message).active_power)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["", "pv"], 0.0),
        (["pv", ""], 1.0),
        (["pv", "battery"], 0.0),
        (["", ""], 0.0),
        (["pv", "", ""], 1.0),
    ],
)
def test_first_sample_without_a_connection_counts(names: list[str], expected: float) -> None:
    message = telemetry()
    for number, name in enumerate(names):
        sample = message.metric_samples.add(metric=Metric.AC_POWER_ACTIVE)
        sample.value.simple_metric.value = number
        if name:
            sample.connection.name = name
    assert received(ComponentCategory.INVERTER, message).active_power == expected


@pytest.mark.parametrize("missing", AC)
def test_missing_metric_is_nan(missing: int) -> None:
    found = received(ComponentCategory.METER, telemetry({m: float(m) for m in AC if m != missing}))
    numbers = [
        found.frequency, *found.voltage_per_phase, *found.current_per_phase, found.active_power,
        *found.active_power_per_phase, found.reactive_power, *found.reactive_power_per_phase,
    ]  # fmt: skip
    assert [math.isnan(number) for number in numbers] == [metric == missing for metric in AC]


@pytest.mark.parametrize(("total", "expected"), [(9.9, 0.0), (-9.9, 0.0), (10.0, NAN), (NAN, NAN)])
def test_phases_of_what_draws_nothing_are_zero(total: float, expected: float) -> None:
    found = charger(values={26: total, 10: 50.0})
    for values in (
        found.active_power_per_phase,
        found.reactive_power_per_phase,
        found.current_per_phase,
    ):
        assert values == pytest.approx((expected,) * 3, nan_ok=True)
    assert all(math.isnan(volt) for volt in found.voltage_per_phase)
    meter = received(ComponentCategory.METER, telemetry({26: 0.0}))
    assert all(math.isnan(ampere) for ampere in meter.current_per_phase)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], (NAN, NAN, NAN, NAN)),
        ([(0.0, 11_000.0)], (0.0, 11_000.0, 0.0, 0.0)),
        ([(0.0, 0.0), (1380.0, 11_000.0)], (0.0, 11_000.0, 0.0, 1380.0)),
        ([(100.0, 500.0), (-500.0, -100.0)], (-500.0, 500.0, -100.0, 100.0)),
        ([(-500.0, 50.0), (0.0, 500.0)], (-500.0, 500.0, 0.0, 0.0)),
        ([(-9.0, -8.0), (0.0, 0.0), (7.0, 9.0)], (-9.0, 9.0, -8.0, 7.0)),
        ([(None, 500.0)], (-INFINITY, 500.0, 0.0, 0.0)),
        ([(0.0, None)], (0.0, INFINITY, 0.0, 0.0)),
        ([(-9.0, -8.0), (-7.0, -1.0), (1.0, 9.0)], (-9.0, 9.0, -1.0, 1.0)),
        ([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)], (1.0, 6.0, 0.0, 0.0)),
    ],
)
def test_ranges_become_bounds(ranges: Any, expected: tuple[float, ...]) -> None:
    found = charger(values={26: 0.0}, bounds={26: ranges})
    assert (
        found.active_power_inclusion_lower_bound,
        found.active_power_inclusion_upper_bound,
        found.active_power_exclusion_lower_bound,
        found.active_power_exclusion_upper_bound,
    ) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("states", "cable", "state"),
    [
        ([24], "EV_LOCKED", "UNSPECIFIED"),
        ([21, 22, 7], "EV_PLUGGED", "READY"),
        ([23, 24, 8], "EV_LOCKED", "CHARGING"),
        ([20, 2], "UNPLUGGED", "NOT_READY"),
        ([23], "CHARGING_STATION_LOCKED", "UNSPECIFIED"),
        ([21, 6], "CHARGING_STATION_PLUGGED", "NOT_READY"),
        ([9, 22], "EV_PLUGGED", "DISCHARGING"),
        ([8, 10, 24], "EV_LOCKED", "ERROR"),
        ([5], "UNSPECIFIED", "STARTING"),
        ([3], "UNSPECIFIED", "NOT_READY"),
        ([4], "UNSPECIFIED", "NOT_READY"),
        ([1], "UNSPECIFIED", "UNKNOWN"),
        ([77], "UNSPECIFIED", "UNKNOWN"),
        ([], "UNSPECIFIED", "UNSPECIFIED"),
    ],
)
def test_states_of_a_charger(states: list[int], cable: str, state: str) -> None:
    found = charger(values={26: 0.0}, states=states)
    assert (found.cable_state.name, found.component_state.name) == (cable, state)


def test_charger_that_complains() -> None:
    unauthorized = DiagnosticCode.UNAUTHORIZED
    for where in ("errors", "warnings"):
        found = charger(values={26: 0.0}, states=[24, 7], **{where: [unauthorized]})
        assert found.component_state is EVChargerComponentState.AUTHORIZATION_REJECTED
    silent = charger(values={26: 0.0}, states=[24], errors=[5])
    assert not silent.is_ev_connected()
    warned = charger(values={26: 0.0}, states=[24, 7], warnings=[5])
    assert warned.is_ev_connected()
    assert warned.cable_state is EVChargerCableState.EV_LOCKED


@pytest.mark.parametrize(
    ("code", "inverter", "battery"),
    [
        (10, "ERROR", "ERROR"), (8, "CHARGING", "CHARGING"), (9, "DISCHARGING", "DISCHARGING"),
        (7, "IDLE", "IDLE"), (6, "STANDBY", "OFF"), (5, "SWITCHING_ON", "SWITCHING_ON"),
        (3, "SWITCHING_OFF", "SWITCHING_OFF"), (4, "OFF", "OFF"), (2, "UNAVAILABLE", "LOCKED"),
        (1, "UNKNOWN", "UNKNOWN"), (55, "UNKNOWN", "UNKNOWN"), (0, "UNSPECIFIED", "UNSPECIFIED"),
    ],
)  # fmt: skip
def test_states_of_inverters_and_batteries(code: int, inverter: str, battery: str) -> None:
    message = telemetry({26: 0.0, 101: 1.0}, states=[code])
    found = received(ComponentCategory.INVERTER, message)
    assert found.component_state is InverterComponentState[inverter]
    found = received(ComponentCategory.BATTERY, message)
    assert found.component_state is BatteryComponentState[battery]


@pytest.mark.parametrize(
    ("states", "errors", "relay"),
    [
        ([31], [], "CLOSED"), ([30], [], "OPENED"), ([41, 31], [], "PRECHARGING"),
        ([31], [54], "ERROR"), ([], [], "UNSPECIFIED"), ([7], [], "UNSPECIFIED"),
    ],
)  # fmt: skip
def test_relay_state(states: list[int], errors: list[int], relay: str) -> None:
    found = received(ComponentCategory.BATTERY, telemetry({101: 1.0}, states=states, errors=errors))
    assert found.relay_state is BatteryRelayState[relay]


def test_errors_of_an_inverter_lose_nothing() -> None:
    found = received(ComponentCategory.INVERTER, telemetry({26: 0.0}, errors=[32], warnings=[25]))
    assert [(e.level, e.message) for e in found.errors] == [
        (ErrorLevel.CRITICAL, "GRID_OVERFREQUENCY: words"),
        (ErrorLevel.WARN, "FAN_FAULT (vendor V9)"),
    ]


def test_state_alone_is_a_message() -> None:
    found = received(ComponentCategory.METER, telemetry(states=[10]))
    assert math.isnan(found.active_power)
    assert found.timestamp == START


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (telemetry(), "no data of component 7"),
        (schema.ElectricalComponentTelemetry(electrical_component_id=8), "component 8"),
        (telemetry({101: 1.0}), r"metrics \[101\] of component 7"),
    ],
)
def test_message_of_something_else_is_undecodable(message: Any, words: str) -> None:
    with pytest.raises(UndecodableMessage, match=words):
        received(ComponentCategory.METER, message)


def test_impossible_time_is_undecodable() -> None:
    message = telemetry({26: 1.0})
    message.metric_samples[0].sample_time.seconds = 2**62
    with pytest.raises(UndecodableMessage):
        received(ComponentCategory.METER, message)


@pytest.mark.parametrize("category", [c for c in ComponentCategory if c.name in (
    "METER", "INVERTER", "BATTERY", "EV_CHARGER",
)])  # fmt: skip
def test_value_with_its_message_pickles_and_copies(category: ComponentCategory) -> None:
    value = received(category, telemetry({26: 1.0, 101: 2.0}, states=[7]))
    for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
        assert repr(other) == repr(value)
        assert other.raw == value.raw


@pytest.mark.parametrize("data_class", [MeterData, InverterData, EVChargerData, BatteryData])
def test_from_proto(data_class: type[ComponentData]) -> None:
    assert data_class.from_proto(telemetry({26: 1.0})).component_id == 7


def test_only_what_is_needed_is_asked_for() -> None:
    for category, metrics in (
        (ComponentCategory.METER, set(AC)),
        (ComponentCategory.BATTERY, {3, 100, 101, 102}),
    ):
        request = V1_ALPHA_18.stream_data(7, category)
        sent = schema.ReceiveElectricalComponentTelemetryStreamRequest.FromString(request.payload)
        assert sent.electrical_component_id == 7
        assert set(sent.filter.metrics) == metrics
    everything = V1_ALPHA_18.stream_telemetry(7, frozenset())
    sent = schema.ReceiveElectricalComponentTelemetryStreamRequest.FromString(everything.payload)
    assert not sent.HasField("filter")


# Telemetry


def test_telemetry_has_all_that_is_in_the_message() -> None:
    message = telemetry(
        {26: 5.0, 30: 7.0, 250: 1.0},
        states=[7, 77],
        errors=[32, 999],
        warnings=[25],
        bounds={26: [(None, 9.0)], 30: [(1.0, 2.0), (3.0, None)]},
    )
    aggregated = message.metric_samples.add(metric=31).value.aggregated_metric
    aggregated.avg_value, aggregated.min_value, aggregated.max_value = 2.0, 1.0, 4.0
    message.metric_samples[-1].sample_time.FromDatetime(START)
    found = decode(V1_ALPHA_18.stream_telemetry(7, frozenset()), payload(message))
    assert (found.component_id, found.timestamp) == (7, START)
    assert found.metrics == {
        Metric.AC_POWER_ACTIVE: MetricSample(5.0, bounds=(Bounds(None, 9.0),)),
        Metric.AC_POWER_REACTIVE: MetricSample(
            -7.0, bounds=(Bounds(None, -3.0), Bounds(-2.0, -1.0))
        ),
        Metric.AC_POWER_REACTIVE_PHASE_1: MetricSample(-2.0, -4.0, -1.0),
        250: MetricSample(1.0),
    }
    assert isinstance(next(iter(found.metrics)), Metric)
    assert found.states == {StateCode.READY, 77}
    assert found.errors == (
        Diagnostic(DiagnosticCode.GRID_OVERFREQUENCY, None, "words"),
        Diagnostic(999, None, "words"),
    )
    assert found.warnings == (Diagnostic(DiagnosticCode.FAN_FAULT, "V9", ""),)
    assert pickle.loads(pickle.dumps(found)) == found


def test_sensor_telemetry() -> None:
    message = schema.SensorTelemetry(sensor_id=3)
    sample = message.metric_samples.add(metric=162)
    sample.value.simple_metric.value = 21.0
    message.state_snapshots.add(states=[1])
    response = schema.ReceiveSensorTelemetryStreamResponse(telemetry=message)
    request = V1_ALPHA_18.stream_sensor_telemetry(3, frozenset({162}))
    found = decode(request, response.SerializeToString())
    assert found.metrics[Metric.SENSOR_TEMPERATURE].value == 21.0
    assert found.states == {SensorStateCode.OK}
    with pytest.raises(UndecodableMessage):
        decode(request, b"")


# What there is


def answered(request: Any, answer: Any) -> Any:
    return request.decode(request.parse(answer.SerializeToString()))


def components(*listed: Any) -> list[Component]:
    answer = schema.ListElectricalComponentsResponse(electrical_components=listed)
    found = answered(V1_ALPHA_18.list_components(), answer)
    assert isinstance(found, ComponentListing)
    assert {c.component_id for c in found.components} | found.left_out == {c.id for c in listed}
    return found.components


@pytest.mark.parametrize(
    ("number", "category", "name"),
    [
        (0, "NONE", "UNSPECIFIED"), (1, "GRID", "GRID_CONNECTION_POINT"), (2, "METER", "METER"),
        (3, "INVERTER", "INVERTER"), (4, "NONE", "CONVERTER"), (5, "BATTERY", "BATTERY"),
        (6, "EV_CHARGER", "EV_CHARGER"), (7, "NONE", "BREAKER"), (9, "CHP", "CHP"),
        (10, "NONE", "ELECTROLYZER"), (18, "NONE", "WIND_TURBINE"), (19, "NONE", "STEAM_BOILER"),
        (20, "NONE", None),
    ],
)  # fmt: skip
def test_category(number: int, category: str, name: str | None) -> None:
    (found,) = components(schema.ElectricalComponent(id=4, category=number))
    assert found.category is ComponentCategory[category]
    assert found.category_name == name


def test_component_with_all_that_is_known() -> None:
    message = schema.ElectricalComponent(
        id=4, category=3, name="roof", manufacturer="ACME", model_name="X1", operational_mode=4
    )
    message.category_specific_info.inverter.type = 2
    message.metric_config_bounds.add(metric=27).config_bounds.upper = 1.0
    bounds = message.metric_config_bounds.add(metric=26).config_bounds
    bounds.lower = -8000.0
    (found,) = components(message)
    assert found.type is InverterType.SOLAR
    assert (found.name, found.model) == ("roof", "ACME X1")
    assert found.rated_bounds == Bounds(-8000.0, None)
    assert (found.provides_telemetry, found.accepts_control) == (True, True)
    # They tell nothing apart.
    assert found == Component(4, ComponentCategory.INVERTER, InverterType.SOLAR)


def test_what_the_oneof_does_not_say_is_not_there() -> None:
    message = schema.ElectricalComponent(id=4, category=1)
    message.category_specific_info.battery.SetInParent()
    (found,) = components(message)
    assert found.metadata == GridMetadata()
    message.category_specific_info.grid_connection_point.rated_fuse_current = 63
    (found,) = components(message)
    assert found.metadata is not None
    assert found.metadata.fuse is not None
    assert found.metadata.fuse.max_current == 63.0


@pytest.mark.parametrize(
    ("start", "end", "there"),
    [
        (None, None, True), (-1, None, True), (1, None, False), (None, -1, False),
        (None, 1, True), (-2, -1, False), (-1, 1, True),
    ],
)  # fmt: skip
def test_lifetimes_are_obeyed(start: int | None, end: int | None, there: bool) -> None:
    lifetime = schema.Lifetime()
    now = datetime.now(UTC)
    for name, days in (("start_timestamp", start), ("end_timestamp", end)):
        if days is not None:
            getattr(lifetime, name).FromDatetime(now + timedelta(days=days))
    assert (
        bool(components(schema.ElectricalComponent(id=4, operational_lifetime=lifetime))) is there
    )
    listed = schema.ElectricalComponentConnection(
        source_electrical_component_id=1,
        destination_electrical_component_id=2,
        operational_lifetime=lifetime,
    )
    answer = schema.ListElectricalComponentConnectionsResponse(
        electrical_component_connections=[listed]
    )
    found = answered(V1_ALPHA_18.list_connections([], []), answer)
    assert found == ([Connection(1, 2)] if there else [])
    sensors = schema.ListSensorsResponse(
        sensors=[schema.Sensor(id=5, name="roof", model="T", operational_lifetime=lifetime)]
    )
    found = answered(V1_ALPHA_18.list_sensors(), sensors)
    assert found == ([Sensor(5, "roof", "T")] if there else [])


def test_metadata() -> None:
    answer = schema.GetMicrogridResponse(microgrid=schema.Microgrid(id=5))
    assert answered(V1_ALPHA_18.get_metadata(), answer) == Metadata(microgrid_id=5)
    answer.microgrid.location.latitude = 52.5
    answer.microgrid.location.longitude = 13.5
    expected = Metadata(microgrid_id=5, location=Location(latitude=52.5, longitude=13.5))
    assert answered(V1_ALPHA_18.get_metadata(), answer) == expected


# Commands


def test_set_points() -> None:
    kind = schema.SetElectricalComponentPowerRequest
    request = V1_ALPHA_18.set_power(3, -5.5)
    assert request.message == kind(electrical_component_id=3, power_type=1, power=-5.5)
    assert not request.message.HasField("request_lifetime")
    request = V1_ALPHA_18.set_reactive_power(3, 7.25, 60)
    assert request.message == kind(
        electrical_component_id=3, power_type=2, power=-7.25, request_lifetime=60
    )
    assert math.copysign(1.0, V1_ALPHA_18.set_reactive_power(3, 0.0).message.power) == 1.0


@pytest.mark.parametrize("number", range(7))
def test_status_of_a_set_point(number: int) -> None:
    answer = schema.SetElectricalComponentPowerResponse(status=number)
    names = ["UNKNOWN", "ACCEPTED", "REJECTED", "FAILED", "SUCCESS", "OVERRIDDEN", "UNKNOWN"]
    found = V1_ALPHA_18.set_power(3, 1.0).parse(answer.SerializeToString())
    assert found == (SetPointState[names[number]], None)
    answer.valid_until_time.FromDatetime(START)
    found = V1_ALPHA_18.set_power(3, 1.0).parse(answer.SerializeToString())
    assert found.valid_until == START


def test_bounds() -> None:
    request = V1_ALPHA_18.add_inclusion_bounds(3, -1.5, 2.5, 30, "mine")
    assert request.message == schema.AugmentElectricalComponentBoundsRequest(
        electrical_component_id=3,
        target_metric=26,
        bounds=[schema.Bounds(lower=-1.5, upper=2.5)],
        request_lifetime=30,
        bounds_token="mine",
    )
    answer = schema.AugmentElectricalComponentBoundsResponse()
    assert answered(request, answer) is None
    answer.valid_until_time.FromDatetime(START)
    assert answered(request, answer) == START
    assert V1_ALPHA_18.clear_bounds(3, "mine").message.bounds_token == "mine"


def test_what_it_lacks() -> None:
    with pytest.raises(NotOffered, match="v1alpha18 has no hot standby"):
        V1_ALPHA_18.standby(3, hot=True)
    with pytest.raises(NotOffered, match="v1alpha18 has no exclusion bounds"):
        V1_ALPHA_18.add_exclusion_bounds(3, -1.0, 1.0)


def test_v1alpha19_is_the_same_under_another_path() -> None:
    other = generation("v1alpha19")
    makers: list[Callable[[ApiGeneration], Any]] = [
        lambda api: api.set_power(3, 1.0),
        lambda api: api.list_components(),
        lambda api: api.start(3),
        lambda api: api.stop(3),
        lambda api: api.standby(3, hot=False),
        lambda api: api.acknowledge_error(3),
    ]
    for make in makers:
        one, two = make(V1_ALPHA_18), make(other)
        assert two.path == one.path.replace("v1alpha18", "v1alpha19") != one.path
        assert one.message == two.message


def test_probes_are_calls_of_metadata() -> None:
    for name in API_NAMES:
        assert probe_path(name) == generation(name).get_metadata().path
