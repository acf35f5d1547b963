"""Translates what a simulated site says from version 0.15 of the API to v1alpha18.

A site's messages are made, and changed by faults, in version 0.15. What is absent there is absent
here; a number that is no state of the API stays one.
"""

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
from microgrid_sync.simulator.site import SiteCategory
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
    "meter": _TELEMETRY_ONLY,
    "battery": _TELEMETRY_ONLY,
    "inverter": _CONTROL_AND_TELEMETRY,
    "ev_charger": _CONTROL_AND_TELEMETRY,
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
    1: DiagnosticCode.SWITCH_ON_FAULT,
    2: DiagnosticCode.UNDERVOLTAGE,
    3: DiagnosticCode.OVERVOLTAGE,
    4: DiagnosticCode.OVERCURRENT,
    5: DiagnosticCode.OVERTEMPERATURE,
    6: DiagnosticCode.EV_UNEXPECTED_PILOT_FAILURE,
    7: DiagnosticCode.FAULT_CURRENT,
    8: DiagnosticCode.SHORT_CIRCUIT,
    9: DiagnosticCode.CONFIG_ERROR,
    10: DiagnosticCode.ILLEGAL_COMPONENT_STATE_CODE_REQUESTED,
    11: DiagnosticCode.HARDWARE_INACCESSIBLE,
    12: DiagnosticCode.INTERNAL,
    13: DiagnosticCode.EV_CHARGING_CABLE_UNPLUGGED_FROM_STATION,
    14: DiagnosticCode.EV_CHARGING_CABLE_LOCK_FAILED,
    15: DiagnosticCode.EV_CHARGING_CABLE_INVALID,
    16: DiagnosticCode.EV_CHARGING_CABLE_INVALID,
    17: DiagnosticCode.EV_CONSUMER_INCOMPATIBLE,
}
_ERRORS: dict[str, dict[int, DiagnosticCode]] = {
    "battery": {code.value: diagnostic for code, diagnostic in _BATTERY_ERRORS.items()},
    "ev_charger": _CHARGER_ERRORS,
}

_SENSOR_METRICS = {
    1: Metric.SENSOR_TEMPERATURE,
    2: Metric.SENSOR_RELATIVE_HUMIDITY,
    3: Metric.SENSOR_AIR_PRESSURE,
    4: Metric.SENSOR_IRRADIANCE,
}

_PHASES = (
    ("phase_1", Metric.AC_VOLTAGE_PHASE_1_N, Metric.AC_CURRENT_PHASE_1,
     Metric.AC_POWER_ACTIVE_PHASE_1, Metric.AC_POWER_REACTIVE_PHASE_1),
    ("phase_2", Metric.AC_VOLTAGE_PHASE_2_N, Metric.AC_CURRENT_PHASE_2,
     Metric.AC_POWER_ACTIVE_PHASE_2, Metric.AC_POWER_REACTIVE_PHASE_2),
    ("phase_3", Metric.AC_VOLTAGE_PHASE_3_N, Metric.AC_CURRENT_PHASE_3,
     Metric.AC_POWER_ACTIVE_PHASE_3, Metric.AC_POWER_REACTIVE_PHASE_3),
)  # fmt: skip

# What there is


def component_message(message: Any, microgrid_id: int, rated: tuple[float, float] | None) -> Any:
    """Describe a component.

    Args:
        message: Its description in version 0.15.
        microgrid_id: The site.
        rated: The power that it is rated for, in W, if it is.
    """
    kind = message.WhichOneof("metadata")
    category = next((c for c in SiteCategory if c.value == message.category), None)
    component = schema.ElectricalComponent(
        id=message.id,
        microgrid_id=microgrid_id,
        name=message.name,
        category=message.category if category is None else _CATEGORIES.get(category, category),
        manufacturer=message.manufacturer,
        model_name=message.model_name,
    )
    names = {2: "meter", 3: "inverter", 5: "battery", 6: "ev_charger"}
    component.operational_mode = _MODES.get(names.get(message.category, ""), 0)
    info = component.category_specific_info
    if kind == "grid":
        info.grid_connection_point.rated_fuse_current = message.grid.rated_fuse_current
    elif kind in ("inverter", "battery", "ev_charger"):
        getattr(info, kind).type = getattr(message, kind).type
    if rated is not None:
        metric = Metric.DC_POWER if names.get(message.category) == "battery" else 26
        bounds = component.metric_config_bounds.add(metric=metric).config_bounds
        bounds.lower, bounds.upper = rated
    return component


def sensor_message(message: Any, microgrid_id: int) -> Any:
    """Describe a sensor, given its description in version 0.15."""
    return schema.Sensor(id=message.id, microgrid_id=microgrid_id, name=message.name)


# What it measures


def telemetry_message(message: Any, metrics: Iterable[int] = ()) -> Any:
    """Say what a component measures.

    Args:
        message: Its data in version 0.15; not a sensor's.
        metrics: What somebody wants to know; none means all.
    """
    telemetry = schema.ElectricalComponentTelemetry(electrical_component_id=message.id)
    kind = message.WhichOneof("data")
    if kind is None:
        return telemetry
    body = getattr(message, kind)
    _add_samples(telemetry, message.ts, frozenset(metrics), _SAMPLES_OF[kind](body))
    states = list(_STATES_OF[kind](body.state))
    errors = list(body.errors)
    relay_failed = kind == "battery" and (body.state.relay_state == BatteryRelayState.ERROR.value)
    rejected = kind == "ev_charger" and (
        body.state.component_state == EVChargerComponentState.AUTHORIZATION_REJECTED.value
    )
    if states or errors or relay_failed or rejected:
        snapshot = telemetry.state_snapshots.add(origin_time=message.ts, states=states)
        if relay_failed:
            snapshot.errors.add(diagnostic_code=DiagnosticCode.BATTERY_RELAY_ERROR)
        if rejected:
            snapshot.errors.add(diagnostic_code=DiagnosticCode.UNAUTHORIZED)
        for error in errors:
            told = snapshot.warnings if error.level == _WARN else snapshot.errors
            code = _ERRORS.get(kind, {}).get(error.code, DiagnosticCode.UNKNOWN)
            told.add(diagnostic_code=code, message=error.msg)
    return telemetry


def sensor_telemetry_message(message: Any, metrics: Iterable[int] = ()) -> Any:
    """Say what a sensor measures, given its data in version 0.15."""
    telemetry = schema.SensorTelemetry(sensor_id=message.id)
    sensor = message.sensor
    samples = (
        (_SENSOR_METRICS[reading.sensor_metric], reading.value, None)
        for reading in sensor.data.sensor_data
        if reading.sensor_metric in _SENSOR_METRICS
    )
    _add_samples(telemetry, message.ts, frozenset(metrics), samples)
    state = sensor.state.component_state
    if state or sensor.errors:
        snapshot = telemetry.state_snapshots.add(origin_time=message.ts)
        if state:
            # The same numbers in both.
            snapshot.states.append(state)
        for error in sensor.errors:
            snapshot.errors.add(diagnostic_code=SensorDiagnosticCode.UNKNOWN, message=error.msg)
    return telemetry


_Sample = tuple[int, float, list[tuple[float, float]] | None]
"""A metric, its value, and the ranges that are allowed, if they are said."""


def _add_samples(
    telemetry: Any, stamp: Timestamp, wanted: frozenset[int], samples: Iterable[_Sample]
) -> None:
    for metric, value, ranges in samples:
        if wanted and metric not in wanted:
            continue
        sample = telemetry.metric_samples.add(sample_time=stamp, metric=metric)
        sample.value.simple_metric.value = value
        for lower, upper in ranges or ():
            sample.bounds.add(lower=lower, upper=upper)


def ranges_of(metric: Any, *, negated: bool = False) -> list[tuple[float, float]] | None:
    """Turn inclusion and exclusion bounds into the ranges that are allowed.

    Zero is always allowed, whatever the ranges; it is one of them where all others are on one side.
    """
    if not metric.HasField("system_inclusion_bounds"):
        return None
    included, excluded = metric.system_inclusion_bounds, metric.system_exclusion_bounds
    lower, upper = included.lower, included.upper
    if lower > upper:
        ranges = [(0.0, 0.0)]
    elif not excluded.lower < excluded.upper:
        ranges = [(lower, upper)]
    else:
        ranges = []
        if lower <= excluded.lower:
            ranges.append((lower, min(excluded.lower, upper)))
        if excluded.upper <= upper:
            ranges.append((max(excluded.upper, lower), upper))
        has_both_sides = any(high < 0 for _, high in ranges) and any(low > 0 for low, _ in ranges)
        if not has_both_sides and not any(low <= 0.0 <= high for low, high in ranges):
            ranges.append((0.0, 0.0))
        ranges.sort()
    if negated:
        ranges = [(0.0 - high, 0.0 - low) for low, high in reversed(ranges)]
    return ranges


def _samples_of_ac(ac: Any) -> Iterator[_Sample]:
    for name, metric in (("frequency", Metric.AC_FREQUENCY), ("current", Metric.AC_CURRENT)):
        if ac.HasField(name):
            yield metric, getattr(ac, name).value, ranges_of(getattr(ac, name))
    if ac.HasField("power_active"):
        yield Metric.AC_POWER_ACTIVE, ac.power_active.value, ranges_of(ac.power_active)
    if ac.HasField("power_reactive"):
        ranges = ranges_of(ac.power_reactive, negated=True)
        yield Metric.AC_POWER_REACTIVE, 0.0 - ac.power_reactive.value, ranges
    for name, voltage, current, active, reactive in _PHASES:
        phase = getattr(ac, name)
        if phase.HasField("voltage"):
            yield voltage, phase.voltage.value, None
        if phase.HasField("current"):
            yield current, phase.current.value, ranges_of(phase.current)
        if phase.HasField("power_active"):
            yield active, phase.power_active.value, None
        if phase.HasField("power_reactive"):
            yield reactive, 0.0 - phase.power_reactive.value, None


def _samples_of_battery(battery: Any) -> Iterator[_Sample]:
    data = battery.data
    if data.HasField("soc"):
        yield Metric.BATTERY_SOC_PCT, data.soc.avg, ranges_of(data.soc)
    if battery.HasField("properties"):
        yield Metric.BATTERY_CAPACITY, battery.properties.capacity, None
    if data.HasField("temperature"):
        yield Metric.BATTERY_TEMPERATURE, data.temperature.avg, None
    dc = data.dc
    for name, metric in (
        ("voltage", Metric.DC_VOLTAGE),
        ("current", Metric.DC_CURRENT),
        ("power", Metric.DC_POWER),
    ):
        if dc.HasField(name):
            yield metric, getattr(dc, name).value, ranges_of(getattr(dc, name))


_SAMPLES_OF: dict[str, Callable[[Any], Iterator[_Sample]]] = {
    "meter": lambda body: _samples_of_ac(body.data.ac),
    "inverter": lambda body: _samples_of_ac(body.data.ac),
    "ev_charger": lambda body: _samples_of_ac(body.data.ac),
    "battery": _samples_of_battery,
}


def _code(number: int, names: Callable[[int], Any], codes: dict[Any, StateCode]) -> Iterator[int]:
    """Give the code of a state; a number that has no name as it is."""
    try:
        state = names(number)
    except ValueError:
        yield number
        return
    if state in codes:
        yield codes[state]


def _charger_codes(state: Any) -> Iterator[int]:
    yield from _code(state.component_state, EVChargerComponentState, _CHARGER_STATES)
    # A cable's number without a name would be taken for one of an operating state.
    yield from _CABLE_STATES.get(EVChargerCableState.from_pb(state.cable_state), ())


def _battery_codes(state: Any) -> Iterator[int]:
    yield from _code(state.component_state, BatteryComponentState, _BATTERY_STATES)
    # As with a cable's.
    yield from _code(
        BatteryRelayState.from_pb(state.relay_state).value, BatteryRelayState, _RELAY_STATES
    )


_STATES_OF: dict[str, Callable[[Any], Iterator[int]]] = {
    "meter": lambda state: _code(state.component_state, int, _METER_STATES),
    "inverter": lambda state: _code(
        state.component_state, InverterComponentState, _INVERTER_STATES
    ),
    "ev_charger": _charger_codes,
    "battery": _battery_codes,
}
