"""Our client against bare grpcio, in one run: rates, CPU time, memory, delays, as ratios.

Usage: against_grpcio.py [--rounds N] [--seconds S] [--asyncio-python PATH] [--alpha-python PATH]
[ROW ...]. Rows: flat, merged, thousand, subscribe, set-power, import. ``--asyncio-python`` is a
Python that has frequenz-client-microgrid 0.6.1, ``--alpha-python`` one that has 0.18.4; without
them, those clients are left out. Prints a table, and JSON in the last line.

The server is not in Python, and its messages are serialised beforehand. A round in which it took
more than 80 % of a core says nothing about the clients, and is called void.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from fast_server import BUSY, FastServer, fast_server
from parts import bare_set_power

from microgrid_sync import MicrogridApiClient
from microgrid_sync.wire import v0_15_schema as schema

READER = Path(__file__).with_name("reader.py")

SOURCES = (
    ("v0.15", "meter"), ("v0.15", "ev_charger"), ("v1alpha18", "meter"), ("v1alpha18", "ev_charger")
)  # fmt: skip


@dataclass
class Row:
    """One line of the table."""

    work: str
    ours: float
    bare: float
    unit: str
    ratio: float
    to_reach: str
    met: bool
    server: float
    """The part of a core that the server took at the most."""


@dataclass(frozen=True)
class Setup:
    """What is read: how many streams, at what rate, of which generation and category, and how."""

    streams: int
    rate: float
    api: str = "v0.15"
    category: str = "meter"
    interval: float = 0.002
    """Seconds of a batch."""

    @property
    def label(self) -> str:
        """What the table calls it."""
        return f"{self.api}, {'chargers' if self.category == 'ev_charger' else 'meters'}"


def read(
    kind: str,
    server: FastServer,
    setup: Setup,
    options: argparse.Namespace,
    python: str = sys.executable,
) -> tuple[dict[str, Any], float]:
    """Let a reader read; give what it measured, and what the server took."""
    command = [
        python, str(READER), kind, str(server.port), str(setup.streams), str(options.seconds),
        "--api", setup.api, "--category", setup.category, "--interval", str(setup.interval),
    ]  # fmt: skip
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdin is not None
    assert reader.stdout is not None
    line = reader.stdout.readline()
    subscribed = 0.0
    if line.strip() != "flowing":
        subscribed = float(line)
        reader.stdout.readline()
    before = server.work()
    reader.stdin.write("\n")
    reader.stdin.flush()
    result = json.loads(reader.stdout.readline())
    work = server.work().since(before)
    reader.wait(30)
    result["subscribed"] = subscribed
    result["sent_rate"] = work.sent / work.at
    # Dropped messages do not count.
    result["rate"] -= result.get("dropped", 0) / options.seconds
    return result, work.share


Results = dict[str, list[dict[str, Any]]]


def compare(
    setup: Setup, options: argparse.Namespace, *kinds: str, peer: str | None = None
) -> tuple[Results, float]:
    """Let readers read in turns: give what each has measured, and the server's share.

    The kind ``asyncio`` runs in the Python `peer`, and is left out without one.
    """
    results: Results = {kind: [] for kind in kinds if kind != "asyncio" or peer}
    shares: list[float] = []
    for _ in range(options.rounds):
        for kind, found in results.items():
            python = peer if kind == "asyncio" and peer else sys.executable
            with fast_server(
                setup.streams, setup.rate, api=setup.api, category=setup.category
            ) as server:
                result, share = read(kind, server, setup, options, python)
            found.append(result)
            shares.append(share)
    return results, max(shares)


def median_ratio(ours: list[dict[str, Any]], bare: list[dict[str, Any]], key: str) -> float:
    """Give the middle one of the rounds' ratios."""
    return float(statistics.median(o[key] / b[key] for o, b in zip(ours, bare, strict=True)))


def middle(results: list[dict[str, Any]], key: str) -> float:
    """Give the middle one of the rounds."""
    return float(statistics.median(result[key] for result in results))


def flat(options: argparse.Namespace) -> list[Row]:
    """One stream read as fast as it comes, woken for each value and in batches."""
    rows = []
    for api, category in SOURCES:
        setup = Setup(1, 0.0, api, category)
        # A peer of each generation: client 0.6.1 speaks v0.15 alone, 0.18.4 only v1alpha18.
        peer = options.asyncio_python if api == "v0.15" else options.alpha_python
        found, server = compare(setup, options, "bare", "ours", "batches", "asyncio", peer=peer)

        rows.append(rates(f"flat out, {setup.label}", found, "ours/bare", ">= 0.75", server))
        rows.append(rates("... in batches, or woken", found, "batches/ours", ">= 1", server))
        if peer:
            rows.append(rates("... woken, or asyncio", found, "ours/asyncio", ">= 4", server))
            rows.append(
                rates("... in batches, or asyncio", found, "batches/asyncio", ">= 5", server)
            )
    return rows


def rates(work: str, found: Results, kinds: str, to_reach: str, server: float) -> Row:
    """Compare the rates of two readers, such as ``ours/bare``."""
    one, other = (found[kind] for kind in kinds.split("/"))
    ratio = median_ratio(one, other, "rate")
    return row(work, one, other, "rate", "messages/s", ratio, to_reach, server)


def merged(options: argparse.Namespace) -> list[Row]:
    """A hundred streams at 10 Hz in one reader."""
    rows = []
    for api, category in SOURCES:
        setup = Setup(100, 10.0, api, category)
        found, server = compare(setup, options, "bare", "ours")
        ours, bare = found["ours"], found["bare"]
        cost = median_ratio(ours, bare, "cpu_per_message")
        late = median_ratio(ours, bare, "p99")
        in_units(found)
        name = f"100 at 10 Hz, {setup.label}"
        rows += [
            row(name, ours, bare, "cpu_per_message", "CPU us/message", cost, "<= 1.3", server),
            row("... delay, p99", ours, bare, "p99", "ms", late, "<= 1.3", server),
        ]
    return rows


def thousand(options: argparse.Namespace) -> list[Row]:
    """A thousand streams at 3 Hz, merged: woken for each value, and in batches.

    Batches, of 20 ms, are compared with bare grpcio that parses in its streams' threads and hands
    nothing over.
    """
    rows = []
    for api, category in SOURCES:
        setup = Setup(1000, 3.0, api, category, interval=0.02)
        found, server = compare(setup, options, "bare", "parsed", "ours", "batches")
        ours, bare, batches, parsed = (
            found[kind] for kind in ("ours", "bare", "batches", "parsed")
        )
        cost = median_ratio(ours, bare, "cpu_per_message")
        memory = median_ratio(ours, bare, "resident")
        rate = statistics.median(result["rate"] / 3000 for result in ours)
        of_batches = median_ratio(batches, parsed, "cpu_per_message")
        in_units(found)
        late = middle(batches, "p99")
        name, unit = f"1,000 at 3 Hz, {setup.label}", "CPU us/message"
        rows += [
            row(f"{name}: rate", ours, bare, "rate", "messages/s", rate, ">= 0.99", server),
            row("... CPU", ours, bare, "cpu_per_message", unit, cost, "<= 1.2", server),
            row("... memory", ours, bare, "resident", "MiB", memory, "<= 1.3", server),
            row(
                "... in batches, bare parses only: CPU",
                batches,
                parsed,
                "cpu_per_message",
                unit,
                of_batches,
                "<= 1.2",
                server,
            ),
            row("... in batches: delay, p99", batches, parsed, "p99", "ms", late, "<= 25", server),
        ]
    return rows


def in_units(found: Results) -> None:
    """Turn seconds and bytes into the table's units."""
    for results in found.values():
        for result in results:
            result["cpu_per_message"] *= 1e6
            result["p99"] *= 1e3
            result["resident"] /= 2**20


def subscribe(options: argparse.Namespace) -> list[Row]:
    """A thousand subscriptions."""
    setup = Setup(1000, 1.0)
    with fast_server(setup.streams, setup.rate) as server:
        result, share = read("ours", server, setup, options)
        lists = server.work().lists
    taken = result["subscribed"]
    return [
        Row("1,000 subscriptions", taken, 0.0, "s", taken, "< 2", taken < 2, share),
        Row("... list calls", lists, 0.0, "", lists, "<= 2", lists <= 2, share),
    ]


def set_power(options: argparse.Namespace) -> list[Row]:
    """Set-points, one after the other, in turns with bare grpcio."""
    with (
        fast_server(1, 1.0) as server,
        MicrogridApiClient(f"grpc://127.0.0.1:{server.port}?api=v0.15") as c,
    ):
        channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        bare_power = bare_set_power(channel)

        def bare_call() -> None:
            message = schema.SetPowerActiveParam(component_id=1, power=1000.0)
            bare_power(message, timeout=60.0)

        def our_call() -> None:
            c.set_power(1, 1000.0)

        ours, bare = [], []
        before = server.work()
        for _ in range(options.rounds * 5):
            bare.append({"time": time_of(bare_call, 400)})
            ours.append({"time": time_of(our_call, 400)})
        share = server.work().since(before).share
        channel.close()
    ratio = median_ratio(ours, bare, "time")
    return [row("set_power", ours, bare, "time", "us", ratio, "<= 1.15", share)]


def time_of(call: Callable[[], None], times: int) -> float:
    """Time a call in microseconds."""
    call()
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times * 1e6


def import_time(options: argparse.Namespace) -> list[Row]:
    """The import, against grpc and the bindings."""
    needed = "import grpc, frequenz.api.microgrid.v1alpha18.microgrid_pb2_grpc"
    ours: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    for _ in range(options.rounds * 3):
        for statement, results in (
            (needed, bare),
            ("import microgrid_sync; microgrid_sync.MicrogridApiClient", ours),
        ):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            results.append({"time": (time.perf_counter() - began) * 1e3})
    ratio = median_ratio(ours, bare, "time")
    return [row("import", ours, bare, "time", "ms", ratio, "<= 1.5", 0.0)]


def row(  # noqa: PLR0917 - in the order of the table
    work: str,
    ours: list[dict[str, Any]],
    bare: list[dict[str, Any]],
    key: str,
    unit: str,
    ratio: float,
    to_reach: str,
    server: float,
) -> Row:
    """Make a line of the table."""
    relation, limit = to_reach.split()
    met = ratio >= float(limit) if relation == ">=" else ratio <= float(limit)
    return Row(work, middle(ours, key), middle(bare, key), unit, ratio, to_reach, met, server)


ROWS = {
    "flat": flat,
    "merged": merged,
    "thousand": thousand,
    "subscribe": subscribe,
    "set-power": set_power,
    "import": import_time,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Our client against bare grpcio.")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--asyncio-python")
    parser.add_argument("--alpha-python")
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"{', '.join(unknown)}: the rows are {', '.join(ROWS)}")
    rows: list[Row] = []
    print(f"{'work':40} {'ours':>10} {'other':>10} {'':15} {'ratio':>7} {'to reach':>9}   server")
    for name in options.rows or ROWS:
        for line in ROWS[name](options):
            rows.append(line)
            verdict = "void" if line.server > BUSY else "met" if line.met else "NOT MET"
            print(
                f"{line.work:40} {line.ours:10.1f} {line.bare:10.1f} {line.unit:15} "
                f"{line.ratio:7.2f} {line.to_reach:>9}   {line.server:.0%} of a core, {verdict}",
                flush=True,
            )
    print(json.dumps([asdict(line) for line in rows]))


if __name__ == "__main__":
    main()
