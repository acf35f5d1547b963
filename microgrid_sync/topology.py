"""Answers who feeds whom: questions about components and the connections between them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from microgrid_sync.model import Component, ComponentCategory, Connection


@dataclass(frozen=True)
class TreeLine:
    """One line of a microgrid drawn as a tree."""

    component: Component
    """The component on this line."""

    depth: int
    """How many components are between it and its root."""

    parent: Component | None
    """The component above it; ``None`` for a root."""


class Topology:
    """A microgrid's components and what each of them feeds. Does not change."""

    def __init__(self, components: Iterable[Component], connections: Iterable[Connection]) -> None:
        """Make a topology.

        Args:
            components: The components.
            connections: The connections; those to or from other components are left out.
        """
        self._components = {component.component_id: component for component in components}
        self._successors: dict[int, list[Component]] = {i: [] for i in self._components}
        self._predecessors: dict[int, list[Component]] = {i: [] for i in self._components}
        for connection in connections:
            start = self._components.get(connection.start)
            end = self._components.get(connection.end)
            if start is not None and end is not None:
                self._successors[connection.start].append(end)
                self._predecessors[connection.end].append(start)

    def component(self, component_id: int) -> Component:
        """Give a component; ``KeyError`` if there is none of that ID."""
        return self._components[component_id]

    def components(self, category: ComponentCategory | None = None) -> list[Component]:
        """Give all components, or those of a category, in the order of their IDs."""
        found = (self._components[component_id] for component_id in sorted(self._components))
        return [c for c in found if category is None or c.category is category]

    def successors(self, component_id: int) -> list[Component]:
        """Give the components that a component feeds directly."""
        return self._successors[component_id]

    def predecessors(self, component_id: int) -> list[Component]:
        """Give the components that feed a component directly."""
        return self._predecessors[component_id]

    def roots(self) -> list[Component]:
        """Give the components that nothing feeds: the grid connection, usually."""
        return [c for c in self.components() if not self._predecessors[c.component_id]]

    def main_meter(self) -> Component | None:
        """Give the meter next to the grid connection; ``None`` if there is not exactly one."""
        meters = [
            successor
            for grid in self.components(ComponentCategory.GRID)
            for successor in self.successors(grid.component_id)
            if successor.category is ComponentCategory.METER
        ]
        return meters[0] if len(meters) == 1 else None

    def tree(self) -> Iterator[TreeLine]:
        """Walk from the roots outwards, each component right after one that feeds it.

        Each component comes once, even if several feed it. Components that no root leads to,
        because they feed each other in a circle, come last as if they were roots.
        """
        seen: set[int] = set()
        for start in [*self.roots(), *self.components()]:
            stack = [TreeLine(start, 0, None)]
            while stack:
                line = stack.pop()
                component_id = line.component.component_id
                if component_id in seen:
                    continue
                seen.add(component_id)
                yield line
                stack.extend(
                    TreeLine(successor, line.depth + 1, line.component)
                    for successor in reversed(self.successors(component_id))
                )
