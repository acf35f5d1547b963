"""Defines what comes of a distribution of power."""

from collections.abc import Set
from dataclasses import dataclass

from frequenz.quantities import Power

from microgrid_sync.model.shown import Shown


@dataclass(frozen=True, repr=False)
class PowerBounds(Shown):
    """The bounds of a set of components."""

    inclusion_lower: Power
    """The lowest power allowed."""

    exclusion_lower: Power
    """The lower end of the range that is not allowed."""

    exclusion_upper: Power
    """The upper end of the range that is not allowed."""

    inclusion_upper: Power
    """The highest power allowed."""


@dataclass(frozen=True, repr=False)
class Request(Shown):
    """What was to be distributed."""

    power: Power
    """The power for all components together."""

    component_ids: Set[int]
    """The components."""

    adjust_power: bool = True
    """Whether a power out of bounds is brought into them."""


@dataclass(frozen=True, repr=False)
class Success(Shown):
    """All set-points have been confirmed."""

    request: Request
    """What was to be distributed."""

    succeeded_power: Power
    """What the confirmed set-points add up to."""

    succeeded_components: Set[int]
    """The components whose set-points have been confirmed."""

    excess_power: Power
    """What was not given to anybody."""


@dataclass(frozen=True, repr=False)
class PartialFailure(Shown):
    """Some set-points have failed, or some components do not keep to theirs."""

    request: Request
    """What was to be distributed."""

    succeeded_power: Power
    """What the confirmed set-points add up to."""

    succeeded_components: Set[int]
    """The components whose set-points have been confirmed."""

    excess_power: Power
    """What was not given to anybody."""

    failed_power: Power
    """What the failed set-points add up to, and what is drawn in spite of set-points."""

    failed_components: Set[int]
    """The components whose set-points have failed, or that do not keep to theirs."""


@dataclass(frozen=True, repr=False)
class Error(Shown):
    """Nothing could be distributed."""

    request: Request
    """What was to be distributed."""

    msg: str
    """Why not."""


@dataclass(frozen=True, repr=False)
class OutOfBounds(Shown):
    """The power was out of bounds, and was not to be brought into them."""

    request: Request
    """What was to be distributed."""

    bounds: PowerBounds
    """The bounds."""


Result = Success | PartialFailure | Error | OutOfBounds
"""What came of a distribution of power."""
