"""Print what a site draws from the grid, what its consumers take, and what sun and battery give.

Usage: python site_overview.py [grpc://host:port [SECONDS]]; a simulated site without a URL.
"""

import contextlib
import sys

from microgrid_sync import Microgrid
from microgrid_sync.simulator import Simulator

if sys.argv[1:] in (["-h"], ["--help"]):
    sys.exit("usage: site_overview.py [grpc://host:port [SECONDS]]")
with contextlib.ExitStack() as stack:
    url = sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(Simulator()).url
    site = stack.enter_context(Microgrid(url))
    numbers = {"grid": site.grid, "house": site.consumer, "sun": site.pv, "battery": site.battery}
    powers = {name: part.power.new_receiver() for name, part in numbers.items()}
    charge = site.battery.soc.new_receiver()
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 5):
        now = {name: receiver.receive(10.0).value for name, receiver in powers.items()}
        print(*(f"{name} {power}" for name, power in now.items()), charge.receive(10.0).value)
