"""The worker thread that carries data, proposals and set-points between their owners."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from frequenz.quantities import Power

from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.fan_out import FanOut
from microgrid_sync.model import EVChargerData, MeterData
from microgrid_sync.model.data import PerPhase
from microgrid_sync.power.charger_book import ChargerBook
from microgrid_sync.power.charger_set import ChargerSet, PowerReport
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.proposals import Proposal, System
from microgrid_sync.power.results import Result
from microgrid_sync.power.voltage import is_complete, sum_of_phases
from microgrid_sync.program_end import ends_with_program
from microgrid_sync.receiver import Receiver, ReceiverStoppedError, take_all
from microgrid_sync.timeseries import Bounds, SystemBounds
from microgrid_sync.topology import Topology

SET_POINT_TIMEOUT = 5.0
"""Seconds for a set-point's confirmation."""

_INTERVAL = 1.0
"""Seconds between two looks at everything, if nothing happens before."""

_RESUBSCRIBE_AFTER = 10.0
_JOIN_TIMEOUT = 1.0
_RELEASE_TIMEOUT = 1.0

ChargerIds = frozenset[int]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    """A proposal, and when it was made."""

    chargers: ChargerIds
    proposal: Proposal
    made_at: float


class _Output:
    """The newest of something that is published when it changes."""

    def __init__(self, name: str) -> None:
        # Serializes publishing and subscribing: nobody gets an older value after a newer one, or
        # misses one. Receivers' locks are taken inside it.
        self._lock = threading.RLock()
        self.receivers: FanOut[Any] = FanOut(name)
        self.newest: Any = None

    def publish(self, value: Any, compared: Any) -> None:
        """Publish a value, unless it compares equal to the newest."""
        with self._lock:
            if self.newest is None or self.newest[1] != compared:
                self.newest = (value, compared)
                self.receivers.put(value)

    def subscribe(self, maxsize: int) -> Receiver[Any]:
        """Make a receiver, which gets the newest value at once."""
        with self._lock:
            return self.receivers.subscribe(maxsize, first=self.newest and self.newest[0])


class _Watched:
    """A set of chargers that somebody has a pool of, with what is published of it."""

    def __init__(self, chargers: ChargerSet, name: str) -> None:
        self.chargers = chargers
        self.fallback = False
        self.bounds = _Output(f"the bounds of {name}")
        self.results = _Output(f"the results of {name}")
        self.reports: dict[int, _Output] = {}


class ControlLoop:
    """Keeps the chargers of a microgrid at what its pools propose.

    The microgrid owns it. Proposals come from any thread; the thread starts with the first pool
    that proposes or watches, and lives until `close`.
    """

    def __init__(
        self, client: MicrogridApiClient, topology: Topology, config: ChargingConfig
    ) -> None:
        """Make a loop without pools.

        Args:
            client: Gives data and takes set-points.
            topology: The microgrid.
            config: The settings.
        """
        self._client = client
        self._topology = topology
        self._config = config
        self._lifetime = config.proposal_lifetime.total_seconds()
        # Protects all down to the next blank line; notified when there is something to do.
        # Re-entrant, so that a signal handler may close. Nothing of the client, and no receiver,
        # is called under it.
        self._changed = threading.Condition(threading.RLock())
        self._proposals: dict[object, _Held] = {}
        self._withdrawn: list[ChargerIds] = []
        self._lapsed: set[object] = set()
        self._watched: dict[ChargerIds, _Watched] = {}
        self._data: dict[int, Receiver[EVChargerData]] = {}
        self._woken = False
        self._closed = False
        self._thread: threading.Thread | None = None

        # Filled by gRPC's threads, emptied by ours.
        self._outcomes: deque[tuple[ChargerIds, int, int, ApiClientError | None]] = deque()
        # The thread's alone.
        self._books: dict[int, ChargerBook] = {}
        self._main_meter: Receiver[MeterData] | None = None
        self._subscribed_at: dict[int, float] = {}
        self._warned_of_voltage = False

    # From any thread

    def propose(self, pool: object, chargers: ChargerIds, proposal: Proposal) -> None:
        """Make or renew the one proposal of a pool.

        Raises:
            ValueError: If it is for some, but not all, of the chargers of another proposal.
            ReceiverStoppedError: If the microgrid has been closed.
            ApiClientError: If a charger cannot be subscribed to.
        """
        self._watch(chargers)
        now = time.monotonic()
        with self._changed:
            for other, held in self._proposals.items():
                shared = held.chargers & chargers
                alive = now - held.made_at < self._lifetime
                if other is not pool and alive and shared and held.chargers != chargers:
                    raise ValueError(
                        f"chargers {_listed(shared)} have a proposal in another set, "
                        f"{_listed(held.chargers)}; proposed sets must be equal or apart"
                    )
            self._proposals[pool] = _Held(chargers, proposal, now)
            self._lapsed.discard(pool)
            self._wake()

    def withdraw(self, pool: object, chargers: ChargerIds) -> None:
        """Drop a pool's proposal, if it has one; after the last one, release the chargers.

        One that has lapsed counts, too: the chargers may still be held by it.
        """
        now = time.monotonic()
        with self._changed:
            held = self._proposals.pop(pool, None)
            if held is None and pool not in self._lapsed:
                return
            self._lapsed.discard(pool)
            if not any(
                other.chargers == chargers and now - other.made_at < self._lifetime
                for other in self._proposals.values()
            ):
                self._withdrawn.append(chargers)
            self._wake()

    def system_bounds(self, chargers: ChargerIds, maxsize: int) -> Receiver[SystemBounds]:
        """Receive the sums of the bounds of the usable chargers, when they change."""
        return self._watch(chargers).bounds.subscribe(maxsize)

    def results(self, chargers: ChargerIds, maxsize: int) -> Receiver[Result]:
        """Receive the results of distributions."""
        return self._watch(chargers).results.subscribe(maxsize)

    def reports(self, chargers: ChargerIds, priority: int, maxsize: int) -> Receiver[PowerReport]:
        """Receive what a pool of some priority needs to know, when it changes."""
        watched = self._watch(chargers)
        with self._changed:
            name = f"the power status of chargers {_listed(chargers)}, priority {priority}"
            output = watched.reports.setdefault(priority, _Output(name))
            self._wake()
        return output.subscribe(maxsize)

    def close(self) -> None:
        """End the thread and all receivers. Any thread, any number of times.

        Nothing is sent, but for what has been withdrawn already: that is waited for, for a second.
        """
        with self._changed:
            if self._thread is not None and self._thread is not threading.current_thread():
                self._changed.wait_for(self._is_idle, _RELEASE_TIMEOUT)
            self._closed = True
            data, self._data = self._data, {}
            thread = self._thread
            watched = list(self._watched.values())
            self._changed.notify_all()
        for receiver in data.values():
            receiver.close()
        for one in watched:
            for output in (one.bounds, one.results, *one.reports.values()):
                output.receivers.end()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_TIMEOUT)

    def _is_idle(self) -> bool:
        return self._closed or not (
            self._withdrawn
            or any(one.chargers.is_being_released() for one in self._watched.values())
        )

    def at_main_thread_end(self) -> None:
        """See `EndsWithProgram.at_main_thread_end`."""
        self.close()

    at_exit = at_main_thread_end

    def _watch(self, chargers: ChargerIds) -> _Watched:
        """Follow the data of some chargers; start the thread if it is the first time."""
        with self._changed:
            if self._closed:
                raise ReceiverStoppedError("the microgrid has been closed")
            missing = chargers - set(self._data)
        for charger in missing:
            receiver = self._client.ev_charger_data(charger)
            with self._changed:
                kept = None if self._closed else self._data.setdefault(charger, receiver)
            if kept is not receiver:
                receiver.close()
        with self._changed:
            if self._closed:
                raise ReceiverStoppedError("the microgrid has been closed")
            watched = self._watched.get(chargers)
            if watched is None:
                books = [self._books.setdefault(c, ChargerBook(c)) for c in sorted(chargers)]
                name = f"chargers {_listed(chargers)}"
                watched = _Watched(ChargerSet(books, self._config), name)
                self._watched[chargers] = watched
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="microgrid-control-loop", daemon=True
                )
                self._thread.start()
                ends_with_program(self)
            self._wake()
        return watched

    def _wake(self) -> None:
        self._woken = True
        self._changed.notify_all()

    # The thread

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                while not self._closed and not self._woken:
                    pause = due - time.monotonic()
                    if pause <= 0:
                        break
                    self._changed.wait(pause)
                if self._closed:
                    return
                self._woken = False
            if time.monotonic() >= due:
                due = time.monotonic() + _INTERVAL
            try:
                self._look()
            except Exception:
                # A defect of ours must not leave the chargers alone for good.
                _logger.exception("The control loop failed; it goes on")

    def _look(self) -> None:
        """Take in what has happened, and do what follows from it."""
        now = time.monotonic()
        self._take_outcomes(now)
        self._take_data(now)
        voltages = self._voltages()
        with self._changed:
            alive = self._alive(now)
            withdrawn, watched = list(self._withdrawn), dict(self._watched)
        taken: frozenset[int] = frozenset().union(*(held.chargers for held in alive))
        for chargers, one in watched.items():
            proposals = [held.proposal for held in alive if held.chargers == chargers]
            if proposals:
                one.fallback = False
            elif chargers in withdrawn:
                one.fallback = False
                one.chargers.release()
            elif chargers & taken:
                # Somebody else commands some of them now.
                one.fallback = False
            if one.fallback and self._config.fallback_power is not None:
                watts = self._config.fallback_power.as_watts()
                proposals = [Proposal(priority=0, power=watts)]
            commands = one.chargers.step(proposals, voltages, now, taken)
            self._command(chargers, one, commands, now)
            self._publish(one, [held.proposal for held in alive if held.chargers == chargers], now)
        with self._changed:
            del self._withdrawn[: len(withdrawn)]
            # For who waits until the chargers are released.
            self._changed.notify_all()

    def _alive(self, now: float) -> list[_Held]:
        """Drop proposals that have lapsed; remember where that leaves a set without any."""
        lapsed = [
            pool for pool, held in self._proposals.items() if now - held.made_at >= self._lifetime
        ]
        self._lapsed.update(lapsed)
        gone = {self._proposals.pop(pool).chargers for pool in lapsed}
        alive = list(self._proposals.values())
        for chargers in gone - {held.chargers for held in alive}:
            self._watched[chargers].fallback = True
            _logger.warning("All proposals for chargers %s have lapsed", _listed(chargers))
        return alive

    def _take_outcomes(self, now: float) -> None:
        while self._outcomes:
            chargers, charger, attempt, error = self._outcomes.popleft()
            with self._changed:
                watched = self._watched[chargers]
            newest = watched.chargers.done(charger, attempt, now, failed=error is not None)
            if newest and error is not None:
                first = self._books[charger].health.failures == 1
                level = logging.WARNING if first else logging.DEBUG
                _logger.log(level, "Charger %s: a set-point has failed: %s", charger, error)

    def _take_data(self, now: float) -> None:
        with self._changed:
            receivers = list(self._data.items())
        for charger, receiver in receivers:
            values = take_all(receiver)
            if values is None:
                self._subscribe_again(charger, now)
            for value in values or ():
                self._books[charger].hear(value, now)

    def _subscribe_again(self, charger: int, now: float) -> None:
        """Follow a charger whose stream has ended for good, or whose client was disconnected."""
        if now - self._subscribed_at.get(charger, -math.inf) < _RESUBSCRIBE_AFTER:
            return
        self._subscribed_at[charger] = now
        try:
            fresh = self._client.ev_charger_data(charger)
        except (ApiClientError, ValueError, RuntimeError) as error:
            _logger.debug("Charger %s cannot be subscribed to: %s", charger, error)
            return
        with self._changed:
            if not self._closed:
                self._data[charger] = fresh

    def _voltages(self) -> dict[int, float]:
        """Find the sum of the phase voltages at each charger, if it is known."""
        chargers = [book.data for book in self._books.values() if book.data is not None]
        own = {data.component_id: data.voltage_per_phase for data in chargers}
        incomplete = any(not is_complete(phases) for phases in own.values())
        meter = self._meter_voltages() if incomplete else None
        sums = {charger: sum_of_phases(phases, meter) for charger, phases in own.items()}
        unknown = [charger for charger, voltage in sums.items() if voltage is None]
        if unknown and not self._warned_of_voltage:
            _logger.warning(
                "No voltage is known for chargers %s: nothing new is allocated to them",
                _listed(unknown),
            )
        self._warned_of_voltage = bool(unknown)
        return {charger: voltage for charger, voltage in sums.items() if voltage is not None}

    def _meter_voltages(self) -> PerPhase | None:
        if self._main_meter is None:
            meter = self._topology.main_meter()
            if meter is None:
                return None
            try:
                self._main_meter = self._client.meter_data(meter.component_id)
            except (ApiClientError, ValueError, RuntimeError) as error:
                _logger.debug("The main meter cannot be subscribed to: %s", error)
                return None
        if take_all(self._main_meter) is None:
            # Its stream has ended for good: the next look subscribes again.
            self._main_meter = None
            return None
        newest = self._main_meter.latest()
        return None if newest is None else newest.voltage_per_phase

    def _command(
        self, chargers: ChargerIds, one: _Watched, commands: dict[int, float], now: float
    ) -> None:
        # Decreases first: what is sent first usually arrives first.
        books = self._books

        def change(charger: int) -> float:
            return commands[charger] - (books[charger].limit or 0.0)

        for charger in sorted(commands, key=change):
            attempt = one.chargers.sent(charger, commands[charger], now)
            on_done = self._on_done(chargers, charger, attempt)
            try:
                self._client.start_set_power(
                    charger, commands[charger], timeout=SET_POINT_TIMEOUT, on_done=on_done
                )
            except ApiClientError as error:
                on_done(error)

    def _on_done(
        self, chargers: ChargerIds, charger: int, attempt: int
    ) -> Callable[[ApiClientError | None], None]:
        def done(error: ApiClientError | None) -> None:
            self._outcomes.append((chargers, charger, attempt, error))
            with self._changed:
                self._wake()

        return done

    def _publish(self, one: _Watched, proposals: list[Proposal], now: float) -> None:
        stamp = datetime.now(UTC)
        system = one.chargers.system(now)
        if system is not None:
            one.bounds.publish(_system_bounds(system, stamp), system)
        result = one.chargers.conclude(now)
        if result is not None:
            # Each result is news, even if it says the same as the one before.
            one.results.publish(result, object())
        with self._changed:
            reports = list(one.reports.items())
        for priority, output in reports:
            report = one.chargers.report(proposals, priority, now)
            output.publish(report, report)


def _system_bounds(system: System, stamp: datetime) -> SystemBounds:
    inclusion, exclusion = system.inclusion, system.exclusion
    return SystemBounds(
        stamp,
        Bounds(Power.from_watts(inclusion.lower), Power.from_watts(inclusion.upper)),
        Bounds(Power.from_watts(exclusion.lower), Power.from_watts(exclusion.upper)),
    )


def _listed(chargers: Iterable[int]) -> str:
    return ", ".join(str(charger) for charger in sorted(chargers))
