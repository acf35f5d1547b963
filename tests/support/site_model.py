"""A site as a distribution of power meets it: cars, faults, and the set-points the server holds.

What is checked is what the server holds at every instant, not what the distribution believes. Its
cancel stops nothing: an attempt that was cut off is carried out with probability 1/2, at any moment
up to ten seconds after that, in any order.
"""

import math
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from microgrid_sync import EVChargerCableState, EVChargerComponentState, EVChargerData
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.charger_set import ChargerSet
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.proposals import Proposal, Range
from microgrid_sync.power.set_point_ledger import LANDING_TIME, Answer
from microgrid_sync.power.status import ChargerStatus
from tests.support.messages import START

RATING = 22_080.0
VOLTAGE = 690.0
SIX_AMPERES = 6 * VOLTAGE

Fault = Literal["none", "refused", "lost", "unanswered", "slow", "very slow"]
FAULTS: list[Fault] = ["none", "refused", "lost", "unanswered", "slow", "very slow"]

ANSWERED_AFTER = {"none": 0.05, "refused": 0.05, "slow": 3.0, "very slow": 6.0}
"""Seconds; the other faults give no answer."""

RECONNECTED_AFTER = 1.0
"""Seconds without data after a restart of the server."""


@dataclass
class ModelCharger:
    """A charger as it is."""

    held: float | None = None
    """The set-point that the server holds; ``None`` before the first, or when it has forgotten."""

    last_held: float | None = None
    """The set-point that it held last, forgotten or not."""

    connected: bool = False
    car_limit: float = 11_000.0
    upper: float = RATING
    lower: float = 0.0
    excluded: float = 0.0
    silent: bool = False
    is_nan: bool = False
    cheats: bool = False
    phases: int = 3
    """How many phases the car uses."""

    has_left: bool = False
    """Whether a car has left, and nobody has heard of that yet."""

    started_at: float = -math.inf
    """When its limit rose from zero, by a set-point, in this stay."""

    stopped_at: float = -math.inf
    waits_since: float | None = None
    """Since when it could be served, and is not."""

    fault: Fault = "none"
    received: float = 0.0
    quiet_until: float = -math.inf
    """The end of the pause in its data after a restart."""

    excess: float = 1.0
    """How many times its limit the car draws, if it can."""

    obeys_after: float = 0.0
    """Seconds after which the car follows a lower limit."""

    obeyed: float = RATING
    """The limit that the car follows now."""

    lowered_at: float | None = None
    needs_since: float | None = None
    """Since when it holds more than was sent last, and nothing is under way to mend that."""

    @property
    def allowed(self) -> float:
        return self.upper if self.held is None else min(self.held, self.upper)

    landed_late: bool = False
    """Whether it holds something that landed late."""

    @property
    def counted(self) -> float:
        """What counts as held: what has been forgotten was not given away by anybody."""
        return self.upper if self.last_held is None else self.last_held

    @property
    def draw(self) -> float:
        if not self.connected:
            return 0.0
        if self.cheats:
            return min(self.upper, self.allowed * 1.3 + 500)
        limit = max(self.allowed, self.obeyed) if self.obeys_after else self.allowed
        least = 6 * 230.0 * self.phases
        return min(limit * self.excess, self.car_limit) if limit >= least else 0.0

    def plug(self, *, connected: bool, car_limit: float = 11_000.0, phases: int = 3) -> None:
        """Let a car come, or the one that is there go."""
        if connected != self.connected:
            self.has_left |= self.connected
            self.started_at = self.stopped_at = -math.inf
            self.waits_since = None
        self.connected, self.car_limit, self.phases = connected, car_limit, phases

    def follow(self, now: float) -> None:
        """Let the car follow its limit: a higher one at once, a lower one after its time."""
        if self.allowed >= self.obeyed:
            self.obeyed, self.lowered_at = self.allowed, None
        elif self.lowered_at is None:
            self.lowered_at = now
        elif now - self.lowered_at >= self.obeys_after:
            self.obeyed, self.lowered_at = self.allowed, None


@dataclass
class _Attempt:
    """A set-point on its way."""

    charger: int
    number: int
    watts: float
    target: float
    sent_at: float
    known_draws: dict[int, float]
    """What each charger was known to draw when it was sent."""

    known_empty: frozenset[int]
    """Which chargers were known to have no car: what they hold draws nothing until one comes."""

    might_be_held: float
    """What might be held in all when it was sent, if it was no raise then; else 0."""

    lands_at: float
    """When the server carries it out; infinite if it does not."""

    ends_at: float
    """When its answer comes, or its time is over."""

    answer: Answer
    is_cut_off: bool = False


@dataclass
class ModelSite:
    """Chargers 1 to n, what the server holds, and the set under test."""

    count: int
    config: ChargingConfig = field(default_factory=ChargingConfig)
    seed: int = 0
    voltage_noise: float = 0.0
    """The share by which voltages wobble."""

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.chance = random.Random(self.seed)
        self.chargers = {number: ModelCharger() for number in range(1, self.count + 1)}
        self.known = {number: Charger(number, self.config) for number in self.chargers}
        self.under_test = ChargerSet(list(self.known.values()), self.config)
        self.proposals: list[Proposal] = []
        self.attempts: list[_Attempt] = []
        self.commands = 0
        self.sent: dict[int, list[float]] = {number: [] for number in self.chargers}
        self.late_landings = 0
        self.starts = 0
        self._phases: dict[int, int] = {}
        """How many phases the car of each charger uses, that was there when it was last heard."""
        self._empty: dict[int, float] = {}
        """When each charger said last that it has no car; infinite if it has one since."""
        self._newest_target: dict[int, float] = dict.fromkeys(self.chargers, math.inf)

    # What happens

    def propose(self, watts: float) -> None:
        self.proposals = [Proposal(0, None, Range(-math.inf, watts))]

    def withdraw(self) -> None:
        self.proposals = []
        self.under_test.release()

    def restart(self) -> None:
        """The server comes back at once, without its set-points; what was on its way is cut off."""
        for attempt in list(self.attempts):
            if not attempt.is_cut_off:
                self._cut_off(attempt, Answer.CUT_OFF)
        for charger in self.chargers.values():
            charger.held = None
            if self.under_test.target is None:
                # Nobody holds anything down.
                charger.last_held = None
            charger.quiet_until = self.now + RECONNECTED_AFTER

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Let time go by; the loop looks at everything at every step and at every answer."""
        end = self.now + seconds
        last_look = self.now
        while self.now < end:
            due = min(
                [min(a.lands_at, math.inf if a.is_cut_off else a.ends_at) for a in self.attempts],
                default=math.inf,
            )
            next_look = min(last_look + step, max(self.under_test.due_at(), last_look + 0.05))
            before, self.now = self.now, min(max(due, self.now), next_look, end)
            for charger in self.chargers.values():
                charger.received += charger.draw * (self.now - before)
                charger.follow(self.now)
            answered = self._deliver()
            if answered or self.now >= next_look or self.now >= end:
                last_look = self.now
                self._report()
                self._look()
                self._check_waiting()
            self._check_late_landings()

    def _report(self) -> None:
        for number, charger in self.chargers.items():
            if charger.silent or self.now < charger.quiet_until:
                continue
            if charger.quiet_until > -math.inf:
                charger.quiet_until = -math.inf
                self.known[number].ledger.doubt()
            self.known[number].update(self.data(number), self.now)
            if not charger.is_nan:
                self._note_phases(number, charger)
                self._empty[number] = math.inf if charger.connected else self.now

    def _note_phases(self, number: int, charger: ModelCharger) -> None:
        """Note what can be known of the phases of the car that is there.

        One that has come in the place of another between two samples is taken for that one.
        """
        if not charger.connected:
            charger.has_left = False
        known = charger.phases
        if charger.has_left:
            known = min(known, self._phases.get(number, known))
        self._phases[number] = known

    def _known_empty(self) -> frozenset[int]:
        """Give the chargers that have just said that no car is there."""
        return frozenset(n for n, at in self._empty.items() if 0 <= self.now - at < 10.0)

    def data(self, number: int) -> EVChargerData:
        charger = self.chargers[number]
        power = math.nan if charger.is_nan else charger.draw
        zero = (0.0, 0.0, 0.0)
        noise = 1.0 + self.chance.uniform(-self.voltage_noise, self.voltage_noise)
        volts = (VOLTAGE / 3 * noise,) * 3
        ampere = charger.draw / charger.phases / volts[0]
        one, two, three = (ampere if phase < charger.phases else 0.0 for phase in range(3))
        cable, state = EVChargerCableState.UNPLUGGED, EVChargerComponentState.READY
        if charger.connected:
            cable = EVChargerCableState.EV_LOCKED
            if charger.draw:
                state = EVChargerComponentState.CHARGING
        at = START + timedelta(seconds=self.now)
        return EVChargerData(
            number, at, power, zero, (one, two, three), 0.0, zero, volts,
            charger.lower, -charger.excluded, charger.upper, charger.excluded, 50.0, cable, state,
        )  # fmt: skip

    def _look(self) -> None:
        for charger in self.known.values():
            charger.advance(self.now, charger.voltage.total(None, self.now))
        commands = self.under_test.step(self.proposals, self.now)
        target = math.inf if self.under_test.target is None else self.under_test.target
        ledgers = {number: charger.ledger for number, charger in self.known.items()}
        for number in sorted(commands, key=lambda i: commands[i] - (ledgers[i].newest or 0.0)):
            self._send(number, commands[number], target)
        self.under_test.conclude()

    def _send(self, number: int, watts: float, target: float) -> None:
        self.commands += 1
        self.sent[number].append(watts)
        known = self.known[number]
        assert watts >= 0
        if target < math.inf and watts != known.ledger.newest:
            least = 6 * 230.0 * self._phases.get(number, 3) * (1 - self.voltage_noise)
            assert watts == 0 or watts >= least, "between zero and minimum"
        if known.data is not None and target < math.inf:
            assert watts <= max(0.0, known.data.active_power_inclusion_upper_bound)
        for attempt in self.attempts:
            if attempt.charger == number and not attempt.is_cut_off:
                # But for a new campaign, which trusts nothing of an earlier one.
                assert attempt.watts != watts or known.ledger.newest is None, "equal, cancelled"
                self._cut_off(attempt, None)
        if watts != known.ledger.newest:
            # Sent again as it is, it is no new one: what was held before may be held again.
            self._newest_target[number] = target
        timeout = known.ledger.timeout
        might = {n: c.ledger.may_hold() for n, c in self.known.items()}
        is_raise = watts > (might[number] or 0.0)
        attempt_number = self.under_test.sent(number, watts, self.now)
        draws = {n: c.draw for n, c in self.known.items() if not c.is_silent(self.now)}
        fault = self.chargers[number].fault
        lands_at, takes, answer = math.inf, ANSWERED_AFTER.get(fault, math.inf), Answer.CONFIRMED
        if fault in ("none", "slow", "very slow"):
            lands_at = self.now + self.chance.uniform(0.0, takes)
        elif fault == "unanswered":
            lands_at = self.now
        elif fault == "refused":
            answer = Answer.REFUSED
        if takes > timeout:
            takes, answer = timeout, Answer.TIMED_OUT
        attempt = _Attempt(
            number, attempt_number, watts, target, self.now, draws, self._known_empty(),
            0.0 if is_raise else sum(watts or RATING for watts in might.values()),
            lands_at, self.now + takes, answer,
        )  # fmt: skip
        self.attempts.append(attempt)
        if lands_at <= self.now:
            self._land(attempt)

    def _cut_off(self, attempt: _Attempt, answer: Answer | None) -> None:
        """The client knows nothing more of an attempt; the server may carry it out all the same."""
        attempt.is_cut_off = True
        if attempt.lands_at > self.now:
            lands = attempt.answer is not Answer.REFUSED and self.chance.random() < 0.5
            within = self.chance.uniform(0.0, LANDING_TIME)
            attempt.lands_at = self.now + within if lands else math.inf
        if answer is not None:
            self.under_test.done(attempt.charger, attempt.number, answer, self.now)

    def _deliver(self) -> bool:
        """Let happen what is due; tell whether the client has heard of anything."""
        answered = False
        for attempt in sorted(self.attempts, key=lambda a: min(a.lands_at, a.ends_at)):
            if attempt.lands_at <= self.now:
                self._land(attempt)
            if not attempt.is_cut_off and attempt.ends_at <= self.now:
                answered = True
                if attempt.answer is Answer.TIMED_OUT:
                    self._cut_off(attempt, Answer.TIMED_OUT)
                else:
                    attempt.is_cut_off = True
                    self.under_test.done(attempt.charger, attempt.number, attempt.answer, self.now)
        self.attempts = [a for a in self.attempts if not a.is_cut_off or a.lands_at < math.inf]
        return answered

    # What must hold

    def _land(self, attempt: _Attempt) -> None:
        """The server takes a set-point: this is where the rules are checked."""
        attempt.lands_at = math.inf
        charger = self.chargers[attempt.charger]
        before = charger.counted
        known = self.known[attempt.charger]
        is_newest = not attempt.is_cut_off or attempt.watts == known.ledger.newest
        is_first = known.ledger.confirmed is None
        is_for_car = known.stay is not None and known.stay.since <= attempt.sent_at
        if is_newest and not charger.landed_late and not is_first and is_for_car:
            # An older one that lands late is nobody's decision, nor what mends it; and what the
            # server holds before the first set-point is not known.
            self._check_rest(charger, attempt.watts)
        charger.held = charger.last_held = attempt.watts
        charger.landed_late = attempt.is_cut_off
        target = self.under_test.target
        if math.isinf(attempt.target) or target is None:
            return
        if attempt.watts <= before:
            return
        may_hold = self.known[attempt.charger].ledger.may_hold()
        assert may_hold is None or attempt.watts <= may_hold, "nobody has reckoned with it"
        if attempt.is_cut_off:
            # It was paid when it was sent, and stays counted: see the assertion above.
            self.late_landings += 1
            return
        # A decrease is one for all that might be held; where something lower has landed late, the
        # server finds more in it than it holds.
        allowed = max(target, self._newest_target[attempt.charger], attempt.might_be_held)
        total = sum(
            max(self._counted(number), min(attempt.known_draws.get(number, 0.0), other.draw))
            for number, other in self.chargers.items()
            if number == attempt.charger or number not in attempt.known_empty
        )
        assert total <= allowed + 1e-6, f"{total} W held, {allowed} W allowed"

    def _check_rest(self, charger: ModelCharger, watts: float) -> None:
        """A car is not started again before it has had its rest."""
        if not charger.connected or self.under_test.target is None:
            return
        rest = self.config.rest.total_seconds()
        if charger.held == 0 and watts:
            assert self.now - charger.started_at >= rest - 1e-6, "started again too soon"
            assert self.now - charger.stopped_at >= min(180.0, rest) - 1e-6, "no rest after a stop"
            charger.started_at = self.now
            self.starts += 1
        elif charger.held and not watts:
            charger.stopped_at = self.now

    def _check_waiting(self) -> None:
        """Nobody waits for long while there is enough for him."""
        target = self.under_test.target or 0.0
        free = target - sum(known.reserved(self.now) for known in self.known.values())
        rest = self.config.rest.total_seconds()
        for number, charger in self.chargers.items():
            known = self.known[number]
            could_start = (
                known.status(self.now) is ChargerStatus.WORKING
                and charger.held == 0
                and known.stay is not None
                and not known.stay.is_asleep
                and self.now >= known.stay.may_start_at(rest)
                and known.upper_bound > SIX_AMPERES * 1.1
                and free > SIX_AMPERES * 1.1
            )
            if not could_start:
                charger.waits_since = None
            elif charger.waits_since is None:
                charger.waits_since = self.now
            else:
                assert self.now - charger.waits_since < 600.0, "waits although there is enough"

    def _counted(self, number: int) -> float:
        """What counts as held; for what has landed late there is a rule of its own, below."""
        charger, newest = self.chargers[number], self.known[number].ledger.newest
        if charger.landed_late and newest is not None:
            return min(charger.counted, newest)
        return charger.counted

    def _check_late_landings(self) -> None:
        """What is held beyond what was sent last is mended within a second, if anything can."""
        if self.under_test.target is None:
            for charger in self.chargers.values():
                charger.needs_since = None
            return
        for number, charger in self.chargers.items():
            newest = self.known[number].ledger.newest
            is_over = newest is not None and charger.held is not None and charger.held > newest
            under_way = any(a.charger == number and not a.is_cut_off for a in self.attempts)
            if not is_over or under_way:
                charger.needs_since = None
            elif charger.needs_since is None:
                charger.needs_since = self.now
            else:
                waits = self.now - charger.needs_since
                assert waits <= 1.0 + 1e-6, f"{charger.held} W held for {waits} s, {newest} sent"

    def total_held(self) -> float:
        return sum(c.upper if c.held is None else c.held for c in self.chargers.values())
