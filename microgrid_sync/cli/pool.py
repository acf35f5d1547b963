"""Shows EV chargers as one, and caps their power: ``microgrid-sync pool``."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import click
from frequenz.quantities import Power
from rich.console import Group, RenderableType
from rich.text import Text

from microgrid_sync.cli import options
from microgrid_sync.cli.output import (
    PowerType,
    follow,
    now_text,
    phases,
    power_words,
    say,
    show,
    ticks,
    write_json,
)
from microgrid_sync.cli.site import (
    LongCommand,
    SiteGroup,
    connected,
    until_interrupted,
    until_written,
)
from microgrid_sync.cli.site_numbers import Chargers
from microgrid_sync.ev_charger_pool import EVChargerPool, is_being_released
from microgrid_sync.gateways.commands import MISTAKEN
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.model.bounds import Bounds
from microgrid_sync.model.shown import kilowatts
from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.receiver import Receiver, newest_of
from microgrid_sync.topology import counted

_FIRST_VALUES = 5.0
"""Seconds for the first values of all chargers."""

_RELEASE_TIMEOUT = 5.0
"""Seconds in which a server that answers has released all chargers."""

_RENEW_INTERVAL = 15.0
"""Seconds between two proposals, each of which lapses after a minute."""


@click.group(
    cls=SiteGroup,
    invoke_without_command=True,
    examples=(
        "pool grpc://127.0.0.1:8800",
        "pool --watch --charger 7",
        "pool cap 11kW",
    ),
)
@click.option("--watch", is_flag=True, help="Go on, until Ctrl-C.")
@options.chargers
@options.json_looks
@options.interval
@click.pass_context
def pool(
    ctx: click.Context, *, watch: bool, chargers: tuple[int, ...], as_json: bool, interval: float
) -> None:
    """Show the EV chargers as one: total, phases, bounds, and what each has, and why.

    "pool cap POWER" holds their power down.
    """
    if ctx.invoked_subcommand is not None:
        # What stands before the command's name is meant for it.
        ctx.obj = _Before(chargers, as_json=as_json, interval=interval)
        return
    with connected(ctx) as client, Microgrid(client) as microgrid:
        view = _View(microgrid, _new_pool(microgrid, chargers, 0), as_json=as_json)
        with until_interrupted():
            if watch:
                view.follow(interval, None)
                return
            for _ in ticks(0.1, _FIRST_VALUES):
                view.look()
                if view.is_known():
                    break
            view.show()


def _new_pool(microgrid: Microgrid, chargers: tuple[int, ...], priority: int) -> EVChargerPool:
    return microgrid.new_ev_charger_pool(
        priority=priority, component_ids=chargers or None, name="the chargers"
    )


class _Before(NamedTuple):
    """The options that were given before the name of a command of the pool's."""

    chargers: tuple[int, ...]
    as_json: bool
    interval: float


@pool.command(
    cls=LongCommand,
    examples=("pool cap 11kW grpc://127.0.0.1:8800", "pool cap 4.2kW --for 3600 --keep"),
)
@click.argument("power", type=PowerType(), metavar="POWER")
@click.option("--priority", default=0, show_default=True, help="Above pools of a lower one.")
@click.option("--keep", is_flag=True, help="Leave the set-points at the end; release no car.")
@options.hold_for
@options.chargers
@options.json_looks
@options.interval
@click.pass_context
def cap(
    ctx: click.Context,
    *,
    power: float,
    priority: int,
    keep: bool,
    duration: float | None,
    chargers: tuple[int, ...],
    as_json: bool,
    interval: float,
) -> None:
    """Hold the power of the chargers below POWER until Ctrl-C, which then releases them.

    POWER is in W, or has a unit, such as 11kW.
    """
    if 0 < power < MISTAKEN:
        raise click.UsageError(f"{power:g} W is less than any car takes; did you mean kW?", ctx)
    if power < 0:
        raise click.UsageError("POWER must be 0 or more: chargers do not discharge cars", ctx)
    before: _Before = ctx.obj
    chargers, as_json = (*before.chargers, *chargers), as_json or before.as_json
    if ctx.get_parameter_source("interval") is click.core.ParameterSource.DEFAULT:
        interval = before.interval
    with connected(ctx) as client, Microgrid(client) as microgrid:
        chosen = _new_pool(microgrid, chargers, priority)
        view = _View(microgrid, chosen, as_json=as_json)
        most = Power.from_watts(power)
        end = "leaves the set-points" if keep else "withdraws it, which releases the cars"

        def propose() -> None:
            chosen.propose_power(most, Bounds(None, most))

        how_long = "for a minute" if client.api != "v0.15" else "as long as the server keeps them"
        # An output that nobody takes any more is an end as Ctrl-C is.
        with until_written(ctx), until_interrupted():
            say(
                f"Holding {counted(len(chosen.component_ids), 'charger')} at {power_words(power)} "
                f"at the most; Ctrl-C {end}",
                err=True,
            )
            view.follow(interval, duration, each=propose)
        if keep:
            say(f"The chargers keep their set-points {how_long}.", err=True)
            ctx.exit(ctx.meta.get("exit code", 0))
        say("Withdrawing: this releases the cars, they may draw what they can.", err=True)
        chosen.stop()
        try:
            is_released = _is_released(chosen)
        except KeyboardInterrupt:
            is_released = False
        if not is_released:
            raise click.ClickException(
                "the server has not confirmed that the cars are released; else the chargers keep "
                f"their set-points {how_long}"
            )
        say("Released.", err=True)
        ctx.exit(ctx.meta.get("exit code", 0))


def _is_released(chosen: EVChargerPool) -> bool:
    """Wait until the server has all that releases the chargers, for some seconds."""
    end = time.monotonic() + _RELEASE_TIMEOUT
    while time.monotonic() < end:
        # The loop takes a withdrawal with its next look.
        time.sleep(0.1)
        if not is_being_released(chosen):
            return True
    return False


class _View:
    """What is shown of a pool."""

    def __init__(self, microgrid: Microgrid, chosen: EVChargerPool, *, as_json: bool) -> None:
        self._as_json = as_json
        self._chargers = Chargers(microgrid, chosen.component_ids)
        self._receivers: dict[str, Receiver[Any]] = {
            "power": newest_of(chosen.power.new_receiver()),
            "currents": newest_of(chosen.current_per_phase.new_receiver()),
            "bounds": newest_of(chosen.system_power_bounds.new_receiver()),
            "report": newest_of(chosen.power_status.new_receiver()),
        }
        self._newest: dict[str, Any] = {}

    def look(self) -> None:
        """Take what has come."""
        for name, receiver in self._receivers.items():
            values = receiver.drain()
            if values:
                self._newest[name] = values[-1]

    def is_known(self) -> bool:
        """Tell whether all chargers have said something, and what they draw is known."""
        report, power = self._newest.get("report"), self._newest.get("power")
        if report is None or power is None or power.value is None:
            return False
        is_heard = all(r.draw is not None for r in report.chargers.values())
        return is_heard and self._newest.keys() == self._receivers.keys()

    def follow(
        self, interval: float, duration: float | None, each: Callable[[], None] | None = None
    ) -> None:
        """Show it again and again; do something now and then."""
        due = -math.inf

        def look() -> None:
            nonlocal due
            if each is not None and time.monotonic() >= due:
                due = time.monotonic() + _RENEW_INTERVAL
                each()
            self.look()

        def line() -> None:
            look()
            self.show(line=True)

        def screen() -> RenderableType:
            look()
            return self._screen()

        follow(interval, duration, line=line, screen=None if self._as_json else screen)

    def show(self, *, line: bool = False) -> None:
        """Show it once: as a line, or as tables."""
        if self._as_json:
            write_json({"time": now_text(), **jsonable(self._row())})
        elif line:
            row = self._row()
            if row["power_w"] is None:
                say("waiting for the first values of the chargers")
                return
            say(f"{kilowatts(row['power_w'])} of {_target(row)}; "
                f"{phases(self._currents())}; {self._why()}")  # fmt: skip
        else:
            show(self._screen())

    def _why(self) -> str:
        """Give the reasons, each once."""
        report = self._newest.get("report")
        if report is None:
            return "nothing is known yet"
        return "; ".join(dict.fromkeys(one.reason for one in report.chargers.values()))

    def _currents(self) -> list[float | None]:
        sample = self._newest.get("currents")
        values = (None, None, None) if sample is None else sample
        return [None if value is None else value.as_amperes() for value in values]

    def _row(self) -> dict[str, Any]:
        report, bounds = self._newest.get("report"), self._newest.get("bounds")
        sample = self._newest.get("power")
        power = None if sample is None or sample.value is None else sample.value.as_watts() + 0.0
        target = None if report is None or report.target_power is None else report.target_power
        inclusion = None if bounds is None else bounds.inclusion_bounds
        row: dict[str, Any] = {
            "power_w": power,
            "target_w": None if target is None else target.as_watts() + 0.0,
            "lower_w": None if inclusion is None else inclusion.lower.as_watts() + 0.0,
            "upper_w": None if inclusion is None else inclusion.upper.as_watts() + 0.0,
        }
        for phase, current in enumerate(self._currents(), start=1):
            row[f"current_phase_{phase}_a"] = current
        row["chargers"] = self._chargers.rows(report)
        return row

    def _screen(self) -> RenderableType:
        row = self._row()
        could = f"{kilowatts(row['lower_w'])} to {kilowatts(row['upper_w'])}"
        head = Text(f"{kilowatts(row['power_w'])}", style="bold")
        head.append(f" of {_target(row)}   {phases(self._currents())}", style="not bold")
        parts: list[RenderableType] = [head, Text(f"could be set to {could}")]
        report = self._newest.get("report")
        if report is not None:
            parts.append(self._chargers.table(report))
        return Group(*parts)


def _target(row: dict[str, Any]) -> str:
    return "no target" if row["target_w"] is None else f"{kilowatts(row['target_w'])}"


COMMANDS = {"pool": pool}
