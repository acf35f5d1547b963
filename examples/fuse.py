"""Keep a house under its fuse: whatever the house draws, the cars get what is left.

Usage: python fuse.py [SECONDS [grpc://host:port]]; else a simulated house with a fuse of 35 A.
"""

import contextlib
import sys

from microgrid_sync import FuseCurve, Microgrid
from microgrid_sync.simulator import Simulator

seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
with contextlib.ExitStack() as stack:
    url = sys.argv[2] if len(sys.argv) > 2 else stack.enter_context(Simulator("house")).url
    microgrid = stack.enter_context(Microgrid(url))
    limit = microgrid.limit("grid", max_current=FuseCurve.gG(35))
    for _, report in zip(range(seconds), limit.new_receiver(), strict=False):
        if report.house is not None and report.headroom is not None:
            house = ", ".join(f"{ampere.as_amperes():.1f}" for ampere in report.house)
            left = ", ".join(f"{ampere.as_amperes():.1f}" for ampere in report.headroom)
            print(f"{report.timestamp:%H:%M:%S} house {house} A, left to cars {left} A", flush=True)
