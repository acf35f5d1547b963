"""Shares power equally among cars: at once if there is enough, else over the hours. Pure; W."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from microgrid_sync.power.case import Case
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.headroom import Headroom
from microgrid_sync.power.stay import MOST_INTERRUPTIONS

_TURNS_OF_A_DAY = 96.0
"""So many of the shortest turns are a day; in that time a car is interrupted ten times at most."""

_ROUNDING = 1e-6
"""W: what a sum of fractions may lack."""

_LONGEST_WAIT = 4 * 3600.0
"""Seconds after which a car is served although it has had more energy than others: by then nothing
of it is in the window any more."""


@dataclass(frozen=True)
class Turns:
    """Who charges, and with how much."""

    shares: Mapping[int, float]
    """The power for each car that charges or may start; zero for one that gives way."""

    starts: frozenset[int] = frozenset()
    """Who is to be started."""


def turns(
    running: Mapping[Case, float],
    waiting: Sequence[Case],
    available: float,
    *,
    is_short: bool,
    now: float,
    config: ChargingConfig,
    headroom: Headroom | None = None,
) -> Turns:
    """Find who charges, and with how much.

    Those that charge go on; those that wait are served in their order as far as there is room, and
    a car that has had its turn gives way to one that waits.

    Args:
        running: The cars that have a limit above zero, with that limit.
        waiting: Those without one that may be started, the first one first.
        available: The power for all of them.
        is_short: Whether somebody could use more than is free.
        now: The time on the monotonic clock, in seconds.
        config: The settings.
        headroom: What circuits leave.
    """
    least = {case.component_id: _least(case, limit) for case, limit in running.items()}
    room = available - sum(least.values())
    served = list(running)
    ready = [case for case in running if turn_ends_at(case, config) <= now]
    ready.sort(key=lambda case: (-_rate(case, now), case.component_id))
    gives_way: set[int] = set()
    for case in waiting:
        needed = case.least_to_start()
        if not needed:
            continue
        stopped = _who_gives_way(case, ready, needed - room, least, now)
        freed = sum(least[other.component_id] for other in stopped)
        if needed > room + freed:
            continue
        if headroom is not None:
            going_on = {
                c: least[c.component_id]
                for c in served
                if c.component_id not in gives_way and c not in stopped
            }
            more = _who_gives_way_in_circuits(case, going_on, ready, headroom, now)
            if more is None:
                continue
            stopped = [*stopped, *more]
            freed = sum(least[other.component_id] for other in stopped)
        room += freed - needed
        ready = [other for other in ready if other not in stopped]
        gives_way.update(other.component_id for other in stopped)
        least[case.component_id] = needed
        served.append(case)
    charging = [c for c in served if c.component_id not in gives_way]
    most = {c.component_id: c.most_useful if is_short else c.charger.upper_bound for c in charging}
    shares = _levels(charging, least, most, available)
    if headroom is not None:
        headroom.lower(
            charging, shares, for_raise=True, floor=lambda case, _: least[case.component_id]
        )
    shares.update(dict.fromkeys(gives_way, 0.0))
    starts = frozenset(case.component_id for case in served[len(running) :])
    return Turns(shares, starts)


def turn_ends_at(case: Case, config: ChargingConfig) -> float:
    """Give when a car that charges may have to give way; infinite if it bears no more pauses.

    The interruptions that it bears are spread over a day: the first ones come soon, each further
    one later.
    """
    since, stay = case.charger.on_since, case.stay
    if since is None or stay is None or case.is_exhausted or case.charger.is_being_started:
        return math.inf
    turn = config.minimum_on_time.total_seconds()
    part_of_day = (stay.interruptions / MOST_INTERRUPTIONS) ** 2
    return max(since + turn, stay.since + _TURNS_OF_A_DAY * turn * part_of_day)


def waits_in_order(case: Case, now: float) -> tuple[bool, float, int]:
    """Give the order in which cars are served: who has waited longest first, by weight."""
    stay = case.stay
    waited = 0.0 if stay is None else now - stay.waits_since
    return case.is_asleep, -waited * case.weight, case.component_id


def _who_gives_way(
    case: Case, ready: Sequence[Case], missing: float, least: Mapping[int, float], now: float
) -> list[Case]:
    """Find cars that have had their turn and make room for one that waits; none if too few."""
    if missing <= 0:
        return []
    must_be_served = case.stay is not None and now - case.stay.waits_since >= _LONGEST_WAIT
    rate = _rate(case, now)
    stopped = []
    for other in ready:
        if must_be_served or _rate(other, now) > rate:
            stopped.append(other)
            missing -= least[other.component_id]
            if missing <= 0:
                return stopped
    return []


def _who_gives_way_in_circuits(
    case: Case,
    going_on: Mapping[Case, float],
    ready: Sequence[Case],
    headroom: Headroom,
    now: float,
) -> list[Case] | None:
    """Find cars that have had their turn and make room in the circuits; ``None`` if too few do."""
    everybody = [*going_on, case]
    limits = {other.component_id: least for other, least in going_on.items()}
    limits[case.component_id] = case.least_to_start()
    must_be_served = case.stay is not None and now - case.stay.waits_since >= _LONGEST_WAIT
    stopped: list[Case] = []
    for other in ready:
        if headroom.fits(everybody, limits):
            break
        if other in going_on and (must_be_served or _rate(other, now) > _rate(case, now)):
            limits[other.component_id] = 0.0
            stopped.append(other)
    if not headroom.fits(everybody, limits):
        return None
    for other in list(stopped):
        # Whoever is in another circuit makes no room.
        goes_on = {**limits, other.component_id: going_on[other]}
        if headroom.fits(everybody, goes_on):
            limits = goes_on
            stopped.remove(other)
    return stopped


def _rate(case: Case, now: float) -> float:
    """Give what a car has had: W over the hours that it was connected, by weight."""
    stay = case.stay
    if stay is None:
        return 0.0
    return stay.energy.power(stay.since, now) / case.weight


def _least(case: Case, limit: float) -> float:
    """Give the least that a car that charges must keep of its limit."""
    return min(case.least_to_start() or limit, limit)


def _levels(
    cases: Sequence[Case],
    least: Mapping[int, float],
    useful: Mapping[int, float],
    available: float,
) -> dict[int, float]:
    """Give all the same, by weight, but nobody less than its minimum or more than is of use.

    What those leave that have enough goes to the others, and what those need that have too little
    comes from them; until nothing changes.
    """
    most = {i: max(least[i], watts) for i, watts in useful.items()}
    shares: dict[int, float] = {}
    left = list(cases)
    while left:
        rest = available - sum(shares.values())
        level = rest / sum(case.weight for case in left)
        below = [c for c in left if c.weight * level < least[c.component_id]]
        above = [c for c in left if c.weight * level > most[c.component_id]]
        too_little = sum(least[c.component_id] - c.weight * level for c in below)
        too_much = sum(c.weight * level - most[c.component_id] for c in above)
        fixed, limit = (below, least) if too_little >= too_much else (above, most)
        if not fixed:
            shares.update((c.component_id, c.weight * level) for c in left)
            break
        shares.update((c.component_id, limit[c.component_id]) for c in fixed)
        left = [c for c in left if c.component_id not in shares]
    return {
        c.component_id: c.allowed(shares[c.component_id] + _ROUNDING, least[c.component_id])
        for c in cases
    }
