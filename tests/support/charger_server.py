"""A server with a main meter and EV chargers, whose every answer and car a test decides."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from microgrid_sync.wire import v0_15_schema as schema
from tests.support.messages import component, data
from tests.support.server import ScriptedServer

METER = 2
RATING = 22_080.0


@dataclass
class ServedCharger:
    """One charger and its car."""

    held: float | None = None
    """The set-point that the server holds; ``None`` for none."""

    connected: bool = True
    wanted: float = 11_000.0
    """What the car takes if it may, in W."""

    factor: float = 1.0
    """How much of its limit it draws: more than 1 for a car that does not keep to it."""

    draw: float | None = None
    """What it draws, whatever its limit; by its limit unless given."""

    upper: float = RATING
    lower: float = 0.0
    excluded: float = 0.0
    voltages: tuple[float, float, float] = (230.0, 230.0, 230.0)
    without_data: bool = False
    """Whether its messages say nothing but their time."""

    def drawn(self) -> float:
        if self.draw is not None:
            return self.draw
        most = self.upper if self.held is None else min(self.held, self.upper)
        return min(most * self.factor, self.wanted * self.factor) if self.connected else 0.0


class ChargerServer(ScriptedServer):
    """Grid connection 1, main meter 2, and chargers from 11 on."""

    def __init__(self, count: int = 2, *, interval: float = 0.05) -> None:
        self.chargers = {11 + number: ServedCharger() for number in range(count)}
        super().__init__(
            component(1, "grid"),
            component(METER, "meter"),
            *(component(number, "ev_charger") for number in self.chargers),
        )
        self.interval = interval
        self.meter_voltages = (230.0, 230.0, 230.0)
        self.stream = self.measure
        self.sent: list[tuple[int, float]] = []
        """The set-points that have come, in their order."""
        self.holds: list[dict[int, float]] = []
        """What was held after each change."""
        self.handle: Callable[[int, float, grpc.ServicerContext], None] = self.hold
        self.answers["ListConnections"] = lambda *_: schema.ConnectionList(
            connections=[
                schema.Connection(start=1, end=METER),
                *(schema.Connection(start=METER, end=number) for number in self.chargers),
            ]
        )
        self.answers["SetPowerActive"] = self._take

    def _take(self, request: Any, context: grpc.ServicerContext) -> Empty:
        self.sent.append((request.component_id, request.power))
        self.handle(request.component_id, request.power, context)
        return Empty()

    def hold(self, charger: int, watts: float, context: grpc.ServicerContext | None = None) -> None:
        """Take a set-point."""
        del context
        self.chargers[charger].held = watts
        self.holds.append({n: c.held or 0.0 for n, c in self.chargers.items()})

    def hold_later(self, charger: int, watts: float, seconds: float) -> threading.Timer:
        """Take a set-point later, whoever has gone meanwhile."""
        timer = threading.Timer(seconds, self.hold, (charger, watts))
        timer.start()
        return timer

    def held(self) -> list[float]:
        return [charger.held or 0.0 for charger in self.chargers.values()]

    def total(self) -> float:
        return sum(self.held())

    def set_points(self, charger: int) -> list[float]:
        return [watts for number, watts in self.sent if number == charger]

    def measure(self, component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        while context.is_active() and not self.released.is_set():
            yield self.message(component_id).SerializeToString()
            self.released.wait(self.interval)

    def message(self, component_id: int) -> Any:
        message = data(component_id, self.category(component_id))
        message.ts.FromMicroseconds(time.time_ns() // 1000)
        body = message.meter if component_id == METER else message.ev_charger
        charger = self.chargers.get(component_id)
        if charger is not None and charger.without_data:
            message.ev_charger.ClearField("data")
            message.ev_charger.SetInParent()
            return message
        ac = body.data.ac
        voltages = self.meter_voltages if charger is None else charger.voltages
        draw = 0.0 if charger is None else charger.drawn()
        ac.power_active.value = draw
        for phase, volts in zip((ac.phase_1, ac.phase_2, ac.phase_3), voltages, strict=True):
            phase.voltage.value = volts
            phase.current.value = draw / 690.0
        if charger is not None:
            bounds = ac.power_active.system_inclusion_bounds
            bounds.lower, bounds.upper = charger.lower, charger.upper
            excluded = ac.power_active.system_exclusion_bounds
            excluded.lower, excluded.upper = -charger.excluded, charger.excluded
            state = message.ev_charger.state
            state.cable_state = 1
            if charger.connected:
                state.cable_state = 5
            state.component_state = 3
        return message
