"""Lists components: ``microgrid-sync list``."""

from collections.abc import Iterable, Sequence

import click

from microgrid_sync.cli import options
from microgrid_sync.cli.choosing import of_category
from microgrid_sync.cli.output import new_table, say, show, write_json
from microgrid_sync.cli.site import SiteCommand, connected
from microgrid_sync.model import Component
from microgrid_sync.model.shown import kilowatts
from microgrid_sync.model.telemetry import Sensor
from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.topology import kind_of


@click.command(
    cls=SiteCommand,
    many="each",
    examples=(
        "list grpc://127.0.0.1:8800",
        "list --category ev-charger",
        "list --category solar-inverter --json",
    ),
)
@click.option(
    "--category",
    "-c",
    "categories",
    multiple=True,
    metavar="CATEGORY",
    help="grid, meter, inverter, battery, ev-charger, chp, or what the site has beside them; also "
    "solar-inverter and battery-inverter; repeatable.",
)
@click.option("--id", "ids", multiple=True, type=int, metavar="ID", help="Repeatable.")
@click.option("--sensors", "sensors_too", is_flag=True, help="The sensors, too.")
@options.json_object
@click.pass_context
def list_(
    ctx: click.Context,
    *,
    categories: tuple[str, ...],
    ids: tuple[int, ...],
    sensors_too: bool,
    as_json: bool,
) -> None:
    """List the components of a site."""
    with connected(ctx) as client:
        components = sorted(client.components(), key=lambda c: c.component_id)
        sensors = client.sensors() if sensors_too else []
    known = {c.component_id for c in components}
    for number in ids:
        if number not in known:
            listed = ", ".join(map(str, sorted(known)))
            raise click.UsageError(f"there is no component {number}; there are {listed}")
    if categories:
        wanted = {c.component_id for text in categories for c in of_category(components, text)}
        components = [c for c in components if c.component_id in wanted]
    if ids:
        components = [c for c in components if c.component_id in ids]
    if as_json:
        found = {"components": [jsonable(row_of(c)) for c in components]}
        if sensors_too:
            found["sensors"] = [jsonable(row_of(sensor)) for sensor in sensors]
        write_json(found)
        return
    _show(components)
    for sensor in sensors:
        _say_sensor(sensor)


def _show(components: Sequence[Component]) -> None:
    if not components:
        say("none")
        return
    rows = [
        {
            "ID": str(component.component_id),
            "kind": kind_of(component),
            "name": component.name or "",
            "model": component.model or "",
            "rated": _rated(component),
            "sends data": _yes_or_no(component.provides_telemetry),
            "commands": _yes_or_no(component.accepts_control),
        }
        for component in components
    ]
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    table = new_table(*heads, right=["ID"])
    for row in rows:
        table.add_row(*(row[head] for head in heads))
    show(table)


def _rated(component: Component) -> str:
    if component.metadata is not None and component.metadata.fuse is not None:
        return f"fuse {component.metadata.fuse.max_current:g} A"
    bounds = component.rated_bounds
    if bounds is None:
        return ""
    return " to ".join(_ends(bounds.lower, bounds.upper))


def _ends(lower: float | None, upper: float | None) -> Iterable[str]:
    yield "any" if lower is None else kilowatts(lower)
    yield "any" if upper is None else kilowatts(upper)


def _yes_or_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _say_sensor(sensor: Sensor) -> None:
    say(f"sensor {sensor.sensor_id} {sensor.name or ''} {sensor.model or ''}".rstrip())


COMMANDS = {"list": list_}
