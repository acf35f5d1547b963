"""Simulates electric cars: what they take, and when they come and go."""

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

Range = tuple[float, float]
"""The least and the most of something that the site's seed draws."""

_TRICKLE = 0.05
"""The part of its own limit that a car still takes when it is full."""

Chance = Callable[..., random.Random]
"""Gives the generator for one visit of one car, which is told by the arguments."""


@dataclass
class Car:
    """A car at a charger, with its battery."""

    power: float = 11_000.0
    """The most that its own charger takes, in W."""

    phases: int = 3
    """How many phases it uses."""

    capacity: float = 60_000.0
    """Wh."""

    soc: float = 30.0
    """%."""

    target_soc: float = 100.0
    """% at which it stops."""

    cable_current: float = 32.0
    """What its cable is made for, in A for each phase."""

    taper_above: float = 80.0
    """% of charge above which it takes less and less."""

    ramp: float = 3000.0
    """How fast it takes more, in W/s."""

    efficiency: float = 0.9
    """The part of the energy that ends in the battery."""

    obeys_after: float = 0.0
    """Seconds after which it follows another offer."""

    starts_after: float = 0.0
    """Seconds until it begins to charge when it is offered something."""

    pauses_every: float = 0.0
    """Seconds that it charges before it pauses by itself, to cool its battery; 0 for never."""

    pause_lasts: float = 30.0
    """Seconds for which it does."""

    def __post_init__(self) -> None:
        """Check what cannot be; a site's description is stricter.

        Raises:
            ValueError: If a property is out of range.
        """
        if self.phases not in {1, 2, 3}:
            raise ValueError(f"phases: must be 1, 2 or 3, not {self.phases!r}")
        for name in ("power", "capacity", "ramp", "efficiency", "cable_current"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must be more than 0, not {getattr(self, name)!r}")
        for name in ("soc", "target_soc", "taper_above"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name}: must be from 0 to 100, not {getattr(self, name)!r}")

    def wanted(self, seconds: float) -> float:
        """Give the most that it would take on the average of some seconds, in W."""
        if self.soc >= self.target_soc:
            return 0.0
        wanted = self.power
        if self.soc > self.taper_above:
            past = (self.soc - self.taper_above) / (100.0 - self.taper_above)
            wanted *= 1.0 - (1.0 - _TRICKLE) * past
        if seconds <= 0:
            return wanted
        room = (self.target_soc - self.soc) * self.capacity * 36.0 / self.efficiency
        return min(wanted, room / seconds)

    def charge(self, power: float, seconds: float) -> None:
        """Take power for some seconds."""
        self.soc += 100.0 * power * self.efficiency * seconds / 3600.0 / self.capacity
        self.soc = min(self.soc, 100.0)


@dataclass(frozen=True)
class Visit:
    """A car's stay at a charger, in seconds of the site's clock."""

    arrives: float
    leaves: float
    soc: float
    """The car's charge in % when it arrives."""


Visits = Callable[[float, datetime], "Visit | None"]
"""Gives the visit that a second of the clock, and its local time, falls into."""


@dataclass
class ScheduledCar:
    """A car that comes to one charger again and again."""

    car: Car
    """The car as it comes, whatever its charge then is."""

    visits: Visits


def always(soc: Range, *, chance: Chance) -> Visits:
    """Make visits of a car that is there from the beginning and stays."""
    visit = Visit(0.0, math.inf, chance().uniform(*soc))
    return lambda now, local: visit


def again_and_again(stays: float, away: float, soc: Range, *, chance: Chance) -> Visits:
    """Make visits that begin with the clock, last as long each time, and come back after a pause.

    Args:
        stays: Seconds that the car is there.
        away: Seconds that it is away.
        soc: Its charge in % when it arrives.
        chance: Where what is drawn comes from.
    """

    @functools.lru_cache(maxsize=2)
    def visit(number: int) -> Visit:
        arrives = number * (stays + away)
        return Visit(arrives, arrives + stays, chance(number).uniform(*soc))

    def at(now: float, local: datetime) -> Visit | None:
        del local
        found = visit(int(now // (stays + away)))
        return found if found.arrives <= now < found.leaves else None

    return at


def daily(arrives: Range, leaves: Range, soc: Range, *, chance: Chance) -> Visits:
    """Make one visit each day; one that ends before it begins goes on over midnight.

    Args:
        arrives: The earliest and the latest arrival, as seconds of the local day.
        leaves: The earliest and the latest departure, likewise.
        soc: The car's charge in % when it arrives.
        chance: Where what is drawn comes from.
    """
    over_midnight = leaves[0] <= arrives[0]

    @functools.lru_cache(maxsize=4)
    def visit(day: date, zone: tzinfo | None) -> tuple[datetime, datetime, float]:
        drawn = chance(day)
        midnight = datetime.combine(day, time(), zone)
        begin = midnight + timedelta(seconds=drawn.uniform(*arrives))
        end = midnight + timedelta(days=over_midnight, seconds=drawn.uniform(*leaves))
        # By the clock on the wall up to here, whatever the hours of that day are.
        return begin.astimezone(UTC), end.astimezone(UTC), drawn.uniform(*soc)

    def at(now: float, local: datetime) -> Visit | None:
        utc = local.astimezone(UTC)
        for days_ago in (1, 0) if over_midnight else (0,):
            begin, end, drawn = visit(local.date() - timedelta(days=days_ago), local.tzinfo)
            if begin <= utc < end:
                since, left = (utc - begin).total_seconds(), (end - utc).total_seconds()
                return Visit(now - since, now + left, drawn)
        return None

    return at


def seconds_of_day(value: time) -> float:
    """Turn a time of the day into seconds since midnight."""
    return value.hour * 3600.0 + value.minute * 60.0 + value.second
