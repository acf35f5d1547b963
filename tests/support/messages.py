"""Protobuf messages as a server would send them."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.wire import StreamRequest
from microgrid_sync.wire import v0_15_schema as schema

T = TypeVar("T")

START = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

CATEGORIES = {
    "grid": 1,
    "meter": 2,
    "inverter": 3,
    "battery": 5,
    "ev_charger": 6,
    "sensor": 7,
}


def component(component_id: int, category: str) -> Any:
    return schema.Component(id=component_id, category=CATEGORIES[category])


def data(component_id: int, category: str = "meter", number: int = 0) -> Any:
    """Data of a component whose active power is `number`, that many seconds after the start."""
    stamp = Timestamp()
    stamp.FromDatetime(START + timedelta(seconds=number))
    message = schema.ComponentData(id=component_id, ts=stamp)
    body = getattr(message, category)
    if category == "battery":
        body.data.soc.avg = number
    else:
        body.data.ac.power_active.value = number
    return message


def decode(request: StreamRequest[T], payload: bytes) -> T:
    """Do at once what a stream's thread and a reader do."""
    return request.make(request.read(payload))
