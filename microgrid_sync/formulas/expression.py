"""Evaluates formulas as trees: sums with fallbacks, on what components measured in a window.

A value is a number, or ``None`` where there is none. Arithmetic with ``None`` gives ``None``, and
so does a result that is no finite number.
"""

import abc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Values = Mapping[int, float | None]
"""What each component measured: its ID leads to a number, or to ``None`` or nothing."""


class Expression(abc.ABC):
    """A node of the tree. Never changes."""

    @property
    def precedence(self) -> int:
        """How tightly it binds when written down: 1 for sums, 2 for products, 3 for the rest."""
        return 3

    @abc.abstractmethod
    def evaluate(self, values: Values, asked: set[int]) -> float | None:
        """Find the value.

        Args:
            values: What the components measured.
            asked: The components that were asked for are added here. A fallback is asked only
                when it is needed.
        """

    @abc.abstractmethod
    def components(self) -> frozenset[int]:
        """Give all components that it may ask for."""


@dataclass(frozen=True)
class Metric(Expression):
    """What a component measures."""

    component_id: int

    def evaluate(self, values: Values, asked: set[int]) -> float | None:
        """See `Expression.evaluate`."""
        asked.add(self.component_id)
        return _finite(values.get(self.component_id))

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return frozenset([self.component_id])

    def __str__(self) -> str:
        """Write it down."""
        return f"#{self.component_id}"


@dataclass(frozen=True)
class Constant(Expression):
    """A number."""

    value: float

    def evaluate(self, values: Values, asked: set[int]) -> float | None:
        """See `Expression.evaluate`."""
        del values, asked
        return self.value

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return frozenset()

    def __str__(self) -> str:
        """Write it down."""
        return str(self.value)


_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "/": lambda one, other: one / other if other else math.nan,
}


@dataclass(frozen=True)
class Binary(Expression):
    """Two expressions with an operator between them."""

    operator: str
    left: Expression
    right: Expression

    @property
    def precedence(self) -> int:
        """See `Expression.precedence`."""
        return 1 if self.operator in "+-" else 2

    def evaluate(self, values: Values, asked: set[int]) -> float | None:
        """See `Expression.evaluate`."""
        left, right = self.left.evaluate(values, asked), self.right.evaluate(values, asked)
        if left is None or right is None:
            return None
        return _finite(_OPERATORS[self.operator](left, right))

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return self.left.components() | self.right.components()

    def __str__(self) -> str:
        """Write it down."""
        left, right = str(self.left), str(self.right)
        if self.left.precedence < self.precedence:
            left = f"({left})"
        # a - (b + c) and a / (b * c) need theirs, a + b + c does not.
        if self.right.precedence < self.precedence + (self.operator in "-/"):
            right = f"({right})"
        return f"{left} {self.operator} {right}"


@dataclass(frozen=True)
class Coalesce(Expression):
    """The first of several expressions that has a value."""

    parts: tuple[Expression, ...]

    def evaluate(self, values: Values, asked: set[int]) -> float | None:
        """See `Expression.evaluate`."""
        for part in self.parts:
            value = part.evaluate(values, asked)
            if value is not None:
                return value
        return None

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return frozenset().union(*(part.components() for part in self.parts))

    def __str__(self) -> str:
        """Write it down."""
        return f"COALESCE({', '.join(str(part) for part in self.parts)})"


@dataclass(frozen=True)
class Extreme(Expression):
    """The smallest or the largest of several expressions; ``None`` if one has no value."""

    name: str
    parts: tuple[Expression, ...]

    def evaluate(self, values: Values, asked: set[int]) -> float | None:
        """See `Expression.evaluate`."""
        found = [part.evaluate(values, asked) for part in self.parts]
        numbers = [value for value in found if value is not None]
        if len(numbers) < len(found):
            return None
        return min(numbers) if self.name == "MIN" else max(numbers)

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return frozenset().union(*(part.components() for part in self.parts))

    def __str__(self) -> str:
        """Write it down."""
        return f"{self.name}({', '.join(str(part) for part in self.parts)})"


@dataclass(frozen=True)
class Measured(Expression):
    """An expression that has no value where none of its components has one.

    Its last resort may be a zero: a sum of missing chargers is unknown, not zero.
    """

    inner: Expression

    @property
    def precedence(self) -> int:
        """See `Expression.precedence`."""
        return self.inner.precedence

    def evaluate(self, values: Values, asked: set[int]) -> float | None:
        """See `Expression.evaluate`."""
        value = self.inner.evaluate(values, asked)
        known = any(_finite(values.get(component)) is not None for component in self.components())
        return value if known else None

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return self.inner.components()

    def __str__(self) -> str:
        """Write it down."""
        return str(self.inner)


def total(parts: list[Expression]) -> Expression:
    """Add up one or more expressions."""
    whole = parts[0]
    for part in parts[1:]:
        whole = Binary("+", whole, part)
    return whole


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
