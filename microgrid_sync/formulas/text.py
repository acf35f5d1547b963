"""Reads a formula that somebody has written, such as ``#2 - COALESCE(#7, 0.0)``."""

import re
from collections.abc import Callable
from typing import NamedTuple

from microgrid_sync.formulas.expression import (
    MAX_DEPTH,
    Constant,
    Expression,
    Metric,
    Product,
    Sum,
    joined,
)
from microgrid_sync.model import ComponentMetricId

_FUNCTIONS = ("COALESCE", "MIN", "MAX")

_WORD = re.compile(
    r"""\s*(?:
        \#(?P<component>[0-9]+)
        | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
        | (?P<name>[A-Za-z_]+)
        | (?P<sign>[-+*/(),])
        | (?P<end>\Z)
    )""",
    re.VERBOSE,
)

_LONGEST_ID = 20
"""Digits: the APIs have numbers of 64 bits."""

_MARGIN = 60
"""So many characters before and after a mistake are shown."""


class FormulaTextError(ValueError):
    """A formula cannot be read; the message shows where."""


class _Word(NamedTuple):
    kind: str
    text: str
    place: int


def parse(text: str, metric: ComponentMetricId) -> tuple[Expression, dict[int, int]]:
    """Read a formula.

    Args:
        text: ``#`` and a component's ID, numbers, ``+ - * /``, parentheses, and ``COALESCE``,
            ``MIN`` and ``MAX`` of one or more of these.
        metric: What of the components is meant.

    Returns:
        The expression, and for each component the place where it is named first.

    Raises:
        FormulaTextError: If it cannot be read.
    """
    reader = _Reader(text, metric)
    if reader.word.kind == "end":
        raise FormulaTextError("the formula is empty; write #2 - #7, for instance")
    expression = reader.sum(1)
    if reader.word.kind != "end":
        raise reader.unexpected("an operator, or the end")
    return expression, reader.places


def mistake(text: str, place: int, what: str) -> FormulaTextError:
    """Make the error about a place of a formula, counted from 0."""
    start = max(0, place - _MARGIN)
    shown = re.sub(r"\s", " ", text[start : place + _MARGIN])
    pointer = " " * (place - start) + "^"
    return FormulaTextError(
        f"{what}, at character {place + 1} of the formula:\n  {shown}\n  {pointer}"
    )


class _Reader:
    """Reads one formula, a word at a time."""

    def __init__(self, text: str, metric: ComponentMetricId) -> None:
        self.places: dict[int, int] = {}
        self._text = text
        self._metric = metric
        self._next = 0
        self.word = self._read_word()

    def _read_word(self) -> _Word:
        found = _WORD.match(self._text, self._next)
        if found is None or found.lastgroup is None:
            rest = self._text[self._next :]
            place = self._next + len(rest) - len(rest.lstrip())
            sign = self._text[place]
            if sign == "#":
                raise mistake(self._text, place, "# must be followed by a component's ID")
            raise mistake(self._text, place, f"{sign!r} has no meaning in a formula")
        self._next = found.end()
        kind = found.lastgroup
        return _Word(kind, found[kind], found.start(kind) - (kind == "component"))

    def _advance(self) -> _Word:
        word = self.word
        self.word = self._read_word()
        return word

    def _is_sign(self, signs: str) -> bool:
        return self.word.kind == "sign" and self.word.text in signs

    def unexpected(self, expected: str) -> FormulaTextError:
        """Say that something else is expected here."""
        shown = {"end": "nothing", "component": f"#{self.word.text}"}
        found = shown.get(self.word.kind, self.word.text)
        return mistake(self._text, self.word.place, f"expected {expected}, found {found}")

    def sum(self, depth: int) -> Expression:
        """Read a sum, or less."""
        place = self.word.place
        parts, negative = [self._product(depth)], [False]
        while self._is_sign("+-"):
            negative.append(self._advance().text == "-")
            parts.append(self._product(depth))
        return self._made(place, lambda: Sum(parts, negative)) if len(parts) > 1 else parts[0]

    def _product(self, depth: int) -> Expression:
        whole = self._operand(depth)
        while self._is_sign("*/"):
            sign = self._advance()
            whole = self._multiplied(sign, whole, self._operand(depth))
        return whole

    def _multiplied(self, sign: _Word, left: Expression, right: Expression) -> Expression:
        return self._made(sign.place, lambda: Product(sign.text, left, right))

    def _made(self, place: int, make: Callable[[], Expression]) -> Expression:
        """Put expressions together; show the place if they are nested too deep."""
        try:
            return make()
        except ValueError as error:
            raise mistake(self._text, place, str(error)) from None

    def _operand(self, depth: int) -> Expression:
        word = self.word
        if depth > MAX_DEPTH:
            what = f"the formula is nested more than {MAX_DEPTH} deep"
            raise mistake(self._text, word.place, what)
        if word.kind == "number":
            return self._number()
        if word.kind == "component":
            return self._component()
        if word.kind == "name":
            return self._function(depth)
        if self._is_sign("+-"):
            return self._signed(depth)
        if self._is_sign("("):
            self._advance()
            inner = self.sum(depth + 1)
            self._expect_end_of(word)
            return inner
        raise self.unexpected("a number, #ID, a function or a parenthesis")

    def _signed(self, depth: int) -> Expression:
        sign = self._advance()
        operand = self._operand(depth + 1)
        if sign.text == "+":
            return operand
        if isinstance(operand, Constant) and operand.value is not None:
            return Constant(-operand.value)
        return self._made(sign.place, lambda: Sum((operand,), (True,)))

    def _component(self) -> Expression:
        word = self._advance()
        if len(word.text) > _LONGEST_ID:
            raise mistake(self._text, word.place, "no component has so large an ID")
        number = int(word.text)
        self.places.setdefault(number, word.place)
        return Metric(number, self._metric)

    def _number(self) -> Expression:
        word = self._advance()
        value = float(word.text)
        if value == float("inf"):
            raise mistake(self._text, word.place, "the number is too large")
        return Constant(value)

    def _function(self, depth: int) -> Expression:
        name = self._advance()
        if name.text.upper() not in _FUNCTIONS:
            what = f"{name.text} is unknown; there are {', '.join(_FUNCTIONS)}"
            raise mistake(self._text, name.place, what)
        if not self._is_sign("("):
            raise self.unexpected(f"( after {name.text}")
        opened = self._advance()
        parts = [self.sum(depth + 1)]
        while self._is_sign(","):
            self._advance()
            parts.append(self.sum(depth + 1))
        self._expect_end_of(opened)
        return self._made(name.place, lambda: joined(name.text.upper(), parts))

    def _expect_end_of(self, opened: _Word) -> None:
        if not self._is_sign(")"):
            raise self.unexpected(f"an operator, or ) for the ( at character {opened.place + 1}")
        self._advance()
