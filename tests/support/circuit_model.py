"""The site as a distribution of power meets it, with circuits: meters, houses, rotated phases.

What is checked on top of `site_model`: with what could be known, nothing that is sent brings a
phase over its limit; and once one is over it, set-points that fit are sent with the sample that
says so.
"""

import itertools
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from frequenz.quantities import Current

from microgrid_sync import MeterData
from microgrid_sync.model import Component, ComponentCategory, Connection
from microgrid_sync.power.circuits import CircuitLimit, Circuits, wiring_of
from microgrid_sync.power.headroom import Headroom
from microgrid_sync.power.rotation import rotation_name
from microgrid_sync.topology import Topology
from tests.support.messages import START
from tests.support.site_model import RATING, VOLTAGE, ModelSite

VOLTS = VOLTAGE / 3
ORDERS = list(itertools.permutations(range(3)))


@dataclass
class ModelMeter:
    """A meter as it is, and what is behind it beside chargers and other meters."""

    component_id: int
    limit: float
    """A."""

    chargers: list[int]
    inner: list["ModelMeter"] = field(default_factory=list)
    house: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    is_silent: bool = False
    frozen: tuple[MeterData, list[float]] | None = None
    """What it says all the time, and the house as it was then."""
    late: float = 0.0
    """Seconds by which its samples come late."""

    heard_house: list[float] | None = None
    """The house at the newest sample that has come."""

    def below(self) -> list[int]:
        """Give all chargers behind it."""
        return [*self.chargers, *(i for meter in self.inner for i in meter.below())]

    def all_houses(self) -> list[float]:
        """Give what flows through it beside chargers."""
        inner = [meter.all_houses() for meter in self.inner]
        return [sum(values) for values in zip(self.house, *inner, strict=True)]

    def walk(self) -> list["ModelMeter"]:
        """Give it and all behind it."""
        return [self, *(meter for one in self.inner for meter in one.walk())]


@dataclass
class CircuitSite(ModelSite):
    """A model site whose chargers 1 to n are behind meters with limits."""

    main: ModelMeter = field(default_factory=lambda: ModelMeter(100, 63.0, []))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rotations = {number: self.chance.choice(ORDERS) for number in self.chargers}
        self.knows_rotations = bool(self.config.phase_rotation)
        if self.knows_rotations:
            names = self.config.phase_rotation
            self.rotations = {
                n: next(o for o in ORDERS if rotation_name(o) == names[n]) for n in self.chargers
            }
        meters = self.main.walk()
        components = [Component(90, ComponentCategory.GRID)]
        components += [Component(m.component_id, ComponentCategory.METER) for m in meters]
        components += [Component(n, ComponentCategory.EV_CHARGER) for n in self.chargers]
        pairs = [(90, self.main.component_id)]
        for meter in meters:
            pairs += [(meter.component_id, inner.component_id) for inner in meter.inner]
            pairs += [(meter.component_id, charger) for charger in meter.chargers]
        topology = Topology(components, [Connection(a, b) for a, b in pairs])
        self.circuits = Circuits(10.0, self.config.rotations())
        for meter in meters:
            limit = CircuitLimit(Current.from_amperes(meter.limit), None)
            where = meter.component_id
            self.circuits.open(where, where, limit, wiring_of(topology, where), self.now)
        self.covered: frozenset[int] = frozenset()
        self.raises = self.reductions = 0
        self._late: list[tuple[float, ModelMeter, MeterData, list[float]]] = []

    # What flows

    def share(self, number: int, watts: float, phase: int) -> float:
        """Give what a charger takes of a phase of the house with so much power, in A."""
        charger = self.chargers[number]
        if not charger.connected or phase not in self.rotations[number][: charger.phases]:
            return 0.0
        return min(watts / charger.phases / VOLTS, RATING / VOLTAGE)

    def current(self, meter: ModelMeter, phase: int) -> float:
        drawn = sum(self.share(n, self.chargers[n].draw, phase) for n in meter.below())
        return meter.all_houses()[phase] + drawn

    def meter_data(self, meter: ModelMeter) -> MeterData:
        one, two, three = (self.current(meter, phase) for phase in range(3))
        watts = one * VOLTS, two * VOLTS, three * VOLTS
        zero = (0.0, 0.0, 0.0)
        stamp = START + timedelta(seconds=self.now)
        return MeterData(
            meter.component_id, stamp, sum(watts), watts, 0.0, zero,
            (abs(one), abs(two), abs(three)), (VOLTS,) * 3, 50.0,
        )  # fmt: skip

    def _report(self) -> None:
        super()._report()
        for number, known in self.known.items():
            if known.data is not None and known.health.received_at == self.now:
                self.circuits.measured(number, known.data, self.now)
        for meter in self.main.walk():
            data, house = meter.frozen or (self.meter_data(meter), meter.all_houses())
            if not meter.is_silent:
                self._late.append((self.now + meter.late, meter, data, house))
        for due, meter, data, house in list(self._late):
            if due <= self.now:
                self._late.remove((due, meter, data, house))
                self.circuits.measured(meter.component_id, data, self.now)
                meter.heard_house = house

    # What is decided

    def _look(self) -> None:
        now = self.now
        for charger in self.known.values():
            charger.advance(now, charger.voltage.total(None, now))
        self.circuits.advance(self.known, now)
        headroom = Headroom(self.circuits, self.known, self.config, now)
        proposals = self.proposals or None
        commands = self.under_test.step(proposals, now, headroom=headroom, covered=self.covered)
        plan = self.under_test.plan
        if plan is not None and not self.under_test.waits_for_data:
            cases, limits = list(plan.cases.values()), dict(plan.limits)
            held = headroom.hold(cases, limits)
            commands = self.under_test.lower(limits, held, now)
        self.covered = frozenset(self.known)
        ledgers = {number: charger.ledger for number, charger in self.known.items()}
        raised = [n for n, watts in commands.items() if watts > (ledgers[n].newest or 0.0)]
        self.circuits.note_raises(raised, now)
        target = math.inf if self.under_test.target is None else self.under_test.target
        for number in sorted(commands, key=lambda i: commands[i] - (ledgers[i].newest or 0.0)):
            if number in raised and ledgers[number].confirmed is not None:
                self._check_raise(number, commands)
            elif commands[number] < (ledgers[number].newest or 0.0):
                self.reductions += 1
            self._send(number, commands[number], target)
        self.under_test.conclude()
        self._check_over()

    def _check_waiting(self) -> None:
        """What circuits leave is checked elsewhere."""

    def _check_raise(self, number: int, commands: dict[int, float]) -> None:
        """With what has been heard, a raise does not bring any phase over its limit."""
        self.raises += 1
        for meter in self.main.walk():
            if number not in meter.below():
                continue
            assert meter.heard_house is not None, "raised below a meter that was never heard"
            for phase in range(3):
                total = meter.heard_house[phase]
                for n in meter.below():
                    hold = self.known[n].ledger.may_hold()
                    hold = RATING if hold is None else hold
                    if n in commands:
                        hold = max(hold, commands[n])
                    heard = 0.0 if self.known[n].is_silent(self.now) else self.known[n].draw
                    total += self.share(n, max(hold, min(heard, self.chargers[n].draw)), phase)
                assert total <= meter.limit + 1e-6, (
                    f"raise of {number}: {total} A on phase {phase} of {meter.component_id}, "
                    f"{meter.limit} A allowed"
                )

    def _check_over(self) -> None:
        """Where a phase is over its limit, and that is heard, what was sent last fits."""
        if not self.knows_rotations:
            return
        for meter in self.main.walk():
            circuit = self.circuits.circuits[meter.component_id]
            newest = circuit.house.newest
            if meter.is_silent or meter.frozen or meter.late or newest is None:
                continue
            if newest.at != self.now:
                continue
            for phase in range(3):
                total = house = meter.all_houses()[phase]
                for n in meter.below():
                    known = self.known[n]
                    if known.is_beyond_control(self.now) or known.is_silent(self.now):
                        break
                    total += self.share(n, known.ledger.newest or 0.0, phase)
                else:
                    is_known = all(self._knows(n) for n in meter.below())
                    over = total > meter.limit + 1e-6 and house < meter.limit
                    assert not (over and is_known), (
                        f"{total} A sent on phase {phase} of {meter.component_id}, "
                        f"{meter.limit} A allowed"
                    )

    def _knows(self, number: int) -> bool:
        """Tell whether the phases of a charger's car are known, and its data just comes."""
        known, charger = self.known[number], self.chargers[number]
        return (
            known.health.received_at == self.now
            and known.draw == charger.draw
            and self._phases.get(number) == charger.phases
        )


def nested(count: int, choice: Any) -> ModelMeter:
    """Make a tree of meters for chargers 1 to n."""
    numbers = list(range(1, count + 1))
    main = ModelMeter(100, float(choice.choice([16, 25, 35, 50, 63, 100])), [])
    if count > 1 and choice.random() < 0.6:
        cut = choice.randint(1, count - 1)
        sub = ModelMeter(101, float(choice.choice([16, 20, 32, 40, 63])), numbers[:cut])
        main.inner, numbers = [sub], numbers[cut:]
        if cut > 1 and choice.random() < 0.5:
            feeder = ModelMeter(102, float(choice.choice([16, 20, 32])), [sub.chargers.pop()])
            sub.inner = [feeder]
    main.chargers = numbers
    return main
