"""Carries data, proposals and set-points between their owners, in a worker thread."""

import functools
import logging
import math
import time
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from frequenz.quantities import Power

from microgrid_sync.client import MicrogridApiClient, reconnects, start_set_power
from microgrid_sync.exceptions import ApiClientError, OperationTimedOut
from microgrid_sync.model import ComponentCategory, EVChargerData, InverterData, MeterData
from microgrid_sync.model.bounds import Bounds
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.charger_set import ChargerSet
from microgrid_sync.power.circuits import CircuitLimit, Circuits, Where, wiring_of
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.headroom import Headroom
from microgrid_sync.power.limit_report import LimitState, limit_state
from microgrid_sync.power.proposal_board import ChargerIds, ProposalBoard, listed
from microgrid_sync.power.proposals import Proposal, System
from microgrid_sync.power.publication import Publication
from microgrid_sync.power.set_point_ledger import Answer, SetPointLedger
from microgrid_sync.power.voltage import VoltageSearch
from microgrid_sync.receiver import Receiver, ReceiverStoppedError
from microgrid_sync.timeseries import SystemBounds
from microgrid_sync.topology import Topology
from microgrid_sync.transport.attempts import is_cut_off
from microgrid_sync.transport.channel import site_of
from microgrid_sync.transport.set_points import StartedSetPoint
from microgrid_sync.worker import (
    ComponentReceivers,
    Question,
    Sampled,
    Subscribed,
    SubscribeInBackground,
    Worker,
)

_INTERVAL = 1.0
"""Seconds between two looks at everything, if nothing happens before."""

_LEAST_PAUSE = 0.05
"""Seconds between two looks at the least, if nothing happens between them."""

_REPORT_INTERVAL = 5.0
"""Seconds after which a report is published again although only draws have changed in it."""

_SETTLE = 0.05
"""Seconds to wait, after a meter was heard, for chargers that have measured at the same time."""

_COMPLAIN_AFTER = 10.0
"""Seconds for which something must have kept cars from being charged before the log is told."""

_LIFETIME = 60
"""Seconds for which a set-point holds, where that can be said; it is renewed well before."""

_NOBODY: ChargerIds = frozenset()
"""What the set of those is known by that only limits hold."""

_EPOCH = datetime.fromtimestamp(0, UTC)

_logger = logging.getLogger(__name__)

_commanding: "dict[tuple[str, int], weakref.ref[ControlLoop]]" = {}
"""Which loop commands a charger of a server, in this process. Each step is one of the dictionary's,
so that no lock protects it; it is there to warn, and decides nothing."""


class _Watched:
    """A set of chargers that somebody has a pool of, with what is published of it."""

    def __init__(self, chargers: ChargerSet, name: str) -> None:
        self.chargers = chargers
        self.fallback = False
        self.takes_new = False
        """Whether a pool of every charger has it."""
        self.bounds = Publication(f"the bounds of {name}")
        self.results = Publication(f"the results of {name}")
        self.reports: dict[int, Publication] = {}
        self.never: dict[str, str] = {}
        """What circuits never leave enough for, by what it is about."""
        self.complaints: dict[str, float] = {}
        """What keeps cars from being charged, and since when; infinite if it has been told."""
        self._name = name

    def report(self, priority: int) -> Publication:
        """Give the publication of reports to pools of some priority."""
        name = f"the power status of {self._name}, priority {priority}"
        return self.reports.setdefault(priority, Publication(name))

    def rename(self, name: str) -> None:
        """Call further publications of reports by another name."""
        self._name = name

    def publications(self) -> list[Publication]:
        """Give all publications."""
        return [self.bounds, self.results, *self.reports.values()]


# What others send to the loop


class _Propose(Question[None]):
    """Make a pool's proposal; ``None`` is every charger that there is."""

    def __init__(self, pool: Hashable, chargers: ChargerIds | None, proposal: Proposal) -> None:
        super().__init__()
        self.pool, self.chargers, self.proposal = pool, chargers, proposal


class _Subscribe(Question[Receiver[Any]]):
    """Receive one publication of a set; ``priority`` is for reports alone."""

    def __init__(
        self, chargers: ChargerIds | None, what: str, priority: int, maxsize: int, keeps: object
    ) -> None:
        super().__init__()
        self.chargers, self.what, self.priority = chargers, what, priority
        self.maxsize, self.keeps = maxsize, keeps


@dataclass(frozen=True)
class _SiteChanged:
    """The site is another one now; some components are gone, or are something else."""

    topology: Topology
    changed: frozenset[int]
    every: ChargerIds
    """Every charger that there is now, or was."""


@dataclass(frozen=True)
class _Withdraw:
    pool: Hashable


@dataclass(frozen=True)
class _PoolGone:
    pool: Hashable


class _OpenLimit(Question[None]):
    """Begin to limit a circuit."""

    def __init__(self, key: "LimitKey", where: Where, limit: CircuitLimit) -> None:
        super().__init__()
        self.key, self.where, self.limit = key, where, limit


class _UpdateLimit(Question[None]):
    """Limit a circuit otherwise."""

    def __init__(self, key: "LimitKey", limit: CircuitLimit, name: str) -> None:
        super().__init__()
        self.key, self.limit, self.name = key, limit, name


class _SubscribeLimit(Question[Receiver[Any]]):
    """Receive the reports of a limit."""

    def __init__(self, key: "LimitKey", maxsize: int, keeps: object) -> None:
        super().__init__()
        self.key, self.maxsize, self.keeps = key, maxsize, keeps


class _CloseLimit(Question[None]):
    """Limit a circuit no more."""

    def __init__(self, key: "LimitKey") -> None:
        super().__init__()
        self.key = key


@dataclass(frozen=True)
class _Accepted:
    """The server has accepted an attempt, and will say more of it."""

    chargers: ChargerIds
    charger: int
    attempt: int
    watts: float


@dataclass(frozen=True)
class _Done:
    """An attempt has ended."""

    chargers: ChargerIds
    charger: int
    attempt: int
    error: ApiClientError | None


class LimitKey:
    """What the loop knows a limit by, and where it puts how that stands. Any thread may read it."""

    def __init__(self, name: str) -> None:
        """Make a key of a limit that is not there yet.

        Args:
            name: What receivers of its reports call it.
        """
        self.name = name
        # Both are replaced as a whole by the loop's thread.
        self.state: LimitState | None = None


class ControlLoop:
    """Keeps the chargers of a microgrid at what its pools propose.

    The microgrid owns it. Its thread starts with the first pool that proposes or watches, and owns
    all below the worker; others send it messages.
    """

    def __init__(
        self,
        client: MicrogridApiClient,
        topology: Topology,
        config: ChargingConfig,
        subscribe: SubscribeInBackground,
        *,
        look: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Make a loop without pools.

        Args:
            client: Takes set-points.
            topology: The microgrid.
            config: The settings.
            subscribe: Subscribes to a component's data.
            look: Called at each look at everything with the time; must not wait.
        """
        self._look_at_site = look
        self._client = client
        self._topology = topology
        self._config = config
        self.worker = Worker(
            f"microgrid-control-loop {site_of(client.server_url)}",
            work=self._work,
            end=self._end,
            is_idle=self._is_idle,
        )
        self._receivers = ComponentReceivers(subscribe, self.worker.deliver)
        self._board = ProposalBoard(config.proposal_lifetime.total_seconds())
        self._watched: dict[ChargerIds, _Watched] = {}
        self._chargers: dict[int, Charger] = {}
        self._reconnects: dict[int, tuple[int, int]] = {}
        # Of chargers that are not followed any more: what may still land or be held.
        self._ledgers: dict[int, SetPointLedger] = {}
        self._voltage_search = VoltageSearch(topology, config.max_data_age.total_seconds())
        # Which set a set has become when the site got more chargers: answers may still name it.
        self._grown: dict[ChargerIds, ChargerIds] = {}
        # For which set the proposals of pools are that were moved there; until they withdraw.
        self._moved: dict[Hashable, ChargerIds] = {}
        # Replaced as a whole by whoever changes the site.
        self.every = topology.ids(ComponentCategory.EV_CHARGER)
        """Every charger that there is, or was."""
        # The same as the thread knows it.
        self._every = self.every
        self._warned_of_voltage: frozenset[int] = frozenset()
        self._under_way: dict[tuple[int, int], StartedSetPoint] = {}
        self._circuits = Circuits(config.max_data_age.total_seconds(), config.rotations())
        self._limit_reports: dict[LimitKey, Publication] = {}
        # Those that limits cover, and nobody proposes anything for.
        self._limited = _Watched(ChargerSet([], config), "chargers that only limits hold")
        # Who has just been commanded: for them no campaign begins when another set takes them.
        self._covered: frozenset[int] = frozenset()
        self._due = self._site_due = -math.inf

    # From any thread

    def propose(self, pool: Hashable, chargers: ChargerIds | None, proposal: Proposal) -> None:
        """Make or renew the one proposal of a pool.

        Args:
            pool: The pool.
            chargers: Its chargers; ``None`` for every one that there is.
            proposal: What it proposes.

        Raises:
            ValueError: If it is for some, but not all, of the chargers of another proposal.
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.ask(_Propose(pool, chargers, proposal))

    def withdraw(self, pool: Hashable) -> None:
        """Drop a pool's proposal, if it has one; after the last one, release the chargers.

        Raises:
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.post(_Withdraw(pool))

    def change_topology(self, topology: Topology, changed: frozenset[int]) -> None:
        """Go on with another topology; pools of every charger take new ones. Does not wait.

        Args:
            topology: The new topology.
            changed: The components that are gone, or are something else now.
        """
        self.every |= topology.ids(ComponentCategory.EV_CHARGER)
        message = _SiteChanged(topology, changed, self.every)
        if self.worker.has_started:
            self.worker.deliver(message)
        else:
            self._change_site(message, time.monotonic())

    def pool_gone(self, pool: Hashable) -> None:
        """Note that nobody has a pool any more. For finalizers: takes no lock."""
        if self.worker.has_started:
            self.worker.deliver(_PoolGone(pool))

    def subscribe(
        self,
        chargers: ChargerIds | None,
        what: str,
        maxsize: int,
        *,
        priority: int = 0,
        keeps: object = None,
    ) -> Receiver[Any]:
        """Receive the bounds, results or reports of a set of chargers, when they change.

        Args:
            chargers: The chargers; ``None`` for every one that there is.
            what: ``"bounds"``, ``"results"`` or ``"reports"``.
            maxsize: How many values the receiver holds.
            priority: For reports, that of the pool.
            keeps: What must stay alive as long as somebody reads.

        Raises:
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        return self.worker.ask(_Subscribe(chargers, what, priority, maxsize, keeps))

    def open_limit(self, key: LimitKey, where: Where, limit: CircuitLimit) -> None:
        """Begin to limit a circuit: its chargers are commanded from now on.

        Raises:
            ValueError: If it is none that can be limited.
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.ask(_OpenLimit(key, where, limit))

    def update_limit(self, key: LimitKey, limit: CircuitLimit, name: str) -> None:
        """Limit a circuit otherwise.

        Raises:
            ReceiverStoppedError: If the limit or the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.ask(_UpdateLimit(key, limit, name))

    def close_limit(self, key: LimitKey) -> None:
        """Limit a circuit no more; nothing is sent. For the second time, nothing happens.

        Raises:
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        self.worker.ask(_CloseLimit(key))

    def subscribe_limit(self, key: LimitKey, maxsize: int, keeps: object) -> Receiver[Any]:
        """Receive the reports of a limit.

        Raises:
            ReceiverStoppedError: If the limit or the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        return self.worker.ask(_SubscribeLimit(key, maxsize, keeps))

    # The thread

    def _work(self, messages: list[Any], now: float) -> float:
        if now >= self._site_due:
            self._site_due = now + _INTERVAL
            self._look_at_site(now)
        if messages and now < self._due and all(isinstance(m, Sampled) for m in messages):
            self._due = min(self._due, now + _SETTLE)
            return self._due
        self._due = now + _INTERVAL
        for message in messages:
            self._take(message, now)
        self._look(now)
        # What is due may be held back; it is looked at again then, but not all the time.
        sets = [*self._watched.values(), self._limited]
        due = min((one.chargers.due_at() for one in sets), default=math.inf)
        if any(one.chargers.waits_for_data for one in sets):
            due = now
        return min(self._due, max(due, now + _LEAST_PAUSE))

    def _take(self, message: object, now: float) -> None:
        match message:
            case _Propose():
                message.answer(functools.partial(self._propose, message, now))
            case _Subscribe():
                message.answer(functools.partial(self._subscribe, message, now))
            case _Withdraw(pool):
                self._withdraw(pool)
            case _PoolGone(pool):
                self._board.forget(pool)
                self._moved.pop(pool, None)
            case Subscribed():
                self._receivers.arrived(message)
            case _SiteChanged():
                self._change_site(message, now)
            case _Accepted():
                self._accepted(message, now)
            case _Done():
                self._done(message, now)
            case _:
                self._take_of_limit(message, now)

    def _take_of_limit(self, message: object, now: float) -> None:
        match message:
            case _OpenLimit():
                message.answer(functools.partial(self._open_limit, message, now))
            case _UpdateLimit():
                message.answer(functools.partial(self._update_limit, message))
            case _CloseLimit():
                message.answer(functools.partial(self._close_limit, message))
            case _SubscribeLimit():
                message.answer(functools.partial(self._subscribe_limit, message))

    def _propose(self, message: _Propose, now: float) -> None:
        chargers = self._every if message.chargers is None else message.chargers
        chargers = self._moved.get(message.pool, chargers)
        self._board.propose(message.pool, chargers, message.proposal, now)
        self._watch(chargers, now).takes_new |= message.chargers is None

    def _subscribe(self, message: _Subscribe, now: float) -> Receiver[Any]:
        watched = self._watch(self._every if message.chargers is None else message.chargers, now)
        watched.takes_new |= message.chargers is None
        publication = {"bounds": watched.bounds, "results": watched.results}.get(message.what)
        if publication is None:
            publication = watched.report(message.priority)
        return publication.subscribe(message.maxsize, message.keeps)

    def _withdraw(self, pool: Hashable) -> None:
        chargers = self._board.withdraw(pool)
        self._moved.pop(pool, None)
        if chargers is not None:
            watched = self._watched[chargers]
            watched.fallback = False
            for charger in watched.chargers.chargers.values():
                charger.cap = math.inf
            watched.chargers.release()

    # Limits

    def _open_limit(self, message: _OpenLimit, now: float) -> None:
        key = message.key
        # Once more: the site may be another one by now.
        wiring = wiring_of(self._topology, message.where)
        self._circuits.open(key, message.where, message.limit, wiring, now)
        self._limit_reports[key] = Publication(f"the reports of {key.name}")
        for number in wiring.chargers:
            self._charger(number)
        self._receivers.follow(wiring.chargers, now)

    def _update_limit(self, message: _UpdateLimit) -> None:
        self._require_open(message.key)
        self._circuits.update(message.key, message.limit)
        message.key.name = message.name

    def _subscribe_limit(self, message: _SubscribeLimit) -> Receiver[Any]:
        self._require_open(message.key)
        return self._limit_reports[message.key].subscribe(message.maxsize, message.keeps)

    def _require_open(self, key: LimitKey) -> None:
        if key not in self._limit_reports:
            raise ReceiverStoppedError(f"{key.name} has been closed")

    def _close_limit(self, message: _CloseLimit) -> None:
        reports = self._limit_reports.pop(message.key, None)
        if reports is None:
            return
        left = self._circuits.close(message.key)
        message.key.state = None
        reports.end()
        if left:
            _logger.warning(
                "%s: %s has been closed; no other one covers chargers %s, whose set-points stay as "
                "long as the server keeps them",
                self._client.server_url,
                message.key.name,
                listed(left),
            )

    def _watch(self, chargers: ChargerIds, now: float) -> _Watched:
        """Follow the data of some chargers."""
        watched = self._watched.get(chargers)
        if watched is None:
            members = [self._charger(number) for number in sorted(chargers)]
            name = f"chargers {listed(chargers)}"
            watched = _Watched(ChargerSet(members, self._config), name)
            self._watched[chargers] = watched
            self._receivers.follow(chargers, now)
        return watched

    def _change_site(self, message: _SiteChanged, now: float) -> None:
        """Take new chargers into the set of every one; those that are gone stay, as silent ones."""
        self._topology = message.topology
        for text in self._circuits.change_topology(message.topology):
            _logger.warning("%s: %s", self._client.server_url, text)
        limited = self._circuits.chargers()
        for number in limited:
            self._charger(number)
        self._receivers.follow(limited, now)
        self._voltage_search.change_topology(message.topology)
        # What is something else now has to be subscribed to anew.
        again = self._receivers.followed() & message.changed
        self._receivers.drop(again)
        self._receivers.follow(again & self._chargers.keys(), now)
        before, after = self._every, message.every
        if after == before:
            return
        self._every = after
        watched = self._watched.get(before)
        if watched is None or not watched.takes_new:
            return
        del self._watched[before]
        # Proposals of pools that were made for just these chargers stay in force with the others:
        # a limit that was fine for them all is, for some more of them, the safe side.
        self._grown[before] = after
        self._moved.update(dict.fromkeys(self._board.grow(before, after), after))
        for number in sorted(after - before):
            watched.chargers.add(self._charger(number))
        watched.rename(f"chargers {listed(after)}")
        self._watched[after] = watched
        self._receivers.follow(after, now)
        if watched.chargers.is_active:
            self._warn_of_others(after - before)

    def _current(self, chargers: ChargerIds) -> ChargerIds:
        """Give the set that a set has become."""
        while chargers not in self._watched and chargers in self._grown:
            chargers = self._grown[chargers]
        return chargers

    def _commanded_with(self, chargers: ChargerIds) -> _Watched | None:
        """Give the set that a set-point was sent for; no chargers are those under limits alone."""
        return self._watched.get(self._current(chargers)) if chargers else self._limited

    def _charger(self, number: int) -> Charger:
        charger = self._chargers.get(number)
        if charger is None:
            ledger = SetPointLedger(self._ledgers.pop(number, None))
            charger = Charger(
                number, self._config, ledger=ledger, rated_bound=self._rated_bound(number)
            )
            self._chargers[number] = charger
        return charger

    def _rated_bound(self, number: int) -> float:
        if number not in self._topology:
            return math.inf
        rated = self._topology.component(number).rated_bounds
        return math.inf if rated is None or rated.upper is None else rated.upper

    def _accepted(self, message: _Accepted, now: float) -> None:
        charger = self._chargers.get(message.charger)
        if charger is not None:
            charger.ledger.accepted(message.attempt, message.watts, now)

    def _done(self, message: _Done, now: float) -> None:
        self._under_way.pop((message.charger, message.attempt), None)
        charger = self._chargers.get(message.charger)
        if charger is None:
            return
        error = message.error
        answer = _answer(error, was_accepted=charger.ledger.was_accepted(message.attempt))
        watched = self._commanded_with(message.chargers)
        if watched is not None and message.charger in watched.chargers.chargers:
            newest = watched.chargers.done(message.charger, message.attempt, answer, now)
        else:
            # Another set commands it since.
            newest = charger.answered(message.attempt, answer, now)
        if newest and error is not None:
            failures = charger.health.failures
            first = failures == 1 or answer is Answer.UNDECIDED
            level = logging.WARNING if first else logging.DEBUG
            _logger.log(level, "Charger %s: a set-point has failed: %s", message.charger, error)

    def _look(self, now: float) -> None:
        """Take in what has happened, and do what follows from it."""
        self._take_data(now)
        self._take_data_of_others(now)
        voltages = self._voltages(now)
        self._give_up_late(now)
        for charger in self._chargers.values():
            charger.advance(now, voltages.get(charger.component_id))
        self._note_lapses(now)
        self._look_at_circuits(now)
        fallback = self._config.fallback_power
        proposed = self._board.proposed()
        if fallback is not None:
            # Sets that fall back are commanded, too: nobody may release their chargers.
            falling_back = (c for c, one in self._watched.items() if one.fallback)
            proposed = proposed.union(*falling_back)
        taken = proposed | self._circuits.chargers()
        self._take_limited(taken - proposed)
        headroom = None
        if self._circuits.circuits:
            headroom = Headroom(self._circuits, self._chargers, self._config, now)
        sets: list[tuple[ChargerIds, _Watched, list[Proposal], dict[int, float]]] = []
        for chargers, one in [*self._watched.items(), (_NOBODY, self._limited)]:
            proposals = self._board.proposals(chargers)
            distributed: list[Proposal] | None = proposals
            if one is self._limited:
                distributed = None if one.chargers.chargers else []
            elif one.fallback and fallback is not None:
                distributed = [Proposal(priority=0, power=fallback.as_watts())]
            if self.worker.is_closing and not one.chargers.is_releasing:
                # The end sends nothing of its own.
                continue
            was_active = one.chargers.is_active
            commands = one.chargers.step(
                distributed, now, taken, headroom=headroom, covered=self._covered
            )
            if one.chargers.is_active and not was_active:
                self._warn_of_others(frozenset(one.chargers.chargers))
            sets.append((chargers, one, proposals, commands))
        lowered = {} if headroom is None else self._lower(headroom, now)
        for chargers, one, proposals, commands in sets:
            self._command(chargers, one, lowered.get(chargers, commands), now)
            self._publish(one, proposals, now)
        self._covered = self._commanded_now()
        self._publish_limits(now)
        self._forget_unneeded(now)

    def _take_limited(self, chargers: ChargerIds) -> None:
        """Let limits alone hold some chargers, as they stand."""
        held = self._limited.chargers
        for number in held.chargers.keys() - chargers:
            held.remove(number)
        for number in sorted(chargers - held.chargers.keys()):
            charger = self._charger(number)
            if held.is_active and number not in self._covered:
                charger.begin_campaign()
            held.add(charger)
        limited = self._circuits.chargers()
        for number, charger in self._chargers.items():
            # A new proposal, and the end of all limits, free what a lapse has left.
            if number not in chargers or number not in limited:
                charger.cap = math.inf

    def _lower(self, headroom: Headroom, now: float) -> dict[ChargerIds, dict[int, float]]:
        """Lower what has been distributed until every circuit holds; give what is to be sent."""
        everybody = {**self._watched, _NOBODY: self._limited}
        plans = {
            chargers: plan
            for chargers, one in everybody.items()
            if one.chargers.is_active
            and not one.chargers.waits_for_data
            and (plan := one.chargers.plan) is not None
        }
        cases = [case for plan in plans.values() for case in plan.cases.values()]
        limits = {number: watts for plan in plans.values() for number, watts in plan.limits.items()}
        held = headroom.hold(cases, limits)
        commands = {}
        for chargers, plan in plans.items():
            for number, case in plan.cases.items():
                if number not in held and (words := headroom.binding(case)) is not None:
                    held[number] = words
            commands[chargers] = everybody[chargers].chargers.lower(limits, held, now)
            everybody[chargers].never = {
                f"circuit of {case.component_id}": f"charger {case.component_id} cannot start a "
                f"car: {why}"
                for case in plan.waiting
                if (why := headroom.never_fits(case)) is not None
            }
        return commands

    def _commanded_now(self) -> frozenset[int]:
        # Who is still waited for has got nothing yet: another set waits for him, too.
        sets = (one.chargers for one in [*self._watched.values(), self._limited])
        active = (one.chargers for one in sets if one.is_active and not one.waits_for_data)
        return frozenset[int]().union(*active)

    def _look_at_circuits(self, now: float) -> None:
        for level, text in self._circuits.advance(self._chargers, now):
            _logger.log(level, "%s: %s", self._client.server_url, text)

    def _publish_limits(self, now: float) -> None:
        stamp = datetime.now(UTC)
        for key, publication in self._limit_reports.items():
            state = limit_state(self._circuits.circuits[key], now, stamp)
            key.state = state
            publication.publish(state.report, replace(state.report, timestamp=_EPOCH))

    def _give_up_late(self, now: float) -> None:
        """End the attempts whose time is over; each of them says so then."""
        for charger_id, charger in self._chargers.items():
            waiting = charger.ledger.answer_by()
            if waiting is not None and now >= waiting[1]:
                started = self._under_way.get((charger_id, waiting[0]))
                if started is not None:
                    started.give_up()

    def _note_lapses(self, now: float) -> None:
        """Let sets whose proposals have lapsed fall back, until somebody else commands them."""
        for chargers in self._board.lapse(now):
            for number in chargers & self._circuits.chargers():
                # Nobody has said since that it may have more.
                newest = self._chargers[number].ledger.newest
                self._chargers[number].cap = math.inf if newest is None else newest
            for others, one in self._watched.items():
                one.fallback &= not others & chargers
            self._watched[chargers].fallback = True
            _logger.warning(
                "%s: all proposals for chargers %s have lapsed",
                self._client.server_url,
                listed(chargers),
            )
        proposed = self._board.proposed()
        for chargers, one in self._watched.items():
            one.fallback &= not chargers & proposed

    def _take_data(self, now: float) -> None:
        for charger_id, charger in self._chargers.items():
            for value in self._receivers.take(charger_id, now):
                if not isinstance(value, EVChargerData):
                    # The component is something else now: the charger is gone, and silent.
                    continue
                charger.update(value, now)
                self._voltage_search.update(charger_id, value.voltage_per_phase, now)
                if self._circuits.circuits:
                    self._circuits.measured(charger_id, value, now)
            number = reconnects(self._client, charger_id)
            if number is not None and number != self._reconnects.setdefault(charger_id, number):
                # Whatever was behind the break may have forgotten its set-points.
                self._reconnects[charger_id] = number
                charger.ledger.doubt()

    def _take_data_of_others(self, now: float) -> None:
        """Take what meters measure, and whoever says the voltage at chargers that do not."""
        meters = self._circuits.components(now)
        for component_id in self._receivers.followed() - self._chargers.keys():
            for value in self._receivers.take(component_id, now):
                if not isinstance(value, MeterData | InverterData | EVChargerData):
                    # The component is something else now.
                    continue
                self._voltage_search.update(component_id, value.voltage_per_phase, now)
                if component_id in meters:
                    self._circuits.measured(component_id, value, now)

    def _voltages(self, now: float) -> dict[int, float]:
        """Find the sum of the phase voltages at each charger, if it is known."""
        search = self._voltage_search
        sums = {}
        for number, charger in self._chargers.items():
            if charger.data is not None:
                has_own = charger.voltage.has_own(now)
                other = None if has_own else search.find(number, now)
                sums[number] = charger.voltage.total(other, now)
        meters = self._circuits.components(now)
        others = (search.wanted(now) | meters) - self._chargers.keys()
        self._receivers.follow(others, now)
        self._receivers.wake_for(meters - self._chargers.keys())
        self._receivers.drop(self._receivers.followed() - self._chargers.keys() - others)
        unknown = frozenset(charger for charger, total in sums.items() if total is None)
        if unknown - self._warned_of_voltage:
            _logger.warning(
                "%s: no voltage is known for chargers %s: nothing new is allocated to them",
                self._client.server_url,
                listed(unknown),
            )
        self._warned_of_voltage = unknown
        return {charger: total for charger, total in sums.items() if total is not None}

    def _command(
        self, chargers: ChargerIds, one: _Watched, commands: dict[int, float], now: float
    ) -> None:
        def change(charger: int) -> float:
            return commands[charger] - (self._chargers[charger].ledger.newest or 0.0)

        if one.chargers.is_active:
            self._circuits.note_raises([i for i in commands if change(i) > 0], now)

        # Decreases first: what is sent first usually arrives first.
        for charger in sorted(commands, key=change):
            ledger = self._chargers[charger].ledger
            attempt = one.chargers.sent(charger, commands[charger], now)
            accepted = _Accepted(chargers, charger, attempt, commands[charger])
            try:
                self._under_way[charger, attempt] = start_set_power(
                    self._client,
                    charger,
                    commands[charger],
                    lifetime=_LIFETIME,
                    timeout=ledger.timeout,
                    on_accepted=functools.partial(self.worker.deliver, accepted),
                    on_done=functools.partial(self._deliver_done, chargers, charger, attempt),
                )
            except ApiClientError as error:
                one.chargers.done(charger, attempt, Answer.REFUSED, now)
                _logger.debug("Charger %s: a set-point was not sent: %s", charger, error)
            except Exception:
                # No thread to be had, for instance: it may have been sent, or not.
                one.chargers.done(charger, attempt, Answer.CUT_OFF, now)
                _logger.exception("Charger %s: a set-point could not be sent", charger)

    def _deliver_done(
        self, chargers: ChargerIds, charger: int, attempt: int, error: ApiClientError | None
    ) -> None:
        """Note, in another thread, that an attempt has ended."""
        self.worker.deliver(_Done(chargers, charger, attempt, error))

    def _publish(self, one: _Watched, proposals: list[Proposal], now: float) -> None:
        system = one.chargers.system(now)
        if system is not None:
            one.bounds.publish(_system_bounds(system, datetime.now(UTC)), system)
        result = one.chargers.conclude()
        if result is not None:
            # Each result is news, even if it says the same as the one before.
            one.results.publish(result, object())
        if one.reports:
            self._publish_reports(one, proposals, now)
        self._complain(one, {**one.chargers.complaints(), **one.never}, now)

    def _publish_reports(self, one: _Watched, proposals: list[Proposal], now: float) -> None:
        time_of_day = datetime.now().astimezone()

        def clock(at: float) -> str:
            return (time_of_day + timedelta(seconds=at - now)).strftime("%H:%M")

        chargers = one.chargers.charger_reports(clock, now, self._limited.chargers)
        # A draw that changes, or a second less to wait, is news now and then.
        stable = {
            number: (r.allocation, r.status, r.reason.partition(" in ")[0], r.obey_time)
            for number, r in chargers.items()
        }
        for priority, publication in one.reports.items():
            report = one.chargers.report(proposals, priority, chargers, now)
            compared = (replace(report, chargers={}), stable, now // _REPORT_INTERVAL)
            publication.publish(report, compared)

    def _complain(self, one: _Watched, complaints: dict[str, str], now: float) -> None:
        """Tell the log once what keeps cars from being charged; again if it comes back."""
        one.complaints = {about: one.complaints.get(about, now) for about in complaints}
        for about, text in complaints.items():
            if now - one.complaints[about] >= _COMPLAIN_AFTER:
                one.complaints[about] = math.inf
                _logger.warning("%s: %s", self._client.server_url, text)

    def _warn_of_others(self, chargers: ChargerIds) -> None:
        """Tell the log of another loop of this program that commands the same chargers."""
        url = self._client.server_url
        shared = []
        for charger in chargers:
            other = _commanding.get((url, charger))
            loop = None if other is None else other()
            if loop is not None and loop is not self and loop.commands(charger):
                shared.append(charger)
            _commanding[url, charger] = weakref.ref(self)
        if shared:
            _logger.warning(
                "Another Microgrid of this program commands chargers %s of %s, too; close it, or "
                "they take turns",
                listed(shared),
                url,
            )

    def is_releasing(self, chargers: ChargerIds) -> bool:
        """Tell whether some of these are still being released; from any thread.

        A withdrawal that has just been sent to the loop counts from its next look on.
        """
        return any(
            one.chargers.is_being_released() or one.chargers.is_active
            for watched, one in self._watched.copy().items()
            if watched & chargers
        )

    def commands(self, charger: int) -> bool:
        """Tell whether a charger is commanded for a proposal just now; from any thread."""
        return not self.worker.is_closing and any(
            one.chargers.is_active and charger in one.chargers.chargers
            for one in [*self._watched.copy().values(), self._limited]
        )

    def _forget_unneeded(self, now: float) -> None:
        """Forget the sets that nobody has a use for, and the chargers that no other set has."""
        remembered = self._board.remembered()
        for chargers, one in list(self._watched.items()):
            for priority, publication in list(one.reports.items()):
                if not publication.is_received():
                    del one.reports[priority]
            if not (
                chargers in remembered
                or one.chargers.is_active
                or one.chargers.is_releasing
                or any(publication.is_received() for publication in one.publications())
                or any(c.ledger.may_land(now) for c in one.chargers.chargers.values())
            ):
                del self._watched[chargers]
        needed = self._circuits.chargers().union(*self._watched)
        needed |= {n for n, charger in self._chargers.items() if charger.ledger.may_land(now)}
        for charger in self._chargers.keys() - needed:
            self._ledgers[charger] = self._chargers.pop(charger).ledger
            self._reconnects.pop(charger, None)
            self._receivers.drop([charger])
        if not self._watched:
            self._grown.clear()

    # The end

    def _is_idle(self) -> bool:
        return not any(one.chargers.is_being_released() for one in self._watched.values())

    def _end(self) -> None:
        self._receivers.close()
        for one in self._watched.values():
            for publication in one.publications():
                publication.end()
        for key, reports in self._limit_reports.items():
            # Nothing holds any more, whatever was so last.
            key.state = None
            reports.end()


def _answer(error: ApiClientError | None, *, was_accepted: bool) -> Answer:
    if error is None:
        return Answer.CONFIRMED
    if was_accepted and is_cut_off(error):
        return Answer.UNDECIDED
    if isinstance(error, OperationTimedOut):
        return Answer.TIMED_OUT
    return Answer.CUT_OFF if is_cut_off(error) else Answer.REFUSED


def _system_bounds(system: System, stamp: datetime) -> SystemBounds:
    inclusion, exclusion = system.inclusion, system.exclusion
    return SystemBounds(
        stamp,
        Bounds(Power.from_watts(inclusion.lower), Power.from_watts(inclusion.upper)),
        Bounds(Power.from_watts(exclusion.lower), Power.from_watts(exclusion.upper)),
    )
