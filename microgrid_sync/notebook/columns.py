"""Names the columns of what components measure: units in the names, enums as words."""

import enum
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from microgrid_sync.model import (
    BatteryData,
    BatteryError,
    EVChargerData,
    InverterData,
    InverterError,
    MeterData,
)
from microgrid_sync.model.shown import words
from microgrid_sync.model.telemetry import Diagnostic
from microgrid_sync.model.telemetry_codes import DiagnosticCode

Row = dict[str, Any]

PHASES = (1, 2, 3)


def name_of(code: int, kind: type[enum.IntEnum]) -> str:
    """Give a code's name; that of a number without one is the number."""
    try:
        return kind(code).name
    except ValueError:
        return str(int(code))


def _phases(name: str, attribute: str, unit: str) -> list[tuple[str, Callable[[Any], float]]]:
    def one(phase: int) -> Callable[[Any], float]:
        return lambda data: getattr(data, attribute)[phase - 1]

    return [(f"{name}_phase_{phase}_{unit}", one(phase)) for phase in PHASES]


def _plain(attribute: str, unit: str) -> tuple[str, Callable[[Any], Any]]:
    return f"{attribute}_{unit}", lambda data: getattr(data, attribute)


def _state(attribute: str) -> tuple[str, Callable[[Any], Any]]:
    return attribute, lambda data: getattr(data, attribute).name.lower()


def _errors(attribute: str) -> tuple[str, Callable[[Any], Any]]:
    return attribute, lambda data: "; ".join(map(error_words, getattr(data, attribute)))


_AC = [
    _plain("active_power", "w"),
    *_phases("active_power", "active_power_per_phase", "w"),
    _plain("reactive_power", "var"),
    *_phases("reactive_power", "reactive_power_per_phase", "var"),
    *_phases("current", "current_per_phase", "a"),
    *_phases("voltage", "voltage_per_phase", "v"),
    _plain("frequency", "hz"),
]
_BOUNDS = [
    _plain(f"active_power_{kind}_{end}_bound", "w")
    for end in ("lower", "upper")
    for kind in ("inclusion", "exclusion")
]
COLUMNS: dict[type, list[tuple[str, Callable[[Any], Any]]]] = {
    MeterData: _AC,
    BatteryData: [
        _plain("soc", "percent"),
        _plain("soc_lower_bound", "percent"),
        _plain("soc_upper_bound", "percent"),
        _plain("capacity", "wh"),
        *(
            _plain(f"power_{kind}_{end}_bound", "w")
            for end in ("lower", "upper")
            for kind in ("inclusion", "exclusion")
        ),
        _plain("temperature", "celsius"),
        _state("relay_state"),
        _state("component_state"),
        _errors("errors"),
    ],
    InverterData: [*_AC, *_BOUNDS, _state("component_state"), _errors("errors")],
    EVChargerData: [*_AC, *_BOUNDS, _state("cable_state"), _state("component_state")],
}
"""The columns of each kind of data beyond the component's ID and the time."""


def columns_of(kind: type) -> list[str]:
    """Name the columns of a kind of data, in order, the ID and the time first."""
    return ["component_id", "timestamp", *(name for name, _ in COLUMNS[kind])]


def error_words(error: BatteryError | InverterError | Diagnostic) -> str:
    """Say what a component complains of, in its own words if it has some."""
    if isinstance(error, Diagnostic):
        kind = type(error.code) if isinstance(error.code, enum.IntEnum) else DiagnosticCode
        name = words(name_of(error.code, kind))
    else:
        name = words(error.code.name)
    return f"{name}: {error.message}" if error.message else name


def jsonable(row: Row) -> Row:
    """Give a row as JSON can have it: times as text, and nothing that is no number."""
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, float):
        # Nine digits are all that a float32 of the wire has. Neither -0.0 nor what JSON has not.
        return float(f"{value:.9g}") + 0.0 if math.isfinite(value) else None
    return value
