"""A simulated site: devices and meters, connected, living on one clock."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from microgrid_sync.model import (
    Component,
    ComponentCategory,
    Connection,
    Fuse,
    GridMetadata,
    InverterType,
)
from microgrid_sync.simulator.devices import (
    Battery,
    BatteryInverter,
    Device,
    Flow,
    Line,
    battery_inverter,
    ev_charger,
    solar_inverter,
)
from microgrid_sync.topology import Topology


@dataclass(frozen=True)
class Snapshot:
    """What flows everywhere in a site at one instant."""

    line: Line
    """What the grid offers."""

    flows: Mapping[int, Flow]
    """What flows through each component with an AC side; a meter's is the sum behind it."""


class Site:
    """The components of a site, and the devices behind them.

    Not for several threads at once: its owner, a simulator usually, sees to that.
    """

    def __init__(
        self,
        *,
        microgrid_id: int,
        latitude: float,
        longitude: float,
        components: list[Component],
        connections: list[Connection],
        devices: list[Device],
    ) -> None:
        """Put a site together, at second 0 of its clock.

        Args:
            microgrid_id: The microgrid's number.
            latitude: Degrees north.
            longitude: Degrees east.
            components: All components.
            connections: How they are connected.
            devices: What consumes and produces; each has the ID of its component.
        """
        self.microgrid_id = microgrid_id
        self.latitude = latitude
        self.longitude = longitude
        self.components = components
        self.connections = connections
        self.topology = Topology(components, connections)
        self.devices: dict[int, Device] = {device.component_id: device for device in devices}
        self.batteries: dict[int, Battery] = {
            device.battery.component_id: device.battery
            for device in devices
            if isinstance(device, BatteryInverter)
        }
        self.now = 0.0
        self.snapshot = Snapshot(Line(), {})
        self.advance(0.0)

    def advance(self, seconds: float) -> Snapshot:
        """Live on for some seconds; give what flows then."""
        self.now += seconds
        line = _line(self.now)
        for device in self.devices.values():
            device.active.forget(self.now)
            device.reactive.forget(self.now)
            device.advance(self.now, seconds, line)
        flows: dict[int, Flow] = {}
        for component in self.components:
            self._flow(component, flows)
        self.snapshot = Snapshot(line, flows)
        return self.snapshot

    def _flow(self, component: Component, flows: dict[int, Flow]) -> Flow:
        """Find what flows through a component: its device's own, or the sum behind it."""
        component_id = component.component_id
        if component_id not in flows:
            device = self.devices.get(component_id)
            if device is not None:
                flows[component_id] = device.flow
            else:
                behind = Flow()
                for successor in self.topology.successors(component_id):
                    behind += self._flow(successor, flows)
                flows[component_id] = behind
        return flows[component_id]


def _line(now: float) -> Line:
    """Let voltage and frequency wander a little."""
    one, two, three = (
        230.0 + 1.2 * math.sin(now / 5 + shift) + 0.3 * math.sin(now * 1.7 + shift)
        for shift in (0.0, 2.1, 4.2)
    )
    return Line((one, two, three), 50.0 + 0.02 * math.sin(now / 4))


def demo_site() -> Site:
    """Make the site of the demo.

    A grid connection (1) with the main meter (2), behind it a solar inverter (3), a battery
    inverter (4) with its battery (5), and a meter (6) with two EV chargers (7, 8).
    """
    battery = Battery(5)
    components = [
        Component(1, ComponentCategory.GRID, None, GridMetadata(fuse=Fuse(max_current=100.0))),
        Component(2, ComponentCategory.METER),
        Component(3, ComponentCategory.INVERTER, InverterType.SOLAR),
        Component(4, ComponentCategory.INVERTER, InverterType.BATTERY),
        Component(5, ComponentCategory.BATTERY),
        Component(6, ComponentCategory.METER),
        Component(7, ComponentCategory.EV_CHARGER),
        Component(8, ComponentCategory.EV_CHARGER),
    ]
    pairs = [(1, 2), (2, 3), (2, 4), (4, 5), (2, 6), (6, 7), (6, 8)]
    return Site(
        microgrid_id=15,
        latitude=52.52,
        longitude=13.405,
        components=components,
        connections=[Connection(start, end) for start, end in pairs],
        devices=[
            solar_inverter(3, peak=8000.0),
            battery_inverter(4, battery, rating=10_000.0),
            ev_charger(7, rating=22_000.0, car_limit=11_000.0),
            ev_charger(8, rating=22_000.0, car_limit=7400.0),
        ],
    )
