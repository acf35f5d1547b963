"""Computes voltage, power and current of three phases.

Powers are in W and VAr; signs follow the passive convention; positive reactive power is capacitive.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

PerPhase = tuple[float, float, float]

NO_POWER: PerPhase = (0.0, 0.0, 0.0)

ALL_PHASES = (1, 2, 3)


class Line(NamedTuple):
    """What the site's wires offer at an instant."""

    voltage: PerPhase = (230.0, 230.0, 230.0)
    """Voltage between each phase and neutral, in V."""

    frequency: float = 50.0
    """Frequency, in Hz."""


class Flow(NamedTuple):
    """The power that flows through one point at an instant."""

    active: PerPhase = NO_POWER
    """Active power of each phase, in W."""

    reactive: PerPhase = NO_POWER
    """Reactive power of each phase, in VAr."""

    @property
    def power(self) -> float:
        """The active power of all phases, in W."""
        return sum(self.active)

    def current(self, line: Line) -> PerPhase:
        """Give the current of each phase in A, with the sign of its active power."""
        phases = zip(self.active, self.reactive, line.voltage, strict=True)
        # In the dark nothing flows.
        one, two, three = (
            math.copysign(math.hypot(p, q) / u, p) if u else 0.0 for p, q, u in phases
        )
        return one, two, three


NO_FLOW = Flow()


def total(flows: Iterable[Flow]) -> Flow:
    """Add up what flows side by side."""
    p1 = p2 = p3 = q1 = q2 = q3 = 0.0
    for (a1, a2, a3), (r1, r2, r3) in flows:
        p1, p2, p3 = p1 + a1, p2 + a2, p3 + a3
        q1, q2, q3 = q1 + r1, q2 + r2, q3 + r3
    return Flow((p1, p2, p3), (q1, q2, q3))


def spread(power: float, phases: Iterable[int]) -> PerPhase:
    """Share a power equally between some of the phases 1, 2 and 3."""
    used = set(phases)
    share = power / len(used)
    one, two, three = (share if phase in used else 0.0 for phase in ALL_PHASES)
    return one, two, three
