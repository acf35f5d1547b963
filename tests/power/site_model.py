"""A site as a distribution of power meets it: cars, faults, and the set-points the server holds.

What is checked is what the server holds at every instant, not what the distribution believes.
"""

import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from microgrid_sync import EVChargerCableState, EVChargerComponentState, EVChargerData
from microgrid_sync.power.charger_book import ChargerBook
from microgrid_sync.power.charger_set import ChargerSet
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.proposals import Proposal, Range
from tests.support.messages import START

RATING = 22_080.0
VOLTAGE = 690.0
SIX_AMPERES = 6 * VOLTAGE
TIMEOUT = 5.0

Fault = Literal["none", "refused", "lost", "unanswered", "slow"]
FAULTS: list[Fault] = ["none", "refused", "lost", "unanswered", "slow"]


@dataclass
class Charger:
    """A charger as it is."""

    held: float | None = None
    """The set-point that the server holds; ``None`` before the first."""

    connected: bool = False
    car_limit: float = 11_000.0
    upper: float = RATING
    silent: bool = False
    is_nan: bool = False
    cheats: bool = False
    fault: Fault = "none"
    received: float = 0.0

    @property
    def allowed(self) -> float:
        return self.upper if self.held is None else min(self.held, self.upper)

    @property
    def draw(self) -> float:
        if not self.connected:
            return 0.0
        if self.cheats:
            return min(self.upper, self.allowed * 1.3 + 500)
        return min(self.allowed, self.car_limit) if self.allowed >= SIX_AMPERES else 0.0


@dataclass(order=True)
class _Delivery:
    """Something that the server will do or say."""

    at: float
    charger: int
    attempt: int
    watts: float
    target: float
    overdraws: dict[int, float] = field(default_factory=dict, compare=False)
    applies: bool = False
    failed: bool = False


@dataclass
class Site:
    """Chargers 1 to n, the server's books, and the set under test."""

    count: int
    config: ChargingConfig = field(default_factory=ChargingConfig)

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.chargers = {number: Charger() for number in range(1, self.count + 1)}
        self.books = {number: ChargerBook(number) for number in self.chargers}
        self.under_test = ChargerSet(list(self.books.values()), self.config)
        self.proposals: list[Proposal] = []
        self.deliveries: list[_Delivery] = []
        self.commands = 0

    # What happens

    def propose(self, watts: float) -> None:
        self.proposals = [Proposal(0, None, Range(-math.inf, watts))]

    def withdraw(self) -> None:
        self.proposals = []
        self.under_test.release()
        for delivery in self.deliveries:
            # Nobody limits anything any more.
            delivery.target = math.inf

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Let time go by; the loop looks at everything at every step and at every answer."""
        end = self.now + seconds
        while self.now < end:
            due = min([d.at for d in self.deliveries], default=math.inf)
            before, self.now = self.now, min(self.now + step, max(due, self.now), end)
            if self.now == before:
                self.now = min(before + 1e-3, end)
            for charger in self.chargers.values():
                charger.received += charger.draw * (self.now - before)
            self._deliver()
            self._report()
            self._look()

    def _report(self) -> None:
        for number, charger in self.chargers.items():
            if not charger.silent:
                self.books[number].hear(self._data(number, charger), self.now)

    def _data(self, number: int, charger: Charger) -> EVChargerData:
        power = math.nan if charger.is_nan else charger.draw
        zero = (0.0, 0.0, 0.0)
        cable, state = EVChargerCableState.UNPLUGGED, EVChargerComponentState.READY
        if charger.connected:
            cable = EVChargerCableState.EV_LOCKED
            if charger.draw:
                state = EVChargerComponentState.CHARGING
        at = START + timedelta(seconds=self.now)
        return EVChargerData(
            number, at, power, zero, zero, 0.0, zero, (VOLTAGE / 3,) * 3,
            0.0, 0.0, charger.upper, 0.0, 50.0, cable, state,
        )  # fmt: skip

    def _look(self) -> None:
        voltages = {number: VOLTAGE for number, book in self.books.items() if book.data}
        commands = self.under_test.step(self.proposals, voltages, self.now)
        target = self.under_test.target
        for number in sorted(commands, key=lambda i: commands[i] - (self.books[i].limit or 0.0)):
            assert target is not None or self.under_test._releasing or not self.proposals
            self._send(number, commands[number], math.inf if target is None else target)
        self.under_test.conclude(self.now)

    def _send(self, number: int, watts: float, target: float) -> None:
        self.commands += 1
        charger, book = self.chargers[number], self.books[number]
        if book.data is not None and target < math.inf:
            assert watts <= book.data.active_power_inclusion_upper_bound
        # The client cancels an older attempt before the newer one starts.
        self.deliveries = [d for d in self.deliveries if d.charger != number]
        attempt = self.under_test.sent(number, watts, self.now)
        # Who is known to draw too much now: what is found out later cannot be asked for.
        overdraws = {n: b.draw for n, b in self.books.items() if b.overdraws(self.now)}
        delivery = _Delivery(self.now, number, attempt, watts, target, overdraws)
        match charger.fault:
            case "none":
                delivery.applies = True
            case "refused":
                delivery.failed = True
            case "lost":
                delivery.at, delivery.failed = self.now + TIMEOUT, True
            case "unanswered":
                self._apply(delivery)
                delivery.at, delivery.failed = self.now + TIMEOUT, True
            case "slow":
                delivery.at, delivery.applies = self.now + 2.5, True
        self.deliveries.append(delivery)

    def _deliver(self) -> None:
        due = sorted(d for d in self.deliveries if d.at <= self.now)
        self.deliveries = [d for d in self.deliveries if d.at > self.now]
        for delivery in due:
            if delivery.applies:
                self._apply(delivery)
            self.under_test.done(
                delivery.charger, delivery.attempt, self.now, failed=delivery.failed
            )

    # What must hold

    def _apply(self, delivery: _Delivery) -> None:
        """The server takes a set-point: this is where the rules are checked."""
        charger = self.chargers[delivery.charger]
        before = charger.upper if charger.held is None else charger.held
        charger.held = delivery.watts
        if math.isinf(delivery.target):
            return
        assert delivery.watts == 0 or delivery.watts >= SIX_AMPERES, "between zero and minimum"
        if delivery.watts > before:
            total = sum(
                max(charger.allowed, delivery.overdraws.get(n, 0.0))
                for n, charger in self.chargers.items()
            )
            target = max(delivery.target, self.under_test.target or 0.0)
            assert total <= target + 1e-6, f"{total} W held, {target} W allowed"

    def total_held(self) -> float:
        return sum(c.upper if c.held is None else c.held for c in self.chargers.values())
