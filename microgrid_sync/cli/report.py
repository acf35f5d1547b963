"""Reads recordings: ``microgrid-sync report`` and ``microgrid-sync gaps``."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from rich.text import Text

from microgrid_sync import recording
from microgrid_sync.cli import options
from microgrid_sync.cli.examples import ExampleCommand
from microgrid_sync.cli.failures import plain_failures
from microgrid_sync.cli.output import new_table, say, show, write_json
from microgrid_sync.recording.report import DayReport, day_report
from microgrid_sync.recording.report import as_json as report_as_json
from microgrid_sync.recording.report_page import (
    CHARGE_HEADINGS,
    GAP_HEADINGS,
    cars_in_words,
    charge_rows,
    duration,
    energy_rows,
    gap_rows,
    gaps_in_words,
    known_in_words,
    page,
    peak_rows,
)

_DESTINATION = click.argument("destination", metavar="DESTINATION")
_SITE = click.option("--site", metavar="NAME", help="The site; needed where there are several.")
_ZONE = click.option(
    "--timezone",
    metavar="ZONE",
    callback=lambda ctx, _, value: _zone(ctx, value),
    help="Such as Europe/Berlin; the site's own unless given.",
)


def _zone(ctx: click.Context, value: str | None) -> str | None:
    if value is not None:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, LookupError):
            raise click.UsageError(
                f"{value!r} is no time zone; Europe/Berlin is one", ctx
            ) from None
    return value


class _Day(click.ParamType):  # type: ignore[type-arg] # generic in newer versions alone
    """A day: ``2026-11-25``, ``today`` or ``yesterday``."""

    name = "day"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read a day."""
        if value in {"today", "yesterday"} or isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no day; write 2026-11-25, today or yesterday", param, ctx)


@click.command(
    cls=ExampleCommand,
    examples=(
        "report data/ --day 2026-11-25",
        "report postgresql://reader@db/sites --site depot --day yesterday --html day.html",
    ),
)
@_DESTINATION
@click.option("--day", required=True, type=_Day(), metavar="DAY", help="2026-11-25, today, ...")
@_SITE
@_ZONE
@click.option(
    "--html",
    "html_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with pictures, too.",
)
@options.json_object
@click.pass_context
def report(
    ctx: click.Context,
    *,
    destination: str,
    day: object,
    site: str | None,
    timezone: str | None,
    html_path: Path | None,
    as_json: bool,
) -> None:
    """Sum up a day: energy, peaks against the fuse, cars charged, interruptions."""
    with plain_failures(ctx), recording.open(destination) as opened:
        zone = timezone or (opened.timezone(site) if site else None)
        if zone is None and len(opened.sites) == 1:
            zone = opened.timezone(opened.sites[0])
        wanted = day if isinstance(day, date) else _relative(str(day), zone)
        found = day_report(opened, wanted, site=site, timezone=timezone)
        if html_path is not None:
            html_path.write_text(page(found), encoding="utf-8")
    if as_json:
        write_json(report_as_json(found))
    else:
        _show(found)
    if html_path is not None:
        say(f"The page is {html_path}", err=True)


def _relative(word: str, zone: str | None) -> date:
    today = datetime.now(UTC if zone is None else ZoneInfo(zone)).date()
    return today if word == "today" else today - timedelta(days=1)


def _show(found: DayReport) -> None:
    show(Text(f"{found.site}, {found.day:%A, %d %B %Y}\n{known_in_words(found)}\n"))
    energy = new_table("energy", "", right=[""])
    for kind, text in energy_rows(found):
        energy.add_row(kind, text)
    if found.energies:
        show(energy)
    if found.peaks:
        peaks = new_table("peak", "current", "at", "fuse", right=["current"])
        for row in peak_rows(found):
            peaks.add_row(*row)
        show(Text(""))
        show(peaks)
    say("")
    say(cars_in_words(found))
    if found.charges:
        cars = new_table(*CHARGE_HEADINGS, right=["energy", "at most", "pauses"])
        for cells in charge_rows(found):
            cars.add_row(*cells)
        show(cars)
    say("")
    say(gaps_in_words(found))
    if not found.gaps:
        return
    gaps = new_table(*GAP_HEADINGS)
    for interruption in gap_rows(found):
        gaps.add_row(*interruption)
    show(gaps)


@click.command(
    cls=ExampleCommand,
    examples=(
        "gaps data/",
        "gaps postgresql://reader@db/sites --from 2026-11-01 --json",
    ),
)
@_DESTINATION
@click.option("--site", metavar="NAME", help="That site alone.")
@click.option("--from", "start", metavar="TIME", help="Such as 2026-11-25T06:00; in UTC if it "
              "has no zone.")  # fmt: skip
@click.option("--to", "end", metavar="TIME", help="Likewise; now unless given.")
@options.json_object
@click.pass_context
def gaps(
    ctx: click.Context,
    *,
    destination: str,
    site: str | None,
    start: str | None,
    end: str | None,
    as_json: bool,
) -> None:
    """Show when nobody recorded, a site was silent, or something was lost, and why."""
    with plain_failures(ctx), recording.open(destination) as opened:
        found = opened.gaps(start, end, site=site)
    rows = [row._asdict() for row in found.itertuples(index=False)]
    if as_json:
        for row in rows:
            row["start"], row["end"] = row["start"].isoformat(), row["end"].isoformat()
        write_json({"gaps": rows})
        return
    if not rows:
        say("none")
        return
    table = new_table("site", "from (UTC)", "until", "for", "what", "why")
    for row in rows:
        table.add_row(
            row["site"],
            f"{row['start']:%Y-%m-%d %H:%M:%S}",
            f"{row['end']:%Y-%m-%d %H:%M:%S}",
            duration(row["seconds"]),
            row["what"],
            row["reason"],
        )
    show(table)


COMMANDS = {"report": report, "gaps": gaps}
