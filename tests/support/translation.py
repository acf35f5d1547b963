"""Translates what tests write in version 0.15 of the API to v1alpha18, as the simulator says it."""

from datetime import UTC
from typing import Any

from microgrid_sync.simulator.physics.components import ERROR_CODES, SiteCategory, SiteComponent
from microgrid_sync.simulator.physics.readings import Reading
from microgrid_sync.simulator.serving import v1alpha18_messages
from microgrid_sync.wire import v1alpha18_schema as alpha

_INVERTER_TYPES = {1: "battery", 2: "solar", 3: "hybrid"}
_SENSOR_TYPES = {1: "thermometer", 2: "hygrometer", 3: "barometer", 4: "pyranometer"}


def _values(message: Any) -> Any:
    """Give the fields of a message that are there, and those in them."""
    values = {}
    for field, value in message.ListFields():
        if field.message_type is None:
            values[field.name] = value
        elif hasattr(value, "extend"):
            values[field.name] = [_values(each) for each in value]
        else:
            values[field.name] = _values(value)
    return values


def reading_of(message: Any) -> Reading | None:
    """Give the reading that a data message of version 0.15 says; ``None`` without data."""
    kind = message.WhichOneof("data")
    if kind is None:
        return None
    category = SiteCategory[kind.upper()]
    values = _values(getattr(message, kind))
    codes = ERROR_CODES[category]
    for error in values.get("errors", ()):
        number = error.get("code", 0)
        error["code"] = codes[number] if 0 <= number < len(codes) else "UNKNOWN"
        error.setdefault("level", 0)
        error.setdefault("msg", "")
    time = message.ts.ToDatetime(UTC)
    return Reading(message.id, category, time, lambda: values)


def telemetry_message(message: Any) -> Any:
    """Translate a data message; not a sensor's."""
    reading = reading_of(message)
    if reading is None:
        return alpha.ElectricalComponentTelemetry(electrical_component_id=message.id)
    response = alpha.ReceiveElectricalComponentTelemetryStreamResponse
    return response.FromString(v1alpha18_messages.encoder(frozenset())(reading)).telemetry


def component_message(
    message: Any, microgrid_id: int, rated: tuple[float, float] | None = None
) -> Any:
    """Translate the description of a component; not a sensor's."""
    try:
        category = SiteCategory(message.category)
    except ValueError:
        return alpha.ElectricalComponent(id=message.id, category=message.category)
    kind = None
    if category is SiteCategory.INVERTER:
        kind = _INVERTER_TYPES.get(message.inverter.type, "battery")
    fuse = message.grid.rated_fuse_current if message.HasField("grid") else None
    component = SiteComponent(message.id, category, message.name, kind, fuse)
    translated = v1alpha18_messages.component_message(component, microgrid_id, rated)
    if category is SiteCategory.INVERTER:
        translated.category_specific_info.inverter.type = message.inverter.type
    translated.manufacturer = message.manufacturer
    translated.model_name = message.model_name
    return translated
