"""Simulates EV chargers, and the cars at them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from microgrid_sync.model import EVChargerCableState, EVChargerComponentState
from microgrid_sync.simulator.physics.cars import Car, ScheduledCar, Visit
from microgrid_sync.simulator.physics.devices import Commanded, Moment
from microgrid_sync.simulator.physics.electricity import NO_FLOW, Flow, Line

MINIMUM_CHARGING_CURRENT = 6.0
"""A: the least that a car can be offered (IEC 61851-1)."""

_LOCKING = 3.0
"""Seconds until a cable that has been plugged in is locked."""


@dataclass
class EVCharger(Commanded):
    """A charger; a car at it takes what it is offered, up to limits of its own."""

    rated_current: float = 32.0
    """A for each phase."""

    scheduled_cars: Sequence[ScheduledCar] = ()
    """The cars that come here; the first to come keeps the others out."""

    car: Car | None = None
    """The car that is here now."""

    starts: int = field(default=0, kw_only=True)
    """How often a car has begun to charge here; after each pause again."""

    plugged_at: float = field(default=0.0, kw_only=True)
    """When it was plugged in, in seconds of the site's clock."""

    reports_own_phases: bool = field(default=False, kw_only=True)
    """Whether it numbers the phases as it is connected: what it calls phase 1 is the first of
    `phases`. Else it calls them what the site does."""

    now: float = field(default=0.0, kw_only=True)
    _heeded: float = field(default=0.0, init=False)
    """What its car follows of the offers, in A."""

    _offers: list[tuple[float, float]] = field(default_factory=list, init=False)
    """Later ones, each with when the car will follow it."""

    _offered_since: float = field(default=0.0, init=False)
    _charged_for: float = field(default=0.0, init=False)
    _paused_until: float = field(default=0.0, init=False)
    _visit: tuple[int, Visit] | None = field(default=None, init=False)
    _sent_away: dict[int, float] = field(default_factory=dict, init=False)

    def advance(self, moment: Moment) -> None:
        """See `Device.advance`."""
        before, self.now = self.now, moment.now
        if self.scheduled_cars:
            self._receive_cars(moment, before)
        car = self.car
        if car is None or self.failed:
            self.flow = NO_FLOW
            return
        used = self.phases[: car.phases]
        # A car that has just come has not been charging since the moment before.
        seconds = min(moment.seconds, moment.now - self.plugged_at)
        ampere = self._heed(car, self._offered(car, used, moment.line))
        power = self._power(car, used, ampere, seconds, moment)
        self.starts += self.flow.power <= 0 < power
        car.charge(power, seconds)
        self._charged_for += seconds if power > 0 else 0.0
        if power <= 0:
            self.flow = NO_FLOW
            return
        active = self._by_voltage(power, used, moment.line)
        most = min(self.rated_current, car.cable_current, self.current_limits(used)[1])
        self.flow = Flow(active, self.reactive_flow(active, used, most, moment.line))

    def _heed(self, car: Car, ampere: float) -> float:
        """Find the offer that the car follows: it is slow to notice a new one, and pauses."""
        now = self.now
        newest = self._offers[-1][1] if self._offers else self._heeded
        if ampere != newest:
            if newest < MINIMUM_CHARGING_CURRENT <= ampere:
                self._offered_since = now
            self._offers.append((now + car.obeys_after, ampere))
        while self._offers and self._offers[0][0] <= now:
            self._heeded = self._offers.pop(0)[1]
        if now < self._paused_until or now - self._offered_since < car.starts_after:
            return 0.0
        if car.pauses_every and self._charged_for >= car.pauses_every:
            self._charged_for, self._paused_until = 0.0, now + car.pause_lasts
            return 0.0
        return self._heeded

    def _offered(self, car: Car, used: tuple[int, ...], line: Line) -> float:
        """Find the current in each phase that the car may take, in A."""
        volts = sum(line.voltage[phase - 1] for phase in used)
        if not volts:
            return 0.0
        allowed = self.active.inclusion_bounds()[1]
        if self.active.set_point is not None:
            allowed = min(allowed, self.active.set_point)
        highest = self.current_limits(used)[1]
        allowed = self.active.limit(allowed)
        offered = min(allowed / volts, self.rated_current, car.cable_current, highest)
        return 0.0 if self.excludes_current(offered, used) else offered

    def _power(
        self, car: Car, used: tuple[int, ...], ampere: float, seconds: float, moment: Moment
    ) -> float:
        """Find what the car takes, in W."""
        if ampere < MINIMUM_CHARGING_CURRENT - 1e-9:
            return 0.0
        volts = sum(moment.line.voltage[phase - 1] for phase in used)
        # A limit that has been lowered holds at once; a car is only slow to take more.
        least = MINIMUM_CHARGING_CURRENT * volts
        reached = max(self.flow.power + car.ramp * moment.seconds, least)
        return min(ampere * volts, car.wanted(seconds), reached)

    @staticmethod
    def _by_voltage(power: float, used: tuple[int, ...], line: Line) -> tuple[float, float, float]:
        """Share the power so that each phase in use carries the same current."""
        volts = line.voltage
        ampere = power / sum(volts[phase - 1] for phase in used)
        one, two, three = (ampere * volts[p - 1] if p in used else 0.0 for p in (1, 2, 3))
        return one, two, three

    def plug_in(self, car: Car) -> None:
        """Connect a car; it stays until it is unplugged."""
        self.car, self.plugged_at, self._visit = car, self.now, None
        self._forget_offers()
        self.flow = NO_FLOW

    def unplug(self) -> None:
        """Let the car go. One that the site's description brings comes back for its next visit."""
        if self._visit is not None:
            number, visit = self._visit
            self._sent_away[number] = visit.leaves
        self.car, self._visit, self.flow = None, None, NO_FLOW
        self._forget_offers()

    def _forget_offers(self) -> None:
        self._offers, self._heeded, self._charged_for, self._paused_until = [], 0.0, 0.0, 0.0

    def acknowledge(self) -> None:
        """Come out of an error."""
        self.failed = False

    def _receive_cars(self, moment: Moment, before: float) -> None:
        """Let cars come and go that the site's description has announced."""
        if self._visit is not None and moment.now >= self._visit[1].leaves:
            self.unplug()
        if self.car is not None:
            return
        waiting: list[tuple[int, Visit]] = []
        for number, scheduled in enumerate(self.scheduled_cars):
            visit = scheduled.visits(moment.now, moment.time)
            if visit is not None and moment.now >= self._sent_away.get(number, -math.inf):
                waiting.append((number, visit))
        if waiting:
            # Of several that wait for the charger, the first to come.
            number, visit = min(waiting, key=lambda found: found[1].arrives)
            self.plug_in(replace(self.scheduled_cars[number].car, soc=visit.soc))
            self._visit = number, visit
            self.plugged_at = max(visit.arrives, before)

    @property
    def cable_state(self) -> EVChargerCableState:
        """How the cable is connected."""
        if self.car is None:
            return EVChargerCableState.UNPLUGGED
        locked = self.now - self.plugged_at >= _LOCKING
        return EVChargerCableState.EV_LOCKED if locked else EVChargerCableState.EV_PLUGGED

    @property
    def state(self) -> EVChargerComponentState:
        """What it is doing.

        A car that is offered too little, or is full, leaves it ready: not ready means, in the
        API's words, that nothing is plugged in.
        """
        if self.failed:
            return EVChargerComponentState.ERROR
        if self.car is None:
            return EVChargerComponentState.NOT_READY
        charging = self.flow.power > 0
        return EVChargerComponentState.CHARGING if charging else EVChargerComponentState.READY
