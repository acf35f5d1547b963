"""The published SDK's pool of EV chargers, in a process of its own: prints what it was told.

Usage: sdk_peer.py URL WATTS [SECONDS]. Prints lines of JSON.
"""

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

from frequenz.quantities import Power
from frequenz.sdk import microgrid
from frequenz.sdk.timeseries import ResamplerConfig2

# It raises a charger's power 60 s after its car was first seen.
TIMEOUT = float(sys.argv[3]) if len(sys.argv) > 3 else 150.0


def tell(**values: Any) -> None:
    print(json.dumps(values), flush=True)


async def main(url: str, watts: float) -> None:
    config = ResamplerConfig2(resampling_period=timedelta(seconds=1))
    await microgrid.initialize(server_url=url, resampler_config=config)
    pool = microgrid.new_ev_charger_pool(priority=5)
    bounds = pool.system_power_bounds.new_receiver()
    results = pool.power_distribution_results.new_receiver()
    tell(ids=sorted(int(number) for number in pool.component_ids))

    async def propose() -> None:
        while True:
            await pool.propose_power(Power.from_watts(watts))
            await asyncio.sleep(1.0)

    async def read() -> None:
        found = await bounds.receive()
        while found.inclusion_bounds is None:
            found = await bounds.receive()
        tell(upper=found.inclusion_bounds.upper.as_watts())
        result = await results.receive()
        tell(result=type(result).__name__)
        power = pool.power.new_receiver()
        while True:
            sample = await power.receive()
            if sample.value is not None:
                tell(power=sample.value.as_watts())

    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(propose(), read())


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
