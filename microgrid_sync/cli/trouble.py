"""Makes something go wrong at a running simulator: ``microgrid-sync trouble``."""

import contextlib
import json
import math
import typing
from collections.abc import Iterator
from typing import Any

import click
import grpc
from msgspec import Meta

from microgrid_sync.cli.site import SiteCommand, SiteGroup, site_timeout, site_url
from microgrid_sync.model.shown import escaped, moment
from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.simulator import TroubleMaker
from microgrid_sync.simulator.trouble.fault import KINDS, field_names, summary
from microgrid_sync.tables import fields_of, taken_apart
from microgrid_sync.transport.channel import open_channel, parse_url

_DEFAULT_URL = "grpc://127.0.0.1:8800"
"""Where ``simulate`` serves unless told otherwise."""

_MOST_NAMED = 4
"""Kinds that an option's help names, if only they have it."""


@click.group(
    cls=SiteGroup,
    examples=(
        "trouble list",
        "trouble add silent --component 7 --lasts 60",
        "trouble add restart --seconds 30 --url grpc://127.0.0.1:8800",
        "trouble clear",
    ),
)
def trouble() -> None:
    """Make something go wrong at a running simulator.

    It is the one at grpc://127.0.0.1:8800 unless told otherwise. All times are of the site's
    clock: seconds, or HH:MM:SS.
    """


def fault_options() -> list[click.Parameter]:
    """Make the options of `add`: those that some kind of fault has a field for."""
    return [_option(name) for name in field_names()]


def _option(name: str) -> click.Option:
    """Make the option of a field, whatever kinds have it."""
    uses = {
        kind: taken_apart(fields_of(cls)[name][0])
        for kind, cls in KINDS.items()
        if name in fields_of(cls)
    }
    by_text: dict[str, list[str]] = {}
    for kind, (_, extras) in uses.items():
        texts = [e.description for e in extras if isinstance(e, Meta) and e.description]
        by_text.setdefault(texts[0] if texts else name, []).append(kind)
    if len(uses) == len(KINDS) or len(uses) > _MOST_NAMED:
        help_text = "; or ".join(by_text)
    else:
        help_text = "; ".join(f"{', '.join(kinds)}: {text}" for text, kinds in by_text.items())
    plain = next(iter(uses.values()))[0]
    if plain is bool:
        return click.Option([f"--{name}/--not-{name}"], default=None, help=f"{help_text}.")
    if typing.get_origin(plain) in {tuple, frozenset}:
        element = int if typing.get_args(plain)[0] is int else str
        singular = f"--{name.removesuffix('s')}"
        text = f"{help_text}; repeatable."
        return click.Option([singular, name], multiple=True, type=element, help=text)
    return click.Option([f"--{name}"], type=int if plain is int else str, help=f"{help_text}.")


def _kinds_help() -> str:
    # The backspace tells click to leave the lines as they are.
    width = max(len(kind) for kind in KINDS)
    lines = [f"  {kind:{width}}  {summary(cls)}" for kind, cls in KINDS.items()]
    return "\n".join(["Add a fault; prints its number.", "", "\b", "KIND is one of", *lines])


@trouble.command(
    cls=SiteCommand,
    params=fault_options(),
    help=_kinds_help(),
    examples=("trouble add silent --component 7 --lasts 60", "trouble add restart --seconds 30"),
)
@click.argument("kind", metavar="KIND", type=click.Choice([*KINDS]))
@click.pass_context
def add(ctx: click.Context, /, **given: Any) -> None:
    """Add a fault; prints its number."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, tuple):
            if value:
                values[name] = list(value)
        elif value is not None:
            values[name] = _number_or_text(value) if isinstance(value, str) else value
    with _trouble_maker(ctx) as maker:
        click.echo(maker.add(values))


@trouble.command(name="list", cls=SiteCommand, examples=("trouble list", "trouble list --json"))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def list_(ctx: click.Context, *, as_json: bool) -> None:
    """List the faults that go on or are planned, since when and until when."""
    with _trouble_maker(ctx) as maker:
        planned, times = maker.planned(), maker.times()
    found = [
        {"number": number, **planned[number], "since": since, "until": until}
        for number, (since, until) in times.items()
        if number in planned
    ]
    if as_json:
        click.echo(json.dumps({"faults": [jsonable(fault) for fault in found]}))
        return
    for fault in found:
        number, kind, since, until = (
            fault.pop(key) for key in ("number", "kind", "since", "until")
        )
        rest = ", ".join(f"{name} {_shown(value)}" for name, value in sorted(fault.items()))
        end = "somebody ends it" if until is None else moment(until)
        line = f"{number}: {kind}" + (f" ({rest})" if rest else "")
        click.echo(escaped(f"{line}, from {moment(since)} until {end}"))


@trouble.command(cls=SiteCommand, examples=("trouble end 1",))
@click.argument("number", type=click.IntRange(0, 2**53))
@click.pass_context
def end(ctx: click.Context, number: int) -> None:
    """End the fault of a number."""
    with _trouble_maker(ctx) as maker:
        maker.end(number)


@trouble.command(cls=SiteCommand, examples=("trouble clear",))
@click.pass_context
def clear(ctx: click.Context) -> None:
    """End all faults."""
    with _trouble_maker(ctx) as maker:
        maker.clear()


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number_or_text(value: str) -> float | str:
    try:
        number = float(value)
    except ValueError:
        return value
    # Left to the simulator to refuse, in the words that the user has written.
    return number if math.isfinite(number) else value


@contextlib.contextmanager
def _trouble_maker(ctx: click.Context) -> Iterator[TroubleMaker]:
    """Speak to a simulator; turn what goes wrong into words."""
    ctx.meta.setdefault("url", _DEFAULT_URL)
    url = site_url(ctx)
    try:
        with open_channel(parse_url(url)) as channel:
            yield TroubleMaker(channel, timeout=site_timeout(ctx))
    except ValueError as error:
        # A line for each mistake.
        lines = [escaped(line) for line in str(error).splitlines()]
        raise click.ClickException("\n".join(lines)) from error
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else None
        if code is grpc.StatusCode.UNIMPLEMENTED:
            raise click.ClickException(f"{url} is a server, but none of this simulator") from error
        details = escaped((error.details() if isinstance(error, grpc.Call) else str(error)) or "")
        name = "no answer" if code is None else code.name
        if code is grpc.StatusCode.UNAVAILABLE:
            name = "no simulator can be reached there (UNAVAILABLE)"
            details = details.rpartition(": ")[2]
        raise click.ClickException(f"{url}: {name}: {details}") from error


COMMANDS = {"trouble": trouble}
