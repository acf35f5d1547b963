"""Simulates appliances that people and thermostats switch: kettles, ovens, heat pumps."""

from dataclasses import dataclass, field

from microgrid_sync.simulator.physics.devices import Moment
from microgrid_sync.simulator.physics.electricity import NO_FLOW, Flow, spread
from microgrid_sync.simulator.physics.randomness import generator

_DAY = 86_400.0


@dataclass
class Appliance:
    """Something that is switched on now and then, and off again after a while."""

    power: float
    """What it draws when it is on, in W."""

    phases: tuple[int, ...] = (1, 2, 3)
    times: float = 4.0
    """How often it is switched on in a day, on the average."""

    lasts: tuple[float, float] = (120.0, 240.0)
    """How long it stays on, in s: the least and the most."""

    hours: tuple[float, float] = (0.0, _DAY)
    """The seconds of the local day between which it is switched on; over midnight if they end
    before they begin."""

    inrush: float = 1.0
    """How many times its power it draws at first, as motors do."""

    inrush_lasts: float = 1.0
    """For how many seconds."""

    reactive: float = 0.0
    """Its reactive power as a share of the active one; negative is inductive."""

    seed: tuple[object, ...] = (0,)
    """What its chance comes from."""

    flow: Flow = field(default=NO_FLOW, init=False)
    """What flows now."""

    def __post_init__(self) -> None:
        """Wait for the first time."""
        seed, *what = self.seed
        self._chance = generator(int(str(seed)), "appliance", *what)
        self._waits = self._next_wait()
        self._on_since: float | None = None
        self._off_at = 0.0

    def _next_wait(self) -> float:
        """Draw the seconds, of those in which it may be switched on, until it is."""
        begin, end = self.hours
        seconds = end - begin if end > begin else end - begin + _DAY
        return self._chance.expovariate(self.times / seconds)

    def advance(self, moment: Moment) -> Flow:
        """Live on until a moment; give what flows then."""
        now = moment.now
        if self._on_since is not None and now >= self._off_at:
            self._on_since = None
        if self._on_since is None and self._may_be_switched_on(moment):
            self._waits -= moment.seconds
            if self._waits <= 0:
                self._on_since = now
                self._off_at = now + self._chance.uniform(*self.lasts)
                self._waits = self._next_wait()
        self.flow = self._flow(now)
        return self.flow

    def _may_be_switched_on(self, moment: Moment) -> bool:
        time = moment.time
        second = time.hour * 3600.0 + time.minute * 60.0 + time.second
        begin, end = self.hours
        return begin <= second < end if begin < end else second >= begin or second < end

    def _flow(self, now: float) -> Flow:
        if self._on_since is None:
            return NO_FLOW
        power = self.power
        if now - self._on_since < self.inrush_lasts:
            power *= self.inrush
        one, two, three = spread(power, self.phases)
        factor = self.reactive
        return Flow((one, two, three), (factor * one, factor * two, factor * three))
