"""Turns samples, components and reports into flat rows: units in the names, enums as words."""

import enum
import functools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from frequenz.quantities import (
    ApparentPower,
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
    Component,
    Connection,
    EVChargerData,
    InverterData,
    InverterType,
    Metadata,
    MeterData,
)
from microgrid_sync.model.bounds import Bounds
from microgrid_sync.model.telemetry import Sensor, Telemetry
from microgrid_sync.model.telemetry_codes import (
    Metric,
    SensorStateCode,
    StateCode,
)
from microgrid_sync.notebook.columns import COLUMNS, PHASES, Row, error_words, name_of
from microgrid_sync.power.charger_set import PowerReport
from microgrid_sync.power.limit_report import LimitReport
from microgrid_sync.timeseries import Sample, Sample3Phase, SystemBounds
from microgrid_sync.transport.streams import StreamStats

_NAMES: dict[type, tuple[str, str]] = {
    ApparentPower: ("apparent_power", "va"),
    Current: ("current", "a"),
    Energy: ("energy", "wh"),
    Frequency: ("frequency", "hz"),
    Percentage: ("share", "percent"),
    Power: ("power", "w"),
    ReactivePower: ("reactive_power", "var"),
    Temperature: ("temperature", "celsius"),
    Voltage: ("voltage", "v"),
}
"""What a quantity is called where nothing else is known of it, and its unit."""

_UNITS_OF_TELEMETRY = (
    ("TOTAL_HARMONIC_DISTORTION", ""),
    ("POWER_FACTOR", ""),
    ("ENERGY_APPARENT", "vah"),
    ("ENERGY_REACTIVE", "varh"),
    ("ENERGY", "wh"),
    ("POWER_APPARENT", "va"),
    ("POWER_REACTIVE", "var"),
    ("POWER", "w"),
    ("VOLTAGE", "v"),
    ("CURRENT", "a"),
    ("FREQUENCY", "hz"),
    ("CAPACITY", "wh"),
    ("_PCT", "percent"),
    ("HUMIDITY", "percent"),
    ("TEMPERATURE", "celsius"),
    ("DEW_POINT", "celsius"),
    ("WIND_SPEED", "meters_per_second"),
    ("WIND_DIRECTION", "degrees"),
    ("PRESSURE", "pa"),
    ("IRRADIANCE", "watts_per_square_meter"),
)
"""What is part of a metric's name, and its unit; the first one that fits holds."""


def quantity_key(kind: type[Quantity] | None, phase: int | None = None) -> str:
    """Give the name of a quantity's column, such as ``power_w`` or ``current_phase_1_a``."""
    name, unit = _NAMES.get(kind, ("value", "")) if kind is not None else ("value", "")
    of_phase = "" if phase is None else f"_phase_{phase}"
    return f"{name}{of_phase}_{unit}".rstrip("_")


def telemetry_key(metric: int) -> str:
    """Give the name of a metric's column, such as ``ac_power_active_phase_1_w``."""
    name = name_of(metric, Metric)
    if not isinstance(metric, Metric):
        return f"metric_{metric}"
    unit = next((unit for part, unit in _UNITS_OF_TELEMETRY if part in name), "")
    return f"{name.removesuffix('_PCT').lower()}_{unit}".rstrip("_")


def utc(time: datetime) -> datetime:
    """Give a time in UTC, as all rows have it."""
    return time.astimezone(UTC) if time.tzinfo is not None else time


@functools.singledispatch
def row_of(value: object) -> Row:
    """Give a value as a flat row; see `Tabular.to_dict`.

    Raises:
        TypeError: If there are no rows of it.
    """
    raise TypeError(f"{type(value).__name__} has no rows; samples, components and reports have")


@row_of.register(MeterData)
@row_of.register(BatteryData)
@row_of.register(InverterData)
@row_of.register(EVChargerData)
def _(data: MeterData | BatteryData | InverterData | EVChargerData) -> Row:
    row: Row = {"component_id": int(data.component_id), "timestamp": utc(data.timestamp)}
    for kind, columns in COLUMNS.items():
        if isinstance(data, kind):
            row |= {name: get(data) for name, get in columns}
    return row


@row_of.register
def _(data: Telemetry) -> Row:
    row: Row = {"component_id": int(data.component_id), "timestamp": utc(data.timestamp)}
    for metric in sorted(data.metrics):
        sample, key = data.metrics[metric], telemetry_key(metric)
        row[key] = sample.value
        if sample.minimum is not None:
            row[f"{key}_min"] = sample.minimum
        if sample.maximum is not None:
            row[f"{key}_max"] = sample.maximum
    row["states"] = ", ".join(sorted(map(state_words, data.states)))
    row["warnings"] = "; ".join(map(error_words, data.warnings))
    row["errors"] = "; ".join(map(error_words, data.errors))
    return row


def state_words(code: int) -> str:
    """Give the word of a state of telemetry; a number for one that has none."""
    kind = SensorStateCode if isinstance(code, SensorStateCode) else StateCode
    return name_of(code, kind).lower()


# What is computed.


def _base(value: Quantity | None) -> float | None:
    return None if value is None else value.base_value + 0.0


@row_of.register
def _(sample: Sample) -> Row:  # type: ignore[type-arg] # singledispatch takes plain classes alone
    kind = None if sample.value is None else type(sample.value)
    return {"timestamp": utc(sample.timestamp), quantity_key(kind): _base(sample.value)}


@row_of.register
def _(sample: Sample3Phase) -> Row:  # type: ignore[type-arg] # as above
    kind = next((type(value) for value in sample if value is not None), None)
    values = zip(PHASES, sample, strict=True)
    return {
        "timestamp": utc(sample.timestamp),
        **{quantity_key(kind, phase): _base(value) for phase, value in values},
    }


def _ends(name: str, bounds: Bounds[Any] | None) -> Row:
    lower, upper = (None, None) if bounds is None else (bounds.lower, bounds.upper)
    return {f"{name}_lower_w": _base(lower), f"{name}_upper_w": _base(upper)}


@row_of.register
def _(bounds: SystemBounds) -> Row:
    return {
        "timestamp": utc(bounds.timestamp),
        **_ends("inclusion", bounds.inclusion_bounds),
        **_ends("exclusion", bounds.exclusion_bounds),
    }


@row_of.register
def _(report: PowerReport) -> Row:
    return {
        "target_power_w": _base(report.target_power),
        **_ends("bound", report.bounds),
        "result": None
        if report.distribution_result is None
        else type(report.distribution_result).__name__,
        "allocated_w": sum(r.allocation.as_watts() for r in report.chargers.values()) + 0.0,
    }


def _of_phases(name: str, values: Sequence[Any] | None, unit: str) -> Row:
    """Make a column of each phase; without values, of ``None``."""
    found = [None] * len(PHASES) if values is None else values
    return {
        f"{name}_phase_{phase}{unit}": _base(v) if isinstance(v, Quantity) else v
        for phase, v in zip(PHASES, found, strict=True)
    }


@row_of.register
def _(report: LimitReport) -> Row:
    return {
        "timestamp": utc(report.timestamp),
        **_of_phases("house", report.house, "_a"),
        **_of_phases("headroom", report.headroom, "_a"),
        **_of_phases("thermal_state", report.thermal_state, ""),
        "is_exceeded": report.is_exceeded,
        "reason": report.reason,
    }


# What a site is made of.


@row_of.register
def _(component: Component) -> Row:
    bounds, metadata = component.rated_bounds, component.metadata
    fuse = None if metadata is None or metadata.fuse is None else metadata.fuse.max_current
    kind = component.type
    return {
        "component_id": int(component.component_id),
        "category": component.category.name.lower(),
        "type": None if kind in {None, InverterType.NONE} else _lower(kind),
        "name": component.name,
        "model": component.model,
        "category_name": component.category_name,
        "fuse_a": fuse,
        "rated_lower_w": None if bounds is None else bounds.lower,
        "rated_upper_w": None if bounds is None else bounds.upper,
        "provides_telemetry": component.provides_telemetry,
        "accepts_control": component.accepts_control,
    }


def _lower(member: enum.Enum | None) -> str | None:
    return None if member is None else member.name.lower()


@row_of.register
def _(connection: Connection) -> Row:
    return {"start": int(connection.start), "end": int(connection.end)}


@row_of.register
def _(metadata: Metadata) -> Row:
    location = metadata.location
    zone = None if location is None or location.timezone is None else location.timezone.key
    return {
        "microgrid_id": metadata.microgrid_id,
        "latitude_degrees": None if location is None else location.latitude,
        "longitude_degrees": None if location is None else location.longitude,
        "timezone": zone,
    }


@row_of.register
def _(sensor: Sensor) -> Row:
    return {"sensor_id": int(sensor.sensor_id), "name": sensor.name, "model": sensor.model}


@row_of.register
def _(stats: StreamStats) -> Row:
    return {
        "component_id": stats.component_id,
        "state": stats.state.value,
        "messages": stats.messages,
        "dropped": stats.dropped,
        "undecodable": stats.undecodable,
        "reconnects": stats.reconnects,
        "age_s": stats.age_s,
        "last_error": stats.last_error,
    }


def rows_of(samples: Iterable[Any]) -> list[Row]:
    """Give a row of each of several values; a value that is not known takes its column's name."""
    rows: list[Row] = []
    named: dict[str, str] = {}
    for sample in samples:
        row = row_of(sample)
        rows.append(row)
        if isinstance(sample, Sample | Sample3Phase):
            named |= {_unnamed(name): name for name in row if _unnamed(name) != name}
    return [{named.get(name, name): value for name, value in row.items()} for row in rows]


def _unnamed(name: str) -> str:
    """Give what the column of a quantity is called as long as nothing is known of it."""
    for quantity, unit in _NAMES.values():
        if name == f"{quantity}_{unit}":
            return "value"
        for phase in PHASES:
            if name == f"{quantity}_phase_{phase}_{unit}":
                return f"value_phase_{phase}"
    return name
