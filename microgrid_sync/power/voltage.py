"""The voltage at a charger, from what it and the main meter measure. Pure."""

import math

from microgrid_sync.model.data import PerPhase


def is_complete(phases: PerPhase) -> bool:
    """Tell whether all three phases have a voltage: zero and NaN are none."""
    return all(_is_known(phase) for phase in phases)


def sum_of_phases(own: PerPhase, meter: PerPhase | None) -> float | None:
    """Add up the voltages of the three phases.

    A phase that the charger does not measure is taken from the meter; one that neither measures
    counts like the mean of the others, so that the power for a current is not taken for too low.

    Args:
        own: What the charger measures, in V.
        meter: What the main meter measures, in V; ``None`` if that is not known.

    Returns:
        The sum in V; ``None`` if no phase is known.
    """
    candidates = zip(own, meter or own, strict=True)
    phases = [own_phase if _is_known(own_phase) else other for own_phase, other in candidates]
    known = [phase for phase in phases if _is_known(phase)]
    return 3 * math.fsum(known) / len(known) if known else None


def _is_known(voltage: float) -> bool:
    return math.isfinite(voltage) and voltage > 0
