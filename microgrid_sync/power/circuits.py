"""Knows the circuits of a site: their limits, what flows in them, and what they leave. Pure.

A circuit is what is behind one meter, or behind the grid connection, as an electrician draws it:
main fuse, sub-distribution, feeder. Each has a limit of its own; of several that a charger is
behind the tightest binds. Currents are in A with import positive, powers in W; feed-in is not
limited. The time is passed in.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from frequenz.quantities import Current, Power

from microgrid_sync.model import ComponentCategory
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.fuse_curve import TARGET_SHARE, FuseCurve
from microgrid_sync.power.house import (
    TOTAL,
    House,
    Sample,
    Stage,
    Values,
    explained,
)
from microgrid_sync.power.readings import NOMINAL_VOLTAGE, Flow, PerPhase, Reading, flow_of
from microgrid_sync.power.rotation import UNKNOWN, Rotation, RotationSearch, rotation_name
from microgrid_sync.power.sign import SignSearch
from microgrid_sync.topology import Topology, describe

Where = int | Literal["grid"]
"""The ID of a meter, or the grid connection."""

PHASES = range(3)

_TARGET_MARGIN = 0.5
"""A: so much of a limit is left free in any case."""

RAISE_PAUSE = 10.0
"""Seconds between two rounds of raises in a circuit."""

_UNKNOWN_OBEY_TIME = 15.0
"""Seconds that chargers take to obey, until it is known."""

_UNSETTLED = 0.5
"""A: by so much the current of a charger that nobody knows the rotation of must not change while
that of another one is looked for."""

_RAISED_LATELY = 60.0
"""Seconds after a raise in which a charger may draw more than it has said."""

_TOGETHER = 0.25
"""Of its interval: a charger that has spoken within it has measured together with the meter."""

_NEVER = -math.inf


IN_WORDS = {
    Stage.HEARD: "is heard",
    Stage.HELD: "has not been heard for a moment: nobody is raised",
    Stage.OLD: "is silent: the highest house of its last 15 minutes counts, nobody is raised",
    Stage.MINIMUM: "has been silent for a minute: chargers get their minimum, as many as fit",
    Stage.NEVER_HEARD: "has not been heard yet: chargers get what they draw",
    Stage.ZERO: "is silent: chargers get nothing",
}
"""What chargers get, by how well a meter is known."""


class Wiring(NamedTuple):
    """What a circuit is made of."""

    meters: tuple[int, ...]
    """The components whose currents add up to that of the circuit."""

    chargers: frozenset[int]
    depth: int
    """How far it is from the grid."""

    stand_ins: Mapping[int, tuple[int, tuple[int, ...]]]
    """For a meter, the meter before it, and the others that this one reads."""

    other_chargers: frozenset[int]
    """The chargers of the site that are not behind it."""


def wiring_of(topology: Topology, where: Where) -> Wiring:
    """Find what a circuit is made of.

    Raises:
        ValueError: If there is no such meter, it cannot be known what flows there, or no charger is
            behind it.
    """
    if where == "grid":
        meters, begins = _at_the_grid(topology)
        behind = set(begins).union(*(topology.behind(i) for i in begins))
        depth, name = 0, "the grid connection"
    else:
        if where not in topology:
            known = [c.component_id for c in topology.components(ComponentCategory.METER)]
            raise ValueError(
                f"there is no component {where}; the meters are {', '.join(map(str, known))}"
            )
        component = topology.component(where)
        if component.category is not ComponentCategory.METER:
            raise ValueError(
                f"a limit is for a meter or 'grid'; component {describe(component)} is no meter"
            )
        meters, behind = (where,), set(topology.behind(where))
        depth, name = len(topology.path_to_grid(where)), f"meter {where}"
    chargers = topology.ids(ComponentCategory.EV_CHARGER) & behind
    if not chargers:
        raise ValueError(f"a limit commands EV chargers; there are none behind {name}")
    others = topology.ids(ComponentCategory.EV_CHARGER) - chargers
    return Wiring(meters, chargers, depth, _stand_ins(topology, meters), others)


def _at_the_grid(topology: Topology) -> tuple[tuple[int, ...], list[int]]:
    """Give what measures the current of the grid connection, and all that is right behind it."""
    grids = topology.components(ComponentCategory.GRID)
    tops = sorted({c.component_id for grid in grids for c in topology.reads(grid.component_id)})
    unknown = "the current of the grid cannot be known for each phase: "
    if not tops:
        raise ValueError(f"{unknown}nothing is behind a grid connection")
    several = topology.fed_by_several() & set(tops)
    if several:
        raise ValueError(f"{unknown}component {min(several)} is fed by several others")
    measured = (ComponentCategory.METER, ComponentCategory.INVERTER, ComponentCategory.EV_CHARGER)
    for top in tops:
        component = topology.component(top)
        if component.category not in measured:
            raise ValueError(
                f"{unknown}component {describe(component)} is right behind it, and has no meter"
            )
    chargers = topology.ids(ComponentCategory.EV_CHARGER)
    return tuple(top for top in tops if top not in chargers), tops


def _stand_ins(topology: Topology, meters: Iterable[int]) -> dict[int, tuple[int, tuple[int, ...]]]:
    found = {}
    for meter in meters:
        above = topology.read_by(meter)
        if len(above) != 1 or above[0].category is not ComponentCategory.METER:
            continue
        parent = above[0].component_id
        others = tuple(c.component_id for c in topology.reads(parent) if c.component_id != meter)
        found[meter] = parent, others
    return found


@dataclass(frozen=True)
class CircuitLimit:
    """What may flow in a circuit."""

    max_current: Current | FuseCurve | None
    """On each phase."""

    max_power: Power | None
    """On all phases together."""

    def places(self) -> list[int]:
        """Give what is limited: phases 0 to 2, and the total."""
        phases = list(PHASES) if self.max_current is not None else []
        return phases if self.max_power is None else [*phases, TOTAL]

    @property
    def curve(self) -> FuseCurve | None:
        """The curve of its fuse, if that forgives something."""
        return self.max_current if isinstance(self.max_current, FuseCurve) else None

    def highest(self, place: int) -> float:
        """Give what may flow at the most: A on a phase, W of the total."""
        if place == TOTAL:
            return math.inf if self.max_power is None else self.max_power.as_watts()
        if isinstance(self.max_current, FuseCurve):
            return self.max_current.rating.as_amperes()
        return math.inf if self.max_current is None else self.max_current.as_amperes()


@dataclass
class Circuit:
    """One limit, and what is known of its circuit. The control loop's thread owns it."""

    where: Where
    limit: CircuitLimit
    wiring: Wiring
    house: House
    rotations: dict[int, RotationSearch] = field(default_factory=dict)
    sign: SignSearch = field(default_factory=SignSearch)
    thermal: tuple[float, float, float] | None = None
    """The thermal state of each phase; 1 is the steady rated load."""

    raised_at: float = _NEVER
    """When chargers below were last raised."""

    obey_time: float = _UNKNOWN_OBEY_TIME
    _told_stage: Stage = Stage.NEVER_HEARD
    _exceeded_since: float | None = None
    _key: tuple[int, ...] = ()
    _unexplained: dict[int, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What texts call it."""
        return "the grid" if self.where == "grid" else f"meter {self.where}"

    def rotation_of(self, charger: int) -> Rotation:
        """Give the rotation of a charger against this circuit's meter, as far as it is certain."""
        search = self.rotations.get(charger)
        return UNKNOWN if search is None else search.found

    def bar(self, place: int) -> float:
        """Give the limit itself: what flows beyond it stops cars."""
        highest = self.limit.highest(place)
        curve = self.limit.curve
        if place == TOTAL or curve is None:
            return highest
        # What was before the first sample is not known: as with the rated load.
        state = 1.0 if self.thermal is None else self.thermal[place]
        return min(highest, curve.forgiven(state, self.obey_time))

    def target(self, place: int) -> float:
        """Give what is planned with."""
        highest = self.limit.highest(place)
        if place == TOTAL:
            return highest * TARGET_SHARE
        if self.limit.curve is not None:
            return min(highest * TARGET_SHARE, self.bar(place))
        return max(0.0, min(highest * TARGET_SHARE, highest - _TARGET_MARGIN))

    def measured(self) -> Values | None:
        """Give what flows through it; ``None`` before the first sample."""
        newest = self.house.newest
        return None if newest is None else newest.values

    def is_exceeded(self) -> bool:
        """Tell whether more flows than may."""
        values = self.measured()
        return values is not None and any(
            values[place] > self.limit.highest(place) for place in self.limit.places()
        )

    def stage(self, now: float) -> Stage:
        """Tell how well the least known of what is limited is known."""
        return max(self.house.stage(place, now) for place in self.limit.places())

    def take(self, sample: Sample, key: tuple[int, ...], expected: Values) -> list[tuple[int, str]]:
        """Take a sample of what flows; give what is to be told of it, with the level of the log."""
        self._key = key
        self._heat(sample)
        told = [(logging.INFO, text) for text in self._look_for_rotations(sample)]
        self.house.take(sample, self.rotation_of, expected)
        if told:
            self.house.recompute(self.rotation_of)
        if self.sign.update(sample):
            text = (
                f"{self.name} seems to measure feed-in without a sign: its current rises when "
                "chargers take less; chargers get less than the limit would allow"
            )
            told.append((logging.WARNING, text))
        return told

    def look(self, now: float) -> list[tuple[int, str]]:
        """Give what is to be told of how it stands, when that changes."""
        told = []
        stage = self.stage(now)
        # A meter is a moment late now and then.
        if stage != self._told_stage and Stage.HELD not in {stage, self._told_stage}:
            first = self._told_stage is Stage.NEVER_HEARD and stage is Stage.HEARD
            level = logging.DEBUG if first else logging.WARNING
            told.append((level, f"{self.name} {IN_WORDS[stage]}"))
            self._told_stage = stage
        elif stage is Stage.HEARD or self._told_stage is Stage.HELD:
            self._told_stage = stage
        if not self.is_exceeded():
            self._exceeded_since = None
        elif self._exceeded_since is None:
            self._exceeded_since = now
        elif now - self._exceeded_since >= 2 * self.obey_time:
            told.append((logging.WARNING, self._exceeded_in_words()))
            # Told again only if it was in order meanwhile.
            self._exceeded_since = math.inf
        return told

    def _exceeded_in_words(self) -> str:
        values = self.measured() or (0.0,) * 4
        over = [
            f"{values[place]:.1f} A on L{place + 1}"
            if place != TOTAL
            else f"{values[place] / 1000:.1f} kW"
            for place in self.limit.places()
            if values[place] > self.limit.highest(place)
        ]
        return (
            f"{self.name} is over its limit and has not come down: {', '.join(over)}; others have "
            "been lowered as far as they can be"
        )

    def is_new(self, key: tuple[int, ...]) -> bool:
        """Tell whether something of what measures it has come since the last sample."""
        return key != self._key

    def _heat(self, sample: Sample) -> None:
        curve, before = self.limit.curve, self.house.newest
        currents = [0.0 if math.isnan(a) else a for a in sample.values[:TOTAL]]
        if curve is None:
            self.thermal = None
            return
        rating = curve.rating.as_amperes()
        if self.thermal is None or before is None:
            one, two, three = (max(1.0, (a / rating) ** 2) for a in currents)
            self.thermal = one, two, three
            return
        seconds = max(0.0, sample.at - before.at)
        one, two, three = (
            curve.state_after(state, _between(old, new, seconds), seconds)
            for state, old, new in zip(self.thermal, before.values, currents, strict=False)
        )
        self.thermal = one, two, three

    def _look_for_rotations(self, sample: Sample) -> list[str]:
        """Compare the steps of chargers with those of the meter."""
        rest = list(sample.values[:TOTAL])
        known: dict[int, PerPhase] = {}
        movers = set()
        for number, flow in sample.chargers.items():
            if not flow.has_phases:
                continue
            known[number] = own = explained(flow.currents, self.rotation_of(number))
            rest = [r - a for r, a in zip(rest, own, strict=True)]
            unexplained = sum(flow.currents) - sum(own)
            before = self._unexplained.get(number, unexplained)
            if abs(before - unexplained) > _UNSETTLED:
                movers.add(number)
            self._unexplained[number] = unexplained
        told = []
        for number, own in known.items():
            search = self.rotations.get(number)
            if search is None:
                search = self.rotations[number] = RotationSearch()
            if search.is_given:
                continue
            if movers - {number}:
                search.skip()
                continue
            before_found = search.found
            seen = [r + a for r, a in zip(rest, own, strict=True)]
            if search.update(seen, sample.chargers[number].currents, sample.at):
                told.append(self._told(number, before_found, search.found))
        return told

    def _told(self, number: int, before: Rotation, found: Rotation) -> str:
        dropped = any(b is not None and b != f for b, f in zip(before, found, strict=True))
        what = "no longer certain" if dropped else "found"
        return f"charger {number}: its phases at {self.name} are {what}: {rotation_name(found)}"


def _between(before: float, after: float, seconds: float) -> float:
    """Give the current that heats as two samples, and what was between them, have."""
    if math.isnan(before):
        return after
    squares = before**2, after**2
    # Nobody knows what was in a longer pause.
    mean = max(squares) if seconds > _UNKNOWN_OBEY_TIME else sum(squares) / 2
    return math.sqrt(mean)


class Circuits:
    """All circuits that are limited. The control loop's thread owns it."""

    def __init__(self, max_data_age: float, rotations: Mapping[int, Rotation]) -> None:
        """Begin without a circuit.

        Args:
            max_data_age: Seconds after which the newest data of a component is too old.
            rotations: Those of chargers that are given.
        """
        self._max_data_age = max_data_age
        self._given = rotations
        self.circuits: dict[object, Circuit] = {}
        self._readings: dict[int, Reading] = {}
        self._frozen: dict[int, Flow] = {}

    # Which there are

    def open(
        self, key: object, where: Where, limit: CircuitLimit, wiring: Wiring, now: float
    ) -> None:
        """Begin to limit a circuit."""
        circuit = Circuit(where, limit, wiring, House(now, self._max_data_age))
        circuit.rotations = {number: RotationSearch(given) for number, given in self._given.items()}
        self.circuits[key] = circuit

    def update(self, key: object, limit: CircuitLimit) -> None:
        """Limit a circuit otherwise."""
        circuit = self.circuits[key]
        before = circuit.limit.curve
        circuit.limit = limit
        if before is not None and limit.curve is not None and circuit.thermal is not None:
            share = (before.rating.as_amperes() / limit.curve.rating.as_amperes()) ** 2
            one, two, three = (state * share for state in circuit.thermal)
            circuit.thermal = one, two, three
        else:
            circuit.thermal = None

    def close(self, key: object) -> frozenset[int]:
        """Limit a circuit no more; give the chargers that no other circuit covers."""
        circuit = self.circuits.pop(key)
        return circuit.wiring.chargers - self.chargers()

    def chargers(self) -> frozenset[int]:
        """Give all chargers that are behind a limit."""
        return frozenset[int]().union(*(c.wiring.chargers for c in self.circuits.values()))

    def components(self, now: float) -> frozenset[int]:
        """Give the components, chargers aside, whose data is needed."""
        found: set[int] = set()
        for circuit in self.circuits.values():
            found.update(circuit.wiring.meters)
            if circuit.stage(now) > Stage.HEARD:
                for parent, others in circuit.wiring.stand_ins.values():
                    found |= {parent, *others}
        return frozenset(found)

    def change_topology(self, topology: Topology) -> list[str]:
        """Go on with another topology; give what is to be told of it.

        A circuit that is no more keeps its chargers, which get nothing when its meter is silent.
        """
        told = []
        for circuit in self.circuits.values():
            try:
                circuit.wiring = wiring_of(topology, circuit.where)
            except ValueError as error:
                told.append(f"the limit of {circuit.name} can no longer be held: {error}")
        return told

    # What flows

    def measured(self, component_id: int, data: Any, now: float) -> None:
        """Take what a component has sent."""
        flow = flow_of(data)
        before = self._readings.get(component_id)
        self._readings[component_id] = (
            Reading(flow, now) if before is None else before.next(flow, now)
        )
        if self._frozen.get(component_id, flow) != flow:
            del self._frozen[component_id]

    def advance(self, chargers: Mapping[int, Charger], now: float) -> list[tuple[int, str]]:
        """Take new samples into all circuits.

        Returns:
            What is to be told of them in the log, with its level.
        """
        told: list[tuple[int, str]] = []
        for circuit in self.circuits.values():
            known = [
                time
                for number in circuit.wiring.chargers
                if number in chargers and (time := chargers[number].dead_time.known) is not None
            ]
            circuit.obey_time = max(known, default=_UNKNOWN_OBEY_TIME)
            told += self._listen(circuit, chargers, now)
            told += circuit.look(now)
        return told

    def _listen(
        self, circuit: Circuit, chargers: Mapping[int, Charger], now: float
    ) -> list[tuple[int, str]]:
        """Take what flows through a circuit, if something new is known of that."""
        found = self._flow_through(circuit, now)
        if found is None or not circuit.is_new(found[0]):
            return []
        key, values, circuit.house.interval = found
        flows = {
            number: flow
            for number in circuit.wiring.chargers
            if (flow := self.flow(number, now)) is not None
        }
        expected = self._expected(circuit, chargers, flows, now)
        told = circuit.take(Sample(now, values, flows), key, expected)
        if circuit.house.is_frozen:
            for meter in circuit.wiring.meters:
                self._frozen.setdefault(meter, self._readings[meter].flow)
        return told

    def note_raises(self, chargers: Iterable[int], now: float) -> None:
        """Note that chargers are raised: one round of raises in all circuits that they are in."""
        raised = frozenset(chargers)
        for circuit in self.circuits.values():
            if raised & circuit.wiring.chargers:
                circuit.raised_at = now

    def flow(self, component_id: int, now: float) -> Flow | None:
        """Give what flows through a component just now; ``None`` if that is not heard."""
        reading = self._readings.get(component_id)
        if reading is None or not reading.is_heard(now, self._max_data_age):
            return None
        return reading.flow

    def _flow_through(
        self, circuit: Circuit, now: float
    ) -> tuple[tuple[int, ...], Values, float] | None:
        """Give what flows through a circuit, which samples say so, and how often they come."""
        key: list[int] = []
        sums = [0.0] * 4
        interval = 0.0
        for meter in circuit.wiring.meters:
            parts = self._parts(circuit, meter, now)
            if not parts:
                return None
            for part, sign in parts:
                reading = self._readings[part]
                key += [part, reading.number]
                interval = max(interval, reading.interval)
                currents = reading.flow.currents
                if part in circuit.wiring.other_chargers:
                    currents = explained(currents, self._given.get(part, UNKNOWN))
                for place, value in enumerate((*currents, reading.flow.power)):
                    sums[place] += sign * value
        one, two, three, power = sums
        return tuple(key), (one, two, three, power), interval

    def _parts(self, circuit: Circuit, meter: int, now: float) -> list[tuple[int, int]]:
        """Give what adds up to the current of a meter, with signs; nothing if it is silent.

        Where it is silent itself, the meter before it less all others that this one reads.
        """
        if self._is_heard(meter, now):
            return [(meter, 1)]
        if meter in circuit.wiring.stand_ins:
            parent, others = circuit.wiring.stand_ins[meter]
            if all(self._is_heard(part, now) for part in (parent, *others)):
                return [(parent, 1), *((other, -1) for other in others)]
        # A frozen one is listened to all the same: it may move again.
        return [(meter, 1)] if self.flow(meter, now) is not None else []

    def _is_heard(self, component_id: int, now: float) -> bool:
        return self.flow(component_id, now) is not None and component_id not in self._frozen

    def _expected(
        self,
        circuit: Circuit,
        chargers: Mapping[int, Charger],
        flows: Mapping[int, Flow],
        now: float,
    ) -> Values:
        """Give by how much chargers may draw otherwise by now than they have said last.

        That is nothing for those that have spoken together with the meter.
        """
        power = 0.0
        for number, flow in flows.items():
            charger, reading = chargers.get(number), self._readings[number]
            if now - reading.at < _TOGETHER * reading.interval:
                continue
            if reading.before is not None:
                power += max(0.0, reading.before.power - flow.power)
            if charger is not None and now - charger.changed_at <= _RAISED_LATELY:
                power += max(0.0, (charger.ledger.newest or 0.0) - max(0.0, flow.power))
        # It may be on any phase.
        most = power / NOMINAL_VOLTAGE
        return most, most, most, power
