"""The worker thread that evaluates all formulas of a microgrid, once a period."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.formulas.expression import Expression, Values
from microgrid_sync.formulas.window import METRICS, Window
from microgrid_sync.program_end import ends_with_program
from microgrid_sync.receiver import Receiver, ReceiverStoppedError, take_all

_KEEP_FALLBACK = 60.0
"""Seconds for which a fallback stays subscribed to after it was needed."""

_RESUBSCRIBE_AFTER = 10.0
"""Seconds between two attempts to subscribe again to a stream that has ended."""

_JOIN_TIMEOUT = 1.0

_logger = logging.getLogger(__name__)

Subscribe = Callable[[int], Receiver[Any]]
"""Subscribes to a component's data."""


class RunningFormula(Protocol):
    """A formula as the loop sees it."""

    @property
    def tree(self) -> Expression:
        """What it evaluates."""

    def publish(self, stamp: datetime, metrics: Sequence[Values], asked: set[int]) -> None:
        """Evaluate a window and send the result; add the components that were asked for."""

    def publish_nothing(self, stamp: datetime) -> None:
        """Send that there is no value."""

    def end(self) -> None:
        """Tell its readers that nothing more will come."""


class _Input:
    """A subscription of the loop. Used by its thread alone once it is known there."""

    def __init__(self, component_id: int, receiver: Receiver[Any], now: float) -> None:
        self.component_id = component_id
        self.receiver = receiver
        self.window = Window(now)
        self.asked_at = now
        self.subscribed_at = now


class SumLoop:
    """Drains the streams once a period, and evaluates every running formula on what came.

    The microgrid owns it. Formulas are started and stopped from any thread; the thread starts
    with the first of them and lives until `close`.
    """

    def __init__(self, subscribe: Subscribe, period: timedelta) -> None:
        """Make a loop without formulas.

        Args:
            subscribe: Subscribes to a component's data.
            period: The length of a window.

        Raises:
            ValueError: If the period is not positive.
        """
        if period <= timedelta(0):
            raise ValueError(f"resampling_period must be positive, not {period}")
        self._subscribe = subscribe
        self._period = period
        # Protects all below; notified when something starts or the loop is closed. Re-entrant, so
        # that a signal handler may close. Neither subscribing nor publishing is done under it.
        self._changed = threading.Condition(threading.RLock())
        self._formulas: list[RunningFormula] = []
        self._inputs: dict[int, _Input] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self, formula: RunningFormula) -> None:
        """Evaluate a formula from the next window on.

        Raises:
            ReceiverStoppedError: If the loop is closed.
            ApiClientError: If a component cannot be subscribed to.
        """
        if self._closed:
            raise ReceiverStoppedError("the microgrid has been closed")
        primary: set[int] = set()
        # With a value for everything no fallback is asked.
        formula.tree.evaluate(_Everything(), primary)
        self._require(primary)
        with self._changed:
            if self._closed:
                raise ReceiverStoppedError("the microgrid has been closed")
            self._formulas.append(formula)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="microgrid-sum-loop", daemon=True
                )
                self._thread.start()
                ends_with_program(self)
            self._changed.notify_all()

    def stop(self, formula: RunningFormula) -> None:
        """Evaluate a formula no more; let go what no other needs."""
        with self._changed:
            if formula not in self._formulas:
                return
            self._formulas.remove(formula)
            needed = frozenset[int]().union(*(f.tree.components() for f in self._formulas))
            unneeded = [self._inputs.pop(i) for i in set(self._inputs) - needed]
        for source in unneeded:
            source.receiver.close()

    def close(self) -> None:
        """End all formulas and the thread. Any thread, any number of times."""
        with self._changed:
            self._closed = True
            formulas, self._formulas = self._formulas, []
            inputs, self._inputs = self._inputs, {}
            thread = self._thread
            self._changed.notify_all()
        for source in inputs.values():
            source.receiver.close()
        for formula in formulas:
            formula.end()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_TIMEOUT)

    def at_main_thread_end(self) -> None:
        """See `EndsWithProgram.at_main_thread_end`."""
        self.close()

    at_exit = at_main_thread_end

    def _require(self, components: set[int]) -> None:
        """Subscribe to what is not subscribed to."""
        with self._changed:
            new = components - set(self._inputs)
        for component_id in new:
            source = _Input(component_id, self._subscribe(component_id), time.monotonic())
            with self._changed:
                kept = None if self._closed else self._inputs.setdefault(component_id, source)
            if kept is not source:
                source.receiver.close()

    # The thread

    def _run(self) -> None:
        period = self._period.total_seconds()
        # Aligned once: afterwards only the monotonic clock counts.
        wall, mono = time.time(), time.monotonic()
        number = math.floor(wall / period)
        start = mono - (wall - number * period)
        epoch = datetime.fromtimestamp(0, UTC)
        window = 0
        while True:
            window += 1
            with self._changed:
                while (
                    not self._closed and (pause := start + window * period - time.monotonic()) > 0
                ):
                    self._changed.wait(pause)
                if self._closed:
                    return
            now = time.monotonic()
            # Behind by whole windows, after the machine slept: their time is over.
            window = max(window, math.floor((now - start) / period))
            stamp = epoch + (number + window) * self._period
            try:
                self._close_window(stamp, now, period)
            except Exception:
                # A defect of ours must not end all totals for good.
                _logger.exception("The window that ended at %s failed", stamp)

    def _close_window(self, stamp: datetime, now: float, period: float) -> None:
        with self._changed:
            formulas = list(self._formulas)
            inputs = list(self._inputs.values())
        metrics: list[dict[int, float | None]] = [{} for _ in range(METRICS)]
        pending: set[int] = set()
        for source in inputs:
            data = take_all(source.receiver)
            if data is None:
                self._subscribe_again(source, now)
            measured = source.window.close(data or (), now, period)
            for values, value in zip(metrics, measured, strict=True):
                values[source.component_id] = value
            if source.window.is_pending(now, period):
                pending.add(source.component_id)
        asked: set[int] = set()
        for formula in formulas:
            primary: set[int] = set()
            formula.tree.evaluate(_Everything(), primary)
            if primary & pending:
                # Too early to tell what is missing: a total without it would be wrong.
                formula.publish_nothing(stamp)
                asked |= primary
            else:
                formula.publish(stamp, metrics, asked)
        self._follow(asked, now)

    def _follow(self, asked: set[int], now: float) -> None:
        """Subscribe to what was asked for, let go what has not been for a while."""
        with self._changed:
            for source in self._inputs.values():
                if source.component_id in asked:
                    source.asked_at = now
            stale = [s for s in self._inputs.values() if now - s.asked_at > _KEEP_FALLBACK]
            for source in stale:
                del self._inputs[source.component_id]
        for source in stale:
            source.receiver.close()
        for component_id in asked:
            # One by one: some categories have no data, and must not keep the others from it.
            try:
                self._require({component_id})
            except (ApiClientError, ValueError, RuntimeError) as error:
                _logger.debug("Component %s has no data: %s", component_id, error)

    def _subscribe_again(self, source: _Input, now: float) -> None:
        if now - source.subscribed_at < _RESUBSCRIBE_AFTER:
            return
        source.subscribed_at = now
        try:
            source.receiver = self._subscribe(source.component_id)
        except (ApiClientError, ValueError, RuntimeError) as error:
            _logger.debug("Component %s cannot be subscribed to: %s", source.component_id, error)


class _Everything(dict[int, float | None]):
    """A value for every component."""

    def get(self, key: int, default: Any = None) -> float | None:
        """Give a value."""
        return 1.0
