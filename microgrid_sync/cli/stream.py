"""Shows what components send: ``microgrid-sync stream``."""

import csv
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.table import Table

from microgrid_sync.cli import options
from microgrid_sync.cli.feed import Choice, choose, open_feed, read_feed
from microgrid_sync.cli.many import Chosen, stream_sites
from microgrid_sync.cli.output import (
    console,
    is_terminal,
    live,
    new_table,
    say,
    write_json,
)
from microgrid_sync.cli.site import LongCommand, connected, go_to, sites_of, until_interrupted
from microgrid_sync.model.shown import amperes, moment, number
from microgrid_sync.notebook.columns import Row, jsonable
from microgrid_sync.notebook.html import heading
from microgrid_sync.receiver import Receiver
from microgrid_sync.topology import kind_of

_REFRESH = 0.25
"""Seconds between two pictures of the table."""

_SHOWN = {
    "active_power_w": "power",
    "current_phase_1_a": "L1",
    "current_phase_2_a": "L2",
    "current_phase_3_a": "L3",
    "soc_percent": "charge",
    "cable_state": "cable",
    "component_state": "state",
}
"""What fits onto a screen of all that components measure, and what it is called there."""

_NARROW = 90
"""Columns: a narrower terminal has no room for currents."""

_IN_KILO = frozenset({"W", "VAr", "VA", "Wh"})


@click.command(
    cls=LongCommand,
    many="own",
    examples=(
        "stream 7 grpc://127.0.0.1:8800",
        "stream ev-charger --metric active_power --metric current",
        "stream 2 --csv --duration 60 > meter.csv",
        "stream 7 --json --samples 1",
    ),
)
@click.argument("components", metavar="ID|CATEGORY...", nargs=-1, required=True)
@options.metrics
@click.option("--telemetry", is_flag=True, help="All that the server sends (API v1alpha18).")
@click.option("--csv", "as_csv", is_flag=True, help="CSV, a line a sample.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: an object a sample.")
@options.samples
@options.duration
@click.pass_context
def stream(
    ctx: click.Context,
    *,
    components: tuple[str, ...],
    metrics: tuple[str, ...],
    telemetry: bool,
    as_csv: bool,
    as_json: bool,
    samples: int | None,
    duration: float | None,
) -> None:
    """Show what components send: of some IDs, or of all components of a category.

    A live table on a terminal; else, and with --csv and --json, a line for each sample, and also
    with --sites. Goes on until Ctrl-C unless told otherwise.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json: one of them", ctx)
    if telemetry and metrics:
        raise click.UsageError("--telemetry is all metrics; leave out --metric, or it", ctx)
    sites = sites_of(ctx)
    if sites is not None and len(sites.sites) != 1:
        if as_csv:
            raise click.UsageError("--csv is for one site: name it with --site", ctx)

        def show_row(name: str, row: Row) -> None:
            if as_json:
                write_json({"site": name, **jsonable(row)})
            else:
                say(f"{name}  {_line(row)}")

        with until_interrupted():
            wanted = Chosen(components, metrics, telemetry=telemetry)
            stream_sites(sites, wanted, show_row, samples=samples, duration=duration)
        return
    if sites is not None:
        go_to(ctx, sites.sites[0])
    with connected(ctx) as client:
        choice = choose(client, components, metrics, telemetry=telemetry)
        # The columns are known before anything comes.
        columns = choice.columns()
        if as_csv and columns is None:
            raise click.UsageError(
                "CSV needs its columns beforehand: name them with --metric, or use --json", ctx
            )
        with open_feed(client, choice) as receiver, until_interrupted():
            if as_json:
                each: Callable[[Any], None] = lambda value: write_json(jsonable(choice.row(value)))  # noqa: E731 - one of three
            elif as_csv:
                each = _csv_writer(choice, columns or [])
            elif not is_terminal():
                each = lambda value: say(_line(choice.row(value)))  # noqa: E731 - likewise
            else:
                _show(receiver, choice, samples, duration)
                return
            count = read_feed(receiver, each, samples=samples, duration=duration)
            if not count:
                raise TimeoutError(f"nothing has come within {duration:g} s")


def _csv_writer(choice: Choice, columns: Sequence[str]) -> Callable[[Any], None]:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()

    def each(value: Any) -> None:
        writer.writerow(jsonable(choice.row(value)))
        sys.stdout.flush()

    return each


def _line(row: Row) -> str:
    """Write a sample down for people."""
    parts = [f"{moment(row['timestamp'])}  {row['component_id']}:"]
    wanted = [c for c in _SHOWN if c in row] or [c for c in row if c not in _SHOWN][2:]
    parts += [f"{_head(column)} {_text(column, row[column])}" for column in wanted]
    return "  ".join(parts)


def _head(column: str) -> str:
    return _SHOWN.get(column) or heading(column)[0]


def _text(column: str, value: Any) -> str:
    _, unit = heading(column)
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "-"
    if not isinstance(value, float):
        return str(value).replace("_", " ")
    if unit == "A":
        return amperes(value)
    if unit in _IN_KILO:
        text = f"{value / 1000:.2f}"
        return f"{'0.00' if text == '-0.00' else text} k{unit}"
    return f"{number(value, 2)} {unit}".rstrip()


def _show(
    receiver: Receiver[Any], choice: Choice, samples: int | None, duration: float | None
) -> None:
    rows: dict[int, Row] = {}
    due = 0.0
    with live(console()) as show:
        show(_table(choice, rows))

        def each(value: Any) -> None:
            rows[value.component_id] = choice.row(value)

        def tick() -> None:
            nonlocal due
            if time.monotonic() >= due:
                show(_table(choice, rows))
                due = time.monotonic() + _REFRESH

        read_feed(receiver, each, samples=samples, duration=duration, tick=tick)
        show(_table(choice, rows))


def _table(choice: Choice, rows: dict[int, Row]) -> Table:
    columns: dict[str, None] = {}
    for row in rows.values():
        columns |= dict.fromkeys(row)
    if choice.wanted.columns is None:
        chosen = [c for c in _SHOWN if c in columns]
        if shutil.get_terminal_size().columns < _NARROW:
            chosen = [c for c in chosen if not c.startswith("current")]
        columns = dict.fromkeys(chosen or list(columns)[2:10])
    names = [c for c in columns if c not in {"component_id", "timestamp"}]
    heads = [_head(c) for c in names]
    table = new_table("ID", "component", *heads, "sample of", right=["ID", *heads])
    for component in choice.components:
        found = rows.get(component.component_id)
        texts = [_text(c, found.get(c)) if found else "-" for c in names]
        stamp = f"{found['timestamp']:%H:%M:%S}" if found else "nothing yet"
        label = component.name or kind_of(component)
        table.add_row(str(component.component_id), label, *texts, stamp)
    return table


COMMANDS = {"stream": stream}
