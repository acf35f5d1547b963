"""Narrows what a component may be set to: ``microgrid-sync set-bounds``."""

import click

from microgrid_sync.cli import options
from microgrid_sync.cli.commanding import component_of, confirm, place
from microgrid_sync.cli.output import PowerType, lasts_until, power_words, say, write_json
from microgrid_sync.cli.site import SiteCommand, connected
from microgrid_sync.notebook.columns import jsonable


@click.command(
    cls=SiteCommand,
    examples=(
        "set-bounds 7 0 7kW grpc://127.0.0.1:8800",
        "set-bounds 4 -2kW 2kW --lifetime 300 --yes",
    ),
)
@click.argument("component_id", type=int, metavar="ID")
@click.argument("lower", type=PowerType(), metavar="LOWER")
@click.argument("upper", type=PowerType(), metavar="UPPER")
@click.option(
    "--lifetime",
    type=options.Finite(5.0, 900.0),
    metavar="SECONDS",
    help="How long they hold, 5 to 900 s (API v1alpha18); unless given as long as the server "
    "likes, which may be 5 s.",
)
@click.option("--token", help="Replaces bounds of the same token (API v1alpha18).")
@options.yes
@options.json_object
@click.pass_context
def set_bounds(
    ctx: click.Context,
    *,
    component_id: int,
    lower: float,
    upper: float,
    lifetime: float | None,
    token: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Narrow the active power that a component may be set to.

    LOWER is 0 or less, UPPER 0 or more, in W or with a unit, such as 7kW. The server adds these
    bounds to those that it has, and drops them after a while.
    """
    if lower > 0 or upper < 0:
        raise click.UsageError("LOWER must be 0 or less, and UPPER 0 or more", ctx)
    with connected(ctx) as client:
        component = component_of(client, component_id)
        words = f"{power_words(lower)} to {power_words(upper)}"
        confirm(f"Narrow {place(client, component)} to {words}?", yes=yes)
        expires = client.set_bounds(component_id, lower, upper, lifetime=lifetime, token=token)
        if as_json:
            bounds = {"lower_w": lower, "upper_w": upper, "expires": expires}
            write_json(jsonable({"component_id": component_id, **bounds}))
            return
        say(f"Narrowed to {words}; {lasts_until(expires, client.api)}")


COMMANDS = {"set-bounds": set_bounds}
