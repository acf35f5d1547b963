"""Knows which component measures what, and in which unit."""

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from frequenz.quantities import (
    Current,
    Energy,
    Frequency,
    Percentage,
    Power,
    Quantity,
    ReactivePower,
    Temperature,
    Voltage,
)

from microgrid_sync.model import (
    BatteryData,
    ComponentCategory,
    ComponentMetricId,
    EVChargerData,
    InverterData,
    MeterData,
)
from microgrid_sync.model.data import HAS_DATA
from microgrid_sync.model.telemetry import Telemetry
from microgrid_sync.model.telemetry_codes import Metric

Q = TypeVar("Q", bound=Quantity)

_M = ComponentMetricId


class Unit(NamedTuple, Generic[Q]):
    """What a formula computes with."""

    quantity: type[Q]
    """The type of its values."""

    create: Callable[[float], Q]
    """Makes a value of a number in the base unit."""


POWER = Unit(Power, Power.from_watts)
_REACTIVE_POWER = Unit(ReactivePower, ReactivePower.from_volt_amperes_reactive)
_CURRENT = Unit(Current, Current.from_amperes)
_VOLTAGE = Unit(Voltage, Voltage.from_volts)
_PERCENTAGE = Unit(Percentage, Percentage.from_percent)

CURRENTS = (_M.CURRENT_PHASE_1, _M.CURRENT_PHASE_2, _M.CURRENT_PHASE_3)
VOLTAGES = (_M.VOLTAGE_PHASE_1, _M.VOLTAGE_PHASE_2, _M.VOLTAGE_PHASE_3)
_POWERS = (_M.ACTIVE_POWER_PHASE_1, _M.ACTIVE_POWER_PHASE_2, _M.ACTIVE_POWER_PHASE_3)
_REACTIVES = (_M.REACTIVE_POWER_PHASE_1, _M.REACTIVE_POWER_PHASE_2, _M.REACTIVE_POWER_PHASE_3)

_OTHER_UNITS: dict[ComponentMetricId, Unit[Any]] = {
    _M.REACTIVE_POWER: _REACTIVE_POWER,
    **dict.fromkeys(_REACTIVES, _REACTIVE_POWER),
    **dict.fromkeys(CURRENTS, _CURRENT),
    **dict.fromkeys(VOLTAGES, _VOLTAGE),
    _M.FREQUENCY: Unit(Frequency, Frequency.from_hertz),
    **dict.fromkeys((_M.SOC, _M.SOC_LOWER_BOUND, _M.SOC_UPPER_BOUND), _PERCENTAGE),
    _M.CAPACITY: Unit(Energy, Energy.from_watt_hours),
    _M.TEMPERATURE: Unit(Temperature, Temperature.from_celsius),
}


def unit_of(metric: ComponentMetricId) -> Unit[Any]:
    """Give the unit of a metric; all that is not listed is a power or a bound of one."""
    return _OTHER_UNITS.get(metric, POWER)


Getters = Mapping[ComponentMetricId, Callable[[Any], float]]


def _of_phases(metrics: tuple[ComponentMetricId, ...], name: str) -> Getters:
    get = attrgetter(name)

    def one(phase: int) -> Callable[[Any], float]:
        return lambda data: get(data)[phase]

    return {metric: one(phase) for phase, metric in enumerate(metrics)}


_OF_ALTERNATING_CURRENT: Getters = {
    _M.ACTIVE_POWER: attrgetter("active_power"),
    **_of_phases(_POWERS, "active_power_per_phase"),
    _M.REACTIVE_POWER: attrgetter("reactive_power"),
    **_of_phases(_REACTIVES, "reactive_power_per_phase"),
    **_of_phases(CURRENTS, "current_per_phase"),
    **_of_phases(VOLTAGES, "voltage_per_phase"),
    _M.FREQUENCY: attrgetter("frequency"),
}


def _of_names(prefix: str) -> Getters:
    return {metric: attrgetter(metric.value) for metric in _M if metric.value.startswith(prefix)}


_BOUNDS = {
    metric: get
    for metric, get in _of_names("active_power_").items()
    if metric.value.endswith("_bound")
}
_OF_BATTERIES: Getters = {
    **_of_names("soc"),
    **_of_names("capacity"),
    **_of_names("power_"),
    **_of_names("temperature"),
}

_TELEMETRY: dict[ComponentMetricId, Metric] = {
    _M.ACTIVE_POWER: Metric.AC_POWER_ACTIVE,
    _M.ACTIVE_POWER_PHASE_1: Metric.AC_POWER_ACTIVE_PHASE_1,
    _M.ACTIVE_POWER_PHASE_2: Metric.AC_POWER_ACTIVE_PHASE_2,
    _M.ACTIVE_POWER_PHASE_3: Metric.AC_POWER_ACTIVE_PHASE_3,
    _M.REACTIVE_POWER: Metric.AC_POWER_REACTIVE,
    _M.REACTIVE_POWER_PHASE_1: Metric.AC_POWER_REACTIVE_PHASE_1,
    _M.REACTIVE_POWER_PHASE_2: Metric.AC_POWER_REACTIVE_PHASE_2,
    _M.REACTIVE_POWER_PHASE_3: Metric.AC_POWER_REACTIVE_PHASE_3,
    _M.CURRENT_PHASE_1: Metric.AC_CURRENT_PHASE_1,
    _M.CURRENT_PHASE_2: Metric.AC_CURRENT_PHASE_2,
    _M.CURRENT_PHASE_3: Metric.AC_CURRENT_PHASE_3,
    _M.VOLTAGE_PHASE_1: Metric.AC_VOLTAGE_PHASE_1_N,
    _M.VOLTAGE_PHASE_2: Metric.AC_VOLTAGE_PHASE_2_N,
    _M.VOLTAGE_PHASE_3: Metric.AC_VOLTAGE_PHASE_3_N,
    _M.FREQUENCY: Metric.AC_FREQUENCY,
}

TELEMETRY_METRICS = frozenset(int(metric) for metric in _TELEMETRY.values())
"""What is asked of a component that has no data of its own category."""


def _in_telemetry(metric: Metric) -> Callable[[Telemetry], float]:
    def get(telemetry: Telemetry) -> float:
        sample = telemetry.metrics.get(metric)
        return math.nan if sample is None else sample.value

    return get


_GETTERS: dict[type, Getters] = {
    MeterData: _OF_ALTERNATING_CURRENT,
    InverterData: {**_OF_ALTERNATING_CURRENT, **_BOUNDS},
    EVChargerData: {**_OF_ALTERNATING_CURRENT, **_BOUNDS},
    BatteryData: _OF_BATTERIES,
    Telemetry: {metric: _in_telemetry(theirs) for metric, theirs in _TELEMETRY.items()},
}


def getter(kind: type, metric: ComponentMetricId) -> Callable[[Any], float] | None:
    """Give what reads a metric out of data of a kind; ``None`` if that does not have it."""
    return _GETTERS[kind].get(metric)


def metrics_of(category: ComponentCategory) -> list[ComponentMetricId]:
    """Give what components of a category measure."""
    return list(_GETTERS[HAS_DATA.get(category, Telemetry)])
