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
from microgrid_sync.model import ComponentCategory, EVChargerData
from microgrid_sync.model.bounds import Bounds
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.charger_set import ChargerSet
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.proposal_board import ChargerIds, ProposalBoard, listed
from microgrid_sync.power.proposals import Proposal, System
from microgrid_sync.power.publication import Publication
from microgrid_sync.power.set_point_ledger import Answer, SetPointLedger
from microgrid_sync.power.voltage import VoltageSearch
from microgrid_sync.receiver import Receiver
from microgrid_sync.timeseries import SystemBounds
from microgrid_sync.topology import Topology
from microgrid_sync.transport.attempts import is_cut_off
from microgrid_sync.transport.channel import site_of
from microgrid_sync.transport.set_points import StartedSetPoint
from microgrid_sync.worker import (
    ComponentReceivers,
    Question,
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

_COMPLAIN_AFTER = 10.0
"""Seconds for which something must have kept cars from being charged before the log is told."""

_LIFETIME = 60
"""Seconds for which a set-point holds, where that can be said; it is renewed well before."""

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
        self._due = -math.inf

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

    # The thread

    def _work(self, messages: list[Any], now: float) -> float:
        if now >= self._due:
            self._due = now + _INTERVAL
            self._look_at_site(now)
        for message in messages:
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
        self._look(now)
        # What is due may be held back; it is looked at again then, but not all the time.
        due = min((one.chargers.due_at() for one in self._watched.values()), default=math.inf)
        if any(one.chargers.waits_for_data for one in self._watched.values()):
            due = now
        return min(self._due, max(due, now + _LEAST_PAUSE))

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
            watched.chargers.release()

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
        watched = self._watched.get(self._current(message.chargers))
        if watched is not None:
            watched.chargers.accepted(message.charger, message.attempt, message.watts, now)

    def _done(self, message: _Done, now: float) -> None:
        self._under_way.pop((message.charger, message.attempt), None)
        watched = self._watched.get(self._current(message.chargers))
        if watched is None:
            return
        error = message.error
        ledger = self._chargers[message.charger].ledger
        answer = _answer(error, was_accepted=ledger.was_accepted(message.attempt))
        newest = watched.chargers.done(message.charger, message.attempt, answer, now)
        if newest and error is not None:
            failures = self._chargers[message.charger].health.failures
            first = failures == 1 or answer is Answer.UNDECIDED
            level = logging.WARNING if first else logging.DEBUG
            _logger.log(level, "Charger %s: a set-point has failed: %s", message.charger, error)

    def _look(self, now: float) -> None:
        """Take in what has happened, and do what follows from it."""
        self._take_data(now)
        voltages = self._voltages(now)
        self._give_up_late(now)
        for charger in self._chargers.values():
            charger.advance(now, voltages.get(charger.component_id))
        self._note_lapses(now)
        fallback = self._config.fallback_power
        taken = self._board.proposed()
        if fallback is not None:
            # Sets that fall back are commanded, too: nobody may release their chargers.
            falling_back = (c for c, one in self._watched.items() if one.fallback)
            taken = taken.union(*falling_back)
        for chargers, one in list(self._watched.items()):
            proposals = self._board.proposals(chargers)
            distributed = proposals
            if one.fallback and fallback is not None:
                distributed = [Proposal(priority=0, power=fallback.as_watts())]
            if self.worker.is_closing and not one.chargers.is_releasing:
                # The end sends nothing of its own.
                continue
            was_active = one.chargers.is_active
            commands = one.chargers.step(distributed, now, taken)
            if one.chargers.is_active and not was_active:
                self._warn_of_others(chargers)
            self._command(chargers, one, commands, now)
            self._publish(one, proposals, now)
        self._forget_unneeded(now)

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
            number = reconnects(self._client, charger_id)
            if number is not None and number != self._reconnects.setdefault(charger_id, number):
                # Whatever was behind the break may have forgotten its set-points.
                self._reconnects[charger_id] = number
                charger.ledger.doubt()

    def _voltages(self, now: float) -> dict[int, float]:
        """Find the sum of the phase voltages at each charger, if it is known."""
        search = self._voltage_search
        for component_id in search.wanted(now) & self._receivers.followed() - self._chargers.keys():
            for value in self._receivers.take(component_id, now):
                search.update(component_id, value.voltage_per_phase, now)
        sums = {}
        for number, charger in self._chargers.items():
            if charger.data is not None:
                has_own = charger.voltage.has_own(now)
                other = None if has_own else search.find(number, now)
                sums[number] = charger.voltage.total(other, now)
        self._receivers.follow(search.wanted(now), now)
        self._receivers.drop(
            self._receivers.followed() - self._chargers.keys() - search.wanted(now)
        )
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
        self._complain(one, one.chargers.complaints(), now)

    def _publish_reports(self, one: _Watched, proposals: list[Proposal], now: float) -> None:
        time_of_day = datetime.now().astimezone()

        def clock(at: float) -> str:
            return (time_of_day + timedelta(seconds=at - now)).strftime("%H:%M")

        chargers = one.chargers.charger_reports(clock, now)
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

    def commands(self, charger: int) -> bool:
        """Tell whether a charger is commanded for a proposal just now; from any thread."""
        return not self.worker.is_closing and any(
            charger in chargers and one.chargers.is_active
            for chargers, one in self._watched.copy().items()
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
        needed = frozenset[int]().union(*self._watched)
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
