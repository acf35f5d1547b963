"""Finds the voltage at a charger, from what it and others measure. Pure."""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from microgrid_sync.model import ComponentCategory
from microgrid_sync.model.data import PerPhase
from microgrid_sync.topology import Topology

LOWEST, HIGHEST = 150.0, 300.0
"""V: what no grid has between a phase and neutral is no voltage."""

_PHASE_THERE = 200.0
"""V: chargers show some 140 V on a phase that a car couples into; less than this on one is no phase
where another one has more (openWB counts the same way)."""

_PHASE_GONE_AFTER = 60.0
"""Seconds without a voltage after which a phase counts as not there."""

_ALL = frozenset(range(3))

_DRAWS = 1.0
"""A: a phase with more current is there, whatever its voltage."""


def is_voltage(volts: float) -> bool:
    """Tell whether a number is the voltage of a phase; 0 and NaN are none."""
    return LOWEST <= volts <= HIGHEST


class ChargerVoltage:
    """What is remembered of the voltages of one charger's phases. Its owner's thread uses it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._newest: list[float | None] = [None, None, None]
        self._seen_at = [-math.inf] * 3
        self._draws = [False] * 3

    def update(self, voltages: PerPhase, currents: PerPhase, now: float) -> None:
        """Take what the charger measures, in V and A."""
        least = _PHASE_THERE if any(_PHASE_THERE < v <= HIGHEST for v in voltages) else LOWEST
        for phase, (volts, amperes) in enumerate(zip(voltages, currents, strict=True)):
            if least <= volts <= HIGHEST:
                self._newest[phase], self._seen_at[phase] = volts, now
            self._draws[phase] = abs(amperes) > _DRAWS

    def has_own(self, now: float) -> bool:
        """Tell whether the charger itself measures a voltage."""
        return any(now - seen < _PHASE_GONE_AFTER for seen in self._seen_at)

    def phases(self, now: float) -> frozenset[int]:
        """Give the charger's phases, 0 to 2; all as long as it measures no voltage."""
        if not self.has_own(now):
            return _ALL
        return frozenset(
            phase
            for phase, (draws, seen) in enumerate(zip(self._draws, self._seen_at, strict=True))
            if now - seen < _PHASE_GONE_AFTER or draws
        )

    def phase_count(self, now: float) -> int:
        """Give the number of the charger's phases; three as long as it measures no voltage."""
        return len(self.phases(now))

    def total(self, other: Sequence[float] | None, now: float) -> float | None:
        """Add up the voltages of the phases that the charger has.

        A phase for which nothing has come for a moment keeps its voltage; one that never had any,
        or has had none for a minute, does not count unless it carries a current. A charger that
        measures no voltage at all is taken for one with three phases, with those of another one.

        Args:
            other: What the best other component measures, in V; ``None`` if that is not known.
            now: The time on the monotonic clock, in seconds.

        Returns:
            The sum in V; ``None`` if no voltage is known.
        """
        if self.has_own(now):
            known = [
                volts
                for volts, seen in zip(self._newest, self._seen_at, strict=True)
                if volts is not None and now - seen < _PHASE_GONE_AFTER
            ]
            unknown_but_drawing = sum(
                draws and now - seen >= _PHASE_GONE_AFTER
                for draws, seen in zip(self._draws, self._seen_at, strict=True)
            )
            return math.fsum(known) * (1 + unknown_but_drawing / len(known))
        known = [volts for volts in other or () if is_voltage(volts)]
        return 3 * math.fsum(known) / len(known) if known else None


_WOBBLE_TIME = 600.0
"""Seconds for which a voltage was as high as it may get again."""

_WOBBLE = 1.05
"""Voltages wobble by no more than that; what is higher is an odd sample."""

_SMOOTHING = 10.0
_STEADY_TIME = 10.0


class VoltageRange:
    """The voltage of a phase of one charger over the last minutes. Its owner's thread uses it."""

    def __init__(self) -> None:
        """Know no voltage."""
        self.phases = 3
        """The number of the charger's phases."""

        self.lowest = self.highest = math.inf
        """The lowest of the last seconds, and the highest of the last minutes, in V; infinite
        without a voltage."""

        self._average = math.nan
        self._updated_at = -math.inf
        self._lows: _Extremes = _Extremes(min, _STEADY_TIME / 5)
        self._highs: _Extremes = _Extremes(max, _WOBBLE_TIME / 5)

    @property
    def nominal(self) -> float:
        """The usual voltage in V: 230 as long as none has been seen."""
        return self._average if self._average > 0 else 230.0

    def update(self, total: float | None, phases: int, now: float) -> None:
        """Take the sum of the voltages of all phases in V; ``None`` if that is not known."""
        self.phases = phases
        if total is None:
            self.lowest = self.highest = math.inf
            return
        volts = total / phases
        share = min(1.0, (now - self._updated_at) / _SMOOTHING)
        self._average = volts if share == 1.0 else self._average + share * (volts - self._average)
        self._updated_at = now
        self.lowest = self._lows.update(volts, now)
        self.highest = min(self._highs.update(volts, now), self._average * _WOBBLE)


class _Extremes:
    """The lowest or the highest of the last while."""

    def __init__(self, kind: Callable[[float, float], float], bucket: float) -> None:
        self._kind = kind
        self._bucket = bucket
        self._found: deque[tuple[float, float]] = deque(maxlen=5)

    def update(self, value: float, now: float) -> float:
        found = self._found
        while found and now - found[0][0] >= 5 * self._bucket:
            found.popleft()
        if found and now - found[-1][0] < self._bucket:
            found[-1] = found[-1][0], self._kind(found[-1][1], value)
        else:
            found.append((now, value))
        return functools.reduce(self._kind, (extreme for _, extreme in found))


_TRY_FOR = 3.0
"""Seconds in which a component that is asked for its voltage should have sent one."""

_TRY_AT_ONCE = 4
"""So many more components are asked at a time."""

_KEEP_ASKED = 60.0
"""Seconds for which a component stays asked after its voltage was needed."""

_OTHERS = (ComponentCategory.METER, ComponentCategory.INVERTER, ComponentCategory.EV_CHARGER)


class VoltageSearch:
    """Finds who else can say the voltage at chargers that measure none. One thread uses it.

    The nearest meter above a charger that has a voltage says it; else any meter, inverter or
    charger that has one. They are asked one after the other, the best ones first.
    """

    def __init__(self, topology: Topology, max_age: float) -> None:
        """Ask nobody yet.

        Args:
            topology: The microgrid.
            max_age: Seconds after which a voltage is too old.
        """
        self._max_age = max_age
        self._heard: dict[int, tuple[PerPhase, float]] = {}
        self._asked: dict[int, float] = {}
        self._needed: dict[int, float] = {}
        self.change_topology(topology)

    def change_topology(self, topology: Topology) -> None:
        """Go on with another topology."""
        self._topology = topology
        self._above: dict[int, list[int]] = {}
        self._anybody_found_at = -math.inf
        self._found: PerPhase | None = None
        self._anybody = [c.component_id for kind in _OTHERS for c in topology.components(kind)]

    def update(self, component_id: int, voltages: PerPhase, now: float) -> None:
        """Take what a component measures, in V; nothing if that is no voltage."""
        if any(is_voltage(volts) for volts in voltages):
            self._heard[component_id] = (voltages, now)

    def find(self, charger: int, now: float) -> PerPhase | None:
        """Give the voltage at a charger, in V; without one, ask others to be asked for theirs."""
        if charger not in self._above:
            self._above[charger] = _meters_above(self._topology, charger)
        voltages, is_waiting = self._first(self._above[charger], now)
        if voltages is not None or is_waiting:
            return voltages
        if self._anybody_found_at != now:
            # The same for all chargers that have come so far.
            self._anybody_found_at = now
            self._found = self._first(self._anybody, now)[0]
        return self._found

    def _first(self, candidates: Iterable[int], now: float) -> tuple[PerPhase | None, bool]:
        """Give the first voltage, and whether one of those asked may still send a better one."""
        room = _TRY_AT_ONCE
        for candidate in candidates:
            heard = self._heard.get(candidate)
            self._needed[candidate] = now
            if heard is not None and now - heard[1] < self._max_age:
                return heard[0], False
            room -= now - self._asked.setdefault(candidate, now) < _TRY_FOR
            if room <= 0:
                break
        return None, room < _TRY_AT_ONCE

    def wanted(self, now: float) -> frozenset[int]:
        """Give the components whose data is needed for it."""
        for component_id, needed_at in list(self._needed.items()):
            if now - needed_at > _KEEP_ASKED:
                del self._needed[component_id]
                self._asked.pop(component_id, None)
                self._heard.pop(component_id, None)
        return frozenset(i for i in self._needed if i in self._topology)


def _meters_above(topology: Topology, charger: int) -> list[int]:
    """Give the meters between a charger and the grid, the nearest first."""
    if charger not in topology:
        return []
    reached = {charger: None}
    to_do = [charger]
    for component_id in to_do:
        above = [c.component_id for c in topology.read_by(component_id)]
        to_do += [i for i in above if i not in reached]
        reached |= dict.fromkeys(above)
    return [i for i in reached if topology.component(i).category is ComponentCategory.METER]
