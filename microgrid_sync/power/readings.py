"""Reads currents from what components send: import positive, of each phase. Pure.

A phase on which active power is fed back has its power over its voltage; any other one the larger
of the current that is measured and power over voltage, so that an unknown power counts as import.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from microgrid_sync.power.voltage import is_voltage

NOMINAL_VOLTAGE = 230.0

PerPhase = tuple[float, float, float]

_MOVES = 1.0
"""A: what changes by more has changed."""

_SHORTEST_SILENCE = 3.0
"""Seconds without a sample after which a component is not heard just now."""

_INTERVALS = 3.0
"""So many of its usual intervals, if that is longer."""

_REMEMBERED = 5
"""So many of the last intervals count; the usual one is in the middle of them."""


class Flow(NamedTuple):
    """What flows through a component: currents in A and power in W; NaN where it is not known."""

    currents: PerPhase
    power: float

    @property
    def has_phases(self) -> bool:
        """Whether all currents are known."""
        return not any(map(math.isnan, self.currents))

    def is_same(self, other: "Flow") -> bool:
        """Tell whether another one is the same to the last digit; what is not known is the same."""
        pairs = zip((*self.currents, self.power), (*other.currents, other.power), strict=True)
        return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs)

    def has_moved(self, since: "Flow") -> bool:
        """Tell whether it has clearly changed."""
        currents = zip(self.currents, since.currents, strict=True)
        return abs(self.power - since.power) > _MOVES * NOMINAL_VOLTAGE or any(
            abs(a - b) > _MOVES for a, b in currents
        )


def flow_of(data: Any) -> Flow:
    """Read what flows through a component that has an AC side."""
    volts = [v if is_voltage(v) else math.nan for v in data.voltage_per_phase]
    known = [v for v in volts if not math.isnan(v)]
    usual = sum(known) / len(known) if known else NOMINAL_VOLTAGE
    one, two, three = (
        _current(watts, amperes, usual if math.isnan(v) else v)
        for watts, amperes, v in zip(
            data.active_power_per_phase, data.current_per_phase, volts, strict=True
        )
    )
    power = data.active_power
    if not math.isfinite(power):
        power = sum(data.active_power_per_phase)
    return Flow((one, two, three), power if math.isfinite(power) else math.nan)


def _current(watts: float, amperes: float, volts: float) -> float:
    by_power = watts / volts if math.isfinite(watts) else math.nan
    if by_power < 0:
        return by_power
    measured = abs(amperes) if math.isfinite(amperes) else math.nan
    found = [ampere for ampere in (by_power, measured) if not math.isnan(ampere)]
    return max(found, default=math.nan)


@dataclass
class Reading:
    """The newest of one component, and how often it comes. Its owner's thread uses it."""

    flow: Flow
    at: float
    """When it came."""

    number: int = 1
    """Which one it is."""

    before: Flow | None = None
    """The one before it."""

    still_since: float = math.nan
    """Since when it has been the same to the last digit; its own time unless given."""

    _gaps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Stand still since now, unless told otherwise."""
        if math.isnan(self.still_since):
            self.still_since = self.at

    @property
    def interval(self) -> float:
        """Seconds between two, usually; a pause now and then does not count."""
        return statistics.median(self._gaps) if self._gaps else 1.0

    def next(self, flow: Flow, now: float) -> Self:
        """Take the next one."""
        gaps = (*self._gaps, now - self.at)[-_REMEMBERED:]
        still_since = self.still_since if flow.is_same(self.flow) else now
        return type(self)(flow, now, self.number + 1, self.flow, still_since, gaps)

    def is_heard(self, now: float, longest: float) -> bool:
        """Tell whether it is not older than usual.

        Args:
            now: The time.
            longest: Seconds that are too old in any case.
        """
        return now - self.at < shortest_silence(self.interval, longest)


def shortest_silence(interval: float, longest: float) -> float:
    """Give the seconds after which a component that sends so often is not heard just now."""
    return min(max(_SHORTEST_SILENCE, _INTERVALS * interval), longest)
