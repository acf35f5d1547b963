"""Makes the protobuf messages, of version 0.15, of what a simulated site measures."""

from typing import Any

from frequenz.api.common import components_pb2, metrics_pb2
from frequenz.api.common.metrics import electrical_pb2
from frequenz.api.microgrid import (
    battery_pb2,
    common_pb2,
    ev_charger_pb2,
    inverter_pb2,
    meter_pb2,
    microgrid_pb2,
    sensor_pb2,
)
from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.simulator.charger import EVCharger
from microgrid_sync.simulator.devices import Commanded
from microgrid_sync.simulator.electricity import Flow, Line
from microgrid_sync.simulator.inverters import Battery, Inverter
from microgrid_sync.simulator.limits import Limits
from microgrid_sync.simulator.site import ComponentError, Site, SiteCategory, SiteComponent
from microgrid_sync.simulator.weather import Sky

_BODIES = {
    SiteCategory.METER: "meter",
    SiteCategory.INVERTER: "inverter",
    SiteCategory.BATTERY: "battery",
    SiteCategory.EV_CHARGER: "ev_charger",
    SiteCategory.SENSOR: "sensor",
}
"""The part of a data message that a category fills."""

_ERROR_CODES = {
    SiteCategory.BATTERY: battery_pb2.ErrorCode,
    SiteCategory.EV_CHARGER: ev_charger_pb2.ErrorCode,
    SiteCategory.INVERTER: inverter_pb2.ErrorCode,
    SiteCategory.METER: meter_pb2.ErrorCode,
    SiteCategory.SENSOR: sensor_pb2.ErrorCode,
}


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
    "thermometer": (sensor_pb2.SENSOR_METRIC_TEMPERATURE, _temperature),
    "hygrometer": (sensor_pb2.SENSOR_METRIC_HUMIDITY, _humidity),
    "barometer": (sensor_pb2.SENSOR_METRIC_PRESSURE, _pressure),
    "pyranometer": (sensor_pb2.SENSOR_METRIC_IRRADIANCE, _irradiance),
}
"""What each type of sensor measures, and how that follows from the weather."""


def error_codes(category: SiteCategory) -> list[str]:
    """Give the names of the errors that components of a category can report."""
    codes = _ERROR_CODES.get(category)
    return [] if codes is None else [name.removeprefix("ERROR_CODE_") for name in codes.keys()]  # noqa: SIM118 - no dict


def component_message(component: SiteComponent) -> microgrid_pb2.Component:
    """Describe a component."""
    message = microgrid_pb2.Component(
        id=component.component_id,
        name=component.name,
        category=components_pb2.ComponentCategory.ValueType(component.category.value),
    )
    if component.fuse is not None:
        message.grid.rated_fuse_current = round(component.fuse)
    kind = (component.type or "").upper()
    match component.category:
        case SiteCategory.INVERTER:
            message.inverter.type = components_pb2.InverterType.Value(f"INVERTER_TYPE_{kind}")
        case SiteCategory.BATTERY:
            message.battery.type = components_pb2.BATTERY_TYPE_LI_ION
        case SiteCategory.EV_CHARGER:
            message.ev_charger.type = components_pb2.EV_CHARGER_TYPE_AC
        case SiteCategory.SENSOR:
            message.sensor.type = components_pb2.SensorType.Value(f"SENSOR_TYPE_{kind}")
        case _:
            pass
    return message


def body_of(message: microgrid_pb2.ComponentData, component: SiteComponent) -> Any:
    """Give the part of a data message that the component's category fills."""
    return getattr(message, _BODIES[component.category])


def data_message(site: Site, component: SiteComponent) -> microgrid_pb2.ComponentData:
    """Say what a component measures now."""
    stamp = Timestamp()
    stamp.FromDatetime(site.time)
    component_id = component.component_id
    message = microgrid_pb2.ComponentData(ts=stamp, id=component_id)
    error = site.errors.get(component_id)
    match component.category:
        case SiteCategory.METER:
            state = meter_pb2.COMPONENT_STATE_ERROR if error else meter_pb2.COMPONENT_STATE_OK
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


def _add_error(
    message: microgrid_pb2.ComponentData, component: SiteComponent, error: ComponentError
) -> None:
    code = _ERROR_CODES[component.category].Value(f"ERROR_CODE_{error.code}")
    errors = getattr(message, _BODIES[component.category]).errors
    errors.add(code=code, level=common_pb2.ERROR_LEVEL_CRITICAL, msg=error.message)


def _fill_battery(message: battery_pb2.Battery, battery: Battery) -> None:
    message.properties.capacity = battery.capacity
    message.state.component_state = battery_pb2.ComponentState.ValueType(battery.state.value)
    message.state.relay_state = battery_pb2.RelayState.ValueType(battery.relay_state.value)
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


def _fill_inverter(message: inverter_pb2.Inverter, device: Inverter, line: Line) -> None:
    message.state.component_state = inverter_pb2.ComponentState.ValueType(device.state.value)
    _fill_commanded(message.data.ac, device, line)
    if device.peak:
        message.data.dc_solar.power.value = -device.solar_power
    if device.batteries:
        message.data.dc_battery.power.value = sum(battery.power for battery in device.batteries)


def _fill_ev_charger(message: ev_charger_pb2.EvCharger, device: EVCharger, line: Line) -> None:
    message.state.component_state = ev_charger_pb2.ComponentState.ValueType(device.state.value)
    message.state.cable_state = ev_charger_pb2.CableState.ValueType(device.cable_state.value)
    _fill_commanded(message.data.ac, device, line)


def _fill_sensor(
    message: sensor_pb2.Sensor, component: SiteComponent, sky: Sky, error: ComponentError | None
) -> None:
    state = sensor_pb2.COMPONENT_STATE_ERROR if error else sensor_pb2.COMPONENT_STATE_OK
    message.state.component_state = state
    metric, measure = SENSOR_TYPES[component.type or ""]
    message.data.sensor_data.add(value=measure(sky), sensor_metric=metric)


def _fill_commanded(ac: electrical_pb2.AC, device: Commanded, line: Line) -> None:
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


def _fill_limits(metric: metrics_pb2.Metric, limits: Limits) -> None:
    _fill_bounds(metric.rated_bounds, (limits.lower, limits.upper))
    _fill_bounds(metric.system_inclusion_bounds, limits.inclusion_bounds())
    _fill_bounds(metric.system_exclusion_bounds, limits.exclusion_bounds())


def _fill_bounds(message: metrics_pb2.Bounds, bounds: tuple[float, float]) -> None:
    message.lower, message.upper = bounds


def _fill_ac(ac: electrical_pb2.AC, flow: Flow, line: Line) -> None:
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
