"""Makes the messages of v1alpha18 of a site's components and of what they say.

What is absent in a reading is absent here; a number that is no state of the API stays one.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.model import (
    BatteryComponentState,
    BatteryErrorCode,
    BatteryRelayState,
    EVChargerCableState,
    EVChargerComponentState,
    InverterComponentState,
)
from microgrid_sync.model.telemetry_codes import (
    DiagnosticCode,
    Metric,
    SensorDiagnosticCode,
    StateCode,
)
from microgrid_sync.simulator.physics.components import SiteCategory, SiteComponent
from microgrid_sync.simulator.physics.readings import Reading, Values
from microgrid_sync.simulator.serving.v0_15_messages import stamp_of, type_number
from microgrid_sync.simulator.trouble.paths import BODIES
from microgrid_sync.wire import v1alpha18_schema as schema

_CATEGORIES = {
    SiteCategory.RELAY: 7,
    SiteCategory.PRECHARGE_MODULE: 8,
    SiteCategory.CHP: 9,
    SiteCategory.ELECTROLYZER: 10,
    SiteCategory.CRYPTO_MINER: 14,
}
"""The numbers of categories that are not those of version 0.15."""

_TELEMETRY_ONLY, _CONTROL_AND_TELEMETRY = 2, 4
"""Operational modes."""

_MODES = {
    SiteCategory.METER: _TELEMETRY_ONLY,
    SiteCategory.BATTERY: _TELEMETRY_ONLY,
    SiteCategory.INVERTER: _CONTROL_AND_TELEMETRY,
    SiteCategory.EV_CHARGER: _CONTROL_AND_TELEMETRY,
}

_WARN = 1
"""The level of an error that is none yet."""

_CHARGER_STATES = {
    EVChargerComponentState.STARTING: StateCode.SWITCHING_ON,
    EVChargerComponentState.NOT_READY: StateCode.UNAVAILABLE,
    EVChargerComponentState.READY: StateCode.READY,
    EVChargerComponentState.CHARGING: StateCode.CHARGING,
    EVChargerComponentState.DISCHARGING: StateCode.DISCHARGING,
    EVChargerComponentState.ERROR: StateCode.ERROR,
    EVChargerComponentState.AUTHORIZATION_REJECTED: StateCode.UNAVAILABLE,
    EVChargerComponentState.INTERRUPTED: StateCode.STANDBY,
    EVChargerComponentState.UNKNOWN: StateCode.UNKNOWN,
}
_CABLE_STATES = {
    EVChargerCableState.UNPLUGGED: (StateCode.EV_CHARGING_CABLE_UNPLUGGED,),
    EVChargerCableState.CHARGING_STATION_PLUGGED: (StateCode.EV_CHARGING_CABLE_PLUGGED_AT_STATION,),
    EVChargerCableState.CHARGING_STATION_LOCKED: (StateCode.EV_CHARGING_CABLE_LOCKED_AT_STATION,),
    # A cable has two ends, and there are clients that want to hear of both.
    EVChargerCableState.EV_PLUGGED: (
        StateCode.EV_CHARGING_CABLE_PLUGGED_AT_STATION,
        StateCode.EV_CHARGING_CABLE_PLUGGED_AT_EV,
    ),
    EVChargerCableState.EV_LOCKED: (
        StateCode.EV_CHARGING_CABLE_LOCKED_AT_STATION,
        StateCode.EV_CHARGING_CABLE_LOCKED_AT_EV,
    ),
}
_INVERTER_STATES = {
    InverterComponentState.OFF: StateCode.OFF,
    InverterComponentState.SWITCHING_ON: StateCode.SWITCHING_ON,
    InverterComponentState.SWITCHING_OFF: StateCode.SWITCHING_OFF,
    InverterComponentState.STANDBY: StateCode.STANDBY,
    InverterComponentState.IDLE: StateCode.READY,
    InverterComponentState.CHARGING: StateCode.CHARGING,
    InverterComponentState.DISCHARGING: StateCode.DISCHARGING,
    InverterComponentState.ERROR: StateCode.ERROR,
    InverterComponentState.UNAVAILABLE: StateCode.UNAVAILABLE,
    InverterComponentState.UNKNOWN: StateCode.UNKNOWN,
}
_BATTERY_STATES = {
    BatteryComponentState.OFF: StateCode.OFF,
    BatteryComponentState.IDLE: StateCode.READY,
    BatteryComponentState.CHARGING: StateCode.CHARGING,
    BatteryComponentState.DISCHARGING: StateCode.DISCHARGING,
    BatteryComponentState.ERROR: StateCode.ERROR,
    BatteryComponentState.LOCKED: StateCode.UNAVAILABLE,
    BatteryComponentState.SWITCHING_ON: StateCode.SWITCHING_ON,
    BatteryComponentState.SWITCHING_OFF: StateCode.SWITCHING_OFF,
    BatteryComponentState.UNKNOWN: StateCode.UNKNOWN,
}
_RELAY_STATES = {
    BatteryRelayState.OPENED: StateCode.RELAY_OPEN,
    BatteryRelayState.PRECHARGING: StateCode.PRECHARGER_PRECHARGING,
    BatteryRelayState.CLOSED: StateCode.RELAY_CLOSED,
    BatteryRelayState.LOCKED: StateCode.RELAY_OPEN,
}
_METER_STATES = {1: StateCode.READY, 2: StateCode.ERROR}

_BATTERY_ERRORS = {
    BatteryErrorCode.HIGH_CURRENT_CHARGE: DiagnosticCode.OVERCURRENT_CHARGING,
    BatteryErrorCode.HIGH_CURRENT_DISCHARGE: DiagnosticCode.OVERCURRENT_DISCHARGING,
    BatteryErrorCode.HIGH_VOLTAGE: DiagnosticCode.OVERVOLTAGE,
    BatteryErrorCode.LOW_VOLTAGE: DiagnosticCode.UNDERVOLTAGE,
    BatteryErrorCode.HIGH_TEMPERATURE: DiagnosticCode.OVERTEMPERATURE,
    BatteryErrorCode.LOW_TEMPERATURE: DiagnosticCode.UNDERTEMPERATURE,
    BatteryErrorCode.HIGH_HUMIDITY: DiagnosticCode.HIGH_HUMIDITY,
    BatteryErrorCode.SYSTEM_IMBALANCE: DiagnosticCode.BATTERY_IMBALANCE,
    BatteryErrorCode.LOW_SOH: DiagnosticCode.BATTERY_LOW_SOH,
    BatteryErrorCode.BLOCK_ERROR: DiagnosticCode.BATTERY_BLOCK_ERROR,
    BatteryErrorCode.CONTROLLER_ERROR: DiagnosticCode.BATTERY_CONTROLLER_ERROR,
    BatteryErrorCode.RELAY_ERROR: DiagnosticCode.BATTERY_RELAY_ERROR,
    BatteryErrorCode.RELAY_CYCLE_LIMIT_REACHED: DiagnosticCode.RELAY_CYCLE_LIMIT_REACHED,
    BatteryErrorCode.FUSE_ERROR: DiagnosticCode.FUSE_ERROR,
    BatteryErrorCode.PRECHARGE_ERROR: DiagnosticCode.PRECHARGE_ERROR,
    BatteryErrorCode.SYSTEM_PLAUSIBILITY_ERROR: DiagnosticCode.PLAUSIBILITY_ERROR,
    BatteryErrorCode.CALIBRATION_NEEDED: DiagnosticCode.BATTERY_CALIBRATION_NEEDED,
}
_CHARGER_ERRORS = {
    "SWITCH_ON_FAULT": DiagnosticCode.SWITCH_ON_FAULT,
    "UNDERVOLTAGE": DiagnosticCode.UNDERVOLTAGE,
    "OVERVOLTAGE": DiagnosticCode.OVERVOLTAGE,
    "OVERCURRENT": DiagnosticCode.OVERCURRENT,
    "OVERTEMPERATURE": DiagnosticCode.OVERTEMPERATURE,
    "UNEXPECTED_PILOT_FAILURE": DiagnosticCode.EV_UNEXPECTED_PILOT_FAILURE,
    "FAULT_CURRENT": DiagnosticCode.FAULT_CURRENT,
    "SHORT_CIRCUIT": DiagnosticCode.SHORT_CIRCUIT,
    "CONFIG_ERROR": DiagnosticCode.CONFIG_ERROR,
    "ILLEGAL_COMPONENT_STATE_REQUESTED": DiagnosticCode.ILLEGAL_COMPONENT_STATE_CODE_REQUESTED,
    "HARDWARE_INACCESSIBLE": DiagnosticCode.HARDWARE_INACCESSIBLE,
    "INTERNAL": DiagnosticCode.INTERNAL,
    "CABLE_LOST": DiagnosticCode.EV_CHARGING_CABLE_UNPLUGGED_FROM_STATION,
    "CABLE_LOCK_FAILED": DiagnosticCode.EV_CHARGING_CABLE_LOCK_FAILED,
    "CABLE_INVALID": DiagnosticCode.EV_CHARGING_CABLE_INVALID,
    "PLUG_UNKNOWN": DiagnosticCode.EV_CHARGING_CABLE_INVALID,
    "CONSUMER_NON_STANDARD": DiagnosticCode.EV_CONSUMER_INCOMPATIBLE,
}
_ERRORS: dict[SiteCategory, dict[str, DiagnosticCode]] = {
    SiteCategory.BATTERY: {code.name: diagnostic for code, diagnostic in _BATTERY_ERRORS.items()},
    SiteCategory.EV_CHARGER: _CHARGER_ERRORS,
}

_SENSOR_METRICS = {
    1: Metric.SENSOR_TEMPERATURE,
    2: Metric.SENSOR_RELATIVE_HUMIDITY,
    3: Metric.SENSOR_AIR_PRESSURE,
    4: Metric.SENSOR_IRRADIANCE,
}

_WHOLE = (
    ("frequency", Metric.AC_FREQUENCY),
    ("current", Metric.AC_CURRENT),
    ("power_active", Metric.AC_POWER_ACTIVE),
)
_PHASES = tuple(
    (
        name,
        (
            ("voltage", voltage),
            ("current", current),
            ("power_active", active),
            ("power_reactive", reactive),
        ),
    )
    for name, voltage, current, active, reactive in (
        ("phase_1", Metric.AC_VOLTAGE_PHASE_1_N, Metric.AC_CURRENT_PHASE_1,
         Metric.AC_POWER_ACTIVE_PHASE_1, Metric.AC_POWER_REACTIVE_PHASE_1),
        ("phase_2", Metric.AC_VOLTAGE_PHASE_2_N, Metric.AC_CURRENT_PHASE_2,
         Metric.AC_POWER_ACTIVE_PHASE_2, Metric.AC_POWER_REACTIVE_PHASE_2),
        ("phase_3", Metric.AC_VOLTAGE_PHASE_3_N, Metric.AC_CURRENT_PHASE_3,
         Metric.AC_POWER_ACTIVE_PHASE_3, Metric.AC_POWER_REACTIVE_PHASE_3),
    )
)  # fmt: skip
_DIRECT = (
    ("voltage", Metric.DC_VOLTAGE),
    ("current", Metric.DC_CURRENT),
    ("power", Metric.DC_POWER),
)

# What there is


def component_message(
    component: SiteComponent, microgrid_id: int, rated: tuple[float, float] | None
) -> Any:
    """Describe a component; not a sensor.

    Args:
        component: The component.
        microgrid_id: The site.
        rated: The power that it is rated for, in W, if it is.
    """
    category = component.category
    message = schema.ElectricalComponent(
        id=component.component_id,
        microgrid_id=microgrid_id,
        name=component.name,
        category=_CATEGORIES.get(category, category.value),
        operational_mode=_MODES.get(category, 0),
    )
    info = message.category_specific_info
    if component.fuse is not None:
        info.grid_connection_point.rated_fuse_current = round(component.fuse)
    number = type_number(component)
    if number is not None:
        getattr(info, BODIES[category]).type = number
    if rated is not None:
        is_battery = category is SiteCategory.BATTERY
        metric = Metric.DC_POWER if is_battery else Metric.AC_POWER_ACTIVE
        bounds = message.metric_config_bounds.add(metric=metric).config_bounds
        bounds.lower, bounds.upper = rated
    return message


def sensor_message(component: SiteComponent, microgrid_id: int) -> Any:
    """Describe a sensor."""
    return schema.Sensor(id=component.component_id, microgrid_id=microgrid_id, name=component.name)


# What it measures


@functools.lru_cache(maxsize=1000)
def encoder(metrics: frozenset[int]) -> Callable[[Reading], bytes]:
    """Give what says what a component has measured.

    Args:
        metrics: What somebody wants to know; none means all. The same metrics have the same
            encoder.
    """

    def encode(reading: Reading) -> bytes:
        response: Any
        if reading.category is SiteCategory.SENSOR:
            telemetry = _sensor_telemetry(reading, metrics)
            response = schema.ReceiveSensorTelemetryStreamResponse(telemetry=telemetry)
        else:
            telemetry = _telemetry(reading, metrics)
            response = schema.ReceiveElectricalComponentTelemetryStreamResponse(telemetry=telemetry)
        serialized: bytes = response.SerializeToString()
        return serialized

    return encode


# Messages are made of dictionaries at once: half the work of setting field by field.


def _telemetry(reading: Reading, metrics: frozenset[int]) -> Values:
    """Say what a component has measured; not a sensor."""
    stamp = stamp_of(reading.time)
    values, category = reading.said(), reading.category
    is_battery = category is SiteCategory.BATTERY
    samples = _samples_of_battery(values) if is_battery else _samples_of_ac(values)
    telemetry: Values = {
        "electrical_component_id": reading.component_id,
        "metric_samples": _metric_samples(stamp, metrics, samples),
    }
    state = values.get("state", {})
    states = list(_STATES_OF[category](state))
    errors: list[Values] = []
    warnings: list[Values] = []
    if is_battery and state.get("relay_state") == BatteryRelayState.ERROR.value:
        errors.append({"diagnostic_code": DiagnosticCode.BATTERY_RELAY_ERROR})
    rejected = EVChargerComponentState.AUTHORIZATION_REJECTED.value
    if category is SiteCategory.EV_CHARGER and state.get("component_state") == rejected:
        errors.append({"diagnostic_code": DiagnosticCode.UNAUTHORIZED})
    for error in values.get("errors", ()):
        told = warnings if error["level"] == _WARN else errors
        code = _ERRORS.get(category, {}).get(error["code"], DiagnosticCode.UNKNOWN)
        told.append({"diagnostic_code": code, "message": error["msg"]})
    if states or errors or warnings:
        snapshot = {
            "origin_time": stamp,
            "states": states,
            "errors": errors,
            "warnings": warnings,
        }
        telemetry["state_snapshots"] = [snapshot]
    return telemetry


def _sensor_telemetry(reading: Reading, metrics: frozenset[int]) -> Values:
    """Say what a sensor has measured."""
    stamp = stamp_of(reading.time)
    values = reading.said()
    samples = (
        (_SENSOR_METRICS[measured["sensor_metric"]], measured["value"], ())
        for measured in values.get("data", {}).get("sensor_data", ())
    )
    telemetry: Values = {
        "sensor_id": reading.component_id,
        "metric_samples": _metric_samples(stamp, metrics, samples),
    }
    state = values.get("state", {}).get("component_state", 0)
    errors = [
        {"diagnostic_code": SensorDiagnosticCode.UNKNOWN, "message": error["msg"]}
        for error in values.get("errors", ())
    ]
    if state or errors:
        # The same numbers of states in both generations.
        states = [state] if state else []
        snapshot = {"origin_time": stamp, "states": states, "errors": errors}
        telemetry["state_snapshots"] = [snapshot]
    return telemetry


_Ranges = Iterable[tuple[float, float]]
_Sample = tuple[int, float, _Ranges]
"""A metric, its value, and the ranges that are allowed, if they are said."""


def _metric_samples(
    stamp: Timestamp, wanted: frozenset[int], samples: Iterable[_Sample]
) -> list[Values]:
    return [
        {
            "sample_time": stamp,
            "metric": metric,
            "value": {"simple_metric": {"value": value}},
            "bounds": [{"lower": lower, "upper": upper} for lower, upper in ranges],
        }
        for metric, value, ranges in samples
        if not wanted or metric in wanted
    ]


def _ranges_of(measured: Values, *, negated: bool = False) -> list[tuple[float, float]]:
    """Turn inclusion and exclusion bounds into the ranges that are allowed; none if none are said.

    Zero is always allowed, whatever the ranges; it is one of them where all others are on one side.
    """
    included = measured.get("system_inclusion_bounds")
    if included is None:
        return []
    lower, upper = _ends(included)
    excluded_lower, excluded_upper = _ends(measured.get("system_exclusion_bounds", {}))
    if lower > upper:
        ranges = [(0.0, 0.0)]
    elif not excluded_lower < excluded_upper:
        ranges = [(lower, upper)]
    else:
        ranges = []
        if lower <= excluded_lower:
            ranges.append((lower, min(excluded_lower, upper)))
        if excluded_upper <= upper:
            ranges.append((max(excluded_upper, lower), upper))
        has_both_sides = any(high < 0 for _, high in ranges) and any(low > 0 for low, _ in ranges)
        if not has_both_sides and not any(low <= 0.0 <= high for low, high in ranges):
            ranges.append((0.0, 0.0))
        ranges.sort()
    if negated:
        ranges = [(0.0 - high, 0.0 - low) for low, high in reversed(ranges)]
    return ranges


def _ends(bounds: Values) -> tuple[float, float]:
    return bounds.get("lower", 0.0), bounds.get("upper", 0.0)


def _samples_of_ac(values: Values) -> Iterator[_Sample]:
    ac = values.get("data", {}).get("ac", {})
    for name, metric in _WHOLE:
        measured = ac.get(name)
        if measured is not None:
            yield metric, measured.get("value", 0.0), _ranges_of(measured)
    reactive = ac.get("power_reactive")
    if reactive is not None:
        # What is inductive is positive here, and negative in the site.
        ranges = _ranges_of(reactive, negated=True)
        yield Metric.AC_POWER_REACTIVE, 0.0 - reactive.get("value", 0.0), ranges
    for name, metrics in _PHASES:
        phase = ac.get(name)
        if phase is None:
            continue
        for quantity, metric in metrics:
            measured = phase.get(quantity)
            if measured is None:
                continue
            value = measured.get("value", 0.0)
            if quantity == "power_reactive":
                value = 0.0 - value
            yield metric, value, _ranges_of(measured) if quantity == "current" else ()


def _samples_of_battery(values: Values) -> Iterator[_Sample]:
    data = values.get("data", {})
    soc = data.get("soc")
    if soc is not None:
        yield Metric.BATTERY_SOC_PCT, soc.get("avg", 0.0), _ranges_of(soc)
    properties = values.get("properties")
    if properties is not None:
        yield Metric.BATTERY_CAPACITY, properties.get("capacity", 0.0), ()
    temperature = data.get("temperature")
    if temperature is not None:
        yield Metric.BATTERY_TEMPERATURE, temperature.get("avg", 0.0), ()
    dc = data.get("dc", {})
    for name, metric in _DIRECT:
        measured = dc.get(name)
        if measured is not None:
            yield metric, measured.get("value", 0.0), _ranges_of(measured)


def _code(number: int, names: Callable[[int], Any], codes: dict[Any, StateCode]) -> Iterator[int]:
    """Give the code of a state; a number that has no name as it is."""
    try:
        state = names(number)
    except ValueError:
        yield number
        return
    if state in codes:
        yield codes[state]


def _charger_codes(state: Values) -> Iterator[int]:
    yield from _code(state.get("component_state", 0), EVChargerComponentState, _CHARGER_STATES)
    # A cable's number without a name would be taken for one of an operating state.
    cable = EVChargerCableState.from_pb(state.get("cable_state", 0))
    yield from _CABLE_STATES.get(cable, ())


def _battery_codes(state: Values) -> Iterator[int]:
    yield from _code(state.get("component_state", 0), BatteryComponentState, _BATTERY_STATES)
    # As with a cable's.
    relay = BatteryRelayState.from_pb(state.get("relay_state", 0)).value
    yield from _code(relay, BatteryRelayState, _RELAY_STATES)


_STATES_OF: dict[SiteCategory, Callable[[Values], Iterator[int]]] = {
    SiteCategory.METER: lambda state: _code(state.get("component_state", 0), int, _METER_STATES),
    SiteCategory.INVERTER: lambda state: _code(
        state.get("component_state", 0), InverterComponentState, _INVERTER_STATES
    ),
    SiteCategory.EV_CHARGER: _charger_codes,
    SiteCategory.BATTERY: _battery_codes,
}
