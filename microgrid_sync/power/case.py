"""One charger in the light of this moment: what it may be given. Pure; powers are W."""

import math
from dataclasses import dataclass

from microgrid_sync.power.charger import Charger
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.status import ChargerStatus
from microgrid_sync.power.stay import IDLE, MOST_INTERRUPTIONS, Stay

MINIMUM_MARGIN = 1.03
"""The minimum is taken so much higher, so that no car is offered less than its current: a car that
is started has so much before it must be stopped."""

_TOLERATED = 0.97
"""A limit may stay that is this share of the minimum current: voltages wobble, and stopping costs
more than that."""


@dataclass(frozen=True, eq=False)
class Case:
    """A charger in the light of this moment."""

    charger: Charger
    status: ChargerStatus
    is_silent: bool
    is_beyond_control: bool
    """Whether it draws, or may draw, more than the limit that it should have."""

    is_disobeying: bool
    """Whether it draws more than its confirmed limit."""

    reserved: float
    """The most that it may draw, as far as is known."""

    least: float
    """The power of the minimum current; infinite without a voltage."""

    minimum: float
    """The least power that a car is started with: with a margin."""

    initial: float
    """The power for a car that arrives; infinite without a voltage."""

    weight: float
    """How important it is."""

    may_start_at: float
    """When its car has had its rest; infinite without a car."""

    @property
    def component_id(self) -> int:
        """The charger's ID."""
        return self.charger.component_id

    @property
    def stay(self) -> Stay | None:
        """Its car."""
        return self.charger.stay

    @property
    def limit(self) -> float | None:
        """The set-point sent last."""
        return self.charger.ledger.newest

    @property
    def can_be_raised(self) -> bool:
        """Whether it may get more: a car is there, and what it has is confirmed."""
        return self.status is ChargerStatus.WORKING and self.charger.ledger.is_settled

    @property
    def is_asleep(self) -> bool:
        """Whether its car makes nothing of an offer."""
        return self.stay is not None and self.stay.is_asleep

    @property
    def is_idle(self) -> bool:
        """Whether it draws nothing worth speaking of."""
        return not self.is_silent and self.charger.draw < IDLE

    @property
    def is_exhausted(self) -> bool:
        """Whether its car has been interrupted as often as it bears."""
        return self.stay is not None and self.stay.interruptions >= MOST_INTERRUPTIONS

    @property
    def wanted(self) -> float:
        """The most that is of use to its car; infinite as far as is known."""
        return math.inf if self.stay is None else self.stay.use.wanted

    @property
    def most_useful(self) -> float:
        """The most that it is worth giving it now.

        Not more than it has, as long as it does not use that.
        """
        most = min(self.charger.upper_bound, self.wanted)
        limit = self.limit
        return min(most, limit) if limit and not self.uses(limit) else most

    def uses(self, limit: float) -> bool:
        """Tell whether its car draws what it may, as far as anybody can tell."""
        draw = self.charger.draw
        return draw >= limit if self.stay is None else self.stay.use.uses(draw, limit)

    def draw(self, limit: float) -> float:
        """Give what it draws; a silent one may draw all it is allowed."""
        return limit if self.is_silent else self.charger.draw

    def allowed(self, watts: float, least: float | None = None) -> float:
        """Give the highest power up to `watts` that it can be given; zero always is.

        Whole watts: they add up without rounding, in the 32 bits of the wire too.

        Args:
            watts: The power.
            least: The least that is enough; the minimum for a start unless given.
        """
        watts = min(watts, self.charger.upper_bound)
        if not math.isfinite(watts):
            return 0.0
        watts = math.floor(watts)
        data = self.charger.data
        if data is not None:
            lower = data.active_power_exclusion_lower_bound
            upper = data.active_power_exclusion_upper_bound
            if lower < watts < upper:
                watts = math.floor(lower)
            if watts < data.active_power_inclusion_lower_bound:
                return 0.0
        return watts if watts >= (self.minimum if least is None else least) else 0.0

    def at_least(self, watts: float) -> float:
        """Give the lowest power from `watts` on that it can be given; zero if there is none."""
        data = self.charger.data
        if data is not None:
            lower = data.active_power_exclusion_lower_bound
            upper = data.active_power_exclusion_upper_bound
            if lower < watts < upper:
                watts = upper
            watts = max(watts, data.active_power_inclusion_lower_bound)
        if not math.isfinite(watts) or math.ceil(watts) > self.charger.upper_bound:
            return 0.0
        return math.ceil(watts)

    def least_to_start(self) -> float:
        """Give the least power that a car can be started with; zero if there is none."""
        return self.at_least(self.minimum)

    def fits_bounds(self, limit: float) -> bool:
        """Tell whether a limit that it has complies with its bounds, which may have changed."""
        data = self.charger.data
        if limit == 0 or data is None:
            return True
        lower = data.active_power_exclusion_lower_bound
        upper = data.active_power_exclusion_upper_bound
        least = data.active_power_inclusion_lower_bound
        return least <= limit <= self.charger.upper_bound and not lower < limit < upper

    def is_too_little(self, limit: float) -> bool:
        """Tell whether a limit that it has is too little for its car, which does not charge.

        The voltage may have risen, or the car has turned out to need more. Without a voltage the
        minimum is unknown: what was fine stays.
        """
        if limit == 0 or not math.isfinite(self.least) or not self.is_idle:
            return False
        lowest = self.charger.volts.lowest / self.charger.volts.highest
        return limit < self.least * lowest * _TOLERATED


def case_of(charger: Charger, config: ChargingConfig, now: float) -> Case:
    """See a charger in the light of this moment."""
    stay, phases = charger.stay, charger.volts.phases
    if stay is not None:
        phases = stay.minimum_phases(phases)
    least = charger.least_power(phases)
    needed = 0.0 if stay is None else stay.needed
    # The usual voltage with a margin, but what is enough at the highest one in any case.
    usual = config.minimum_current.as_amperes() * charger.volts.nominal * phases
    minimum = max(least, usual * MINIMUM_MARGIN)
    least, minimum = max(least, needed), max(minimum, needed)
    rest = config.rest.total_seconds()
    initial = least / config.minimum_current.as_amperes() * config.initial_current.as_amperes()
    return Case(
        charger=charger,
        status=charger.status(now),
        is_silent=charger.is_silent(now),
        is_beyond_control=charger.is_beyond_control(now),
        is_disobeying=charger.is_disobeying(now),
        reserved=charger.reserved(now),
        least=least,
        minimum=minimum,
        initial=max(minimum, initial),
        weight=config.weight(charger.component_id),
        may_start_at=math.inf if stay is None else stay.may_start_at(rest),
    )


def comes_first(case: Case) -> tuple[bool, float, float, int]:
    """Give the order in which cars are served; those asleep come last."""
    since = 0.0 if case.stay is None else case.stay.since
    return case.is_asleep, -case.weight, since, case.component_id


def patience(case: Case) -> tuple[bool, bool, int, float, float]:
    """Give the order in which cars are stopped: whom it costs least first."""
    stay = case.stay
    interruptions = 0 if stay is None else stay.interruptions
    since = 0.0 if stay is None else stay.since
    return not case.is_idle, case.is_exhausted, interruptions, case.weight, -since
