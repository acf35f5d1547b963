"""Records a year of a depot with 24 chargers, made at speed, and reads any day of it.

    python benchmarks/year.py FOLDER/ [--days 365]
    python benchmarks/year.py postgresql://user@host/database

Totals at 1 Hz, what components send once a minute: as `microgrid-sync record --every 60` records
it. All rows go the way that recorded ones go, through a spool. Printed are the time, the size, and
how long `microgrid-sync report` takes for some days, each in a process of its own.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.recording.destination import destination_of
from microgrid_sync.recording.rows import coverage_row, site_row
from microgrid_sync.recording.schema import TABLES, Row, micros
from microgrid_sync.recording.sinks import store_of
from microgrid_sync.recording.spool import Spool
from microgrid_sync.recording.store import Store

SITE = "depot"
CHARGERS = range(101, 125)
FUSE = 630.0
SECONDS = 86_400
VOLTAGE = 230.0


def main() -> None:
    """Record, and read."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("destination")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--first", type=date.fromisoformat, default=date(2025, 11, 1))
    parser.add_argument("--read-only", action="store_true")
    given = parser.parse_args()
    destination = destination_of(given.destination)
    store = store_of(destination, "day")
    store.check()
    days = [given.first + timedelta(days=n) for n in range(given.days)]
    if not given.read_only:
        rows, seconds = record(store, days)
        print(f"{rows:,} rows in {seconds:.0f} s: {rows / seconds:,.0f} a second", flush=True)
    store.close()
    if destination.kind == "parquet":
        size = sum(path.stat().st_size for path in destination.path.rglob("*.parquet"))
        print(f"{size / 1e9:.2f} GB in files", flush=True)
    chosen = random.Random(1).sample(days, min(7, len(days)))  # noqa: S311 - any will do
    took = []
    for day in [days[0], days[-1], *chosen]:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "microgrid_sync", "report", given.destination,
             "--day", day.isoformat(), "--site", SITE, "--html", "/dev/null"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        took.append(time.monotonic() - began)
    print(f"a report: {min(took):.2f} to {max(took):.2f} s, {len(took)} days", flush=True)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "microgrid_sync", "report", "--help"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    print(f"of it, to start: {time.monotonic() - began:.2f} s")


def record(store: Store, days: list[date]) -> tuple[int, float]:
    """Record some days; give the number of rows, and the seconds."""
    generator = np.random.default_rng(1)
    began = time.monotonic()
    count = 0
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "spool.sqlite") as spool:
        start = datetime.combine(days[0], datetime.min.time(), UTC)
        components = [
            Component(1, ComponentCategory.GRID),
            Component(2, ComponentCategory.METER),
            Component(3, ComponentCategory.INVERTER),
            Component(4, ComponentCategory.BATTERY),
            *(Component(number, ComponentCategory.EV_CHARGER) for number in CHARGERS),
        ]
        rows = [site_row(SITE, "grpc://depot:8800", None, components, fuse_a=FUSE, now=start)]
        for number, day in enumerate(days):
            rows += day_rows(day, generator)
            end = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
            rows.append(coverage_row(SITE, 1, "recorded", start, end, reason=None))
            for place in range(0, len(rows), 20_000):
                groups: dict[str, list[Row]] = {}
                for row in rows[place : place + 20_000]:
                    groups.setdefault(store.place(row.table, row.timestamp), []).append(row)
                spool.add(groups)
            while store.deliver(spool, all_of_it=True):
                pass
            count += len(rows)
            rows = []
            if number % 30 == 29:
                print(f"  {number + 1} days, {time.monotonic() - began:.0f} s", flush=True)
    return count, time.monotonic() - began


def day_rows(day: date, generator: np.random.Generator) -> Iterator[Row]:
    """Make the rows of a day."""
    midnight = micros(datetime.combine(day, datetime.min.time(), UTC))
    seconds = np.arange(SECONDS)
    cars = np.zeros((len(CHARGERS), SECONDS))
    plugged = np.zeros((len(CHARGERS), SECONDS), dtype=bool)
    for place in range(len(CHARGERS)):
        # A bus in the night, another car at noon.
        for begin, length, power in ((0, 5.5, 22e3), (12, 2.0, 11e3), (20, 4.0, 22e3)):
            first = int((begin + generator.uniform(0, 1)) * 3600)
            last = first + int(length * 3600)
            full = first + int(length * 3600 * generator.uniform(0.4, 1.0))
            plugged[place, first:last] = True
            cars[place, first:full] = power * generator.uniform(0.5, 1.0)
    cars *= 1 + generator.normal(0, 0.002, cars.shape)
    sun = np.clip(np.sin((seconds / 3600 - 6) / 12 * np.pi), 0, None)
    pv = -60e3 * sun * generator.uniform(0.2, 1.0)
    house = 6e3 + 2e3 * np.sin(seconds / 7200) + generator.normal(0, 100, SECONDS)
    battery = np.where(sun > 0.5, 15e3, np.where(seconds < 14_400, -20e3, 0.0))
    charging = cars.sum(axis=0)
    grid = house + pv + battery + charging
    phases = [grid / 3 / VOLTAGE + generator.normal(0, 1, SECONDS) for _ in range(3)]
    frequency = 50 + generator.normal(0, 0.01, SECONDS)
    soc = np.clip(50 - np.cumsum(battery) / 3.6e6, 0, 100)
    nothing = [None] * SECONDS
    columns = {
        "grid_power_w": grid,
        **{f"grid_current_phase_{n}_a": phase for n, phase in enumerate(phases, 1)},
        "grid_frequency_hz": frequency,
        "consumers_power_w": house,
        "pv_power_w": pv,
        "batteries_power_w": battery,
        "batteries_soc_percent": soc,
        "chargers_power_w": charging,
        **{f"chargers_current_phase_{n}_a": charging / 3 / VOLTAGE for n in (1, 2, 3)},
    }
    # What comes from the wire has the digits of a float32.
    cells = [
        columns[name].astype("float32").tolist() if name in columns else nothing
        for name in TABLES["total"].values
    ]
    for second, values in enumerate(zip(*cells, strict=True)):
        yield Row("total", SITE, 0, midnight + second * 1_000_000, 0, values)
    for minute in range(0, SECONDS, 60):
        stamp = midnight + minute * 1_000_000
        yield component("meter", 2, stamp, float(grid[minute]))
        yield component("inverter", 3, stamp, float(pv[minute]))
        yield Row("battery", SITE, 4, stamp, 0, [
            float(soc[minute]), 10.0, 90.0, 1e5, -5e4, 0.0, 5e4, 0.0, 25.0, "closed", "idle", "",
        ])  # fmt: skip
        for place, number in enumerate(CHARGERS):
            power = float(cars[place, minute])
            cable = "ev_locked" if plugged[place, minute] else "unplugged"
            yield component("ev_charger", number, stamp, power, cable)


def component(table: str, number: int, stamp: int, power: float, cable: str = "") -> Row:
    """Make the row of a component on three phases."""
    phase = power / 3
    ac = [power, phase, phase, phase, 0.0, 0.0, 0.0, 0.0, *[phase / VOLTAGE] * 3,
          *[VOLTAGE] * 3, 50.0]  # fmt: skip
    bounds = [0.0, 0.0, 22e3, 0.0]
    values: Sequence[object]
    match table:
        case "ev_charger":
            values = [*ac, *bounds, cable, "charging" if power else "ready"]
        case "inverter":
            values = [*ac, *bounds, "idle", ""]
        case _:
            values = ac
    return Row(table, SITE, number, stamp, 0, values)


if __name__ == "__main__":
    main()
