"""EV chargers, and the cars at them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from microgrid_sync.model import EVChargerCableState, EVChargerComponentState
from microgrid_sync.simulator.cars import Car, Guest, Visit
from microgrid_sync.simulator.devices import Commanded, Moment
from microgrid_sync.simulator.electricity import NO_FLOW, Flow, Line, spread

MINIMUM_CHARGING_CURRENT = 6.0
"""A: the least that a car can be offered (IEC 61851-1)."""

_LOCKING = 3.0
"""Seconds until a cable that has been plugged in is locked."""


@dataclass
class EVCharger(Commanded):
    """A charger; a car at it takes what it is offered, up to limits of its own."""

    rated_current: float = 32.0
    """A for each phase."""

    guests: Sequence[Guest] = ()
    """The cars that come here; the first to come keeps the others out."""

    car: Car | None = None
    """The car that is here now."""

    plugged_at: float = field(default=0.0, kw_only=True)
    """When it was plugged in, in seconds of the site's clock."""

    now: float = field(default=0.0, kw_only=True)
    _visit: Visit | None = field(default=None, init=False)

    def advance(self, moment: Moment) -> None:
        """See `Device.advance`."""
        self.now = moment.now
        if self.car is not None:
            # What has flowed since the moment before was settled then.
            self.car.charge(self.flow.power, moment.seconds)
        if self.guests:
            self._receive_guests(moment)
        car = self.car
        if car is None or self.failed:
            self.flow = NO_FLOW
            return
        used = self.phases[: car.phases]
        power = self._power(car, used, moment)
        if power <= 0:
            self.flow = NO_FLOW
            return
        self.flow = Flow(self._by_voltage(power, used, moment.line), self._reactive(used))

    def _power(self, car: Car, used: tuple[int, ...], moment: Moment) -> float:
        """Find what the car takes, in W."""
        volts = sum(moment.line.voltage[phase - 1] for phase in used)
        allowed = self.active.inclusion_bounds()[1]
        if self.active.set_point is not None:
            allowed = min(allowed, self.floored(self.active.set_point))
        highest = self.current_limits()[1]
        offered = min(allowed / volts, self.rated_current, car.cable_current, highest)
        if offered < MINIMUM_CHARGING_CURRENT - 1e-9:
            return 0.0
        least = MINIMUM_CHARGING_CURRENT * volts
        # A limit that has been lowered holds at once; a car is only slow to take more.
        reached = max(self.flow.power + car.ramp * moment.seconds, least)
        return min(offered * volts, car.wanted(), reached)

    @staticmethod
    def _by_voltage(power: float, used: tuple[int, ...], line: Line) -> tuple[float, float, float]:
        """Share the power so that each phase in use carries the same current."""
        volts = line.voltage
        ampere = power / sum(volts[phase - 1] for phase in used)
        one, two, three = (ampere * volts[p - 1] if p in used else 0.0 for p in (1, 2, 3))
        return one, two, three

    def _reactive(self, used: tuple[int, ...]) -> tuple[float, float, float]:
        return spread(self.reactive_power(), used)

    def plug_in(self, car: Car) -> None:
        """Connect a car; it stays until it is unplugged."""
        self.car, self.plugged_at, self._visit = car, self.now, None

    def unplug(self) -> None:
        """Let the car go."""
        self.car, self._visit = None, None

    def acknowledge(self) -> None:
        """Come out of an error."""
        self.failed = False

    def _receive_guests(self, moment: Moment) -> None:
        if self._visit is not None and moment.now >= self._visit.leaves:
            self.unplug()
        if self.car is not None:
            return
        for guest in self.guests:
            visit = guest.visits(moment.now, moment.time)
            if visit is not None:
                self.car, self._visit = guest.new_car(visit.soc), visit
                self.plugged_at = moment.now
                return

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
