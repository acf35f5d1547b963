"""The devices of a simulated site: what they do with the power they may have.

Powers are in W, signs follow the passive convention, times are seconds of the site's own clock.
Nothing here knows threads, sockets or the wall clock.
"""

import math
from dataclasses import dataclass, field

from microgrid_sync.model import (
    BatteryComponentState,
    EVChargerComponentState,
    InverterComponentState,
)

PerPhase = tuple[float, float, float]

NO_POWER: PerPhase = (0.0, 0.0, 0.0)
MINIMUM_CHARGING_CURRENT = 6.0
"""A: the least that a car can be offered (IEC 61851-1)."""


@dataclass(frozen=True)
class Line:
    """What the grid offers at an instant."""

    voltage: PerPhase = (230.0, 230.0, 230.0)
    """Voltage between each phase and neutral, in V."""

    frequency: float = 50.0
    """Frequency, in Hz."""


@dataclass(frozen=True)
class Flow:
    """The power that flows through one point at an instant."""

    active: PerPhase = NO_POWER
    """Active power of each phase, in W."""

    reactive: PerPhase = NO_POWER
    """Reactive power of each phase, in VAr; positive is capacitive."""

    def __add__(self, other: "Flow") -> "Flow":
        """Add up what flows side by side."""
        return Flow(_sum(self.active, other.active), _sum(self.reactive, other.reactive))

    def current(self, line: Line) -> PerPhase:
        """Give the current of each phase in A, with the sign of its active power."""
        phases = zip(self.active, self.reactive, line.voltage, strict=True)
        one, two, three = (math.copysign(math.hypot(p, q) / u, p) for p, q, u in phases)
        return one, two, three


def balanced(active: float, reactive: float = 0.0) -> Flow:
    """Share power equally between the phases."""
    return Flow((active / 3,) * 3, (reactive / 3,) * 3)


def _sum(one: PerPhase, other: PerPhase) -> PerPhase:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


class OutOfBounds(ValueError):
    """A set-point is outside the bounds that hold at the moment."""


@dataclass
class Limits:
    """The set-points and bounds of one kind of power that a device has been given."""

    lower: float
    """The least that the device is rated for."""

    upper: float
    """The most that the device is rated for."""

    set_point: float | None = None
    """The power that the device has been told to have; ``None`` leaves it alone."""

    set_point_ends: float = math.inf
    """When the set-point is forgotten."""

    inclusion: list[tuple[float, float, float]] = field(default_factory=list)
    """Lower bound, upper bound and end of each of the inclusion bounds added."""

    exclusion: list[tuple[float, float, float]] = field(default_factory=list)
    """Lower bound, upper bound and end of each of the exclusion bounds added."""

    def forget(self, now: float) -> None:
        """Drop what has ended."""
        if now >= self.set_point_ends:
            self.set_point, self.set_point_ends = None, math.inf
        self.inclusion = [bounds for bounds in self.inclusion if bounds[2] > now]
        self.exclusion = [bounds for bounds in self.exclusion if bounds[2] > now]

    def inclusion_bounds(self) -> tuple[float, float]:
        """Give the bounds between which a set-point must be: the narrowest of all."""
        lower = max([self.lower, *(bounds[0] for bounds in self.inclusion)])
        upper = min([self.upper, *(bounds[1] for bounds in self.inclusion)])
        return lower, upper

    def exclusion_bounds(self) -> tuple[float, float]:
        """Give the bounds between which a set-point must not be: the widest of all."""
        if not self.exclusion:
            return 0.0, 0.0
        return min(bounds[0] for bounds in self.exclusion), max(b[1] for b in self.exclusion)

    def command(self, power: float, ends: float) -> None:
        """Take a set-point.

        Raises:
            OutOfBounds: If it is outside the inclusion or inside the exclusion bounds.
        """
        lower, upper = self.inclusion_bounds()
        if not lower <= power <= upper:
            raise OutOfBounds(f"{power} is not between {lower} and {upper}")
        lower, upper = self.exclusion_bounds()
        if lower < power < upper and power != 0:
            raise OutOfBounds(f"{power} is between {lower} and {upper}, which is excluded")
        self.set_point, self.set_point_ends = power, ends

    def limit(self, power: float) -> float:
        """Bring a power into the inclusion bounds."""
        lower, upper = self.inclusion_bounds()
        return min(max(power, lower), upper)


@dataclass
class Device:
    """Something that consumes or produces, and can be told how much."""

    component_id: int
    active: Limits
    reactive: Limits
    flow: Flow = Flow()

    def advance(self, now: float, seconds: float, line: Line) -> None:
        """Live on until `now`, for `seconds`, and settle what flows then."""
        raise NotImplementedError

    def _settle(self, active: float) -> None:
        self.flow = balanced(active, self.reactive.set_point or 0.0)


@dataclass
class SolarInverter(Device):
    """Solar panels with their inverter: clouds pass over them; a set-point curtails them."""

    peak: float = 8000.0
    """What the panels give in full sun, in W."""

    def advance(self, now: float, seconds: float, line: Line) -> None:
        """See `Device.advance`."""
        del seconds, line
        sunshine = 0.7 + 0.2 * math.sin(now / 11) + 0.08 * math.sin(now / 2.3)
        available = -self.peak * sunshine
        # Never more than told to; it cannot give more than the sun does.
        wanted = available if self.active.set_point is None else self.active.set_point
        self._settle(self.active.limit(max(available, wanted)))

    @property
    def state(self) -> InverterComponentState:
        """What it is doing."""
        discharging = sum(self.flow.active) < 0
        return InverterComponentState.DISCHARGING if discharging else InverterComponentState.IDLE


@dataclass
class Battery:
    """A battery; its inverter moves its energy."""

    component_id: int
    capacity: float = 20_000.0
    """Wh."""

    soc: float = 55.0
    """%."""

    soc_lower: float = 10.0
    soc_upper: float = 95.0
    power: float = 0.0
    """DC power in W."""

    temperature: float = 24.0
    """°C."""

    def exchange(self, power: float, seconds: float) -> None:
        """Take up (positive) or give (negative) power for some seconds."""
        self.power = power
        self.soc += 100 * power * seconds / 3600 / self.capacity
        self.soc = min(max(self.soc, 0.0), 100.0)
        self.temperature += seconds * ((24.0 + abs(power) / 2000) - self.temperature) / 600

    @property
    def state(self) -> BatteryComponentState:
        """What it is doing."""
        if self.power > 0:
            return BatteryComponentState.CHARGING
        return BatteryComponentState.DISCHARGING if self.power < 0 else BatteryComponentState.IDLE


@dataclass
class BatteryInverter(Device):
    """A battery's inverter: swings gently to and fro while nobody tells it anything."""

    battery: Battery = field(default_factory=lambda: Battery(0))
    efficiency: float = 0.97

    def advance(self, now: float, seconds: float, line: Line) -> None:
        """See `Device.advance`."""
        del line
        wanted = self.active.set_point
        if wanted is None:
            wanted = 1500 * math.sin(now / 7)
        power = self.active.limit(wanted)
        if (power > 0 and self.battery.soc >= self.battery.soc_upper) or (
            power < 0 and self.battery.soc <= self.battery.soc_lower
        ):
            power = 0.0
        self.battery.exchange(
            power * self.efficiency if power > 0 else power / self.efficiency, seconds
        )
        self._settle(power)

    @property
    def state(self) -> InverterComponentState:
        """What it is doing."""
        power = sum(self.flow.active)
        if power > 0:
            return InverterComponentState.CHARGING
        return InverterComponentState.DISCHARGING if power < 0 else InverterComponentState.IDLE


@dataclass
class EVCharger(Device):
    """A charger; a car at it takes what it is allowed up to a limit of its own."""

    car_limit: float = 11_000.0
    """The most that the car takes, in W."""

    is_connected: bool = True
    """Whether there is a car."""

    ramp: float = 10_000.0
    """How fast the power changes, in W/s."""

    def advance(self, now: float, seconds: float, line: Line) -> None:
        """See `Device.advance`."""
        allowed = self.active.inclusion_bounds()[1]
        if self.active.set_point is not None:
            allowed = min(allowed, self.active.set_point)
        wanted = min(allowed, self.car_limit * (0.97 + 0.02 * math.sin(now / 3)))
        least = MINIMUM_CHARGING_CURRENT * sum(line.voltage)
        if allowed < least or not self.is_connected:
            wanted = 0.0
        # A limit that has been lowered holds at once; a car is only slow to take more.
        reached = sum(self.flow.active) + self.ramp * seconds
        self._settle(min(wanted, max(reached, least)))

    @property
    def state(self) -> EVChargerComponentState:
        """What it is doing."""
        charging = sum(self.flow.active) > 0
        return EVChargerComponentState.CHARGING if charging else EVChargerComponentState.READY


def solar_inverter(component_id: int, *, peak: float) -> SolarInverter:
    """Make a solar inverter that is rated for its panels' peak power."""
    return SolarInverter(component_id, Limits(-peak, 0.0), Limits(-peak / 2, peak / 2), peak=peak)


def battery_inverter(component_id: int, battery: Battery, *, rating: float) -> BatteryInverter:
    """Make a battery inverter with its battery."""
    return BatteryInverter(
        component_id, Limits(-rating, rating), Limits(-rating / 2, rating / 2), battery=battery
    )


def ev_charger(component_id: int, *, rating: float, car_limit: float) -> EVCharger:
    """Make a charger with a car that takes `car_limit` at the most."""
    return EVCharger(
        component_id, Limits(0.0, rating), Limits(-rating / 2, rating / 2), car_limit=car_limit
    )
