"""CPU time of all formulas of a site with 100 components at 1 Hz, beyond that of a pool alone.

Each reader is a process of its own; the server is another. Measured in turns, in both generations
of the API; what is to be compared is the difference, as a share of one core.
"""

import subprocess
import sys
from datetime import timedelta

from parts import print_cpu_time, start_serving

from microgrid_sync import Microgrid
from microgrid_sync.simulator import Simulator

SECONDS = 20.0
ROUNDS = 3


def serve() -> None:
    """Serve a site with 100 components until the standard input is closed."""
    components: list[dict[str, object]] = [
        {"id": 1, "category": "grid"},
        {"id": 2, "category": "meter"},
        {"id": 3, "category": "meter", "load": "household", "load_power": 4000.0},
    ]
    connections = [[1, 2], [2, 3]]
    chargers = []
    for meter in range(10, 20):
        components.append({"id": meter, "category": "meter"})
        connections.append([2, meter])
        for charger in range(10 * meter, 10 * meter + 5):
            components.append({"id": charger, "category": "ev_charger"})
            connections.append([meter, charger])
            chargers.append(charger)
    for inverter in range(300, 317):
        components.append({"id": inverter, "category": "inverter", "type": "solar", "peak": 9000.0})
        connections.append([2, inverter])
    for inverter in range(400, 410):
        components += [
            {"id": inverter, "category": "inverter", "type": "battery", "rating": 9000.0},
            {"id": inverter + 100, "category": "battery", "capacity": 9000.0},
        ]
        connections += [[2, inverter], [inverter, inverter + 100]]
    site = {"component": components, "connections": connections, "car": [{"chargers": chargers}]}
    with Simulator(site) as simulator:
        print(simulator.port, flush=True)
        sys.stdin.read()


def read(port: int, api: str, *, all_of_it: bool) -> None:
    """Receive a pool's formulas, and those of the site."""
    url = f"grpc://127.0.0.1:{port}?api={api}"
    with Microgrid(url, resampling_period=timedelta(seconds=1)) as site:
        pool = site.new_ev_charger_pool(priority=1)
        receivers: list[object] = [pool.power.new_receiver(), pool.current_per_phase.new_receiver()]
        if all_of_it:
            receivers += [
                part.power.new_receiver()
                for part in (
                    site.grid,
                    site.consumer,
                    site.producer,
                    site.pv,
                    site.battery,
                    site.chp,
                )
            ]
            receivers += [
                site.grid.current_per_phase.new_receiver(),
                site.grid.voltage_per_phase.new_receiver(),
                site.grid.frequency.new_receiver(),
                site.grid.reactive_power.new_receiver(),
                site.battery.soc.new_receiver(),
                site.battery.capacity.new_receiver(),
            ]
        print_cpu_time(after=5, seconds=SECONDS)


def main() -> None:
    """Measure and print."""
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["read", what, port, api]:
            read(int(port), api, all_of_it=what == "site")
        case _:
            compare()


def compare() -> None:
    """Measure a pool alone and the whole site in turns."""
    server, port = start_serving(__file__)
    for api in ("v0.15", "v1alpha18"):
        shares: dict[str, list[float]] = {"pool": [], "site": []}
        for _ in range(ROUNDS):
            for what, found in shares.items():
                command = [sys.executable, __file__, "read", what, str(port), api]
                output = subprocess.check_output(command, text=True)
                found.append(100 * float(output.split()[0]) / SECONDS)
        pool, site = (min(found) for found in shares.values())
        print(f"{api}: a pool {pool:.1f} % of a core, all formulas of the site {site:.1f} %")
        print(f"more: {site - pool:.1f} % of a core (at most 2 % are wanted)")
    server.kill()
    server.wait(10)


if __name__ == "__main__":
    main()
