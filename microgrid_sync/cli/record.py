"""Records what components send into a file: ``microgrid-sync record``."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from microgrid_sync.cli import options
from microgrid_sync.cli.feed import choose, open_feed, read_feed
from microgrid_sync.cli.output import say
from microgrid_sync.cli.site import LongCommand, connected, until_interrupted
from microgrid_sync.recording.files import FileRecording, check_suffix

_LONG_GAP = 5.0
"""Seconds without anything from any component that are told of."""


@click.command(
    cls=LongCommand,
    examples=(
        "record day.csv --duration 86400",
        "record cars.jsonl ev-charger --metric active_power grpc://127.0.0.1:8800",
    ),
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("components", metavar="[ID|CATEGORY]...", nargs=-1)
@options.metrics
@click.option("--telemetry", is_flag=True, help="All that the server sends; JSON Lines alone.")
@options.samples
@options.duration
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.pass_context
def record(
    ctx: click.Context,
    *,
    file: Path,
    components: tuple[str, ...],
    metrics: tuple[str, ...],
    telemetry: bool,
    samples: int | None,
    duration: float | None,
    force: bool,
) -> None:
    """Record into FILE: CSV if it ends in .csv, JSON Lines if in .jsonl.

    Of some IDs and categories, or of every component that sends data. Until it is whole the file is
    called FILE.part. Without --samples and --duration Ctrl-C is the end of a whole recording; with
    them it breaks it off, and the part stays.
    """
    try:
        check_suffix(file)
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from error
    if not file.parent.is_dir():
        raise click.UsageError(f"there is no folder {str(file.parent)!r}", ctx)
    with connected(ctx) as client:
        choice = choose(client, components, metrics, telemetry=telemetry)
        columns = choice.columns()
        if columns is None and file.suffix.lower() == ".csv":
            raise click.UsageError(
                "CSV needs its columns beforehand: name them with --metric, or record .jsonl", ctx
            )
        try:
            recording = FileRecording(file, columns or (), replace=force)
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
