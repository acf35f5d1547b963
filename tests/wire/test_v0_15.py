"""Version 0.15: messages to values, values to messages."""

import math
from datetime import UTC, datetime

import pytest
from frequenz.api.common import components_pb2, metrics_pb2
from frequenz.api.microgrid import (
    battery_pb2,
    common_pb2,
    ev_charger_pb2,
    grid_pb2,
    inverter_pb2,
    microgrid_pb2,
)
from google.protobuf import empty_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync import (
    BatteryComponentState,
    BatteryData,
    BatteryError,
    BatteryErrorCode,
    BatteryRelayState,
    Component,
    ComponentCategory,
    ComponentData,
    Connection,
    ErrorLevel,
    EVChargerCableState,
    EVChargerComponentState,
    EVChargerData,
    Fuse,
    GridMetadata,
    InverterComponentState,
    InverterData,
    InverterError,
    InverterErrorCode,
    InverterType,
    Metadata,
    MeterData,
)
from microgrid_sync.wire import UndecodableMessage, v0_15
from tests.support.messages import START, data

ENUMS = [
    (ErrorLevel, common_pb2.ErrorLevel, "ERROR_LEVEL_"),
    (BatteryErrorCode, battery_pb2.ErrorCode, "ERROR_CODE_"),
    (InverterErrorCode, inverter_pb2.ErrorCode, "ERROR_CODE_"),
    (BatteryComponentState, battery_pb2.ComponentState, "COMPONENT_STATE_"),
    (BatteryRelayState, battery_pb2.RelayState, "RELAY_STATE_"),
    (EVChargerCableState, ev_charger_pb2.CableState, "CABLE_STATE_"),
    (EVChargerComponentState, ev_charger_pb2.ComponentState, "COMPONENT_STATE_"),
    (InverterComponentState, inverter_pb2.ComponentState, "COMPONENT_STATE_"),
]


@pytest.mark.parametrize(("ours", "theirs", "prefix"), ENUMS)
def test_enum_has_the_protobufs_names_and_numbers(ours, theirs, prefix):  # type: ignore[no-untyped-def] # protobuf's enum wrappers share no public type
    assert {m.name: m.value for m in ours} == {
        name.removeprefix(prefix): number for name, number in theirs.items()
    }


def _fill(message: object, start: float) -> float:
    """Give every number in an AC message a value of its own."""
    for phase in ("phase_1", "phase_2", "phase_3"):
        for field in ("voltage", "current", "power_active", "power_reactive"):
            getattr(getattr(message, phase), field).value = start
            start += 1
    for field in ("frequency", "power_active", "power_reactive"):
        getattr(message, field).value = start
        start += 1
    return start


def _with_bounds(metric: metrics_pb2.Metric, start: float) -> None:
    metric.system_inclusion_bounds.CopyFrom(metrics_pb2.Bounds(lower=start, upper=start + 1))
    metric.system_exclusion_bounds.CopyFrom(metrics_pb2.Bounds(lower=start + 2, upper=start + 3))


AC = {
    "voltage_per_phase": (1.0, 5.0, 9.0),
    "current_per_phase": (2.0, 6.0, 10.0),
    "active_power_per_phase": (3.0, 7.0, 11.0),
    "reactive_power_per_phase": (4.0, 8.0, 12.0),
    "frequency": 13.0,
    "active_power": 14.0,
    "reactive_power": 15.0,
}
AC_BOUNDS = {
    "active_power_inclusion_lower_bound": 20.0,
    "active_power_inclusion_upper_bound": 21.0,
    "active_power_exclusion_lower_bound": 22.0,
    "active_power_exclusion_upper_bound": 23.0,
}


def test_meter_data() -> None:
    message = data(7, "meter")
    _fill(message.meter.data.ac, 1.0)
    found = MeterData.from_proto(message)
    assert found == MeterData(component_id=7, timestamp=START, **AC)  # type: ignore[arg-type] # a dict of mixed types
    assert found.raw is message
    assert found.timestamp.tzinfo is UTC


def test_inverter_data() -> None:
    message = data(7, "inverter")
    _fill(message.inverter.data.ac, 1.0)
    _with_bounds(message.inverter.data.ac.power_active, 20.0)
    message.inverter.state.component_state = inverter_pb2.COMPONENT_STATE_DISCHARGING
    message.inverter.errors.add(code=3, level=common_pb2.ERROR_LEVEL_WARN, msg="hot")
    assert InverterData.from_proto(message) == InverterData(
        component_id=7,
        timestamp=START,
        component_state=InverterComponentState.DISCHARGING,
        errors=[InverterError(level=ErrorLevel.WARN, message="hot")],
        **AC,  # type: ignore[arg-type] # a dict of mixed types
        **AC_BOUNDS,  # type: ignore[arg-type] # as above
    )


def test_ev_charger_data() -> None:
    message = data(7, "ev_charger")
    _fill(message.ev_charger.data.ac, 1.0)
    _with_bounds(message.ev_charger.data.ac.power_active, 20.0)
    message.ev_charger.state.component_state = ev_charger_pb2.COMPONENT_STATE_CHARGING
    message.ev_charger.state.cable_state = ev_charger_pb2.CABLE_STATE_EV_LOCKED
    assert EVChargerData.from_proto(message) == EVChargerData(
        component_id=7,
        timestamp=START,
        component_state=EVChargerComponentState.CHARGING,
        cable_state=EVChargerCableState.EV_LOCKED,
        **AC,  # type: ignore[arg-type] # a dict of mixed types
        **AC_BOUNDS,  # type: ignore[arg-type] # as above
    )


def test_battery_data() -> None:
    message = data(7, "battery")
    battery = message.battery
    battery.data.soc.avg = 1.0
    battery.data.soc.system_inclusion_bounds.lower = 2.0
    battery.data.soc.system_inclusion_bounds.upper = 3.0
    battery.properties.capacity = 4.0
    _with_bounds(battery.data.dc.power, 5.0)
    battery.data.temperature.avg = 9.0
    battery.state.relay_state = battery_pb2.RELAY_STATE_CLOSED
    battery.state.component_state = battery_pb2.COMPONENT_STATE_CHARGING
    battery.errors.add(
        code=battery_pb2.ERROR_CODE_LOW_SOH, level=common_pb2.ERROR_LEVEL_CRITICAL, msg="old"
    )
    found = BatteryData.from_proto(message)
    assert found == BatteryData(
        component_id=7,
        timestamp=START,
        soc=1.0,
        soc_lower_bound=2.0,
        soc_upper_bound=3.0,
        capacity=4.0,
        power_inclusion_lower_bound=5.0,
        power_inclusion_upper_bound=6.0,
        power_exclusion_lower_bound=7.0,
        power_exclusion_upper_bound=8.0,
        temperature=9.0,
        relay_state=BatteryRelayState.CLOSED,
        component_state=BatteryComponentState.CHARGING,
        errors=[
            BatteryError(code=BatteryErrorCode.LOW_SOH, level=ErrorLevel.CRITICAL, message="old")
        ],
    )
    assert hash(found) == hash(BatteryData.from_proto(message))


def test_errors_from_their_own_messages() -> None:
    battery = battery_pb2.Error(code=battery_pb2.ERROR_CODE_FUSE_ERROR, msg="blown")
    assert BatteryError.from_pb(battery) == BatteryError(
        code=BatteryErrorCode.FUSE_ERROR, message="blown"
    )
    assert InverterError.from_pb(inverter_pb2.Error(msg="m")) == InverterError(message="m")


@pytest.mark.parametrize("data_class", [MeterData, BatteryData, InverterData, EVChargerData])
def test_data_of_another_category_is_refused(data_class: type[ComponentData]) -> None:
    other = "battery" if data_class is MeterData else "meter"
    with pytest.raises(ValueError, match=f"{data_class.__name__}.* 7 carries {other} data"):
        data_class.from_proto(data(7, other))
    with pytest.raises(ValueError, match="carries no data"):
        data_class.from_proto(microgrid_pb2.ComponentData(id=7))


@pytest.mark.parametrize("message", [empty_pb2.Empty(), "text", None, 5])
def test_message_of_another_kind_is_refused(message: object) -> None:
    with pytest.raises(TypeError, match="MeterData cannot be made of"):
        MeterData.from_proto(message)
    with pytest.raises(TypeError, match=r"it can be made of: frequenz\.api\.microgrid\.battery"):
        BatteryError.from_pb(message)


# Streams

CASES = [
    (ComponentCategory.METER, "meter", MeterData),
    (ComponentCategory.BATTERY, "battery", BatteryData),
    (ComponentCategory.INVERTER, "inverter", InverterData),
    (ComponentCategory.EV_CHARGER, "ev_charger", EVChargerData),
]


@pytest.mark.parametrize(("category", "field", "data_class"), CASES)
def test_stream_decodes_what_was_subscribed_to(
    category: ComponentCategory, field: str, data_class: type[ComponentData]
) -> None:
    request = v0_15.stream_data(7, category)
    found = request.decode(data(7, field, 3).SerializeToString())
    assert type(found) is data_class
    assert found == data_class.from_proto(data(7, field, 3))
    assert microgrid_pb2.ComponentIdParam.FromString(request.payload).id == 7


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xff\xff", "cannot be decoded"),
        (data(8).SerializeToString(), "meter data of component 8"),
        (data(7, "battery").SerializeToString(), "battery data of component 7"),
        (b"", "no data of component 0"),
        (
            microgrid_pb2.ComponentData(
                id=7, ts=timestamp_pb2.Timestamp(seconds=2**62), meter=data(7).meter
            ).SerializeToString(),
            "cannot be decoded",
        ),
        (
            microgrid_pb2.ComponentData(
                id=7, ts=timestamp_pb2.Timestamp(nanos=-5), meter=data(7).meter
            ).SerializeToString(),
            "cannot be decoded",
        ),
    ],
)
def test_stream_refuses_what_was_not_subscribed_to(payload: bytes, reason: str) -> None:
    with pytest.raises(UndecodableMessage, match=reason):
        v0_15.stream_data(7, ComponentCategory.METER).decode(payload)


@given(st.binary(max_size=200))
def test_stream_decodes_or_refuses_any_bytes(payload: bytes) -> None:
    try:
        found = v0_15.stream_data(7, ComponentCategory.METER).decode(payload)
    except UndecodableMessage:
        return
    assert found.component_id == 7


def test_absent_timestamp_is_the_epoch() -> None:
    message = microgrid_pb2.ComponentData(id=7, meter=data(7).meter)
    assert MeterData.from_proto(message).timestamp == datetime(1970, 1, 1, tzinfo=UTC)


# Unary calls


def test_components() -> None:
    answer = microgrid_pb2.ComponentList(
        components=[
            microgrid_pb2.Component(
                id=1,
                category=components_pb2.COMPONENT_CATEGORY_GRID,
                grid=grid_pb2.Metadata(rated_fuse_current=63),
            ),
            microgrid_pb2.Component(id=2, category=components_pb2.COMPONENT_CATEGORY_GRID),
            microgrid_pb2.Component(id=3, category=components_pb2.COMPONENT_CATEGORY_SENSOR),
            microgrid_pb2.Component(id=4, category=components_pb2.COMPONENT_CATEGORY_CHP),
            microgrid_pb2.Component(id=5, category=99),  # type: ignore[arg-type] # a number that has no name yet
            microgrid_pb2.Component(
                id=6,
                category=components_pb2.COMPONENT_CATEGORY_INVERTER,
                inverter=inverter_pb2.Metadata(type=components_pb2.INVERTER_TYPE_HYBRID),
            ),
            microgrid_pb2.Component(
                id=7,
                category=components_pb2.COMPONENT_CATEGORY_INVERTER,
                inverter=inverter_pb2.Metadata(type=99),  # type: ignore[arg-type] # as above
            ),
            microgrid_pb2.Component(id=8, category=components_pb2.COMPONENT_CATEGORY_INVERTER),
            microgrid_pb2.Component(id=9, category=components_pb2.COMPONENT_CATEGORY_RELAY),
        ]
    )
    assert v0_15.list_components().decode(answer) == [
        Component(1, ComponentCategory.GRID, None, GridMetadata(Fuse(63.0))),
        Component(2, ComponentCategory.GRID, None, GridMetadata()),
        Component(4, ComponentCategory.CHP),
        Component(5, ComponentCategory.NONE),
        Component(6, ComponentCategory.INVERTER, InverterType.HYBRID),
        Component(7, ComponentCategory.INVERTER, None),
        Component(8, ComponentCategory.INVERTER, InverterType.NONE),
        Component(9, ComponentCategory.NONE),
    ]


def test_connections() -> None:
    request = v0_15.list_connections({3, 1}, {2})
    assert request.message == microgrid_pb2.ConnectionFilter(starts=[1, 3], ends=[2])
    answer = microgrid_pb2.ConnectionList(connections=[microgrid_pb2.Connection(start=1, end=2)])
    assert request.decode(answer) == [Connection(1, 2)]


def test_metadata() -> None:
    decode = v0_15.get_metadata().decode
    assert decode(microgrid_pb2.MicrogridMetadata(microgrid_id=5)) == Metadata(microgrid_id=5)
    place = microgrid_pb2.Location(latitude=52.5, longitude=13.5)
    found = decode(microgrid_pb2.MicrogridMetadata(microgrid_id=5, location=place))
    assert found.location is not None
    assert (found.location.latitude, found.location.longitude) == (52.5, 13.5)


def test_commands() -> None:
    assert v0_15.set_power(3, -5.5).message == microgrid_pb2.SetPowerActiveParam(
        component_id=3, power=-5.5
    )
    assert v0_15.set_reactive_power(3, 7.25).message == microgrid_pb2.SetPowerReactiveParam(
        component_id=3, power=7.25
    )
    assert v0_15.add_inclusion_bounds(3, -1.5, 2.5).message == microgrid_pb2.SetBoundsParam(
        component_id=3,
        target_metric=microgrid_pb2.SetBoundsParam.TARGET_METRIC_POWER_ACTIVE,
        bounds=metrics_pb2.Bounds(lower=-1.5, upper=2.5),
    )


def test_largest_number_that_the_wire_holds_is_sent_as_it_is() -> None:
    largest = v0_15.FLOAT32_MAX
    assert v0_15.set_power(3, largest).message.power == largest
    assert v0_15.set_power(3, -largest).message.power == -largest


@pytest.mark.parametrize("value", [math.nextafter(v0_15.FLOAT32_MAX, math.inf), -1e39, 1e300])
def test_number_beyond_the_wire_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="power_w must be between"):
        v0_15.set_power(3, value)
    with pytest.raises(ValueError, match="reactive_power_var must be between"):
        v0_15.set_reactive_power(3, value)
    with pytest.raises(ValueError, match="lower must be between"):
        v0_15.add_inclusion_bounds(3, value, 0.0)
    with pytest.raises(ValueError, match="upper must be between"):
        v0_15.add_inclusion_bounds(3, 0.0, value)
