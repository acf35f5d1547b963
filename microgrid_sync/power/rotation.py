"""Finds which phase of a meter each phase of a charger is, from steps of their currents. Pure.

Electricians rotate the phases from charger to charger, so that cars with one phase do not all load
the same one. When the current of a charger steps by more on one of its phases than on another, and
the currents of the meter step as well, the step tells: a likelihood for each of the six orders.
"""

import functools
import itertools
import math
from collections import deque
from collections.abc import Sequence

Rotation = tuple[int | None, int | None, int | None]
"""For each phase of a charger the phase of the meter, 0 to 2; ``None`` where that is not known."""

UNKNOWN: Rotation = (None, None, None)

_ORDERS = tuple((a, b, c) for a, b, c in itertools.permutations(range(3)))

_LEAST_STEP = 2.0
"""A: a step tells something if the phases of a charger differ in it by so much."""

_STEADY = 0.5
"""A: a current that changes by less between two samples stands still."""

_LONGEST = 15.0, 8
"""Seconds, and samples, within which a step must be over: later the house has changed, too."""

_NOISE, _NOISE_SHARE = 0.6, 0.08
"""What the rest of the house changes by meanwhile, usually: in A, and as a share of the step."""

_ODD_SHARE, _ODD_RANGE = 0.1, 80.0
"""So often it changes by anything, within so many A."""

_MOST_OF_ONE_STEP = 4.7
"""What one step may say, as a logarithm of a likelihood: it takes several, whatever their size."""

_CERTAIN, _DOUBTFUL = 14.0, 4.0
"""Logarithms of likelihoods: one to a million is certain; with less than one to fifty, what was
found is dropped again."""

_REMEMBERED = 30.0
"""No order is ever less likely than that: what was certain for a year can be contradicted."""


class RotationSearch:
    """Finds the rotation of one charger against one meter. Its owner's thread uses it."""

    def __init__(self, given: Rotation | None = None) -> None:
        """Know nothing, or what somebody says.

        Args:
            given: What somebody says; it stays.
        """
        self.found: Rotation = UNKNOWN if given is None else given
        """What is certain."""

        self.is_given = given is not None
        """Whether somebody says so."""

        self._scores = dict.fromkeys(_ORDERS, 0.0)
        self._samples: deque[tuple[float, Sequence[float], Sequence[float]]] = deque(maxlen=12)
        self._is_certain = dict.fromkeys(itertools.product(range(3), range(3)), False)

    def update(self, meter: Sequence[float], charger: Sequence[float], now: float) -> bool:
        """Take the currents of the three phases of both, in A, at one sample of the meter.

        Args:
            meter: Those of the meter, less what other chargers of known rotation explain.
            charger: Those of the charger.
            now: The time.

        Returns:
            Whether something else is certain now.
        """
        if not all(map(math.isfinite, (*meter, *charger))):
            self._samples.clear()
            return False
        samples = self._samples
        samples.append((now, meter, charger))
        seconds, count = _LONGEST
        while len(samples) > 4 and (len(samples) > count and now - samples[0][0] > seconds):
            samples.popleft()
        step = self._step()
        if step is None:
            return False
        self._judge(*step)
        last = samples[-1]
        samples.clear()
        samples.append(last)
        return self._find()

    def skip(self) -> None:
        """Forget the last samples: something else is stepping, too."""
        self._samples.clear()

    def _step(self) -> tuple[list[float], list[float]] | None:
        """Give a step that is over: what the meter and the charger changed by."""
        samples = self._samples
        if len(samples) < 4 or not _is_steady(samples[-1][2], samples[-2][2]):
            return None
        after = samples[-1]
        # From the latest steady moment before: the less time has passed, the less else has changed.
        for at in range(len(samples) - 4, -1, -1):
            first, second = samples[at], samples[at + 1]
            if not _is_steady(first[2], second[2]):
                continue
            changes = [b - a for a, b in zip(second[2], after[2], strict=True)]
            if max(changes) - min(changes) >= _LEAST_STEP:
                meters = [b - a for a, b in zip(second[1], after[1], strict=True)]
                return meters, changes
        return None

    def _judge(self, meter: Sequence[float], charger: Sequence[float]) -> None:
        size = max(map(abs, charger))
        logs = {order: _log_likelihood(order, meter, charger, size) for order in _ORDERS}
        best = max(logs.values())
        for order, log in logs.items():
            self._scores[order] += max(log - best, -_MOST_OF_ONE_STEP)
        highest = max(self._scores.values())
        self._scores = {o: max(s - highest, -_REMEMBERED) for o, s in self._scores.items()}

    def _find(self) -> bool:
        found: list[int | None] = [None, None, None]
        for (of_charger, of_meter), was_certain in self._is_certain.items():
            yes = max(s for o, s in self._scores.items() if o[of_charger] == of_meter)
            no = max(s for o, s in self._scores.items() if o[of_charger] != of_meter)
            certain = yes - no >= (_DOUBTFUL if was_certain else _CERTAIN)
            self._is_certain[of_charger, of_meter] = certain
            if certain:
                found[of_charger] = of_meter
        before, self.found = self.found, (found[0], found[1], found[2])
        return before != self.found


def _is_steady(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) < _STEADY for a, b in zip(one, other, strict=True))


def _log_likelihood(
    order: Sequence[int], meter: Sequence[float], charger: Sequence[float], size: float
) -> float:
    rest = list(meter)
    for of_charger, of_meter in enumerate(order):
        rest[of_meter] -= charger[of_charger]
    # What is the same on all three phases says nothing: a battery may have answered the step.
    common = sorted(rest)[1]
    deviation = _NOISE + _NOISE_SHARE * size
    return sum(_log_density(round(r - common, 2), round(deviation, 2)) for r in rest)


@functools.lru_cache(maxsize=4096)
def _log_density(ampere: float, deviation: float) -> float:
    normal = math.exp(-((ampere / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    return math.log((1 - _ODD_SHARE) * normal + _ODD_SHARE / _ODD_RANGE)


def parse_rotation(text: str) -> Rotation:
    """Read a rotation such as ``"L2L3L1"``: the charger's first phase is the second one.

    Raises:
        ValueError: If it is none of the six orders.
    """
    for order in _ORDERS:
        if text == rotation_name(order):
            return order
    known = ", ".join(sorted(rotation_name(order) for order in _ORDERS))
    raise ValueError(f"a phase rotation is one of {known}, not {text!r}")


def rotation_name(order: Sequence[int | None]) -> str:
    """Write a rotation, such as ``"L2L3L1"``; ``"L?"`` for what is not known."""
    return "".join("L?" if phase is None else f"L{phase + 1}" for phase in order)
