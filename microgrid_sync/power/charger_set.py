"""A set of chargers whose power pools propose: target, bounds, rounds and results. No threads."""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from frequenz.quantities import Power

from microgrid_sync.power.charger_book import ChargerBook
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.distribution import Voltages, plan
from microgrid_sync.power.proposals import ZERO, Outcome, Proposal, Range, System, resolve
from microgrid_sync.power.results import PartialFailure, Request, Result, Success
from microgrid_sync.power.status import ChargerStatus
from microgrid_sync.timeseries import Bounds

_FIRST_ROUND_WAIT = 3.0
"""Seconds for which the first round waits for chargers that have not been heard of."""

_NO_RAISE_TIME = 10.0
"""Seconds after which power is raised although not every charger has been heard of."""


@dataclass(frozen=True)
class PowerReport:
    """What a pool is told."""

    target_power: Power | None
    """The power that is being distributed; ``None`` without proposals."""

    bounds: Bounds[Power] | None
    """What proposals of higher priority leave; ``None`` before anything has been heard."""

    distribution_result: Result | None
    """The last result for these chargers."""


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

    def __init__(self, books: Sequence[ChargerBook], config: ChargingConfig) -> None:
        """Make a set that nobody has proposed anything for.

        Args:
            books: The chargers; shared with other sets that have some of them, too.
            config: The settings.
        """
        self.books = {book.component_id: book for book in books}
        self._config = config
        self._max_age = config.max_data_age.total_seconds()
        self._active_since: float | None = None
        self._releasing = False
        self._round = _Round()
        self._overdrawing: frozenset[int] = frozenset()
        self.target: float | None = None
        self.result: Result | None = None

    # What is there

    def system(self, now: float) -> System | None:
        """Give the sums of the bounds of the chargers that can be used.

        Returns:
            The bounds; zero if no charger can be used, ``None`` if none has been heard of.
        """
        if not any(book.data is not None for book in self.books.values()):
            return None
        usable = [
            book.data
            for book in self.books.values()
            if book.data is not None
            and book.status(now, self._max_age) is not ChargerStatus.NOT_WORKING
        ]
        return System(
            Range(
                sum(data.active_power_inclusion_lower_bound for data in usable),
                sum(data.active_power_inclusion_upper_bound for data in usable),
            ),
            Range(
                sum(data.active_power_exclusion_lower_bound for data in usable),
                sum(data.active_power_exclusion_upper_bound for data in usable),
            ),
        )

    def _commandable(self, now: float) -> System:
        """Give the system with all that is reserved for chargers beyond what they can be given.

        What a charger that is silent, or does not obey, may draw is part of the power that there is
        to distribute, as it is deducted from it: else the others would pay for it although the
        proposals leave room for all.
        """
        system = self.system(now) or System(ZERO)
        reserved = 0.0
        for book in self.books.values():
            most = book.reserved(now)
            if book.limit is None or not math.isfinite(most):
                continue
            usable = book.status(now, self._max_age) is not ChargerStatus.NOT_WORKING
            reserved += max(0.0, most - book.upper_bound) if usable else most
        inclusion = system.inclusion
        return System(Range(inclusion.lower, inclusion.upper + reserved), system.exclusion)

    def report(self, proposals: Iterable[Proposal], priority: int, now: float) -> PowerReport:
        """Tell a pool of some priority what it needs to know."""
        system = self.system(now)
        bounds = None
        if system is not None:
            above = [proposal for proposal in proposals if proposal.priority > priority]
            left = resolve(above, system).available
            left = ZERO if left.is_empty() else left
            bounds = Bounds(Power.from_watts(left.lower), Power.from_watts(left.upper))
        target = None if self.target is None else Power.from_watts(self.target)
        return PowerReport(target, bounds, self.result)

    # What to do

    def step(
        self,
        proposals: Sequence[Proposal],
        voltages: Voltages,
        now: float,
        taken: Set[int] = frozenset(),
    ) -> dict[int, float]:
        """Find the set-points to send now.

        Args:
            proposals: What the pools want; nothing if nobody wants anything.
            voltages: The voltages that are known.
            now: The time on the monotonic clock, in seconds.
            taken: Chargers that proposals for other sets command now; not to be released.
        """
        rating = max(
            (b.data.active_power_inclusion_upper_bound for b in self.books.values() if b.data),
            default=math.inf,
        )
        for book in self.books.values():
            # A charger that has never been heard of is taken for as large as the largest.
            book.assumed_rating = rating
        if not proposals:
            self._active_since = self.target = None
            return self._release(now, taken) if self._releasing else {}
        self._releasing = False
        if self._active_since is None:
            self._active_since = now
            for book in self.books.values():
                book.forget_set_points()
        outcome: Outcome = resolve(proposals, self._commandable(now))
        self.target = outcome.target or 0.0
        heard = all(book.data is not None for book in self.books.values())
        waited = now - self._active_since
        if not heard and waited < _FIRST_ROUND_WAIT:
            return {}
        return plan(
            self.books.values(),
            self.target,
            voltages,
            self._config,
            now=now,
            may_raise=heard or waited >= _NO_RAISE_TIME,
        )

    def release(self) -> None:
        """Let the chargers that have been commanded draw what they can, from the next step on."""
        self._releasing = any(book.limit is not None for book in self.books.values())

    def is_being_released(self) -> bool:
        """Tell whether there are chargers that can be released, and are not yet."""
        return self._releasing and any(
            book.limit is not None
            and book.data is not None
            and (book.limit != book.upper_bound or not book.is_confirmed)
            for book in self.books.values()
        )

    def _release(self, now: float, taken: Set[int]) -> dict[int, float]:
        commands = {}
        waiting = False
        for book in self.books.values():
            most = book.upper_bound
            if book.limit is None or book.component_id in taken:
                continue
            if book.data is None:
                # How much it may draw is known when it is heard of.
                waiting = True
                continue
            if book.limit != most or not book.is_confirmed:
                waiting = True
                if book.is_due(most, now) and (book.limit == most or not book.in_flight):
                    commands[book.component_id] = most
        self._releasing = waiting
        return commands

    # What came of it

    def sent(self, component_id: int, watts: float, now: float) -> int:
        """Note that a set-point is being sent; give the attempt's number."""
        book = self.books[component_id]
        self._round.is_news |= watts != book.limit or not book.is_confirmed
        attempt = book.send(watts, now)
        self._round.pending[component_id] = attempt
        self._round.failed.pop(component_id, None)
        return attempt

    def done(self, component_id: int, attempt: int, now: float, *, failed: bool) -> bool:
        """Note the outcome of an attempt.

        Returns:
            Whether it was the newest one of its charger.
        """
        book = self.books[component_id]
        newest = book.fail(attempt, now) if failed else book.confirm(attempt, now)
        if newest and self._round.pending.get(component_id) == attempt:
            del self._round.pending[component_id]
            if failed:
                self._round.failed[component_id] = book.limit or 0.0
                self._round.is_news = True
        return newest

    def conclude(self, now: float) -> Result | None:
        """Give the result of a round that has ended, or of a charger that overdraws."""
        overdrawing = frozenset(i for i, book in self.books.items() if book.overdraws(now))
        news = self._round.is_news or bool(overdrawing - self._overdrawing)
        self._overdrawing &= overdrawing
        if self.target is None:
            self._round = _Round()
            return None
        # A failure is told at once: others may be under way for ever.
        if not news or (self._round.pending and not self._round.failed):
            return None
        failed: dict[int, float] = {
            i: self.books[i].draw - (self.books[i].limit or 0.0) for i in overdrawing
        }
        failed.update(self._round.failed)
        self._overdrawing = overdrawing
        self._round = _Round(pending=self._round.pending)
        self.result = self._result(self.target, failed)
        return self.result

    def _result(self, target: float, failed: Mapping[int, float]) -> Result:
        confirmed = {
            i: book.limit
            for i, book in self.books.items()
            if book.is_confirmed and book.limit is not None
        }
        request = Request(Power.from_watts(target), frozenset(self.books))
        allocated = sum(book.limit or 0.0 for book in self.books.values())
        succeeded = frozenset(confirmed) - frozenset(failed)
        power = Power.from_watts(sum(confirmed[i] for i in succeeded))
        excess = Power.from_watts(max(0.0, target - allocated))
        if not failed:
            return Success(request, power, succeeded, excess)
        failed_power = Power.from_watts(sum(failed.values()))
        return PartialFailure(request, power, succeeded, excess, failed_power, frozenset(failed))
