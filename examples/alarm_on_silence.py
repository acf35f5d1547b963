"""Raises an alarm when a component has not been heard for a while, and tells when it is back."""

import sys
import time
from datetime import datetime

from microgrid_sync import MicrogridApiClient

INTERVAL = 0.5
SENDING = {"METER", "INVERTER", "EV_CHARGER", "BATTERY"}


def main(url: str, seconds: float) -> None:
    """Watch all components that send data until Ctrl-C."""
    with MicrogridApiClient(url) as client:
        client.wait_until_ready()
        ids = [c.component_id for c in client.components() if c.category.name in SENDING]
        silent: set[int] = set()
        began = time.monotonic()
        with client.subscribe(ids, lambda _: None):
            print(f"watching {len(ids)} components", flush=True)
            while True:
                time.sleep(INTERVAL)
                ages = {stream.component_id: stream.age_s for stream in client.stats().streams}
                for number in ids:
                    age = ages.get(number)
                    # One that has never been heard is as old as this program.
                    age = time.monotonic() - began if age is None else age
                    if (age > seconds) != (number in silent):
                        silent ^= {number}
                        word = "ALARM: silent" if number in silent else "heard again"
                        print(f"{datetime.now():%H:%M:%S} component {number}: {word}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: alarm_on_silence.py grpc://host:port SECONDS")
    try:
        main(sys.argv[1], float(sys.argv[2]))
    except KeyboardInterrupt:
        print("ended")
