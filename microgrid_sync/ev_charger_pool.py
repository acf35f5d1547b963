"""Offers EV charger pools: what chargers draw together, what they could, and what they may."""

import math
import weakref
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from frequenz.quantities import Current, Power

from microgrid_sync.formulas.charger import charger_formula
from microgrid_sync.formulas.expression import Expression
from microgrid_sync.formulas.formula import (
    Formula,
    Formula3Phase,
    FormulaSource,
    formula_of,
    formula_of_phases,
)
from microgrid_sync.formulas.metrics import CURRENTS
from microgrid_sync.model import ComponentCategory, ComponentId, ComponentMetricId
from microgrid_sync.model.bounds import Bounds
from microgrid_sync.power.control_loop import ControlLoop
from microgrid_sync.power.proposals import Proposal, Range
from microgrid_sync.power.results import Result
from microgrid_sync.power.status import ChargerReport
from microgrid_sync.receiver import (
    RECEIVER_MAX_SIZE,
    Receiver,
    ReceiverFetcher,
    ReceiverStoppedError,
    check_maxsize,
)
from microgrid_sync.timeseries import SystemBounds
from microgrid_sync.topology import Topology

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

_NO_BOUNDS: Bounds[Power | None] = Bounds(None, None)


class EVChargerPoolError(Exception):
    """Something was proposed to a pool that EV chargers cannot do."""


class EVChargerPoolReport(Protocol):
    """What a pool is told of the distribution of power to its chargers."""

    @property
    def target_power(self) -> Power | None:
        """The power that is being distributed; ``None`` without proposals."""

    @property
    def bounds(self) -> Bounds[Power] | None:
        """What proposals of a higher priority than the pool's leave to it.

        Zero if no charger can be used, ``None`` before anything has been heard of one.
        """

    @property
    def distribution_result(self) -> Result | None:
        """The last result for these chargers."""

    @property
    def chargers(self) -> Mapping[ComponentId, ChargerReport]:
        """What each of the chargers has, and why, by ID."""


class _Fetcher(Generic[T]):
    """A `ReceiverFetcher` made of a function."""

    def __init__(self, name: str, subscribe: Callable[[int], Receiver[T]]) -> None:
        self._name = name
        self._subscribe = subscribe

    def __repr__(self) -> str:
        """Say what to do with it."""
        return f"<{self._name}; new_receiver() receives it>"

    def new_receiver(self, *, maxsize: int = RECEIVER_MAX_SIZE) -> Receiver[T]:
        """See `ReceiverFetcher.new_receiver`."""
        check_maxsize(maxsize)
        return self._subscribe(maxsize)


class EVChargerPool:
    """Some EV chargers of a microgrid, as one.

    Made by `Microgrid.new_ev_charger_pool`. May be used from any thread. Signs follow the passive
    convention: positive is consumption.
    """

    def __init__(
        self,
        chargers: frozenset[int] | None,
        *,
        priority: int,
        name: str,
        formulas: FormulaSource,
        control_loop: ControlLoop,
    ) -> None:
        """Make a pool; see `Microgrid.new_ev_charger_pool`.

        Args:
            chargers: The IDs of its chargers; ``None`` for every one that there is.
            priority: How important its proposals are.
            name: What receivers and log lines call it.
            formulas: Where formulas are evaluated.
            control_loop: What commands the chargers.
        """
        self._chargers = chargers
        self._priority = priority
        self._name = name
        self._control_loop = control_loop
        # What must stay alive as long as this pool does.
        self._keeps = formulas.keeps
        # What the loop knows this pool by: not the pool, which it must not keep alive.
        self._key = object()
        weakref.finalize(self, control_loop.pool_gone, self._key).atexit = False
        known = self._known_chargers()

        def rule(topology: Topology, metric: ComponentMetricId) -> Expression:
            of_pool = known
            if chargers is None:
                of_pool |= topology.ids(ComponentCategory.EV_CHARGER)
            return charger_formula(topology, of_pool, metric)

        self._power: Formula[Power] = formula_of(
            rule, ComponentMetricId.ACTIVE_POWER, formulas, f"the power of {name}"
        )
        self._current: Formula3Phase[Current] = formula_of_phases(
            rule, CURRENTS, formulas, f"the current of {name}"
        )

    def __repr__(self) -> str:
        """Name it."""
        closed = ", closed" if self._control_loop.worker.is_closing else ""
        return f"<EVChargerPool {self._name}, priority {self._priority}{closed}>"

    @property
    def component_ids(self) -> Set[ComponentId]:
        """The IDs of the chargers; a pool of every charger takes new ones when they come."""
        return frozenset(ComponentId(charger) for charger in self._known_chargers())

    def _known_chargers(self) -> frozenset[int]:
        return self._control_loop.every if self._chargers is None else self._chargers

    @property
    def power(self) -> Formula[Power]:
        """The active power of all chargers together."""
        return self._power

    @property
    def current_per_phase(self) -> Formula3Phase[Current]:
        """The current of all chargers together, for each phase."""
        return self._current

    @property
    def system_power_bounds(self) -> ReceiverFetcher[SystemBounds]:
        """The sums of the bounds of the chargers that can be used, whenever they change."""
        return self._fetcher("bounds")

    @property
    def power_status(self) -> ReceiverFetcher[EVChargerPoolReport]:
        """What the pool needs to know to propose power, whenever it changes."""
        return self._fetcher("reports")

    def _fetcher(self, what: str) -> ReceiverFetcher[Any]:
        return _Fetcher(f"{what} of {self._name}", lambda maxsize: self._receive(what, maxsize))

    def _receive(self, what: str, maxsize: int) -> Receiver[Any]:
        return self._control_loop.subscribe(
            self._chargers, what, maxsize, priority=self._priority, keeps=self._keeps
        )

    @property
    def power_distribution_results(self) -> ReceiverFetcher[Result]:
        """The results of the distribution of power to these chargers."""
        return self._fetcher("results")

    def plot(self, *, duration: float | None = None, samples: int | None = None) -> "Figure":
        """Draw the power of all chargers together over time, from now on: see `Formula.plot`."""
        return self._power.plot(duration=duration, samples=samples)

    def _repr_html_(self) -> str:
        from microgrid_sync.notebook.html import html_of  # noqa: PLC0415 - only notebooks need it

        return html_of(self)

    def propose_power(self, power: Power | None, bounds: Bounds[Power | None] = _NO_BOUNDS) -> None:
        """Propose how much the chargers may draw together.

        Each pool holds one proposal; a new one takes the place of the old. It lapses after 60 s
        (`ChargingConfig.proposal_lifetime`) unless it is renewed by proposing again.

        Args:
            power: The power that the pool prefers; cars may draw less. ``None`` for no preference.
            bounds: What pools of a lower priority may use; an end that is ``None`` is open. Without
                a preferred power and bounds the proposal is withdrawn, as by `stop`.

        Raises:
            TypeError: If the power or a bound is not a power, such as a number of watts.
            EVChargerPoolError: If the power is negative: chargers do not discharge cars.
            ValueError: If the power or a bound is not finite, the bounds are upside down or
                wholly negative, or another proposal is for some, but not all, of these chargers.
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off after the client had connected.
        """
        _require_power("power", power)
        watts = None if power is None else power.as_watts()
        if watts is not None and not math.isfinite(watts):
            raise ValueError(f"power must be finite, not {power}")
        if watts is not None and watts < 0:
            raise EVChargerPoolError(f"power must be 0 W or more, not {power}: no discharging")
        limits = _checked(bounds)
        if watts is None and bounds.lower is None and bounds.upper is None:
            self.stop()
            return
        proposal = Proposal(self._priority, watts, limits)
        self._control_loop.propose(self._key, self._chargers, proposal)

    def stop(self) -> None:
        """Withdraw the pool's proposal. After the last one the chargers may draw what they can.

        After the microgrid has been closed nothing happens.

        Raises:
            RuntimeError: In a child that was forked off after the client had connected.
        """
        try:
            self._control_loop.withdraw(self._key)
        except ReceiverStoppedError:
            return


def is_being_released(pool: EVChargerPool) -> bool:
    """Tell whether the server does not have all yet that releases a pool's chargers."""
    return pool._control_loop.is_releasing(frozenset(pool.component_ids))


def _require_power(name: str, value: object) -> None:
    if value is not None and not isinstance(value, Power):
        raise TypeError(f"{name} must be a Power, such as Power.from_watts(5000), not {value!r}")


def _checked(bounds: Bounds[Power | None]) -> Range:
    if not isinstance(bounds, Bounds):
        raise TypeError(f"bounds must be Bounds, such as Bounds(None, power), not {bounds!r}")
    _require_power("the lower bound", bounds.lower)
    _require_power("the upper bound", bounds.upper)
    lower = -math.inf if bounds.lower is None else bounds.lower.as_watts()
    upper = math.inf if bounds.upper is None else bounds.upper.as_watts()
    for name, bound, watts in (("lower", bounds.lower, lower), ("upper", bounds.upper, upper)):
        if bound is not None and not math.isfinite(watts):
            raise ValueError(f"the {name} bound must be finite, not {bound}")
    if lower > upper:
        raise ValueError(
            f"the lower bound must not be above the upper one: {bounds.lower} to {bounds.upper}"
        )
    if upper < 0:
        raise ValueError(f"the upper bound must be 0 W or more, not {bounds.upper}")
    return Range(lower, upper)
