"""Draws a site from the grid down, as an SVG."""

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.topology import Topology, describe, kind_of

_WIDTH, _HEIGHT = 136, 46
"""The size of a component's box."""

_GAP_X, _GAP_Y = 16, 34
_STACK_GAP = 8
_MOST_ABREAST = 5
"""So many components with nothing behind them stand side by side; more are stacked."""

_STACK = 8
"""So many stand in one stack."""

_MARGIN = 18
_MOST_LETTERS = 19
_SHRINKS = 1300
"""Pixels: what is wider scrolls."""

_COLOURS = {
    ComponentCategory.GRID: "#dfe3e8",
    ComponentCategory.METER: "#d6e6fa",
    ComponentCategory.INVERTER: "#fdf0c8",
    ComponentCategory.BATTERY: "#d9f2dd",
    ComponentCategory.EV_CHARGER: "#eadcf8",
    ComponentCategory.CHP: "#f9dcd5",
}
_OTHER_COLOUR = "#eeeeee"


@dataclass
class _Node:
    component: Component
    children: "list[_Node]" = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = _WIDTH
    stacks: "list[list[_Node]]" = field(default_factory=list)


class Drawing:
    """A picture of a site, which Jupyter shows."""

    def __init__(self, svg: str) -> None:
        """Keep a picture.

        Args:
            svg: The picture.
        """
        self.svg = svg

    def __repr__(self) -> str:
        """Say what it is."""
        return f"<Drawing of a site, {len(self.svg)} characters of SVG>"

    def _repr_html_(self) -> str:
        # Wide sites scroll.
        return f'<div style="overflow-x:auto">{self.svg}</div>'

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write it into a file, as SVG.

        Args:
            path: The file; one that is there is replaced.

        Raises:
            OSError: If it cannot be written.
        """
        Path(path).write_text(self.svg, encoding="utf-8")


def draw(topology: Topology, values: Mapping[int, str] | None = None) -> Drawing:
    """Draw a site.

    Args:
        topology: The site.
        values: What is written into the boxes of components, such as their powers, by ID.

    Returns:
        The picture.
    """
    roots, nodes = _nodes(topology)
    x = float(_MARGIN)
    for root in roots:
        _measure(root)
        _place(root, x, _MARGIN)
        x += root.width + _GAP_X
    width = max((node.x for node in nodes.values()), default=0.0) + _WIDTH + _MARGIN
    height = max((node.y for node in nodes.values()), default=0.0) + _HEIGHT + _MARGIN
    lines = [
        _line(nodes[start], nodes[successor.component_id])
        for start in nodes
        for successor in topology.successors(start)
    ]
    boxes = [_box(node, (values or {}).get(number)) for number, node in nodes.items()]
    # Shrinks to the room that it has, as long as it can be read then.
    fit = "max-width:100%;height:auto" if width <= _SHRINKS else ""
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'style="{fit}" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" role="img">'
        f"<title>the site from the grid down</title>{''.join(lines)}{''.join(boxes)}</svg>"
    )


def _nodes(topology: Topology) -> tuple[list[_Node], dict[int, _Node]]:
    roots: list[_Node] = []
    nodes: dict[int, _Node] = {}
    for line in topology.tree():
        node = nodes[line.component.component_id] = _Node(line.component)
        if line.parent is None:
            roots.append(node)
        else:
            nodes[line.parent.component_id].children.append(node)
    return roots, nodes


def _measure(node: _Node) -> None:
    """Find how wide a component is with all that is behind it."""
    leaves = [child for child in node.children if not child.children]
    if len(leaves) > _MOST_ABREAST:
        node.stacks = [leaves[i : i + _STACK] for i in range(0, len(leaves), _STACK)]
        node.children = [child for child in node.children if child.children]
    for child in node.children:
        _measure(child)
    widths = [child.width for child in node.children] + [_WIDTH] * len(node.stacks)
    node.width = max(_WIDTH, sum(widths) + _GAP_X * (len(widths) - 1)) if widths else _WIDTH


def _place(node: _Node, left: float, top: float) -> None:
    node.x, node.y = left + (node.width - _WIDTH) / 2, top
    below = top + _HEIGHT + _GAP_Y
    for child in node.children:
        _place(child, left, below)
        left += child.width + _GAP_X
    for stack in node.stacks:
        for row, leaf in enumerate(stack):
            leaf.x, leaf.y = left, below + row * (_HEIGHT + _STACK_GAP)
        left += _WIDTH + _GAP_X


def _line(start: _Node, end: _Node) -> str:
    x, y = start.x + _WIDTH / 2, start.y + _HEIGHT
    middle = y + _GAP_Y / 2
    if end in [leaf for stack in start.stacks for leaf in stack]:
        # Down beside its stack, and into its side.
        side, centre = end.x - _GAP_X / 2, end.y + _HEIGHT / 2
        path = f"M{x:g} {y:g}V{middle:g}H{side:g}V{centre:g}H{end.x:g}"
    else:
        path = f"M{x:g} {y:g}V{middle:g}H{end.x + _WIDTH / 2:g}V{end.y:g}"
    return f'<path d="{path}" fill="none" stroke="#8a939c" stroke-width="1.5"/>'


def _box(node: _Node, value: str | None) -> str:
    component = node.component
    colour = _COLOURS.get(component.category, _OTHER_COLOUR)
    first, second = _cut(_kind(component)), _cut(value or _second_line(component))
    weight = ' font-weight="bold"' if value else ""
    return (
        f"<g><title>{html.escape(describe(component))}</title>"
        f'<rect x="{node.x:g}" y="{node.y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
        f'fill="{colour}" stroke="#5b6670"/>'
        f'<text x="{node.x + 8:g}" y="{node.y + 19:g}" font-size="12.5" fill="#1c2329">'
        f"{html.escape(first)}</text>"
        f'<text x="{node.x + 8:g}" y="{node.y + 36:g}" font-size="12.5" fill="#3b4650"{weight}>'
        f"{html.escape(second)}</text></g>"
    )


def _kind(component: Component) -> str:
    return f"{component.component_id} {kind_of(component)}"


def _second_line(component: Component) -> str:
    if component.metadata is not None and component.metadata.fuse is not None:
        return f"fuse {component.metadata.fuse.max_current:g} A"
    return component.name or ""


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
