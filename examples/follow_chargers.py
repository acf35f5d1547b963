"""Follow all EV chargers of a site as one stream, and print what each of them draws.

Usage: python follow_chargers.py [grpc://host:port [SECONDS]]; a simulated site without a URL.
"""

import contextlib
import sys
import time

from microgrid_sync import ComponentCategory, MicrogridApiClient, merge
from microgrid_sync.simulator import Simulator

if sys.argv[1:] in (["-h"], ["--help"]):
    sys.exit("usage: follow_chargers.py [grpc://host:port [SECONDS]]")
with contextlib.ExitStack() as stack:
    url = sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(Simulator()).url
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    client = stack.enter_context(MicrogridApiClient(url))
    chargers = [c for c in client.components() if c.category is ComponentCategory.EV_CHARGER]
    print(f"{len(chargers)} chargers")
    end = time.monotonic() + seconds
    for sample in merge(*(client.ev_charger_data(c.component_id) for c in chargers)):
        state = sample.component_state.name.lower()
        at = f"{sample.timestamp:%H:%M:%S}"
        print(f"{at} {sample.component_id}: {sample.active_power:.0f} W, {state}")
        if time.monotonic() > end:
            break
