"""Two hundred sites, recorded by eight processes with a share each, one of which is killed.

    python benchmarks/shares.py [API [SITES [SHARES]]]

v1alpha18, 200 and 8 unless given. Needs PostgreSQL. Each site has three components that send a
sample each five seconds; four processes serve them all. Printed is who recorded what, how long the
killed one's sites were without a recorder after it was started again, and what is twice.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from microgrid_sync.simulator import Simulator
from tests.integration.database import Database

SERVERS = 4
INTERVAL = 5.0
"""Seconds between two samples of a component: two cores have to do it all."""


def site() -> dict[str, Any]:
    """Describe a site with three components that send data."""
    return {
        "component": [
            {"id": 1, "category": "grid"},
            {"id": 2, "category": "meter"},
            {"id": 3, "category": "meter", "load": "household", "load_power": 4000.0},
            {"id": 4, "category": "ev_charger"},
        ],
        "connections": [[1, 2], [2, 3], [2, 4]],
        "car": [{"chargers": [4]}],
    }


def serve(count: int) -> None:
    """Serve sites until the standard input is closed."""
    with contextlib.ExitStack() as stack:
        simulators = [
            stack.enter_context(
                Simulator(site(), start=datetime.now(UTC), sample_interval=INTERVAL)
            )
            for _ in range(count)
        ]
        print(*(simulator.port for simulator in simulators), flush=True)
        sys.stdin.read()


def start_server(count: int) -> "subprocess.Popen[str]":
    """Serve sites in a process of their own."""
    return subprocess.Popen(
        [sys.executable, __file__, "serve", str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def start_share(path: Path, share: int, shares: int) -> "subprocess.Popen[bytes]":
    """Record a share of the sites in a process of its own."""
    command = [sys.executable, "-m", "microgrid_sync", "record", "--sites", str(path)]
    # Spools are in the folder, too.
    where = {**os.environ, "XDG_STATE_HOME": str(path.parent)}
    with (path.parent / f"log-{share}").open("ab") as log:
        return subprocess.Popen([*command, "--share", f"{share}/{shares}"], stderr=log, env=where)


def kill_all(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """End them."""
    for process in processes:
        process.kill()
        process.wait(10)


def recorded_since(database: Database, since: datetime) -> set[str]:
    """Name the sites that have sent something since then."""
    rows = database.ask(
        f"SELECT DISTINCT site FROM microgrid.meter WHERE timestamp > '{since.isoformat()}'"  # noqa: S608 - a time
    )
    return {str(name) for (name,) in rows}


def wait_for(database: Database, since: datetime, names: set[str]) -> float:
    """Wait until all of some sites are recorded; give the seconds."""
    began = time.monotonic()
    while not names <= recorded_since(database, since):
        time.sleep(0.5)
    return time.monotonic() - began


def measure(api: str, sites: int, shares: int) -> None:
    """Record, kill, and look."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(Database())
        servers = [start_server(sites // SERVERS) for _ in range(SERVERS)]
        stack.callback(kill_all, servers)
        ports = [port for one in servers if one.stdout for port in one.stdout.readline().split()]
        path = folder / "sites.toml"
        path.write_text(
            f'[record]\nto = "{database.url}"\n'
            + "".join(
                f'[[site]]\nname = "s{n}"\nurl = "grpc://127.0.0.1:{port}?api={api}"\n'
                for n, port in enumerate(ports)
            )
        )
        names = {f"s{n}" for n in range(len(ports))}
        database.ask("SELECT 1")
        began = datetime.now(UTC)
        processes = [start_share(path, share, shares) for share in range(1, shares + 1)]
        stack.callback(kill_all, processes)
        while database.ask("SELECT to_regclass('microgrid.meter')") == [(None,)]:
            time.sleep(0.5)
        print(f"{len(ports)} sites, {shares} processes, API {api}")
        print(f"all are recorded after {wait_for(database, began, names):.1f} s", flush=True)
        time.sleep(20)
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()
        time.sleep(2)
        again = datetime.now(UTC)
        processes[0] = start_share(path, 1, shares)
        its = {f"s{n}" for n in range(0, len(ports), shares)}
        back = wait_for(database, again, its)
        print(f"one is killed and started again: its {len(its)} sites are back after {back:.1f} s")
        time.sleep(10)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in processes]
        runs = database.ask(
            "SELECT site, count(DISTINCT sequence) FROM microgrid.coverage"
            " WHERE state = 'recorded' GROUP BY site"
        )
        print("recorders a site:", dict(Counter(count for _, count in runs)), "exit codes", codes)
        twice = database.ask(
            "SELECT count(*) FROM (SELECT 1 FROM microgrid.sample"
            " GROUP BY site, component_id, metric, timestamp HAVING count(*) > 1) AS found"
        )
        rows = database.ask("SELECT count(*) FROM microgrid.meter")
        print(f"rows of meters: {rows[0][0]:,}; values that are there twice: {twice[0][0]}")


def main() -> None:
    """Run."""
    match sys.argv[1:]:
        case ["serve", count]:
            serve(int(count))
        case arguments:
            given = dict(enumerate(arguments))
            measure(given.get(0, "v1alpha18"), int(given.get(1, 200)), int(given.get(2, 8)))


if __name__ == "__main__":
    main()
