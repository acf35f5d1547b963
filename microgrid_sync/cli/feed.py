"""Gives what the chosen components send: for the commands that show and record it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from microgrid_sync.cli.choosing import Wanted, chosen, wanted_metrics
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.model import Component
from microgrid_sync.model.data import HAS_DATA
from microgrid_sync.notebook.columns import Row, columns_of
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.receiver import Receiver, ReceiverStoppedError, merge
from microgrid_sync.snapshot import has_data, open_all

_MAXSIZE = 1000
"""Values of each component that may wait while the terminal or the disk is slow."""

_SLICE = 0.25
"""Seconds of one wait: so often a command looks whether its time is over."""

_ALWAYS = ("component_id", "timestamp")


@dataclass(frozen=True)
class Choice:
    """What somebody wants to see."""

    components: Sequence[Component]
    wanted: Wanted

    def columns(self) -> list[str] | None:
        """Name all columns that may come; ``None`` if that cannot be known beforehand."""
        if self.wanted.columns is not None:
            return [*_ALWAYS, *self.wanted.columns]
        columns: dict[str, None] = {}
        if self.wanted.metrics is not None:
            return None
        for component in self.components:
            if component.category not in HAS_DATA:
                return None
            columns |= dict.fromkeys(columns_of(HAS_DATA[component.category]))
        return list(columns)

    def row(self, value: Any) -> Row:
        """Give the row of a value, with the columns that are wanted."""
        row = row_of(value)
        if self.wanted.columns is None:
            return row
        return {name: row[name] for name in (*_ALWAYS, *self.wanted.columns) if name in row}


def choose(
    client: MicrogridApiClient, names: Sequence[str], metrics: Sequence[str], *, telemetry: bool
) -> Choice:
    """Find what is meant.

    Args:
        client: The client.
        names: IDs and categories; none for all components that send data.
        metrics: The metrics; none for all.
        telemetry: Whether all that the server sends is wanted, as it sends it.

    Raises:
        click.UsageError: If there is no such thing, or it sends nothing.
    """
    known = sorted(client.components(), key=lambda c: c.component_id)
    components = chosen(known, names) if names else [c for c in known if c.category in HAS_DATA]
    silent = [c for c in components if not has_data(c, client.api)]
    if silent:
        listed = ", ".join(str(c.component_id) for c in silent)
        raise click.UsageError(f"components that send no data: {listed}")
    if not components:
        raise click.UsageError("the site has no component that sends data")
    if telemetry:
        return Choice(components, Wanted(None, frozenset()))
    wanted = wanted_metrics(components, metrics)
    if metrics and wanted.metrics is None:
        # Of a whole site, those alone that measure it.
        columns = set(wanted.columns or ())
        some = [c for c in components if c.category in HAS_DATA]
        components = [c for c in some if columns & {*columns_of(HAS_DATA[c.category])}]
    return Choice(components, wanted)


def open_feed(client: MicrogridApiClient, choice: Choice) -> Receiver[Any]:
    """Receive it all, as one."""
    if choice.wanted.metrics is None:
        receiver = open_all(client, choice.components, _MAXSIZE)
        if receiver is None:
            raise click.UsageError("the site has no component that sends data")
        return receiver
    metrics = choice.wanted.metrics or None
    return merge(*(client.telemetry(c.component_id, metrics, _MAXSIZE) for c in choice.components))


def read_feed(
    receiver: Receiver[Any],
    each: Callable[[Any], None],
    *,
    samples: int | None,
    duration: float | None,
    tick: Callable[[], None] | None = None,
) -> int:
    """Hand over what comes, until it is enough.

    Args:
        receiver: Where it comes from.
        each: Is given each value.
        samples: How many are enough; ``None`` for no end.
        duration: How many seconds are; likewise.
        tick: Called a few times a second, whether something comes or not.

    Returns:
        How many have come.

    Raises:
        ApiClientError: If the stream ends by an error.
    """
    count = 0
    end = None if duration is None else time.monotonic() + duration
    while samples is None or count < samples:
        left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
        if left <= 0:
            break
        try:
            value = receiver.receive(timeout=left)
        except TimeoutError:
            value = None
        except ReceiverStoppedError as stopped:
            raise stopped.__cause__ or stopped from None
        if value is not None:
            each(value)
            count += 1
        if tick is not None:
            tick()
    return count
