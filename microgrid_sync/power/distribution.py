"""Decides which charger gets what. Pure: values and the time go in, set-points come out.

Powers are in W. The nine rules that keep a site safe are in `set_point_ledger`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from microgrid_sync.power.charger import Charger
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.status import ChargerStatus

MINIMUM_MARGIN = 1.03
"""The minimum is taken so much higher, so that no car is offered less than its current."""

_CHARGES_FROM = 0.95
"""A car that draws less than this share of the minimum is not charging: they measure so well."""

_LEAST_RAISE = 1.0
"""W: a limit is not raised by less."""

Voltages = Mapping[int, float]
"""The sum of the three phase voltages at each charger for which it is known, in V."""


@dataclass(frozen=True)
class _Case:
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

    minimum: float
    """The least power it can be given; infinite without a voltage."""

    initial: float
    """The power for a car that arrives; infinite without a voltage."""

    @property
    def component_id(self) -> int:
        """The charger's ID."""
        return self.charger.component_id

    @property
    def limit(self) -> float | None:
        """The set-point sent last."""
        return self.charger.ledger.newest

    @property
    def can_be_raised(self) -> bool:
        """Whether it may get more: a car is there, and what it has is confirmed."""
        return self.status is ChargerStatus.WORKING and self.charger.ledger.is_settled

    def allowed(self, watts: float) -> float:
        """Give the highest power up to `watts` that it can be given; zero always is.

        Whole watts: they add up without rounding, in the 32 bits of the wire too.
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
        return watts if watts >= self.minimum else 0.0

    def keeps(self, limit: float) -> bool:
        """Tell whether a limit that it has may stay: bounds and voltage may have changed.

        The margin of the minimum is for new limits. Without a voltage the minimum is unknown: what
        was fine stays.
        """
        data = self.charger.data
        if limit == 0 or data is None:
            return True
        least = self.minimum / MINIMUM_MARGIN if math.isfinite(self.minimum) else 0.0
        least = max(least, data.active_power_inclusion_lower_bound)
        lower = data.active_power_exclusion_lower_bound
        upper = data.active_power_exclusion_upper_bound
        return least <= limit <= self.charger.upper_bound and not lower < limit < upper

    def at_least_minimum(self, watts: float) -> float:
        """Give the lowest power from `watts` on that it can be given; zero if there is none."""
        watts = max(watts, self.minimum)
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


def plan(
    chargers: Iterable[Charger],
    target: float,
    voltages: Voltages,
    config: ChargingConfig,
    *,
    now: float,
    may_raise: bool,
) -> dict[int, float]:
    """Find the set-points to send now.

    Decreases come at once, whatever is under way. Increases come when what they need is free for
    certain: a decrease frees what it gives up when it has been confirmed, not before.

    Args:
        chargers: The chargers; not changed.
        target: The power for all of them together.
        voltages: The voltages that are known.
        config: The settings.
        now: The time on the monotonic clock, in seconds.
        may_raise: Whether any charger may be raised.

    Returns:
        A set-point for each charger that needs one sent.
    """
    cases = [_case(charger, voltages, config, now) for charger in chargers]
    limits = {case.component_id: _kept(case) for case in cases}
    shares = None
    if config.distribution == "equal":
        shares = _equal_shares(cases, limits, target, config, now)
        for component_id, share in shares.items():
            limits[component_id] = min(limits[component_id], share)
    _reduce(cases, limits, target)
    _make_room(cases, limits, target)
    _take_back_raises(cases, limits, target)
    if may_raise:
        free = target - _most(cases, limits)
        since = now - config.raise_interval.total_seconds()
        _raise(cases, limits, free, shares, raisable_since=since)
    return {
        case.component_id: limits[case.component_id]
        for case in cases
        if case.charger.ledger.is_due(limits[case.component_id], now)
    }


def minimum_power(charger: Charger, voltages: Voltages, config: ChargingConfig) -> float:
    """Give the least power that a charger can be given; infinite without a voltage."""
    voltage = voltages.get(charger.component_id, math.inf)
    return config.minimum_current.as_amperes() * voltage * MINIMUM_MARGIN


def _case(charger: Charger, voltages: Voltages, config: ChargingConfig, now: float) -> _Case:
    voltage = voltages.get(charger.component_id, math.inf)
    minimum = minimum_power(charger, voltages, config)
    return _Case(
        charger=charger,
        status=charger.status(now),
        is_silent=charger.is_silent(now),
        is_beyond_control=charger.is_beyond_control(now),
        is_disobeying=charger.is_disobeying(now),
        reserved=charger.reserved(now),
        minimum=minimum,
        initial=max(minimum, config.initial_current.as_amperes() * voltage),
    )


def _kept(case: _Case) -> float:
    """Give the limit of a charger if power were plentiful and nobody were to be raised."""
    limit = case.limit
    if limit is None:
        # Before the first command: a car that charges may go on as it does, if all can. Not one
        # that draws too little for that, nor with more than it may have been set to: that would be
        # a raise, which nobody has paid.
        draw = case.charger.draw
        least = case.minimum / MINIMUM_MARGIN if math.isfinite(case.minimum) else 0.0
        if case.status is not ChargerStatus.WORKING or not draw or draw < _CHARGES_FROM * least:
            return 0.0
        wanted = math.floor(min(max(draw, least), case.charger.ledger.earlier_limit))
        wanted = math.ceil(least) if wanted < least <= case.charger.ledger.earlier_limit else wanted
        return wanted if case.keeps(wanted) else case.allowed(wanted)
    if case.is_silent:
        return limit
    if case.status is ChargerStatus.NOT_WORKING:
        return 0.0
    return limit if case.keeps(limit) else case.allowed(limit)


def _most(cases: Iterable[_Case], limits: Mapping[int, float]) -> float:
    """Add up the most that chargers may draw, now or with the limits that are about to be sent."""
    return sum(max(case.reserved, limits[case.component_id]) for case in cases)


def _make_room(cases: Sequence[_Case], limits: dict[int, float], target: float) -> None:
    """Lower limits for chargers that draw, or may draw, more than theirs: the others first."""
    beyond = [case for case in cases if case.is_beyond_control]
    if not beyond:
        return
    others = [case for case in cases if not case.is_beyond_control]
    _reduce(others, limits, target - _most(beyond, limits))
    excess = sum(limits[case.component_id] for case in others) + _most(beyond, limits) - target
    if excess > 0:
        # Then those that do not obey, as if what they draw beyond the limit stayed the same. Where
        # set-points fail there is nothing to be gained by lower ones.
        disobeying = [case for case in beyond if case.is_disobeying]
        _reduce(disobeying, limits, sum(limits[c.component_id] for c in disobeying) - excess)


def _reduce(cases: Sequence[_Case], limits: dict[int, float], target: float) -> None:
    """Bring the limits down until they add up to the target or less.

    First what is allocated and not drawn is taken back, then those that draw most are throttled
    to their minimum, then they are stopped.
    """

    def give_back(case: _Case, floor: float) -> None:
        component_id = case.component_id
        excess = sum(limits[case.component_id] for case in cases) - target
        if excess > 0 and limits[component_id] > floor:
            limits[component_id] = _lowered(case, limits[component_id], excess, floor)

    def slack(case: _Case) -> float:
        return limits[case.component_id] - _draw(case, limits)

    for case in sorted(cases, key=slack, reverse=True):
        give_back(case, max(_draw(case, limits), case.at_least_minimum(0.0)))
    by_draw = sorted(cases, key=lambda c: _draw(c, limits), reverse=True)
    for case in by_draw:
        give_back(case, case.at_least_minimum(0.0))
    for case in by_draw:
        give_back(case, 0.0)


def _draw(case: _Case, limits: Mapping[int, float]) -> float:
    """Give what a charger draws; a silent one may draw all it is allowed."""
    return limits[case.component_id] if case.is_silent else case.charger.draw


def _lowered(case: _Case, limit: float, excess: float, floor: float) -> float:
    """Lower a limit by what is too much, not below the floor, to something that is allowed."""
    wanted = max(limit - excess, floor)
    if not wanted:
        return 0.0
    lowered = min(case.allowed(wanted), limit)
    # What is allowed below may be zero; the floor itself is better if it is allowed.
    return lowered if lowered >= floor else min(case.allowed(floor), limit)


def _take_back_raises(cases: Sequence[_Case], limits: dict[int, float], target: float) -> None:
    """Let go of raises that have failed, or wait for their answer, if they do not fit any more.

    The server may hold the limit from before: sending the raise again would be one for it.
    """
    for case in cases:
        ledger = case.charger.ledger
        confirmed = ledger.confirmed
        if ledger.is_confirmed or confirmed is None or limits[case.component_id] <= confirmed:
            continue
        if _most(cases, limits) > target or case.status is ChargerStatus.NOT_WORKING:
            limits[case.component_id] = confirmed


def _raise(
    cases: Sequence[_Case],
    limits: dict[int, float],
    free: float,
    shares: Mapping[int, float] | None,
    *,
    raisable_since: float,
) -> None:
    """Give away what is free: to cars without power first, then to those that wait for more."""
    candidates = [case for case in cases if case.can_be_raised]
    candidates.sort(key=lambda c: (c.charger.connected_since or 0.0, c.component_id))
    waiting = [c for c in candidates if not limits[c.component_id] and not c.limit]
    charging = [
        c
        for c in candidates
        if limits[c.component_id] == c.limit and c.limit and c.charger.changed_at <= raisable_since
    ]
    rest = free

    def give(case: _Case, wanted: Callable[[float, float], float]) -> None:
        nonlocal rest
        component_id = case.component_id
        before = limits[component_id]
        most = math.inf if shares is None else shares.get(component_id, 0.0)
        after = wanted(before + rest, most)
        if after >= before + _LEAST_RAISE and after - before <= rest:
            limits[component_id] = after
            rest -= after - before

    for case in waiting:
        give(case, lambda available, most, case=case: _first_offer(case, available, most))  # type: ignore[misc] # a default that binds
    for case in charging:
        give(case, lambda available, most, case=case: case.allowed(min(available, most)))  # type: ignore[misc] # as above


def _first_offer(case: _Case, available: float, most: float) -> float:
    """Give what a car without power is offered: the initial current, else the minimum, else 0."""
    for offer in (case.at_least_minimum(case.initial), case.at_least_minimum(0.0)):
        # Under equal shares a car may get all of its share at once.
        wanted = offer if math.isinf(most) else case.allowed(min(most, available))
        if wanted and wanted <= available and wanted <= most:
            return wanted
    return 0.0


def _equal_shares(
    cases: Sequence[_Case],
    limits: Mapping[int, float],
    target: float,
    config: ChargingConfig,
    now: float,
) -> dict[int, float]:
    """Share what is available among the cars: the minimum for each before anybody gets more."""
    takers = [c for c in cases if c.status is ChargerStatus.WORKING and c.at_least_minimum(0.0)]
    others = {c.component_id for c in cases} - {c.component_id for c in takers}
    rest = target - sum(
        _most([case], limits) if case.is_beyond_control else limits[case.component_id]
        for case in cases
        if case.component_id in others
    )
    on_time = config.minimum_on_time.total_seconds()

    def importance(case: _Case) -> tuple[bool, float, bool, int]:
        charger = case.charger
        on_since = charger.on_since
        # What has been chosen stays chosen while its set-point is under way.
        protected = charger.is_being_started or (
            charger.is_on and on_since is not None and now - on_since < on_time
        )
        return not protected, charger.energy, on_since is not None, case.component_id

    shares = {case.component_id: 0.0 for case in takers}
    served = []
    for case in sorted(takers, key=importance):
        minimum = case.at_least_minimum(0.0)
        if minimum <= rest:
            shares[case.component_id] = minimum
            rest -= minimum
            served.append(case)
    # Raise all together; those that have reached their bound leave the rest to the others.
    level = sorted(served, key=lambda c: c.charger.upper_bound)
    while level:
        total = rest + sum(shares[c.component_id] for c in level)
        each = math.floor(total / len(level))
        # Those whose minimum is more than that first: it is for the others to have less.
        fixed = [c for c in level if shares[c.component_id] > each]
        fixed = fixed or [c for c in level if c.allowed(each) < each]
        if not fixed:
            for case in level:
                shares[case.component_id] = each
            break
        case = fixed[0]
        component_id = case.component_id
        share = max(shares[component_id], case.allowed(each))
        rest -= share - shares[component_id]
        shares[component_id] = share
        level.remove(case)
    return shares
