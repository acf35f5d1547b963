"""Simulates a site: components, connected, on one clock of their own."""

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from microgrid_sync.simulator.charger import EVCharger
from microgrid_sync.simulator.devices import Commanded, Device, Load, Moment
from microgrid_sync.simulator.electricity import ALL_PHASES, NO_FLOW, Flow, Line, total
from microgrid_sync.simulator.faults import Fault
from microgrid_sync.simulator.inverters import Battery, Inverter, NotPossible
from microgrid_sync.simulator.randomness import Fluctuation, generator
from microgrid_sync.simulator.weather import Sky, Weather


class SiteCategory(enum.IntEnum):
    """Every category that the API has a number for."""

    UNSPECIFIED = 0
    GRID = 1
    METER = 2
    INVERTER = 3
    CONVERTER = 4
    BATTERY = 5
    EV_CHARGER = 6
    SENSOR = 7
    CRYPTO_MINER = 8
    ELECTROLYZER = 9
    CHP = 10
    RELAY = 11
    PRECHARGE_MODULE = 12


STREAMING = frozenset(
    {
        SiteCategory.METER,
        SiteCategory.INVERTER,
        SiteCategory.BATTERY,
        SiteCategory.EV_CHARGER,
        SiteCategory.SENSOR,
    }
)
"""The categories that the API has data of."""


@dataclass(frozen=True)
class SiteComponent:
    """A component as it is listed."""

    component_id: int
    category: SiteCategory
    name: str
    type: str | None = None
    """The API's word for its type, such as ``solar``; ``None`` if it has none."""

    fuse: float | None = None
    """A: a grid connection's rated fuse current."""

    sample_interval: float = 1.0
    """Seconds between two samples of its data."""


@dataclass(frozen=True)
class ComponentError:
    """An error that a component reports."""

    code: str = "UNSPECIFIED"
    """The API's name of the code, without its prefix."""

    message: str = ""
    recoverable: bool = True
    """Whether it ends when it is acknowledged."""


class Supply:
    """The public grid at the site's connection."""

    def __init__(self, seed: int, *, voltage: float, frequency: float, resistance: float) -> None:
        """Make a grid.

        Args:
            seed: The site's seed.
            voltage: Between each phase and neutral when nothing flows, in V.
            frequency: The nominal frequency, in Hz.
            resistance: Of each phase up to the site, in ohm: what makes the voltage sag.
        """
        self._voltage = voltage
        self._frequency = frequency
        self._resistance = resistance
        chance = generator(seed, "supply")
        self._common = Fluctuation(chance, deviation=0.005 * voltage, persistence=900.0)
        self._phases = [
            Fluctuation(chance, deviation=0.002 * voltage, persistence=20.0) for _ in ALL_PHASES
        ]
        self._frequency_drift = Fluctuation(chance, deviation=0.015, persistence=30.0)

    def advance(self, seconds: float, drawn: Flow) -> Line:
        """Live on for some seconds; give what is offered while some power is drawn.

        The current in each phase, its sign included, takes its part of the voltage away; never
        more than half of it, and adds no more than that.
        """
        common = self._common.advance(seconds)
        drops = (self._resistance * power / self._voltage for power in drawn.active)
        one, two, three = (
            min(
                max(self._voltage + common + phase.advance(seconds) - drop, self._voltage / 2),
                self._voltage * 1.5,
            )
            for phase, drop in zip(self._phases, drops, strict=True)
        )
        return Line((one, two, three), self._frequency + self._frequency_drift.advance(seconds))


class Site:
    """The components of a site, and the devices behind them.

    Made by `load_site`. Not for several threads at once: its owner, a simulator usually, sees to
    that.
    """

    def __init__(
        self,
        *,
        name: str,
        microgrid_id: int,
        seed: int,
        latitude: float,
        longitude: float,
        zone: tzinfo,
        start: datetime | None,
        supply: Supply,
        weather: Weather,
        components: Sequence[SiteComponent],
        connections: Sequence[tuple[int, int]],
        devices: Iterable[Device],
        faults: Sequence[Fault],
        set_point_lifetime: float,
        bounds_lifetime: float,
    ) -> None:
        """Put a site together, at second 0 of its clock; `load_site` knows what is allowed."""
        self.name = name
        self.microgrid_id = microgrid_id
        self.seed = seed
        self.latitude = latitude
        self.longitude = longitude
        self.follows_wall_clock = start is None
        """Whether its clock began at the time of day when it was made, not at one of its own."""
        self.components = {component.component_id: component for component in components}
        self.connections = connections
        self.devices = {device.component_id: device for device in devices}
        self.batteries: dict[int, Battery] = {
            battery.component_id: battery
            for device in self.devices.values()
            if isinstance(device, Inverter)
            for battery in device.batteries
        }
        self.scheduled_faults = faults
        self.set_point_lifetime = set_point_lifetime
        self.bounds_lifetime = bounds_lifetime
        self.errors: dict[int, ComponentError] = {}
        """What components report to be wrong with them."""
        self._zone = zone
        self._start = (start or datetime.now(UTC)).astimezone(UTC)
        self._supply = supply
        self._weather = weather
        self._commanded = [d for d in self.devices.values() if isinstance(d, Commanded)]
        self._balancing = [
            d for d in self.devices.values() if isinstance(d, Inverter) and d.balances
        ]
        self._others = [d for d in self.devices.values() if d not in self._balancing]
        self._successors: dict[int, list[int]] = {i: [] for i in self.components}
        for begin, end in connections:
            self._successors[begin].append(end)
        self._outwards = self._order()
        self._grids = [c.component_id for c in components if c.category is SiteCategory.GRID]
        self.now = 0.0
        """Seconds since its clock began."""
        self.flows: Mapping[int, Flow] = dict.fromkeys(self.components, NO_FLOW)
        """What flows through each component with an AC side; a meter's is the sum behind it."""
        self.line = Line()
        """What the wires offer now."""
        self.sky = Sky(0.0, 0.0, 0.0)
        """The weather now."""
        self.advance(0.0)

    @property
    def time(self) -> datetime:
        """Date and time of its clock, in UTC."""
        return self._start + timedelta(seconds=self.now)

    def set_time(self, time: datetime) -> None:
        """Set date and time of its clock; what has been lived stays as it is."""
        self._start = time.astimezone(UTC) - timedelta(seconds=self.now)

    def successors(self, component_id: int) -> list[int]:
        """Give the IDs of the components that a component feeds directly."""
        return self._successors[component_id]

    def advance(self, seconds: float) -> None:
        """Live on for some seconds."""
        self.advance_to(self.now + seconds)

    def advance_to(self, now: float) -> None:
        """Live on until a second of its clock.

        Raises:
            ValueError: If that has passed already, or is no number.
        """
        before, seconds = self.now, now - self.now
        if not 0 <= seconds < math.inf:
            raise ValueError(f"the site cannot go from second {before:g} to {now:g}")
        self.now = now
        time = self.time
        drawn = total(self.flows[grid] for grid in self._grids)
        self.sky = self._weather.advance(time, seconds)
        self.line = self._supply.advance(seconds, drawn)
        moment = Moment(now, seconds, time.astimezone(self._zone), self.line, self.sky)
        for commanded in self._commanded:
            # What ended meanwhile has been in force until then: it shows once more.
            commanded.forget(before)
        for device in self._others:
            device.advance(moment)
        self._balance(moment)
        self._add_up()

    def _balance(self, moment: Moment) -> None:
        """Let the inverters that balance the site answer what all others do at this moment.

        They share it by their ratings; what one of them cannot do is left to those after it.
        """
        rest = sum(device.flow.power for device in self._others)
        rating = sum(inverter.rating for inverter in self._balancing)
        for inverter in self._balancing:
            inverter.site_power = rest * inverter.rating / rating
            inverter.advance(moment)
            rest += inverter.flow.power
            rating -= inverter.rating

    def _add_up(self) -> None:
        """Find what flows through each component: its device's own, or the sum behind it."""
        flows: dict[int, Flow] = {}
        for component_id in self._outwards:
            device = self.devices.get(component_id)
            behind = self._successors[component_id]
            if device is not None:
                flows[component_id] = device.flow
            else:
                flows[component_id] = total([flows[i] for i in behind]) if behind else NO_FLOW
        self.flows = flows

    def _order(self) -> list[int]:
        """Put the components in an order in which each comes after all that it feeds."""
        order: dict[int, None] = {}
        for root in self.components:
            stack = [root]
            while stack:
                component_id = stack[-1]
                waiting = [i for i in self._successors[component_id] if i not in order]
                if waiting:
                    stack.extend(waiting)
                else:
                    order.setdefault(stack.pop())
        return list(order)

    def charger(self, component_id: int) -> EVCharger:
        """Give an EV charger; `KeyError` if there is none of that ID."""
        device = self.devices[component_id]
        if not isinstance(device, EVCharger):
            raise KeyError(component_id)
        return device

    def inverter(self, component_id: int) -> Inverter:
        """Give an inverter; `KeyError` if there is none of that ID."""
        device = self.devices[component_id]
        if not isinstance(device, Inverter):
            raise KeyError(component_id)
        return device

    def fail(self, component_id: int, error: ComponentError) -> None:
        """Let a component report an error; it neither takes nor gives power until it is over."""
        self.errors[component_id] = error
        self._set_failed(component_id, failed=True)

    def recover(self, component_id: int) -> None:
        """End a component's error; it goes on as before."""
        if self.errors.pop(component_id, None) is not None:
            self._set_failed(component_id, failed=False)

    def acknowledge(self, component_id: int) -> None:
        """Acknowledge a component's error, if it has one: it rests until it is started.

        Raises:
            NotPossible: If the error is none that can be recovered from.
        """
        error = self.errors.get(component_id)
        if error is None:
            return
        if not error.recoverable:
            raise NotPossible(f"in error {error.code}, which cannot be recovered from")
        self.recover(component_id)
        part = self.devices.get(component_id, self.batteries.get(component_id))
        if isinstance(part, Inverter | Battery):
            part.acknowledge()

    def _set_failed(self, component_id: int, *, failed: bool) -> None:
        part = self.devices.get(component_id, self.batteries.get(component_id))
        # A meter in error does not switch off the lights behind it.
        if part is not None and not isinstance(part, Load):
            part.failed = failed
