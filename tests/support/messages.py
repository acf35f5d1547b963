"""Protobuf messages as a server would send them."""

from datetime import UTC, datetime, timedelta

from frequenz.api.common import components_pb2
from frequenz.api.microgrid import microgrid_pb2
from google.protobuf.timestamp_pb2 import Timestamp

START = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

CATEGORIES = {
    "grid": components_pb2.COMPONENT_CATEGORY_GRID,
    "meter": components_pb2.COMPONENT_CATEGORY_METER,
    "inverter": components_pb2.COMPONENT_CATEGORY_INVERTER,
    "battery": components_pb2.COMPONENT_CATEGORY_BATTERY,
    "ev_charger": components_pb2.COMPONENT_CATEGORY_EV_CHARGER,
    "sensor": components_pb2.COMPONENT_CATEGORY_SENSOR,
}


def component(component_id: int, category: str) -> microgrid_pb2.Component:
    return microgrid_pb2.Component(id=component_id, category=CATEGORIES[category])


def data(
    component_id: int, category: str = "meter", number: int = 0
) -> microgrid_pb2.ComponentData:
    """Data of a component whose active power is `number`, that many seconds after the start."""
    stamp = Timestamp()
    stamp.FromDatetime(START + timedelta(seconds=number))
    message = microgrid_pb2.ComponentData(id=component_id, ts=stamp)
    body = getattr(message, category)
    if category == "battery":
        body.data.soc.avg = number
    else:
        body.data.ac.power_active.value = number
    return message
