"""Makes chance that comes out the same each time: all at a site is drawn from its seed."""

import math
import random


def generator(seed: int, *what: object) -> random.Random:
    """Make the generator for one use, independent of those for all others.

    Args:
        seed: The site's seed.
        what: What it is for, such as ``"clouds"``.
    """
    return random.Random(":".join(str(part) for part in (seed, *what)))  # noqa: S311 - no secrets


class Fluctuation:
    """A value that strays from its mean and finds back to it (an Ornstein-Uhlenbeck process).

    It is exact for steps of any length, so that how often it is looked at does not change how far
    it strays.
    """

    def __init__(self, chance: random.Random, *, deviation: float, persistence: float) -> None:
        """Begin somewhere typical.

        Args:
            chance: Where its randomness comes from.
            deviation: Its standard deviation; the mean is 0.
            persistence: Seconds after which it has half forgotten where it was (e-fold).
        """
        self._chance = chance
        self._deviation = deviation
        self._persistence = persistence
        self.value = chance.gauss(0.0, deviation)

    def advance(self, seconds: float) -> float:
        """Live on for some seconds; give the value then."""
        if seconds > 0:
            kept = math.exp(-seconds / self._persistence)
            fresh = self._deviation * math.sqrt(1.0 - kept * kept)
            self.value = kept * self.value + self._chance.gauss(0.0, fresh)
        return self.value
