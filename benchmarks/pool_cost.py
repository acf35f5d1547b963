"""CPU time of a microgrid with 100 chargers at 1 Hz, against bare grpcio with a thread each.

The microgrid runs a pool's total and its status on top of the streams, and the same once more
under limits of two nested circuits. Each reader is a process of
its own; the server is another. Measured in turns, in both generations of the API.
"""

import subprocess
import sys
import threading
import time

from parts import print_cpu_time, read_bare_streams, start_serving

from microgrid_sync import (
    Bounds,
    Current,
    FuseCurve,
    Microgrid,
    Power,
    Sample,
)
from microgrid_sync.receiver import Receiver
from microgrid_sync.simulator import Simulator

CHARGERS = 100
FIRST = 100
SECONDS = 15.0
ROUNDS = 3


def serve() -> None:
    """Serve a site with 100 chargers behind one meter until the standard input is closed."""
    chargers = list(range(FIRST, FIRST + CHARGERS))
    site = {
        "component": [
            {"id": 1, "category": "grid"},
            {"id": 2, "category": "meter"},
            *({"id": number, "category": "ev_charger"} for number in chargers),
        ],
        "connections": [[1, 2], *([2, number] for number in chargers)],
        "supply": {"resistance": 0.002},
        "car": [{"chargers": chargers}],
    }
    with Simulator(site) as simulator:
        print(simulator.port, flush=True)
        sys.stdin.read()


def read_bare(port: int, api: str) -> None:
    """Read all streams with the stub, a thread each."""
    channel = read_bare_streams(port, range(FIRST, FIRST + CHARGERS), api=api)
    measure()
    channel.close()


def read_ours(port: int, api: str, *, limited: bool = False) -> None:
    """Follow a pool's total and status, and keep a proposal; and limits of two circuits, if any."""
    with Microgrid(f"grpc://127.0.0.1:{port}?api={api}") as microgrid:
        if limited:
            microgrid.limit("grid", max_current=FuseCurve.gG(1000))
            microgrid.limit(2, max_current=Current.from_amperes(900.0))
        pool = microgrid.new_ev_charger_pool(priority=1)
        total = pool.power.new_receiver()
        status = pool.power_status.new_receiver()
        pool.propose_power(None, bounds=Bounds(None, Power.from_kilowatts(900.0)))
        late: list[float] = []
        threading.Thread(target=follow, args=(total, late), daemon=True).start()
        measure()
        status.latest()
        print(max(late[2:]), flush=True)


def follow(total: Receiver[Sample[Power]], late: list[float]) -> None:
    """Note how late each sample is, in seconds."""
    late.extend(time.time() - sample.timestamp.timestamp() for sample in total)


def measure() -> None:
    """Print the CPU time of some seconds."""
    print_cpu_time(after=4, seconds=SECONDS)


def main() -> None:
    """Measure and print."""
    match sys.argv[1:]:
        case ["serve"]:
            serve()
            return
        case ["bare", given, api]:
            read_bare(int(given), api)
            return
        case ["ours", given, api]:
            read_ours(int(given), api)
            return
        case ["limited", given, api]:
            read_ours(int(given), api, limited=True)
            return
    server, port = start_serving(__file__)
    for api in ("v0.15", "v1alpha18"):
        compare(port, api)
    server.kill()
    server.wait(10)


def compare(port: int, api: str) -> None:
    """Measure both in turns in a generation of the API, and print."""
    times: dict[str, list[float]] = {"bare": [], "ours": [], "limited": []}
    late: list[float] = []
    for _ in range(ROUNDS):
        for which, of in times.items():
            command = [sys.executable, __file__, which, str(port), api]
            found = [float(line) for line in subprocess.check_output(command, text=True).split()]
            of.append(found[0])
            late += found[1:]
    one, two, three = (min(found) / SECONDS * 100 for found in times.values())
    print(
        f"{CHARGERS} chargers at 1 Hz, {api}: bare {one:.1f} % of a core, a pool {two:.1f} %, "
        f"under two limits {three:.1f} %"
    )
    print(f"more: {two - one:.1f} % and {three - one:.1f} % of a core (at most 8 % are wanted)")
    print(f"the latest sample came {max(late) * 1000:.0f} ms late (less than 100 ms is wanted)")


if __name__ == "__main__":
    main()
