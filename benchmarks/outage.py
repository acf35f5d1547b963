"""A server that is down for two minutes: how long do all streams take to be back?"""

import sys
import time

from server import serving

from microgrid_sync import LinearBackoff, MicrogridApiClient

METERS = 20


def main() -> None:
    """Measure and print."""
    down = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    strategy = LinearBackoff()
    with serving(meters=METERS, rate=10.0) as port:
        client = MicrogridApiClient(f"grpc://127.0.0.1:{port}", retry_strategy=strategy)
        receivers = [client.meter_data(number) for number in range(1, METERS + 1)]
        for receiver in receivers:
            receiver.receive(10)
    time.sleep(down)
    for receiver in receivers:
        receiver.drain()
    with serving(port, meters=METERS, rate=10.0):
        started = time.monotonic()
        back = []
        for receiver in receivers:
            receiver.receive(600)
            back.append(time.monotonic() - started)
        client.disconnect()
    print(f"down for {down:.0f} s: the last of {METERS} streams was back after {max(back):.1f} s")
    print(f"({strategy!r}; interval, jitter and 2 s are wanted)")


if __name__ == "__main__":
    main()
