"""Remembers one charger of a microgrid: its data, its car, and what it may draw."""

import math
from dataclasses import dataclass, field, replace

from microgrid_sync.model import EVChargerCableState, EVChargerComponentState, EVChargerData
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.dead_time import DeadTime, obeys
from microgrid_sync.power.set_point_ledger import LANDING_TIME, Answer, SetPointLedger
from microgrid_sync.power.status import ChargerHealth, ChargerStatus
from microgrid_sync.power.stay import IDLE, Stay
from microgrid_sync.power.voltage import ChargerVoltage, VoltageRange

OVERDRAW_SHARE = 1.1
"""A charger that draws more than its limit times this is reported."""

OVERDRAW_FLOOR = 100.0
"""W: less than this more than the limit is no draw worth a report, whatever the limit."""

OVERDRAW_TIME = 10.0
"""Seconds for which it must do so."""

_UNPLUGGED = (
    EVChargerCableState.UNPLUGGED,
    EVChargerCableState.CHARGING_STATION_PLUGGED,
    EVChargerCableState.CHARGING_STATION_LOCKED,
)
_CLOSED = (EVChargerComponentState.ERROR, EVChargerComponentState.AUTHORIZATION_REJECTED)
"""States in which a charger gives a car nothing."""


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

    cap: float = math.inf
    """W: what it may be set to at the most, whatever it can: how its last proposal left it."""

    assumed_rating: float = math.inf
    """What stands for its rating until it has been heard of."""

    changed_at: float = -math.inf
    """When a confirmation last changed the limit."""

    stay: Stay | None = None
    """Its car; ``None`` without one."""

    on_since: float | None = None
    """When its limit was last raised from zero; ``None`` while it is zero."""

    dead_time: DeadTime = field(default_factory=DeadTime)
    volts: VoltageRange = field(default_factory=VoltageRange)

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
            return min(self.assumed_rating, self.cap)
        return min(self.data.active_power_inclusion_upper_bound, self.cap)

    @property
    def rating(self) -> float:
        """The highest upper bound that was ever heard; else what is assumed."""
        return self.assumed_rating if self.data is None else self._highest_bound

    @property
    def rated_current(self) -> float:
        """What it is rated for on each phase, in A; infinite if that is not known."""
        known = [watts for watts in (self.rated_bound, self.rating) if math.isfinite(watts)]
        return max(known, default=math.inf) / (self.volts.nominal * self.volts.phases)

    @property
    def used_phases(self) -> frozenset[int]:
        """Which of its phases, 0 to 2, its car uses; none before it has drawn anything."""
        return frozenset() if self.stay is None else self.stay.phases.used

    @property
    def _max_data_age(self) -> float:
        return self.config.max_data_age.total_seconds()

    @property
    def _obey_time(self) -> float:
        """How long it takes to obey: twice the time that is known, else what is configured."""
        known = self.dead_time.known
        return self.config.obey_time.total_seconds() if known is None else 2 * known

    def is_silent(self, now: float) -> bool:
        """Tell whether nothing usable has been received for too long."""
        return self.health.is_silent(now, self._max_data_age)

    def status(self, now: float) -> ChargerStatus:
        """See `ChargerHealth.status`."""
        return self.health.status(now, self._max_data_age)

    def update(self, data: EVChargerData, now: float) -> None:
        """Take new data."""
        before, heard_at = self.data, self.health.received_at
        data = self._bounded(data)
        self.health.update(data, now, self._max_data_age)
        self.voltage.update(data.voltage_per_phase, data.current_per_phase, now)
        if self.data is None or self.data is before:
            return
        self._highest_bound = max(self._highest_bound, self.data.active_power_inclusion_upper_bound)
        self.dead_time.update(self.draw, now)
        if self.data.cable_state in _UNPLUGGED:
            if self.stay is not None:
                self.dead_time.forget_car()
            self.stay = None
        elif self.stay is None and self.data.is_ev_connected():
            self.stay = Stay(now, waits_since=now)
        if self.stay is not None:
            if now - heard_at >= self._max_data_age:
                # Another car may have come meanwhile.
                self.stay.forget_use()
            self.stay.phases.update(self._phase_currents(), now)
            self.stay.update(self.draw, self.ledger.confirmed or 0.0, now)

    def _phase_currents(self) -> list[float]:
        """Give the current of each phase in A, from powers where no current is measured."""
        data = self.data
        if data is None:
            return []
        if any(abs(amperes) > 0 for amperes in data.current_per_phase):
            return list(data.current_per_phase)
        return [watts / self.volts.nominal for watts in data.active_power_per_phase]

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

    def advance(self, now: float, volts: float | None) -> None:
        """Take in that time has passed.

        Args:
            now: The time.
            volts: The sum of the voltages of its phases; ``None`` if that is not known.
        """
        self.volts.update(volts, self.voltage.phase_count(now), now)
        if self._accrued_at is not None and self.stay is not None and self.is_on:
            self.stay.energy.add(self.draw * (now - self._accrued_at), now)
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
        told_after = OVERDRAW_TIME
        if self._overdraws_since - self.changed_at < self._obey_time:
            # A reduction that has not arrived in twice the time that it takes will hardly do so.
            is_known = self.dead_time.known is not None
            told_after = min(told_after, self._obey_time * (1 if is_known else 2))
        self.overdraws = now - self._overdraws_since >= told_after
        if self._has_had_time(now) and now - self._doubted_at >= self._obey_time:
            # Far above its limit: the server may have forgotten that there is one.
            self._doubted_at = now
            self.ledger.doubt()

    def least_power(self, phases: int) -> float:
        """Give the power of so many phases with the minimum current; infinite without a voltage.

        The voltage is the highest of the last minutes: what is enough then is enough all the time.
        """
        return self.config.minimum_current.as_amperes() * self.volts.highest * phases

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
        if self._takes_nothing(now):
            # Whatever it may hold: it is told at once when a car is plugged in or it recovers.
            return self.draw
        if (
            not self.is_silent(now)
            or self.health.received_at >= self.changed_at
            or now - self.changed_at < self._obey_time
        ):
            most = max(most, self.draw)
        return most

    def _takes_nothing(self, now: float) -> bool:
        """Tell whether fresh data says that no car can take anything there.

        As long as a set-point is just on its way its answer is waited for all the same.
        """
        data, ledger = self.data, self.ledger
        is_stuck = self.health.failures > 0 or not (ledger.is_confirmed or ledger.is_waited_for)
        if data is None or self.is_silent(now) or not is_stuck:
            return False
        is_closed = data.component_state in _CLOSED and self.draw < IDLE
        return data.cable_state in _UNPLUGGED or is_closed

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
            and not obeys(self.draw, limit)
        )

    def _has_had_time(self, now: float) -> bool:
        """Tell whether a car has had its time to obey the limit, which is not being changed."""
        ledger = self.ledger
        return ledger.newest == ledger.confirmed and now - self.changed_at >= self._obey_time

    # What is sent

    def send(self, watts: float, now: float, *, is_release: bool = False) -> int:
        """Note that a set-point is being sent; give the attempt's number."""
        before = self.ledger.newest
        if watts != before:
            self.dead_time.sent(watts, self.draw, now)
        if self.stay is not None and not is_release:
            self._note_in_stay(self.stay, before, watts, now)
        return self.ledger.send(watts, now)

    def _note_in_stay(self, stay: Stay, before: float | None, watts: float, now: float) -> None:
        is_charging = self.draw >= IDLE
        if not watts:
            if before or (before is None and is_charging):
                stay.stop(now, is_charging=is_charging)
            if before and self.ledger.confirmed == 0:
                # It has hardly been started, and may still be.
                stay.started_at = stay.stopped_at = now + LANDING_TIME
        elif self.ledger.confirmed == 0:
            stay.begin_start(now, is_first=not before)
        elif before is None or watts < before:
            # Less than before, or nobody knows what it was.
            stay.reduce(watts, now)

    def answered(self, number: int, answer: Answer, now: float) -> bool:
        """Note what came of an attempt; tell whether it was the newest."""
        before, might_hold = self.ledger.confirmed, self.ledger.may_hold()
        is_newest = self.ledger.answered(number, answer, now)
        self._note_times(answer, before, might_hold, now, is_newest=is_newest)
        if not is_newest:
            return False
        if answer is Answer.UNDECIDED:
            return True
        if answer is not Answer.CONFIRMED:
            self.health.fail(now)
            self.dead_time.failed(self.ledger.newest)
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

    def _note_times(
        self,
        answer: Answer,
        before: float | None,
        might_hold: float | None,
        now: float,
        *,
        is_newest: bool,
    ) -> None:
        """Note when a start or a stop happened, or may still happen."""
        stay, ledger = self.stay, self.ledger
        if stay is None:
            return
        if answer is Answer.CONFIRMED:
            if before == 0 and ledger.confirmed:
                stay.confirm_start(now)
            elif might_hold and ledger.confirmed == 0:
                stay.stopped_at = now
        elif answer is Answer.REFUSED:
            if is_newest and ledger.newest and ledger.confirmed == 0 and not ledger.has_open:
                stay.undo_start()
        elif not ledger.confirmed and ledger.newest:
            stay.started_at = max(stay.started_at, now + LANDING_TIME)
        elif might_hold and not ledger.newest:
            stay.stopped_at = max(stay.stopped_at, now + LANDING_TIME)

    def begin_campaign(self) -> None:
        """Begin afresh: nothing is certain of what the server holds."""
        self.ledger = SetPointLedger(self.ledger)
        self.changed_at = -math.inf
        self.on_since = None
