"""Makes formulas as users see them: something to receive, and to compute with."""

import threading
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from frequenz.quantities import Quantity

from microgrid_sync.fan_out import FanOut
from microgrid_sync.formulas.expression import (
    Constant,
    Expression,
    Found,
    combined,
    joined,
)
from microgrid_sync.formulas.metrics import Unit, unit_of
from microgrid_sync.formulas.sum_loop import SumLoop
from microgrid_sync.model import ComponentMetricId
from microgrid_sync.receiver import RECEIVER_MAX_SIZE, Receiver, ReceiverStoppedError
from microgrid_sync.timeseries import Sample, Sample3Phase
from microgrid_sync.topology import Topology

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Q = TypeVar("Q", bound=Quantity)
S = TypeVar("S")
F = TypeVar("F", bound="_Formula[Any, Any, Any]")

Rule = Callable[[Topology], Expression]
"""Finds an expression from the topology."""


class FoundExpressions:
    """The expressions of a microgrid that follow from its topology, as long as somebody has them.

    It must not keep the microgrid alive: what tells it of changes runs as long as that does.
    """

    def __init__(self, loop: SumLoop, topology: Topology) -> None:
        """Begin with a topology.

        Args:
            loop: Evaluates the formulas.
            topology: What they follow from.
        """
        self._loop = loop
        self.topology = topology
        # Protects the rules: users' threads add to them, and that of the watch walks through them.
        self._lock = threading.Lock()
        self._rules: weakref.WeakKeyDictionary[Found, Rule] = weakref.WeakKeyDictionary()

    def find(self, rule: Rule) -> Expression:
        """Give an expression that a rule finds, now and whenever the topology has changed."""
        found = Found(Constant(None))
        with self._lock:
            self._rules[found] = rule
        topology = None
        while topology is not self.topology:
            # Once more if it has changed meanwhile.
            topology = self.topology
            found.now = rule(topology)
        return found

    def change_topology(self, topology: Topology, changed: frozenset[int]) -> None:
        """Find all expressions anew; the loop does that between two windows.

        Args:
            topology: The new topology.
            changed: The components that are gone, or are something else now.
        """
        self.topology = topology
        with self._lock:
            rules = list(self._rules.items())
        anew = [(found, rule(topology)) for found, rule in rules]

        def replace() -> None:
            for found, expression in anew:
                found.now = expression

        self._loop.change_site(replace, changed)


class FormulaSource(NamedTuple):
    """Where formulas of a microgrid are evaluated."""

    loop: SumLoop
    """Evaluates them."""

    found: FoundExpressions
    """What they follow from."""

    keeps: object
    """Must stay alive as long as somebody has a formula or receives one."""

    find_timezone: Callable[[], tzinfo | None] = lambda: None
    """Asks for the zone of the site, for pictures."""


class _Operand(Generic[Q, F]):
    """What formulas and their builders have in common: operators."""

    def __init__(
        self,
        trees: Sequence[Expression],
        unit: Unit[Q],
        source: FormulaSource,
        formula_class: type[F],
    ) -> None:
        self._trees = tuple(trees)
        self._unit = unit
        self._source = source
        self._formula_class = formula_class

    @property
    def expression(self) -> str:
        """The formula as text; ``#`` and an ID is what that component measures.

        That of three phases is the same for each of them.
        """
        return str(self._trees[0])

    def _with(self, trees: Sequence[Expression]) -> "FormulaBuilder[Q, F]":
        return FormulaBuilder(trees, self._unit, self._source, self._formula_class)

    def _node(self, other: Any) -> Sequence[Expression] | None:
        """Turn another formula or quantities into nodes; ``None`` if that makes no sense."""
        if isinstance(other, _Operand):
            fits = (
                other._formula_class is self._formula_class
                and other._unit == self._unit
                and other._source.loop is self._source.loop
            )
            return other._trees if fits else None
        count = len(self._trees)
        quantities = other if isinstance(other, tuple | list) else [other] * count
        if len(quantities) == count and all(type(q) is self._unit.quantity for q in quantities):
            return [Constant(quantity.base_value) for quantity in quantities]
        return None

    def _binary(self, operator: str, other: Any, *, swapped: bool = False) -> Any:
        nodes = self._node(other)
        if nodes is None:
            return NotImplemented
        left, right = (nodes, self._trees) if swapped else (self._trees, nodes)
        return self._with(
            [combined(operator, one, two) for one, two in zip(left, right, strict=True)]
        )

    def _scaled(self, operator: str, factor: Any) -> Any:
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            return NotImplemented
        try:
            number = Constant(float(factor))
        except OverflowError:
            raise ValueError("the number is too large to compute with") from None
        return self._with([combined(operator, tree, number) for tree in self._trees])

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

    def coalesce(self, *others: "_Operand[Q, F] | Q | Sequence[Q]") -> "FormulaBuilder[Q, F]":
        """Take the first of this and the others that has a value.

        Args:
            others: Formulas of the same kind, quantities, or a tuple of a quantity for each phase.

        Raises:
            TypeError: If one of them is anything else.
        """
        return self._joined("COALESCE", others)

    def min(self, *others: "_Operand[Q, F] | Q | Sequence[Q]") -> "FormulaBuilder[Q, F]":
        """Take the smallest of this and the others; no value if one of them has none.

        Args:
            others: As of `coalesce`.
        """
        return self._joined("MIN", others)

    def max(self, *others: "_Operand[Q, F] | Q | Sequence[Q]") -> "FormulaBuilder[Q, F]":
        """Take the largest of this and the others; no value if one of them has none.

        Args:
            others: As of `coalesce`.
        """
        return self._joined("MAX", others)

    def _joined(self, kind: str, others: Sequence[Any]) -> "FormulaBuilder[Q, F]":
        nodes = [self._trees]
        for other in others:
            node = self._node(other)
            if node is None:
                of_phases = f", {len(self._trees)} of them together" if self._trees[1:] else ""
                raise TypeError(
                    f"{kind.lower()}() takes formulas of the same kind and microgrid, and "
                    f"quantities of type {self._unit.quantity.__name__}{of_phases}, not {other!r}"
                )
            nodes.append(tuple(node))
        return self._with([joined(kind, parts) for parts in zip(*nodes, strict=True)])


class FormulaBuilder(_Operand[Q, F]):
    """Something computed with formulas that is not a formula yet: `build` makes it one."""

    def build(self, name: str) -> F:
        """Make a formula of it.

        Args:
            name: What its receivers call it.

        Returns:
            The formula; all of its parts are evaluated on the same window.
        """
        return self._formula_class(self._trees, self._unit, self._source, name)


class _Evaluation(Generic[S]):
    """A formula as the sum loop runs it: see `sum_loop.RunningFormula`."""

    def __init__(
        self,
        trees: Sequence[Expression],
        sample: Callable[[datetime, Sequence[float | None]], S],
        name: str,
        on_empty: Callable[[], None],
    ) -> None:
        """Make an evaluation that nobody receives.

        Args:
            trees: What to evaluate, one for each value of a sample.
            sample: Makes a sample of the values.
            name: What receivers and log lines call it.
            on_empty: Called when the last receiver has gone.
        """
        self.trees = trees
        self.name = name
        self.receivers: FanOut[S] = FanOut(name, on_empty=on_empty)
        self._sample = sample

    def publish(self, stamp: datetime, values: Sequence[float | None]) -> None:
        """Send a sample."""
        self.receivers.put(self._sample(stamp, values))

    def is_received(self) -> bool:
        """Tell whether somebody receives it."""
        return len(self.receivers) > 0

    def end(self) -> None:
        """Tell its readers that nothing more will come."""
        self.receivers.end()


class _Formula(_Operand[Q, F], Generic[Q, F, S]):
    """A formula of samples of one kind. Runs from its first receiver until its last one closes."""

    def __init__(
        self, trees: Sequence[Expression], unit: Unit[Q], source: FormulaSource, name: str
    ) -> None:
        super().__init__(trees, unit, source, type(self))  # type: ignore[arg-type] # F is this class
        self._name = name

        # What the loop holds must not keep this formula, and with it the microgrid, alive.
        make = self._make_sample

        def sample(stamp: datetime, values: Sequence[float | None]) -> S:
            # Not -0.0, which is written with its sign.
            found = [None if value is None else unit.create(value + 0.0) for value in values]
            return make(stamp, found)

        self._evaluation: _Evaluation[S] = _Evaluation(
            self._trees, sample, name, on_empty=source.loop.look_for_unneeded
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
        receiver.find_timezone = self._source.find_timezone
        self._source.loop.start(self._evaluation)
        return receiver

    def plot(self, *, duration: float | None = None, samples: int | None = None) -> "Figure":
        """Draw it over time, from now on: see `Receiver.plot`.

        Args:
            duration: For how many seconds; 30 unless this or ``samples`` is given.
            samples: For how many samples.

        Returns:
            The picture.

        Raises:
            ImportError: If matplotlib, of the extra ``notebook``, is not installed.
            TypeError: If an argument is of the wrong type.
            ValueError: If both amounts are given, or one is not more than 0.
            ReceiverStoppedError: If the microgrid has been closed.
        """
        from microgrid_sync.notebook.plots import Look, plot_new  # noqa: PLC0415 - an extra

        zone = self._source.find_timezone()
        return plot_new(self.new_receiver, Look(self._name), zone, duration, samples)

    @staticmethod
    def _make_sample(stamp: datetime, values: Sequence[Q | None]) -> S:
        raise NotImplementedError


class Formula(_Formula[Q, "Formula[Q]", Sample[Q]]):
    """A quantity computed from what components measure, once a resampling period.

    Formulas of one microgrid can be added, subtracted, multiplied and divided by numbers, and
    combined with `coalesce`, `min` and `max`; ``build(name)`` makes a formula of the result.
    """

    @staticmethod
    def _make_sample(stamp: datetime, values: Sequence[Q | None]) -> Sample[Q]:
        return Sample(stamp, *values)


class Formula3Phase(_Formula[Q, "Formula3Phase[Q]", Sample3Phase[Q]]):
    """A quantity of each of three phases; else like a `Formula`."""

    @staticmethod
    def _make_sample(stamp: datetime, values: Sequence[Q | None]) -> Sample3Phase[Q]:
        return Sample3Phase(stamp, *values)


MetricRule = Callable[[Topology, ComponentMetricId], Expression]
"""Finds the expression of a metric from the topology."""


def formula_of(
    rule: MetricRule, metric: ComponentMetricId, source: FormulaSource, name: str
) -> Formula[Any]:
    """Make a formula of a metric by a rule."""
    tree = source.found.find(lambda topology: rule(topology, metric))
    return Formula([tree], unit_of(metric), source, name)


def formula_of_phases(
    rule: MetricRule, metrics: Sequence[ComponentMetricId], source: FormulaSource, name: str
) -> Formula3Phase[Any]:
    """Make a formula of a metric of each phase by a rule."""

    def of(metric: ComponentMetricId) -> Expression:
        return source.found.find(lambda topology: rule(topology, metric))

    trees = [of(metric) for metric in metrics]
    return Formula3Phase(trees, unit_of(metrics[0]), source, name)
