"""Makes formulas as users see them: something to receive, and to compute with."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from frequenz.quantities import Current, Power, Quantity

from microgrid_sync.fan_out import FanOut
from microgrid_sync.formulas.expression import (
    Binary,
    Coalesce,
    Constant,
    Expression,
    Extreme,
    Values,
)
from microgrid_sync.formulas.sum_loop import SumLoop
from microgrid_sync.receiver import RECEIVER_MAX_SIZE, Receiver, ReceiverStoppedError
from microgrid_sync.timeseries import Sample, Sample3Phase

Q = TypeVar("Q", bound=Quantity)
S = TypeVar("S")
F = TypeVar("F", bound="_Formula[Any, Any, Any]")

_POWER_METRIC = 0
_CURRENT_METRICS = (1, 2, 3)


class _Unit(NamedTuple, Generic[Q]):
    """What a formula computes with."""

    quantity: type[Q]
    """The type of its values."""

    create: Callable[[float], Q]
    """Makes a value of a number in the base unit."""


class FormulaSource(NamedTuple):
    """Where formulas of a microgrid are evaluated."""

    loop: SumLoop
    """Evaluates them."""

    keeps: object
    """Must stay alive as long as somebody has a formula or receives one."""


class _Operand(Generic[Q, F]):
    """What formulas and their builders have in common: operators."""

    def __init__(
        self, tree: Expression, unit: _Unit[Q], source: FormulaSource, formula_class: type[F]
    ) -> None:
        self.tree = tree
        self._unit = unit
        self._source = source
        self._formula_class = formula_class

    @property
    def expression(self) -> str:
        """The formula as text; ``#`` and an ID is what that component measures."""
        return str(self.tree)

    def _with(self, tree: Expression) -> "FormulaBuilder[Q, F]":
        return FormulaBuilder(tree, self._unit, self._source, self._formula_class)

    def _node(self, other: Any) -> Expression | None:
        """Turn another formula or a quantity into a node; ``None`` if that makes no sense."""
        if isinstance(other, _Operand):
            fits = (
                other._formula_class is self._formula_class
                and other._unit == self._unit
                and other._source.loop is self._source.loop
            )
            return other.tree if fits else None
        return Constant(other.base_value) if type(other) is self._unit.quantity else None

    def _binary(self, operator: str, other: Any, *, swapped: bool = False) -> Any:
        node = self._node(other)
        if node is None:
            return NotImplemented
        left, right = (node, self.tree) if swapped else (self.tree, node)
        return self._with(Binary(operator, left, right))

    def _scaled(self, operator: str, factor: Any) -> Any:
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            return NotImplemented
        return self._with(Binary(operator, self.tree, Constant(float(factor))))

    def __add__(self, other: Any) -> "FormulaBuilder[Q, F]":
        """Add a formula or a quantity of the same kind."""
        return self._binary("+", other)  # type: ignore[no-any-return] # or NotImplemented

    def __radd__(self, other: Any) -> "FormulaBuilder[Q, F]":
        """Add to a quantity of the same kind."""
        return self._binary("+", other, swapped=True)  # type: ignore[no-any-return] # as above

    def __sub__(self, other: Any) -> "FormulaBuilder[Q, F]":
        """Subtract a formula or a quantity of the same kind."""
        return self._binary("-", other)  # type: ignore[no-any-return] # as above

    def __rsub__(self, other: Any) -> "FormulaBuilder[Q, F]":
        """Subtract from a quantity of the same kind."""
        return self._binary("-", other, swapped=True)  # type: ignore[no-any-return] # as above

    def __mul__(self, factor: float) -> "FormulaBuilder[Q, F]":
        """Multiply by a number."""
        return self._scaled("*", factor)  # type: ignore[no-any-return] # as above

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "FormulaBuilder[Q, F]":
        """Divide by a number; by zero there is no value."""
        return self._scaled("/", divisor)  # type: ignore[no-any-return] # as above

    def coalesce(self, *others: "_Operand[Q, F] | Q") -> "FormulaBuilder[Q, F]":
        """Take the first of this and the others that has a value."""
        return self._with(Coalesce((self.tree, *self._nodes("coalesce", others))))

    def min(self, *others: "_Operand[Q, F] | Q") -> "FormulaBuilder[Q, F]":
        """Take the smallest of this and the others; no value if one of them has none."""
        return self._with(Extreme("MIN", (self.tree, *self._nodes("min", others))))

    def max(self, *others: "_Operand[Q, F] | Q") -> "FormulaBuilder[Q, F]":
        """Take the largest of this and the others; no value if one of them has none."""
        return self._with(Extreme("MAX", (self.tree, *self._nodes("max", others))))

    def _nodes(self, name: str, others: Sequence[Any]) -> list[Expression]:
        nodes = []
        for other in others:
            node = self._node(other)
            if node is None:
                raise TypeError(
                    f"{name}() takes formulas of the same kind and microgrid, and quantities of "
                    f"type {self._unit.quantity.__name__}, not {other!r}"
                )
            nodes.append(node)
        return nodes


class FormulaBuilder(_Operand[Q, F]):
    """Something computed with formulas that is not a formula yet: `build` makes it one."""

    def build(self, name: str) -> F:
        """Make a formula of it.

        Args:
            name: What its receivers call it.

        Returns:
            The formula; all of its parts are evaluated on the same window.
        """
        return self._formula_class(self.tree, self._unit, self._source, name)


class _Evaluation(Generic[S]):
    """A formula as the sum loop runs it: see `sum_loop.RunningFormula`."""

    def __init__(
        self,
        tree: Expression,
        metrics: tuple[int, ...],
        sample: Callable[[datetime, Sequence[float | None]], S],
        name: str,
        on_empty: Callable[[], None],
    ) -> None:
        """Make an evaluation that nobody receives.

        Args:
            tree: What to evaluate.
            metrics: For which metrics, one value of the sample each.
            sample: Makes a sample of the values.
            name: What receivers call it.
            on_empty: Called when the last receiver has gone.
        """
        self.tree = tree
        self.receivers: FanOut[S] = FanOut(name, on_empty=on_empty)
        self._metrics = metrics
        self._sample = sample

    def publish(self, stamp: datetime, metrics: Sequence[Values], asked: set[int]) -> None:
        """Evaluate a window and send the result; add the components that were asked for."""
        values = [self.tree.evaluate(metrics[metric], asked) for metric in self._metrics]
        self.receivers.put(self._sample(stamp, values))

    def publish_nothing(self, stamp: datetime) -> None:
        """Send that there is no value."""
        self.receivers.put(self._sample(stamp, [None] * len(self._metrics)))

    def is_received(self) -> bool:
        """Tell whether somebody receives it."""
        return len(self.receivers) > 0

    def end(self) -> None:
        """Tell its readers that nothing more will come."""
        self.receivers.end()


class _Formula(_Operand[Q, F], Generic[Q, F, S]):
    """A formula of samples of one kind. Runs from its first receiver until its last one closes."""

    _metrics: ClassVar[tuple[int, ...]]

    def __init__(self, tree: Expression, unit: _Unit[Q], source: FormulaSource, name: str) -> None:
        super().__init__(tree, unit, source, type(self))  # type: ignore[arg-type] # F is this class
        self._name = name

        # What the loop holds must not keep this formula, and with it the microgrid, alive.
        make = self._make_sample

        def sample(stamp: datetime, values: Sequence[float | None]) -> S:
            return make(stamp, [None if value is None else unit.create(value) for value in values])

        self._evaluation: _Evaluation[S] = _Evaluation(
            tree, self._metrics, sample, name, on_empty=source.loop.look_for_unneeded
        )

    def __repr__(self) -> str:
        """Name it."""
        return f"<{type(self).__name__} {self._name}: {self.expression}>"

    def new_receiver(self, *, maxsize: int = RECEIVER_MAX_SIZE) -> Receiver[S]:
        """Receive a sample for each window from now on.

        Args:
            maxsize: How many samples the receiver holds.

        Returns:
            A receiver. The first one starts the formula, the last one that closes stops it.

        Raises:
            TypeError: If the size is not an integer.
            ValueError: If it is less than 1.
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off after the client had connected.
        """
        receiver = self._evaluation.receivers.subscribe(maxsize, keeps=self._source.keeps)
        if receiver is None:
            raise ReceiverStoppedError("the microgrid has been closed")
        self._source.loop.start(self._evaluation)
        return receiver

    @staticmethod
    def _make_sample(stamp: datetime, values: Sequence[Q | None]) -> S:
        raise NotImplementedError


class Formula(_Formula[Q, "Formula[Q]", Sample[Q]]):
    """A quantity computed from what components measure, once a resampling period.

    Formulas of one microgrid can be added, subtracted, multiplied and divided by numbers, and
    combined with `coalesce`, `min` and `max`; ``build(name)`` makes a formula of the result.
    """

    _metrics = (_POWER_METRIC,)

    @staticmethod
    def _make_sample(stamp: datetime, values: Sequence[Q | None]) -> Sample[Q]:
        return Sample(stamp, *values)


class Formula3Phase(_Formula[Q, "Formula3Phase[Q]", Sample3Phase[Q]]):
    """A quantity of each of three phases; else like a `Formula`."""

    _metrics = _CURRENT_METRICS

    @staticmethod
    def _make_sample(stamp: datetime, values: Sequence[Q | None]) -> Sample3Phase[Q]:
        return Sample3Phase(stamp, *values)


_POWER = _Unit(Power, Power.from_watts)
_CURRENT = _Unit(Current, Current.from_amperes)


def power_formula(tree: Expression, source: FormulaSource, name: str) -> Formula[Power]:
    """Make a formula of active power, in W."""
    return Formula(tree, _POWER, source, name)


def current_formula(tree: Expression, source: FormulaSource, name: str) -> Formula3Phase[Current]:
    """Make a formula of the current of each phase, in A."""
    return Formula3Phase(tree, _CURRENT, source, name)
