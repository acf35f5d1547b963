"""Simulates what all devices have in common, and those that nobody can command.

Nothing here knows threads, sockets or the wall clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from microgrid_sync.simulator.physics.electricity import (
    ALL_PHASES,
    NO_FLOW,
    NO_POWER,
    Flow,
    Line,
    PerPhase,
    spread,
    total,
)
from microgrid_sync.simulator.physics.limits import Limits
from microgrid_sync.simulator.physics.randomness import Fluctuation, generator
from microgrid_sync.simulator.physics.weather import Sky


class Moment(NamedTuple):
    """An instant of a site's life, and what came before it."""

    now: float
    """Seconds since the site's clock began."""

    seconds: float
    """Seconds since the moment before."""

    time: datetime
    """Date and time in the site's time zone."""

    line: Line
    sky: Sky


class Switched(Protocol):
    """Something that is switched on and off."""

    def advance(self, moment: Moment) -> Flow:
        """Live on until a moment; give what flows then."""


@dataclass
class Device:
    """Something with an AC side that consumes or produces."""

    component_id: int
    flow: Flow = field(default=NO_FLOW, kw_only=True)
    """What flows now."""

    failed: bool = field(default=False, kw_only=True)
    """Whether it is in error; it neither consumes nor produces then."""

    def advance(self, moment: Moment) -> None:
        """Live on until a moment, and settle what flows then."""
        raise NotImplementedError


@dataclass
class Commanded(Device):
    """A device that takes set-points and bounds."""

    active: Limits
    """Active power in W."""

    reactive: Limits
    """Reactive power in VAr."""

    phases: tuple[int, ...] = ALL_PHASES
    """The phases that it is connected to."""

    current: Limits = field(default_factory=Limits)
    """Current in A, the same for each phase; nobody can set it, it only has bounds."""

    current_per_phase: tuple[Limits, Limits, Limits] = field(
        default_factory=lambda: (Limits(), Limits(), Limits())
    )
    """Current of each phase in A; likewise."""

    resolution: float = 0.0
    """W and VAr: the magnitude of a set-point is floored to a multiple of it; 0 takes any."""

    def __post_init__(self) -> None:
        """Collect the limits once: they are gone through at every moment."""
        self._limits = (self.active, self.reactive, self.current, *self.current_per_phase)

    def forget(self, now: float) -> None:
        """Drop set-points and bounds that have ended."""
        for limits in self._limits:
            limits.forget(now)

    def current_limits(self, used: Sequence[int]) -> tuple[float, float]:
        """Give the bounds of the current in each phase in use, in A.

        Those of the whole current are shared by the phases.
        """
        of_phases = [self.current_per_phase[phase - 1].inclusion_bounds() for phase in used]
        lower, upper = self.current.inclusion_bounds()
        bounds = [*of_phases, (lower / len(used), upper / len(used))]
        return max(b[0] for b in bounds), min(b[1] for b in bounds)

    def excludes_current(self, ampere: float, used: Sequence[int]) -> bool:
        """Tell whether a current in each phase in use is inside of what is excluded."""
        return self.current.excludes(ampere * len(used)) or any(
            self.current_per_phase[phase - 1].excludes(ampere) for phase in used
        )

    def check_operational(self) -> str | None:
        """Say why it cannot take a set-point now; ``None`` if it can."""
        return "in error; acknowledge the error first" if self.failed else None

    def reactive_flow(
        self, active: PerPhase, used: Sequence[int], ampere: float, line: Line
    ) -> PerPhase:
        """Give the reactive power that flows beside some active power, in VAr.

        Args:
            active: The active power of each phase.
            used: The phases in use.
            ampere: The most current in each of them that limits leave.
            line: What the wires offer.
        """
        if self.reactive.set_point is None:
            return NO_POWER
        share = self.reactive.limit(self.reactive.set_point) / len(used)
        flow = [0.0, 0.0, 0.0]
        for phase in used:
            apparent = ampere * line.voltage[phase - 1]
            room = math.sqrt(max(apparent * apparent - active[phase - 1] ** 2, 0.0))
            flow[phase - 1] = min(max(share, -room), room)
        return flow[0], flow[1], flow[2]

    def floored(self, power: float) -> float:
        """Bring the magnitude of a set-point down to what the device can resolve."""
        if not self.resolution:
            return power
        # A little more: 0.3 is three times 0.1, whatever binary fractions say.
        times = math.floor(abs(power) / self.resolution + 1e-9)
        return math.copysign(times * self.resolution, power) if times else 0.0


HOUSEHOLD = (
    0.22, 0.18, 0.16, 0.15, 0.15, 0.20, 0.42, 0.58, 0.50, 0.40, 0.38, 0.45,
    0.60, 0.52, 0.42, 0.40, 0.48, 0.68, 0.92, 1.00, 0.88, 0.70, 0.48, 0.32,
)  # fmt: skip
"""A household's power at each full hour of a day, as a part of its highest."""

WORKPLACE = (
    0.15, 0.15, 0.15, 0.15, 0.16, 0.20, 0.35, 0.65, 0.90, 0.98, 1.00, 0.97,
    0.85, 0.93, 0.96, 0.92, 0.80, 0.55, 0.35, 0.25, 0.20, 0.17, 0.15, 0.15,
)  # fmt: skip
"""A workplace's on a working day."""

_WEEKEND = 0.22
"""A workplace's at any hour of a weekend."""

PROFILES = ("constant", "household", "workplace")


def profile_at(profile: str, time: datetime) -> float:
    """Find how much of its highest power a load of some kind draws on the average.

    Args:
        profile: One of `PROFILES`.
        time: The local time.
    """
    if profile == "constant":
        return 1.0
    if profile == "workplace" and time.weekday() >= 5:
        return _WEEKEND
    hours = WORKPLACE if profile == "workplace" else HOUSEHOLD
    past = (time.minute + time.second / 60) / 60
    return hours[time.hour] * (1 - past) + hours[(time.hour + 1) % 24] * past


class Load(Device):
    """All that draws power without being a component that says so: lights, machines, a house."""

    def __init__(
        self,
        component_id: int,
        *,
        profile: str,
        power: float,
        seed: int,
        appliances: Sequence["Switched"] = (),
    ) -> None:
        """Make a load.

        Args:
            component_id: The component through which it flows: a meter, or the consumer itself.
            profile: One of `PROFILES`.
            power: The highest of the profile in W; what flows strays around it.
            seed: The site's seed.
            appliances: What is switched on and off there besides.
        """
        super().__init__(component_id)
        self._appliances = appliances
        self._profile = profile
        self._power = power
        chance = generator(seed, "load", component_id)
        steady = profile == "constant"
        # A constant load is a machine with three equal phases; people plug things in anywhere.
        self._strays = [
            Fluctuation(chance, deviation=0.02 if steady else 0.15, persistence=60.0)
            for _ in ALL_PHASES
        ]
        uneven = 0.0 if steady else 0.4
        shares = [1.0 + chance.uniform(-uneven, uneven) for _ in ALL_PHASES]
        self._shares = [share / sum(shares) for share in shares]
        # Motors and power supplies: a little inductive, so negative.
        self._reactive = 0.0 if steady else -0.2

    def advance(self, moment: Moment) -> None:
        """See `Device.advance`."""
        strays = [stray.advance(moment.seconds) for stray in self._strays]
        power = self._power * profile_at(self._profile, moment.time)
        one, two, three = (
            max(0.0, power * share * (1 + stray))
            for share, stray in zip(self._shares, strays, strict=True)
        )
        factor = self._reactive
        steady = Flow((one, two, three), (factor * one, factor * two, factor * three))
        self.flow = steady
        if self._appliances:
            self.flow = total([steady, *(each.advance(moment) for each in self._appliances)])


@dataclass
class HeatAndPower(Device):
    """A heat and power plant: it runs for the heat, at the same hours each day."""

    rating: float
    """What it produces when it runs, in W."""

    hours: tuple[float, float]
    """From when until when it runs, as seconds of the local day; over midnight if it ends first."""

    ramp: float
    """How fast it starts and stops, in W/s."""

    def advance(self, moment: Moment) -> None:
        """See `Device.advance`."""
        wanted = 0.0 if self.failed or not self._runs(moment.time) else self.rating
        step = self.ramp * moment.seconds
        produced = -self.flow.power
        produced = min(max(wanted, produced - step), produced + step)
        self.flow = Flow(spread(-produced, ALL_PHASES)) if produced and not self.failed else NO_FLOW

    def _runs(self, time: datetime) -> bool:
        second = time.hour * 3600 + time.minute * 60 + time.second
        start, end = self.hours
        return start <= second < end if start <= end else second >= start or second < end
