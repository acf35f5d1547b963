"""Knows how long fuses and breakers bear too much current: a thermal state for each phase. Pure.

The model is one body: its state follows the square of the load, as a share of the rating, with one
time constant; 1 is the steady rated load. What a device must hold by its standard is a bound of the
state, and its time constant follows from the shortest time in which the standard lets it act. Real
devices have more and slower bodies, which only lengthens times of ten seconds and more.
"""

import math
from dataclasses import dataclass
from typing import Self

from frequenz.quantities import Current

from microgrid_sync.model.shown import Shown

TARGET_SHARE = 0.97
"""No more than this share of a limit is planned with."""

LOST_SET_POINT = 6.0
"""Seconds that pass until a set-point that was lost has been sent again and taken."""

_GG_BOUND = 1.25**2
"""A gG fuse holds 1.25 times its rating (IEC 60269-1, table 2)."""

_GG_GATES = ((35.0, 75.0), (50.0, 125.0), (63.0, 160.0), (100.0, 290.0))
"""Ratings, and the current that the fuse must bear for ten seconds, in A (IEC 60269-1, table 3).
The gate of 32 A stands for 35 A, for which none is published: that is the safe side."""

_SMALLEST_GG = 32.0
"""A: for smaller ones no gate was at hand; nothing beyond the steady bound is relied upon."""

_MCB_BOUND, _MCB_TIME_CONSTANT = 1.13**2, 4.6
"""Breakers B, C and D hold 1.13 times the rating, and 2.55 times for a second (IEC 60898-1)."""

_SLS_BOUND = 1.05**2
"""Selective main breakers hold 1.05 times the rating (DIN VDE 0641-21); no curve is published."""

_MCB_TYPES = ("B", "C", "D")


@dataclass(frozen=True, repr=False)
class FuseCurve(Shown):
    """What a fuse or a breaker bears, and for how long.

    Made by `gG`, `mcb` or `sls`. As the ``max_current`` of a limit it keeps the thermal state of
    the device below what that must hold by its standard, with all that may happen before a lower
    set-point has arrived.
    """

    name: str
    """What it is, such as ``gG 63 A``."""

    rating: Current
    """Its rated current."""

    bound: float
    """The square of the load, as a share of the rating, that it holds for ever."""

    time_constant: float
    """Seconds; 0 if nothing is known of how it bears more for a while."""

    largest_step: Current
    """By how much all loads beside the chargers may rise within the time that a lower set-point
    takes to arrive."""

    @classmethod
    def gG(cls, amperes: float, *, largest_step: Current | None = None) -> Self:  # noqa: N802 - so it is written
        """Make a fuse of class gG.

        Args:
            amperes: Its rated current, in A.
            largest_step: By how much the loads beside the chargers may rise at a time on one
                phase; half of the rated current unless given.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If one of them is not finite and positive.
        """
        rating = _checked_rating(amperes)
        time_constant = 0.0
        if rating >= _SMALLEST_GG:
            gates = [gate for gate in _GG_GATES if gate[0] <= rating]
            of, held = gates[-1] if gates else _GG_GATES[0]
            share = (held / of) ** 2
            time_constant = 10.0 / math.log(share / (share - _GG_BOUND))
        return cls._made("gG", rating, _GG_BOUND, time_constant, largest_step)

    @classmethod
    def mcb(cls, type: str, amperes: float, *, largest_step: Current | None = None) -> Self:
        """Make a miniature circuit breaker.

        Args:
            type: Its characteristic: ``"B"``, ``"C"`` or ``"D"``.
            amperes: Its rated current, in A.
            largest_step: See `gG`.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If the characteristic is another one, or a current is not positive.
        """
        if type not in _MCB_TYPES:
            raise ValueError(f"the type of a breaker must be 'B', 'C' or 'D', not {type!r}")
        rating = _checked_rating(amperes)
        return cls._made(type, rating, _MCB_BOUND, _MCB_TIME_CONSTANT, largest_step)

    @classmethod
    def sls(cls, amperes: float, *, largest_step: Current | None = None) -> Self:
        """Make a selective main circuit breaker (in German *SLS-Schalter*).

        Args:
            amperes: Its rated current, in A.
            largest_step: See `gG`.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If one of them is not finite and positive.
        """
        return cls._made("SLS", _checked_rating(amperes), _SLS_BOUND, 0.0, largest_step)

    @classmethod
    def _made(
        cls, kind: str, rating: float, bound: float, time_constant: float, step: Current | None
    ) -> Self:
        if step is None:
            step = Current.from_amperes(rating / 2)
        if not isinstance(step, Current):
            raise TypeError(
                f"largest_step must be a Current, such as Current.from_amperes(10), not {step!r}"
            )
        if not 0 < step.as_amperes() < math.inf:
            raise ValueError(f"largest_step must be finite and positive, not {step}")
        name = f"{kind} {rating:g} A"
        return cls(name, Current.from_amperes(rating), bound, time_constant, step)

    def kept(self, seconds: float) -> float:
        """Give the share of a thermal state that is left after some seconds."""
        return math.exp(-seconds / self.time_constant) if self.time_constant else 0.0

    def state_after(self, state: float, amperes: float, seconds: float) -> float:
        """Give the thermal state after some seconds with a current, in A, whatever its sign."""
        load = (amperes / self.rating.as_amperes()) ** 2
        return load + (state - load) * self.kept(seconds)

    def forgiven(self, state: float, obey_time: float) -> float:
        """Give the current, in A, from which the largest step is borne until it is answered.

        Args:
            state: The thermal state.
            obey_time: How long chargers take to obey, in s, without a set-point that is lost.

        Returns:
            The current; below zero never, above the rating if the device is cold.
        """
        kept = self.kept(obey_time + LOST_SET_POINT)
        rating = self.rating.as_amperes()
        borne = math.sqrt(max(0.0, (self.bound - state * kept) / (1.0 - kept)))
        return max(0.0, rating * borne - self.largest_step.as_amperes())


def _checked_rating(amperes: float) -> float:
    if isinstance(amperes, bool) or not isinstance(amperes, int | float):
        raise TypeError(f"the rated current must be a number of amperes, not {amperes!r}")
    if not 0 < amperes < math.inf:
        raise ValueError(f"the rated current must be finite and positive, not {amperes!r}")
    return float(amperes)
