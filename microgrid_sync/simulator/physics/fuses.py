"""Simulates a fuse at the grid connection, which blows when it has carried too much for too long.

Typical melting times of gG fuses, by multiples of the rating, are those of the Siemens NH-1 links
in pandapower's library; at short times the gates of IEC 60269-1, table 3, hold them to what each
fuse must bear and must not bear. A breaker is taken to follow one body between what it must hold
and what must trip it (IEC 60898-1), with its magnetic trip above.
"""

import itertools
import math
from collections.abc import Sequence

from microgrid_sync.simulator.physics.randomness import generator

_MULTIPLES = (1.25, 1.6, 2.0, 3.0, 5.0, 10.0)
_MELTS_AFTER = {
    25.0: (math.inf, 4000.0, 1000.0, 68.0, 3.1, 0.11),
    50.0: (math.inf, 5000.0, 1760.0, 192.0, 11.0, 0.39),
    63.0: (math.inf, 3830.0, 1170.0, 135.0, 7.6, 0.29),
    100.0: (math.inf, 4120.0, 1480.0, 146.0, 11.0, 0.60),
}
"""Seconds, by rating in A and multiple of it. A fuse holds 1.25 times its rating."""

_HELD_FOR_10_S = {25.0: 2.08, 32.0: 2.34, 50.0: 2.5, 63.0: 2.54, 100.0: 2.9}
"""The multiple of the rating that a fuse bears for ten seconds."""

_SCATTER = 0.05
"""The standard deviation of a fuse's current from the typical one; 10 % at the most."""

_COOLS_IN = 600.0
"""Seconds in which a fuse forgets most of what it has carried."""

_TRIPS_AT = {"B": 4.0, "C": 7.5, "D": 15.0}
"""Multiples of the rating at which a breaker trips at once."""

_BREAKER_BODY, _BREAKER_BOUND = 12.0, 1.29**2
"""A time constant in s, and the state at which it trips, halfway between the standard's two."""

FUSE_TYPES = ("gG", *_TRIPS_AT)


class PhaseFuse:
    """The fuse of one phase."""

    def __init__(self, rating: float, kind: str, *chance: object) -> None:
        """Put in a fuse that is cold.

        Args:
            rating: In A.
            kind: One of `FUSE_TYPES`.
            chance: What its scatter comes from: a seed, and what tells it from other fuses.
        """
        self._rating = rating
        self._kind = kind
        seed, *what = chance
        scatter = generator(int(str(seed)), "fuse", *what).gauss(0.0, _SCATTER)
        self._factor = 1.0 + min(max(scatter, -2 * _SCATTER), 2 * _SCATTER)
        self._melted = 0.0
        self._state = 0.0
        self.is_blown = False

    def carry(self, amperes: float, seconds: float) -> None:
        """Carry a current, in A, for some seconds."""
        if self.is_blown:
            return
        multiple = abs(amperes) / self._rating
        if self._kind in _TRIPS_AT:
            self._heat(multiple, seconds)
            return
        melts_after = melting_time(self._rating, multiple / self._factor)
        if multiple < _held_for_10_s(self._rating):
            # Every fuse bears that for ten seconds.
            melts_after = max(melts_after, 10.0)
        if math.isinf(melts_after):
            self._melted *= math.exp(-seconds / _COOLS_IN)
        self._melted += seconds / melts_after
        self.is_blown = self._melted >= 1.0

    def _heat(self, multiple: float, seconds: float) -> None:
        load = multiple**2
        self._state = load + (self._state - load) * math.exp(-seconds / _BREAKER_BODY)
        self.is_blown = self._state >= _BREAKER_BOUND or multiple >= _TRIPS_AT[self._kind]


def melting_time(rating: float, multiple: float) -> float:
    """Give how long a typical gG fuse bears a multiple of its rating, in s; infinite if for ever.

    Between the points of a curve, and between curves, logarithms are interpolated.
    """
    if multiple <= _MULTIPLES[0]:
        return math.inf
    ratings = sorted(_MELTS_AFTER)
    near = min(max(rating, ratings[0]), ratings[-1])
    above = next(r for r in ratings if r >= near)
    below = max(r for r in ratings if r <= near)
    one, other = (_on_curve(_MELTS_AFTER[r], multiple) for r in (below, above))
    if above == below or math.isinf(one):
        return one
    share = math.log(near / below) / math.log(above / below)
    return math.exp(math.log(one) * (1 - share) + math.log(other) * share)


def _on_curve(times: Sequence[float], multiple: float) -> float:
    points = list(zip(_MULTIPLES, times, strict=True))[1:]
    if multiple < points[0][0]:
        # Towards the current that it holds the time grows beyond all limits.
        towards = (multiple - _MULTIPLES[0]) / (points[0][0] - _MULTIPLES[0])
        return points[0][1] / towards
    for (x1, t1), (x2, t2) in itertools.pairwise(points):
        if multiple <= x2:
            share = math.log(multiple / x1) / math.log(x2 / x1)
            return math.exp(math.log(t1) * (1 - share) + math.log(t2) * share)
    # As for a short circuit: the same energy.
    x, t = points[-1]
    return t * (x / multiple) ** 2


def _held_for_10_s(rating: float) -> float:
    known = [held for r, held in _HELD_FOR_10_S.items() if r <= rating]
    return known[-1] if known else _HELD_FOR_10_S[25.0]
