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
    is_located,
)
from microgrid_sync.power.readings import NOMINAL_VOLTAGE, Flow, PerPhase, Reading, flow_of
from microgrid_sync.power.rotation import UNKNOWN, Rotation, RotationSearch, rotation_name
from microgrid_sync.power.sign import SignSearch
from microgrid_sync.topology import Topology, describe

Where = int | Literal["grid"]
"""The ID of a meter, or the grid connection."""

PHASES = range(3)

_MEASURED = frozenset(
    {ComponentCategory.METER, ComponentCategory.INVERTER, ComponentCategory.EV_CHARGER}
)
"""Whose current is measured on each phase."""

_TARGET_MARGIN = 0.5
"""A: so much of a limit is left free in any case."""

RAISE_PAUSE = 10.0
"""Seconds between two rounds of raises in a circuit."""

_UNKNOWN_OBEY_TIME = 15.0
"""Seconds that chargers take to obey, until it is known."""

_UNSETTLED = 0.5
"""A: by so much the current of a charger that nobody knows the rotation of must not change while
that of another one is looked for."""

_RAISED_LATELY = 20.0
"""Seconds after a raise in which a charger may draw more than it has said."""

_FROZEN_AFTER = 60.0
"""Seconds for which values stand still to the last digit before that is a silence."""

_STAND_IN_AFTER = 3.0
"""Seconds until others are asked for what a meter does not say."""

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

    unmetered: frozenset[int]
    """Chargers that none of the meters reads."""

    behind: Mapping[int, frozenset[int]]
    """The chargers behind each of the meters, and behind those that stand in."""


def wiring_of(topology: Topology, where: Where) -> Wiring:
    """Find what a circuit is made of.

    Raises:
        ValueError: If there is no such meter, it cannot be known what flows there, or no charger is
            behind it.
    """
    unmetered: frozenset[int] = frozenset()
    every = topology.ids(ComponentCategory.EV_CHARGER)
    if where == "grid":
        meters, begins = _at_the_grid(topology)
        unmetered = every & set(begins)
        behind = set(begins).union(*(topology.behind(i) for i in begins))
        depth, name = 0, "the grid connection"
    else:
        if where not in topology:
            meters_known = topology.components(ComponentCategory.METER)
            known = [
                c.component_id for c in meters_known if topology.behind(c.component_id) & every
            ]
            raise ValueError(
                f"there is no component {where}; the meters with chargers behind them are "
                f"{', '.join(map(str, known)) or 'none'}"
            )
        component = topology.component(where)
        if component.category is not ComponentCategory.METER:
            raise ValueError(
                f"a limit is for a meter or 'grid'; component {describe(component)} is no meter"
            )
        meters, behind = (where,), set(topology.behind(where))
        depth, name = len(topology.path_to_grid(where)), f"meter {where}"
    chargers = every & behind
    if not chargers:
        raise ValueError(f"a limit commands EV chargers; there are none behind {name}")
    stand_ins = _stand_ins(topology, meters)
    parts = {*meters, *(part for parent, more in stand_ins.values() for part in (parent, *more))}
    behind_each = {part: topology.behind(part) & every for part in parts}
    return Wiring(meters, chargers, depth, stand_ins, every - chargers, unmetered, behind_each)


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
    for top in tops:
        component = topology.component(top)
        if component.category not in _MEASURED:
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
        others = [c for c in topology.reads(parent) if c.component_id != meter]
        # Of what else there is nobody says what flows.
        if all(other.category in _MEASURED for other in others):
            found[meter] = parent, tuple(other.component_id for other in others)
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
    frozen: frozenset[int] = frozenset()
    """Those of its meters whose values stand still although chargers change."""

    _told_stage: Stage = Stage.NEVER_HEARD
    _exceeded_since: float | None = None
    _key: tuple[int, ...] | None = None
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
        return None if newest is None else newest.total

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
        currents = [0.0 if math.isnan(a) else a for a in sample.total[:TOTAL]]
        if curve is None:
            self.thermal = None
            return
        rating = curve.rating.as_amperes()
        if self.thermal is None or before is None:
            # What was before is not known, but that the fuse has borne it.
            one, two, three = (min(curve.bound, max(1.0, (a / rating) ** 2)) for a in currents)
            self.thermal = one, two, three
            return
        seconds = max(0.0, sample.at - before.at)
        one, two, three = (
            curve.state_after(state, _between(old, new, seconds), seconds)
            for state, old, new in zip(self.thermal, before.total, currents, strict=False)
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


@dataclass
class _Still:
    """A meter that says the same to the last digit."""

    since: float
    flows: Mapping[int, Flow]
    """What the chargers behind it drew then."""

    has_moved: bool = False
    """Whether one of them has changed since."""


def _highest(flow: Flow, rotation: Rotation) -> Values:
    """Give what a charger that no meter reads may take of each phase."""
    power = max(0.0, flow.power)
    if not flow.has_phases:
        return (power / NOMINAL_VOLTAGE,) * 3 + (power,)
    one, two, three = flow.currents
    if is_located(flow.currents, rotation):
        one, two, three = explained(flow.currents, rotation)
    else:
        one = two = three = max(flow.currents)
    return one, two, three, power


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
        # What chargers drew when a meter began to say the same, and whether one has changed since.
        self._stills: dict[int, _Still] = {}

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
        if not self.circuits:
            self._readings.clear()
            self._stills.clear()
        return circuit.wiring.chargers - self.chargers()

    def chargers(self) -> frozenset[int]:
        """Give all chargers that are behind a limit."""
        return frozenset[int]().union(*(c.wiring.chargers for c in self.circuits.values()))

    def components(self, now: float) -> frozenset[int]:
        """Give the components, chargers aside, whose data is needed."""
        found: set[int] = set()
        for circuit in self.circuits.values():
            found.update(circuit.wiring.meters)
            if now - circuit.house.begun_at < _STAND_IN_AFTER:
                continue
            for meter, (parent, others) in circuit.wiring.stand_ins.items():
                if not self._is_heard(meter, now) or meter in circuit.frozen:
                    found |= {parent, *others}
        return frozenset(found)

    def change_topology(self, topology: Topology) -> list[str]:
        """Go on with another topology; give what is to be told of it.

        A circuit that is no more keeps its chargers, which get nothing when its meter is silent.
        """
        told = []
        before = self.chargers()
        for circuit in self.circuits.values():
            try:
                circuit.wiring = wiring_of(topology, circuit.where)
            except ValueError as error:
                told.append(f"the limit of {circuit.name} can no longer be held: {error}")
        left = sorted(before - self.chargers())
        if left:
            told.append(f"no limit covers chargers {', '.join(map(str, left))} any more")
        return told

    # What flows

    def measured(self, component_id: int, data: Any, now: float) -> None:
        """Take what a component has sent."""
        flow = flow_of(data)
        before = self._readings.get(component_id)
        self._readings[component_id] = (
            Reading(flow, now) if before is None else before.next(flow, now)
        )

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
        frozen = {m for m in circuit.wiring.meters if self._stands_still(circuit, m, now)}
        circuit.frozen = frozenset(frozen)
        found = self._flow_through(circuit, now)
        if found is None or not circuit.is_new(found[0]):
            return []
        key, values, circuit.house.interval = found
        # Nobody stands in for these.
        used = frozen & set(key[::2])
        still = (self._readings[meter].still_since for meter in used)
        circuit.house.frozen_since = min(still, default=None)
        flows = {
            number: flow
            for number in circuit.wiring.chargers
            if (flow := self.flow(number, now)) is not None
        }
        unmetered = [
            _highest(flow, circuit.rotation_of(number))
            for number, flow in flows.items()
            if number in circuit.wiring.unmetered
        ]
        one, two, three, power = (sum(of) for of in zip(*unmetered, (0.0,) * 4, strict=True))
        metered = {n: flow for n, flow in flows.items() if n not in circuit.wiring.unmetered}
        expected = self._expected(circuit, chargers, metered, now)
        sample = Sample(now, values, metered, (one, two, three, power))
        return circuit.take(sample, key, expected)

    def _stands_still(self, circuit: Circuit, meter: int, now: float) -> bool:
        """Tell whether a meter has said the same for a minute, while chargers behind it changed."""
        reading = self._readings.get(meter)
        if reading is None:
            return False
        still = self._stills.get(meter)
        flows = {
            number: flow
            for number in circuit.wiring.behind[meter]
            if (flow := self.flow(number, now)) is not None
        }
        if still is None or still.since != reading.still_since:
            self._stills[meter] = _Still(reading.still_since, flows)
            return False
        still.has_moved = still.has_moved or any(
            flow.has_moved(still.flows[number])
            for number, flow in flows.items()
            if number in still.flows
        )
        return still.has_moved and reading.at - reading.still_since >= _FROZEN_AFTER

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
        for number in sorted(circuit.wiring.unmetered):
            reading = self._readings.get(number)
            key += [number, 0 if reading is None else reading.number]
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
        return tuple(key), (one, two, three, power), interval or 1.0

    def _parts(self, circuit: Circuit, meter: int, now: float) -> list[tuple[int, int]]:
        """Give what adds up to the current of a meter, with signs; nothing if it is silent.

        Where it is silent itself, the meter before it less all others that this one reads.
        """
        if self._is_heard(meter, now) and meter not in circuit.frozen:
            return [(meter, 1)]
        if meter in circuit.wiring.stand_ins:
            parent, others = circuit.wiring.stand_ins[meter]
            parts = (parent, *others)
            if all(self._is_heard(part, now) for part in parts) and not any(
                self._stands_still(circuit, part, now) for part in parts
            ):
                return [(parent, 1), *((other, -1) for other in others)]
        # A frozen one is listened to all the same: it may move again.
        return [(meter, 1)] if self.flow(meter, now) is not None else []

    def _is_heard(self, component_id: int, now: float) -> bool:
        return self.flow(component_id, now) is not None

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
