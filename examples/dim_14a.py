"""Dim chargers when the German network operator asks for it (EnWG 14a, BNetzA BK6-22-300).

The signal is a file, as a digital input's stand-in: the chargers are dimmed while it holds a 1. An
energy management system may then draw 4.2 kW, and for each further device another 4.2 kW times a
factor of simultaneity. Three phases of 6 A are 4.14 kW at 230 V, and more than 4.2 kW above 233 V:
not all cars fit at once. With equal shares they take turns.

Usage: python dim_14a.py SIGNAL_FILE [SECONDS [grpc://host:port]]; else a simulated house.
"""

import contextlib
import sys
import time
from datetime import timedelta
from pathlib import Path

from microgrid_sync import Bounds, ChargingConfig, Microgrid, Power
from microgrid_sync.simulator import Simulator

FACTORS = {1: 1.0, 2: 0.8, 3: 0.75, 4: 0.7, 5: 0.65, 6: 0.6, 7: 0.55, 8: 0.5}
LAST_FACTOR = 0.45
TURN = timedelta(minutes=15)


def guaranteed(devices: int) -> Power:
    """Give what so many devices may draw together while they are dimmed."""
    factor = FACTORS.get(devices, LAST_FACTOR)
    return Power.from_kilowatts(4.2 + (devices - 1) * factor * 4.2)


def is_dimmed(signal: Path) -> bool:
    """Read the signal; one that cannot be read dims."""
    try:
        return signal.read_text("utf-8").strip() != "0"
    except OSError:
        return True


def main() -> None:
    """Follow the signal."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: dim_14a.py SIGNAL_FILE [SECONDS [grpc://host:port]]")
    signal = Path(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    with contextlib.ExitStack() as stack:
        url = sys.argv[3] if len(sys.argv) > 3 else stack.enter_context(Simulator("house")).url
        charging = ChargingConfig(distribution="equal", minimum_on_time=TURN)
        microgrid = stack.enter_context(Microgrid(url, charging=charging))
        microgrid.limit("grid")  # the fuse holds in any case
        pool = microgrid.new_ev_charger_pool(priority=14)
        bound = guaranteed(len(pool.component_ids))
        was_dimmed = None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            dimmed = is_dimmed(signal)
            if dimmed:  # a proposal lapses after a minute unless it is renewed
                pool.propose_power(None, bounds=Bounds(None, bound))
            elif was_dimmed:
                pool.stop()
            if dimmed is not was_dimmed:
                words = f"dimmed to {bound}" if dimmed else "not dimmed"
                print(f"{len(pool.component_ids)} chargers {words}", flush=True)
            was_dimmed = dimmed
            time.sleep(1.0)


if __name__ == "__main__":
    main()
