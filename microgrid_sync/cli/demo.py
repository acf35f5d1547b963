"""Lists, follows and commands a microgrid: ``microgrid-sync demo``."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from frequenz.quantities import Current, Power
from rich.console import Console
from rich.live import Live
from rich.table import Table

from microgrid_sync.cli import options
from microgrid_sync.cli.info import coordinates
from microgrid_sync.cli.output import console, say
from microgrid_sync.cli.site import SiteCommand, connected
from microgrid_sync.cli.tree import drawn
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.model import (
    BatteryData,
    Component,
    ComponentCategory,
    EVChargerData,
    Metadata,
    MeterData,
)
from microgrid_sync.model.shown import kilowatts
from microgrid_sync.power.fuse_curve import FuseCurve
from microgrid_sync.power.limit_report import LimitReport
from microgrid_sync.receiver import Receiver
from microgrid_sync.simulator import Simulator, shipped_sites
from microgrid_sync.timeseries import Sample, Sample3Phase
from microgrid_sync.topology import Topology

Row = tuple[str, Receiver[Any], Callable[[Any], str]]
"""What is shown of the site: its name, where its values come from, and how one is written."""

_MOST_OF_A_KIND = 4
"""So many chargers and batteries are followed at the most: a screen is only so large."""

_WITH_FUSE = "house"
"""The site at which the demo holds a fuse."""

_CARS_START_TIMEOUT = 30.0
_MUCH = 1.6
"""So many times its rating the fuse carries before the demo's limit takes effect."""

_CARS_OBEY = 15.0
"""Seconds: so long its cars take to begin, and to obey."""

_FIRST_VALUE_TIMEOUT = 10.0
_REACTION_TIMEOUT = 10.0
_NEW_POWER = 5000.0
"""W: what the demo sets a charger to; less than its car takes, and enough for it to charge."""

_NOTABLE_DRAW = 8000.0
"""W: what the charger must draw before, so that there is something to see."""


_NEXT = """
What to try next:
  microgrid-sync simulate --site house &            a site of your own, at grpc://127.0.0.1:8800
  microgrid-sync watch grpc://127.0.0.1:8800        the whole site on one screen
  microgrid-sync pool cap 11kW grpc://127.0.0.1:8800
  microgrid-sync limit grid grpc://127.0.0.1:8800   cars under the house's fuse
  microgrid-sync --help                             all commands"""


@click.command(
    cls=SiteCommand, many=None, examples=("demo", "demo --site house", "demo grpc://host:9090")
)
@click.option(
    "--site",
    type=click.Choice(shipped_sites()),
    help="Which simulated site to start, in place of 'demo'.",
)
@click.option(
    "--seconds",
    default=4.0,
    show_default=True,
    type=options.Finite(0.0, 3600.0),
    help='How long to follow the data; at the site "house" 15 s at the least.',
)
@click.pass_context
def demo(ctx: click.Context, *, site: str | None, seconds: float) -> None:
    """List a microgrid, follow its data, and command it.

    Without a URL, a simulated microgrid is started and a charger of it is commanded; at the site
    "house", all of them are held under its fuse. With one, such as grpc://host:port, that server is
    only read.
    """
    simulated = not ctx.meta.get("url")
    if not simulated and site is not None:
        raise click.UsageError("--site is for a simulated microgrid; leave out the URL, or --site")
    to = console()
    with contextlib.ExitStack() as stack:
        if simulated:
            simulator = stack.enter_context(Simulator(site or "demo", sample_interval=0.2))
            ctx.meta["url"] = simulator.url
            say(f"A simulated microgrid serves on {simulator.url}")
        client = stack.enter_context(connected(ctx))
        microgrid = stack.enter_context(Microgrid(client))
        topology = microgrid.topology
        say(_title(client.metadata()))
        to.print(drawn(topology, {}))
        if site == _WITH_FUSE:
            summary = _hold_a_fuse(to, microgrid, seconds)
        else:
            followed = _follow(client, topology)
            _show_live(to, [*_numbers(microgrid), *followed], seconds)
            summary = f"{len(topology.components())} components listed"
            summary += f", {len(followed)} followed for {seconds:g} s"
            if simulated:
                summary += f", {_command_a_charger(to, client, topology)}"
    say(f"OK: {summary}")
    if simulated:
        say(_NEXT)


def _title(metadata: Metadata) -> str:
    number = "unknown" if metadata.microgrid_id is None else str(metadata.microgrid_id)
    location = metadata.location
    if location is None or location.latitude is None or location.longitude is None:
        return f"microgrid {number}"
    zone = "" if location.timezone is None else f", {location.timezone.key}"
    return f"microgrid {number} at {coordinates(location.latitude, location.longitude)}{zone}"


def _numbers(microgrid: Microgrid) -> list[Row]:
    """Receive the site's own numbers."""
    rows: list[Row] = [
        ("grid", microgrid.grid.power.new_receiver(), _quantity),
        ("consumers", microgrid.consumer.power.new_receiver(), _quantity),
    ]
    topology = microgrid.topology
    if any(topology.is_pv_inverter(c.component_id) for c in topology.components()):
        rows.append(("sun", microgrid.pv.power.new_receiver(), _quantity))
    if topology.components(ComponentCategory.BATTERY):
        rows.append(("battery", microgrid.battery.power.new_receiver(), _quantity))
        rows.append(("battery charge", microgrid.battery.soc.new_receiver(), _quantity))
    if topology.components(ComponentCategory.EV_CHARGER):
        cars = microgrid.new_ev_charger_pool(priority=0).power
        rows.append(("cars", cars.new_receiver(), _quantity))
    return rows


def _follow(client: MicrogridApiClient, topology: Topology) -> list[Row]:
    """Subscribe to the chargers, the batteries and the main meter."""
    chargers = topology.components(ComponentCategory.EV_CHARGER)[:_MOST_OF_A_KIND]
    batteries = topology.components(ComponentCategory.BATTERY)[:_MOST_OF_A_KIND]
    main_meter = topology.main_meter()
    meters = [main_meter] if main_meter else topology.components(ComponentCategory.METER)[:1]
    return [
        *((_label(c), client.ev_charger_data(c.component_id), _power) for c in chargers),
        *((_label(c), client.battery_data(c.component_id), _charge) for c in batteries),
        *((_label(c), client.meter_data(c.component_id), _power) for c in meters),
    ]


def _show_live(console: Console, rows: Sequence[Row], seconds: float) -> None:
    """Show the newest values for some seconds: in place on a terminal, else a line a second."""
    for _, receiver, _ in rows:
        receiver.receive(timeout=_FIRST_VALUE_TIMEOUT)
    if not console.is_terminal:
        for _ in _ticks(seconds, 1.0):
            console.print(
                "  ".join(f"{row[0]}: {_newest(row)}" for row in rows),
                highlight=False,
                soft_wrap=True,
            )
        return
    with Live(console=console, auto_refresh=False) as live:
        for _ in _ticks(seconds, 0.2):
            live.update(_table(rows), refresh=True)


def _ticks(seconds: float, interval: float) -> Iterator[None]:
    """Come back every interval until the seconds are over, once at least."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() >= end:
            return
        time.sleep(min(interval, max(0.0, end - time.monotonic())))


def _table(rows: Sequence[Row]) -> Table:
    table = Table("what", "now", "sample of")
    for row in rows:
        newest = row[1].latest()
        stamp = "" if newest is None else f"{newest.timestamp:%H:%M:%S.%f}"[:-4] + " UTC"
        table.add_row(row[0], _newest(row), stamp)
    return table


def _label(component: Component) -> str:
    return f"{component.category.name.replace('_', ' ').lower()} {component.component_id}"


def _newest(row: Row) -> str:
    _, receiver, write = row
    newest = receiver.latest()
    return "nothing yet" if newest is None else write(newest)


def _quantity(sample: Sample[Any]) -> str:
    if sample.value is None:
        return "not known"
    if isinstance(sample.value, Power):
        return kilowatts(sample.value.as_watts())
    return f"{sample.value:.2}"


def _power(data: EVChargerData | MeterData) -> str:
    return kilowatts(data.active_power)


def _charge(data: BatteryData) -> str:
    return f"{data.soc:.2f} %"


def _command_a_charger(console: Console, client: MicrogridApiClient, topology: Topology) -> str:
    """Set a charger's power and wait until the meter before it shows it; tell what happened."""
    charger = topology.components(ComponentCategory.EV_CHARGER)[0].component_id
    meter = topology.predecessors(charger)[0].component_id
    with client.meter_data(meter) as meter_data, client.ev_charger_data(charger) as charger_data:
        deadline = time.monotonic() + _REACTION_TIMEOUT
        before_it = _first(charger_data, lambda power: power > _NOTABLE_DRAW, deadline)
        meter_data.drain()
        before = meter_data.receive(_FIRST_VALUE_TIMEOUT).active_power
        started = time.monotonic()
        client.set_power(charger, _NEW_POWER)
        # Half of the way is more than its neighbours fluctuate.
        threshold = before - (before_it - _NEW_POWER) / 2
        deadline = started + _REACTION_TIMEOUT
        after = _first(meter_data, lambda power: power < threshold, deadline)
        reaction = time.monotonic() - started
    what = (
        f"charger {charger} set from {kilowatts(before_it)} to {kilowatts(_NEW_POWER)}: "
        f"meter {meter} went from {kilowatts(before)} to {kilowatts(after)} "
        f"within {reaction:.1f} s"
    )
    console.print(what[0].upper() + what[1:], highlight=False, soft_wrap=True)
    return what


def _hold_a_fuse(console: Console, microgrid: Microgrid, seconds: float) -> str:
    """Hold all chargers under the fuse of the grid connection; tell what happened."""
    fuse = microgrid.grid.fuse
    if fuse is None:
        raise OSError("the fuse of the grid connection is not known")
    currents = microgrid.grid.current_per_phase.new_receiver(maxsize=10_000)
    console.print("Nobody holds the cars back yet; they begin to charge", highlight=False)
    deadline = time.monotonic() + _CARS_START_TIMEOUT
    before = 0.0
    while before <= _MUCH * fuse.max_current and time.monotonic() < deadline:
        before = _highest([currents.receive(_FIRST_VALUE_TIMEOUT)])
    console.print(
        f"{before:.1f} A on a phase; the limit takes effect", highlight=False, soft_wrap=True
    )
    limit = microgrid.limit("grid", max_current=FuseCurve.gG(fuse.max_current))
    reports = limit.new_receiver()
    rows = [*_numbers(microgrid), *_follow(microgrid.client, microgrid.topology)]
    seconds = max(seconds, _CARS_OBEY)
    _show_live(console, [*rows, ("fuse", reports, _report)], seconds)
    last = _highest(currents.drain()[-3:])
    return (
        f"{len(limit.chargers)} chargers held under a fuse of {fuse.max_current:g} A for "
        f"{seconds:g} s: {before:.1f} A on a phase before, {last:.1f} A now"
    )


def _highest(samples: Sequence[Sample3Phase[Current]]) -> float:
    """Give the highest current of any phase, in A."""
    values = [current for one in samples for current in (one.value_p1, one.value_p2, one.value_p3)]
    return max((value.as_amperes() for value in values if value is not None), default=math.nan)


def _report(report: LimitReport) -> str:
    if report.house is None or report.headroom is None:
        return report.reason
    house = ", ".join(f"{ampere.as_amperes():.1f}" for ampere in report.house)
    left = ", ".join(f"{ampere.as_amperes():.1f}" for ampere in report.headroom)
    return f"{report.reason}; house {house} A, left to cars {left} A"


def _first(
    receiver: Receiver[MeterData] | Receiver[EVChargerData],
    condition: Callable[[float], bool],
    deadline: float,
) -> float:
    """Wait for the first power that fulfils a condition."""
    while time.monotonic() < deadline:
        power = receiver.receive(_FIRST_VALUE_TIMEOUT).active_power
        if condition(power):
            return power
    raise TimeoutError(f"{receiver.name}: the power did not change as it should")


COMMANDS = {"demo": demo}
