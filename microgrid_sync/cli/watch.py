"""Watches a whole site: ``microgrid-sync watch``."""

import click
from rich.console import Group
from rich.text import Text

from microgrid_sync.cli import options
from microgrid_sync.cli.many import watch_sites
from microgrid_sync.cli.output import (
    follow,
    is_terminal,
    now_clock,
    now_text,
    say,
    show,
    ticks,
    write_json,
)
from microgrid_sync.cli.site import LongCommand, connected, go_to, sites_of, until_interrupted
from microgrid_sync.cli.site_numbers import SiteNumbers
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.notebook.columns import jsonable

_FIRST_VALUES = 5.0
"""Seconds for the first values of all, with --once."""


@click.command(
    cls=LongCommand,
    many="own",
    examples=("watch grpc://127.0.0.1:8800", "watch --line", "watch --once --json"),
)
@click.option("--line", is_flag=True, help="One line a look: for a pane of tmux.")
@click.option("--once", is_flag=True, help="One look, when all is known.")
@options.json_looks
@options.interval
@options.duration
@click.pass_context
def watch(
    ctx: click.Context,
    *,
    line: bool,
    once: bool,
    as_json: bool,
    interval: float,
    duration: float | None,
) -> None:
    """Watch a whole site: grid, consumers, PV, batteries, chargers with their reasons, the fuse.

    Nothing is commanded. With --sites a line for each site.
    """
    sites = sites_of(ctx)
    if sites is not None and len(sites.sites) != 1:
        with until_interrupted():
            watch_sites(
                sites,
                interval=interval,
                duration=0.0 if once else duration,
                as_json=as_json,
                in_lines=line,
            )
        return
    if sites is not None:
        go_to(ctx, sites.sites[0])
    with connected(ctx) as client, Microgrid(client) as microgrid:
        numbers = SiteNumbers(microgrid)

        def screen() -> Group:
            numbers.look()
            head = Text(f"{client.server_url}  {now_clock()}  {client.state.value}")
            return Group(head, numbers.screen())

        def show_line() -> None:
            numbers.look()
            if as_json:
                write_json({"time": now_text(), **jsonable(numbers.row())})
            else:
                say(f"{now_clock()}  {numbers.line()}")

        in_lines = as_json or line
        with until_interrupted():
            if once:
                for _ in ticks(0.1, _FIRST_VALUES):
                    numbers.look()
                    if numbers.is_known():
                        break
                if in_lines or not is_terminal():
                    show_line()
                else:
                    show(screen())
                return
            follow(interval, duration, line=show_line, screen=None if in_lines else screen)


COMMANDS = {"watch": watch}
