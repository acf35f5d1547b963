"""Expressions: values and texts."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync.formulas.expression import (
    Binary,
    Coalesce,
    Constant,
    Expression,
    Extreme,
    Measured,
    Metric,
    total,
)

A, B, C = Metric(1), Metric(2), Metric(3)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Binary("+", A, Binary("+", B, C)), "#1 + #2 + #3"),
        (Binary("-", A, Binary("+", B, C)), "#1 - (#2 + #3)"),
        (Binary("-", Binary("-", A, B), C), "#1 - #2 - #3"),
        (Binary("*", Binary("+", A, B), Constant(2.0)), "(#1 + #2) * 2.0"),
        (Binary("/", A, Binary("*", B, C)), "#1 / (#2 * #3)"),
        (Binary("+", A, Binary("*", B, C)), "#1 + #2 * #3"),
        (Coalesce((A, Binary("+", B, C))), "COALESCE(#1, #2 + #3)"),
        (Extreme("MIN", (A, Constant(0.5))), "MIN(#1, 0.5)"),
        (Binary("*", Measured(Binary("+", A, B)), C), "(#1 + #2) * #3"),
        (total([A, B, C]), "#1 + #2 + #3"),
    ],
)
def test_text(expression: Expression, text: str) -> None:
    assert str(expression) == text


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Binary("+", A, B), 5.0),
        (Binary("-", A, B), -1.0),
        (Binary("*", A, B), 6.0),
        (Binary("/", A, B), 2 / 3),
        (Binary("/", A, Constant(0.0)), None),
        (Binary("+", A, C), None),
        (Binary("*", Constant(1e300), Constant(1e300)), None),
        (Coalesce((C, B, A)), 3.0),
        (Coalesce((C, C)), None),
        (Extreme("MIN", (A, B)), 2.0),
        (Extreme("MAX", (A, B)), 3.0),
        (Extreme("MAX", (A, C)), None),
        (Measured(Coalesce((C, Constant(0.0)))), None),
        (Measured(Coalesce((C, Constant(0.0), A))), 0.0),
        (Metric(9), None),
    ],
)
def test_value(expression: Expression, expected: float | None) -> None:
    assert expression.evaluate({1: 2.0, 2: 3.0, 3: None}, set()) == expected


def test_components() -> None:
    expression = Coalesce((Binary("+", A, Constant(1.0)), Extreme("MIN", (B, Measured(C)))))
    assert expression.components() == {1, 2, 3}


expressions = st.recursive(
    st.one_of(
        st.integers(1, 4).map(Metric),
        st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: Constant(round(v, 2))),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*/"), inner, inner).map(lambda parts: Binary(*parts)),
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
    found = expression.evaluate(values, set())
    if found is None:
        assert math.isnan(expected)
    else:
        assert found == pytest.approx(float(expected), nan_ok=False)
