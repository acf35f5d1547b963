"""Finds what circuits leave to chargers at one moment, and lowers what they do not. Pure; W, A.

Each circuit limits up to three phases and a total. What counts there is the house, and of each
charger what its limit allows it, or what it draws if that is more.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from microgrid_sync.power.case import Case, comes_first, patience
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.circuits import RAISE_PAUSE, Circuit, Circuits
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.house import TOTAL, Stage
from microgrid_sync.power.loads import Load, Loads, loads_of
from microgrid_sync.power.readings import NOMINAL_VOLTAGE
from microgrid_sync.power.stay import IDLE

_PAUSE = 90.0
"""Seconds for which cars pause of their own accord (ZOE, e-Niro, Kona: up to 60)."""

_SLACK = 0.3
"""A: so much more is taken when something has to be."""

_ROUNDING = 1e-6


@dataclass
class _View:
    """One circuit at one moment."""

    circuit: Circuit
    chargers: Mapping[int, Charger]
    flows: Circuits
    now: float

    def __post_init__(self) -> None:
        circuit, now = self.circuit, self.now
        self.places = circuit.limit.places()
        self.stages = {place: circuit.house.stage(place, now) for place in self.places}
        self.loads: dict[int, Loads] = {}
        self._start_loads: dict[int, Loads] = {}
        for number in circuit.wiring.chargers & self.chargers.keys():
            self.loads[number] = self._loads(number, is_start=False)
        # A meter that was never heard leaves nothing to be reckoned with.
        house = {place: circuit.house.value(place, now) for place in self.places}
        highest = {place: circuit.house.value_for_raises(place, now) for place in self.places}
        self.target = {place: circuit.target(place) - house[place] for place in self.places}
        self.bar = {place: circuit.bar(place) - house[place] for place in self.places}
        self.target_for_raises = {
            place: circuit.target(place) - highest[place] for place in self.places
        }
        self.counted: dict[tuple[int, int], float] = {}
        self.free = dict(self.target_for_raises)
        for number, loads in self.loads.items():
            reserved = self.chargers[number].reserved(now)
            for place in self.places:
                load = loads[place]
                if load is not None:
                    counted = load.counted(reserved)
                    self.counted[number, place] = counted
                    self.free[place] -= counted
        self.may_raise = now - circuit.raised_at >= RAISE_PAUSE

    def _loads(self, number: int, *, is_start: bool) -> Loads:
        flow = self.flows.flow(number, self.now)
        rotation = self.circuit.rotation_of(number)
        is_metered = number not in self.circuit.wiring.unmetered
        return loads_of(
            self.chargers[number],
            flow,
            rotation,
            self.now,
            is_start=is_start,
            is_metered=is_metered,
        )

    def loads_for(self, case: Case, limits: Mapping[int, float] | None = None) -> Loads:
        """Give the loads of a charger; as of one that is started if it has no limit yet."""
        number = case.component_id
        # What charges before the first command goes on: that is no start.
        starts = case.limit == 0 and (limits is None or limits[number] > 0)
        if not starts:
            return self.loads[number]
        if number not in self._start_loads:
            self._start_loads[number] = self._loads(number, is_start=True)
        return self._start_loads[number]

    def stage_of(self, number: int) -> Stage:
        """Give how well the least known phase is known that a charger may load."""
        loads = self.loads[number]
        return max(
            (self.stages[place] for place in self.places if loads[place] is not None),
            default=Stage.HEARD,
        )

    def most(self, case: Case) -> float:
        """Give the highest power that a charger can be raised to; below zero for none."""
        most = math.inf
        loads = self.loads_for(case)
        for place in self.places:
            load = loads[place]
            if load is None:
                continue
            free = self.free[place]
            if self.stages[place] > Stage.HEARD or not free >= 0:
                return -math.inf
            counted = self.counted.get((case.component_id, place), 0.0)
            most = min(most, load.watts_for(free + counted))
        return most

    def free_share(self, case: Case, watts: float) -> float:
        """Give how much of what a charger needs is free, over all that is limited, as a share."""
        loads = self.loads_for(case)
        needed = free = 0.0
        for place in self.places:
            load = loads[place]
            if load is not None:
                # Amperes, and watts as of so many amperes.
                unit = 1.0 if place != TOTAL else load.per_watt / NOMINAL_VOLTAGE
                amount = load.counted(watts) - self.counted.get((case.component_id, place), 0.0)
                needed += amount * unit
                free += min(amount, max(0.0, self.free[place])) * unit
        return free / needed if needed > 0 else 1.0

    def take(self, case: Case, watts: float) -> None:
        """Note that a charger is raised."""
        loads = self.loads_for(case)
        for place in self.places:
            load = loads[place]
            if load is not None:
                before = self.counted.get((case.component_id, place), 0.0)
                after = max(before, load.counted(watts))
                self.free[place] -= after - before
                self.counted[case.component_id, place] = after

    def planned(self, case: Case, limits: Mapping[int, float], place: int) -> float:
        """Give what a charger will take of a phase with its limit, when it has obeyed."""
        limit = limits[case.component_id]
        load = self.loads_for(case, limits)[place]
        if load is None:
            return 0.0
        if case.is_beyond_control or case.is_silent:
            return load.counted(max(limit, case.reserved) if case.is_beyond_control else limit)
        return load.planned(limit)

    def binding(self, case: Case) -> str | None:
        """Say what keeps a charger from getting more; ``None`` if nothing does."""
        loads = self.loads_for(case)
        tightest, words = math.inf, None
        for place in self.places:
            load = loads[place]
            if load is None:
                continue
            counted = self.counted.get((case.component_id, place), 0.0)
            watts = load.watts_for(max(0.0, self.free[place]) + counted)
            if watts < tightest:
                tightest, words = watts, self.words(place)
        return self.never_fits(case) or words

    def never_fits(self, case: Case) -> str | None:
        """Say why a car cannot be started here whatever else is drawn; ``None`` if it can."""
        needed = case.least_to_start()
        if case.limit or not needed:
            return None
        loads = self.loads_for(case)
        for place in self.places:
            load = loads[place]
            if load is not None and load.of(needed) > self.circuit.target(place):
                unit = "A" if place != TOTAL else "W"
                return (
                    f"{self.words(place)}, and a car that begins there may take "
                    f"{load.of(needed):.1f} {unit}"
                )
        return None

    def words(self, place: int) -> str:
        """Name a limit, and say what it leaves."""
        name, limit = self.circuit.name, self.circuit.limit.highest(place)
        stage = self.stages[place]
        if stage is Stage.NEVER_HEARD:
            return f"nothing has been heard of {name} yet"
        if stage > Stage.HELD:
            return f"{name} is silent"
        if place == TOTAL:
            return f"{name}: {limit / 1000:g} kW at the most"
        return f"{name}: {limit:g} A at the most on L{place + 1}"


class Headroom:
    """What all circuits leave at one moment. The control loop's thread makes and uses it."""

    def __init__(
        self,
        circuits: Circuits,
        chargers: Mapping[int, Charger],
        config: ChargingConfig,
        now: float,
    ) -> None:
        """Look at all circuits.

        Args:
            circuits: The circuits.
            chargers: All chargers that are commanded.
            config: The settings.
            now: The time on the monotonic clock, in seconds.
        """
        self._config = config
        self._now = now
        deepest_first = sorted(
            circuits.circuits.values(), key=lambda circuit: -circuit.wiring.depth
        )
        self._views = [_View(circuit, chargers, circuits, now) for circuit in deepest_first]
        self._above: dict[int, list[_View]] = {}
        for view in self._views:
            for number in view.loads:
                self._above.setdefault(number, []).append(view)

    # More

    def most(self, case: Case) -> float:
        """Give the highest power that a charger can be raised to now; below zero for none."""
        views = self._above.get(case.component_id, ())
        if not all(view.may_raise for view in views):
            return -math.inf
        return self.most_later(case)

    def limits(self, case: Case) -> bool:
        """Tell whether a charger is in one of the circuits."""
        return case.component_id in self._above

    def may_raise(self, case: Case) -> bool:
        """Tell whether a charger may be raised now, if there is room for that."""
        return all(
            view.may_raise and view.stage_of(case.component_id) is Stage.HEARD
            for view in self._above.get(case.component_id, ())
        )

    def most_later(self, case: Case) -> float:
        """Give the same, however long ago the last raise was."""
        views = self._above.get(case.component_id, ())
        return min((view.most(case) for view in views), default=math.inf)

    def take(self, case: Case, watts: float) -> None:
        """Note that a charger is raised."""
        for view in self._above.get(case.component_id, ()):
            view.take(case, watts)

    def never_fits(self, case: Case) -> str | None:
        """Say why a car cannot be started whatever else is drawn; ``None`` if it can."""
        views = self._above.get(case.component_id, ())
        return next((why for view in views if (why := view.never_fits(case)) is not None), None)

    def binding(self, case: Case) -> str | None:
        """Say what keeps a charger from getting more; ``None`` if no circuit does."""
        found = [
            (view.most(case), words)
            for view in self._above.get(case.component_id, ())
            if (words := view.binding(case)) is not None
        ]
        return min(found)[1] if found else None

    def free_share(self, case: Case, watts: float) -> float:
        """Give how much of what a charger needs is free, as a share: the least of its circuits.

        On some phases all of it may be free, and nothing on others.

        Args:
            case: The charger.
            watts: What it needs.
        """
        shares = (view.free_share(case, watts) for view in self._above.get(case.component_id, ()))
        return min(shares, default=1.0)

    def fits(self, cases: Collection[Case], limits: Mapping[int, float]) -> bool:
        """Tell whether chargers could have some limits, when all others have obeyed theirs.

        Args:
            cases: The chargers.
            limits: Their limits, in W.
        """
        numbers = {case.component_id for case in cases}
        for view in self._views:
            within = [case for case in cases if case.component_id in view.loads]
            if not within:
                continue
            for place in view.places:
                total = sum(view.planned(case, limits, place) for case in within)
                total += sum(
                    view.counted.get((number, place), 0.0) for number in view.loads.keys() - numbers
                )
                if view.stages[place] > Stage.HEARD or not total <= view.target_for_raises[place]:
                    return False
        return True

    # Less

    def hold(self, cases: Sequence[Case], limits: dict[int, float]) -> dict[int, str]:
        """Lower what has been distributed, over all sets at once, until every circuit holds.

        Args:
            cases: The chargers that are commanded.
            limits: Their limits, in W; changed.

        Returns:
            Why chargers were lowered, by ID.
        """
        return self._cap(cases, limits) | self.lower(cases, limits)

    def _cap(self, cases: Iterable[Case], limits: dict[int, float]) -> dict[int, str]:
        """Bring limits down to what chargers may have below meters that are silent.

        Args:
            cases: The chargers that are commanded.
            limits: Their limits; changed.

        Returns:
            Why chargers were lowered, by ID.
        """
        told = {}
        for case in cases:
            number = case.component_id
            for view in self._above.get(number, ()):
                before = limits[number]
                stage = view.stage_of(number)
                limits[number] = _capped(case, before, stage)
                if stage >= Stage.MINIMUM:
                    places = [p for p in view.places if view.stages[p] == stage]
                    told[number] = view.words(places[0])
        return told

    def lower(
        self,
        cases: Sequence[Case],
        limits: dict[int, float],
        *,
        for_raise: bool = False,
        floor: Callable[[Case, float], float] | None = None,
    ) -> dict[int, str]:
        """Lower limits until every circuit holds, the deepest one first.

        Args:
            cases: The chargers that may be lowered, or all of them.
            limits: The limits of all chargers that are commanded, or of those; changed.
            for_raise: Whether there is to be room for a raise: then the highest house of the last
                minute counts, and nobody is stopped.
            floor: Gives what a charger keeps of a limit; its minimum unless given.

        Returns:
            Why chargers were lowered, by ID.
        """
        told: dict[int, str] = {}
        keeps = floor or _minimum
        for view in self._views:
            within = [case for case in cases if case.component_id in view.loads]
            if not within:
                continue
            for place in view.places:
                target = (view.target_for_raises if for_raise else view.target)[place]
                if math.isnan(target):
                    # Never heard: nobody has more than he draws.
                    continue
                before = {case.component_id: limits[case.component_id] for case in within}
                others = 0.0
                if for_raise:
                    numbers = view.loads.keys() - before.keys()
                    others = sum(view.counted.get((n, place), 0.0) for n in numbers)
                one = _Lowering(view, place, within, limits, keeps, self._config, self._now)
                total = one.total(limits) + others
                if total <= target + _ROUNDING:
                    continue
                if not for_raise:
                    one.stop(total - view.bar[place])
                    # The house wobbles: the next ampere more is not to need the next set-points.
                    target -= _SLACK * (1.0 if place != TOTAL else NOMINAL_VOLTAGE)
                one.throttle(target - others)
                told |= {
                    number: view.words(place)
                    for number, watts in before.items()
                    if limits[number] < watts
                }
        return told


@dataclass
class _Lowering:
    """Lowers limits until one phase of a circuit, or its total, holds."""

    view: _View
    place: int
    cases: Sequence[Case]
    limits: dict[int, float]
    """Those of the chargers; changed."""

    keeps: Callable[[Case, float], float]
    """Gives what a charger keeps of a limit."""

    config: ChargingConfig
    now: float

    def total(self, limits: Mapping[int, float]) -> float:
        """Give what all of them will take."""
        return sum(self.view.planned(case, limits, self.place) for case in self.cases)

    def stop(self, excess: float) -> None:
        """Stop cars, one at a time, as long as the minimums of all are over the limit itself.

        Args:
            excess: By how much what they have is over it.
        """
        limits, view, place = self.limits, self.view, self.place
        on = [case for case in self.cases if limits[case.component_id]]
        least = dict(limits)
        for case in on:
            least[case.component_id] = self.keeps(case, limits[case.component_id])
        excess -= self.total(limits) - self.total(least)
        for case in self._last_first(on):
            if excess <= _ROUNDING:
                return
            freed = view.planned(case, least, place)
            stopped = {**least, case.component_id: 0.0}
            freed -= view.planned(case, stopped, place)
            if freed <= 0:
                # It takes nothing of this phase.
                continue
            limits[case.component_id] = least[case.component_id] = 0.0
            excess -= freed

    def throttle(self, target: float) -> None:
        """Lower what is above the minimum: alike, or that of the latest ones first.

        Args:
            target: What they may take together.
        """
        limits, view, place = self.limits, self.view, self.place
        on = [
            case
            for case in self.cases
            if limits[case.component_id]
            and view.loads_for(case, limits)[place] is not None
            and not (case.is_beyond_control and not case.is_disobeying)
        ]
        if self.config.distribution == "equal":
            self._level(on, target)
            return
        for case in self._last_first(on):
            excess = self.total(limits) - target
            if excess <= _ROUNDING:
                return
            load = view.loads_for(case, limits)[place]
            limit = limits[case.component_id]
            limits[case.component_id] = self._allowed(case, _less(load, limit, excess), limit)

    def _level(self, on: Sequence[Case], target: float) -> None:
        before = dict(self.limits)

        def at(level: float) -> dict[int, float]:
            found = dict(before)
            for case in on:
                limit = before[case.component_id]
                found[case.component_id] = self._allowed(case, level * case.weight, limit)
            return found

        low, high = 0.0, max((before[c.component_id] / c.weight for c in on), default=0.0)
        while high - low >= 1.0:
            level = (low + high) / 2
            low, high = (level, high) if self.total(at(level)) <= target else (low, level)
        self.limits.update(at(low))

    def _last_first(self, cases: Iterable[Case]) -> list[Case]:
        """Give the order in which cars are stopped: those that do not charge, then the last one."""
        if self.config.distribution == "equal":
            return sorted(cases, key=patience)
        latest_first = sorted(cases, key=comes_first, reverse=True)
        return sorted(latest_first, key=lambda case: not self._is_idle(case))

    def _is_idle(self, case: Case) -> bool:
        """Tell whether a car has not charged for a while: some pause to cool their batteries."""
        since = None if case.stay is None else case.stay.use.idle_since
        return since is not None and self.now - since >= _PAUSE

    def _allowed(self, case: Case, watts: float, limit: float) -> float:
        """Give a lower limit that the charger can have, and that lets its car go on."""
        least = self.keeps(case, limit)
        if watts >= limit:
            return limit
        if watts <= least:
            return least
        return min(limit, max(least, case.allowed(watts, least)))


def _minimum(case: Case, limit: float) -> float:
    """Give the least that lets a car go on with a limit that it has, however voltages wobble."""
    least = case.least_to_start() if math.isfinite(case.minimum) else 0.0
    return min(limit, least) if least else limit


def _capped(case: Case, limit: float, stage: Stage) -> float:
    """Give what a charger may have of a limit below a meter that is not heard."""
    if stage < Stage.MINIMUM or not limit:
        return limit
    if stage is Stage.ZERO:
        return 0.0
    least = _minimum(case, limit)
    if stage is Stage.MINIMUM:
        return least
    draw = case.charger.draw
    return min(limit, max(math.ceil(draw), least)) if draw >= IDLE else 0.0


def _less(load: Load | None, limit: float, excess: float) -> float:
    """Give the limit with which a charger takes so much less of a phase."""
    if load is None or not load.per_watt:
        return limit
    return min(limit, load.most / load.per_watt) - excess / load.per_watt
