"""Formulas that somebody has written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync import ComponentMetricId
from microgrid_sync.formulas.text import parse

POWER = ComponentMetricId.ACTIVE_POWER


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("#2 - #7", "#2 - #7"),
        ("#2-#7", "#2 - #7"),
        ("  coalesce( #2 ,\n#3+4.5, 0.0)*2 ", "COALESCE(#2, #3 + 4.5, 0.0) * 2.0"),
        ("-#2 * 3", "(-#2) * 3.0"),
        ("#2 - (#3 - #4)", "#2 - (#3 - #4)"),
        ("#2 / (#3 * 2)", "#2 / (#3 * 2.0)"),
        ("MAX(#1, MIN(#2, #3), -5)", "MAX(#1, MIN(#2, #3), -5.0)"),
        ("((#2))", "#2"),
        ("+.5e2", "50.0"),
        ("#007", "#7"),
    ],
)
def test_formula(text: str, read: str) -> None:
    assert str(parse(text, POWER)[0]) == read


# The text, where the mistake is, and what is said.
MISTAKES = [
    ("#2 -", 5, "expected a number, #ID, a function or a parenthesis, found nothing"),
    ("#2 #7", 4, "expected an operator, or the end, found #7"),
    ("#x + 1", 1, "# must be followed by a component's ID"),
    ("1 + foo(#2)", 5, "foo is unknown; there are COALESCE, MIN, MAX"),
    ("MIN()", 5, "found )"),
    ("MIN #2", 5, "expected ( after MIN, found #2"),
    ("(#2 + #3", 9, "or ) for the ( at character 1, found nothing"),
    ("#2 + #3)", 8, "expected an operator, or the end, found )"),
    ("#2 ** #3", 5, "found *"),
    ("1e400", 1, "the number is too large"),
    ("#2 + 1_0", 7, "found _"),
    ("\u00e9 + #2", 1, "has no meaning in a formula"),
    ("#2 + $", 6, "'$' has no meaning in a formula"),
    ("COALESCE(#2,)", 13, "found )"),
    ("(" * 300 + "#2" + ")" * 300, 101, "nested more than 100 deep"),
    ("*".join(["#2"] * 300), 300, "nested more than 100 deep"),
    ("1 + " + "*".join(["#2"] * 100) + " + 1", 1, "nested more than 100 deep"),
    ("-(" + "*".join(["#2"] * 100) + ")", 1, "nested more than 100 deep"),
    ("3 + MIN(" + "*".join(["#2"] * 100) + ", 1)", 5, "nested more than 100 deep"),
    ("#" + "9" * 5000, 1, "no component has so large an ID"),
]


@pytest.mark.parametrize(("text", "place", "words"), MISTAKES)
def test_mistake_is_shown_where_it_is(text: str, place: int, words: str) -> None:
    with pytest.raises(ValueError, match=f"at character {place} of the formula") as raised:
        parse(text, POWER)
    message = str(raised.value)
    assert words in message
    _, shown, pointer = message.split("\n")
    at = pointer.index("^")
    assert shown[at : at + 1] == text[place - 1 : place]


def test_nothing_is_no_formula() -> None:
    with pytest.raises(ValueError, match="empty"):
        parse(" \n", POWER)


def test_thousands_of_terms_are_read() -> None:
    expression, places = parse(" + ".join(f"#{i}" for i in range(5000)), POWER)
    assert len(expression.components()) == len(places) == 5000


@given(st.text("#0123456789.+-*/(), COALESCEMINMAXe\n_$", max_size=40))
def test_any_text_is_a_formula_or_a_clear_error(text: str) -> None:
    try:
        expression, _ = parse(text, POWER)
    except ValueError as error:
        assert "formula" in str(error)  # noqa: PT017 - either of the two is fine
    else:
        assert str(parse(str(expression), POWER)[0]) == str(expression)
