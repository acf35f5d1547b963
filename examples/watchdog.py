"""Holds a cap as a service: ends on SIGTERM, releases the cars then, and lets systemd watch it."""

import os
import signal
import socket
import sys
import threading

from microgrid_sync import Bounds, Microgrid, MicrogridApiClient, Power

INTERVAL = 5.0
SILENT = 30.0


def tell_systemd(state: str) -> None:
    """Say how it goes to systemd, if that has started this program."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(state.encode(), path.replace("@", "\0", 1))


def main(url: str, kilowatts: float) -> None:
    """Hold the cap until a signal comes."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    most = Power.from_kilowatts(kilowatts)
    with MicrogridApiClient(url) as client:
        while not stop.is_set():
            try:
                client.wait_until_ready(timeout=INTERVAL)
                break
            except TimeoutError:
                print(f"waiting for {url}", flush=True)
        if stop.is_set():
            return
        with Microgrid(client) as microgrid:
            pool = microgrid.new_ev_charger_pool(priority=0)
            tell_systemd("READY=1")
            print(f"holding {most}", flush=True)
            while not stop.wait(INTERVAL):
                pool.propose_power(most, Bounds(None, most))
                ages = [stream.age_s for stream in client.stats().streams]
                if ages and any(age is not None and age < SILENT for age in ages):
                    # Without this for a while systemd starts the program anew.
                    tell_systemd("WATCHDOG=1")
            pool.stop()
    print("released", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: watchdog.py grpc://host:port KILOWATTS")
    main(sys.argv[1], float(sys.argv[2]))
