"""Version 0.15: messages to values, values to messages."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
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
    InverterType,
    Metadata,
    MeterData,
)
from microgrid_sync.arguments import FLOAT32_MAX, check_float32
from microgrid_sync.wire import UndecodableMessage, generation
from microgrid_sync.wire import v0_15_schema as schema
from tests.support.messages import START, data, decode

V0_15 = generation("v0.15")


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


def _with_bounds(metric: Any, start: float) -> None:
    metric.system_inclusion_bounds.CopyFrom(schema.Bounds(lower=start, upper=start + 1))
    metric.system_exclusion_bounds.CopyFrom(schema.Bounds(lower=start + 2, upper=start + 3))


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
    message.inverter.state.component_state = 11
    message.inverter.errors.add(code=3, level=1, msg="hot")
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
    message.ev_charger.state.component_state = 4
    message.ev_charger.state.cable_state = 5
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
    battery.state.relay_state = 3
    battery.state.component_state = 3
    battery.errors.add(code=11, level=2, msg="old")
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
    battery = schema.BatteryError(code=16, msg="blown")
    assert BatteryError.from_pb(battery) == BatteryError(
        code=BatteryErrorCode.FUSE_ERROR, message="blown"
    )
    assert InverterError.from_pb(schema.InverterError(msg="m")) == InverterError(message="m")


@pytest.mark.parametrize("data_class", [MeterData, BatteryData, InverterData, EVChargerData])
def test_data_of_another_category_is_refused(data_class: type[ComponentData]) -> None:
    other = "battery" if data_class is MeterData else "meter"
    with pytest.raises(ValueError, match=f"{data_class.__name__}.* 7 carries {other} data"):
        data_class.from_proto(data(7, other))
    with pytest.raises(ValueError, match="carries no data"):
        data_class.from_proto(schema.ComponentData(id=7))


@pytest.mark.parametrize("message", [empty_pb2.Empty(), "text", None, 5])
def test_message_of_another_kind_is_refused(message: object) -> None:
    with pytest.raises(TypeError, match="MeterData cannot be made of"):
        MeterData.from_proto(message)
    with pytest.raises(TypeError, match=r"it can be made of: .*frequenz\.api\.microgrid\.battery"):
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
    request = V0_15.stream_data(7, category)
    found = decode(request, data(7, field, 3).SerializeToString())
    assert type(found) is data_class
    assert found == data_class.from_proto(data(7, field, 3))
    assert schema.ComponentIdParam.FromString(request.payload).id == 7


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xff\xff", "cannot be decoded"),
        (data(8).SerializeToString(), "meter data of component 8"),
        (data(7, "battery").SerializeToString(), "battery data of component 7"),
        (b"", "no data of component 0"),
        (
            schema.ComponentData(
                id=7, ts=timestamp_pb2.Timestamp(seconds=2**62), meter=data(7).meter
            ).SerializeToString(),
            "cannot be decoded",
        ),
        (
            schema.ComponentData(
                id=7, ts=timestamp_pb2.Timestamp(nanos=-5), meter=data(7).meter
            ).SerializeToString(),
            "cannot be decoded",
        ),
    ],
)
def test_stream_refuses_what_was_not_subscribed_to(payload: bytes, reason: str) -> None:
    with pytest.raises(UndecodableMessage, match=reason):
        decode(V0_15.stream_data(7, ComponentCategory.METER), payload)


@given(st.binary(max_size=200))
def test_stream_decodes_or_refuses_any_bytes(payload: bytes) -> None:
    try:
        found = decode(V0_15.stream_data(7, ComponentCategory.METER), payload)
    except UndecodableMessage:
        return
    assert found.component_id == 7


def test_absent_timestamp_is_the_epoch() -> None:
    message = schema.ComponentData(id=7, meter=data(7).meter)
    assert MeterData.from_proto(message).timestamp == datetime(1970, 1, 1, tzinfo=UTC)


# Unary calls


def test_components() -> None:
    answer = schema.ComponentList(
        components=[
            schema.Component(
                id=1,
                category=1,
                grid=schema.GridMetadata(rated_fuse_current=63),
            ),
            schema.Component(id=2, category=1),
            schema.Component(id=3, category=7),
            schema.Component(id=4, category=10),
            schema.Component(id=5, category=99),
            schema.Component(
                id=6,
                category=3,
                inverter=schema.InverterMetadata(type=3),
            ),
            schema.Component(
                id=7,
                category=3,
                inverter=schema.InverterMetadata(type=99),
            ),
            schema.Component(id=8, category=3),
            schema.Component(id=9, category=11),
        ]
    )
    assert V0_15.list_components().decode(answer).components == [
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
    request = V0_15.list_connections({3, 1}, {2})
    assert request.message == schema.ConnectionFilter(starts=[1, 3], ends=[2])
    answer = schema.ConnectionList(connections=[schema.Connection(start=1, end=2)])
    assert request.decode(answer) == [Connection(1, 2)]


def test_metadata() -> None:
    decode = V0_15.get_metadata().decode
    assert decode(schema.MicrogridMetadata(microgrid_id=5)) == Metadata(microgrid_id=5)
    place = schema.Location(latitude=52.5, longitude=13.5)
    found = decode(schema.MicrogridMetadata(microgrid_id=5, location=place))
    assert found.location is not None
    assert (found.location.latitude, found.location.longitude) == (52.5, 13.5)


def test_commands() -> None:
    assert V0_15.set_power(3, -5.5).message == schema.SetPowerActiveParam(
        component_id=3, power=-5.5
    )
    assert V0_15.set_reactive_power(3, 7.25).message == schema.SetPowerReactiveParam(
        component_id=3, power=7.25
    )
    assert V0_15.add_inclusion_bounds(3, -1.5, 2.5).message == schema.SetBoundsParam(
        component_id=3,
        target_metric=1,
        bounds=schema.Bounds(lower=-1.5, upper=2.5),
    )


def test_largest_number_that_the_wire_holds_is_sent_as_it_is() -> None:
    largest = FLOAT32_MAX
    assert V0_15.set_power(3, largest).message.power == largest
    assert V0_15.set_power(3, -largest).message.power == -largest


@pytest.mark.parametrize("value", [math.nextafter(FLOAT32_MAX, math.inf), -1e39, 1e300])
def test_number_beyond_the_wire_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="power_w must be between"):
        check_float32("power_w", value)
