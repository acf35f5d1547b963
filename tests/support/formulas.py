"""Topologies as text, and expressions evaluated on numbers."""

from collections.abc import Callable, Mapping

from microgrid_sync import Component, ComponentCategory, ComponentType, Connection, InverterType
from microgrid_sync.formulas.expression import Expression, Inputs, Key
from microgrid_sync.formulas.site import (
    battery_formula,
    chp_formula,
    consumer_formula,
    grid_formula,
    producer_formula,
    pv_formula,
)
from microgrid_sync.topology import Topology

FORMULAS: dict[str, Callable[[Topology], Expression]] = {
    "grid": grid_formula,
    "consumer": consumer_formula,
    "producer": producer_formula,
    "pv": pv_formula,
    "battery": battery_formula,
    "chp": chp_formula,
}
"""The powers of a site."""

_KINDS: dict[str, tuple[ComponentCategory, ComponentType | None, str | None]] = {
    "g": (ComponentCategory.GRID, None, None),
    "m": (ComponentCategory.METER, None, None),
    "c": (ComponentCategory.EV_CHARGER, None, None),
    "i": (ComponentCategory.INVERTER, None, None),
    "s": (ComponentCategory.INVERTER, InverterType.SOLAR, None),
    "v": (ComponentCategory.INVERTER, InverterType.BATTERY, None),
    "y": (ComponentCategory.INVERTER, InverterType.HYBRID, None),
    "b": (ComponentCategory.BATTERY, None, None),
    "h": (ComponentCategory.CHP, None, None),
    "n": (ComponentCategory.NONE, None, "UNSPECIFIED"),
    "e": (ComponentCategory.NONE, None, "ELECTROLYZER"),
    "r": (ComponentCategory.NONE, None, "RELAY"),
    "p": (ComponentCategory.NONE, None, "PRECHARGE_MODULE"),
}


def topology(text: str) -> Topology:
    """Read a topology, such as ``g1>m10 m10>c100``: a letter for the kind, and the ID."""
    components: list[Component] = []
    connections = []
    for word in text.split():
        ids = []
        for end in word.split(">"):
            kind, component_id = end[0], int(end[1:])
            component = Component(component_id, *_KINDS[kind][:2], category_name=_KINDS[kind][2])
            if component not in components:
                components.append(component)
            ids.append(component_id)
        if len(ids) == 2:
            connections.append(Connection(*ids))
    return Topology(components, connections)


class _ByComponent:
    """A number for each component, whatever the metric is."""

    def __init__(self, numbers: Mapping[int, float | None]) -> None:
        self._numbers = numbers

    def get(self, key: Key, /) -> float | None:
        return self._numbers.get(key[0])


def inputs(numbers: Mapping[int, float | None]) -> Inputs:
    """Let components measure numbers."""
    return Inputs(_ByComponent(numbers))


def evaluate(expression: Expression, numbers: Mapping[int, float | None]) -> float | None:
    """Evaluate an expression on what components measure."""
    return expression.evaluate(inputs(numbers))
