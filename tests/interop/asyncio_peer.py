"""The published asyncio client, in a process of its own: does what it is told, prints what it saw.

Usage: asyncio_peer.py URL SAMPLES. Prints a line of JSON with what it has listed, reads on its
standard input when to go on, and ends with a line of JSON with what it has read.
"""

import asyncio
import dataclasses
import enum
import json
import sys
from datetime import datetime
from typing import Any

from frequenz.client.microgrid import ComponentCategory, MicrogridApiClient

TIMEOUT = 60.0


def plain(value: Any) -> Any:
    """Make something that JSON knows of a value."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def fields(value: Any) -> dict[str, Any]:
    """Name what a sample says, without the message it came from."""
    names = [field.name for field in dataclasses.fields(value)]
    return {name: plain(getattr(value, name)) for name in names if name not in {"raw", "_raw"}}


async def main(url: str, samples: int) -> None:
    client = MicrogridApiClient(url)
    components = sorted(await client.components(), key=lambda c: c.component_id)
    connections = await client.connections()
    metadata = await client.metadata()
    listed = {
        "components": [[c.component_id, c.category.value, plain(c.type)] for c in components],
        "connections": sorted([c.start, c.end] for c in connections),
        "microgrid_id": metadata.microgrid_id,
        "latitude": metadata.location.latitude if metadata.location else None,
    }
    subscribe = {
        ComponentCategory.METER: client.meter_data,
        ComponentCategory.BATTERY: client.battery_data,
        ComponentCategory.INVERTER: client.inverter_data,
        ComponentCategory.EV_CHARGER: client.ev_charger_data,
    }
    receivers: dict[int, Any] = {}
    for component in components:
        if component.category in subscribe:
            receivers[component.component_id] = await subscribe[component.category](
                component.component_id
            )
    # Each has heard something: it is subscribed.
    seen = {i: [fields(await receiver.receive())] for i, receiver in receivers.items()}
    print(json.dumps(listed), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for component_id, receiver in receivers.items():
        while len(seen[component_id]) < samples:
            seen[component_id].append(fields(await receiver.receive()))
    chargers = [c for c in components if c.category is ComponentCategory.EV_CHARGER]
    await client.set_power(chargers[0].component_id, 5000.0)
    await client.set_bounds(chargers[-1].component_id, 0.0, 7000.0)
    refused = ""
    try:
        await client.set_power(chargers[0].component_id, 1e6)
    except Exception as error:  # noqa: BLE001 - its name is what is asked for
        refused = type(error).__name__
    print(json.dumps({"seen": seen, "refused": refused}), flush=True)


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(sys.argv[1], int(sys.argv[2])), TIMEOUT))
