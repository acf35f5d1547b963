"""The formula of a set of chargers, for many topologies."""

import pytest

from microgrid_sync import Component, ComponentCategory, Connection
from microgrid_sync.formulas.charger import charger_formula
from microgrid_sync.topology import Topology

KINDS = {
    "g": ComponentCategory.GRID,
    "m": ComponentCategory.METER,
    "c": ComponentCategory.EV_CHARGER,
    "i": ComponentCategory.INVERTER,
    "b": ComponentCategory.BATTERY,
    "h": ComponentCategory.CHP,
    "n": ComponentCategory.NONE,
}


def topology(text: str) -> Topology:
    """Read a topology, such as ``g1>m10 m10>c100``."""
    components: dict[int, Component] = {}
    connections = []
    for pair in text.split():
        ids = []
        for end in pair.split(">"):
            component_id = int(end[1:])
            components[component_id] = Component(component_id, KINDS[end[0]])
            ids.append(component_id)
        if len(ids) == 2:
            connections.append(Connection(*ids))
    return Topology(components.values(), connections)


# The topology, the chargers of the pool, the formula.
CASES = [
    (
        "g1>m10 m10>c100 m10>c101", {100, 101},
        "COALESCE(#101 + #100, #10, COALESCE(#101, 0.0) + COALESCE(#100, 0.0))",
    ),
    ("g1>m10 m10>c100 m10>c101", {100}, "COALESCE(#100, #10 - #101, 0.0)"),
    ("g1>m10 m10>c100 m10>c101", {101}, "COALESCE(#101, #10 - #100, 0.0)"),
    ("g1>m10 m10>c100", {100}, "COALESCE(#100, #10, 0.0)"),
    # Without a meter of their own.
    ("g1>c100", {100}, "COALESCE(#100, 0.0)"),
    ("c100", {100}, "COALESCE(#100, 0.0)"),
    ("g1>c100 g1>c101", {100, 101}, "COALESCE(#101, 0.0) + COALESCE(#100, 0.0)"),
    # A meter with something behind it that is not known.
    ("g1>m10 m10>c100 m10>m11 m11>c101", {100}, "COALESCE(#100, 0.0)"),
    (
        "g1>m10 m10>c100 m10>m11 m11>c101", {100, 101},
        "COALESCE(#101, #11, 0.0) + COALESCE(#100, 0.0)",
    ),
    ("g1>m10 m10>c100 m10>n5", {100}, "COALESCE(#100, 0.0)"),
    ("g1>m10 m10>c100 m10>b5", {100}, "COALESCE(#100, 0.0)"),
    # Inverters and CHPs can be subtracted.
    ("g1>m10 m10>c100 m10>i20 i20>b30", {100}, "COALESCE(#100, #10 - #20, 0.0)"),
    (
        "g1>m10 m10>c100 m10>c101 m10>i20 m10>h40", {100, 101},
        "COALESCE(#101 + #100, #10 - #40 - #20, COALESCE(#101, 0.0) + COALESCE(#100, 0.0))",
    ),
    # Three chargers, two of them in the pool.
    (
        "g1>m10 m10>c100 m10>c101 m10>c102", {100, 101},
        "COALESCE(#101 + #100, #10 - #102, COALESCE(#101, 0.0) + COALESCE(#100, 0.0))",
    ),
    # Several groups.
    (
        "g1>m2 m2>m10 m2>m20 m10>c100 m10>c101 m20>c200", {100, 101, 200},
        ("COALESCE(#200, #20, 0.0) + "
         "COALESCE(#101 + #100, #10, COALESCE(#101, 0.0) + COALESCE(#100, 0.0))"),
    ),
    (
        "g1>m2 m2>m10 m2>m20 m10>c100 m10>c101 m20>c200 m20>c201", {100, 201},
        "COALESCE(#201, #20 - #200, 0.0) + COALESCE(#100, #10 - #101, 0.0)",
    ),
    # Fed by two meters: neither of them reads just it.
    ("g1>m10 g1>m20 m10>c100 m20>c100", {100}, "COALESCE(#100, 0.0)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "chargers", "expected"), CASES)
def test_formula(text: str, chargers: set[int], expected: str) -> None:
    assert str(charger_formula(topology(text), chargers)) == expected


VALUES: list[tuple[str, set[int], dict[int, float | None], float | None]] = [
    ("g1>m10 m10>c100 m10>c101", {100, 101}, {100: 1.0, 101: 2.0, 10: 50.0}, 3.0),
    ("g1>m10 m10>c100 m10>c101", {100, 101}, {100: 1.0, 101: None, 10: 50.0}, 50.0),
    ("g1>m10 m10>c100 m10>c101", {100, 101}, {100: 1.0, 101: None, 10: None}, 1.0),
    ("g1>m10 m10>c100 m10>c101", {100, 101}, {100: 1.0}, 1.0),
    ("g1>m10 m10>c100 m10>c101", {100, 101}, {100: None, 101: None, 10: None}, None),
    ("g1>m10 m10>c100 m10>c101", {100, 101}, {100: float("nan"), 101: 1.0, 10: 7.0}, 7.0),
    ("g1>m10 m10>c100 m10>c101", {100}, {101: 2.0, 10: 50.0}, 48.0),
    # The other charger is known, this one and the meter are not: nothing but the last resort.
    ("g1>m10 m10>c100 m10>c101", {100}, {101: 2.0}, 0.0),
    ("g1>c100 g1>c101", {100, 101}, {100: 5.0}, 5.0),
    ("g1>c100 g1>c101", {100, 101}, {}, None),
    ("g1>m2 m2>m10 m2>m20 m10>c100 m20>c200", {100, 200}, {100: 5.0}, 5.0),
]


@pytest.mark.parametrize(("text", "chargers", "values", "expected"), VALUES)
def test_value(
    text: str, chargers: set[int], values: dict[int, float | None], expected: float | None
) -> None:
    assert charger_formula(topology(text), chargers).evaluate(values, set()) == expected


def test_meter_is_asked_only_when_a_charger_is_missing() -> None:
    formula = charger_formula(topology("g1>m10 m10>c100 m10>c101"), {100, 101})
    asked: set[int] = set()
    formula.evaluate({100: 1.0, 101: 2.0}, asked)
    assert asked == {100, 101}
    formula.evaluate({100: 1.0}, asked)
    assert asked == {100, 101, 10}
