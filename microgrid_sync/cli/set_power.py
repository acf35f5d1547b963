"""Sets powers: ``microgrid-sync set-power`` and ``set-reactive-power``."""

import contextlib
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from microgrid_sync.cli import options
from microgrid_sync.cli.commanding import (
    component_of,
    confirm,
    measured,
    open_data,
    place,
    reactive_power,
    say_measured,
    wait_for_power,
)
from microgrid_sync.cli.output import PowerType, lasts_until, power_words, say, write_json
from microgrid_sync.cli.site import SiteCommand, connected, until_interrupted
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.model import Component
from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.snapshot import active_power

_RENEW_INTERVAL = 10.0
"""Seconds between two set-points that are the same."""

_SHORTEST, _USUAL = 10, 60
"""Seconds that a set-point holds at the least, and unless told otherwise (v1alpha18)."""

_COMMON = [
    click.Argument(["component_id"], type=int, metavar="ID"),
    click.Option(
        ["--lifetime"],
        type=options.Finite(10.0, 900.0),
        metavar="SECONDS",
        help="How long it holds, 10 to 900 s (API v1alpha18; 60 unless given).",
    ),
    click.Option(
        ["--for", "duration"],
        type=options.SECONDS,
        metavar="SECONDS",
        help="Send it again and again for so long.",
    ),
    click.Option(["--yes", "-y"], is_flag=True, help="Do not ask."),
    click.Option(["--json", "as_json"], is_flag=True, help="One JSON object."),
]


def _parameters(unit: str) -> list[click.Parameter]:
    power = PowerType(unit)
    then = click.Option(
        ["--then"],
        type=power,
        metavar="POWER",
        help="What is sent last, after --for or Ctrl-C.",
    )
    return [
        _COMMON[0],
        click.Argument(["power"], type=power, metavar="POWER"),
        *_COMMON[1:3],
        then,
        *_COMMON[3:],
    ]


@click.command(
    cls=SiteCommand,
    params=_parameters("W"),
    examples=(
        "set-power 7 5kW grpc://127.0.0.1:8800",
        "set-power 4 -2000 --lifetime 120 --yes",
        "set-power 4 -2kW --for 300 --then 0",
    ),
)
@click.pass_context
def set_power(ctx: click.Context, /, **given: Any) -> None:
    """Set the active power of a component: positive charges, negative discharges.

    POWER is in W, or has its unit, such as 5kW. Says until when it holds, and what the component
    measures then.
    """
    _set(ctx, "W", MicrogridApiClient.set_power, given)


@click.command(
    cls=SiteCommand,
    params=_parameters("VAr"),
    examples=(
        "set-reactive-power 3 500 grpc://127.0.0.1:8800",
        "set-reactive-power 3 -1kVAr --yes",
    ),
)
@click.pass_context
def set_reactive_power(ctx: click.Context, /, **given: Any) -> None:
    """Set the reactive power of a component: positive is capacitive, negative inductive.

    POWER is in VAr, or has its unit, such as 1kVAr.
    """
    _set(ctx, "VAr", MicrogridApiClient.set_reactive_power, given)


_Send = Callable[..., datetime | None]


def _set(ctx: click.Context, unit: str, send: _Send, given: dict[str, Any]) -> None:
    power, duration, as_json = given["power"], given["duration"], given["as_json"]
    if given["then"] is not None and duration is None:
        raise click.UsageError("--then comes after --for; give that, too", ctx)
    with connected(ctx) as client:
        component = component_of(client, given["component_id"])
        if given["lifetime"] is not None and client.api == "v0.15":
            raise click.UsageError("--lifetime: API v0.15, which this site speaks, has none", ctx)
        question = f"Set {place(client, component)} to {power_words(power, unit)}?"
        if not given["yes"]:
            now = measured(client, component)
            question = f"It measures {now} now. {question}" if now else question
        confirm(question, yes=given["yes"])
        begun = time.monotonic()
        receiver = open_data(client, component)
        read = active_power if unit == "W" else reactive_power
        orders = _Orders(
            client, component, send, lifetime=given["lifetime"], begun=begun, duration=duration
        )
        newest: Any = None
        took = 0.0
        try:
            # Ctrl-C is the end of what is renewed.
            with contextlib.nullcontext() if duration is None else until_interrupted():
                orders.send(power)
                if not as_json:
                    words = lasts_until(orders.expires, client.api)
                    say(f"Set to {power_words(power, unit)}; {words}")
                newest, took = wait_for_power(receiver, power, read)
                if not as_json:
                    now = "" if newest is None else power_words(read(newest), unit)
                    say_measured(component, now, newest, took)
                orders.renew(power)
        finally:
            # Whatever has become of the rest, or of the output.
            if given["then"] is not None and orders.was_tried:
                orders.send_last(given["then"])
        if not orders.sent:
            # Nobody knows whether the server has it.
            raise click.Abort
        if as_json:
            measured_power = None if newest is None else read(newest)
            _write(orders, unit, given["then"], measured_power, took)
        elif duration is not None:
            words = lasts_until(orders.expires, client.api)
            say(f"Set to {power_words(orders.sent[-1], unit)} last; {words}")


class _Orders:
    """Sends set-points to a component, again and again for a while."""

    def __init__(
        self,
        client: MicrogridApiClient,
        component: Component,
        send: _Send,
        *,
        lifetime: float | None,
        begun: float,
        duration: float | None,
    ) -> None:
        self._client = client
        self.component = component
        self._send = send
        self._lifetime = lifetime
        self._end = None if duration is None else begun + duration
        self.sent: list[float] = []
        self.was_tried = False
        self.expires: datetime | None = None

    def send(self, power: float) -> None:
        """Send a set-point; it does not hold for longer than it is to be renewed."""
        lifetime = self._lifetime
        if self._end is not None and self._client.api != "v0.15":
            left = math.ceil(self._end - time.monotonic())
            lifetime = min(lifetime or _USUAL, max(_SHORTEST, left))
        self._send_for(power, lifetime)

    def send_last(self, power: float) -> None:
        """Send what is to hold after all that was renewed."""
        self._send_for(power, self._lifetime)

    def _send_for(self, power: float, lifetime: float | None) -> None:
        self.was_tried = True
        named = {} if lifetime is None else {"lifetime": lifetime}
        self.expires = self._send(self._client, self.component.component_id, power, **named)
        self.sent.append(power)

    def renew(self, power: float) -> None:
        """Send it again until the time is over; what may succeed later is tried again then."""
        while self._end is not None and (left := self._end - time.monotonic()) > 0:
            due = time.monotonic() + min(left, _RENEW_INTERVAL)
            while (pause := due - time.monotonic()) > 0:
                # In slices: some platforms deliver Ctrl-C only between two waits.
                time.sleep(min(pause, 1.0))
            if left <= _RENEW_INTERVAL:
                return
            try:
                self.send(power)
            except ApiClientError as error:
                if not error.is_retryable:
                    raise
                say(f"not renewed: {error}", err=True)


def _write(
    orders: _Orders, unit: str, then: float | None, measured_power: float | None, took: float
) -> None:
    suffix = unit.lower()
    found = {
        "component_id": orders.component.component_id,
        f"set_{suffix}": orders.sent[0],
        f"measured_{suffix}": measured_power,
        "measured_after_s": None if measured_power is None else took,
        f"then_{suffix}": then if then in orders.sent[1:] else None,
        f"last_set_{suffix}": orders.sent[-1],
        "sent": len(orders.sent),
        "expires": orders.expires,
    }
    write_json(jsonable(found))


COMMANDS = {"set-power": set_power, "set-reactive-power": set_reactive_power}
