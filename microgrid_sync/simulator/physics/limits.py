"""Keeps set-points and bounds: what a device has been told, and for how long."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple


class OutOfBounds(ValueError):
    """A set-point is outside the bounds that hold, or bounds leave nothing of the rating."""


class AddedBounds(NamedTuple):
    """Bounds that somebody has added for a while."""

    lower: float
    upper: float
    ends: float
    """The second of the site's clock at which they are forgotten."""

    token: str | None = None
    """What whoever has added them knows them by."""


@dataclass
class Limits:
    """The set-point and the bounds of one metric of a device."""

    lower: float = -math.inf
    """The least that the device is rated for."""

    upper: float = math.inf
    """The most that the device is rated for."""

    excluded_lower: float = 0.0
    """Below zero: above this, and below `excluded_upper`, the device can only be at zero."""

    excluded_upper: float = 0.0

    set_point: float | None = None
    """What the device has been told; ``None`` leaves it alone."""

    set_point_ends: float = math.inf
    """When the set-point is forgotten."""

    inclusion: list[AddedBounds] = field(default_factory=list)
    exclusion: list[AddedBounds] = field(default_factory=list)

    def forget(self, now: float) -> None:
        """Drop what has ended."""
        if now >= self.set_point_ends:
            self.set_point, self.set_point_ends = None, math.inf
        if self.inclusion:
            self.inclusion = [bounds for bounds in self.inclusion if bounds.ends > now]
        if self.exclusion:
            self.exclusion = [bounds for bounds in self.exclusion if bounds.ends > now]

    def inclusion_bounds(self) -> tuple[float, float]:
        """Give the bounds between which a set-point must be: the narrowest of all.

        The lower one is above the upper one if those added have nothing in common.
        """
        if not self.inclusion:
            return self.lower, self.upper
        lower = max(self.lower, *(bounds.lower for bounds in self.inclusion))
        return lower, min(self.upper, *(bounds.upper for bounds in self.inclusion))

    def exclusion_bounds(self) -> tuple[float, float]:
        """Give the bounds between which a set-point must not be: the widest of all."""
        if not self.exclusion:
            return self.excluded_lower, self.excluded_upper
        bounds = [*self.exclusion]
        if self.excluded_lower < self.excluded_upper:
            bounds.append(AddedBounds(self.excluded_lower, self.excluded_upper, math.inf))
        return min(b.lower for b in bounds), max(b.upper for b in bounds)

    def include(self, lower: float, upper: float, ends: float, token: str | None = None) -> None:
        """Add inclusion bounds; with a token, in the place of those added with it before.

        Raises:
            OutOfBounds: If they leave nothing of what the device is rated for.
        """
        if upper < self.lower or lower > self.upper:
            raise OutOfBounds(
                f"bounds of {lower:g} to {upper:g} leave nothing of the rated "
                f"{self.lower:g} to {self.upper:g}"
            )
        self.inclusion.append(AddedBounds(lower, upper, ends, token))

    def exclude(self, lower: float, upper: float, ends: float, token: str | None = None) -> None:
        """Add exclusion bounds."""
        self.exclusion.append(AddedBounds(lower, upper, ends, token))

    def clear(self, token: str) -> None:
        """Drop all bounds that were added with a token."""
        self.inclusion = [bounds for bounds in self.inclusion if bounds.token != token]
        self.exclusion = [bounds for bounds in self.exclusion if bounds.token != token]

    def check(self, power: float) -> None:
        """Check that a set-point complies with all bounds.

        Zero, which stops a device, is never excluded; it can be outside the inclusion bounds.

        Raises:
            OutOfBounds: If it is outside the inclusion or inside the exclusion bounds.
        """
        lower, upper = self.inclusion_bounds()
        if not lower <= power <= upper:
            raise OutOfBounds(f"{power} is not between {lower} and {upper}")
        if self.excludes(power):
            lower, upper = self.exclusion_bounds()
            raise OutOfBounds(f"{power} is between {lower} and {upper}, which is excluded")

    def command(self, power: float, ends: float) -> None:
        """Take a set-point until a second; `OutOfBounds` if it does not comply with all bounds."""
        self.check(power)
        self.set_point, self.set_point_ends = power, ends

    def limit(self, power: float) -> float:
        """Bring a power into the inclusion bounds; to 0 if nothing else complies with all bounds.

        It has been told before the newest bounds were added, or by nobody.
        """
        lower, upper = self.inclusion_bounds()
        limited = min(max(power, lower), upper) if lower <= upper else 0.0
        return 0.0 if self.excludes(limited) else limited

    def excludes(self, value: float) -> bool:
        """Tell whether a value is inside the exclusion bounds; zero never is."""
        lower, upper = self.exclusion_bounds()
        return lower < value < upper and value != 0
