"""Holds EV chargers under a fuse: ``microgrid-sync limit``."""

from collections.abc import Sequence
from typing import Any

import click
from frequenz.quantities import Current
from rich.console import Group, RenderableType
from rich.text import Text

from microgrid_sync.cli import options
from microgrid_sync.cli.output import (
    follow,
    new_table,
    now_clock,
    now_text,
    phases,
    say,
    write_json,
)
from microgrid_sync.cli.site import LongCommand, connected, until_interrupted, until_written
from microgrid_sync.cli.site_numbers import Chargers
from microgrid_sync.ev_charger_pool import EVChargerPool
from microgrid_sync.limit import FUSES, Limit
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.model.shown import amperes, number
from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.receiver import Receiver, newest_of
from microgrid_sync.topology import counted


@click.command(
    cls=LongCommand,
    examples=(
        "limit grid grpc://127.0.0.1:8800",
        "limit 2 35 --curve gG",
        "limit 6 63 --curve none --json",
    ),
)
@click.argument("where", metavar="METER|grid")
@click.argument(
    "rating",
    type=options.Amperes(0.0, 10_000.0, min_open=True),
    metavar="[AMPERES]",
    required=False,
)
@click.option(
    "--curve",
    type=click.Choice([*FUSES], case_sensitive=False),
    default="gG",
    show_default=True,
    help="What the fuse is: gG, a breaker B, C or D, a selective breaker SLS; none holds AMPERES "
    "itself.",
)
@options.json_looks
@options.interval
@options.hold_for
@click.pass_context
def limit(
    ctx: click.Context,
    *,
    where: str,
    rating: float | None,
    curve: str,
    as_json: bool,
    interval: float,
    duration: float | None,
) -> None:
    """Hold all EV chargers behind METER under a fuse of AMPERES until Ctrl-C.

    "grid" is the grid connection, whose own fuse holds unless AMPERES are given.
    """
    if where != "grid" and not where.isdecimal():
        raise click.UsageError(f"{where!r} is neither the ID of a meter nor 'grid'", ctx)
    with connected(ctx) as client, Microgrid(client) as microgrid:
        if rating is None:
            fuse = microgrid.grid.fuse if where == "grid" else None
            if fuse is None:
                raise click.UsageError("AMPERES are needed: the fuse there is not known", ctx)
            rating = fuse.max_current
        held = microgrid.limit(
            "grid" if where == "grid" else int(where), max_current=FUSES[curve](rating)
        )
        view = _View(microgrid, held, as_json=as_json)
        # An output that nobody takes any more is an end as Ctrl-C is.
        with until_written(ctx), until_interrupted():
            say(f"Holding {repr(held)[1:-1].removeprefix('Limit of ')} with "
                f"{counted(len(held.chargers), 'charger')}; Ctrl-C ends it", err=True)  # fmt: skip
            follow(
                interval,
                duration,
                line=view.show,
                screen=None if as_json else view.screen,
            )
        held.close()
        say("Ended: nothing holds the fuse any more.", err=True)
        ctx.exit(ctx.meta.get("exit code", 0))


class _View:
    """What is shown of a limit."""

    def __init__(self, microgrid: Microgrid, held: Limit, *, as_json: bool) -> None:
        self._as_json = as_json
        self._limit = held
        self._chargers = Chargers(microgrid, held.chargers)
        pool: EVChargerPool = microgrid.new_ev_charger_pool(
            priority=0, component_ids=[*held.chargers], name="the chargers"
        )
        self._currents: Receiver[Any] = newest_of(pool.current_per_phase.new_receiver())
        self._reports: Receiver[Any] = newest_of(pool.power_status.new_receiver())
        self._cars: list[float | None] = [None, None, None]
        self._report: Any = None

    def look(self) -> None:
        """Take what has come."""
        samples, reports = self._currents.drain(), self._reports.drain()
        if samples:
            self._cars = [None if v is None else v.as_amperes() for v in samples[-1]]
        if reports:
            self._report = reports[-1]

    def _rows(self) -> dict[str, Sequence[float | None]]:
        """Give the house, the cars, what is left and the thermal state, on each phase."""
        report = self._limit.report
        thermal = None if report is None else report.thermal_state
        return {
            "house": _amperes(None if report is None else report.house),
            "cars": self._cars,
            "headroom": _amperes(None if report is None else report.headroom),
            "thermal_state": [None, None, None] if thermal is None else list(thermal),
        }

    def show(self) -> None:
        """Show it as a line."""
        self.look()
        rows, report = self._rows(), self._limit.report
        reason = "nothing is known yet" if report is None else report.reason
        if not self._as_json:
            say(f"{now_clock()}  house {phases(rows['house'])}; cars {phases(rows['cars'])}; "
                f"left to cars {phases(rows['headroom'])}; {reason}")  # fmt: skip
            return
        row: dict[str, Any] = {"time": now_text()}
        for name, values in rows.items():
            unit = "" if name == "thermal_state" else "_a"
            for phase, value in enumerate(values, start=1):
                row[f"{name}_phase_{phase}{unit}"] = value
        row |= {
            "is_exceeded": self._limit.is_exceeded,
            "reason": reason,
            "rotations": {str(i): text for i, text in self._limit.rotations.items()},
            "chargers": self._chargers.rows(self._report),
        }
        write_json(jsonable(row))

    def screen(self) -> RenderableType:
        """Give it as tables."""
        self.look()
        rows, report = self._rows(), self._limit.report
        names = {
            "house": "house",
            "cars": "cars",
            "headroom": "left to cars",
            "thermal_state": "thermal state",
        }
        table = new_table("", "L1", "L2", "L3", right=["L1", "L2", "L3"])
        for name, text in names.items():
            write = _plain if name == "thermal_state" else amperes
            table.add_row(text, *(write(value) for value in rows[name]))
        reason = "nothing is known yet" if report is None else report.reason
        style = "bold red" if self._limit.is_exceeded else "green"
        parts: list[RenderableType] = [table, Text(reason, style=style)]
        unknown = len(self._limit.chargers - self._limit.rotations.keys())
        if unknown and any(self._cars):
            text = (
                f"phases of {unknown} chargers are not known yet: one- and two-phase cars there "
                "count in the house, too"
            )
            parts.append(Text(text, style="bright_black"))
        if self._report is not None:
            parts.append(self._chargers.table(self._report))
        return Group(*parts)


def _amperes(currents: Sequence[Current] | None) -> list[float | None]:
    return [None, None, None] if currents is None else [v.as_amperes() for v in currents]


def _plain(value: float | None) -> str:
    return "-" if value is None else number(value, 2)


COMMANDS = {"limit": limit}
