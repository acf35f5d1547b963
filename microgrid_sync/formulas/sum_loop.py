"""Evaluates all formulas of a microgrid, once a period, in a worker thread."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from microgrid_sync.formulas.expression import Expression, Values
from microgrid_sync.formulas.window import METRICS, Window
from microgrid_sync.worker import ComponentReceivers, Subscribed, SubscribeInBackground, Worker

_KEEP_FALLBACK = 60.0
"""Seconds for which a fallback stays subscribed to after it was needed."""


class RunningFormula(Protocol):
    """A formula as the loop sees it."""

    @property
    def tree(self) -> Expression:
        """What it evaluates."""

    def is_received(self) -> bool:
        """Tell whether somebody receives it."""

    def publish(self, stamp: datetime, metrics: Sequence[Values], asked: set[int]) -> None:
        """Evaluate a window and send the result; add the components that were asked for."""

    def publish_nothing(self, stamp: datetime) -> None:
        """Send that there is no value."""

    def end(self) -> None:
        """Tell its readers that nothing more will come."""


@dataclass(frozen=True)
class _Start:
    """A message: evaluate this formula from now on."""

    formula: RunningFormula

    def discard(self) -> None:
        """Let go of it: nobody takes this message any more."""
        self.formula.end()


@dataclass(frozen=True)
class _LookForUnneeded:
    """A message: some formula may have lost its last receiver."""


class _Clock:
    """The ends of windows: full periods of the wall clock, which is read once, at the start."""

    def __init__(self, period: timedelta) -> None:
        self._period = period
        self._seconds = period.total_seconds()
        wall, mono = time.time(), time.monotonic()
        self._first = math.floor(wall / self._seconds)
        self._start = mono - (wall - self._first * self._seconds)
        self._window = 1

    @property
    def due(self) -> float:
        """The end of the window that is open, on the monotonic clock."""
        return self._start + self._window * self._seconds

    def close_window(self, now: float) -> datetime:
        """Open the next window; give the end of the one that has ended.

        Behind by whole windows, after the machine slept, those are left out: their time is over.
        """
        window = max(self._window, math.floor((now - self._start) / self._seconds))
        self._window = window + 1
        return datetime.fromtimestamp(0, UTC) + (self._first + window) * self._period


class SumLoop:
    """Drains the streams once a period, and evaluates every formula on what came.

    The microgrid owns it. Formulas are started from any thread; they run as long as somebody
    receives them. All below the worker is its thread's alone.
    """

    def __init__(self, subscribe: SubscribeInBackground, period: timedelta, site: str) -> None:
        """Make a loop without formulas.

        Args:
            subscribe: Subscribes to a component's data.
            period: The length of a window.
            site: What the thread's name calls the site.

        Raises:
            ValueError: If the period is not positive.
        """
        if period <= timedelta(0):
            raise ValueError(f"resampling_period must be positive, not {period}")
        self._period = period
        self.worker = Worker(f"microgrid-sum-loop {site}", work=self._work, end=self._end)
        self._receivers = ComponentReceivers(subscribe, self.worker.deliver)
        self._formulas: list[RunningFormula] = []
        self._windows: dict[int, Window] = {}
        self._asked_at: dict[int, float] = {}
        self._clock: _Clock | None = None

    def start(self, formula: RunningFormula) -> None:
        """Evaluate a formula from the next window on; one that is evaluated already stays so.

        Raises:
            ReceiverStoppedError: If the loop is closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.post(_Start(formula))

    def look_for_unneeded(self) -> None:
        """Stop formulas that nobody receives any more. From any thread; takes no lock."""
        self.worker.deliver(_LookForUnneeded())

    # The thread

    def _work(self, messages: list[Any], now: float) -> float:
        if self._clock is None:
            self._clock = _Clock(self._period)
        for message in messages:
            match message:
                case _Start(formula):
                    self._add(formula, now)
                case Subscribed():
                    self._receivers.arrived(message)
                case _LookForUnneeded():
                    self._drop_unneeded()
        # A defect in one window must not make the next one late, or be met twice.
        if now >= self._clock.due:
            self._close_window(self._clock.close_window(now), now)
        return self._clock.due

    def _add(self, formula: RunningFormula, now: float) -> None:
        if formula not in self._formulas:
            self._formulas.append(formula)
            primary: set[int] = set()
            # With a value for everything no fallback is asked.
            formula.tree.evaluate(_Everything(), primary)
            self._follow(primary, now)

    def _drop_unneeded(self) -> None:
        """Drop formulas without receivers, and let go what no other needs."""
        self._formulas = [formula for formula in self._formulas if formula.is_received()]
        needed = frozenset[int]().union(*(f.tree.components() for f in self._formulas))
        self._let_go(self._receivers.followed() - needed)

    def _let_go(self, components: set[int]) -> None:
        self._receivers.drop(components)
        for component_id in components:
            del self._windows[component_id], self._asked_at[component_id]

    def _follow(self, components: set[int], now: float) -> None:
        for component_id in components - self._receivers.followed():
            self._windows[component_id] = Window(now)
        for component_id in components:
            self._asked_at[component_id] = now
        self._receivers.follow(components, now)

    def _close_window(self, stamp: datetime, now: float) -> None:
        period = self._period.total_seconds()
        metrics: list[dict[int, float | None]] = [{} for _ in range(METRICS)]
        pending: set[int] = set()
        for component_id, window in self._windows.items():
            measured = window.close(self._receivers.take(component_id, now), now, period)
            for values, value in zip(metrics, measured, strict=True):
                values[component_id] = value
            if window.is_pending(now, period):
                pending.add(component_id)
        asked: set[int] = set()
        for formula in self._formulas:
            primary: set[int] = set()
            formula.tree.evaluate(_Everything(), primary)
            if primary & pending:
                # Too early to tell what is missing: a total without it would be wrong.
                formula.publish_nothing(stamp)
                asked |= primary
            else:
                formula.publish(stamp, metrics, asked)
        self._follow(asked, now)
        self._let_go({i for i, at in self._asked_at.items() if now - at > _KEEP_FALLBACK})

    def _end(self) -> None:
        self._receivers.close()
        for formula in self._formulas:
            formula.end()


class _Everything(dict[int, float | None]):
    """A value for every component."""

    def get(self, key: int, default: Any = None) -> float | None:
        """Give a value."""
        return 1.0
