"""Says in words why a charger has what it has. Pure: the time, and the clock on the wall, go in."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from microgrid_sync.model import EVChargerComponentState
from microgrid_sync.power.case import Case
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.distribution import Plan
from microgrid_sync.power.equal_shares import turn_ends_at
from microgrid_sync.power.stay import Stay

_CLOSED = {
    EVChargerComponentState.ERROR: "in error",
    EVChargerComponentState.AUTHORIZATION_REJECTED: "the car is not authorized",
    EVChargerComponentState.NOT_READY: "not ready",
    EVChargerComponentState.STARTING: "not ready",
    EVChargerComponentState.UNKNOWN: "not ready",
}

_HOLDS_BACK = 100.0
"""W: who has less reserved beyond what he may have holds nobody back."""

Clock = Callable[[float], str]
"""Gives the time of the day, in words, at which the monotonic clock shows some seconds."""


class Reason(NamedTuple):
    """Why a charger has what it has."""

    words: str
    at: float | None = None
    """When that changes; its time of the day ends the words."""

    countdown: float | None = None
    """When it may be raised."""

    def text(self, now: float, clock: Clock) -> str:
        """Give it in words, with times."""
        if self.at is not None:
            return f"{self.words} {clock(self.at)}"
        if self.countdown is not None and self.countdown > now:
            return f"{self.words}; may be raised in {math.ceil(self.countdown - now)} s"
        return self.words


def reason(case: Case, plan: Plan, config: ChargingConfig, target: float, now: float) -> Reason:
    """Find why a charger has what it has.

    Args:
        case: The charger.
        plan: What has been decided.
        config: The settings.
        target: The power that is distributed.
        now: The time on the monotonic clock, in seconds.
    """
    trouble = _trouble(case)
    if trouble is not None:
        return Reason(trouble)
    limit = plan.limits[case.component_id]
    circuit = plan.held.get(case.component_id)
    if limit:
        why = _why_so_much(case, limit, config, now)
        is_held = circuit is not None and limit + 1 < min(case.wanted, case.charger.upper_bound)
        return why._replace(words=f"{why.words}; {circuit}") if is_held else why
    impossible = _impossible(case, target)
    return _why_not_yet(case, plan, config, now) if impossible is None else Reason(impossible)


def _trouble(case: Case) -> str | None:
    """Tell what is wrong with a charger; ``None`` if a car can be charged."""
    charger = case.charger
    if charger.data is None:
        return "nothing has been heard of it"
    if case.is_silent:
        return f"silent; {_power(case.reserved)} stay reserved"
    state = charger.data.component_state
    if case.stay is None or state in _CLOSED:
        is_left = case.stay is None and state is not EVChargerComponentState.ERROR
        return "no car" if is_left else _CLOSED.get(state, "no car")
    if charger.health.failures:
        return "set-points fail; they are sent again every second"
    if charger.overdraws:
        return f"draws {_power(charger.draw)}, more than it may; others make room"
    return None


def holders(plan: Plan) -> list[tuple[int, str]]:
    """Give the chargers that hold others back, and what they do.

    They may draw more than they should have, and the others do not get that.
    """
    found = []
    for component_id, case in plan.cases.items():
        if case.reserved <= plan.limits[component_id] + _HOLDS_BACK:
            continue
        ledger = case.charger.ledger
        if case.charger.health.failures:
            verb = "does not answer" if ledger.has_unanswered else "refuses"
            found.append((component_id, f"which {verb} set-points"))
        elif case.is_disobeying or case.charger.overdraws:
            found.append((component_id, f"which draws {_power(case.charger.draw)}"))
        elif case.is_silent:
            found.append((component_id, "which is silent"))
        elif not ledger.is_waited_for:
            found.append((component_id, "which has not confirmed its set-point"))
    return sorted(found, key=lambda one: -plan.cases[one[0]].reserved)


def cannot_be_served(case: Case) -> str | None:
    """Tell why a car could not be served whatever the target is; ``None`` if it could."""
    if case.charger.data is None or not math.isfinite(case.minimum):
        return None
    most = case.charger.upper_bound
    if case.least_to_start() or most <= 0 or most == case.charger.cap:
        return None
    return (
        f"cannot be served: its bounds allow {_power(most)}, its car needs {_power(case.minimum)}"
    )


def _why_so_much(case: Case, limit: float, config: ChargingConfig, now: float) -> Reason:
    charger, stay = case.charger, case.stay
    raisable_at = charger.changed_at + config.raise_interval.total_seconds()
    if stay is None:
        return Reason("charges", countdown=raisable_at)
    gives_way_at = stay.gives_way_at()
    if math.isfinite(gives_way_at):
        what = "full or asleep: draws under 100 W; gives way to others"
        return Reason(f"{what} from", at=gives_way_at) if gives_way_at > now else Reason(what)
    if limit + 1 >= charger.upper_bound:
        return Reason("all that the charger can")
    if limit + 1 >= case.wanted:
        return Reason(f"all that its car takes: {_power(charger.draw)}")
    share = "its share" if config.distribution == "equal" else "what is free"
    is_first = stay.started_at >= charger.changed_at - 1.0 and now < raisable_at
    if is_first or charger.is_being_started:
        volts = charger.volts.nominal * stay.minimum_phases(charger.volts.phases)
        ampere = limit / volts
        return Reason(f"first offer {ampere:.0f} A", countdown=raisable_at)
    return Reason(f"charges with {share}", countdown=raisable_at)


def _impossible(case: Case, target: float) -> str | None:
    """Tell why a car cannot be charged however long it waits; ``None`` if it can."""
    if not math.isfinite(case.minimum):
        return "no voltage is known: nothing new is allocated"
    never = cannot_be_served(case)
    if never is not None:
        return never
    if case.charger.cap < case.minimum:
        return f"a proposal has lapsed that left {_power(case.charger.cap)}; nobody has said more"
    if target <= 0:
        return "the target is 0 W"
    if target < case.minimum:
        return f"the target of {_power(target)} is less than its {_power(case.minimum)}"
    return None


def _why_not_yet(case: Case, plan: Plan, config: ChargingConfig, now: float) -> Reason:
    stay = case.stay
    if stay is not None and stay.is_asleep:
        words, at = "full: drew under 100 W for 10 min", _tried_at(case)
        return Reason(f"{words}; tried again from", at=at) if at > now else Reason(words)
    if now < case.may_start_at:
        return Reason("rests until", at=case.may_start_at)
    held = [one for one in holders(plan) if one[0] != case.component_id]
    if held and plan.free + _held_back(plan, held) >= case.minimum:
        number, what = held[0]
        return Reason(f"held back by charger {number}, {what}")
    why = _waits(case, plan, config, now)
    circuit = plan.held.get(case.component_id)
    return why if circuit is None else why._replace(words=f"{why.words}; {circuit}")


def _held_back(plan: Plan, held: Iterable[tuple[int, str]]) -> float:
    return sum(plan.cases[i].reserved - plan.limits[i] for i, _ in held)


def _tried_at(case: Case) -> float:
    stay = case.stay
    return case.may_start_at if stay is None else max(case.may_start_at, stay.tried_again_at())


def _waits(case: Case, plan: Plan, config: ChargingConfig, now: float) -> Reason:
    places = [other.component_id for other in plan.waiting]
    if case.component_id not in places:
        return Reason("its set-point is being confirmed")
    place = places.index(case.component_id) + 1
    words = f"waits: {place} of {len(places)} places"
    running = [c for i, c in plan.cases.items() if plan.limits[i]]
    ends = _next_change(running, config, now)
    return Reason(f"{words}; next at", at=ends) if math.isfinite(ends) else Reason(words)


def _next_change(running: Sequence[Case], config: ChargingConfig, now: float) -> float:
    """Give when the next car may give way to another; infinite if that is not known."""
    ends = [_gives_way_at(case.stay) for case in running]
    if config.distribution == "equal":
        ends += [turn_ends_at(case, config) for case in running]
    return min((end for end in ends if end > now), default=math.inf)


def _gives_way_at(stay: Stay | None) -> float:
    return math.inf if stay is None else stay.gives_way_at()


def _power(watts: float) -> str:
    return f"{watts / 1000:.1f} kW" if math.isfinite(watts) else "an unknown power"
