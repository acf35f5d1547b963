"""A depot of the simulator's physics, charged by a pool on a clock of its own: hours in seconds.

What is under test is all that the control loop decides with; what is left out is the transport. The
server carries a set-point out after half the time of its answer.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from microgrid_sync import EVChargerData
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.charger_set import ChargerSet
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.proposals import Proposal, Range
from microgrid_sync.power.set_point_ledger import Answer
from microgrid_sync.simulator import Car, load_site
from microgrid_sync.simulator.physics.components import ComponentError
from microgrid_sync.simulator.physics.site import Site
from tests.support.messages import START

ONE_PHASE = Car(power=3680.0, phases=1, capacity=60_000.0, soc=20.0)
TWO_PHASE = Car(power=7360.0, phases=2, capacity=60_000.0, soc=20.0)
THREE_PHASE = Car(power=11_040.0, phases=3, capacity=80_000.0, soc=20.0)
LARGE = Car(power=22_080.0, phases=3, capacity=150_000.0, soc=20.0)
KINDS = {"1": ONE_PHASE, "2": TWO_PHASE, "3": THREE_PHASE, "L": LARGE}

FIRST = 101


def described(count: int) -> dict[str, Any]:
    """Describe a depot of so many chargers, without cars, as a site's file would."""
    chargers = range(FIRST, FIRST + count)
    return {
        "name": "vans",
        "microgrid_id": 1,
        "seed": 1,
        "connections": [[1, 2], *([2, number] for number in chargers)],
        "component": [
            {"id": 1, "category": "grid", "fuse": 400.0},
            {"id": 2, "category": "meter"},
            # Phases rotate, as an electrician connects them.
            *(
                {
                    "id": number,
                    "category": "ev_charger",
                    "phases": [(number + shift) % 3 + 1 for shift in range(3)],
                }
                for number in chargers
            ),
        ],
    }


def plugged(kind: str, number: int) -> Car:
    """Make a car of a kind; no two have the same charge."""
    car = KINDS[kind]
    return Car(car.power, car.phases, car.capacity, car.soc + number % 7, ramp=car.ramp)


@dataclass
class Trouble:
    """What is wrong with the chargers, and how the server answers."""

    answers_after: float = 0.05
    refusing: Sequence[int] = ()
    """Chargers in error that refuse set-points, with fresh data."""

    silent: Sequence[int] = ()
    """Chargers that say nothing, but confirm."""

    dead: Sequence[int] = ()
    """Chargers that say and confirm nothing."""

    wobble: float = 0.0
    """The share by which the target wobbles each second."""


@dataclass
class Depot:
    """Chargers 101 on, what the server holds, and the set under test."""

    count: int
    config: ChargingConfig
    target: float
    trouble: Trouble = field(default_factory=Trouble)
    seed: int = 1

    def __post_init__(self) -> None:
        self.now = 10_000.0
        self.site: Site = load_site(described(self.count))
        self.ids = list(range(FIRST, FIRST + self.count))
        self.known: dict[int, Charger] = {}
        self.set_points = self.commands = 0
        self.energy = self.wanted = self.allowed = 0.0
        self.received: dict[int, float] = dict.fromkeys(self.ids, 0.0)
        self.highest_held = 0.0
        self._chance = random.Random(self.seed)
        self._under_way: list[tuple[float, float, int, int, float]] = []
        for number in self.trouble.refusing:
            self.site.fail(number, ComponentError())
        self.start_program()

    def start_program(self) -> None:
        """Begin with a program that knows nothing; what was under way is lost."""
        self._under_way = []
        self.known = {number: Charger(number, self.config) for number in self.ids}
        self.under_test = ChargerSet(list(self.known.values()), self.config)

    def plug_in(self, number: int, car: Car) -> None:
        self.site.charger(number).plug_in(car)

    def starts(self) -> Mapping[int, int]:
        """How often each charger has begun to charge."""
        return {number: self.site.charger(number).starts for number in self.ids}

    def held(self, number: int) -> float:
        set_point = self.site.charger(number).active.set_point
        return 22_080.0 if set_point is None else set_point

    def run(self, seconds: float, *, is_running: bool = True, each: Callable[[], None] = lambda: None) -> None:  # fmt: skip # noqa: E501 - one thing
        """Let time go by, in steps of a second."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            before, second = self.now, min(self.now + 1.0, end)
            while self._under_way and self._under_way[0][0] <= second:
                at = self._under_way[0][0]
                answered = False
                while self._under_way and self._under_way[0][0] == at:
                    answered |= self._deliver(*self._under_way.pop(0))
                if answered:
                    self._look(is_running)
            self.site.advance(second - before)
            self._count(second - before)
            self.now = second
            self._report()
            self._look(is_running)
            each()

    def _count(self, seconds: float) -> None:
        cars = {n: self.site.charger(n).car for n in self.ids}
        wanted = sum(
            car.wanted(0.0) for n, car in cars.items() if car and n not in self.trouble.refusing
        )
        self.wanted += min(wanted, self.target - 22_080.0 * len(self.trouble.dead)) * seconds
        for number in self.ids:
            joules = self.site.charger(number).flow.power * seconds
            self.received[number] += joules
            self.energy += joules
        drawn = sum(self.site.charger(n).flow.power for n in self.ids)
        self.highest_held = max(self.highest_held, drawn)

    def data(self, number: int) -> EVChargerData:
        charger, line = self.site.charger(number), self.site.line
        active = charger.flow.active
        currents = tuple(watts / volts for watts, volts in zip(active, line.voltage, strict=True))
        lower, upper = charger.active.inclusion_bounds()
        return EVChargerData(
            number, START + timedelta(seconds=self.now), charger.flow.power, active,
            (currents[0], currents[1], currents[2]), 0.0, (0.0,) * 3, line.voltage,
            lower, 0.0, upper, 0.0, 50.0, charger.cable_state, charger.state,
        )  # fmt: skip

    def _report(self) -> None:
        for number in self.ids:
            if number not in self.trouble.silent and number not in self.trouble.dead:
                self.known[number].update(self.data(number), self.now)

    def _look(self, is_running: bool) -> None:
        if not is_running:
            return
        noise = self._chance.uniform(-self.trouble.wobble, self.trouble.wobble)
        target = self.target * (1 + noise)
        volts = sum(self.site.line.voltage)
        for charger in self.known.values():
            charger.advance(self.now, volts if charger.data else None)
        proposals = [Proposal(0, None, Range(0.0, target))]
        for number, watts in self.under_test.step(proposals, self.now).items():
            known = self.known[number]
            self.commands += watts != known.ledger.newest
            self.set_points += 1
            # The newer one cancels the older one.
            self._under_way = [one for one in self._under_way if one[2] != number or one[1]]
            attempt = self.under_test.sent(number, watts, self.now)
            after = self.trouble.answers_after
            if number in self.trouble.dead:
                ends = self.now + known.ledger.timeout
                self._under_way.append((ends, 0.0, number, attempt, -1.0))
                continue
            self._under_way.append((self.now + after / 2, 1.0, number, attempt, watts))
            self._under_way.append((self.now + after, 0.0, number, attempt, watts))
        self._under_way.sort()
        self.under_test.conclude()

    def _deliver(self, at: float, lands: float, number: int, attempt: int, watts: float) -> bool:
        self.now = max(self.now, at)
        charger = self.site.charger(number)
        if lands:
            if number not in self.trouble.refusing:
                charger.active.command(watts, self.site.now + 1e9)
            return False
        if watts < 0:
            answer = Answer.TIMED_OUT
        elif number in self.trouble.refusing:
            answer = Answer.REFUSED
        else:
            answer = Answer.CONFIRMED
        self.under_test.done(number, attempt, answer, self.now)
        return True
