"""Says what a component measures, as plain values that each generation of the API is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from microgrid_sync.simulator.physics.charger import EVCharger
from microgrid_sync.simulator.physics.components import (
    IN_ERROR,
    OK,
    ComponentError,
    SiteCategory,
    SiteComponent,
)
from microgrid_sync.simulator.physics.devices import Commanded
from microgrid_sync.simulator.physics.electricity import Flow, Line
from microgrid_sync.simulator.physics.inverters import Battery, Inverter
from microgrid_sync.simulator.physics.limits import Limits
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.simulator.physics.weather import Sky

Values = dict[str, Any]
"""Numbers, and more of these, by name."""

_CRITICAL = 2
"""The level of an error."""


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


SENSOR_TYPES: dict[str, tuple[int, Callable[[Sky], float]]] = {
    "thermometer": (1, _temperature),
    "hygrometer": (2, _humidity),
    "barometer": (3, _pressure),
    "pyranometer": (4, _irradiance),
}
"""What each type of sensor measures, by its number, and how that follows from the weather."""


@dataclass
class Reading:
    """What a component says at one instant. It belongs to whoever has asked for it."""

    component_id: int
    category: SiteCategory
    time: datetime
    """In UTC."""

    values: Values
    """What it says: ``state``, ``data`` and so on. Names and numbers of states are those of version
    0.15 of the API, in which descriptions of faults name them; what is absent is not measured."""


def read(site: Site, component: SiteComponent) -> Reading:
    """Say what a component measures now.

    Raises:
        ValueError: If its category has no data.
    """
    component_id = component.component_id
    error = site.errors.get(component_id)
    match component.category:
        case SiteCategory.METER:
            values: Values = {
                "state": _plain_state(error),
                "data": {"ac": _alternating_current(site.flows[component_id], site.line)},
            }
        case SiteCategory.BATTERY:
            values = _of_battery(site.batteries[component_id])
        case SiteCategory.INVERTER:
            values = _of_inverter(site.inverter(component_id), site.line)
        case SiteCategory.EV_CHARGER:
            values = _of_charger(site.charger(component_id), site.line)
        case SiteCategory.SENSOR:
            values = _of_sensor(component, site.sky, error)
        case _:
            raise ValueError(f"{component.category.name} has no data")
    if error is not None:
        values["errors"] = [{"code": error.code, "level": _CRITICAL, "msg": error.message}]
    return Reading(component_id, component.category, site.time, values)


def _plain_state(error: ComponentError | None) -> Values:
    return {"component_state": IN_ERROR if error else OK}


def _of_battery(battery: Battery) -> Values:
    return {
        "properties": {"capacity": battery.capacity},
        "state": {
            "component_state": battery.state.value,
            "relay_state": battery.relay_state.value,
        },
        "data": {
            "soc": {
                "avg": battery.soc,
                "system_inclusion_bounds": _bounds((battery.soc_lower, battery.soc_upper)),
            },
            "temperature": {"avg": battery.temperature},
            "dc": {
                "voltage": {"value": battery.voltage},
                "current": {"value": battery.power / battery.voltage},
                "power": {
                    "value": battery.power,
                    "rated_bounds": _bounds((-battery.rating, battery.rating)),
                    "system_inclusion_bounds": _bounds(battery.bounds()),
                    "system_exclusion_bounds": _bounds((0.0, 0.0)),
                },
            },
        },
    }


def _of_inverter(device: Inverter, line: Line) -> Values:
    data: Values = {"ac": _commanded(device, line)}
    if device.peak:
        data["dc_solar"] = {"power": {"value": -device.solar_power}}
    if device.batteries:
        power = sum(battery.power for battery in device.batteries)
        data["dc_battery"] = {"power": {"value": power}}
    return {"state": {"component_state": device.state.value}, "data": data}


def _of_charger(device: EVCharger, line: Line) -> Values:
    return {
        "state": {
            "component_state": device.state.value,
            "cable_state": device.cable_state.value,
        },
        "data": {"ac": _commanded(device, line)},
    }


def _of_sensor(component: SiteComponent, sky: Sky, error: ComponentError | None) -> Values:
    metric, measure = SENSOR_TYPES[component.type or ""]
    measured = {"value": measure(sky), "sensor_metric": metric}
    return {"state": _plain_state(error), "data": {"sensor_data": [measured]}}


def _commanded(device: Commanded, line: Line) -> Values:
    ac = _alternating_current(device.flow, line)
    _add_limits(ac["power_active"], device.active)
    _add_limits(ac["power_reactive"], device.reactive)
    one, two, three = device.current_per_phase
    for measured, limits in (
        (ac["current"], device.current),
        (ac["phase_1"]["current"], one),
        (ac["phase_2"]["current"], two),
        (ac["phase_3"]["current"], three),
    ):
        if limits.inclusion:
            measured["system_inclusion_bounds"] = _bounds(limits.inclusion_bounds())
        if limits.exclusion:
            measured["system_exclusion_bounds"] = _bounds(limits.exclusion_bounds())
    return ac


def _add_limits(measured: Values, limits: Limits) -> None:
    measured["rated_bounds"] = _bounds((limits.lower, limits.upper))
    measured["system_inclusion_bounds"] = _bounds(limits.inclusion_bounds())
    measured["system_exclusion_bounds"] = _bounds(limits.exclusion_bounds())


def _bounds(bounds: tuple[float, float]) -> Values:
    lower, upper = bounds
    return {"lower": lower, "upper": upper}


def _alternating_current(flow: Flow, line: Line) -> Values:
    currents = flow.current(line)
    phases = zip(line.voltage, currents, flow.active, flow.reactive, strict=True)
    one, two, three = (
        {
            "voltage": {"value": voltage},
            "current": {"value": current},
            "power_active": {"value": active},
            "power_reactive": {"value": reactive},
        }
        for voltage, current, active, reactive in phases
    )
    return {
        "frequency": {"value": line.frequency},
        "current": {"value": sum(currents)},
        "power_active": {"value": sum(flow.active)},
        "power_reactive": {"value": sum(flow.reactive)},
        "phase_1": one,
        "phase_2": two,
        "phase_3": three,
    }
