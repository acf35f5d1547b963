"""Print what all EV chargers of a site draw, every second, and cap it.

Usage: python ev_charger_pool.py [WATTS [SECONDS [grpc://host:port]]]; else a simulated site.
"""

import contextlib
import sys

from microgrid_sync import Bounds, Microgrid, Power
from microgrid_sync.simulator import Simulator

cap = Power.from_watts(float(sys.argv[1]) if len(sys.argv) > 1 else 12_000.0)
seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
with contextlib.ExitStack() as stack:
    url = sys.argv[3] if len(sys.argv) > 3 else stack.enter_context(Simulator()).url
    pool = stack.enter_context(Microgrid(url)).new_ev_charger_pool(priority=1)
    stack.callback(pool.stop)  # releases the chargers
    for second, sample in zip(range(seconds), pool.power.new_receiver(), strict=False):
        print(f"{sample.timestamp:%H:%M:%S} {sample.value}", flush=True)
        if second % 10 == 2:  # a proposal lapses after a minute unless it is renewed
            pool.propose_power(None, bounds=Bounds(None, cap))
