"""Simulates inverters, with what is on their DC side: solar panels, batteries, or both."""

import enum
import math
from dataclasses import dataclass, field

from microgrid_sync.model import (
    BatteryComponentState,
    BatteryRelayState,
    InverterComponentState,
)
from microgrid_sync.simulator.physics.devices import Commanded, Moment
from microgrid_sync.simulator.physics.electricity import NO_FLOW, Flow, Line, spread

_PRECHARGING = 3.0
"""Seconds that a battery's relays take to close."""

_FROM_HOT = 2.0
"""Seconds from hot standby to operation: the API says 5 s at the most."""

_FROM_COLD = 30.0
"""Seconds from cold standby or stand-still to operation: the API says 2 minutes at the most."""

_STANDARD_IRRADIANCE = 1000.0
"""W/m² at which a panel gives its peak power."""

_TAPER = 5.0
"""% of charge below its upper and above its lower limit within which a battery eases off."""


_ROUNDING = 1e-6
"""W: less is what is left of adding and taking away."""


class NotPossible(Exception):
    """A device cannot do what it is told in the state that it is in."""


@dataclass
class Battery:
    """A battery; its inverter moves its energy. Its power is DC, positive when it charges."""

    component_id: int
    capacity: float
    """Wh."""

    rating: float
    """The most that it takes or gives, in W."""

    soc: float = 50.0
    """%."""

    soc_lower: float = 10.0
    soc_upper: float = 95.0
    efficiency: float = 0.97
    """The part of the energy that is left after charging, and again after discharging."""

    power: float = 0.0
    temperature: float = 20.0
    """°C."""

    failed: bool = False
    closed: bool = True
    """Whether its relays are to be closed."""

    ready_at: float = 0.0
    """The second at which relays that are being closed are closed."""

    now: float = 0.0

    @property
    def connected(self) -> bool:
        """Whether power can flow."""
        return self.closed and not self.failed and self.now >= self.ready_at

    def bounds(self) -> tuple[float, float]:
        """Give the least (discharging) and the most power that it can have now, in W."""
        if not self.connected:
            return 0.0, 0.0
        room, left = self.soc_upper - self.soc, self.soc - self.soc_lower
        lower = -self.rating * min(max(left / _TAPER, 0.0), 1.0)
        return lower, self.rating * min(max(room / _TAPER, 0.0), 1.0)

    def possible(self, seconds: float) -> tuple[float, float]:
        """Give the bounds that hold when they are to be kept for some seconds.

        Narrower than `bounds` where the power would carry the charge beyond its limits.
        """
        lower, upper = self.bounds()
        if seconds <= 0:
            return lower, upper
        percent = self.capacity * 36.0 / seconds
        room, left = self.soc_upper - self.soc, self.soc - self.soc_lower
        most = max(room, 0.0) * percent / self.efficiency
        least = -max(left, 0.0) * percent * self.efficiency
        return max(lower, least), min(upper, most)

    def exchange(self, power: float, moment: Moment) -> None:
        """Take up (positive) or give (negative) power until a moment."""
        self.power = power
        stored = power * self.efficiency if power > 0 else power / self.efficiency
        self.soc += 100 * stored * moment.seconds / 3600 / self.capacity
        self.soc = min(max(self.soc, 0.0), 100.0)
        goal = moment.sky.temperature + 10.0 * abs(power) / self.rating
        self.temperature += min(moment.seconds / 1800, 1.0) * (goal - self.temperature)

    def start(self, now: float, lifetime: float) -> None:
        """Close the relays."""
        del lifetime
        self._check_not_failed()
        if not self.closed:
            self.closed, self.ready_at, self.now = True, now + _PRECHARGING, now

    def _check_not_failed(self) -> None:
        if self.failed:
            raise NotPossible("in error; acknowledge the error first")

    def stop(self) -> None:
        """Open the relays.

        Raises:
            NotPossible: If power flows through them, or it is in error.
        """
        self._check_not_failed()
        if self.power != 0:
            raise NotPossible(f"still at {self.power:.0f} W; its inverter must be at 0 W first")
        self.closed = False

    def acknowledge(self) -> None:
        """Come out of an error, with the relays open."""
        self.failed, self.closed, self.power = False, False, 0.0

    @property
    def voltage(self) -> float:
        """Of its DC side, in V: a nominal 400 V, a little more the fuller it is."""
        return 370.0 + 0.6 * self.soc

    @property
    def relay_state(self) -> BatteryRelayState:
        """What its relays are doing."""
        if self.failed:
            return BatteryRelayState.ERROR
        if not self.closed:
            return BatteryRelayState.OPENED
        waiting = self.now < self.ready_at
        return BatteryRelayState.PRECHARGING if waiting else BatteryRelayState.CLOSED

    @property
    def state(self) -> BatteryComponentState:
        """What it is doing."""
        if self.failed:
            return BatteryComponentState.ERROR
        if not self.closed:
            return BatteryComponentState.OFF
        if self.now < self.ready_at:
            return BatteryComponentState.SWITCHING_ON
        if self.power > 0:
            return BatteryComponentState.CHARGING
        return BatteryComponentState.DISCHARGING if self.power < 0 else BatteryComponentState.IDLE


class Operation(enum.Enum):
    """How far an inverter is from delivering power."""

    RUNNING = "running"
    HOT_STANDBY = "in hot standby"
    COLD_STANDBY = "in cold standby"
    STOPPED = "stopped"


@dataclass
class Inverter(Commanded):
    """An inverter between the site's wires and panels, batteries, or both.

    What its DC side can neither take nor give does not flow: panels are curtailed first, and then
    the power is less than asked.
    """

    rating: float = 10_000.0
    """The most that it takes or gives, in W."""

    peak: float = 0.0
    """What its panels give in full sun, in W; 0 without panels."""

    batteries: tuple[Battery, ...] = ()
    efficiency: float = 0.97
    """The part of the power that is left on the other side."""

    ramp: float = 10_000.0
    """How fast its power changes when it is told to, in W/s."""

    balances: bool = False
    """Whether, left alone, it uses its battery to bring the site's power to zero."""

    site_power: float = field(default=0.0, kw_only=True)
    """The power of the rest of the site in W, when it balances that."""

    solar_power: float = field(default=0.0, kw_only=True)
    """What its panels give now, in W, never negative."""

    operation: Operation = field(default=Operation.RUNNING, kw_only=True)
    ready_at: float = field(default=0.0, kw_only=True)
    """The second at which an inverter that has been started runs."""

    now: float = field(default=0.0, kw_only=True)

    def advance(self, moment: Moment) -> None:
        """See `Device.advance`."""
        self.now = moment.now
        for battery in self.batteries:
            battery.now = moment.now
        if self.failed or self.operation is not Operation.RUNNING or self.now < self.ready_at:
            self._settle(0.0, 0.0, moment)
            self.flow = NO_FLOW
            return
        sunshine = self.peak * moment.sky.irradiance / _STANDARD_IRRADIANCE
        power, solar = self._possible(self._wanted(sunshine, moment), sunshine, moment)
        self._settle(power, solar, moment)
        active = spread(power, self.phases)
        apparent = math.sqrt(max(self.rating**2 - power**2, 0.0)) / len(self.phases)
        reactive = self.reactive_flow(active, self.phases, self._most_current(), moment.line)
        one, two, three = (min(max(q, -apparent), apparent) for q in reactive)
        self.flow = Flow(active, (one, two, three))

    def _most_current(self) -> float:
        lower, upper = self.current_limits(self.phases)
        return max(min(-lower, upper), 0.0)

    def _wanted(self, sunshine: float, moment: Moment) -> float:
        """Find the AC power it would have if its DC side could do anything."""
        if self.active.set_point is not None:
            wanted = self.active.set_point
        elif self.balances:
            # What the panels give and the battery has no room for goes out: it is not wasted.
            room = sum(battery.possible(moment.seconds)[1] for battery in self.batteries)
            wanted = min(-self.site_power, self._ac(room - sunshine))
        else:
            wanted = self._ac(-sunshine)
        wanted = self._limited(wanted, moment.line)
        step, before = self.ramp * moment.seconds, self.flow.power
        return min(max(wanted, before - step), before + step)

    def _limited(self, wanted: float, line: Line) -> float:
        """Bring a power into all bounds; to 0 if they have nothing in common."""
        lower, upper = self.active.inclusion_bounds()
        # Each phase carries the same power: the one with the least voltage has the most current.
        volts = min(line.voltage[phase - 1] for phase in self.phases) * len(self.phases)
        least, most = self.current_limits(self.phases)
        lower, upper = max(lower, least * volts), min(upper, most * volts)
        if lower > upper:
            return 0.0
        wanted = min(max(wanted, lower), upper)
        excluded = self.active.excludes(wanted) or self.excludes_current(
            wanted / volts, self.phases
        )
        return 0.0 if excluded else wanted

    def _possible(self, wanted: float, sunshine: float, moment: Moment) -> tuple[float, float]:
        """Find the AC power that the DC side allows, and what the panels give then."""
        bounds = [battery.possible(moment.seconds) for battery in self.batteries]
        lower, upper = sum(b[0] for b in bounds), sum(b[1] for b in bounds)
        taken = self._dc(wanted)
        if taken > upper:
            return self._ac(upper), 0.0
        if taken + sunshine > upper:
            return wanted, upper - taken
        if taken + sunshine < lower:
            return self._ac(lower - sunshine), sunshine
        return wanted, sunshine

    def _settle(self, power: float, solar: float, moment: Moment) -> None:
        """Move the DC side's power: each battery takes the part that it is able to."""
        self.solar_power = solar
        charge = self._dc(power) + solar
        if abs(charge) < _ROUNDING:
            charge = 0.0
        bounds = [battery.possible(moment.seconds)[charge > 0] for battery in self.batteries]
        most = sum(bounds)
        for battery, bound in zip(self.batteries, bounds, strict=True):
            battery.exchange(charge * bound / most if most else 0.0, moment)

    def _dc(self, power: float) -> float:
        return power * self.efficiency if power > 0 else power / self.efficiency

    def _ac(self, power: float) -> float:
        return power / self.efficiency if power > 0 else power * self.efficiency

    def check_operational(self) -> str | None:
        """See `Commanded.check_operational`."""
        if self.operation is not Operation.RUNNING and not self.failed:
            return f"{self.operation.value}; start it first"
        return super().check_operational()

    def start(self, now: float, lifetime: float) -> None:
        """Close the relays and wait for commands, for as long as a set-point lasts at zero."""
        self._check_not_failed()
        if self.operation is Operation.RUNNING:
            return
        hot = self.operation is Operation.HOT_STANDBY
        self.ready_at = now + (_FROM_HOT if hot else _FROM_COLD)
        self.operation, self.now = Operation.RUNNING, now
        self.active.set_point, self.active.set_point_ends = 0.0, self.ready_at + lifetime

    def hot_standby(self) -> None:
        """Go to no power with closed relays."""
        self._check_not_failed()
        if self.operation in {Operation.COLD_STANDBY, Operation.STOPPED}:
            raise NotPossible(f"{self.operation.value}: relays are open; start it first")
        if self.now < self.ready_at:
            raise NotPossible("still switching on")
        self._rest(Operation.HOT_STANDBY)

    def cold_standby(self) -> None:
        """Go to no power and open the AC relays."""
        self._check_not_failed()
        if self.operation is Operation.STOPPED:
            raise NotPossible(f"{self.operation.value}: its DC relays are open; start it first")
        self._rest(Operation.COLD_STANDBY)

    def stop(self) -> None:
        """Open all relays."""
        self._check_not_failed()
        self._rest(Operation.STOPPED)

    def acknowledge(self) -> None:
        """Come out of an error, into cold standby."""
        self.failed = False
        self._rest(Operation.COLD_STANDBY)

    def _rest(self, operation: Operation) -> None:
        self.operation, self.active.set_point, self.reactive.set_point = operation, None, None
        self.flow = NO_FLOW

    def _check_not_failed(self) -> None:
        if self.failed:
            raise NotPossible("in error; acknowledge the error first")

    @property
    def state(self) -> InverterComponentState:
        """What it is doing.

        Hot standby is idle: the API's word standby means disconnected from the grid.
        """
        if self.failed:
            return InverterComponentState.ERROR
        if self.operation is Operation.STOPPED:
            return InverterComponentState.OFF
        if self.operation is Operation.COLD_STANDBY:
            return InverterComponentState.STANDBY
        if self.now < self.ready_at:
            return InverterComponentState.SWITCHING_ON
        power = self.flow.power
        if power > 0:
            return InverterComponentState.CHARGING
        return InverterComponentState.DISCHARGING if power < 0 else InverterComponentState.IDLE
