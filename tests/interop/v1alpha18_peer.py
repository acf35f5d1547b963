"""The published asyncio client of v1alpha18, in a process of its own: prints what it saw.

Usage: v1alpha18_peer.py URL CHARGER. Prints one line of JSON.
"""

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

from frequenz.client.microgrid import MicrogridApiClient
from frequenz.client.microgrid.metrics import Bounds, Metric

TIMEOUT = 60.0


async def main(url: str, number: int) -> dict[str, Any]:
    client = MicrogridApiClient(url)
    components = {int(component.id): component for component in await client.list_components()}
    charger = components[number]
    seen: dict[str, Any] = {
        "microgrid": int((await client.get_microgrid_info()).id),
        "components": {i: type(c).__name__ for i, c in components.items()},
        "connections": sorted(
            (int(c.source), int(c.destination)) for c in await client.list_connections()
        ),
        "sensors": sorted(int(sensor.id) for sensor in await client.list_sensors()),
    }
    metrics = [Metric.AC_POWER_ACTIVE, Metric.AC_FREQUENCY]
    receiver = client.receive_component_data_samples_stream(charger.id, metrics)
    sample = await asyncio.wait_for(receiver.receive(), TIMEOUT)
    seen["metrics"] = {int(s.metric.value): s.value for s in sample.metric_samples}
    seen["states"] = sorted(int(code.value) for code in sample.states[-1].states)
    lifetime = timedelta(seconds=20)
    expires = await client.set_component_power_active(charger.id, 5000.0, request_lifetime=lifetime)
    seen["expires"] = expires is not None
    await client.set_component_power_reactive(charger.id, 100.0)
    bounds = [Bounds(lower=0.0, upper=9000.0)]
    seen["bounds"] = (
        await client.add_component_bounds(charger.id, Metric.AC_POWER_ACTIVE, bounds)
    ) is not None
    return seen


print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
