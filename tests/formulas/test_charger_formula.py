"""The formula of a set of chargers, for many topologies."""

import pytest

from microgrid_sync import Component, ComponentCategory, Connection
from microgrid_sync.formulas.charger import charger_formula
from tests.support.formulas import evaluate, inputs, topology

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
    ("g1>m2 m2>m9 m2>m10 m10>c100 m10>i20 i20>b30", {100}, "COALESCE(#100, #10 - #20, 0.0)"),
    (
        "g1>m2 m2>m9 m2>m10 m10>c100 m10>c101 m10>i20 m10>h40", {100, 101},
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
    # Fed by two meters that read nothing else: both of them together read it.
    ("g1>m10 g1>m20 m10>c100 m20>c100", {100}, "COALESCE(#100, #10 + #20, 0.0)"),
    ("g1>m10 g1>m20 m10>c100 m20>c100 m20>c101", {100}, "COALESCE(#100, 0.0)"),
    # The main meter carries the building's own load, and so does its only child.
    ("g1>m2 m2>c3 m2>c4 m2>s5", {3, 4}, "COALESCE(#4, 0.0) + COALESCE(#3, 0.0)"),
    ("g1>m2 m2>m3 m3>c4 m3>m5", {4}, "COALESCE(#4, 0.0)"),
    ("g1>m2 m2>c3 m2>c4", {3}, "COALESCE(#3, #2 - #4, 0.0)"),
    # A meter of something else is subtracted, unless it reads chargers of the pool.
    ("m3>c4 m3>m5", {4}, "COALESCE(#4, #3 - #5, 0.0)"),
    ("g1>m2 m2>m9 m2>m3 m3>c4 m3>m5 m5>c6", {4}, "COALESCE(#4, #3 - #5, 0.0)"),
    ("g1>m2 m2>m9 m2>m3 m3>c4 m3>m5 m5>c6", {4, 6}, "COALESCE(#6, #5, 0.0) + COALESCE(#4, 0.0)"),
    # Relays and precharge modules are wires.
    ("g1>r8 r8>m2 m2>c4 m2>c5", {4}, "COALESCE(#4, #2 - #5, 0.0)"),
    ("g1>m2 m2>m9 m2>p3 p3>m4 m4>r5 r5>c6", {6}, "COALESCE(#6, #4, 0.0)"),
    # A hybrid inverter has sun and battery behind it: it is not subtracted.
    ("g1>m2 m2>m9 m2>m10 m10>c100 m10>y20 y20>b30", {100}, "COALESCE(#100, 0.0)"),
    # A connection that is listed twice.
    ("g1>m2 m2>m9 m2>m10 m10>c100 m10>c100", {100}, "COALESCE(#100, #10, 0.0)"),
    # A charger that is gone.
    ("g1>m2 m2>c3", {3, 4}, "COALESCE(#3, #2, 0.0) + COALESCE(#4, 0.0)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "chargers", "expected"), CASES)
def test_formula(text: str, chargers: set[int], expected: str) -> None:
    assert str(charger_formula(topology(text), chargers)) == expected


F1 = {2: 61000.0, 3: 7000.0, 4: None, 5: -3000.0}
F3 = {3: 14000.0, 4: None, 5: 4000.0}

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
    ("g1>m2 m2>c3 m2>c4 m2>s5", {3, 4}, F1, 7000.0),
    ("m3>c4 m3>m5", {4}, F3, 10000.0),
]


@pytest.mark.parametrize(("text", "chargers", "values", "expected"), VALUES)
def test_value(
    text: str, chargers: set[int], values: dict[int, float | None], expected: float | None
) -> None:
    assert evaluate(charger_formula(topology(text), chargers), values) == expected


def test_meter_is_asked_only_when_a_charger_is_missing() -> None:
    formula = charger_formula(topology("g1>m10 m10>c100 m10>c101"), {100, 101})
    found = inputs({100: 1.0, 101: 2.0})
    formula.evaluate(found)
    assert found.asked == {100, 101}
    found = inputs({100: 1.0})
    formula.evaluate(found)
    assert found.asked == {100, 101, 10}


def test_chargers_that_count_as_zero_are_named() -> None:
    formula = charger_formula(topology("g1>m2 m2>m9 m2>c100 m2>c101"), {100, 101})
    found = inputs({100: 1.0})
    assert formula.evaluate(found) == 1.0
    assert found.left_out == {101}


@pytest.mark.parametrize("count", [1000, 10_000])
def test_any_number_of_chargers(count: int) -> None:
    many = range(100, 100 + count)
    site = topology("g1>m2 m2>m9")
    site = type(site)(
        [*site.components(), *(Component(i, ComponentCategory.EV_CHARGER) for i in many)],
        [Connection(1, 2), Connection(2, 9), *(Connection(9, i) for i in many)],
    )
    formula = charger_formula(site, set(many))
    assert evaluate(formula, dict.fromkeys(many, 2.0)) == 2.0 * count
    assert str(formula).count("#") == 2 * count + 1
    assert evaluate(formula, {9: 5.0, 100: 1.0}) == 5.0
