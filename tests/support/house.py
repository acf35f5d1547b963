"""A site of the simulator's physics whose chargers are held under fuses, on a clock of its own.

What is under test is all that the control loop decides with; what is left out is the transport. The
server carries a set-point out after half the time of its answer, and loses some.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from microgrid_sync import EVChargerData, MeterData
from microgrid_sync.model import Component, ComponentCategory, Connection
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.charger_set import ChargerSet
from microgrid_sync.power.circuits import CircuitLimit, Circuits, Where, wiring_of
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.headroom import Headroom
from microgrid_sync.power.set_point_ledger import Answer
from microgrid_sync.simulator import load_site
from microgrid_sync.simulator.physics.components import SiteCategory
from microgrid_sync.simulator.physics.electricity import Flow, Line, total
from microgrid_sync.simulator.physics.readings import read
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.topology import Topology
from tests.support.messages import START

_CATEGORIES = {
    SiteCategory.GRID: ComponentCategory.GRID,
    SiteCategory.METER: ComponentCategory.METER,
    SiteCategory.INVERTER: ComponentCategory.INVERTER,
    SiteCategory.EV_CHARGER: ComponentCategory.EV_CHARGER,
    SiteCategory.BATTERY: ComponentCategory.BATTERY,
}


def topology_of(site: Site) -> Topology:
    """Give a simulated site's components and connections."""
    components = [
        Component(component_id, _CATEGORIES.get(c.category, ComponentCategory.NONE))
        for component_id, c in site.components.items()
    ]
    return Topology(components, [Connection(start, end) for start, end in site.connections])


def meter_data(component_id: int, flow: Flow, line: Line, now: float) -> MeterData:
    """Make what a meter sends."""
    return MeterData(
        component_id, START + timedelta(seconds=now), flow.power, flow.active,
        sum(flow.reactive), flow.reactive, flow.current(line), line.voltage, line.frequency,
    )  # fmt: skip


@dataclass
class House:
    """A simulated site, limits of its circuits, and all that decides."""

    source: str | Mapping[str, Any] = "house"
    limits: Mapping[Where, CircuitLimit] = field(default_factory=dict)
    config: ChargingConfig = field(default_factory=ChargingConfig)
    seed: int | None = None
    lost: float = 0.0
    """The share of the set-points that are lost, with no answer."""

    def __post_init__(self) -> None:
        self.site: Site = load_site(self.source, seed=self.seed)
        self.now = 10_000.0
        self.chance = random.Random(self.seed or 0)
        self.topology = topology_of(self.site)
        ids = self.topology.ids(ComponentCategory.EV_CHARGER)
        self.known = {number: Charger(number, self.config) for number in sorted(ids)}
        self.under_test = ChargerSet([], self.config)
        self.circuits = Circuits(self.config.max_data_age.total_seconds(), self.config.rotations())
        for where, limit in self.limits.items():
            wiring = wiring_of(self.topology, where)
            self.circuits.open(where, where, limit, wiring, self.now)
        for number in sorted(self.circuits.chargers()):
            self.under_test.add(self.known[number])
        self.meters = sorted(
            i
            for i, c in self.site.components.items()
            if c.category in {SiteCategory.METER, SiteCategory.INVERTER}
        )
        self.silent: set[int] = set()
        """Components of which nothing comes."""
        self.frozen: dict[int, MeterData] = {}
        """Meters that say the same all the time."""
        self.loads: dict[int, tuple[float, float, float]] = {}
        """What is drawn besides all that is simulated, by the meter that it is behind, in A."""
        self.unsigned: set[int] = set()
        """Meters that measure feed-in without a sign."""
        self.disobeying: dict[int, float] = {}
        """Chargers that take as many W whatever they are told."""
        self.lossy: set[int] = set()
        """Chargers whose set-points are lost."""
        self.interval = 1.0
        """Seconds between two samples of meters."""
        self.step = 1.0
        """Seconds of one step."""
        self.told: list[str] = []
        self.sent: list[tuple[float, int, float]] = []
        self._under_way: list[tuple[float, int, int, int, float]] = []

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        """Let time go by, step by step."""
        for _ in range(round(seconds / self.step)):
            self._deliver(self.now + self.step)
            self.now += self.step
            self.site.advance(self.step)
            self._report()
            if self.limits:
                self.look()
            each()

    def _report(self) -> None:
        if self.site.is_dark:
            return
        for number, charger in self.known.items():
            if number not in self.silent:
                data = self.data(number)
                charger.update(data, self.now)
                self.circuits.measured(number, data, self.now)
        if self.now % self.interval:
            return
        for number in self.circuits.components(self.now) - self.known.keys() - self.silent:
            self.circuits.measured(number, self.frozen.get(number) or self.meter(number), self.now)

    def meter(self, number: int) -> MeterData:
        """Make what a meter sends."""
        line = self.site.line
        behind = {number, *self.topology.behind(number)}
        flows = [self.site.flows[number]]
        for meter in behind & self.loads.keys():
            one, two, three = (a * u for a, u in zip(self.loads[meter], line.voltage, strict=True))
            flows.append(Flow((one, two, three)))
        flows += [self._beyond(charger) for charger in behind & self.disobeying.keys()]
        flow = total(flows)
        if number in self.unsigned:
            one, two, three = map(abs, flow.active)
            flow = Flow((one, two, three))
        return meter_data(number, flow, line, self.now)

    def currents(self, number: int) -> tuple[float, float, float]:
        """Give what really flows through a component, in A."""
        unsigned, self.unsigned = self.unsigned, set()
        one, two, three = self.meter(number).active_power_per_phase
        self.unsigned = unsigned
        v1, v2, v3 = self.site.line.voltage
        return one / v1, two / v2, three / v3

    def _beyond(self, number: int) -> Flow:
        """Give what a charger takes beyond what it should."""
        charger = self.site.charger(number)
        power = self.disobeying[number] - charger.flow.power
        phases = len(charger.phases[: charger.car.phases]) if charger.car else 0
        shares = [0.0, 0.0, 0.0]
        for phase in charger.phases[:phases]:
            shares[phase - 1] = power / phases
        return Flow((shares[0], shares[1], shares[2]))

    def data(self, number: int) -> EVChargerData:
        """Make what a charger sends."""
        charger = self.site.charger(number)
        ac = read(self.site, self.site.components[number]).values["data"]["ac"]
        phases = [ac[f"phase_{phase}"] for phase in (1, 2, 3)]
        power = charger.flow.power
        if number in self.disobeying and charger.car:
            power = self.disobeying[number]
            own = charger.car.phases
            for i, phase in enumerate(phases):
                watts = power / own if i < own else 0.0
                phase["power_active"]["value"] = watts
                phase["current"]["value"] = watts / 230.0
        lower, upper = charger.active.inclusion_bounds()

        def each(what: str) -> tuple[float, float, float]:
            one, two, three = (float(phase[what]["value"]) for phase in phases)
            return one, two, three

        return EVChargerData(
            number, START + timedelta(seconds=self.now), power,
            each("power_active"), each("current"), 0.0, (0.0,) * 3, each("voltage"),
            lower, 0.0, upper, 0.0, 50.0, charger.cable_state, charger.state,
        )  # fmt: skip

    def look(self) -> None:
        """Decide, and send."""
        now = self.now
        for charger in self.known.values():
            charger.advance(now, charger.voltage.total(None, now))
        self.told += [text for _, text in self.circuits.advance(self.known, now)]
        headroom = Headroom(self.circuits, self.known, self.config, now)
        commands = self.under_test.step(None, now, headroom=headroom)
        plan = self.under_test.plan
        if plan is not None and not self.under_test.waits_for_data:
            cases, limits = list(plan.cases.values()), dict(plan.limits)
            held = headroom.hold(cases, limits)
            commands = self.under_test.lower(limits, held, now)
        raised = [i for i, w in commands.items() if w > (self.known[i].ledger.newest or 0.0)]
        self.circuits.note_raises(raised, now)
        for number, watts in commands.items():
            self._send(number, watts)
        self.under_test.conclude()

    def _send(self, number: int, watts: float) -> None:
        if watts != self.known[number].ledger.newest:
            self.sent.append((self.now, number, watts))
        # The newer one cancels the older one.
        self._under_way = [one for one in self._under_way if one[2] != number]
        timeout = self.known[number].ledger.timeout
        attempt = self.under_test.sent(number, watts, self.now)
        if number in self.lossy or self.chance.random() < self.lost:
            self._under_way.append((self.now + timeout, 1, number, attempt, -1.0))
            return
        self._under_way.append((self.now + 0.1, 0, number, attempt, watts))
        self._under_way.append((self.now + 0.2, 1, number, attempt, watts))

    def _deliver(self, until: float) -> None:
        while self._under_way and min(self._under_way)[0] <= until:
            one = min(self._under_way)
            self._under_way.remove(one)
            at, kind, number, attempt, watts = one
            charger = self.site.charger(number)
            if kind == 0:
                _, upper = charger.active.inclusion_bounds()
                charger.active.command(min(watts, upper), self.site.now + 60.0)
            else:
                answer = Answer.TIMED_OUT if watts < 0 else Answer.CONFIRMED
                self.under_test.done(number, attempt, answer, at)


def garage(
    wiring: Mapping[int, tuple[int, ...]],
    *,
    nested: tuple[int, ...] = (),
    direct: tuple[int, ...] = (),
    rated: float = 32.0,
) -> dict[str, Any]:
    """Describe chargers behind a main meter 2; some behind a meter 3 that is behind that.

    Args:
        wiring: The phases of the house that each charger is connected to, in its own order.
        nested: Those behind meter 3.
        direct: Those that no meter reads.
        rated: What each of them is rated for, in A.
    """
    places = dict.fromkeys(wiring, 2) | dict.fromkeys(nested, 3) | dict.fromkeys(direct, 1)
    pairs = [[1, 2], *([place, number] for number, place in places.items())]
    return {
        "name": "garage",
        "start": START,
        "supply": {"resistance": 0.0},
        "connections": [*pairs, [2, 3]],
        "component": [
            {"id": 1, "category": "grid", "fuse": 63.0},
            {"id": 2, "category": "meter"},
            {"id": 3, "category": "meter"},
            *(
                {
                    "id": number,
                    "category": "ev_charger",
                    "phases": list(phases),
                    "rated_current": rated,
                    "reports_own_phases": True,
                }
                for number, phases in wiring.items()
            ),
        ],
    }
