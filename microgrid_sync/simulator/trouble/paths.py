"""Checks paths into what a component says: the names are those of version 0.15 of the API."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from microgrid_sync.simulator.physics.components import SiteCategory
from microgrid_sync.wire import v0_15_schema as schema

BODIES = {
    SiteCategory.METER: "meter",
    SiteCategory.INVERTER: "inverter",
    SiteCategory.BATTERY: "battery",
    SiteCategory.EV_CHARGER: "ev_charger",
    SiteCategory.SENSOR: "sensor",
}
"""The part of a data message that a category fills."""


_MESSAGES: dict[SiteCategory, Any] = {
    category: schema.ComponentData.DESCRIPTOR.fields_by_name[name].message_type
    for category, name in BODIES.items()
}


def path_problem(category: SiteCategory, path: str) -> str | None:
    """Say why a path leads nowhere in what a category says; ``None`` if it leads somewhere."""
    if _found(category, path) is None:
        return f"is not in a {_MESSAGES[category].name} message"
    return None


def is_state(category: SiteCategory, path: str) -> bool:
    """Tell whether a path leads to a state: numbers are floats, an integer stands for a word."""
    found = _found(category, path)
    return found is not None and found.type == FieldDescriptor.TYPE_INT32


def is_number(category: SiteCategory, path: str) -> bool:
    """Tell whether a path leads to one number."""
    found = _found(category, path)
    return (
        found is not None and found.type == FieldDescriptor.TYPE_FLOAT and not _is_repeated(found)
    )


def _found(category: SiteCategory, path: str) -> FieldDescriptor | None:
    inside: Any = _MESSAGES[category]
    found = None
    for part in path.split("."):
        # Names are ASCII; protobuf does not take all of Python's strings.
        is_name = inside is not None and part.isascii()
        found = inside.fields_by_name.get(part) if is_name else None
        if found is None:
            return None
        # What is repeated is no place to go on from.
        inside = None if _is_repeated(found) else found.message_type
    return found


def _is_repeated(field: Any) -> bool:
    # Newer versions of protobuf have a word for it, and warn of the older one.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)
