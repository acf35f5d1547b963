"""A day of a depot at speed, then a soak by the wall clock: memory, threads and sockets.

Usage: soak.py [MINUTES [SPEED]]; 10 minutes and speed 300 unless given. The simulator is a process
of its own. A client follows every component, a pool proposes and is followed, set-points and calls
go on all the time, and now and then the server restarts. Prints a line for each of twenty parts of
the day, and one for each minute after it.
"""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from microgrid_sync import (
    ApiClientError,
    Bounds,
    ComponentCategory,
    Microgrid,
    MicrogridApiClient,
    Power,
    Receiver,
    merge,
)
from microgrid_sync.simulator import Fault, Simulator
from tests.support.process import open_sockets, resident

PARTS = 20


def serve(speed: float) -> None:
    """Serve the depot, restarting every simulated hour, until the standard input is closed."""
    faults = [Fault(kind="restart", at=3600.0 * hour, seconds=5.0) for hour in range(1, 24)]
    with Simulator("depot", speed=speed) as simulator:
        for fault in faults:
            simulator.faults.add(fault)
        print(simulator.port, flush=True)
        sys.stdin.read()


class Load:
    """What goes on all the time."""

    def __init__(self, client: MicrogridApiClient, site: Microgrid) -> None:
        """Follow everything."""
        self.messages = 0
        self.failures = 0
        self.ended = threading.Event()
        self._client = client
        components = list(client.components())
        subscribe: dict[ComponentCategory, Callable[[int, int], Receiver[Any]]] = {
            ComponentCategory.METER: client.meter_data,
            ComponentCategory.BATTERY: client.battery_data,
            ComponentCategory.INVERTER: client.inverter_data,
            ComponentCategory.EV_CHARGER: client.ev_charger_data,
        }
        receivers: list[Receiver[Any]] = [
            subscribe[c.category](c.component_id, 1000)
            for c in components
            if c.category in subscribe
        ]
        self._merged: Receiver[Any] = merge(*receivers)
        self._pool = site.new_ev_charger_pool(priority=1)
        self._total = self._pool.power.new_receiver()
        self._status = self._pool.power_status.new_receiver()
        threading.Thread(target=self._read, daemon=True).start()
        self.commanding = threading.Thread(target=self._command, daemon=True)
        self.commanding.start()

    def _read(self) -> None:
        for _ in self._merged:
            self.messages += 1

    def _command(self) -> None:
        while not self.ended.wait(0.2):
            self._pool.propose_power(None, bounds=Bounds(None, Power.from_kilowatts(150.0)))
            self._total.drain()
            self._status.drain()
            try:
                self._client.set_power(60, 1000.0)
                list(self._client.components())
            except ApiClientError:
                self.failures += 1


def row(what: str, load: Load) -> None:
    """Print one line of the table."""
    print(
        f"{what:>12} {load.messages:>11,} {load.failures:>9} {resident() / 2**20:>10.1f} "
        f"{threading.active_count():>8} {open_sockets():>8}",
        flush=True,
    )


def main() -> None:
    """Run, and print the table."""
    if sys.argv[1:2] == ["serve"]:
        serve(float(sys.argv[2]))
        return
    # Restarts are warnings; and the pool's queues are made for the wall's pace, not for this.
    logging.basicConfig(level=logging.ERROR)
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    speed = float(sys.argv[2]) if len(sys.argv) > 2 else 300.0
    server = subprocess.Popen(
        [sys.executable, __file__, "serve", str(speed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url = f"grpc://127.0.0.1:{server.stdout.readline().strip()}"
    try:
        with (
            MicrogridApiClient(url, timeout=5.0) as client,
            Microgrid(client, resampling_period=timedelta(seconds=0.5)) as site,
        ):
            load = Load(client, site)
            print(f"{'':12}    messages  failures        MiB  threads  sockets")
            for part in range(PARTS):
                time.sleep(86_400 / speed / PARTS)
                row(f"{24 * (part + 1) / PARTS:g} h", load)
            for minute in range(round(minutes)):
                time.sleep(60)
                row(f"+ {minute + 1} min", load)
            load.ended.set()
            load.commanding.join(30)
            print(client.stats().calls, "calls,", client.stats().retries, "retries")
    finally:
        server.kill()


if __name__ == "__main__":
    main()
