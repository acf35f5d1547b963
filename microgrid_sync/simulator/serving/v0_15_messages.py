"""Makes the messages of version 0.15 of a site's components and of what they say."""

import functools
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.simulator.physics.components import ERROR_CODES, SiteCategory, SiteComponent
from microgrid_sync.simulator.physics.readings import SENSOR_TYPES, Reading
from microgrid_sync.simulator.trouble.paths import BODIES
from microgrid_sync.wire import v0_15_schema as schema

_LI_ION, _AC_CHARGER = 1, 1
"""The types of all batteries, and of all chargers."""

_INVERTER_TYPES = {"battery": 1, "solar": 2, "hybrid": 3}


def type_number(component: SiteComponent) -> int | None:
    """Give the number of a component's type, the same in all generations; ``None`` without one."""
    match component.category:
        case SiteCategory.INVERTER:
            return _INVERTER_TYPES[component.type or ""]
        case SiteCategory.BATTERY:
            return _LI_ION
        case SiteCategory.EV_CHARGER:
            return _AC_CHARGER
        case SiteCategory.SENSOR:
            return SENSOR_TYPES[component.type or ""][0]
        case _:
            return None


def component_message(component: SiteComponent) -> Any:
    """Describe a component."""
    message = schema.Component(
        id=component.component_id,
        name=component.name,
        category=component.category.value,
    )
    if component.fuse is not None:
        message.grid.rated_fuse_current = round(component.fuse)
    number = type_number(component)
    if number is not None:
        getattr(message, BODIES[component.category]).type = number
    return message


@functools.lru_cache(maxsize=16)
def stamp_of(time: datetime) -> Timestamp:
    """Give a time as a message, which is copied where it is put in: a site has few at once."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def encode(reading: Reading) -> bytes:
    """Say what a component has measured. A reading has the names of the message's fields."""
    values = reading.said()
    if "errors" in values:
        codes = ERROR_CODES[reading.category]
        errors = [{**error, "code": codes.index(error["code"])} for error in values["errors"]]
        values = {**values, "errors": errors}
    body = {BODIES[reading.category]: values}
    message = schema.ComponentData(ts=stamp_of(reading.time), id=reading.component_id, **body)
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized
