"""Keeps the clock of a site in step with the clock of the machine."""

import math

LONGEST_LAG = 1.0
"""Seconds of the machine that a clock may fall behind and still catch up."""


class Pace:
    """Where a site's clock should be, at a fixed speed. The machine's time is passed in.

    A machine that cannot keep up, or that was asleep, makes the site's clock slow; nothing of the
    site's life is left out.
    """

    def __init__(self, speed: float) -> None:
        """Stand at second 0.

        Args:
            speed: Seconds of the site for each second of the machine, more than 0.
        """
        self.speed = speed
        self._site = 0.0
        self._machine = 0.0

    def begin(self, site: float, machine: float) -> None:
        """Let the site's clock run on from a second of its own."""
        self._site, self._machine = site, machine

    def due(self, site: float) -> float:
        """Give the second of the machine at which the site's clock is at one of its own."""
        return self._machine + (site - self._site) / self.speed

    def site_time(self, machine: float) -> float:
        """Give the second of the site at a second of the machine."""
        return self._site + (machine - self._machine) * self.speed

    def fall_back(self, site: float, machine: float) -> None:
        """Take note that the site is only now where it should have been; give up a long lag."""
        if math.isfinite(site) and machine - self.due(site) > LONGEST_LAG:
            self.begin(site, machine)
