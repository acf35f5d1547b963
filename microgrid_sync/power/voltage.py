"""Finds the voltage at a charger, from what it and the main meter measure."""

import math
from collections.abc import Sequence

from microgrid_sync.model.data import PerPhase

LOWEST, HIGHEST = 150.0, 300.0
"""V: what no grid has between a phase and neutral is no voltage."""

_PHASE_GONE_AFTER = 60.0
"""Seconds without a voltage after which a phase counts as not there."""

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
        for phase, (volts, amperes) in enumerate(zip(voltages, currents, strict=True)):
            if is_voltage(volts):
                self._newest[phase], self._seen_at[phase] = volts, now
            self._draws[phase] = abs(amperes) > _DRAWS

    def has_own(self, now: float) -> bool:
        """Tell whether the charger itself measures a voltage."""
        return any(now - seen < _PHASE_GONE_AFTER for seen in self._seen_at)

    def total(self, meter: Sequence[float] | None, now: float) -> float | None:
        """Add up the voltages of the phases that the charger has.

        A phase for which nothing has come for a moment keeps its voltage; one that never had any,
        or has had none for a minute, does not count unless it carries a current. A charger that
        measures no voltage at all is taken for one with three phases, with the meter's voltages.

        Args:
            meter: What the main meter measures, in V; ``None`` if that is not known.
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
        known = [volts for volts in meter or () if is_voltage(volts)]
        return 3 * math.fsum(known) / len(known) if known else None
