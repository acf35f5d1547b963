"""Says how a limit stands: the house, what it leaves, and how well that is known. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from frequenz.quantities import Current

from microgrid_sync.model.shown import Tabular
from microgrid_sync.power.circuits import IN_WORDS, PHASES, Circuit
from microgrid_sync.power.house import Stage
from microgrid_sync.power.rotation import rotation_name

Currents = tuple[Current, Current, Current]


@dataclass(frozen=True, repr=False)
class LimitReport(Tabular):
    """How a limit stands. Phases are those of its meter; import is positive."""

    timestamp: datetime
    """When that was found, in UTC."""

    house: Currents | None
    """What flows beside the chargers; the highest of a while if the meter is silent, ``None`` if
    nothing is known."""

    headroom: Currents | None
    """What that leaves to all chargers together of what is planned with; ``None`` without a limit
    of the current. Below zero the house alone is over it."""

    thermal_state: tuple[float, float, float] | None
    """The thermal state of the fuse on each phase, if its curve is given; 1 is the steady rated
    load. What was before the first sample counts as that."""

    is_exceeded: bool
    """Whether more flows than the limit."""

    reason: str
    """What chargers get, and why, for people to read."""


@dataclass(frozen=True)
class LimitState:
    """The newest report of a limit, and what is known of its chargers. Replaced as a whole."""

    report: LimitReport
    rotations: Mapping[int, str] = field(default_factory=dict)
    chargers: frozenset[int] = frozenset()


def limit_state(circuit: Circuit, now: float, stamp: datetime) -> LimitState:
    """Say how a limit stands.

    Args:
        circuit: Its circuit.
        now: The time on the monotonic clock, in seconds.
        stamp: The same on the wall clock.
    """
    house = [circuit.house.value(phase, now) for phase in PHASES]
    headroom = [circuit.target(phase) - ampere for phase, ampere in zip(PHASES, house, strict=True)]
    has_current = circuit.limit.max_current is not None
    report = LimitReport(
        stamp,
        _currents(house),
        _currents(headroom) if has_current else None,
        circuit.thermal,
        circuit.is_exceeded(),
        _reason(circuit, now),
    )
    rotations = {
        number: rotation_name(search.found)
        for number, search in sorted(circuit.rotations.items())
        if number in circuit.wiring.chargers and None not in search.found
    }
    return LimitState(report, rotations, circuit.wiring.chargers)


def _currents(amperes: list[float]) -> Currents | None:
    if any(map(math.isnan, amperes)):
        return None
    one, two, three = (Current.from_amperes(round(ampere, 3)) for ampere in amperes)
    return one, two, three


def _reason(circuit: Circuit, now: float) -> str:
    stage = circuit.stage(now)
    if stage > Stage.HEARD:
        frozen = ", its values stand still" if circuit.house.frozen_since is not None else ""
        return f"{circuit.name} {IN_WORDS[stage]}{frozen}"
    if circuit.sign.is_missing:
        return f"{circuit.name} measures feed-in without a sign"
    alone = [
        place
        for place in circuit.limit.places()
        if circuit.house.value(place, now) > circuit.limit.highest(place)
    ]
    if alone:
        return "exceeded by the house alone: chargers get nothing"
    return "exceeded: chargers are being lowered" if circuit.is_exceeded() else "holds"
