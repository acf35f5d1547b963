"""Evaluates all formulas of a microgrid, once a period, in a worker thread."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from microgrid_sync.formulas.expression import Expression, Inputs, Key
from microgrid_sync.formulas.window import Resampling, Window
from microgrid_sync.worker import ComponentReceivers, Subscribed, SubscribeInBackground, Worker

_KEEP_FALLBACK = 60.0
"""Seconds for which a fallback stays subscribed to after it was needed."""

_SETTLE = (0.01, 0.02)
"""Seconds for which a window that is due waits for values that are just coming, one pause after the
other as long as some do. What components measure at one instant comes together, and is to be in one
window: else a sum would be wrong by what changed between two instants."""

_LEFT_OUT_WINDOWS = 3
"""So many windows in a row a component is left out before the log says so."""

_LEFT_OUT_INTERVAL = 60.0
"""Seconds between two lines about what one formula leaves out."""

_logger = logging.getLogger(__name__)


class RunningFormula(Protocol):
    """A formula as the loop sees it."""

    @property
    def name(self) -> str:
        """What log lines call it."""

    @property
    def trees(self) -> Sequence[Expression]:
        """What it evaluates, one for each value of a sample."""

    def is_received(self) -> bool:
        """Tell whether somebody receives it."""

    def publish(self, stamp: datetime, values: Sequence[float | None]) -> None:
        """Send a sample."""

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


@dataclass(frozen=True)
class _Change:
    """A message: the site has changed."""

    change: Callable[[], None]
    changed: frozenset[int]


@dataclass
class _Running:
    """What is remembered of a formula that runs."""

    formula: RunningFormula
    primary: frozenset[int] = frozenset()
    """What it asks for as long as nothing is missing."""

    left_out: dict[int, int] = field(default_factory=dict)
    """For how many windows components have been left out."""

    told_at: float = -math.inf
    """When the log was told of one."""


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

    def __init__(
        self,
        subscribe: SubscribeInBackground,
        period: timedelta,
        site: str,
        resampling: Resampling = Resampling(),  # noqa: B008 - frozen
        *,
        look: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Make a loop without formulas.

        Args:
            subscribe: Subscribes to a component's data.
            period: The length of a window.
            site: What the thread's name calls the site.
            resampling: How the values of a window become one.
            look: Called at the end of each window with the time; must not wait.

        Raises:
            ValueError: If the period is not positive.
        """
        if period <= timedelta(0):
            raise ValueError(f"resampling_period must be positive, not {period}")
        self._period = period
        self._look_at_site = look
        self._site = site
        self._resampling = resampling
        self.worker = Worker(f"microgrid-sum-loop {site}", work=self._work, end=self._end)
        self._receivers = ComponentReceivers(subscribe, self.worker.deliver)
        self._running: dict[RunningFormula, _Running] = {}
        self._windows: dict[int, Window] = {}
        self._asked_at: dict[int, float] = {}
        self._clock: _Clock | None = None
        self._settling = 0

    def start(self, formula: RunningFormula) -> None:
        """Evaluate a formula from the next window on; one that is evaluated already stays so.

        Raises:
            ReceiverStoppedError: If the loop is closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.post(_Start(formula))

    def run(self) -> None:
        """Run from now on, formulas or not: somebody wants to know of changes of the site.

        Raises:
            ReceiverStoppedError: If the loop is closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.post(_LookForUnneeded())

    def look_for_unneeded(self) -> None:
        """Stop formulas that nobody receives any more. From any thread; takes no lock."""
        self.worker.deliver(_LookForUnneeded())

    def change_site(self, change: Callable[[], None], changed: frozenset[int]) -> None:
        """Change what formulas are, between two windows. From any thread; does not wait.

        Args:
            change: Changes the expressions.
            changed: The components that are gone, or are something else now.
        """
        if self.worker.has_started:
            self.worker.deliver(_Change(change, changed))
        else:
            change()

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
                case _Change():
                    self._change(message, now)
        # Once for all who say so: a thousand receivers may close at once.
        if any(isinstance(message, _LookForUnneeded) for message in messages):
            self._drop_unneeded()
        if now < self._clock.due:
            return self._clock.due
        if self._take_data(now) and self._settling < len(_SETTLE):
            pause = min(_SETTLE[self._settling], self._period.total_seconds() / 10)
            self._settling += 1
            return now + pause
        self._settling = 0
        self._look_at_site(now)
        # A defect in one window must not make the next one late, or be met twice.
        self._close_window(self._clock.close_window(now), now)
        return self._clock.due

    def _add(self, formula: RunningFormula, now: float) -> None:
        if formula not in self._running:
            running = _Running(formula, _primary(formula))
            self._running[formula] = running
            self._follow(running.primary, now)

    def _drop_unneeded(self) -> None:
        """Drop formulas without receivers, and let go what no other needs."""
        unneeded = [formula for formula in self._running if not formula.is_received()]
        if not unneeded:
            return
        for formula in unneeded:
            del self._running[formula]
        self._let_go(self._receivers.followed() - self._needed())

    def _needed(self) -> set[int]:
        return {i for formula in self._running for tree in formula.trees for i in tree.components()}

    def _change(self, message: _Change, now: float) -> None:
        message.change()
        self._let_go(self._receivers.followed() & message.changed)
        self._let_go(self._receivers.followed() - self._needed())
        for running in self._running.values():
            running.primary = _primary(running.formula)
            self._follow(running.primary, now)

    def _let_go(self, components: set[int]) -> None:
        self._receivers.drop(components)
        for component_id in components:
            del self._windows[component_id], self._asked_at[component_id]

    def _follow(self, components: set[int] | frozenset[int], now: float) -> None:
        for component_id in components - self._receivers.followed():
            self._windows[component_id] = Window(now, self._resampling)
        for component_id in components:
            self._asked_at[component_id] = now
        self._receivers.follow(components, now)

    def _take_data(self, now: float) -> bool:
        """Take what has come; tell whether anything has."""
        some = False
        for component_id, window in self._windows.items():
            data = self._receivers.take(component_id, now)
            if data:
                window.add(data)
                some = True
        return some

    def _close_window(self, stamp: datetime, now: float) -> None:
        period = self._period.total_seconds()
        pending: set[int] = set()
        for component_id, window in self._windows.items():
            window.close(now, period)
            if window.is_pending(now, period) and not self._receivers.has_failed(component_id):
                pending.add(component_id)
        values = _Measured(self._windows)
        asked: set[int] = set()
        followed = self._windows.keys()
        for formula, running in self._running.items():
            if not running.primary.isdisjoint(pending):
                # Too early to tell what is missing: a total without it would be wrong.
                formula.publish(stamp, [None] * len(formula.trees))
                asked |= running.primary
                continue
            inputs = Inputs(values)
            results = [tree.evaluate(inputs) for tree in formula.trees]
            asked |= inputs.asked
            if inputs.left_out and not inputs.asked.isdisjoint(pending | asked - followed):
                # Whoever can stand in has just been asked.
                results = [None] * len(results)
            formula.publish(stamp, results)
            if inputs.left_out or running.left_out:
                self._note_left_out(running, inputs.left_out, now)
        self._follow(asked, now)
        self._let_go({i for i, at in self._asked_at.items() if now - at > _KEEP_FALLBACK})

    def _note_left_out(self, running: _Running, left_out: set[int], now: float) -> None:
        """Tell the log once of components that a formula goes on without."""
        running.left_out = {i: running.left_out.get(i, 0) + 1 for i in left_out}
        lasting = [i for i, windows in running.left_out.items() if windows >= _LEFT_OUT_WINDOWS]
        news = any(running.left_out[i] == _LEFT_OUT_WINDOWS for i in lasting)
        if news and now - running.told_at >= _LEFT_OUT_INTERVAL:
            running.told_at = now
            _logger.warning(
                "%s: %s goes on without components %s, of which nothing usable comes",
                self._site,
                running.formula.name,
                ", ".join(str(i) for i in sorted(lasting)),
            )

    def _end(self) -> None:
        self._receivers.close()
        for formula in self._running:
            formula.end()


def _primary(formula: RunningFormula) -> frozenset[int]:
    """Find what a formula asks for if there is a value for everything: no fallback."""
    inputs = Inputs(_Everything())
    for tree in formula.trees:
        tree.evaluate(inputs)
    return frozenset(inputs.asked)


class _Everything:
    """A value for every component."""

    def get(self, _: Key, /) -> float | None:
        """Give a value."""
        return 1.0


class _Measured:
    """What components measured in the window that was closed last; found when it is asked for."""

    def __init__(self, windows: dict[int, Window]) -> None:
        self._windows = windows

    def get(self, key: Key, /) -> float | None:
        """Give the value of a component's metric."""
        window = self._windows.get(key[0])
        return None if window is None else window.value(key[1])
