"""Serves and records many sites in one process, each for itself."""

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from microgrid_sync.client import MicrogridApiClient, keep_pace
from microgrid_sync.gateways.config import PrometheusTable
from microgrid_sync.gateways.live_site import LiveSite
from microgrid_sync.gateways.service import RunningGateways, running_gateways
from microgrid_sync.recording.recorder import Recorder
from microgrid_sync.recording.selection import Only
from microgrid_sync.service.sites import RecordTable, SiteConfig, SitesConfig

# It needs its extra, and is loaded where it is wanted.
if TYPE_CHECKING:
    from microgrid_sync.gateways.prometheus import Figure, PrometheusGateway

KINDS = ("modbus", "mqtt", "prometheus", "record")
"""What can be done with many sites."""

_SAMPLES = 1000.0
"""Samples a second that one process has room for; each site may have its share of them."""

_SAMPLES_OF_EACH = 2.0
"""Samples a second of each component that a site may have in any case."""

_END_TIMEOUT = 15.0
"""Seconds in which all sites end, at the same time."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunningSites:
    """What runs."""

    gateways: dict[str, RunningGateways] = field(default_factory=dict)
    """The gateways of each site that has some, by name."""

    prometheus: "PrometheusGateway | None" = None
    """The one for all sites."""

    recorder: Recorder | None = None
    """Likewise."""

    sites: dict[str, LiveSite] = field(default_factory=dict)
    """All sites, by name."""


@contextlib.contextmanager
def running_sites(
    config: SitesConfig,
    kinds: Collection[str],
    *,
    only: Only | None = None,
    replaces_file: bool = False,
) -> Iterator[RunningSites]:
    """Serve and record sites until the block ends.

    Args:
        config: The sites, and what is done with them.
        kinds: What: of ``modbus``, ``mqtt``, ``prometheus`` and ``record``.
        only: Which samples are recorded; all unless given.
        replaces_file: Whether a file that is recorded to is replaced.

    Raises:
        ImportError: If an extra is not installed; the text names it.
        OSError: If a port cannot be listened on, a file cannot be read, or the destination cannot
            be recorded to.
        ValueError: If something that is needed is not in the configuration.
    """
    _check(config, kinds)
    own = [kind for kind in kinds if kind in {"modbus", "mqtt"}]
    with contextlib.ExitStack() as stack:
        prometheus = _prometheus(config, stack, kinds)
        ends = stack.enter_context(_ending_together())
        recorder = None
        if "record" in kinds and config.record is not None:
            recorder = stack.enter_context(
                _recorder(config.record, config, only, replaces_file=replaces_file)
            )
        running = RunningSites({}, prometheus, recorder)
        for one in config.sites:
            _run(one, own, running, ends)
            if len(config.sites) > 1:
                # One that floods is not to delay the others.
                rate, of_each = one.table.max_rate, 0.0
                if rate is None:
                    rate, of_each = _SAMPLES / len(config.sites), _SAMPLES_OF_EACH
                keep_pace(running.sites[one.name].client, rate, of_each)
        if prometheus is not None and recorder is not None:
            prometheus.show(lambda: _figures(recorder))
        yield running


def _run(
    one: SiteConfig, own: Collection[str], running: RunningSites, ends: list[contextlib.ExitStack]
) -> None:
    """Run what is a site's own; what all share takes it up."""
    # Each has a stack of its own: those of others end while one waits.
    stack = contextlib.ExitStack()
    ends.append(stack)
    gateways = None
    if own:
        gateways = stack.enter_context(running_gateways(one.gateways, one.table, own))
        running.gateways[one.name] = gateways
        site = gateways.site
    else:
        table = one.table
        client = stack.enter_context(MicrogridApiClient(table.url, timeout=table.timeout))
        site = stack.enter_context(LiveSite(client, name=one.name, max_age=table.max_age))
    running.sites[one.name] = site
    if running.recorder is not None:
        running.recorder.record(site)
    if running.prometheus is not None:
        if gateways is None:
            running.prometheus.add(site)
        else:
            running.prometheus.add(
                site, commands=gateways.commands, modbus=gateways.modbus, mqtt=gateways.mqtt
            )


@contextlib.contextmanager
def _ending_together() -> Iterator[list[contextlib.ExitStack]]:
    """Give a list of what is closed in the end, all of it at the same time."""
    stacks: list[contextlib.ExitStack] = []
    try:
        yield stacks
    finally:
        threads = [
            threading.Thread(target=stack.close, name="microgrid-end-site", daemon=True)
            for stack in stacks
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _END_TIMEOUT
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = sum(thread.is_alive() for thread in threads)
        if left:
            _logger.warning("%d sites have not ended within %g s", left, _END_TIMEOUT)


def _recorder(
    table: RecordTable, config: SitesConfig, only: Only | None, *, replaces_file: bool
) -> Recorder:
    destination = table.to
    if "://" not in destination:
        # Relative to the configuration; the end of the name says that it is a folder.
        end = "/" if destination.endswith("/") else ""
        destination = f"{config.folder / Path(destination).expanduser()}{end}"
    return Recorder(
        destination,
        what=table.what,
        every=table.every,
        spool=None if table.spool is None else config.folder / Path(table.spool).expanduser(),
        period=table.period,
        share="" if config.share is None else f"{config.share.part}-of-{config.share.of}",
        only=only,
        replace=replaces_file,
    )


def _check(config: SitesConfig, kinds: Collection[str]) -> None:
    """See what is missing before anything is connected."""
    for kind in kinds:
        if kind != "record":
            importlib.import_module(f"microgrid_sync.gateways.{kind}")
    if "record" in kinds and config.record is None:
        raise ValueError("nothing says where to record: a table [record] with 'to' is missing")
    bare = [site.name for site in config.sites if site.gateways.modbus is None]
    if "modbus" in kinds and bare and len(config.sites) > 1:
        raise ValueError(
            f"the site {bare[0]!r} has no table for Modbus: each needs a port of its own, such as "
            "modbus = { port = 5021 }"
        )


def _prometheus(
    config: SitesConfig, stack: contextlib.ExitStack, kinds: Collection[str]
) -> "PrometheusGateway | None":
    if "prometheus" not in kinds:
        return None
    table = config.prometheus or PrometheusTable()
    port = table.port
    if table.each_share_has_its_port and port and config.share is not None:
        port += config.share.part - 1
    from microgrid_sync.gateways.prometheus import PrometheusGateway  # noqa: PLC0415 - an extra

    return stack.enter_context(PrometheusGateway(host=table.host, port=port))


def _figures(recorder: Recorder) -> "list[Figure]":
    from microgrid_sync.gateways.prometheus import Figure  # noqa: PLC0415 - an extra

    stats = recorder.stats
    return [
        Figure("recorder_rows", "Rows that are safe on disk.", stats.recorded, counts=True),
        Figure("recorder_lost_values", "Values that were lost.", stats.lost, counts=True),
        Figure("recorder_delivered_rows", "Rows that are stored.", stats.delivered, counts=True),
        Figure("recorder_waiting_rows", "Rows in the spool.", stats.waiting),
        Figure("recorder_failing", "1 if nothing can be stored now.", stats.error is not None),
    ]
