"""Sets powers: ``microgrid-sync set-power`` and ``set-reactive-power``."""

import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from microgrid_sync.cli.commanding import (
    component_of,
    confirm,
    measured,
    open_data,
    place,
    say_measured,
    timezone,
    wait_for_power,
)
from microgrid_sync.cli.output import PowerType, lasts_until, power_words, say, write_json
from microgrid_sync.cli.site import SiteCommand, connected, until_interrupted
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.model import Component
from microgrid_sync.notebook.rows import jsonable

_RENEW_INTERVAL = 10.0
"""Seconds between two set-points that are the same."""

_SHORTEST, _USUAL = 10, 60
"""Seconds that a set-point holds at the least, and unless told otherwise (v1alpha18)."""

_COMMON = [
    click.Argument(["component_id"], type=int, metavar="ID"),
    click.Option(
        ["--lifetime"],
        type=click.FloatRange(10.0, 900.0),
        metavar="SECONDS",
        help="How long it holds, 10 to 900 s (API v1alpha18; 60 unless given).",
    ),
    click.Option(
        ["--for", "duration"],
        type=click.FloatRange(0.0, min_open=True),
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
        "set-reactive-power 3 -- -1kVAr",
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
        receiver = open_data(client, component) if unit == "W" else None
        orders = _Orders(
            client, component, send, lifetime=given["lifetime"], begun=begun, duration=duration
        )
        expires = orders.send(power)
        if not as_json:
            words = lasts_until(expires, timezone(client), client.api)
            say(f"Set to {power_words(power, unit)}; {words}")
        newest, took = wait_for_power(receiver, power)
        if not as_json and unit == "W":
            say_measured(component, newest, took)
        if duration is not None:
            expires, last = orders.renew(power, given["then"], expires)
            if not as_json:
                words = lasts_until(expires, timezone(client), client.api)
                say(f"Set to {power_words(last, unit)} last; {words}")
        if as_json:
            _write(orders, unit, expires, newest, took)


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
        self._end = math.inf if duration is None else begun + duration
        self.sent: list[float] = []

    def send(self, power: float) -> datetime | None:
        """Send a set-point; it does not hold for longer than it is to be renewed."""
        lifetime = self._lifetime
        left = self._end - time.monotonic()
        if self._end < math.inf and self._client.api != "v0.15":
            lifetime = min(lifetime or _USUAL, max(_SHORTEST, math.ceil(left)))
        named = {} if lifetime is None else {"lifetime": lifetime}
        expires = self._send(self._client, self.component.component_id, power, **named)
        self.sent.append(power)
        return expires

    def renew(
        self, power: float, then: float | None, expires: datetime | None
    ) -> tuple[datetime | None, float]:
        """Send it again until the time is over; then another one, if there is one.

        Args:
            power: What has been sent once.
            then: What is sent last.
            expires: When what has been sent expires.

        Returns:
            When the last one expires, and what it was.
        """
        with until_interrupted():
            while (left := self._end - time.monotonic()) > 0:
                # In slices: some platforms deliver Ctrl-C only between two waits.
                due = time.monotonic() + min(left, _RENEW_INTERVAL)
                while (pause := due - time.monotonic()) > 0:
                    time.sleep(min(pause, 1.0))
                if left > _RENEW_INTERVAL:
                    expires = self.send(power)
        if then is not None:
            self._end = math.inf
            return self.send(then), then
        return expires, power


def _write(
    orders: _Orders, unit: str, expires: datetime | None, newest: float | None, took: float
) -> None:
    suffix = unit.lower()
    found: dict[str, Any] = {
        "component_id": orders.component.component_id,
        f"set_{suffix}": orders.sent[-1],
        "sent": len(orders.sent),
        "expires": None if expires is None else expires.isoformat(),
    }
    if unit == "W":
        found |= {"measured_w": newest, "measured_after_s": None if newest is None else took}
    write_json(jsonable(found))


COMMANDS = {"set-power": set_power, "set-reactive-power": set_reactive_power}
