"""Evaluates formulas as trees: sums with fallbacks, on what components measured in a window.

A value is a number, or ``None`` where there is none. Arithmetic with ``None`` gives ``None``, and
so does a result that is no finite number.
"""

import abc
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from microgrid_sync.model import ComponentMetricId

MAX_DEPTH = 100
"""How deep expressions may be nested: each level is a call within a call."""

Key = tuple[int, ComponentMetricId]
"""A component's ID, and what of it is measured."""


class Values(Protocol):
    """What components measured."""

    def get(self, key: Key, /) -> float | None:
        """Give a number, or ``None`` if there is none."""


@dataclass
class Inputs:
    """What an expression is evaluated on, and what it did with that."""

    values: Values
    """What the components measured."""

    asked: set[int] = field(default_factory=set)
    """The components that were asked for; a fallback is asked only when it is needed."""

    left_out: set[int] = field(default_factory=set)
    """The components that are missing, and whose place was taken by a zero or by nothing."""


class Expression(abc.ABC):
    """A node of the tree. Never changes, but for `Found`."""

    depth: int
    """How many nodes are above each other in it."""

    @property
    def precedence(self) -> int:
        """How tightly it binds when written down: 1 for sums, 2 for products, 3 for the rest."""
        return 3

    @abc.abstractmethod
    def evaluate(self, inputs: Inputs) -> float | None:
        """Find the value."""

    @abc.abstractmethod
    def components(self) -> frozenset[int]:
        """Give all components that it may ask for."""


@dataclass(frozen=True)
class Metric(Expression):
    """What a component measures."""

    component_id: int
    metric: ComponentMetricId = ComponentMetricId.ACTIVE_POWER
    depth = 1

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        inputs.asked.add(self.component_id)
        return _finite(inputs.values.get((self.component_id, self.metric)))

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return frozenset([self.component_id])

    def __str__(self) -> str:
        """Write it down."""
        return f"#{self.component_id}"


@dataclass(frozen=True)
class Constant(Expression):
    """A number, or ``None`` for what can never be known."""

    value: float | None
    depth = 1

    @property
    def precedence(self) -> int:
        """See `Expression.precedence`."""
        return 3 if self.value is None or math.copysign(1.0, self.value) > 0 else 1

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        del inputs
        return _finite(self.value)

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return frozenset()

    def __str__(self) -> str:
        """Write it down."""
        return str(self.value)


class _Node(Expression):
    """A node with others below it."""

    def __init__(self, parts: Sequence[Expression], *, below: int | None = None) -> None:
        """Put expressions together.

        Args:
            parts: The expressions.
            below: How deep they are, if that is known.

        Raises:
            ValueError: If they are nested too deep.
        """
        self.parts = tuple(parts)
        self.depth = 1 + (max(part.depth for part in self.parts) if below is None else below)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"the formula is nested more than {MAX_DEPTH} deep")

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return frozenset().union(*(part.components() for part in self.parts))


class Sum(_Node):
    """A sum and difference of any number of expressions."""

    def __init__(
        self, parts: Sequence[Expression], negative: Sequence[bool], *, below: int | None = None
    ) -> None:
        """Add expressions up.

        Args:
            parts: The expressions.
            negative: Whether each of them is subtracted.
            below: How deep they are, if that is known.
        """
        super().__init__(parts, below=below)
        self.negative = tuple(negative)

    @property
    def precedence(self) -> int:
        """See `Expression.precedence`."""
        return 1

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        whole: float | None = 0.0
        for part, is_negative in zip(self.parts, self.negative, strict=True):
            # Also after one without a value: all of them are asked for.
            value = part.evaluate(inputs)
            if value is None or whole is None:
                whole = None
            else:
                whole += -value if is_negative else value
        return _finite(whole)

    def __str__(self) -> str:
        """Write it down."""
        text = []
        for place, (part, is_negative) in enumerate(zip(self.parts, self.negative, strict=True)):
            # a - (b + c) needs its own; so does a number below zero, anywhere but in front.
            needs_own = is_negative and part.precedence == 1
            needs_own |= place > 0 and isinstance(part, Constant) and part.precedence == 1
            operator = "-" if is_negative else "+"
            written = f"({part})" if needs_own else str(part)
            text.append(f" {operator} {written}" if place else f"{'-' * is_negative}{written}")
        return "".join(text)


_PRODUCTS: dict[str, Callable[[float, float], float]] = {
    "*": lambda one, other: one * other,
    "/": lambda one, other: one / other if other else math.nan,
}


class Product(_Node):
    """A product or a quotient of two expressions."""

    def __init__(self, operator: str, left: Expression, right: Expression) -> None:
        """Multiply by ``"*"``, or divide by ``"/"``."""
        super().__init__((left, right))
        self.operator = operator

    @property
    def precedence(self) -> int:
        """See `Expression.precedence`."""
        return 2

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        left, right = (part.evaluate(inputs) for part in self.parts)
        if left is None or right is None:
            return None
        return _finite(_PRODUCTS[self.operator](left, right))

    def __str__(self) -> str:
        """Write it down."""
        left, right = self.parts
        # a / (b * c) needs its own, a * b * c does not.
        tight = 3 if self.operator == "/" else 2
        return f"{_enclosed(left, 2)} {self.operator} {_enclosed(right, tight)}"


def _enclosed(part: Expression, precedence: int) -> str:
    return f"({part})" if part.precedence < precedence else str(part)


class Coalesce(_Node):
    """The first of several expressions that has a value."""

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        for part in self.parts:
            value = part.evaluate(inputs)
            if value is not None:
                return value
        return None

    def __str__(self) -> str:
        """Write it down."""
        return f"COALESCE({', '.join(str(part) for part in self.parts)})"


class OrZero(Coalesce):
    """What some components measure; without that, zero, which is no measurement, and is told."""

    def __init__(self, parts: Sequence[Expression], stands_for: Iterable[int]) -> None:
        """Take the first of some expressions that has a value, else zero.

        Args:
            parts: The expressions.
            stands_for: The components that are left out if it is zero.
        """
        super().__init__((*parts, Constant(0.0)))
        self._stands_for = frozenset(stands_for)

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        for part in self.parts[:-1]:
            value = part.evaluate(inputs)
            if value is not None:
                return value
        inputs.left_out |= self._stands_for
        return 0.0


class Extreme(_Node):
    """The smallest or the largest of several expressions; ``None`` if one has no value."""

    def __init__(self, name: str, parts: Sequence[Expression]) -> None:
        """Take the ``"MIN"`` or the ``"MAX"`` of some expressions."""
        super().__init__(parts)
        self.name = name

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        found = [part.evaluate(inputs) for part in self.parts]
        numbers = [value for value in found if value is not None]
        if len(numbers) < len(found):
            return None
        return min(numbers) if self.name == "MIN" else max(numbers)

    def __str__(self) -> str:
        """Write it down."""
        return f"{self.name}({', '.join(str(part) for part in self.parts)})"


class Average(_Node):
    """An average of some components, each with a weight of its own; those without one are left out.

    ``None`` if none of them is there.
    """

    def __init__(self, components: Sequence[tuple[Expression, Expression]]) -> None:
        """Average the values of some components.

        Args:
            components: The value and the weight of each.
        """
        super().__init__([expression for pair in components for expression in pair])
        self._pairs = tuple(components)

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        whole = weights = 0.0
        for value_of, weight_of in self._pairs:
            value, weight = value_of.evaluate(inputs), weight_of.evaluate(inputs)
            if value is None or weight is None or weight < 0:
                inputs.left_out |= value_of.components()
            else:
                whole += value * weight
                weights += weight
        return _finite(whole / weights) if weights else None

    def __str__(self) -> str:
        """Write it down."""
        return f"AVERAGE({', '.join(str(value) for value, _ in self._pairs)})"


class Measured(_Node):
    """An expression that has no value where none of its components has one.

    Its last resort may be a zero: a sum of missing chargers is unknown, not zero.
    """

    def __init__(self, inner: Expression) -> None:
        """Look at the components of an expression."""
        super().__init__((inner,))
        self._keys = frozenset(_metrics_in(inner))

    @property
    def precedence(self) -> int:
        """See `Expression.precedence`."""
        return self.parts[0].precedence

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        value = self.parts[0].evaluate(inputs)
        known = any(_finite(inputs.values.get(key)) is not None for key in self._keys)
        return value if known else None

    def __str__(self) -> str:
        """Write it down."""
        return str(self.parts[0])


class Found(Expression):
    """An expression that follows from the topology, and is found anew when that changes.

    Whoever evaluates it replaces it, between two evaluations.
    """

    def __init__(self, now: Expression) -> None:
        """Begin with an expression."""
        self.now = now

    @property
    def depth(self) -> int:  # type: ignore[override] # what it is found to be next is as deep
        """See `Expression.depth`."""
        return self.now.depth

    @property
    def precedence(self) -> int:
        """See `Expression.precedence`."""
        return self.now.precedence

    def evaluate(self, inputs: Inputs) -> float | None:
        """See `Expression.evaluate`."""
        return self.now.evaluate(inputs)

    def components(self) -> frozenset[int]:
        """See `Expression.components`."""
        return self.now.components()

    def __str__(self) -> str:
        """Write it down."""
        return str(self.now)


def total(parts: Sequence[Expression]) -> Expression:
    """Add up one or more expressions."""
    return parts[0] if len(parts) == 1 else Sum(parts, [False] * len(parts))


def difference(whole: Expression, parts: Sequence[Expression]) -> Expression:
    """Subtract any number of expressions from one."""
    return Sum((whole, *parts), (False, *[True] * len(parts))) if parts else whole


def first_of(parts: Sequence[Expression]) -> Expression:
    """Take the first of one or more expressions that has a value."""
    return parts[0] if len(parts) == 1 else Coalesce(parts)


def combined(operator: str, left: Expression, right: Expression) -> Expression:
    """Combine two expressions by ``+``, ``-``, ``*`` or ``/``; sums become no deeper by it."""
    if operator not in "+-":
        return Product(operator, left, right)
    known = left if type(left) is Sum else Sum((left,), (False,))
    # Not looked for in all parts: a loop may add thousands, one after the other.
    below = max(known.depth - 1, right.depth)
    return Sum((*known.parts, right), (*known.negative, operator == "-"), below=below)


def joined(kind: str, parts: Sequence[Expression]) -> Expression:
    """Combine expressions by ``COALESCE``, ``MIN`` or ``MAX``; a chain becomes no deeper by it."""
    first = parts[0]
    if kind == "COALESCE":
        before = first.parts if type(first) is Coalesce else (first,)
        return Coalesce((*before, *parts[1:]))
    before = first.parts if isinstance(first, Extreme) and first.name == kind else (first,)
    return Extreme(kind, (*before, *parts[1:]))


def _metrics_in(expression: Expression) -> Iterable[Key]:
    if isinstance(expression, Metric):
        yield expression.component_id, expression.metric
    elif isinstance(expression, _Node):
        for part in expression.parts:
            yield from _metrics_in(part)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
