"""Holds the settings of how power is distributed to chargers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from frequenz.quantities import Current, Power

from microgrid_sync.model.shown import Shown
from microgrid_sync.power.rotation import Rotation, parse_rotation


@dataclass(frozen=True, repr=False)
class ChargingConfig(Shown):
    """How a microgrid distributes power to its EV chargers."""

    distribution: Literal["first-come", "equal"] = "first-come"
    """Who gets what. With ``"first-come"`` a car that arrives gets what is free, and keeps what it
    uses; with ``"equal"`` all connected cars get the same, over the hours if not at once."""

    minimum_current: Current = field(default_factory=lambda: Current.from_amperes(6.0))
    """The least current that a car is offered; below it there is nothing. 6 A by IEC 61851-1."""

    initial_current: Current = field(default_factory=lambda: Current.from_amperes(10.0))
    """The current that a car is offered when it arrives, if so much is free."""

    raise_interval: timedelta = timedelta(seconds=60)
    """How old the last change of a charger's limit must be before it is raised."""

    minimum_on_time: timedelta = timedelta(minutes=15)
    """With ``"equal"``, how long a car charges at least before it gives way to another; longer the
    more often it has done so."""

    fallback_power: Power | None = None
    """The target when the last proposal has lapsed without being withdrawn; with ``None`` nothing
    more is sent."""

    proposal_lifetime: timedelta = timedelta(seconds=60)
    """After this time a proposal that was not renewed lapses."""

    max_data_age: timedelta = timedelta(seconds=10)
    """A charger whose newest data is older counts as silent."""

    obey_time: timedelta = timedelta(seconds=5)
    """How long cars take to obey a lower limit. Once it has been seen how long one took the last
    times, twice that takes its place. For so long after its confirmation what a car still draws is
    reserved, and afterwards others make room for what it draws beyond the limit."""

    rest: timedelta = timedelta(minutes=15)
    """How long after its last start a car may be started again; and after its last stop, three
    minutes, or this if it is shorter."""

    weights: Mapping[int, float] = field(default_factory=dict, hash=False)
    """How important the chargers are, by their IDs; 1 for those that are not in it. With
    ``"first-come"`` a car with a higher weight comes first; with ``"equal"`` it gets so many times
    as much."""

    phase_rotation: Mapping[int, str] = field(default_factory=dict, hash=False)
    """How chargers are connected, by their IDs. It is ``"L2L3L1"`` if the first phase of a charger
    is L2 of the meters before it. Limits of circuits need it; what is not said here they find."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: If one of them makes no sense.
        """
        if self.distribution not in ("first-come", "equal"):
            raise ValueError(
                f"distribution must be 'first-come' or 'equal', not {self.distribution!r}"
            )
        zero = Current.zero()
        if not self.minimum_current > zero or self.minimum_current.isinf():
            raise ValueError(f"minimum_current must be positive, not {self.minimum_current}")
        if not self.initial_current >= self.minimum_current or self.initial_current.isinf():
            raise ValueError(
                f"initial_current must be at least minimum_current, {self.minimum_current}, "
                f"not {self.initial_current}"
            )
        if self.fallback_power is not None and not (
            self.fallback_power >= Power.zero() and not self.fallback_power.isinf()
        ):
            raise ValueError(f"fallback_power must be 0 W or more, not {self.fallback_power}")
        for name in (
            "raise_interval",
            "minimum_on_time",
            "proposal_lifetime",
            "max_data_age",
            "obey_time",
            "rest",
        ):
            value: timedelta = getattr(self, name)
            if value < timedelta(0):
                raise ValueError(f"{name} must not be negative, but is {value}")
        object.__setattr__(self, "weights", dict(self.weights))
        for number, weight in self.weights.items():
            if isinstance(number, bool) or not isinstance(number, int):
                text = f"weights must have IDs of chargers as keys, not {number!r}"
                raise ValueError(text)  # noqa: TRY004 - as for the other settings
            if isinstance(weight, bool) or not (
                isinstance(weight, int | float) and 0 < weight < math.inf
            ):
                raise ValueError(
                    f"weights must be positive, but that of charger {number} is {weight!r}"
                )

        object.__setattr__(self, "phase_rotation", dict(self.phase_rotation))
        for number, rotation in self.phase_rotation.items():
            if isinstance(number, bool) or not isinstance(number, int):
                text = f"phase_rotation must have IDs of chargers as keys, not {number!r}"
                raise ValueError(text)  # noqa: TRY004 - as for the other settings
            try:
                parse_rotation(rotation)
            except ValueError as error:
                raise ValueError(f"phase_rotation of charger {number}: {error}") from None

    def weight(self, component_id: int) -> float:
        """Give the weight of a charger."""
        return self.weights.get(component_id, 1.0)

    def rotations(self) -> dict[int, Rotation]:
        """Give how chargers are connected, as far as it is said."""
        return {number: parse_rotation(text) for number, text in self.phase_rotation.items()}
