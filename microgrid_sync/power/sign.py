"""Finds meters that measure feed-in without a sign, as that rises when cars take less. Pure."""

import math
from collections import deque

from microgrid_sync.power.house import TOTAL, Sample

_LEAST_STEP = 4.0
"""A, of all phases: a step of all chargers together that tells something."""

_STEADY = 0.5
_SAMPLES = 4
_LONGEST = 10.0
_TRUE, _FALSE = 0.5, 1.5
"""A step of the meter between these shares of the chargers' is theirs."""

_ENOUGH = 4
"""So many more steps the wrong way than the right way: that is no accident."""


class SignSearch:
    """Watches one meter. Its owner's thread uses it."""

    def __init__(self) -> None:
        """Know nothing."""
        self.is_missing = False
        """Whether the meter measures feed-in without a sign."""

        self._samples: deque[tuple[float, float, float]] = deque(maxlen=_SAMPLES)
        self._wrong = 0

    def update(self, sample: Sample) -> bool:
        """Take a sample; tell whether it has just been found."""
        meter = sum(sample.values[:TOTAL])
        chargers = sum(sum(f.currents) for f in sample.chargers.values() if f.has_phases)
        if math.isnan(meter):
            self._samples.clear()
            return False
        samples = self._samples
        samples.append((sample.at, meter, chargers))
        first, last = samples[0], samples[-1]
        if len(samples) < _SAMPLES or last[0] - first[0] > _LONGEST:
            return False
        steady = abs(samples[1][2] - first[2]), abs(samples[-2][2] - last[2])
        step = last[2] - samples[1][2]
        if max(steady) > _STEADY or abs(step) < _LEAST_STEP:
            return False
        share = (last[1] - samples[1][1]) / step
        samples.clear()
        if _TRUE < -share < _FALSE:
            self._wrong = min(self._wrong + 1, 2 * _ENOUGH)
        elif _TRUE < share < _FALSE:
            self._wrong = max(self._wrong - 1, 0)
        was_missing = self.is_missing
        self.is_missing = self._wrong >= (1 if was_missing else _ENOUGH)
        return self.is_missing and not was_missing
