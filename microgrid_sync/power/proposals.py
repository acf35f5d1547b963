"""What several pools want of the same chargers, by priority. Pure; powers are in W."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """A range of power; empty if its lower end is above its upper one."""

    lower: float
    upper: float

    def is_empty(self) -> bool:
        """Tell whether there is nothing in it."""
        return self.lower > self.upper

    def __contains__(self, power: float) -> bool:
        """Tell whether a power is in it, ends included."""
        return self.lower <= power <= self.upper

    def narrow(self, other: "Range") -> "Range":
        """Give what is in both."""
        return Range(max(self.lower, other.lower), min(self.upper, other.upper))


EVERYTHING = Range(-math.inf, math.inf)
ZERO = Range(0.0, 0.0)


@dataclass(frozen=True)
class System:
    """What a set of chargers can be set to."""

    inclusion: Range
    """The powers allowed."""

    exclusion: Range = ZERO
    """The powers between whose ends nothing but zero is allowed; the ends themselves are."""

    def excludes(self, power: float) -> bool:
        """Tell whether a power is inside the exclusion range."""
        return self.exclusion.lower < power < self.exclusion.upper

    def pull(self, available: Range) -> Range:
        """Move ends that are inside the exclusion range to its edge."""
        return Range(
            self.exclusion.upper if self.excludes(available.lower) else available.lower,
            self.exclusion.lower if self.excludes(available.upper) else available.upper,
        )

    def clamp(self, power: float, available: Range) -> float | None:
        """Give the allowed power nearest to one.

        Args:
            power: The power.
            available: What is available, its ends not pulled.

        Returns:
            The power itself if it is allowed. From inside the exclusion range the nearer edge
                that is available, the lower one of two as near. ``None`` if nothing is.
        """
        nearest = min(max(power, available.lower), available.upper)
        if not self.excludes(nearest) or nearest == 0.0:
            return nearest
        edges = [e for e in (self.exclusion.lower, self.exclusion.upper) if e in available]
        if edges:
            return min(edges, key=lambda edge: abs(edge - nearest))
        return 0.0 if 0.0 in available else None


@dataclass(frozen=True)
class Proposal:
    """What one pool wants."""

    priority: int
    """The higher, the more important."""

    power: float | None = None
    """The preferred power, if any."""

    bounds: Range = EVERYTHING
    """What those with a lower priority may use."""


@dataclass(frozen=True)
class Outcome:
    """What comes of all proposals."""

    target: float | None
    """The power to distribute; ``None`` without proposals."""

    available: Range
    """What is left to somebody with a lower priority than all; maybe nothing."""


def resolve(proposals: Iterable[Proposal], system: System) -> Outcome:
    """Walk from the most important proposal down.

    Each one's preferred power, brought into what is available, becomes the target in place of
    those above; each one's bounds narrow what is available to those below. The walk ends when
    nothing is available. If nobody prefers a power, the target is the highest that is available.

    Args:
        proposals: The proposals; of equal priorities the earlier counts as the more important.
        system: What the chargers can be set to.

    Returns:
        The target, and what is left.
    """
    available = system.inclusion
    target: float | None = None
    by_importance = sorted(proposals, key=lambda proposal: -proposal.priority)
    highest = system.clamp(available.upper, available)
    for proposal in by_importance:
        if proposal.power is not None:
            allowed = system.clamp(proposal.power, available)
            target = target if allowed is None else allowed
        if not _is_inside(proposal.bounds, system):
            available = available.narrow(proposal.bounds)
        allowed = system.clamp(available.upper, available)
        if available.is_empty() or allowed is None:
            break
        highest = allowed
    if target is None and by_importance:
        target = highest
    pulled = system.pull(available)
    if pulled.is_empty() and 0.0 in available:
        pulled = ZERO
    return Outcome(target, pulled)


def _is_inside(bounds: Range, system: System) -> bool:
    """Tell whether bounds are wholly inside the exclusion range, so that they say nothing.

    An upper bound of zero does say something: zero is allowed always.
    """
    return system.excludes(bounds.lower) and system.excludes(bounds.upper) and bounds.upper > 0
