"""Records sites into files, folders and databases: ``microgrid-sync record``."""

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from microgrid_sync.cli import options
from microgrid_sync.cli.feed import choose, open_feed, read_feed
from microgrid_sync.cli.output import say
from microgrid_sync.cli.site import (
    LongCommand,
    connected,
    site_timeout,
    site_url,
    sites_of,
    until_interrupted,
    wait_out,
)
from microgrid_sync.gateways.config import GatewayConfig, LimitTable, SiteTable
from microgrid_sync.gateways.live_site import is_of_site
from microgrid_sync.recording.destination import destination_of
from microgrid_sync.recording.files import FileRecording, check_suffix
from microgrid_sync.recording.recorder import Recorder
from microgrid_sync.recording.schema import WHAT, What
from microgrid_sync.recording.selection import Only
from microgrid_sync.service import RecordTable, SiteConfig, SitesConfig, running_sites
from microgrid_sync.transport.channel import site_of

_PASSWORD = re.compile(r"://[^/@]*:[^/@]+@")
"""A password in a URL, also in one that cannot be taken apart."""

_LONG_GAP = 5.0
"""Seconds without anything from any component that are told of."""


@click.command(
    cls=LongCommand,
    many="own",
    examples=(
        "record day.csv --duration 86400",
        "record cars.jsonl ev-charger --metric active_power grpc://127.0.0.1:8800",
        "record --to data/ --name depot grpc://127.0.0.1:8800",
        "record --to postgresql://recorder@db/sites --sites sites.toml --share 3/8",
    ),
)
@click.argument("arguments", metavar="[FILE] [ID|CATEGORY]...", nargs=-1)
@click.option(
    "--to",
    metavar="DESTINATION",
    help="Record for months: into a folder of Parquet files, such as data/, a database, such as "
    "postgresql://user@host/database, or a file of .csv or .jsonl.",
)
@click.option(
    "--what",
    "what",
    multiple=True,
    type=click.Choice(WHAT),
    metavar="|".join(WHAT),
    help="With --to: that alone; repeatable. All of it unless given.",
)
@click.option(
    "--every",
    type=options.SECONDS,
    metavar="SECONDS",
    help="With --to: one sample of each component in so many seconds.",
)
@click.option("--period", type=click.Choice(["hour", "day"]), help="Of a Parquet file; hour.")
@click.option(
    "--spool",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --to: what keeps samples until the destination has them.",
)
@click.option("--name", metavar="NAME", help="What the site is called; host:port unless given.")
@options.metrics
@click.option("--telemetry", is_flag=True, help="All that the server sends; JSON Lines alone.")
@options.samples
@options.duration
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.pass_context
def record(ctx: click.Context, /, **given: Any) -> None:
    """Record components into FILE, or whole sites to a DESTINATION.

    FILE is CSV if it ends in .csv, JSON Lines if in .jsonl. Of some IDs and categories, or of every
    component that sends data. Until it is whole the file is called FILE.part. Without --samples and
    --duration Ctrl-C is the end of a whole recording; with them it breaks it off, and the part
    stays.

    With --to it goes on until Ctrl-C. What a site has sent is on disk within a second, and is kept
    while the database is away. "report" and "gaps" read it.
    """
    asked = _Asked(**given)
    config = sites_of(ctx)
    to = asked.to
    if to is None and config is not None and config.record is not None and not asked.arguments:
        to = config.record.to
    if to is None:
        if config is not None:
            raise click.UsageError("a list of sites needs --to, or a table [record] in it", ctx)
        if not asked.arguments:
            raise click.UsageError("name a FILE, or with --to a DESTINATION", ctx)
        _check_unused(ctx, asked)
        _record_file(ctx, Path(asked.arguments[0]), asked.arguments[1:], asked)
        return
    destination_of(to)
    for option, value in (("--samples", asked.samples), ("--telemetry", asked.telemetry)):
        if value:
            raise click.UsageError(f"{option} goes with a FILE, not with --to", ctx)
    _record_sites(ctx, config, asked)


class _Asked(NamedTuple):
    """What was given on the command line."""

    arguments: tuple[str, ...]
    to: str | None
    what: tuple[What, ...]
    every: float | None
    period: Literal["hour", "day"] | None
    spool: Path | None
    name: str | None
    metrics: tuple[str, ...]
    telemetry: bool
    samples: int | None
    duration: float | None
    force: bool


def _unused(asked: _Asked) -> list[str]:
    """Name the options that a single file of samples has no use for."""
    given = {
        "--what": asked.what,
        "--every": asked.every,
        "--period": asked.period,
        "--spool": asked.spool,
        "--name": asked.name,
    }
    return [option for option, value in given.items() if value]


def _check_unused(ctx: click.Context, asked: _Asked) -> None:
    unused = _unused(asked)
    if unused:
        raise click.UsageError(f"{unused[0]} goes with --to DESTINATION", ctx)


def _record_sites(ctx: click.Context, config: SitesConfig | None, asked: _Asked) -> None:
    """Record whole sites until Ctrl-C."""
    if config is None:
        table = SiteTable(site_url(ctx), name=asked.name, timeout=site_timeout(ctx))
        name = asked.name or site_of(table.url)
        gateways = GatewayConfig(table, LimitTable(), None, None, None, Path())
        config = SitesConfig((SiteConfig(name, table, gateways),), None, None, Path())
    elif asked.name is not None:
        raise click.UsageError("--name is of one site; those of a list have theirs", ctx)
    record = config.record
    if asked.to is not None:
        if _PASSWORD.search(asked.to):
            say("Every user of this machine can see the password in the URL; ~/.pgpass and "
                "$PGPASSFILE hide it.", err=True)  # fmt: skip
        # Relative to where the command is run, not to the list.
        to = asked.to if "://" in asked.to else _absolute(asked.to)
        record = RecordTable(to) if record is None else replace(record, to=to)
    assert record is not None  # noqa: S101 - the caller has seen to it
    record = replace(
        record,
        what=asked.what or record.what,
        every=asked.every or record.every,
        period=asked.period or record.period,
        spool=record.spool if asked.spool is None else str(asked.spool.absolute()),
    )
    only = Only(asked.arguments, asked.metrics)
    config = replace(config, record=record)
    with (
        until_interrupted(),
        running_sites(config, ["record"], only=only, replaces_file=asked.force) as running,
    ):
        recorder = running.recorder
        assert recorder is not None  # noqa: S101 - for the type alone
        say(f"Recording {_counted(config)} to {recorder.destination}; Ctrl-C ends it.", err=True)
        end = math.inf if asked.duration is None else time.monotonic() + asked.duration
        try:
            wait_out(asked.duration)
        finally:
            is_over = time.monotonic() >= end
            recorder.close("its duration was over" if is_over else "it was stopped")
            _say_end(recorder)
            silent = [
                name
                for name, site in running.sites.items()
                if not any(is_of_site(source) for source in site.sources())
            ]
            if silent:
                say(f"Nothing has come from {', '.join(silent)}.", err=True)
    if asked.duration is not None and len(silent) == len(config.sites):
        ctx.exit(1)


def _absolute(path: str) -> str:
    """Give a path from the root on; the end of the name says that it is a folder."""
    return f"{Path(path).expanduser().absolute()}{'/' if path.endswith('/') else ''}"


def _counted(config: SitesConfig) -> str:
    share = f" (share {config.share})" if config.share else ""
    if len(config.sites) == 1:
        return f"{config.sites[0].name}{share}"
    return f"{len(config.sites)} sites{share}"


def _say_end(recorder: Recorder) -> None:
    stats = recorder.stats
    text = f"{stats.recorded:,} rows were recorded"
    waiting = stats.waiting
    if waiting:
        text += f"; {waiting:,} of these wait in {recorder.spool}, and go to {recorder.destination}"
        text += " when it is recorded to next"
    if stats.lost:
        text += f"; {stats.lost:,} values were lost"
    say(f"{text}.", err=True)


def _record_file(ctx: click.Context, file: Path, components: Sequence[str], asked: _Asked) -> None:
    """Record samples of one site into a file."""
    samples, duration = asked.samples, asked.duration
    try:
        check_suffix(file)
    except ValueError as error:
        raise click.UsageError(f"{error}; for folders and databases there is --to", ctx) from error
    if not file.parent.is_dir():
        raise click.UsageError(f"there is no folder {str(file.parent)!r}", ctx)
    with connected(ctx) as client:
        choice = choose(client, components, asked.metrics, telemetry=asked.telemetry)
        columns = choice.columns()
        if columns is None and file.suffix.lower() == ".csv":
            raise click.UsageError(
                "CSV needs its columns beforehand: name them with --metric, or record .jsonl", ctx
            )
        try:
            recording = FileRecording(file, columns or (), replace=asked.force)
        except FileExistsError as error:
            raise click.UsageError(f"{error}; --force replaces it", ctx) from error
        is_whole = samples is None and duration is None
        begun = time.monotonic()
        seen: set[int] = set()

        newest_at, longest = begun, 0.0

        def write(value: Any) -> None:
            nonlocal newest_at, longest
            now = time.monotonic()
            newest_at, longest = now, max(longest, now - newest_at)
            seen.add(value.component_id)
            recording.write(choice.row(value))

        with recording, open_feed(client, choice) as receiver:
            with until_interrupted(), _progress(recording, samples, duration) as tick:
                read_feed(
                    receiver,
                    write,
                    samples=samples,
                    duration=duration,
                    tick=tick,
                )
                is_whole = True
            if not recording.rows:
                raise TimeoutError(f"nothing has come; {recording.part} is empty")
            if is_whole:
                recording.finish()
    seconds = f"{time.monotonic() - begun:.0f} s"
    if not is_whole:
        raise click.ClickException(
            f"broken off after {seconds}; {recording.rows} samples are in {recording.part}"
        )
    gap = f"; nothing came for {longest:.0f} s" if longest > _LONG_GAP else ""
    say(f"{recording.rows} samples of {len(seen)} components in {file}, {seconds}{gap}")


@contextlib.contextmanager
def _progress(
    recording: FileRecording, samples: int | None, duration: float | None
) -> Iterator[Callable[[], None] | None]:
    """Show how far it is, on a terminal."""
    to = Console(stderr=True)
    if not to.is_terminal:
        yield None
        return
    total: Any = samples if duration is None else duration
    bar = Progress(
        TextColumn("recording"),
        BarColumn(),
        TextColumn("{task.fields[rows]} samples"),
        TimeElapsedColumn(),
        console=to,
        transient=True,
    )
    begun = time.monotonic()
    with bar:
        task = bar.add_task("recording", total=total, rows=0)

        def tick() -> None:
            done = recording.rows if duration is None else time.monotonic() - begun
            bar.update(task, completed=done, rows=recording.rows)

        yield tick


COMMANDS = {"record": record}
