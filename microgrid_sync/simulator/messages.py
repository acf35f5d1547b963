"""Makes the protobuf messages, of version 0.15, of what a simulated site measures."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.model import BatteryErrorCode
from microgrid_sync.simulator.charger import EVCharger
from microgrid_sync.simulator.devices import Commanded
from microgrid_sync.simulator.electricity import Flow, Line
from microgrid_sync.simulator.inverters import Battery, Inverter
from microgrid_sync.simulator.limits import Limits
from microgrid_sync.simulator.site import ComponentError, Site, SiteCategory, SiteComponent
from microgrid_sync.simulator.weather import Sky
from microgrid_sync.wire import v0_15_schema as schema

_BODIES = {
    SiteCategory.METER: "meter",
    SiteCategory.INVERTER: "inverter",
    SiteCategory.BATTERY: "battery",
    SiteCategory.EV_CHARGER: "ev_charger",
    SiteCategory.SENSOR: "sensor",
}
"""The part of a data message that a category fills."""

_UNSPECIFIED_ALONE = ("UNSPECIFIED",)

_ERROR_CODES: dict[SiteCategory, tuple[str, ...]] = {
    SiteCategory.BATTERY: tuple(code.name for code in BatteryErrorCode),
    SiteCategory.EV_CHARGER: (
        "UNSPECIFIED", "SWITCH_ON_FAULT", "UNDERVOLTAGE", "OVERVOLTAGE", "OVERCURRENT",
        "OVERTEMPERATURE", "UNEXPECTED_PILOT_FAILURE", "FAULT_CURRENT", "SHORT_CIRCUIT",
        "CONFIG_ERROR", "ILLEGAL_COMPONENT_STATE_REQUESTED", "HARDWARE_INACCESSIBLE", "INTERNAL",
        "CABLE_LOST", "CABLE_LOCK_FAILED", "CABLE_INVALID", "PLUG_UNKNOWN",
        "CONSUMER_NON_STANDARD",
    ),
    SiteCategory.INVERTER: _UNSPECIFIED_ALONE,
    SiteCategory.METER: _UNSPECIFIED_ALONE,
    SiteCategory.SENSOR: _UNSPECIFIED_ALONE,
}  # fmt: skip
"""The API's words for errors, by number."""

_CRITICAL = 2
"""The level of an error."""

_STATE_OK, _STATE_ERROR = 1, 2
"""The states of meters and sensors."""

_LI_ION, _AC_CHARGER = 1, 1
"""The types of all batteries, and of all chargers."""

_INVERTER_TYPES = {"battery": 1, "solar": 2, "hybrid": 3}
_SENSOR_TYPE_NUMBERS = {"thermometer": 1, "hygrometer": 2, "barometer": 3, "pyranometer": 4}


def _temperature(sky: Sky) -> float:
    return sky.temperature


def _humidity(sky: Sky) -> float:
    """In %: cool and cloudy air is moist."""
    return min(max(50.0 + 30.0 * sky.cloud_cover - 1.5 * (sky.temperature - 15.0), 15.0), 100.0)


def _pressure(sky: Sky) -> float:
    """In Pa: clouds come with low pressure."""
    return 102_300.0 - 2000.0 * sky.cloud_cover


def _irradiance(sky: Sky) -> float:
    return sky.irradiance


SENSOR_TYPES = {
    "thermometer": (1, _temperature),
    "hygrometer": (2, _humidity),
    "barometer": (3, _pressure),
    "pyranometer": (4, _irradiance),
}
"""What each type of sensor measures, and how that follows from the weather."""


def error_codes(category: SiteCategory) -> list[str]:
    """Give the names of the errors that components of a category can report."""
    return list(_ERROR_CODES.get(category, ()))


def component_message(component: SiteComponent) -> Any:
    """Describe a component."""
    message = schema.Component(
        id=component.component_id,
        name=component.name,
        category=component.category.value,
    )
    if component.fuse is not None:
        message.grid.rated_fuse_current = round(component.fuse)
    kind = component.type or ""
    match component.category:
        case SiteCategory.INVERTER:
            message.inverter.type = _INVERTER_TYPES[kind]
        case SiteCategory.BATTERY:
            message.battery.type = _LI_ION
        case SiteCategory.EV_CHARGER:
            message.ev_charger.type = _AC_CHARGER
        case SiteCategory.SENSOR:
            message.sensor.type = _SENSOR_TYPE_NUMBERS[kind]
        case _:
            pass
    return message


def body_of(message: Any, component: SiteComponent) -> Any:
    """Give the part of a data message that the component's category fills."""
    return getattr(message, _BODIES[component.category])


def data_message(site: Site, component: SiteComponent) -> Any:
    """Say what a component measures now."""
    stamp = Timestamp()
    stamp.FromDatetime(site.time)
    component_id = component.component_id
    message = schema.ComponentData(ts=stamp, id=component_id)
    error = site.errors.get(component_id)
    match component.category:
        case SiteCategory.METER:
            state = _STATE_ERROR if error else _STATE_OK
            message.meter.state.component_state = state
            _fill_ac(message.meter.data.ac, site.flows[component_id], site.line)
        case SiteCategory.BATTERY:
            _fill_battery(message.battery, site.batteries[component_id])
        case SiteCategory.INVERTER:
            _fill_inverter(message.inverter, site.inverter(component_id), site.line)
        case SiteCategory.EV_CHARGER:
            _fill_ev_charger(message.ev_charger, site.charger(component_id), site.line)
        case SiteCategory.SENSOR:
            _fill_sensor(message.sensor, component, site.sky, error)
        case _:
            raise ValueError(f"{component.category.name} has no data")
    if error is not None:
        _add_error(message, component, error)
    return message


def _add_error(message: Any, component: SiteComponent, error: ComponentError) -> None:
    code = _ERROR_CODES[component.category].index(error.code)
    errors = getattr(message, _BODIES[component.category]).errors
    errors.add(code=code, level=_CRITICAL, msg=error.message)


def _fill_battery(message: Any, battery: Battery) -> None:
    message.properties.capacity = battery.capacity
    message.state.component_state = battery.state.value
    message.state.relay_state = battery.relay_state.value
    data = message.data
    data.soc.avg = battery.soc
    _fill_bounds(data.soc.system_inclusion_bounds, (battery.soc_lower, battery.soc_upper))
    data.temperature.avg = battery.temperature
    data.dc.voltage.value = battery.voltage
    data.dc.current.value = battery.power / battery.voltage
    data.dc.power.value = battery.power
    _fill_bounds(data.dc.power.rated_bounds, (-battery.rating, battery.rating))
    _fill_bounds(data.dc.power.system_inclusion_bounds, battery.bounds())
    _fill_bounds(data.dc.power.system_exclusion_bounds, (0.0, 0.0))


def _fill_inverter(message: Any, device: Inverter, line: Line) -> None:
    message.state.component_state = device.state.value
    _fill_commanded(message.data.ac, device, line)
    if device.peak:
        message.data.dc_solar.power.value = -device.solar_power
    if device.batteries:
        message.data.dc_battery.power.value = sum(battery.power for battery in device.batteries)


def _fill_ev_charger(message: Any, device: EVCharger, line: Line) -> None:
    message.state.component_state = device.state.value
    message.state.cable_state = device.cable_state.value
    _fill_commanded(message.data.ac, device, line)


def _fill_sensor(
    message: Any, component: SiteComponent, sky: Sky, error: ComponentError | None
) -> None:
    state = _STATE_ERROR if error else _STATE_OK
    message.state.component_state = state
    metric, measure = SENSOR_TYPES[component.type or ""]
    message.data.sensor_data.add(value=measure(sky), sensor_metric=metric)


def _fill_commanded(ac: Any, device: Commanded, line: Line) -> None:
    _fill_ac(ac, device.flow, line)
    _fill_limits(ac.power_active, device.active)
    _fill_limits(ac.power_reactive, device.reactive)
    phases = (ac.phase_1, ac.phase_2, ac.phase_3)
    metrics = [(ac.current, device.current)]
    metrics += [
        (phase.current, limits)
        for phase, limits in zip(phases, device.current_per_phase, strict=True)
    ]
    for metric, limits in metrics:
        if limits.inclusion:
            _fill_bounds(metric.system_inclusion_bounds, limits.inclusion_bounds())
        if limits.exclusion:
            _fill_bounds(metric.system_exclusion_bounds, limits.exclusion_bounds())


def _fill_limits(metric: Any, limits: Limits) -> None:
    _fill_bounds(metric.rated_bounds, (limits.lower, limits.upper))
    _fill_bounds(metric.system_inclusion_bounds, limits.inclusion_bounds())
    _fill_bounds(metric.system_exclusion_bounds, limits.exclusion_bounds())


def _fill_bounds(message: Any, bounds: tuple[float, float]) -> None:
    message.lower, message.upper = bounds


def _fill_ac(ac: Any, flow: Flow, line: Line) -> None:
    currents = flow.current(line)
    ac.frequency.value = line.frequency
    ac.current.value = sum(currents)
    ac.power_active.value = sum(flow.active)
    ac.power_reactive.value = sum(flow.reactive)
    phases = (ac.phase_1, ac.phase_2, ac.phase_3)
    for number, phase in enumerate(phases):
        phase.voltage.value = line.voltage[number]
        phase.current.value = currents[number]
        phase.power_active.value = flow.active[number]
        phase.power_reactive.value = flow.reactive[number]
