"""Keep one EV charger at a power of your choice until Ctrl-C, then let it go to zero.

The set-point is sent again every ten seconds: a server forgets it after a time of its own choice.

Usage: python limit_a_charger.py CHARGER_ID WATTS [grpc://host:port], such as 7 6000.
"""

import contextlib
import sys

from microgrid_sync import ApiClientError, MicrogridApiClient
from microgrid_sync.simulator import Simulator

USAGE = "usage: limit_a_charger.py CHARGER_ID WATTS [grpc://host:port]"

try:
    charger, watts = int(sys.argv[1]), float(sys.argv[2])
except (IndexError, ValueError):
    sys.exit(USAGE)
with contextlib.ExitStack() as stack:
    url = sys.argv[3] if len(sys.argv) > 3 else stack.enter_context(Simulator()).url
    client = stack.enter_context(MicrogridApiClient(url, timeout=5.0))
    data = client.ev_charger_data(charger)
    try:
        while True:
            try:
                client.set_power(charger, watts)
            except ApiClientError as error:
                print(f"not set: {error}")
            with contextlib.suppress(TimeoutError):
                for _ in range(10):
                    print(f"{data.receive(timeout=1.5).active_power:.0f} W", flush=True)
    except KeyboardInterrupt:
        client.set_power(charger, 0.0)
        print("set to 0 W")
