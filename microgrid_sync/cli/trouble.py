"""Makes something go wrong at a running simulator: ``microgrid-sync trouble``."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import click
import grpc

from microgrid_sync.exceptions import escaped
from microgrid_sync.simulator import FaultKind, TroubleMaker
from microgrid_sync.transport.channel import open_channel, parse_url

_TIMEOUT = 10.0


@click.group()
@click.option(
    "--url",
    default="grpc://127.0.0.1:8800",
    show_default=True,
    help="The URL that the simulator has printed.",
)
@click.pass_context
def trouble(context: click.Context, url: str) -> None:
    """Make something go wrong at a running simulator.

    All times are of the site's clock: seconds, or HH:MM:SS.
    """
    context.obj = url


@trouble.command()
@click.argument("kind", metavar="KIND", type=click.Choice([kind.value for kind in FaultKind]))
@click.option(
    "--component", "components", multiple=True, type=int, help="About this component; repeatable."
)
@click.option("--at", help="When it begins, from now.")
@click.option("--lasts", help="How long it lasts; until it is ended unless given.")
@click.option("--seconds", help="late, delayed, restart: how late, or how long it is gone.")
@click.option("--status", help="refused, stream-end: the gRPC status, such as INTERNAL.")
@click.option("--code", help="error: what the component reports, such as HIGH_TEMPERATURE.")
@click.option("--not-recoverable", is_flag=True, help="error: it cannot be acknowledged.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    help="wrong-enum, missing, nan: such as data.ac.power_active; repeatable.",
)
@click.option("--number", type=int, help="wrong-enum: the number instead of the state.")
@click.option(
    "--method", "methods", multiple=True, help="unanswered: such as SetPowerActive; repeatable."
)
@click.pass_obj
def add(url: str, /, *, not_recoverable: bool, **given: Any) -> None:
    """Add a fault; prints its number.

    \b
    KIND is one of
      error       a component is in error: no power, set-points refused
      silent      its streams stay open and send nothing
      late        its timestamps lie back
      disordered  of every two of its samples, the newer one comes first
      wrong-enum  a state in its samples has another number
      missing     parts of its samples are left out
      nan         numbers in its samples are none
      refused     its set-points fail
      delayed     its set-points take effect, and are answered, later
      lost        its set-points are answered and have no effect
      rejected    its set-points are rejected
      failed      its set-points are accepted, and fail
      overridden  its set-points are accepted, and overridden
      unanswered  calls are never answered
      stream-end  its streams end, once unless it lasts
      restart     the server cuts all calls off and is gone for a while
    """  # noqa: D301 - click takes a real backspace as "leave these lines alone"
    values = {name: value for name, value in given.items() if value not in {None, ()}}
    for name in ("at", "lasts", "seconds"):
        if name in values:
            values[name] = _number_or_text(values[name])
    for name in ("components", "fields", "methods"):
        if name in values:
            values[name] = list(values[name])
    if not_recoverable:
        values["recoverable"] = False
    with _trouble_maker(url) as maker:
        click.echo(maker.add(values))


@trouble.command(name="list")
@click.pass_obj
def list_(url: str) -> None:
    """List the faults that go on or are planned."""
    with _trouble_maker(url) as maker:
        for number, fault in maker.planned().items():
            kind = fault.pop("kind")
            rest = ", ".join(f"{name} {value}" for name, value in sorted(fault.items()))
            click.echo(escaped(f"{number}: {kind}" + (f" ({rest})" if rest else "")))


@trouble.command()
@click.argument("number", type=click.IntRange(0, 2**53))
@click.pass_obj
def end(url: str, number: int) -> None:
    """End the fault of a number."""
    with _trouble_maker(url) as maker:
        maker.end(number)


@trouble.command()
@click.pass_obj
def clear(url: str) -> None:
    """End all faults."""
    with _trouble_maker(url) as maker:
        maker.clear()


def _number_or_text(value: str) -> float | str:
    try:
        number = float(value)
    except ValueError:
        return value
    # Left to the simulator to refuse, in the words that the user has written.
    return number if math.isfinite(number) else value


@contextlib.contextmanager
def _trouble_maker(url: str) -> Iterator[TroubleMaker]:
    """Speak to a simulator; turn what goes wrong into words."""
    try:
        target = parse_url(url)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        with open_channel(target) as channel:
            yield TroubleMaker(channel, timeout=_TIMEOUT)
    except ValueError as error:
        raise click.ClickException(escaped(str(error))) from error
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else None
        if code is grpc.StatusCode.UNIMPLEMENTED:
            raise click.ClickException(f"{url} is a server, but none of this simulator") from error
        details = escaped((error.details() if isinstance(error, grpc.Call) else str(error)) or "")
        name = "no answer" if code is None else code.name
        raise click.ClickException(f"{url}: {name}: {details}") from error
