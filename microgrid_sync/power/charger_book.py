"""What is known of one charger's set-points: what the server may hold, and what it may draw."""

import math
from dataclasses import dataclass, field

from microgrid_sync.model import EVChargerData
from microgrid_sync.power.status import ChargerHealth, ChargerStatus

OVERDRAW_SHARE = 1.1
"""A charger that draws more than its limit times this is reported."""

OVERDRAW_FLOOR = 100.0
"""W: less than this more than the limit is no draw worth a report, whatever the limit."""

OVERDRAW_TIME = 10.0
"""Seconds for which it must do so."""

RETRY_AFTER = 0.8
"""Seconds after which a failed set-point is sent again, with the next look at it: every second."""

REFRESH_AFTER = 10.0
"""Seconds after which a set-point is sent again as it is: servers forget them."""


@dataclass
class ChargerBook:
    """One charger of a set whose power is being distributed. Times are monotonic seconds."""

    component_id: int
    health: ChargerHealth = field(default_factory=ChargerHealth)
    limit: float | None = None
    """The set-point sent last; ``None`` before the first."""

    is_confirmed: bool = False
    """Whether the server has confirmed it, and can hold nothing else."""

    in_flight: int = 0
    """The number of the attempt under way; 0 if there is none."""

    assumed_rating: float = math.inf
    """What stands for its rating, in W, until it has been heard of."""

    _highest_bound: float = 0.0
    _may_hold: float = 0.0
    """The highest set-point that the server may hold while none is confirmed."""

    _attempts: int = 0
    changed_at: float = -math.inf
    """When a confirmation last changed the limit."""

    sent_at: float = -math.inf
    retry_at: float = -math.inf
    confirmed_limit: float | None = None
    """The limit that the server confirmed last; ``None`` before the first confirmation."""

    old_limit: float = math.inf
    """The lowest limit that the server may hold from an earlier campaign; infinite if none."""

    connected_since: float | None = None
    """When its car was first seen; ``None`` without a car."""

    on_since: float | None = None
    """When its limit was last raised from zero; ``None`` while it is zero."""

    energy: float = 0.0
    """What its car has received, or been offered at the least, in Ws."""

    _accrued_at: float | None = None
    _overdraws_since: float | None = None

    # What it measures

    @property
    def data(self) -> EVChargerData | None:
        """The newest usable data."""
        return self.health.newest

    @property
    def draw(self) -> float:
        """What it drew last, in W; 0 before anything has been heard."""
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

    def hear(self, data: EVChargerData, now: float) -> None:
        """Take new data."""
        self.health.hear(data, now)
        if self.data is not None:
            self._highest_bound = max(self._highest_bound, self.upper_bound)
        connected = self.data is not None and self.data.is_ev_connected()
        if not connected:
            self.connected_since = None
            self.energy = 0.0
        elif self.connected_since is None:
            self.connected_since = now

    def accrue(self, now: float, minimum: float) -> None:
        """Count what the car has received since the last time.

        Args:
            now: The time.
            minimum: What a car that has a limit counts as receiving at the least, in W: one that
                takes nothing must not keep its place for ever.
        """
        if self._accrued_at is not None and self.connected_since is not None and self.limit:
            self.energy += max(self.draw, minimum) * (now - self._accrued_at)
        self._accrued_at = now

    def overdraws(self, now: float) -> bool:
        """Tell whether it has drawn more than its limit for a while."""
        over = False
        if self.limit is not None and self.confirmed_limit is not None:
            # While a limit is being changed, either may hold.
            limit = max(self.limit, self.confirmed_limit)
            over = self.draw > max(limit * OVERDRAW_SHARE, limit + OVERDRAW_FLOOR)
        if not over:
            self._overdraws_since = None
            return False
        if self._overdraws_since is None:
            self._overdraws_since = now
        return now - self._overdraws_since >= OVERDRAW_TIME

    # What the server may hold

    def reserved(self, now: float) -> float:
        """Give the most that it may draw, as far as is known."""
        if self.is_confirmed and self.limit is not None:
            return max(self.limit, self.draw) if self.overdraws(now) else self.limit
        # Never confirmed: it may be without any set-point, and draw all it can, or will be able
        # to when bounds that were added for a while have ended.
        unlimited = self.rating if self.confirmed_limit is None else 0.0
        return max(self._may_hold, unlimited, self.draw)

    def send(self, watts: float, now: float) -> int:
        """Note that a set-point is being sent; give the attempt's number."""
        if self.is_confirmed and self.limit is not None:
            self._may_hold = self.limit
        self._may_hold = max(self._may_hold, watts)
        self.limit = watts
        self.is_confirmed = False
        self.sent_at = now
        self._attempts += 1
        self.in_flight = self._attempts
        return self.in_flight

    def confirm(self, attempt: int, now: float) -> bool:
        """Note that the server has confirmed; tell whether that was the attempt under way."""
        if attempt != self.in_flight or self.limit is None:
            return False
        self.in_flight = 0
        self.is_confirmed = True
        self.health.succeed()
        if self.confirmed_limit != self.limit:
            self.changed_at = now
            if not self.limit:
                self.on_since = None
            elif not self.confirmed_limit or self.on_since is None:
                self.on_since = now
        self.confirmed_limit = self.limit
        return True

    def fail(self, attempt: int, now: float) -> bool:
        """Note that it failed or timed out; tell whether that was the attempt under way."""
        if attempt != self.in_flight:
            return False
        self.in_flight = 0
        self.retry_at = now + RETRY_AFTER
        self.health.fail(now)
        return True

    def is_due(self, watts: float, now: float) -> bool:
        """Tell whether a set-point should be sent now."""
        if watts != self.limit:
            return True
        if self.in_flight:
            return False
        if not self.is_confirmed:
            return now >= self.retry_at
        return now - self.sent_at >= REFRESH_AFTER

    def status(self, now: float, max_data_age: float) -> ChargerStatus:
        """See `ChargerHealth.status`."""
        return self.health.status(now, max_data_age)

    def forget_set_points(self) -> None:
        """Begin afresh: nothing is certain of what the server holds."""
        known = (self.limit, self.confirmed_limit)
        self.old_limit = min((limit for limit in known if limit is not None), default=math.inf)
        fresh = ChargerBook(self.component_id)
        for name in (
            "limit", "is_confirmed", "in_flight", "_may_hold", "confirmed_limit", "on_since",
        ):  # fmt: skip
            setattr(self, name, getattr(fresh, name))
        self.changed_at = self.sent_at = self.retry_at = -math.inf
