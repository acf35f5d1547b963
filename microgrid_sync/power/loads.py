"""Tells what a charger takes of each phase of a circuit, for what it may be given. Pure; W, A."""

import math
from typing import NamedTuple

from microgrid_sync.power.charger import Charger
from microgrid_sync.power.house import explained, is_located
from microgrid_sync.power.readings import NOMINAL_VOLTAGE, Flow
from microgrid_sync.power.rotation import Rotation

START_TIME = 60.0
"""Seconds for which a car that was started counts as one that has not drawn yet."""

_LOW_VOLTAGE = 0.9 * NOMINAL_VOLTAGE
"""V: what grids have at the least, where no voltage is known (EN 50160)."""


class Load(NamedTuple):
    """What one charger takes of one phase, in A, or of the power of all, in W."""

    per_watt: float
    most: float
    """What it is rated for there."""

    explained: float = 0.0
    """What of its draw is taken for known there, and is no part of the house."""

    in_house: float = 0.0
    """What of its draw may be a part of the house there."""

    draw: float = 0.0
    """What it draws there."""

    def of(self, watts: float) -> float:
        """Give what it takes with a limit, in W, beside what of it is in the house."""
        return self.explained + max(0.0, self._all_of(watts) - self.in_house)

    def counted(self, watts: float) -> float:
        """Give what counts with a limit: that, or what it draws if that is more."""
        return max(self.of(watts), self.draw)

    def planned(self, watts: float) -> float:
        """Give what it will take when it has obeyed a limit, less what of it is in the house."""
        if not self.in_house:
            return self._all_of(watts)
        return self._all_of(watts) - self.in_house + self.explained

    def _all_of(self, watts: float) -> float:
        return min(watts * self.per_watt, self.most)

    def watts_for(self, amount: float) -> float:
        """Give the highest limit, in W, with which no more than some amount counts."""
        if amount >= self.of(math.inf):
            return math.inf
        return max(0.0, amount - self.explained + self.in_house) / self.per_watt


Loads = tuple[Load | None, Load | None, Load | None, Load]
"""By phase of the circuit's meter, and of the power of all."""


def loads_of(
    charger: Charger,
    flow: Flow | None,
    rotation: Rotation,
    now: float,
    *,
    is_start: bool,
    is_metered: bool = True,
) -> Loads:
    """Tell what a charger takes of a circuit.

    Before its car has drawn, all of its power may flow on any phase that the charger has; then it
    is shared by the phases that the car uses. Where it is not known which phases of the circuit
    those are, all three may be.

    Args:
        charger: The charger.
        flow: What it draws; ``None`` if that is not known just now.
        rotation: Its rotation against the circuit's meter.
        now: The time on the monotonic clock, in seconds.
        is_start: Whether it is to be started, or may be started by what is meant.
        is_metered: Whether the circuit's meter reads it: what it draws may be in the house then.
    """
    volts = charger.volts.lowest if math.isfinite(charger.volts.lowest) else _LOW_VOLTAGE
    used = charger.used_phases
    # A car that charged when it was first commanded has not been started.
    started_at = -math.inf if charger.stay is None else charger.stay.started_at
    if is_start or now - started_at < START_TIME or not used:
        phases, per_watt = charger.voltage.phases(now), 1.0 / volts
    else:
        phases, per_watt = used, 1.0 / (volts * len(used))
    drawn = 0.0 if flow is None or math.isnan(flow.power) else max(0.0, flow.power)
    total = Load(1.0, math.inf, draw=drawn)
    most = charger.rated_current
    places = _places(phases, rotation)
    currents = (0.0, 0.0, 0.0) if flow is None else flow.currents
    has_phases = flow is None or flow.has_phases
    if not is_metered and not is_located(currents, rotation):
        load = Load(per_watt, most, draw=max(0.0, *currents))
        return load, load, load, total
    if has_phases and not is_located(currents, rotation):
        # What it draws is in the house, but for what it draws on every phase.
        least, highest = max(0.0, min(currents)), max(0.0, *currents)
        load = Load(per_watt, most, least, highest, least)
        return load, load, load, total
    draws = explained(currents, rotation) if has_phases else (drawn / volts,) * 3
    found: list[Load | None] = [
        Load(per_watt, most, draw=draw) if place in places or draw else None
        for place, draw in enumerate(draws)
    ]
    return found[0], found[1], found[2], total


def _places(phases: frozenset[int], rotation: Rotation) -> set[int]:
    """Give which phases of a meter some of a charger may be: all if that is not known."""
    places = {place for phase in phases if (place := rotation[phase]) is not None}
    return places if len(places) == len(phases) else set(range(3))
