"""CPU time of the simulator: 1,000 chargers at 1 Hz, each followed by a client.

Usage: simulator_cost.py [API ...], all of them unless given. What nobody follows is measured, too.

The simulator is a process of its own; another one reads all streams with bare grpcio and counts
what arrives. The simulator's CPU time comes from the system's books, for all of its threads.
"""

import json
import os
import subprocess
import sys
import time

from parts import cpu_seconds, read_bare_streams, start_serving

from microgrid_sync.simulator import Simulator

CHARGERS = 1000
FIRST = 1000
SECONDS = 20.0
TO_REACH = 0.60


kept: list[object] = []
"""Channels: one that nobody refers to is closed."""


def description() -> dict[str, object]:
    """Describe a site with chargers behind ten meters, and a car at each."""
    chargers = range(FIRST, FIRST + CHARGERS)
    meters = range(10, 20)
    return {
        "seed": 1,
        "component": [
            {"id": 1, "category": "grid", "fuse": 10_000.0},
            {"id": 2, "category": "meter"},
            *({"id": number, "category": "meter"} for number in meters),
            *({"id": number, "category": "ev_charger"} for number in chargers),
        ],
        "connections": [
            [1, 2],
            *([2, number] for number in meters),
            *([10 + number % 10, number] for number in chargers),
        ],
        "supply": {"resistance": 0.0002},
        "car": [{"chargers": list(chargers)}],
    }


def serve() -> None:
    """Serve until the standard input is closed; then print the CPU time of the last window."""
    with Simulator(description()) as simulator:
        print(simulator.port, flush=True)
        for _ in sys.stdin:
            print(cpu_seconds(), flush=True)


def measure(server: "subprocess.Popen[str]") -> float:
    """Ask the server for its CPU time so far."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("now\n")
    server.stdin.flush()
    return float(server.stdout.readline())


def measured(api: str | None) -> dict[str, object]:
    """Measure with clients of a generation of the API, or without any."""
    server, port = start_serving(__file__)
    counts = [0] * CHARGERS

    def count(component_id: int) -> None:
        counts[component_id - FIRST] += 1

    if api is None:
        time.sleep(3.0)
    else:
        kept.append(read_bare_streams(port, range(FIRST, FIRST + CHARGERS), count, api=api))
        while min(counts) < 2:
            time.sleep(0.1)
    received, cpu, began = sum(counts), measure(server), time.monotonic()
    time.sleep(SECONDS)
    received, cpu = sum(counts) - received, measure(server) - cpu
    seconds = time.monotonic() - began
    share, rate = cpu / seconds, received / seconds
    print(f"{CHARGERS} chargers at 1 Hz, {api or 'nobody follows'}: {rate:.0f} messages/s arrived")
    print(f"the simulator took {share:.1%} of one core (to reach: less than {TO_REACH:.0%})")
    # A thousand daemon threads need no orderly end.
    server.kill()
    server.wait(30)
    return {
        "api": api,
        "chargers": CHARGERS,
        "seconds": round(seconds, 1),
        "messages_per_second": round(rate, 1),
        "simulator_share_of_a_core": round(share, 3),
        "to_reach": TO_REACH,
    }


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    apis: list[str | None] = [*(sys.argv[1:] or ["v0.15", "v1alpha18"])]
    if not sys.argv[1:]:
        apis.append(None)
    for api in apis:
        print(json.dumps(measured(api)), flush=True)
    # Nor do those of this process.
    os._exit(0)


if __name__ == "__main__":
    main()
