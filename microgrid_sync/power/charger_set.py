"""Follows a set of chargers whose power pools propose: target, bounds, rounds and results. Pure."""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import timedelta

from frequenz.quantities import Power

from microgrid_sync.model.bounds import Bounds
from microgrid_sync.model.shown import Tabular
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.distribution import Plan, lowered, plan
from microgrid_sync.power.headroom import Headroom
from microgrid_sync.power.proposals import ZERO, Proposal, Range, System, resolve
from microgrid_sync.power.reasons import Clock, Reason, cannot_be_served, holders, reason
from microgrid_sync.power.results import PartialFailure, Request, Result, Success
from microgrid_sync.power.set_point_ledger import Answer
from microgrid_sync.power.status import ChargerReport, ChargerStatus

_FIRST_ROUND_WAIT = 3.0
"""Seconds for which the first round waits for chargers that have not been heard of."""

_NO_RAISE_TIME = 10.0
"""Seconds after which power is raised although not every charger has been heard of."""


_STEADY_TIME = 60.0
"""Seconds for which power must have been there before somebody is raised with it."""

_WOBBLE = 0.9
"""A target that was lower than this share of the one of now did not wobble: it has been raised."""

_RELEASE_WATCH = 900.0
"""Seconds after the last set-point of a release for which a bound that comes back is waited for."""

_NEAR_SHARE, _NEAR = 0.01, 50.0
"""How near to its bound a charger counts as released: as a share, and in W."""


@dataclass(frozen=True, repr=False)
class PowerReport(Tabular):
    """What a pool is told."""

    target_power: Power | None
    """The power that is being distributed; ``None`` without proposals."""

    bounds: Bounds[Power] | None
    """What proposals of higher priority leave; ``None`` before anything has been heard."""

    distribution_result: Result | None
    """The last result for these chargers."""

    chargers: Mapping[int, ChargerReport]
    """What each of them has, by ID."""


@dataclass
class _Round:
    """The set-points that have been sent and whose outcome is not reported yet."""

    pending: dict[int, int] = field(default_factory=dict)
    """The number of the attempt for each charger."""

    failed: dict[int, float] = field(default_factory=dict)
    """The power of each set-point that has failed."""

    is_news: bool = False
    """Whether there is more in it than set-points that were sent again as they were."""


class ChargerSet:
    """The chargers of one or more pools. The control loop's thread alone touches it."""

    def __init__(self, chargers: Sequence[Charger], config: ChargingConfig) -> None:
        """Make a set that nobody has proposed anything for.

        Args:
            chargers: The chargers; shared with other sets that have some of them, too.
            config: The settings.
        """
        self.chargers = {charger.component_id: charger for charger in chargers}
        self._config = config
        self._active_since: float | None = None
        self._goes_on = False
        """Whether some of them were commanded with another set just before."""

        self._releasing = False
        self._released_since: float | None = None
        self._not_released: frozenset[int] = frozenset()
        """Those that others have taken since the release began."""

        self.waits_for_data = False
        """Whether the first round waits for chargers that have not been heard of."""

        self._round = _Round()
        self._overdrawing: frozenset[int] = frozenset()
        self.target: float | None = None
        self.result: Result | None = None
        self.plan: Plan | None = None
        """How things stand; ``None`` as long as nothing is distributed."""

        # The last targets, each with when it was there last.
        self._targets: deque[tuple[float, float]] = deque()
        self._steady_time = min(_STEADY_TIME, config.raise_interval.total_seconds())

    def add(self, charger: Charger) -> None:
        """Take one more charger; it is commanded with the others from the next step on."""
        self.chargers[charger.component_id] = charger

    def remove(self, component_id: int) -> None:
        """Let go of a charger, which others command from now on."""
        del self.chargers[component_id]
        self._round.pending.pop(component_id, None)
        self._round.failed.pop(component_id, None)

    # What is there

    def system(self, now: float) -> System | None:
        """Give what the chargers that can be used may be set to together.

        Any of them may be at zero: what is excluded is what is less than the least that one of them
        alone can be given.

        Returns:
            The bounds; zero if no charger can be used, ``None`` if none has been heard of.
        """
        if not any(charger.data is not None for charger in self.chargers.values()):
            return None
        usable = [
            charger.data
            for charger in self.chargers.values()
            if charger.data is not None and charger.status(now) is not ChargerStatus.NOT_WORKING
        ]
        if not usable:
            return System(ZERO)
        least = min(
            max(
                0.0,
                data.active_power_exclusion_upper_bound,
                data.active_power_inclusion_lower_bound,
            )
            for data in usable
        )
        return System(
            Range(
                sum(min(0.0, data.active_power_inclusion_lower_bound) for data in usable),
                sum(max(0.0, data.active_power_inclusion_upper_bound) for data in usable),
            ),
            Range(max(min(0.0, d.active_power_exclusion_lower_bound) for d in usable), least),
        )

    def _commandable(self, now: float) -> System:
        """Give the system with all that is reserved for chargers beyond what they can be given.

        What a charger that is silent, or does not obey, may draw is part of the power that there is
        to distribute, as it is deducted from it: else the others would pay for it although the
        proposals leave room for all.
        """
        system = self.system(now) or System(ZERO)
        reserved = 0.0
        for charger in self.chargers.values():
            most = charger.reserved(now)
            if charger.ledger.newest is None or not math.isfinite(most):
                continue
            usable = charger.status(now) is not ChargerStatus.NOT_WORKING
            reserved += max(0.0, most - charger.upper_bound) if usable else most
        inclusion = system.inclusion
        return System(Range(inclusion.lower, inclusion.upper + reserved), system.exclusion)

    def report(
        self,
        proposals: Iterable[Proposal],
        priority: int,
        chargers: Mapping[int, ChargerReport],
        now: float,
    ) -> PowerReport:
        """Tell a pool of some priority what it needs to know.

        Args:
            proposals: What the pools want.
            priority: The pool's.
            chargers: What `charger_reports` gives.
            now: The time on the monotonic clock, in seconds.
        """
        system = self.system(now)
        bounds = None
        if system is not None:
            above = [proposal for proposal in proposals if proposal.priority > priority]
            left = resolve(above, system).available
            left = ZERO if left.is_empty() else left
            bounds = Bounds(Power.from_watts(left.lower), Power.from_watts(left.upper))
        target = None if self.target is None else Power.from_watts(self.target)
        return PowerReport(target, bounds, self.result, chargers)

    def charger_reports(
        self, clock: Clock, now: float, commanding: "ChargerSet | None" = None
    ) -> dict[int, ChargerReport]:
        """Tell what each charger has, and why.

        Args:
            clock: Gives the time of the day for one of the monotonic clock.
            now: The time on the monotonic clock, in seconds.
            commanding: Who commands those of them that nobody proposes anything for.
        """
        reports = {}
        for component_id, charger in self.chargers.items():
            known = charger.dead_time.known
            told_by = self
            if commanding is not None and not self.is_active:
                told_by = commanding if component_id in commanding.chargers else self
            reports[component_id] = ChargerReport(
                Power.from_watts(charger.ledger.newest or 0.0),
                None if charger.is_silent(now) else Power.from_watts(charger.draw),
                charger.status(now),
                told_by.reason(component_id, now).text(now, clock),
                None if known is None else timedelta(seconds=round(known, 1)),
            )
        return reports

    def reason(self, component_id: int, now: float) -> Reason:
        """Find why a charger has what it has."""
        if self.plan is None or self.target is None:
            waits = "waits until the other chargers have been heard of"
            return Reason(waits if self.is_active else "not commanded: nobody proposes anything")
        case = self.plan.cases.get(component_id)
        if case is None:
            return Reason("is commanded from now on")
        return reason(case, self.plan, self._config, self.target, now)

    def complaints(self) -> dict[str, str]:
        """Tell what keeps cars from being charged, for the log: each once, by what it is about."""
        if self.plan is None or not self.target:
            return {}
        found = {}
        for case in self.plan.waiting:
            never = cannot_be_served(case)
            if never is not None:
                found[f"bounds of {case.component_id}"] = f"charger {case.component_id} {never}"
        waiting = [case for case in self.plan.waiting if not case.is_asleep]
        if waiting and self.plan.free < min(case.minimum for case in waiting):
            for number, what in holders(self.plan):
                found[f"holder {number}"] = f"cars wait because of charger {number}, {what}"
        return found

    # What to do

    def step(
        self,
        proposals: Sequence[Proposal] | None,
        now: float,
        taken: Set[int] = frozenset(),
        *,
        headroom: Headroom | None = None,
        covered: Set[int] = frozenset(),
    ) -> dict[int, float]:
        """Find the set-points to send now.

        Args:
            proposals: What the pools want; nothing if nobody wants anything, ``None`` if limits of
                circuits command the chargers all the same: all that they are rated for is the
                target then.
            now: The time on the monotonic clock, in seconds.
            taken: Chargers that are commanded with other sets now; not to be released.
            headroom: What circuits leave.
            covered: Chargers that have just been commanded, with whatever set: what is known of
                their set-points goes on being known.
        """
        rating = max(
            (c.data.active_power_inclusion_upper_bound for c in self.chargers.values() if c.data),
            default=math.inf,
        )
        for charger in self.chargers.values():
            # A charger that has never been heard of is taken for as large as the largest.
            charger.assumed_rating = rating
        self.waits_for_data = False
        if proposals is not None and not proposals:
            self._active_since = self.target = self.plan = None
            self._targets.clear()
            return self._release(now, taken) if self._releasing else {}
        self._releasing = False
        if self._active_since is None:
            self._active_since = now
            self._goes_on = not covered.isdisjoint(self.chargers)
            for charger in self.chargers.values():
                if charger.component_id not in covered:
                    charger.begin_campaign()
        if proposals is None:
            self.target = self._rating(now)
        else:
            self.target = resolve(proposals, self._commandable(now)).target or 0.0
        have_data = all(charger.data is not None for charger in self.chargers.values())
        waited = now - self._active_since
        # Who is commanded already is not let go of meanwhile.
        self.waits_for_data = not have_data and waited < _FIRST_ROUND_WAIT and not self._goes_on
        if self.waits_for_data:
            return {}
        self.plan = plan(
            self.chargers.values(),
            self.target,
            self._config,
            now=now,
            may_raise=have_data or waited >= _NO_RAISE_TIME,
            steady=None if proposals is None else self._steady_target(self.target, now),
            headroom=headroom,
        )
        return self.plan.set_points

    def lower(
        self, limits: Mapping[int, float], held: Mapping[int, str], now: float
    ) -> dict[int, float]:
        """Find the set-points to send now, as circuits leave less than was distributed.

        Args:
            limits: The limits of the chargers, and of others.
            held: What of the circuits keeps chargers from having more.
            now: The time on the monotonic clock, in seconds.
        """
        if self.plan is None:
            return {}
        self.plan = lowered(self.plan, limits, held, now)
        return self.plan.set_points

    def _rating(self, now: float) -> float:
        """Give what all chargers are rated for, or may draw."""
        most = (max(c.rating, c.reserved(now)) for c in self.chargers.values())
        return sum(watts for watts in most if math.isfinite(watts))

    def _steady_target(self, target: float, now: float) -> float:
        """Give what of the target has been there for a while.

        A target that wobbles is one that falls again: the lowest of the last minute counts. It does
        not if it was so much lower that it has been raised on purpose; but who has lowered it as
        much in that minute may do so again.
        """
        targets = self._targets
        if not targets or targets[-1][1] != target:
            # How long the one before was there is what counts.
            if targets:
                targets[-1] = now, targets[-1][1]
            targets.append((now, target))
        while len(targets) > 1 and now - targets[0][0] >= self._steady_time:
            targets.popleft()
        values = [one for _, one in targets]
        if any(after < _WOBBLE * before for before, after in itertools.pairwise(values)):
            return min(values)
        return min(one for one in values if one >= _WOBBLE * target)

    def due_at(self) -> float:
        """Give when the first of the set-points is due again."""
        if self.target is None and not self._releasing:
            return math.inf
        chargers = self.chargers.values()
        if self.target is None:
            # Those that are released are not sent again.
            return min(
                (c.ledger.due_at() for c in chargers if _is_to_be_released(c)), default=math.inf
            )
        # Of a set that limits alone have held, the last charger may have left.
        return min((charger.ledger.due_at() for charger in chargers), default=math.inf)

    @property
    def is_active(self) -> bool:
        """Whether its chargers are commanded for a proposal."""
        return self._active_since is not None

    def release(self) -> None:
        """Let the chargers that have been commanded draw what they can, from the next step on."""
        self._releasing = any(c.ledger.was_commanded for c in self.chargers.values())
        self._released_since = None
        self._not_released = frozenset()

    @property
    def is_releasing(self) -> bool:
        """Whether there are chargers to be released, heard of or not."""
        return self._releasing

    def is_being_released(self) -> bool:
        """Tell whether there are chargers that can be released, and are not yet."""
        return self._releasing and any(
            _is_to_be_released(charger)
            for number, charger in self.chargers.items()
            if number not in self._not_released
        )

    def _release(self, now: float, taken: Set[int]) -> dict[int, float]:
        commands = {}
        waiting = False
        self._not_released |= taken & self.chargers.keys()
        for charger in self.chargers.values():
            ledger = charger.ledger
            if not ledger.was_commanded or charger.component_id in self._not_released:
                continue
            # How much it may draw is known when it is heard of; and a bound that was lowered for a
            # while comes back.
            is_held_down = charger.data is None or charger.upper_bound < charger.rating
            waiting |= is_held_down or _is_to_be_released(charger)
            if _is_to_be_released(charger):
                most = _most(charger)
                if ledger.is_due(most, now) and (ledger.newest == most or not ledger.is_waited_for):
                    commands[charger.component_id] = most
        if commands or self._released_since is None:
            self._released_since = now
        self._releasing = waiting and now - self._released_since < _RELEASE_WATCH
        return commands

    # What came of it

    def sent(self, component_id: int, watts: float, now: float) -> int:
        """Note that a set-point is being sent; give the attempt's number."""
        charger = self.chargers[component_id]
        self._round.is_news |= watts != charger.ledger.newest or not charger.ledger.is_confirmed
        attempt = charger.send(watts, now, is_release=self.target is None)
        self._round.pending[component_id] = attempt
        return attempt

    def done(self, component_id: int, attempt: int, answer: Answer, now: float) -> bool:
        """Note the outcome of an attempt.

        Returns:
            Whether it was the newest one of its charger.
        """
        charger = self.chargers[component_id]
        newest = charger.answered(attempt, answer, now)
        is_pending = component_id in self._round.pending
        confirms = newest and answer is Answer.CONFIRMED and is_pending
        if confirms or (newest and self._round.pending.get(component_id) == attempt):
            del self._round.pending[component_id]
            if answer is Answer.UNDECIDED:
                self._round.is_news = True
            elif answer is not Answer.CONFIRMED:
                self._round.failed[component_id] = charger.ledger.newest or 0.0
                self._round.is_news = True
        return newest

    def conclude(self) -> Result | None:
        """Give the result of a round that has ended, or of a charger that overdraws."""
        overdrawing = frozenset(i for i, charger in self.chargers.items() if charger.overdraws)
        news = self._round.is_news or bool(overdrawing - self._overdrawing)
        self._overdrawing &= overdrawing
        if self.target is None:
            self._round = _Round()
            return None
        # A failure is told at once: others may be under way for ever.
        if not news or (self._round.pending and not self._round.failed):
            return None
        failed: dict[int, float] = {
            i: self.chargers[i].draw - (self.chargers[i].ledger.newest or 0.0) for i in overdrawing
        }
        failed.update(self._round.failed)
        self._overdrawing = overdrawing
        self._round = _Round(pending=self._round.pending)
        self.result = self._result(self.target, failed)
        return self.result

    def _result(self, target: float, failed: Mapping[int, float]) -> Result:
        confirmed = {
            i: charger.ledger.newest
            for i, charger in self.chargers.items()
            if charger.ledger.is_confirmed and charger.ledger.newest is not None
        }
        request = Request(Power.from_watts(target), frozenset(self.chargers))
        allocated = sum(charger.ledger.newest or 0.0 for charger in self.chargers.values())
        succeeded = frozenset(confirmed) - frozenset(failed)
        power = Power.from_watts(sum(confirmed[i] for i in succeeded))
        excess = Power.from_watts(max(0.0, target - allocated))
        if not failed:
            return Success(request, power, succeeded, excess)
        failed_power = Power.from_watts(sum(failed.values()))
        return PartialFailure(request, power, succeeded, excess, failed_power, frozenset(failed))


def _most(charger: Charger) -> float:
    """Give what a charger is set to when it is released; never less than zero."""
    return max(0.0, charger.upper_bound)


def _is_to_be_released(charger: Charger) -> bool:
    """Tell whether a charger that was commanded, and is heard, holds less than it may draw."""
    ledger = charger.ledger
    if not ledger.was_commanded or charger.data is None:
        return False
    most = _most(charger)
    # Bounds wobble; a difference that no car notices is not worth a set-point.
    near = max(_NEAR_SHARE * most, _NEAR)
    is_released = ledger.newest is not None and abs(ledger.newest - most) <= near
    return not (ledger.is_confirmed and is_released)
