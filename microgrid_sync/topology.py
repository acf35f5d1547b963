"""Answers who feeds whom, and what is wrong with a site: components and their connections."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from microgrid_sync.model import (
    Component,
    ComponentCategory,
    ComponentType,
    Connection,
    Fuse,
    InverterType,
)

_GRID = ComponentCategory.GRID
_METER = ComponentCategory.METER
_INVERTER = ComponentCategory.INVERTER
_BATTERY = ComponentCategory.BATTERY
_EV_CHARGER = ComponentCategory.EV_CHARGER
_CHP = ComponentCategory.CHP
_NONE = ComponentCategory.NONE

_ALWAYS_WIRES = frozenset(
    {
        "BREAKER",
        "CONVERTER",
        "POWER_TRANSFORMER",
        "PRECHARGE_MODULE",
        "PRECHARGER",
        "RELAY",
        "STATIC_TRANSFER_SWITCH",
    }
)
"""What passes on what is behind it, and takes nothing itself, even if nothing is behind it."""

_IN_WORDS = {
    _GRID: "grid",
    _METER: "meter",
    _INVERTER: "inverter",
    _BATTERY: "battery",
    _EV_CHARGER: "EV charger",
    _CHP: "CHP",
}


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
    """A microgrid's components and what each of them feeds. Does not change.

    Relays, precharge modules and whatever else passes on what is behind it count as wires: formulas
    look through them, `reads` and `read_by` too. `successors`, `predecessors` and `tree` show them.
    """

    def __init__(
        self,
        components: Iterable[Component],
        connections: Iterable[Connection],
        *,
        left_out: Iterable[int] = (),
    ) -> None:
        """Make a topology. It may make no sense: `problems` tells.

        Args:
            components: The components. Of several with the same ID the first one counts.
            connections: The connections; those to or from other components are left out.
            left_out: IDs that are known and are no components, such as those of sensors; what is
                connected to them is no problem.
        """
        listed = tuple(components)
        self._connections = tuple(dict.fromkeys((c.start, c.end) for c in connections))
        self._left_out = frozenset(left_out)
        self._components: dict[int, Component] = {}
        for component in listed:
            self._components.setdefault(component.component_id, component)
        self._counts = Counter(component.component_id for component in listed)
        self._successors: dict[int, list[Component]] = {i: [] for i in sorted(self._components)}
        self._predecessors: dict[int, list[Component]] = {i: [] for i in self._successors}
        for start, end in self._connections:
            if start in self._components and end in self._components and start != end:
                self._successors[start].append(self._components[end])
                self._predecessors[end].append(self._components[start])
        self._circles, outwards = _walk(self._successors)
        self._outwards = outwards
        self._below = self._through_wires(outwards, self._successors)
        self._above = self._through_wires(reversed(outwards), self._predecessors)
        self._main_meters = frozenset(self._find_main_meters())
        self._problems = tuple(self._find_problems())

    def _through_wires(
        self, order: Iterable[int], neighbours: dict[int, list[Component]]
    ) -> dict[int, tuple[int, ...]]:
        """Find the next components that are no wires; an order has the farther ones first."""
        found: dict[int, tuple[int, ...]] = {}
        for component_id in order:
            next_ones: dict[int, None] = {}
            for neighbour in neighbours[component_id]:
                number = neighbour.component_id
                if self.is_wire(number):
                    # What closes a circle is not there yet, and stays out.
                    next_ones |= dict.fromkeys(found.get(number, ()))
                elif not self._closes_circle(component_id, number, neighbours):
                    next_ones[number] = None
            found[component_id] = tuple(sorted(next_ones))
        return found

    def _closes_circle(
        self, component_id: int, number: int, neighbours: dict[int, list[Component]]
    ) -> bool:
        downwards = neighbours is self._successors
        pair = (component_id, number) if downwards else (number, component_id)
        return pair in self._circles

    # Components

    def component(self, component_id: int) -> Component:
        """Give a component; ``KeyError`` if there is none of that ID."""
        return self._components[component_id]

    def components(self, category: ComponentCategory | None = None) -> list[Component]:
        """Give all components, or those of a category, in the order of their IDs."""
        found = (self._components[component_id] for component_id in self._successors)
        return [c for c in found if category is None or c.category is category]

    def ids(self, category: ComponentCategory | None = None) -> frozenset[int]:
        """Give the IDs of all components, or of those of a category."""
        return frozenset(component.component_id for component in self.components(category))

    def find(
        self,
        *,
        category: ComponentCategory | None = None,
        type: ComponentType | None = None,
        name: str | None = None,
    ) -> list[Component]:
        """Give the components of which all is true that is asked for, in the order of their IDs.

        Args:
            category: Of this category.
            type: Of this type, as the server says it.
            name: Of this name.
        """
        return [
            c
            for c in self.components(category)
            if (type is None or c.type is type) and (name is None or c.name == name)
        ]

    def __contains__(self, component_id: object) -> bool:
        """Tell whether there is a component of an ID."""
        return component_id in self._components

    def __eq__(self, other: object) -> bool:
        """Tell whether two topologies list the same components and connections, in any order."""
        if not isinstance(other, Topology):
            return NotImplemented
        return (
            self._components == other._components
            and self._counts == other._counts
            and frozenset(self._connections) == frozenset(other._connections)
        )

    __hash__ = None  # type: ignore[assignment] # as any class whose values are compared by content

    # Who feeds whom

    def successors(self, component_id: int) -> list[Component]:
        """Give the components that a component feeds directly; ``KeyError`` if it is unknown."""
        return list(self._successors[component_id])

    def predecessors(self, component_id: int) -> list[Component]:
        """Give the components that feed a component directly; ``KeyError`` if it is unknown."""
        return list(self._predecessors[component_id])

    def roots(self) -> list[Component]:
        """Give the components that nothing feeds: the grid connection, usually."""
        return [c for c in self.components() if not self._predecessors[c.component_id]]

    def reads(self, component_id: int) -> list[Component]:
        """Give what is next behind a component, such as what a meter reads; wires are no thing.

        What is behind a meter that is among them is read by both, and is not given.
        """
        return [self._components[i] for i in self._below[component_id]]

    def read_by(self, component_id: int) -> list[Component]:
        """Give what is next before a component, such as the meter that reads it."""
        return [self._components[i] for i in self._above[component_id]]

    def path_to_grid(self, component_id: int) -> list[Component]:
        """Give the components from one to the grid, both included, wires too.

        Returns:
            The shortest path; empty if none leads there.
        """
        came_from: dict[int, int | None] = {component_id: None}
        reached = [component_id]
        for number in reached:
            if self._components[number].category is _GRID:
                path: list[Component] = []
                step: int | None = number
                while step is not None:
                    path.append(self._components[step])
                    step = came_from[step]
                return path[::-1]
            for predecessor in self._predecessors[number]:
                if predecessor.component_id not in came_from:
                    came_from[predecessor.component_id] = number
                    reached.append(predecessor.component_id)
        return []

    def behind(self, component_id: int) -> frozenset[int]:
        """Give the IDs of all that a component feeds, directly or not."""
        found: set[int] = set()
        to_do = list(self._below[component_id])
        while to_do:
            number = to_do.pop()
            if number not in found:
                found.add(number)
                to_do.extend(self._below[number])
        return frozenset(found)

    def leading_to(self, targets: Set[int]) -> set[int]:
        """Give the IDs of all that have one of some components behind them."""
        found: set[int] = set()
        for component_id in self._outwards:
            below = self._below[component_id]
            if any(i in targets or i in found for i in below):
                found.add(component_id)
        return found

    def fed_by_several(self) -> set[int]:
        """Give the IDs of what several others feed, batteries aside: no meter reads all of it."""
        return {
            i
            for i, above in self._above.items()
            if len(above) > 1 and self._components[i].category is not _BATTERY
        }

    # What they are

    def is_wire(self, component_id: int) -> bool:
        """Tell whether a component only passes on what is behind it, such as a relay."""
        component = self._components[component_id]
        return component.category is _NONE and (
            component.category_name in _ALWAYS_WIRES or bool(self._successors[component_id])
        )

    def is_battery_inverter(self, component_id: int) -> bool:
        """Tell whether a component is an inverter of batteries; a hybrid one is.

        One whose type the server does not say is one if a battery is behind it.
        """
        component = self._components[component_id]
        if component.category is not _INVERTER:
            return False
        if component.type in {InverterType.BATTERY, InverterType.HYBRID}:
            return True
        return component.type is not InverterType.SOLAR and self._feeds_battery(component_id)

    def is_pv_inverter(self, component_id: int) -> bool:
        """Tell whether a component is an inverter of solar panels alone.

        One whose type the server does not say is one if no battery is behind it.
        """
        is_inverter = self._components[component_id].category is _INVERTER
        return is_inverter and not self.is_battery_inverter(component_id)

    def is_pv_meter(self, component_id: int) -> bool:
        """Tell whether a component is a meter that reads solar inverters, and nothing else."""
        return self._reads_only(component_id, self.is_pv_inverter)

    def is_battery_meter(self, component_id: int) -> bool:
        """Tell whether a component is a meter that reads battery inverters, and nothing else."""
        return self._reads_only(component_id, self.is_battery_inverter)

    def is_ev_charger_meter(self, component_id: int) -> bool:
        """Tell whether a component is a meter that reads EV chargers, and nothing else."""
        return self._reads_only(component_id, lambda i: self.component(i).category is _EV_CHARGER)

    def is_chp_meter(self, component_id: int) -> bool:
        """Tell whether a component is a meter that reads CHPs, and nothing else."""
        return self._reads_only(component_id, lambda i: self.component(i).category is _CHP)

    def is_main_meter(self, component_id: int) -> bool:
        """Tell whether a meter carries the building's own load.

        It does right behind the grid, and as the only thing that such a one reads.
        """
        return component_id in self._main_meters

    def _find_main_meters(self) -> Iterator[int]:
        for grid in self.components(_GRID):
            for meter in self._below[grid.component_id]:
                below: tuple[int, ...] = (meter,)
                while len(below) == 1 and self._components[below[0]].category is _METER:
                    number = below[0]
                    if number != meter and len(self._above[number]) > 1:
                        break
                    yield number
                    below = self._below[number]

    def main_meter(self) -> Component | None:
        """Give the meter next to the grid connection; ``None`` if there is not exactly one."""
        grids = self.components(_GRID)
        meters = {i for grid in grids for i in self._below[grid.component_id]}
        main = [self._components[i] for i in meters if self._components[i].category is _METER]
        return main[0] if len(main) == 1 else None

    def fuse(self) -> Fuse | None:
        """Give the fuse of the grid connection; ``None`` if it is unknown, or there are several."""
        grids = self.components(_GRID)
        if len(grids) != 1 or grids[0].metadata is None:
            return None
        return grids[0].metadata.fuse

    def _feeds_battery(self, component_id: int) -> bool:
        return any(self._components[i].category is _BATTERY for i in self._below[component_id])

    def _reads_only(self, component_id: int, is_one: Callable[[int], bool]) -> bool:
        below = self._below[component_id]
        is_meter = self._components[component_id].category is _METER
        return is_meter and bool(below) and all(is_one(i) for i in below)

    # As text

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
                    for successor in reversed(self._successors[component_id])
                )

    def __str__(self) -> str:
        """Draw it as a tree, one component a line."""
        return "\n".join("  " * line.depth + describe(line.component) for line in self.tree())

    def __repr__(self) -> str:
        """Count what there is."""
        return f"<Topology: {self.summary()}>"

    def _repr_html_(self) -> str:
        from microgrid_sync.notebook.html import html_of  # noqa: PLC0415 - only notebooks need it

        return html_of(self)

    def summary(self) -> str:
        """Count the components of each kind, such as ``1 grid, 2 meters``."""
        counts = Counter(kind_of(component) for component in self._components.values())
        listed = ", ".join(counted(count, kind) for kind, count in sorted(counts.items()))
        return listed or "no components"

    def problems(self) -> tuple[str, ...]:
        """Give what is wrong with the site, a sentence each; nothing if all makes sense."""
        return self._problems

    def _find_problems(self) -> Iterator[str]:
        if not self._components:
            yield "the site has no components"
            return
        yield from self._problems_of_the_list()
        yield from self._problems_of_connections()
        yield from self._problems_of_the_grid()
        for component in self.components():
            yield from self._problems_of(component)

    def _problems_of_the_list(self) -> Iterator[str]:
        for component_id, count in sorted(self._counts.items()):
            if count > 1:
                yield (
                    f"component {component_id} is listed {count} times; it counts as the first of "
                    f"them, {_with_article(self._components[component_id])}"
                )
        for component in self.components():
            number = component.component_id
            if number < 0 or (number == 0 and component.category is not _GRID):
                yield f"{number} is no ID of {_with_article(component)}"
            elif component.category is _NONE and component.category_name in {None, "UNSPECIFIED"}:
                behind = bool(self._successors[number])
                yield f"component {number} is of no known category; it counts as " + (
                    "a wire" if behind else "a consumer"
                )

    def _problems_of_connections(self) -> Iterator[str]:
        for start, end in self._connections:
            if start == end:
                yield f"component {start} is connected to itself"
                continue
            unknown = [i for i in (start, end) if i not in self._components]
            if unknown and not self._left_out & {start, end}:
                names = " and ".join(str(i) for i in unknown)
                what = "are not components" if len(unknown) > 1 else "is not a component"
                yield f"the connection from {start} to {end} leads nowhere: {names} {what}"
        for circle in self._circles.values():
            yield f"components feed each other in a circle: {' > '.join(map(str, circle))}"

    def _problems_of_the_grid(self) -> Iterator[str]:
        grids = self.components(_GRID)
        if not grids:
            yield "the site has no grid connection"
        if len(grids) > 1:
            listed = ", ".join(str(grid.component_id) for grid in grids)
            yield f"the site has {len(grids)} grid connections: {listed}; their powers are added"
        for grid in grids:
            if not self._successors[grid.component_id]:
                yield f"grid {grid.component_id} feeds nothing"
            for predecessor in self._predecessors[grid.component_id]:
                before = _named(predecessor)
                yield f"grid {grid.component_id} is fed by {before}; nothing can be before it"
        reached = {grid.component_id for grid in grids}
        to_do = list(reached)
        while to_do:
            found = {c.component_id for c in self._successors[to_do.pop()]} - reached
            reached |= found
            to_do.extend(found)
        if grids:
            for component in self.components():
                if component.component_id not in reached:
                    yield f"{_named(component)} is not connected to the grid"

    def _problems_of(self, component: Component) -> Iterator[str]:
        number = component.component_id
        name = _named(component)
        below = [self._components[i] for i in self._below[number]]
        above = [self._components[i] for i in self._above[number]]
        if component.category not in {_BATTERY, _GRID, _NONE} and len(above) > 1:
            yield f"{name} is fed by {_all_named(above)}; one was expected"
        if component.category in {_BATTERY, _EV_CHARGER, _CHP} and below:
            yield f"{name} feeds {_all_named(below)}; nothing can be behind it"
        if component.category is _BATTERY:
            inverters = [c for c in above if c.category is _INVERTER]
            if not inverters:
                yield f"{name} has no inverter"
            if inverters and len(inverters) < len(above):
                others = [c for c in above if c.category is not _INVERTER]
                yield f"{name} is fed by {_all_named(others)}; only an inverter can feed it"
        if component.category is _INVERTER:
            yield from self._problems_of_inverter(component, below)

    def _problems_of_inverter(self, inverter: Component, below: list[Component]) -> Iterator[str]:
        name = _named(inverter)
        batteries = [c for c in below if c.category is _BATTERY]
        others = [c for c in below if c.category is not _BATTERY]
        if others:
            yield f"{name} feeds {_all_named(others)}; only batteries can be behind it"
        if inverter.type in {InverterType.BATTERY, InverterType.HYBRID} and not batteries:
            yield f"{name} has no battery"
        if inverter.type is InverterType.SOLAR and batteries:
            yield f"{name} feeds {_all_named(batteries)}; it counts as one of solar panels alone"
        if inverter.type in {InverterType.NONE, None}:
            kind = "batteries" if batteries else "solar panels"
            yield f"{name} does not say what it is for; it counts as one of {kind}"


_Walk = tuple[dict[tuple[int, int], tuple[int, ...]], list[int]]


def _walk(successors: dict[int, list[Component]]) -> _Walk:
    """Walk through all components.

    Returns:
        The connections that close a circle, with the components of it; and all components, each
            after all that it feeds.
    """
    circles: dict[tuple[int, int], tuple[int, ...]] = {}
    done: list[int] = []
    is_done: set[int] = set()
    fed = {c.component_id for feeds in successors.values() for c in feeds}
    # From the roots first: a circle is then closed by what leads back towards the grid.
    for start in [*(i for i in successors if i not in fed), *successors]:
        if start in is_done:
            continue
        path, places = [start], {start: 0}
        left = [iter(successors[start])]
        while path:
            child = next(left[-1], None)
            if child is None:
                left.pop()
                number = path.pop()
                del places[number]
                is_done.add(number)
                done.append(number)
            elif child.component_id in places:
                pair = (path[-1], child.component_id)
                circles[pair] = (*path[places[child.component_id] :], child.component_id)
            elif child.component_id not in is_done:
                places[child.component_id] = len(path)
                path.append(child.component_id)
                left.append(iter(successors[child.component_id]))
    return circles, done


def describe(component: Component) -> str:
    """Say what a component is, such as ``4: battery inverter``."""
    text = f"{component.component_id}: {kind_of(component)}"
    if component.name and not component.name.endswith(str(component.component_id)):
        # Such as "meter 2", which says nothing more.
        text += f" {component.name!r}"
    if component.metadata is not None and component.metadata.fuse is not None:
        text += f", fuse {component.metadata.fuse.max_current:g} A"
    return text


def counted(count: int, kind: str) -> str:
    """Write down how many there are of a kind, such as ``2 batteries``."""
    if count == 1:
        return f"1 {kind}"
    return f"{count} {kind[:-1]}ies" if kind.endswith("y") else f"{count} {kind}s"


def changed_components(before: Topology, after: Topology) -> frozenset[int]:
    """Give the components of a site that are gone, or are something else now."""
    was = {c.component_id: c for c in before.components()}
    return frozenset(
        i
        for i, component in was.items()
        if i not in after or after.component(i).category is not component.category
    )


def changes(before: Topology, after: Topology) -> list[str]:
    """Say in words what differs between two topologies of a site."""
    was = {c.component_id: c for c in before.components()}
    now = {c.component_id: c for c in after.components()}
    said = [f"{_named(now[i])} is new" for i in sorted(now.keys() - was.keys())]
    said += [f"{_named(was[i])} is gone" for i in sorted(was.keys() - now.keys())]
    for i in sorted(was.keys() & now.keys()):
        if was[i] != now[i]:
            old, new = describe(was[i]), describe(now[i])
            what = "is described otherwise" if old == new else f"was {old!r}, is {new!r}"
            said.append(f"component {i} {what}")
    common = was.keys() & now.keys()
    old_pairs, new_pairs = set(before._connections), set(after._connections)
    for start, end in sorted(old_pairs ^ new_pairs):
        if {start, end} <= common:
            one, other = _named(now[start]), _named(now[end])
            is_new = (start, end) in new_pairs
            said.append(f"{one} feeds {other}" if is_new else f"{one} feeds {other} no more")
    return said


def kind_of(component: Component) -> str:
    """Say what kind of thing a component is, such as ``solar inverter``."""
    kind = _IN_WORDS.get(component.category)
    if kind is None:
        return (component.category_name or "unknown category").replace("_", " ").lower()
    if component.type is not None and component.type is not InverterType.NONE:
        return f"{component.type.name.lower()} {kind}"
    return kind


def _with_article(component: Component) -> str:
    kind = kind_of(component)
    return f"{'an' if kind[0] in 'aeiouE' else 'a'} {kind}"


def _named(component: Component) -> str:
    return f"{kind_of(component)} {component.component_id}"


def _all_named(components: Sequence[Component]) -> str:
    return " and ".join(_named(component) for component in components)
