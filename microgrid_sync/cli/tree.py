"""Draws a site as a tree: ``microgrid-sync tree``."""

from typing import Any

import click
from rich.text import Text
from rich.tree import Tree

from microgrid_sync.cli import options
from microgrid_sync.cli.output import follow, now_text, say, show, write_json
from microgrid_sync.cli.site import (
    LongCommand,
    connected,
    site_timeout,
    until_interrupted,
)
from microgrid_sync.client import MicrogridApiClient, receive_any
from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.receiver import newest_of
from microgrid_sync.snapshot import has_data, in_words, snapshot, state_of
from microgrid_sync.topology import Topology, describe

_FIRST_VALUES = 3.0
"""Seconds in which all components are heard, if they are at all."""


@click.command(
    cls=LongCommand,
    many="each",
    examples=("tree grpc://127.0.0.1:8800", "tree --watch", "tree --json"),
)
@click.option("--watch", is_flag=True, help="Go on, until Ctrl-C.")
@options.interval
@click.option("--no-values", is_flag=True, help="The components alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; with --watch, one a look.")
@click.pass_context
def tree(
    ctx: click.Context, *, watch: bool, interval: float, no_values: bool, as_json: bool
) -> None:
    """Draw the site as a tree, with what each component measures now beside it."""
    with connected(ctx) as client:
        components = list(client.components())
        topology = Topology(components, client.connections())
        if not watch:
            wait = min(_FIRST_VALUES, site_timeout(ctx))
            values = {} if no_values else snapshot(client, topology.components(), wait)
            _show(topology, values, as_json=as_json)
            return
        with until_interrupted():
            _watch(client, topology, interval, as_json=as_json)


def _watch(
    client: MicrogridApiClient, topology: Topology, interval: float, *, as_json: bool
) -> None:
    receivers = {
        c.component_id: newest_of(receive_any(client, c.component_id, 1))
        for c in topology.components()
        if has_data(c, client.api)
    }

    def look() -> dict[int, Any]:
        found = {number: receiver.latest() for number, receiver in receivers.items()}
        return {number: value for number, value in found.items() if value is not None}

    follow(
        interval,
        None,
        line=lambda: _show(topology, look(), as_json=as_json),
        screen=None if as_json else lambda: drawn(topology, look()),
    )


def _show(topology: Topology, values: dict[int, Any], *, as_json: bool) -> None:
    if as_json:
        write_json({"time": now_text(), "tree": _nested(topology, values)})
        return
    show(drawn(topology, values))
    for problem in topology.problems():
        say(f"problem: {problem}")


def drawn(topology: Topology, values: dict[int, Any]) -> Tree:
    """Draw a site, with what components measure beside them."""
    tree = Tree("", hide_root=True)
    branches = {0: tree}
    lines = list(topology.tree())
    texts = [describe(line.component) for line in lines]
    # Values stand in one column, whatever the depth; a level takes four letters.
    width = max(
        (4 * line.depth + len(text) for line, text in zip(lines, texts, strict=True)), default=0
    )
    for line, text in zip(lines, texts, strict=True):
        value = values.get(line.component.component_id)
        label = Text(text)
        if value is not None:
            label.append(" " * (width - 4 * line.depth - len(text) + 2))
            label.append(f"{in_words(value):>10}", style="bold")
            label.append(f"  {state_of(value)}", style="bright_black")
        branches[line.depth + 1] = branches[line.depth].add(label)
    return tree


def _nested(topology: Topology, values: dict[int, Any]) -> list[dict[str, Any]]:
    roots: list[dict[str, Any]] = []
    children = {0: roots}
    for line in topology.tree():
        number = line.component.component_id
        node = jsonable(row_of(line.component))
        node["now"] = jsonable(row_of(values[number])) if number in values else None
        node["feeds"] = children[line.depth + 1] = []
        children[line.depth].append(node)
    return roots


COMMANDS = {"tree": tree}
