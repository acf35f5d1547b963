"""Says what a component measures, as plain values that each generation of the API is made of."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from microgrid_sync.simulator.physics.components import (
    IN_ERROR,
    OK,
    ComponentError,
    SiteCategory,
    SiteComponent,
)
from microgrid_sync.simulator.physics.devices import Commanded
from microgrid_sync.simulator.physics.electricity import Flow, Line, PerPhase
from microgrid_sync.simulator.physics.inverters import Battery
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


class Reading:
    """What a component says at one instant. It belongs to whoever has asked for it.

    What it is made of is kept, and the values are made of that when somebody wants them: those of
    a thousand components would be tens of thousands of dictionaries.
    """

    __slots__ = ("_make", "_values", "category", "component_id", "time")

    def __init__(
        self, component_id: int, category: SiteCategory, time: datetime, make: Callable[[], Values]
    ) -> None:
        """Make no values yet.

        Args:
            component_id: The component.
            category: Its category.
            time: When it measured, in UTC.
            make: Makes the values, the same ones each time.
        """
        self.component_id = component_id
        self.category = category
        self.time = time
        self._make = make
        self._values: Values | None = None

    @property
    def values(self) -> Values:
        """What it says, to be changed: ``state``, ``data`` and so on.

        Names and numbers of states are those of version 0.15 of the API, in which descriptions of
        faults name them; what is absent is not measured.
        """
        if self._values is None:
            self._values = self._make()
        return self._values

    def said(self) -> Values:
        """Give what it says, to be read."""
        return self._make() if self._values is None else self._values


def read(site: Site, component: SiteComponent) -> Reading:
    """Say what a component measures now.

    Raises:
        ValueError: If its category has no data.
    """
    component_id = component.component_id
    error = site.errors.get(component_id)
    make: Callable[[], Values]
    match component.category:
        case SiteCategory.METER:
            make = partial(_of_meter, site.flows[component_id], site.line, error)
        case SiteCategory.BATTERY:
            # A copy: it lives on.
            make = partial(_of_battery, replace(site.batteries[component_id]), error)
        case SiteCategory.INVERTER:
            inverter = site.inverter(component_id)
            data = {}
            if inverter.peak:
                data["dc_solar"] = -inverter.solar_power
            if inverter.batteries:
                data["dc_battery"] = sum(battery.power for battery in inverter.batteries)
            state = {"component_state": inverter.state.value}
            make = partial(_of_commanded, state, data, *_snapshot(inverter, site.line), error)
        case SiteCategory.EV_CHARGER:
            charger = site.charger(component_id)
            state = {
                "component_state": charger.state.value,
                "cable_state": charger.cable_state.value,
            }
            snapshot = _snapshot(charger, site.line)
            if charger.reports_own_phases:
                snapshot = _as_connected(snapshot, charger.phases)
            make = partial(_of_commanded, state, {}, *snapshot, error)
        case SiteCategory.SENSOR:
            make = partial(_of_sensor, component, site.sky, error)
        case _:
            raise ValueError(f"{component.category.name} has no data")
    return Reading(component_id, component.category, site.time, make)


_Bounds = tuple[float, float]
_Ranges = tuple[_Bounds, _Bounds, _Bounds]
"""Rated, inclusion and exclusion bounds."""


def _snapshot(device: Commanded, line: Line) -> "_Snapshot":
    """Keep what of a device may change later: its flow, its bounds, and those of its currents."""
    currents = [("", device.current)]
    currents += zip(_PHASES, device.current_per_phase, strict=True)
    of_currents: list[tuple[str, str, _Bounds]] = []
    for phase, limits in currents:
        if limits.inclusion:
            of_currents.append((phase, "system_inclusion_bounds", limits.inclusion_bounds()))
        if limits.exclusion:
            of_currents.append((phase, "system_exclusion_bounds", limits.exclusion_bounds()))
    active, reactive = _ranges_of(device.active), _ranges_of(device.reactive)
    return device.flow, line, active, reactive, tuple(of_currents)


_Snapshot = tuple[Flow, Line, _Ranges, _Ranges, tuple[tuple[str, str, _Bounds], ...]]


def _as_connected(snapshot: _Snapshot, phases: Sequence[int]) -> _Snapshot:
    """Number the phases as a device does that is connected to some of the site's, in an order."""
    flow, line, active, reactive, of_currents = snapshot

    def own(values: PerPhase) -> PerPhase:
        found = [values[phase - 1] for phase in phases]
        one, two, three = [*found, 0.0, 0.0][:3]
        return one, two, three

    names = {"": "", **{f"phase_{phase}": _PHASES[i] for i, phase in enumerate(phases)}}
    return (
        Flow(own(flow.active), own(flow.reactive)),
        Line(own(line.voltage), line.frequency),
        active,
        reactive,
        tuple((names[name], what, bounds) for name, what, bounds in of_currents if name in names),
    )


def _ranges_of(limits: Limits) -> _Ranges:
    return (limits.lower, limits.upper), limits.inclusion_bounds(), limits.exclusion_bounds()


_PHASES = ("phase_1", "phase_2", "phase_3")


def _with_error(values: Values, error: ComponentError | None) -> Values:
    if error is not None:
        values["errors"] = [{"code": error.code, "level": _CRITICAL, "msg": error.message}]
    return values


def _plain_state(error: ComponentError | None) -> Values:
    return {"component_state": IN_ERROR if error else OK}


def _of_meter(flow: Flow, line: Line, error: ComponentError | None) -> Values:
    values = {"state": _plain_state(error), "data": {"ac": _alternating_current(flow, line)}}
    return _with_error(values, error)


def _of_battery(battery: Battery, error: ComponentError | None) -> Values:
    values = {
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
    return _with_error(values, error)


def _of_commanded(  # noqa: PLR0917 - in the order of `_snapshot`
    state: Values,
    direct: dict[str, float],
    flow: Flow,
    line: Line,
    active: _Ranges,
    reactive: _Ranges,
    of_currents: tuple[tuple[str, str, _Bounds], ...],
    error: ComponentError | None,
) -> Values:
    ac = _alternating_current(flow, line)
    _add_ranges(ac["power_active"], active)
    _add_ranges(ac["power_reactive"], reactive)
    for phase, name, bounds in of_currents:
        measured = ac[phase] if phase else ac
        measured["current"][name] = _bounds(bounds)
    data: Values = {"ac": ac}
    for name, power in direct.items():
        data[name] = {"power": {"value": power}}
    return _with_error({"state": dict(state), "data": data}, error)


def _of_sensor(component: SiteComponent, sky: Sky, error: ComponentError | None) -> Values:
    metric, measure = SENSOR_TYPES[component.type or ""]
    measured = {"value": measure(sky), "sensor_metric": metric}
    values = {"state": _plain_state(error), "data": {"sensor_data": [measured]}}
    return _with_error(values, error)


def _add_ranges(measured: Values, ranges: _Ranges) -> None:
    rated, inclusion, exclusion = ranges
    measured["rated_bounds"] = _bounds(rated)
    measured["system_inclusion_bounds"] = _bounds(inclusion)
    measured["system_exclusion_bounds"] = _bounds(exclusion)


def _bounds(bounds: _Bounds) -> Values:
    lower, upper = bounds
    return {"lower": lower, "upper": upper}


def _alternating_current(flow: Flow, line: Line) -> Values:
    currents = flow.current(line)
    ac: Values = {
        "frequency": {"value": line.frequency},
        "current": {"value": sum(currents)},
        "power_active": {"value": sum(flow.active)},
        "power_reactive": {"value": sum(flow.reactive)},
    }
    phases = zip(_PHASES, line.voltage, currents, flow.active, flow.reactive, strict=True)
    for name, voltage, current, active, reactive in phases:
        ac[name] = {
            "voltage": {"value": voltage},
            "current": {"value": current},
            "power_active": {"value": active},
            "power_reactive": {"value": reactive},
        }
    return ac
