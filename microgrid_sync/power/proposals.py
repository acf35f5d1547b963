"""Decides what comes of several pools' proposals for the same chargers. Pure; powers are in W."""

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
    """What a set of chargers can be set to; zero always."""

    inclusion: Range
    """The powers allowed."""

    exclusion: Range = ZERO
    """The powers between whose ends nothing but zero is allowed; the ends themselves are."""

    def excludes(self, power: float) -> bool:
        """Tell whether a power is inside the exclusion range."""
        return self.exclusion.lower < power < self.exclusion.upper and power != 0

    def highest(self, available: Range) -> float:
        """Give the highest power that is available and allowed; zero if there is none."""
        highest = max(0.0, min(available.upper, self.inclusion.upper))
        return 0.0 if self.excludes(highest) else highest

    def at_most(self, power: float, available: Range) -> float:
        """Give what a preferred power becomes.

        It is never raised for the sake of what the chargers can be set to: where it is not
        allowed, nothing above it is taken, but zero.

        Args:
            power: The power.
            available: What those with a higher priority leave.
        """
        return self.highest(
            Range(available.lower, min(max(power, available.lower), available.upper))
        )


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

    Each one's preferred power, brought into what those above leave, becomes the target in place of
    those above; each one's bounds narrow what is available to those below. The walk ends when
    nothing is available. If nobody prefers a power, the target is the highest that is available.

    An upper bound always binds, and zero is always allowed: inside the exclusion range, or below
    the lower inclusion bound of the chargers, the target is zero.

    Args:
        proposals: The proposals; of equal priorities the earlier counts as the more important.
        system: What the chargers can be set to.

    Returns:
        The target, and what is left.
    """
    # Zero is always available, whatever the lower inclusion bound says.
    available = Range(min(0.0, system.inclusion.lower), max(0.0, system.inclusion.upper))
    target: float | None = None
    by_importance = sorted(proposals, key=lambda proposal: -proposal.priority)
    highest = system.highest(available)
    for proposal in by_importance:
        if proposal.power is not None:
            target = system.at_most(proposal.power, available)
        available = available.narrow(proposal.bounds)
        if available.is_empty():
            break
        highest = system.highest(available)
    if target is None and by_importance:
        target = highest
    return Outcome(target, _usable(available, system))


def _usable(available: Range, system: System) -> Range:
    """Move the ends that are inside the exclusion range to what can be used of it."""
    lower, upper = available.lower, available.upper
    if system.excludes(upper):
        upper = 0.0
    if system.excludes(lower):
        lower = system.exclusion.upper
    if lower > upper and 0.0 in available:
        return ZERO
    return Range(lower, upper)
