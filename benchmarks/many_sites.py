"""Twenty sites of 25 components at 1 Hz in one process, recorded and published.

    python benchmarks/many_sites.py [MINUTES [API [LAYOUT]]]

10 minutes and v1alpha18 unless given; LAYOUT is MQTT's, `objects` unless given. Needs mosquitto and
PostgreSQL. The sites' servers, the broker, the database, the process with the sites, and a reader
of the same streams with bare grpcio are processes of their own. Printed are, minute by minute, the
share of a core and the memory of both, and how old samples are when they are in the database, and
messages when a subscriber has them: the median, 99 % and the oldest. Then some sites get into
trouble, and the ages of the others' are printed beside.
"""

import contextlib
import json
import math
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import psycopg
from gateways import Figures, report
from parts import read_bare_streams

from microgrid_sync import MicrogridApiClient
from microgrid_sync.service import read_sites, running_sites
from microgrid_sync.simulator import Simulator
from microgrid_sync.snapshot import has_data
from tests.integration.broker import Broker, Listener
from tests.integration.database import Database
from tests.support.charger_server import ChargerServer

SITES = 20
CHARGERS = 19


def site() -> dict[str, Any]:
    """Describe a site with 25 components that send data."""
    components: list[dict[str, Any]] = [
        {"id": 1, "category": "grid"},
        {"id": 2, "category": "meter"},
        {"id": 3, "category": "meter", "load": "household", "load_power": 4000.0},
        {"id": 4, "category": "meter"},
        {"id": 5, "category": "inverter", "type": "solar", "peak": 9000.0},
        {"id": 6, "category": "inverter", "type": "battery", "rating": 9000.0},
        {"id": 7, "category": "battery", "capacity": 9000.0},
    ]
    chargers = [*range(10, 10 + CHARGERS)]
    components += [{"id": number, "category": "ev_charger"} for number in chargers]
    connections = [[1, 2], [2, 3], [2, 4], [2, 5], [2, 6], [6, 7], *([4, n] for n in chargers)]
    return {"component": components, "connections": connections, "car": [{"chargers": chargers}]}


def serve(count: int) -> None:
    """Serve sites until the standard input is closed; at each line say how late clocks are."""
    with contextlib.ExitStack() as stack:
        simulators = [
            stack.enter_context(Simulator(site(), start=datetime.now(UTC), sample_interval=1.0))
            for _ in range(count)
        ]
        print(*(simulator.port for simulator in simulators), flush=True)
        for _ in sys.stdin:
            late = [(datetime.now(UTC) - one.time).total_seconds() for one in simulators]
            print(*late, flush=True)


def serve_sites(urls: list[str], broker: int, database: str, layout: str) -> None:
    """Run all sites until the standard input is closed."""
    config = read_sites(
        {
            "site": [{"name": f"site-{n}", "url": url} for n, url in enumerate(urls)],
            "mqtt": {"port": broker, "layout": layout, "interval": 5},
            "record": {"to": database},
        }
    )
    with running_sites(config, ["mqtt", "record"]):
        report(len(urls))


def read_bare(urls: list[str]) -> None:
    """Read the same streams with grpcio alone."""
    channels = []
    for url in urls:
        api = url.rpartition("=")[2]
        port = int(url.partition("?")[0].rpartition(":")[2])
        with MicrogridApiClient(url) as client:
            numbers = [c.component_id for c in client.components() if has_data(c, api)]
        channels.append(read_bare_streams(port, numbers, api=api))
    report(len(channels))


def serve_flood(api: str) -> None:
    """Serve a site that floods from the first line of the standard input on, until it is closed.

    Making its samples takes little, so that the cores are there for those who read them.
    """
    with ChargerServer(24, interval=1.0) as server:
        server.api = api
        print(server.port, flush=True)
        for _ in sys.stdin:
            server.interval = 0.01
            print(0.0, flush=True)


class Server:
    """Sites in a process of their own."""

    def __init__(self, *arguments: object) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.ports = [int(word) for word in self.process.stdout.readline().split()]

    def late(self) -> list[float]:
        """Give by how many seconds the sites' clocks are late."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return [float(word) for word in self.process.stdout.readline().split()]


class Ages:
    """How old samples are when they are where somebody looks for them."""

    def __init__(self, database: str, listener: Listener, healthy: int) -> None:
        """Begin to look; at the first sites alone."""
        self._url = database
        self._listener = listener
        self._healthy = [f"site-{n}" for n in range(healthy)]
        self.late: dict[str, float] = dict.fromkeys(self._healthy, 0.0)
        """By how many seconds the sites' clocks are late."""
        self.stored: list[float] = []
        self.heard: list[float] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._ask, self._hear)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> tuple[list[float], list[float]]:
        """Give what was found since the last time."""
        found = self.stored, self.heard
        self.stored, self.heard = [], []
        return found

    def _ask(self) -> None:
        newest: dict[tuple[str, int], datetime] = {}
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._ended.wait(0.3):
                rows = connection.execute(
                    "SELECT site, component_id, max(timestamp), clock_timestamp()"
                    " FROM microgrid.ev_charger"
                    " WHERE site = ANY(%s) AND component_id = 10"
                    " AND timestamp > now() - interval '20 s' GROUP BY 1, 2",
                    (self._healthy,),
                ).fetchall()
                for name, number, stamp, now in rows:
                    if newest.get((name, number)) != stamp:
                        newest[name, number] = stamp
                        age = (now - stamp).total_seconds()
                        self.stored.append(age - self.late[name])

    def _hear(self) -> None:
        while not self._ended.wait(0.05):
            told, self._listener.all = self._listener.all, []
            now = time.time()
            for one in told:
                name = one.topic.split("/")[1]
                if name not in self.late:
                    continue
                stamp = datetime.fromisoformat(json.loads(one.payload)["time"])
                self.heard.append(now - stamp.timestamp() - self.late[name])


def measure(minutes: float, api: str, layout: str) -> None:
    """Print a line for each minute, then one for each trouble."""
    servers = [*(Server("serve", count) for count in (9, 8, 1, 1)), Server("flood", api)]
    ports = [port for server in servers for port in server.ports]
    urls = [f"grpc://127.0.0.1:{port}?api={api}" for port in ports]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(Broker(folder))
        database = stack.enter_context(Database())
        # First, and alone: two cores have not room for both.
        bare = Figures("bare", *urls, script=__file__)
        time.sleep(10)
        bare.look()
        time.sleep(30)
        beside = bare.look()
        bare.process.kill()
        bare.process.wait(10)
        sites = Figures("sites", str(broker.port), database.url, layout, *urls, script=__file__)
        tail = "" if layout == "objects" else "/active_power_w"
        # A charger of each of the sites that are never in trouble.
        listener = stack.enter_context(Listener(broker.port, f"microgrid/+/component/10{tail}"))
        time.sleep(40)
        ages = Ages(database.url, listener, 17)
        stack.callback(ages.end)
        sites.look()
        print(f"{SITES} sites, {25 * SITES} components, API {api}, MQTT: {layout}")
        print(f"bare grpcio, before: {beside[0]:.1f} % of a core, {beside[1]:.0f} MiB")
        print(f"{'':>17}CPU %  MiB threads sockets  stored after 50 % 99 % all  "
              "heard after 50 % 99 % all   rows/s")  # fmt: skip
        count = rows(database)

        def line(name: str, seconds: float) -> None:
            nonlocal count
            late = [one for server in servers[:2] for one in server.late()]
            ages.late = {f"site-{n}": one for n, one in enumerate(late)}
            ages.take()
            time.sleep(seconds)
            now = rows(database)
            print(_row(name, sites.look(), ages.take(), (now - count) / seconds), flush=True)
            count = now

        for minute in range(1, round(minutes) + 1):
            line(f"minute {minute}", 60)
        servers[2].process.send_signal(signal.SIGSTOP)
        line("one hangs", 60)
        servers[3].process.kill()
        line("one is down, too", 60)
        servers[4].late()
        # Until what is on its way is full, its server takes most of a core, too.
        line("one floods, too", 60)
        line("and goes on", 60)
        for process in (sites.process, *(server.process for server in servers)):
            process.kill()
            process.wait(10)


def rows(database: Database) -> int:
    """Count the rows of samples and totals, about."""
    found = database.ask(
        "SELECT sum(n_tup_ins) FROM pg_stat_user_tables WHERE schemaname = 'microgrid'"
    )
    return int(found[0][0] or 0)


def _row(name: str, ours: Any, ages: Any, rate: float) -> str:
    cpu, memory, threads, sockets = ours
    texts = []
    for found in ages:
        hundredths = statistics.quantiles(found, n=100) if len(found) > 1 else [math.nan] * 99
        oldest = max(found, default=math.nan)
        texts.append(f"{hundredths[49]:>12.2f} {hundredths[98]:.2f} {oldest:.2f} s")
    return (f"{name:<16} {cpu:>5.1f} {memory:>4.0f} {threads:>7} {sockets:>7} {texts[0]} "
            f"{texts[1]} {rate:>8.0f}")  # fmt: skip


def main() -> None:
    """Run."""
    match sys.argv[1:]:
        case ["serve", count]:
            serve(int(count))
        case ["flood", api]:
            serve_flood(api)
        case ["sites", broker, database, layout, *urls]:
            serve_sites(urls, int(broker), database, layout)
        case ["bare", *urls]:
            read_bare(urls)
        case arguments:
            given = dict(enumerate(arguments))
            measure(float(given.get(0, 10)), given.get(1, "v1alpha18"), given.get(2, "objects"))


if __name__ == "__main__":
    main()
