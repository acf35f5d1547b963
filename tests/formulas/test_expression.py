"""Expressions: values and texts."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync.formulas.expression import (
    MAX_DEPTH,
    Average,
    Coalesce,
    Constant,
    Expression,
    Extreme,
    Found,
    Measured,
    Metric,
    OrZero,
    Product,
    Sum,
    combined,
    difference,
    joined,
    total,
)
from microgrid_sync.formulas.text import parse
from microgrid_sync.model import ComponentMetricId
from tests.support.formulas import evaluate, inputs

A, B, C = Metric(1), Metric(2), Metric(3)


def _binary(operator: str, left: Expression, right: Expression) -> Expression:
    if operator in "*/":
        return Product(operator, left, right)
    return Sum((left, right), (False, operator == "-"))


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (_binary("+", A, _binary("+", B, C)), "#1 + #2 + #3"),
        (_binary("-", A, _binary("+", B, C)), "#1 - (#2 + #3)"),
        (_binary("-", _binary("-", A, B), C), "#1 - #2 - #3"),
        (_binary("*", _binary("+", A, B), Constant(2.0)), "(#1 + #2) * 2.0"),
        (_binary("/", A, _binary("*", B, C)), "#1 / (#2 * #3)"),
        (_binary("+", A, _binary("*", B, C)), "#1 + #2 * #3"),
        (Coalesce((A, _binary("+", B, C))), "COALESCE(#1, #2 + #3)"),
        (Extreme("MIN", (A, Constant(0.5))), "MIN(#1, 0.5)"),
        (_binary("*", Measured(_binary("+", A, B)), C), "(#1 + #2) * #3"),
        (total([A, B, C]), "#1 + #2 + #3"),
        (difference(A, [B, C]), "#1 - #2 - #3"),
        (Sum((A, B), (True, False)), "-#1 + #2"),
        (_binary("-", A, Constant(-5.0)), "#1 - (-5.0)"),
        (_binary("*", Found(_binary("+", A, B)), C), "(#1 + #2) * #3"),
        (OrZero((A, B), {1}), "COALESCE(#1, #2, 0.0)"),
        (Constant(None), "None"),
        (combined("-", combined("+", A, B), C), "#1 + #2 - #3"),
        (joined("MAX", [joined("MAX", [A, B]), C]), "MAX(#1, #2, #3)"),
        (joined("COALESCE", [joined("COALESCE", [A, B]), C]), "COALESCE(#1, #2, #3)"),
    ],
)
def test_text(expression: Expression, text: str) -> None:
    assert str(expression) == text


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (_binary("+", A, B), 5.0),
        (_binary("-", A, B), -1.0),
        (_binary("*", A, B), 6.0),
        (_binary("/", A, B), 2 / 3),
        (_binary("/", A, Constant(0.0)), None),
        (_binary("+", A, C), None),
        (_binary("*", Constant(1e300), Constant(1e300)), None),
        (Coalesce((C, B, A)), 3.0),
        (Coalesce((C, C)), None),
        (Extreme("MIN", (A, B)), 2.0),
        (Extreme("MAX", (A, B)), 3.0),
        (Extreme("MAX", (A, C)), None),
        (Measured(Coalesce((C, Constant(0.0)))), None),
        (Measured(Coalesce((C, Constant(0.0), A))), 0.0),
        (Metric(9), None),
        (difference(B, [A, A]), -1.0),
        (OrZero((C,), {3}), 0.0),
        (OrZero((C, A), {3}), 2.0),
        (Average([(A, B), (B, A)]), 12.0 / 5.0),
        (Average([(A, B), (C, A)]), 2.0),
        (Average([(C, A)]), None),
        (Average([(A, Constant(0.0))]), None),
        (Found(A), 2.0),
    ],
)
def test_value(expression: Expression, expected: float | None) -> None:
    assert evaluate(expression, {1: 2.0, 2: 3.0, 3: None}) == expected


def test_components() -> None:
    expression = Coalesce((_binary("+", A, Constant(1.0)), Extreme("MIN", (B, Measured(C)))))
    assert expression.components() == {1, 2, 3}


expressions = st.recursive(
    st.one_of(
        st.integers(1, 4).map(Metric),
        st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: Constant(round(v, 2))),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*/"), inner, inner).map(lambda parts: _binary(*parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Coalesce(tuple(parts))),
        st.tuples(
            st.sampled_from(["MIN", "MAX"]), st.lists(inner, min_size=1, max_size=3).map(tuple)
        ).map(lambda parts: Extreme(*parts)),
    ),
    max_leaves=12,
)


class _Number(float):
    """A number that divides by zero, as the formulas do, to nothing."""

    def _of(self, value: float) -> "_Number":
        return _Number(value if math.isfinite(value) else math.nan)

    def __add__(self, other: float) -> "_Number":
        return self._of(float(self) + float(other))

    def __sub__(self, other: float) -> "_Number":
        return self._of(float(self) - float(other))

    def __mul__(self, other: float) -> "_Number":
        return self._of(float(self) * float(other))

    def __truediv__(self, other: float) -> "_Number":
        return self._of(float(self) / float(other) if other else math.nan)

    def __neg__(self) -> "_Number":
        return _Number(-float(self))


def _coalesce(*parts: float) -> _Number:
    return _Number(next((part for part in parts if not math.isnan(part)), math.nan))


def _smallest(*parts: float) -> _Number:
    return _Number(math.nan if any(map(math.isnan, parts)) else min(parts))


def _largest(*parts: float) -> _Number:
    return _Number(math.nan if any(map(math.isnan, parts)) else max(parts))


@given(expressions, st.dictionaries(st.integers(1, 4), st.floats(-1e3, 1e3), max_size=4))
def test_text_read_back_has_the_same_value(
    expression: Expression, values: dict[int, float]
) -> None:
    """The text, read as Python by Python's own rules of precedence, means the same."""
    text = re.sub(r"#(\d+)", r"metric(\1)", str(expression))
    text = re.sub(r"(?<![\w.])(-?\d+\.\d+(?:e[+-]?\d+)?)", r"number(\1)", text)
    names = {
        "metric": lambda i: _Number(values.get(i, math.nan)),
        "number": _Number,
        "COALESCE": _coalesce,
        "MIN": _smallest,
        "MAX": _largest,
    }
    expected = eval(text, {"__builtins__": {}}, names)
    found = evaluate(expression, values)
    if found is None:
        assert math.isnan(expected)
    else:
        assert found == pytest.approx(float(expected), nan_ok=False)


@given(expressions, st.dictionaries(st.integers(1, 4), st.floats(-1e3, 1e3), max_size=4))
def test_text_is_parsed_to_the_same_value(expression: Expression, values: dict[int, float]) -> None:
    read, _ = parse(str(expression), ComponentMetricId.ACTIVE_POWER)
    assert evaluate(read, values) == pytest.approx(evaluate(expression, values))
    assert str(parse(str(read), ComponentMetricId.ACTIVE_POWER)[0]) == str(read)


def test_thousands_are_added_one_after_the_other() -> None:
    whole: Expression = A
    for _ in range(5000):
        whole = combined("+", whole, A)
    assert evaluate(whole, {1: 2.0}) == 10002.0
    assert whole.depth == 2


def test_nesting_has_a_limit_that_is_told() -> None:
    whole: Expression = A
    for _ in range(MAX_DEPTH - 1):
        whole = combined("*", whole, A)
    with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep"):
        combined("*", whole, A)


def test_left_out_are_those_whose_place_is_taken_by_zero_or_by_nothing() -> None:
    found = inputs({1: 2.0, 2: 3.0})
    assert Average([(A, B), (C, A)]).evaluate(found) == 2.0
    assert OrZero((Metric(4), Metric(5)), {4}).evaluate(found) == 0.0
    assert found.left_out == {3, 4}
    assert found.asked == {1, 2, 3, 4, 5}
