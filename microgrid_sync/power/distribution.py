"""Decides which charger gets what. Pure: values and the time go in, set-points come out.

Powers are in W. The nine rules that keep a site safe are in `set_point_ledger`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from microgrid_sync.power.case import Case, case_of, comes_first, patience
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.equal_shares import Turns, turns, waits_in_order
from microgrid_sync.power.headroom import Headroom
from microgrid_sync.power.status import ChargerStatus
from microgrid_sync.power.stay import CLOSE_MARGIN, IDLE

_STEP = 1.25
"""As long as others could use it, a limit is raised by no more than this at a time: what it is
raised by is lost until its car is known to make nothing of it."""

_LEAST_STEP = 1500.0
"""W: or by as much as this, about what a one-phase car charges with at the least."""

_CHARGES_FROM = 0.95
"""A car that draws less than this share of the minimum is not charging: they measure so well."""

_WORTH_IT = 1 / 3
"""Cars that charge give something up for the next one if this share of what it needs is free."""

_LEAST_RAISE = 1.0
"""W: a limit is not raised by less."""

_CLEARLY = 1.15
"""What circuits leave wobbles all the time: shares that differ by less than this are the same."""

_DEAD_BAND, _LEAST_CHANGE = 1.03, 50.0
"""A limit above its equal share by less than this, as a share and in W, stays."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done, and how things stand then."""

    set_points: dict[int, float]
    """A set-point for each charger that needs one sent."""

    cases: Mapping[int, Case]
    limits: Mapping[int, float]
    """The limit of each charger when the set-points have been sent."""

    waiting: Sequence[Case]
    """Those whose cars wait for an offer, the first one first."""

    free: float
    """What nobody has and nobody may draw."""

    held: Mapping[int, str] = field(default_factory=dict)
    """What of the circuits keeps chargers from having more, by ID."""


def plan(
    chargers: Iterable[Charger],
    target: float,
    config: ChargingConfig,
    *,
    now: float,
    may_raise: bool,
    steady: float | None = None,
    headroom: Headroom | None = None,
) -> Plan:
    """Find the set-points to send now.

    Decreases come at once, whatever is under way. Increases come when what they need is free for
    certain: a decrease frees what it gives up when it has been confirmed, not before.

    Args:
        chargers: The chargers; not changed.
        target: The power for all of them together.
        config: The settings.
        now: The time on the monotonic clock, in seconds.
        may_raise: Whether any charger may be raised.
        steady: What of the target has been there for a while: what is raised is paid from that.
        headroom: What circuits leave; notes what is raised.
    """
    steady = target if steady is None else min(steady, target)
    cases = [case_of(charger, config, now) for charger in chargers]
    limits = {case.component_id: _kept(case) for case in cases}
    waiting = _waiting(cases, limits, config, now)
    is_short = _is_short(cases, limits, waiting, target) or (
        headroom is not None and _is_held_back(cases, limits, waiting, headroom)
    )
    if is_short:
        _take_back_unused(cases, limits, now)
    startable = [case for case in waiting if _may_start(case, now, is_short=is_short)]
    equal: Turns | None = None
    if config.distribution == "equal":
        available = _available(cases, limits, steady)
        running = {c: limits[c.component_id] for c in cases if _is_running(c, limits)}
        equal = turns(
            running,
            startable,
            available,
            is_short=is_short,
            now=now,
            config=config,
            headroom=headroom,
        )
        # As long as there is enough, nobody has to have less so that all have the same.
        too_much = equal.shares if is_short or equal.starts else {}
        if headroom is not None and not equal.starts and not _gains(cases, limits, equal.shares):
            too_much = {}
        for component_id, share in too_much.items():
            # Whoever is to be started needs all that the others are to leave.
            kept = share if equal.starts else max(share * _DEAD_BAND, share + _LEAST_CHANGE)
            if limits[component_id] > kept:
                limits[component_id] = share
    elif may_raise:
        _make_room_for_next(cases, limits, startable, steady, headroom)
    _reduce(cases, limits, target)
    _make_room(cases, limits, target)
    _take_back_raises(cases, limits, target)
    free = steady - _most(cases, limits)
    if may_raise:
        since = now - config.raise_interval.total_seconds()
        shares = None if equal is None else equal.shares
        free = _raise(
            cases,
            limits,
            startable,
            free,
            shares=shares,
            raisable_since=since,
            is_short=is_short,
            headroom=headroom,
        )
        for case in cases:
            if case.can_be_raised and case.is_too_little(limits[case.component_id]):
                # There was no room to raise it.
                limits[case.component_id] = 0.0
    still_waiting = [case for case in waiting if not limits[case.component_id]]
    by_id = {case.component_id: case for case in cases}
    return Plan(_due(by_id, limits, now), by_id, limits, still_waiting, free)


def lowered(plan: Plan, limits: Mapping[int, float], held: Mapping[int, str], now: float) -> Plan:
    """Give the plan that a plan becomes because circuits leave less.

    Args:
        plan: The plan.
        limits: The limits that they leave, and those of others.
        held: What of the circuits keeps chargers from having more.
        now: The time on the monotonic clock, in seconds.
    """
    own = {number: limits[number] for number in plan.limits}
    stopped = [
        case
        for number, case in plan.cases.items()
        if plan.limits[number] and not own[number] and case not in plan.waiting
    ]
    return replace(
        plan,
        set_points=_due(plan.cases, own, now),
        limits=own,
        waiting=[*plan.waiting, *stopped],
        held={number: words for number, words in held.items() if number in own},
    )


def _due(cases: Mapping[int, Case], limits: Mapping[int, float], now: float) -> dict[int, float]:
    return {
        number: limits[number]
        for number, case in cases.items()
        if case.charger.ledger.is_due(limits[number], now)
    }


# Who has what, and who waits


def _kept(case: Case) -> float:
    """Give the limit of a charger if power were plentiful and nobody were to be raised."""
    limit = case.limit
    if limit is None:
        return _adopted(case)
    if case.is_silent:
        return limit
    if case.status is ChargerStatus.NOT_WORKING:
        return 0.0
    if case.fits_bounds(limit):
        return limit
    least = min(case.least, limit) if math.isfinite(case.least) else 0.0
    return case.allowed(limit, least)


def _adopted(case: Case) -> float:
    """Give the first limit of a charger, before the first command.

    A car that charges may go on as it does, if all can: another program, or an earlier run of this
    one, has started it. But not with more than it may have been set to: that would be a raise,
    which nobody has paid.
    """
    draw, stay = case.charger.draw, case.stay
    if case.status is not ChargerStatus.WORKING or stay is None or draw < IDLE:
        return 0.0
    least = case.least if math.isfinite(case.least) else 0.0
    if stay.phases.drawing():
        # It is known to charge, on those phases.
        phases = max(stay.phases.drawing(), stay.phases.count() or 0)
        least = min(least, case.charger.least_power(phases))
    if draw < _CHARGES_FROM * least and not stay.phases.drawing():
        return 0.0
    earlier = case.charger.ledger.earlier_limit
    wanted = math.floor(min(max(draw, least), earlier))
    wanted = math.ceil(least) if wanted < least <= earlier else wanted
    return case.allowed(wanted, least)


def _waiting(
    cases: Sequence[Case], limits: Mapping[int, float], config: ChargingConfig, now: float
) -> list[Case]:
    """Give those whose cars wait for an offer, the first one first; those asleep come last."""
    waiting = [
        case
        for case in cases
        if case.can_be_raised and not limits[case.component_id] and not case.limit
    ]
    if config.distribution == "equal":
        return sorted(waiting, key=lambda case: waits_in_order(case, now))
    return sorted(waiting, key=comes_first)


def _may_start(case: Case, now: float, *, is_short: bool) -> bool:
    """Tell whether a car that waits may be started now: it has had its rest, and its turn."""
    if now < case.may_start_at or not case.least_to_start():
        return False
    return not is_short or case.stay is None or now >= case.stay.tried_again_at()


def _is_hungry(case: Case, limits: Mapping[int, float]) -> bool:
    """Tell whether a car would take more than it has, as far as is known."""
    limit = limits[case.component_id]
    return (
        case.can_be_raised
        and limit == case.limit
        and limit > 0
        and limit + _LEAST_RAISE <= case.most_useful
    )


def _could_be_raised(case: Case, limits: Mapping[int, float]) -> bool:
    """Tell whether more is of no harm: its car charges, and it is not known what more it takes."""
    limit = limits[case.component_id]
    return (
        case.can_be_raised
        and 0 < limit == case.limit
        and not case.is_idle
        and limit + _LEAST_RAISE <= case.charger.upper_bound
    )


def _is_short(
    cases: Sequence[Case], limits: Mapping[int, float], waiting: Sequence[Case], target: float
) -> bool:
    """Tell whether somebody could use more than is free."""
    needed = sum(case.least_to_start() for case in waiting if not case.is_asleep)
    for case in cases:
        if _is_hungry(case, limits):
            needed += min(case.charger.upper_bound, case.wanted) - limits[case.component_id]
    return needed > target - _most(cases, limits)


def _is_held_back(
    cases: Sequence[Case],
    limits: Mapping[int, float],
    waiting: Sequence[Case],
    headroom: Headroom,
) -> bool:
    """Tell whether somebody could use more than circuits leave."""
    for case in waiting:
        if not case.is_asleep and headroom.most_later(case) < case.least_to_start():
            return True
    return any(
        headroom.most_later(case) < min(case.charger.upper_bound, case.wanted)
        for case in cases
        if _is_hungry(case, limits)
    )


def _gains(cases: Sequence[Case], limits: Mapping[int, float], shares: Mapping[int, float]) -> bool:
    """Tell whether a car that charges has clearly less than its share."""
    return any(
        limits[case.component_id] * _CLEARLY < share
        for case in cases
        if (share := shares.get(case.component_id, 0.0)) and limits[case.component_id]
    )


def _take_back_unused(cases: Sequence[Case], limits: dict[int, float], now: float) -> None:
    """Free for others what has not been used for a while."""
    for case in cases:
        limit, stay = limits[case.component_id], case.stay
        if not limit or limit != case.limit or case.is_silent or stay is None:
            continue
        if now >= stay.gives_way_at():
            limits[case.component_id] = 0.0
        elif case.wanted < limit:
            kept = max(math.floor(case.wanted), case.least_to_start())
            limits[case.component_id] = min(limit, case.allowed(kept) or limit)


def _is_running(case: Case, limits: Mapping[int, float]) -> bool:
    return case.status is ChargerStatus.WORKING and limits[case.component_id] > 0


def _available(cases: Sequence[Case], limits: Mapping[int, float], steady: float) -> float:
    """Give what of the target is for the cars that charge and those that wait."""
    others = [case for case in cases if not _is_running(case, limits)]
    return steady - sum(
        _most([case], limits) if case.is_beyond_control else limits[case.component_id]
        for case in others
    )


# Less


def _most(cases: Iterable[Case], limits: Mapping[int, float]) -> float:
    """Add up the most that chargers may draw, now or with the limits that are about to be sent."""
    return sum(max(case.reserved, limits[case.component_id]) for case in cases)


def _make_room_for_next(
    cases: Sequence[Case],
    limits: dict[int, float],
    startable: Sequence[Case],
    steady: float,
    headroom: Headroom | None,
) -> None:
    """Let cars that charge give up a little for the next one, but none its minimum.

    Those that came after it do so in any case: first come is first used. So do all for a short try
    of one that was asleep; and else, if that brings more into use than half of what it takes.
    """
    # What is being given up counts as free: it is not to be given up again.
    free = steady - sum(
        _most([c], limits) if c.is_beyond_control or c.is_silent else limits[c.component_id]
        for c in cases
    )
    running = [c for c in cases if limits[c.component_id] and c.can_be_raised]
    is_anybody_hungry = any(_is_hungry(case, limits) for case in running)
    for case in startable:
        missing = case.least_to_start() - free
        if missing <= 0:
            if headroom is None or _make_room_in_circuits(case, running, limits, headroom):
                return
            continue
        is_worth_it = missing <= 2 * free and not is_anybody_hungry
        givers = running
        if not (is_worth_it or case.is_asleep):
            givers = [c for c in running if comes_first(case) < comes_first(c)]
        total = sum(limits[c.component_id] for c in givers)
        least = sum(min(c.least_to_start(), limits[c.component_id]) for c in givers)
        if missing <= total - least:
            _reduce(givers, limits, total - missing)
            return


def _make_room_in_circuits(
    case: Case,
    running: Sequence[Case],
    limits: dict[int, float],
    headroom: Headroom,
) -> bool:
    """Let cars that charge give up in their circuits what the next one lacks, if it is a little.

    A car that has not drawn yet counts on every phase: it may turn out to use another one than
    those that give something up, which have it back then.

    Returns:
        Whether there is room for it then.
    """
    needed = case.least_to_start()
    if headroom.most_later(case) >= needed:
        return True
    if not headroom.may_raise(case):
        return False
    is_worth_it = headroom.free_share(case, needed) >= _WORTH_IT
    givers = running
    if not (is_worth_it or case.is_asleep):
        givers = [c for c in running if comes_first(case) < comes_first(c)]
    tried = {**limits, case.component_id: needed}

    def keeps(giver: Case, limit: float) -> float:
        return limit if giver is case else min(limit, giver.least_to_start() or limit)

    everybody = [*givers, case]
    headroom.lower(everybody, tried, for_raise=True, floor=keeps)
    if not headroom.fits(everybody, tried):
        return False
    limits.update({c.component_id: tried[c.component_id] for c in givers})
    return True


def _make_room(cases: Sequence[Case], limits: dict[int, float], target: float) -> None:
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


def _reduce(cases: Sequence[Case], limits: dict[int, float], target: float) -> None:
    """Bring the limits down until they add up to the target or less.

    First what is allocated and not drawn is taken back, then those that draw most are throttled:
    to their minimum, then to the least that lets them go on. Then cars are stopped, the most
    patient one first.
    """
    excess = sum(limits[case.component_id] for case in cases) - target
    if excess <= 0:
        return

    def take_back(case: Case, floor: float, least: float) -> None:
        nonlocal excess
        limit = limits[case.component_id]
        if excess > 0 and limit > floor:
            lowered = _lowered(case, limit, excess, floor, least)
            limits[case.component_id] = lowered
            excess -= limit - lowered

    def draw(case: Case) -> float:
        return case.draw(limits[case.component_id])

    by_draw = sorted(cases, key=lambda c: draw(c) / c.weight, reverse=True)
    # Without a voltage nobody knows how far a car can be throttled.
    throttled = [case for case in by_draw if math.isfinite(case.minimum)]
    for case in sorted(throttled, key=lambda c: draw(c) - limits[c.component_id]):
        floor = max(math.ceil(draw(case) * CLOSE_MARGIN), case.least_to_start())
        take_back(case, floor, case.minimum)
    for case in throttled:
        take_back(case, case.least_to_start(), case.minimum)
    least = {case.component_id: case.at_least(case.least) for case in throttled}
    for patient in sorted(by_draw, key=patience):
        room = sum(max(0.0, limits[i] - watts) for i, watts in least.items() if limits[i])
        if excess <= room:
            break
        take_back(patient, 0.0, math.inf)
    for case in throttled:
        if limits[case.component_id]:
            take_back(case, least[case.component_id], case.least)


def _lowered(case: Case, limit: float, excess: float, floor: float, least: float) -> float:
    """Lower a limit by what is too much, not below the floor, to something that is allowed."""
    wanted = max(limit - excess, floor)
    if not wanted:
        return 0.0
    lowered = min(case.allowed(wanted, least), limit)
    # What is allowed below may be zero; the floor itself is better if it is allowed.
    return lowered if lowered >= floor else min(case.allowed(floor, least), limit)


def _take_back_raises(cases: Sequence[Case], limits: dict[int, float], target: float) -> None:
    """Let go of raises that have failed, or wait for their answer, if they do not fit any more.

    The server may hold the limit from before: sending the raise again would be one for it.
    """
    most = _most(cases, limits)
    for case in cases:
        ledger = case.charger.ledger
        confirmed = ledger.confirmed
        if ledger.is_confirmed or confirmed is None or limits[case.component_id] <= confirmed:
            continue
        if most > target or case.status is ChargerStatus.NOT_WORKING:
            most -= max(case.reserved, limits[case.component_id])
            limits[case.component_id] = confirmed
            most += max(case.reserved, confirmed)


# More


def _raise(
    cases: Sequence[Case],
    limits: dict[int, float],
    startable: Sequence[Case],
    free: float,
    *,
    shares: Mapping[int, float] | None,
    raisable_since: float,
    is_short: bool,
    headroom: Headroom | None = None,
) -> float:
    """Give away what is free: to cars without power first, then to those that wait for more.

    Returns:
        What is left of it.
    """

    def most(case: Case) -> float:
        return math.inf if shares is None else shares.get(case.component_id, 0.0)

    def is_limited(case: Case) -> bool:
        # What is allocated and not drawn in a circuit is in the way of others, and of the house.
        return headroom is not None and headroom.limits(case)

    def left(case: Case) -> float:
        return free if headroom is None else min(free, headroom.most(case))

    def give(case: Case, after: float) -> None:
        nonlocal free
        before = limits[case.component_id]
        if headroom is not None and after > headroom.most(case):
            return
        if after >= before + _LEAST_RAISE and after - before <= free:
            limits[case.component_id] = after
            free -= after - before
            if headroom is not None:
                headroom.take(case, after)

    for case in cases:
        if case.can_be_raised and case.is_too_little(limits[case.component_id]):
            give(case, case.least_to_start())
    for case in startable:
        give(case, _first_offer(case, left(case), most(case)))
    hungry = [
        case
        for case in cases
        if case.charger.changed_at <= raisable_since
        and (
            _is_hungry(case, limits)
            or (not is_short and not is_limited(case) and _could_be_raised(case, limits))
        )
    ]
    hungry.sort(key=comes_first)
    for step in (_STEP, math.inf):
        # In small steps first, so that all have some; then the first one gets what is left.
        for case in hungry:
            limit = limits[case.component_id]
            stepped = max(limit * step, limit + _LEAST_STEP)
            wanted = min(limit + free, stepped)
            if headroom is not None:
                wanted = min(wanted, headroom.most(case))
            if is_short or is_limited(case):
                wanted = min(wanted, case.wanted)
            if is_short:
                wanted = min(wanted, most(case))
            give(case, case.allowed(wanted, case.least))
    return free


def _first_offer(case: Case, available: float, most: float) -> float:
    """Give what a car without power is offered: the initial current, else the minimum, else 0."""
    wanted = max(case.wanted, case.minimum)
    for offer in (case.at_least(min(case.initial, wanted)), case.least_to_start()):
        # Under equal shares a car may get all of its share at once.
        given = offer if math.isinf(most) else case.allowed(min(most, available))
        if given and given <= available and given <= most:
            return given
    return 0.0
