"""Shows many sites at once, each as far as it is there: for ``watch`` and ``stream``."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import click
from rich.console import RenderableType

from microgrid_sync.cli.feed import choose, open_feed
from microgrid_sync.cli.output import (
    follow,
    new_table,
    now_clock,
    now_text,
    say,
    show,
    write_json,
)
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.gateways.live_site import LiveSite
from microgrid_sync.model.shown import amperes, kilowatts
from microgrid_sync.notebook.columns import Row
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.service import SiteConfig, SitesConfig, running_sites

_FIRST_VALUES = 5.0
"""Seconds for the first values of all, where there is but one look."""

_RETRY_INTERVAL = 5.0
"""Seconds between two attempts at a site."""

_MOST_WAITING = 10_000
"""Samples that may wait to be shown."""

_SLICE = 0.25
"""Seconds of one wait."""

_HEADS = ("grid", "consumers", "PV", "batteries", "EV chargers", "current", "heard")

_POWERS = {
    "grid_w": "grid:power",
    "consumers_w": "consumers:power",
    "pv_w": "pv:power",
    "batteries_w": "batteries:power",
    "chargers_w": "chargers:power",
}


def watch_sites(
    config: SitesConfig, *, interval: float, duration: float | None, as_json: bool, in_lines: bool
) -> None:
    """Show the numbers of many sites.

    Args:
        config: The sites.
        interval: Seconds between two looks.
        duration: Seconds for all; ``0`` for one look, when all is known that will be.
        as_json: Whether an object is written for each site and look.
        in_lines: Whether a line is.
    """
    with running_sites(config, []) as running:

        def line() -> None:
            for site in running.sites.values():
                row = _numbers(site)
                if as_json:
                    write_json({"site": site.name, "time": now_text(), **row})
                else:
                    say(f"{now_clock()}  {site.name}  {'  '.join(_texts(row))}")

        def screen() -> RenderableType:
            table = new_table("site", *_HEADS, right=_HEADS)
            for site in running.sites.values():
                table.add_row(site.name, *_texts(_numbers(site)))
            return table

        if duration == 0.0:
            _wait_for_all(list(running.sites.values()))
            if as_json or in_lines:
                line()
            else:
                show(screen())
            return
        whole = None if as_json or in_lines else screen
        follow(interval, duration, line=line, screen=whole)


def _wait_for_all(sites: Sequence[LiveSite]) -> None:
    end = time.monotonic() + _FIRST_VALUES
    while (now := time.monotonic()) < end:
        heard = [site.heard("grid:power") for site in sites]
        if all(one is not None and one.valid("power_w", now) is not None for one in heard):
            return
        time.sleep(_SLICE)


def _numbers(site: LiveSite) -> dict[str, Any]:
    """Give the numbers of a site that are known now."""
    now = time.monotonic()
    row: dict[str, Any] = {}
    for name, source in _POWERS.items():
        heard = site.heard(source)
        row[name] = None if heard is None else heard.valid("power_w", now)
    current = site.heard("grid:current")
    phases = [
        None if current is None else current.valid(f"current_phase_{phase}_a", now)
        for phase in (1, 2, 3)
    ]
    row |= {f"grid_current_phase_{n}_a": phase for n, phase in enumerate(phases, start=1)}
    microgrid = site.microgrid
    fuse = None if microgrid is None else microgrid.grid.fuse
    row["fuse_a"] = None if fuse is None else fuse.max_current
    components = site.components
    fresh = [site.heard(f"component:{number}") for number in components]
    row["components"] = len(components)
    row["heard"] = sum(one is not None and one.is_fresh(now) for one in fresh)
    return row


def _texts(row: dict[str, Any]) -> list[str]:
    highest = max((abs(row[f"grid_current_phase_{n}_a"] or 0.0) for n in (1, 2, 3)), default=0.0)
    known = row["grid_current_phase_1_a"] is not None
    current = amperes(highest if known else None)
    if known and row["fuse_a"]:
        current += f" of {row['fuse_a']:g} A"
    heard = f"{row['heard']}/{row['components']}" if row["components"] else "not heard"
    return [*(kilowatts(row[name]) for name in _POWERS), current, heard]


class Chosen(NamedTuple):
    """What is to be seen of each site."""

    components: Sequence[str]
    metrics: Sequence[str]
    telemetry: bool


def stream_sites(
    config: SitesConfig,
    chosen: Chosen,
    each: Callable[[str, Row], None],
    *,
    samples: int | None,
    duration: float | None,
) -> None:
    """Hand over what components of many sites send.

    Args:
        config: The sites. One that has none of the components, or is down, is said, and left out
            until it has.
        chosen: What of them.
        each: Is given each site's name and row.
        samples: How many are enough; ``None`` for no end.
        duration: How many seconds are; likewise.

    Raises:
        TimeoutError: If nothing has come at all.
    """
    rows: queue.Queue[tuple[str, Row]] = queue.Queue(_MOST_WAITING)
    stopped = threading.Event()
    threads = [
        threading.Thread(
            target=_follow,
            args=(site, chosen, rows, stopped),
            name=f"microgrid-show {site.name}",
            daemon=True,
        )
        for site in config.sites
    ]
    for thread in threads:
        thread.start()
    count = 0
    end = None if duration is None else time.monotonic() + duration
    try:
        while (samples is None or count < samples) and any(map(threading.Thread.is_alive, threads)):
            if end is not None and time.monotonic() >= end:
                break
            with contextlib.suppress(queue.Empty):
                each(*rows.get(timeout=_SLICE))
                count += 1
    finally:
        stopped.set()
        for thread in threads:
            thread.join(_SLICE * 2)
    if not count:
        raise TimeoutError("nothing has come")


def _follow(
    site: SiteConfig,
    chosen: Chosen,
    rows: "queue.Queue[tuple[str, Row]]",
    stopped: threading.Event,
) -> None:
    """Follow a site; in a thread of its own, which alone waits for it."""
    said = ""
    while not stopped.is_set():
        try:
            for row in _rows(site, chosen, stopped):
                # What is not shown in time is dropped: another site is not to wait for it.
                with contextlib.suppress(queue.Full):
                    rows.put_nowait((site.name, row))
        except (ApiClientError, ReceiverStoppedError) as error:
            if str(error) != said:
                said = str(error)
                click.echo(f"{site.name}: {said}", err=True)
            stopped.wait(_RETRY_INTERVAL)
        except click.UsageError as error:
            click.echo(f"{site.name}: {error.format_message()}", err=True)
            return


def _rows(site: SiteConfig, chosen: Chosen, stopped: threading.Event) -> Iterator[Row]:
    table = site.table
    with MicrogridApiClient(table.url, timeout=table.timeout) as client:
        choice = choose(client, chosen.components, chosen.metrics, telemetry=chosen.telemetry)
        with open_feed(client, choice) as receiver:
            while not stopped.is_set():
                try:
                    yield choice.row(receiver.receive(timeout=_SLICE))
                except TimeoutError:
                    continue
