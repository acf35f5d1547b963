"""Simulates the public grid at a site's connection."""

from microgrid_sync.simulator.physics.electricity import ALL_PHASES, Flow, Line
from microgrid_sync.simulator.physics.randomness import Fluctuation, generator


class Supply:
    """The public grid at the site's connection."""

    def __init__(self, seed: int, *, voltage: float, frequency: float, resistance: float) -> None:
        """Make a grid.

        Args:
            seed: The site's seed.
            voltage: Between each phase and neutral when nothing flows, in V.
            frequency: The nominal frequency, in Hz.
            resistance: Of each phase up to the site, in ohm: what makes the voltage sag.
        """
        self._voltage = voltage
        self._frequency = frequency
        self._resistance = resistance
        chance = generator(seed, "supply")
        self._common = Fluctuation(chance, deviation=0.005 * voltage, persistence=900.0)
        self._phases = [
            Fluctuation(chance, deviation=0.002 * voltage, persistence=20.0) for _ in ALL_PHASES
        ]
        self._frequency_drift = Fluctuation(chance, deviation=0.015, persistence=30.0)

    def advance(self, seconds: float, drawn: Flow) -> Line:
        """Live on for some seconds; give what is offered while some power is drawn.

        The current in each phase, its sign included, takes its part of the voltage away; never
        more than half of it, and adds no more than that.
        """
        common = self._common.advance(seconds)
        drops = (self._resistance * power / self._voltage for power in drawn.active)
        one, two, three = (
            min(
                max(self._voltage + common + phase.advance(seconds) - drop, self._voltage / 2),
                self._voltage * 1.5,
            )
            for phase, drop in zip(self._phases, drops, strict=True)
        )
        return Line((one, two, three), self._frequency + self._frequency_drift.advance(seconds))
