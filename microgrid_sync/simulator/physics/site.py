"""Simulates a site: components, connected, on one clock of their own."""

import graphlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from microgrid_sync.simulator.physics.charger import EVCharger
from microgrid_sync.simulator.physics.components import ComponentError, SiteCategory, SiteComponent
from microgrid_sync.simulator.physics.devices import Commanded, Device, Load, Moment
from microgrid_sync.simulator.physics.electricity import NO_FLOW, Flow, Line, total
from microgrid_sync.simulator.physics.fuses import PhaseFuse
from microgrid_sync.simulator.physics.inverters import Battery, Inverter, NotPossible
from microgrid_sync.simulator.physics.supply import Supply
from microgrid_sync.simulator.physics.weather import Sky, Weather


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
        set_point_lifetime: float,
        bounds_lifetime: float,
        fuses: Sequence[PhaseFuse] = (),
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
        self.set_point_lifetime = set_point_lifetime
        self.bounds_lifetime = bounds_lifetime
        self.fuses = fuses
        """The fuses of the three phases at the grid connection, if any of them can blow."""
        self.is_dark = False
        """Whether one of them has blown; everything behind it is dark until it is replaced."""
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
        # Each comes after all that it feeds.
        self._outwards = tuple(graphlib.TopologicalSorter(self._successors).static_order())
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
        self._carry(drawn, seconds)
        if self.is_dark:
            self._darken()
            return
        moment = Moment(now, seconds, time.astimezone(self._zone), self.line, self.sky)
        for commanded in self._commanded:
            # What ended meanwhile has been in force until then: it shows once more.
            commanded.forget(before)
        for device in self._others:
            device.advance(moment)
        self._balance(moment)
        self._add_up()

    def _carry(self, drawn: Flow, seconds: float) -> None:
        """Let the fuses carry what has flowed until now."""
        for fuse, amperes in zip(self.fuses, drawn.current(self.line), strict=False):
            fuse.carry(amperes, seconds)
        self.is_dark = self.is_dark or any(fuse.is_blown for fuse in self.fuses)

    def _darken(self) -> None:
        """Let nothing flow anywhere."""
        self.line = Line((0.0, 0.0, 0.0), 0.0)
        for device in self.devices.values():
            device.flow = NO_FLOW
        self._add_up()

    def replace_fuses(self, fuses: Sequence[PhaseFuse]) -> None:
        """Put in other fuses; there is light again."""
        self.fuses, self.is_dark = fuses, False

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
