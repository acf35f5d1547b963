"""Asks before a component is commanded, and looks what it then measures."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from microgrid_sync.cli.choosing import chosen
from microgrid_sync.cli.output import say
from microgrid_sync.client import MicrogridApiClient, receive_any
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.model import Component
from microgrid_sync.receiver import Receiver, ReceiverStoppedError
from microgrid_sync.snapshot import has_data, in_words, snapshot, state_of
from microgrid_sync.topology import describe

_FIRST_VALUE = 2.0
"""Seconds for what the component measures before."""

_REACTION = 10.0
"""Seconds in which most components do as they are told."""

_NEAR_SHARE, _NEAR = 0.03, 100.0
"""How near to its set-point a power counts as there: as a share, and in W."""


def component_of(client: MicrogridApiClient, component_id: int) -> Component:
    """Find a component.

    Raises:
        click.UsageError: If there is none of that ID.
    """
    return chosen(list(client.components()), [str(component_id)])[0]


def measured(client: MicrogridApiClient, component: Component) -> str:
    """Say what a component measures now; nothing if it does not say."""
    value = snapshot(client, [component], _FIRST_VALUE).get(component.component_id)
    return "" if value is None else in_words(value)


def confirm(question: str, *, yes: bool) -> None:
    """Ask whether something is to be done, on the error output, so that the output stays JSON.

    Raises:
        click.ClickException: If it is not.
    """
    if yes:
        return
    while True:
        click.echo(f"{question} [y/N]: ", err=True, nl=False)
        answer = sys.stdin.readline()
        if not answer:
            # Nobody is there to answer.
            click.echo(err=True)
            raise click.UsageError("nothing was sent; --yes answers the question")
        if answer.strip().lower() in {"y", "yes"}:
            return
        if answer.strip().lower() in {"", "n", "no"}:
            raise click.ClickException("nothing was sent")


def place(client: MicrogridApiClient, component: Component) -> str:
    """Name a component and its site, for questions."""
    return f"{describe(component)} at {client.server_url}"


def open_data(client: MicrogridApiClient, component: Component) -> Receiver[Any] | None:
    """Receive what a component measures; ``None`` if it measures nothing."""
    if not has_data(component, client.api):
        return None
    return receive_any(client, component.component_id, 100)


def wait_for_power(
    receiver: Receiver[Any] | None, target: float, read: Callable[[Any], float]
) -> tuple[Any, float]:
    """Wait until a component's power is near a set-point, for a while.

    Args:
        receiver: What it measures.
        target: The set-point, in W or VAr.
        read: Reads the power.

    Returns:
        What it measured last, ``None`` if nothing with a power has come; and after what time.
    """
    begun = time.monotonic()
    newest: Any = None
    took = 0.0
    if receiver is None:
        return None, took
    near = max(_NEAR, _NEAR_SHARE * abs(target))
    receiver.drain()
    while (left := begun + _REACTION - time.monotonic()) > 0:
        try:
            value = receiver.receive(timeout=left)
        except (TimeoutError, ReceiverStoppedError, ApiClientError):
            break
        power = read(value)
        if not math.isnan(power):
            newest, took = value, time.monotonic() - begun
            if abs(power - target) <= near:
                break
    return newest, took


def reactive_power(value: Any) -> float:
    """Give the reactive power of a value in VAr; NaN if there is none."""
    return float(getattr(value, "reactive_power", math.nan))


def say_measured(component: Component, power: str, newest: Any, took: float) -> None:
    """Say what a component did."""
    if newest is None:
        say(f"{component.component_id} has measured no power since")
    else:
        state = state_of(newest)
        also = f", {state}" if state else ""
        say(f"{took:.1f} s later {component.component_id} measures {power}{also}")
