"""Electric cars: what they take, and when they come and go."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from microgrid_sync.simulator.randomness import generator

Range = tuple[float, float]
"""The least and the most of something that the site's seed draws."""

_TRICKLE = 0.05
"""The part of its own limit that a car still takes when it is full."""

_DAY = 86400.0


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

    def wanted(self) -> float:
        """Give the most that it would take now, in W."""
        if self.soc >= self.target_soc:
            return 0.0
        past = max(0.0, (self.soc - self.taper_above) / (100.0 - self.taper_above))
        return self.power * (1.0 - (1.0 - _TRICKLE) * past)

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
class Guest:
    """A car that comes to one charger again and again."""

    new_car: Callable[[float], Car]
    """Makes the car, with the charge in % that it arrives with."""

    visits: Visits


def always(soc: Range, *, seed: int, charger: int) -> Visits:
    """Make visits of a car that is there from the beginning and stays."""
    visit = Visit(0.0, float("inf"), generator(seed, "car", charger).uniform(*soc))
    return lambda now, local: visit


def again_and_again(stays: float, away: float, soc: Range, *, seed: int, charger: int) -> Visits:
    """Make visits that begin with the clock, last as long each time, and come back after a pause.

    Args:
        stays: Seconds that the car is there.
        away: Seconds that it is away.
        soc: Its charge in % when it arrives.
        seed: The site's seed.
        charger: The ID of the charger.
    """

    @functools.lru_cache(maxsize=2)
    def visit(number: int) -> Visit:
        arrives = number * (stays + away)
        drawn = generator(seed, "car", charger, number).uniform(*soc)
        return Visit(arrives, arrives + stays, drawn)

    def at(now: float, local: datetime) -> Visit | None:
        del local
        found = visit(int(now // (stays + away)))
        return found if found.arrives <= now < found.leaves else None

    return at


def daily(arrives: Range, leaves: Range, soc: Range, *, seed: int, charger: int) -> Visits:
    """Make one visit each day; one that ends before it begins goes on over midnight.

    Args:
        arrives: The earliest and the latest arrival, as seconds of the local day.
        leaves: The earliest and the latest departure, likewise.
        soc: The car's charge in % when it arrives.
        seed: The site's seed.
        charger: The ID of the charger.
    """
    over_midnight = leaves[0] <= arrives[0]

    @functools.lru_cache(maxsize=4)
    def visit(day: date) -> tuple[float, float, float]:
        chance = generator(seed, "car", charger, day)
        begin, end = chance.uniform(*arrives), chance.uniform(*leaves)
        return begin, end + (_DAY if over_midnight else 0.0), chance.uniform(*soc)

    def at(now: float, local: datetime) -> Visit | None:
        second = local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6
        for days_ago in (1, 0) if over_midnight else (0,):
            begin, end, drawn = visit(local.date() - timedelta(days=days_ago))
            into_day = second + days_ago * _DAY
            if begin <= into_day < end:
                return Visit(now - (into_day - begin), now + (end - into_day), drawn)
        return None

    return at


def seconds_of_day(value: time) -> float:
    """Turn a time of the day into seconds since midnight."""
    return value.hour * 3600.0 + value.minute * 60.0 + value.second
