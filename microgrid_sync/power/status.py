"""Tells whether a charger is usable. Rules, with the time passed in."""

import enum
import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from frequenz.quantities import Power

from microgrid_sync.model import EVChargerCableState, EVChargerComponentState, EVChargerData
from microgrid_sync.model.shown import Shown

_WORKING_STATES = (
    # Some servers send none for chargers; with a car and without an error it is as good as ready,
    # and a set-point to one that is not does no harm.
    EVChargerComponentState.UNSPECIFIED,
    EVChargerComponentState.READY,
    EVChargerComponentState.CHARGING,
    EVChargerComponentState.DISCHARGING,
    # What a charger calls a car that has been offered nothing for a while.
    EVChargerComponentState.INTERRUPTED,
)
_FIRST_PENALTY = 1.0
_LONGEST_PENALTY = 30.0


class ChargerStatus(enum.Enum):
    """Whether a charger can be given power."""

    WORKING = "working"
    """A car can be charged."""

    UNCERTAIN = "uncertain"
    """A car could be charged, but a set-point has failed a moment ago."""

    NOT_WORKING = "not working"
    """There is no car, or the charger is not ready, or nothing is heard of it."""


@dataclass(frozen=True, repr=False)
class ChargerReport(Shown):
    """What one charger has, and why."""

    allocation: Power
    """Its set-point that was sent last; zero before the first."""

    draw: Power | None
    """What it draws; ``None`` if that is not known."""

    status: ChargerStatus
    """Whether it can be given power."""

    reason: str
    """Why it has what it has, for people to read."""

    obey_time: timedelta | None
    """How long it and its car have taken to obey a lower set-point; ``None`` if never seen."""


@dataclass
class ChargerHealth:
    """What is remembered of a charger to tell its status."""

    newest: EVChargerData | None = None
    """The newest usable data: with a later timestamp than before, and finite numbers."""

    received_at: float = -math.inf
    """When that came, on the monotonic clock."""

    failures: int = 0
    """How many set-points in a row have failed."""

    uncertain_until: float = -math.inf
    """Until when it counts as uncertain because of them."""

    _stamp: datetime | None = None
    _state_at: float = -math.inf

    def update(self, data: EVChargerData, now: float, max_data_age: float = math.inf) -> None:
        """Take new data, unless its timestamp stands still or a number in it is not finite.

        Args:
            data: What the charger measures. Without a state in it, the state from before stays, as
                long as that is not too old: what is absent is missing.
            now: The time on the monotonic clock, in seconds.
            max_data_age: How old a state may be, in seconds.
        """
        advancing = self._stamp is None or data.timestamp > self._stamp
        self._stamp = data.timestamp
        if not advancing or not is_finite(data):
            return
        if not _has_no_state(data):
            self._state_at = now
        elif self.newest is not None and now - self._state_at < max_data_age:
            data = replace(
                data,
                cable_state=self.newest.cable_state,
                component_state=self.newest.component_state,
            )
        self.newest = data
        self.received_at = now

    def fail(self, now: float) -> None:
        """Count a failed set-point: 1 s of doubt, doubled with each further one up to 30 s."""
        penalty = min(_FIRST_PENALTY * 2.0 ** min(self.failures, 10), _LONGEST_PENALTY)
        self.failures += 1
        self.uncertain_until = now + penalty

    def succeed(self) -> None:
        """Forget the failures."""
        self.failures = 0
        self.uncertain_until = -math.inf

    def is_silent(self, now: float, max_data_age: float) -> bool:
        """Tell whether nothing usable has been received for too long."""
        return now - self.received_at >= max_data_age

    def status(self, now: float, max_data_age: float) -> ChargerStatus:
        """Find the status.

        Args:
            now: The time on the monotonic clock, in seconds.
            max_data_age: How old the newest data may be, in seconds.
        """
        data = self.newest
        if (
            data is None
            or self.is_silent(now, max_data_age)
            or not data.is_ev_connected()
            or data.component_state not in _WORKING_STATES
        ):
            return ChargerStatus.NOT_WORKING
        return ChargerStatus.UNCERTAIN if now < self.uncertain_until else ChargerStatus.WORKING


def is_finite(data: EVChargerData) -> bool:
    """Tell whether all that decisions are made of is finite."""
    numbers = (
        data.active_power,
        data.active_power_inclusion_lower_bound,
        data.active_power_inclusion_upper_bound,
        data.active_power_exclusion_lower_bound,
        data.active_power_exclusion_upper_bound,
    )
    return all(math.isfinite(number) for number in numbers)


def _has_no_state(data: EVChargerData) -> bool:
    return (
        data.cable_state is EVChargerCableState.UNSPECIFIED
        and data.component_state is EVChargerComponentState.UNSPECIFIED
    )
