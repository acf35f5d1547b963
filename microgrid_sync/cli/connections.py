"""Lists the connections between components: ``microgrid-sync connections``."""

import click

from microgrid_sync.cli import options
from microgrid_sync.cli.output import new_table, say, show, write_json
from microgrid_sync.cli.site import SiteCommand, connected
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.topology import describe


@click.command(
    cls=SiteCommand,
    many="each",
    examples=("connections grpc://127.0.0.1:8800", "connections --from 2", "connections --json"),
)
@click.option("--from", "starts", multiple=True, type=int, metavar="ID", help="Repeatable.")
@click.option("--to", "ends", multiple=True, type=int, metavar="ID", help="Repeatable.")
@options.json_object
@click.pass_context
def connections(
    ctx: click.Context, *, starts: tuple[int, ...], ends: tuple[int, ...], as_json: bool
) -> None:
    """List the connections between components, seen from the grid."""
    with connected(ctx) as client:
        found = list(client.connections(set(starts), set(ends)))
        names = {c.component_id: describe(c) for c in client.components()}
    if as_json:
        write_json({"connections": [row_of(connection) for connection in found]})
        return
    if not found:
        say("none")
        return
    table = new_table("from", "to")
    for connection in found:
        table.add_row(
            names.get(connection.start, str(connection.start)),
            names.get(connection.end, str(connection.end)),
        )
    show(table)


COMMANDS = {"connections": connections}
