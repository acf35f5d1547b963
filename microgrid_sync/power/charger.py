"""Remembers one charger of a microgrid: its data, its car, and what it may draw."""

import math
from dataclasses import dataclass, field, replace

from microgrid_sync.model import EVChargerData
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.set_point_ledger import Answer, SetPointLedger
from microgrid_sync.power.status import ChargerHealth, ChargerStatus
from microgrid_sync.power.voltage import ChargerVoltage

OVERDRAW_SHARE = 1.1
"""A charger that draws more than its limit times this is reported."""

OVERDRAW_FLOOR = 100.0
"""W: less than this more than the limit is no draw worth a report, whatever the limit."""

OVERDRAW_TIME = 10.0
"""Seconds for which it must do so."""

EXCESS_SHARE, EXCESS_FLOOR = 1.02, 50.0
"""Others are lowered for a draw beyond the limit from this on, as a share and in W: nearer to the
limit than chargers measure there is nothing to be gained. Raises are paid with all of it."""


@dataclass
class Charger:
    """One charger whose power is being distributed. Times are monotonic seconds, powers W.

    The control loop's thread owns it. What reads it changes nothing.
    """

    component_id: int
    config: ChargingConfig = field(default_factory=ChargingConfig)
    health: ChargerHealth = field(default_factory=ChargerHealth)
    voltage: ChargerVoltage = field(default_factory=ChargerVoltage)
    ledger: SetPointLedger = field(default_factory=SetPointLedger)

    rated_bound: float = math.inf
    """What it is rated for, as the list of components says; infinite if that does not say."""

    assumed_rating: float = math.inf
    """What stands for its rating until it has been heard of."""

    changed_at: float = -math.inf
    """When a confirmation last changed the limit."""

    connected_since: float | None = None
    """When its car was first seen; ``None`` without a car."""

    on_since: float | None = None
    """When its limit was last raised from zero; ``None`` while it is zero."""

    energy: float = 0.0
    """What its car has received, or been offered at the least, in Ws."""

    overdraws: bool = False
    """Whether it has drawn more than its limit for a while."""

    _highest_bound: float = 0.0
    _accrued_at: float | None = None
    _overdraws_since: float | None = None
    _doubted_at: float = -math.inf

    # What it measures

    @property
    def data(self) -> EVChargerData | None:
        """The newest usable data."""
        return self.health.newest

    @property
    def draw(self) -> float:
        """What it drew last; 0 before anything has been heard."""
        return 0.0 if self.data is None else max(0.0, self.data.active_power)

    @property
    def upper_bound(self) -> float:
        """The most that it may be set to; what is assumed before anything has been heard."""
        if self.data is None:
            return self.assumed_rating
        return self.data.active_power_inclusion_upper_bound

    @property
    def rating(self) -> float:
        """The highest upper bound that was ever heard; else what is assumed."""
        return self.assumed_rating if self.data is None else self._highest_bound

    @property
    def _max_data_age(self) -> float:
        return self.config.max_data_age.total_seconds()

    @property
    def _obey_time(self) -> float:
        return self.config.obey_time.total_seconds()

    def is_silent(self, now: float) -> bool:
        """Tell whether nothing usable has been received for too long."""
        return self.health.is_silent(now, self._max_data_age)

    def status(self, now: float) -> ChargerStatus:
        """See `ChargerHealth.status`."""
        return self.health.status(now, self._max_data_age)

    def update(self, data: EVChargerData, now: float) -> None:
        """Take new data."""
        before = self.data
        data = self._bounded(data)
        self.health.update(data, now, self._max_data_age)
        self.voltage.update(data.voltage_per_phase, data.current_per_phase, now)
        if self.data is None or self.data is before:
            return
        self._highest_bound = max(self._highest_bound, self.upper_bound)
        if not self.data.is_ev_connected():
            self.connected_since = None
            self.energy = 0.0
        elif self.connected_since is None:
            self.connected_since = now

    def _bounded(self, data: EVChargerData) -> EVChargerData:
        """Put something in the place of bounds that a charger does not have.

        Without a lower one it is not to discharge; without an upper one, what it is rated for; and
        one that says what it may be set to, and not what of that is excluded, excludes nothing.
        """
        lower = data.active_power_inclusion_lower_bound
        upper = data.active_power_inclusion_upper_bound
        excluded = data.active_power_exclusion_lower_bound, data.active_power_exclusion_upper_bound
        excludes_nothing = math.isnan(excluded[0]) and math.isnan(excluded[1])
        if not excludes_nothing and math.isfinite(lower) and math.isfinite(upper):
            return data
        return replace(
            data,
            active_power_inclusion_lower_bound=0.0 if lower == -math.inf else lower,
            active_power_inclusion_upper_bound=self.rated_bound if upper == math.inf else upper,
            active_power_exclusion_lower_bound=0.0 if excludes_nothing else excluded[0],
            active_power_exclusion_upper_bound=0.0 if excludes_nothing else excluded[1],
        )

    def advance(self, now: float, minimum: float) -> None:
        """Take in that time has passed.

        Args:
            now: The time.
            minimum: What a car that has a limit counts as receiving at the least: one that takes
                nothing must not keep its place for ever.
        """
        if self._accrued_at is not None and self.connected_since is not None and self.is_on:
            self.energy += max(self.draw, minimum) * (now - self._accrued_at)
        self._accrued_at = now
        overdue = self.ledger.overdue(now)
        if overdue is not None:
            self.answered(overdue, Answer.TIMED_OUT, now)
        limit = self.ledger.may_hold()
        if limit is None or self.draw <= max(limit * OVERDRAW_SHARE, limit + OVERDRAW_FLOOR):
            self._overdraws_since, self.overdraws = None, False
            return
        if self._overdraws_since is None:
            self._overdraws_since = now
        self.overdraws = now - self._overdraws_since >= OVERDRAW_TIME
        if self._has_had_time(now) and now - self._doubted_at >= self._obey_time:
            # Far above its limit: the server may have forgotten that there is one.
            self._doubted_at = now
            self.ledger.doubt()

    @property
    def is_on(self) -> bool:
        """Whether a limit above zero has been confirmed, and it is not being stopped."""
        return bool(self.ledger.confirmed and self.ledger.newest)

    @property
    def is_being_started(self) -> bool:
        """Whether a limit above zero has been sent and is not confirmed yet."""
        return bool(self.ledger.newest) and not self.ledger.is_confirmed

    # What it may draw

    def reserved(self, now: float) -> float:
        """Give the most that it may draw, as far as is known: what raises are paid with."""
        held = self.ledger.may_hold()
        # Never confirmed: it may be without any set-point, and draw all it can, or will be able to
        # when bounds that were added for a while have ended.
        most = self.rating if held is None else held
        if held is None:
            most = max(most, self.ledger.newest or 0.0)
        if (
            not self.is_silent(now)
            or self.health.received_at >= self.changed_at
            or now - self.changed_at < self._obey_time
        ):
            most = max(most, self.draw)
        return most

    def is_beyond_control(self, now: float) -> bool:
        """Tell whether it draws, or may draw, more than the limit that it should have.

        It does not keep to it, or set-points for it fail. One that is just on its way is neither.
        """
        return self.is_disobeying(now) or (
            self.health.failures > 0 and not self.ledger.is_confirmed
        )

    def is_disobeying(self, now: float) -> bool:
        """Tell whether it draws more than its limit, has had its time and is heard."""
        limit = self.ledger.newest
        return (
            limit is not None
            and self._has_had_time(now)
            and not self.is_silent(now)
            and self.draw > max(limit * EXCESS_SHARE, limit + EXCESS_FLOOR)
        )

    def _has_had_time(self, now: float) -> bool:
        """Tell whether a car has had its time to obey the limit, which is not being changed."""
        ledger = self.ledger
        return ledger.newest == ledger.confirmed and now - self.changed_at >= self._obey_time

    # What is sent

    def send(self, watts: float, now: float) -> int:
        """Note that a set-point is being sent; give the attempt's number."""
        return self.ledger.send(watts, now)

    def answered(self, number: int, answer: Answer, now: float) -> bool:
        """Note what came of an attempt; tell whether it was the newest."""
        before = self.ledger.confirmed
        is_newest = self.ledger.answered(number, answer, now)
        if not is_newest:
            return False
        if answer is Answer.UNDECIDED:
            return True
        if answer is not Answer.CONFIRMED:
            self.health.fail(now)
            return True
        self.health.succeed()
        limit = self.ledger.confirmed
        if limit != before:
            self.changed_at = now
            if not limit:
                self.on_since = None
            elif not before or self.on_since is None:
                self.on_since = now
        return True

    def begin_campaign(self) -> None:
        """Begin afresh: nothing is certain of what the server holds."""
        self.ledger = SetPointLedger(self.ledger)
        self.changed_at = -math.inf
        self.on_since = None
