"""Remembers what flows through a meter beside the chargers below it: the house. Pure.

Phases are 0 to 2, with currents in A; the fourth value is the power of all phases, in W. Import is
positive, and a house that exports counts with its sign.
"""

import enum
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from microgrid_sync.power.readings import Flow, PerPhase, shortest_silence
from microgrid_sync.power.rotation import Rotation

TOTAL = 3
"""The place of the power of all phases, beside the phases 0 to 2."""

Values = tuple[float, float, float, float]

RAISE_WINDOW = 60.0
"""Seconds of which the highest house counts when a charger is to be raised."""

SILENT_WINDOW = 900.0
"""Seconds of which the highest house counts when the meter is silent."""

_MINIMUM_AFTER, _ZERO_AFTER = 60.0, 300.0
"""Seconds of silence after which chargers get their minimum, and nothing."""

_FIRST_HEARD_WITHIN = 10.0
"""Seconds within which a meter must first be heard."""

_SETTLE = 2.0
"""Seconds in which meter and charger come to agree on a change that both measure."""

_NO_CURRENT = 0.5
"""A: a phase with less does not tell where its charger is connected."""


class Stage(enum.IntEnum):
    """How well a phase of a meter is known; the higher, the less chargers may have."""

    HEARD = 0
    HELD = 1
    """No new sample just now: nobody is raised."""

    OLD = 2
    """The highest house of the last while counts."""

    MINIMUM = 3
    """Chargers get their minimum, as many as fit."""

    NEVER_HEARD = 4
    """Chargers get what they draw."""

    ZERO = 5


class Sample(NamedTuple):
    """One sample of a meter, with what the chargers below drew then."""

    at: float
    values: Values
    """NaN where it lacks something."""

    chargers: Mapping[int, Flow]

    unmetered: Values = (0.0, 0.0, 0.0, 0.0)
    """What flows there besides, to chargers that no meter reads."""

    @property
    def total(self) -> Values:
        """What flows through the circuit."""
        one, two, three, power = (a + b for a, b in zip(self.values, self.unmetered, strict=True))
        return one, two, three, power


class _Highest:
    """The highest of the last while, as of its newest value."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._kept: deque[tuple[float, float]] = deque()

    def add(self, value: float, at: float) -> None:
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((at, value))
        while kept[0][0] <= at - self._window:
            kept.popleft()

    def value(self) -> float:
        return self._kept[0][1]


@dataclass
class _Known:
    """What is known of one phase, or of the total."""

    heard_at: float
    value: float
    recent: deque[tuple[float, float]]
    highest: _Highest
    highest_when_silent: _Highest

    def add(self, value: float, expected: float, at: float) -> None:
        """Take a value; a rise by what is expected of chargers is believed a moment later."""
        recent = self.recent
        recent.append((at, value))
        while recent[0][0] < at - _SETTLE:
            recent.popleft()
        self.heard_at = at
        self.value = max(min(v for _, v in recent), value - expected)
        self.highest.add(self.value, at)
        self.highest_when_silent.add(self.value, at)


class House:
    """What flows through one meter beside its chargers. Its owner's thread uses it."""

    def __init__(self, now: float, max_data_age: float) -> None:
        """Begin to listen.

        Args:
            now: The time.
            max_data_age: Seconds after which the newest sample is too old.
        """
        self.begun_at = now
        """When it began to listen."""
        self._max_data_age = max_data_age
        self._known: list[_Known | None] = [None] * 4
        self._history: deque[Sample] = deque()
        self.frozen_since: float | None = None
        """Since when the values stand still although chargers change."""
        self.interval = 1.0
        """Seconds between two samples, usually."""

    @property
    def newest(self) -> Sample | None:
        """The newest sample."""
        return self._history[-1] if self._history else None

    def take(
        self,
        sample: Sample,
        rotation_of: Callable[[int], Rotation],
        expected: Values = (0.0, 0.0, 0.0, 0.0),
    ) -> None:
        """Take a sample.

        Args:
            sample: The sample.
            rotation_of: Gives the rotation of a charger against this meter.
            expected: By how much chargers may draw more than they have said, or less.
        """
        newest = self.newest
        # A sample a second is enough of a history.
        if newest is None or int(sample.at) != int(newest.at):
            self._history.append(sample)
        else:
            self._history[-1] = sample
        while self._history[0].at < sample.at - SILENT_WINDOW:
            self._history.popleft()
        self._add(sample, rotation_of, expected)

    def _add(
        self, sample: Sample, rotation_of: Callable[[int], Rotation], expected: Values
    ) -> None:
        house = beside(sample, rotation_of)
        for place, value in enumerate(house):
            if math.isnan(value):
                continue
            known = self._known[place]
            if known is None:
                known = _Known(
                    sample.at, value, deque(), _Highest(RAISE_WINDOW), _Highest(SILENT_WINDOW)
                )
                self._known[place] = known
            known.add(value, expected[place], sample.at)

    def recompute(self, rotation_of: Callable[[int], Rotation]) -> None:
        """Find the house of the last while anew, as a rotation is another one now."""
        self._known = [None] * 4
        for sample in self._history:
            self._add(sample, rotation_of, (0.0, 0.0, 0.0, 0.0))

    def stage(self, place: int, now: float) -> Stage:
        """Tell how well a phase, or the total, is known."""
        known = self._known[place]
        if known is None:
            waited = now - self.begun_at
            return Stage.NEVER_HEARD if waited < _FIRST_HEARD_WITHIN else Stage.ZERO
        age = now - (known.heard_at if self.frozen_since is None else self.frozen_since)
        if age >= _ZERO_AFTER:
            return Stage.ZERO
        if age >= _MINIMUM_AFTER:
            return Stage.MINIMUM
        if age >= self._max_data_age:
            return Stage.OLD
        heard = age < shortest_silence(self.interval, self._max_data_age)
        return Stage.HEARD if heard else Stage.HELD

    def value(self, place: int, now: float) -> float:
        """Give the house for decreases: the newest, or the highest of a while if it is too old.

        Returns:
            NaN if the meter was never heard there.
        """
        known = self._known[place]
        if known is None:
            return math.nan
        is_old = self.stage(place, now) >= Stage.OLD
        return known.highest_when_silent.value() if is_old else known.value

    def value_for_raises(self, place: int, now: float) -> float:
        """Give the house for raises: the highest of the last minute; NaN if never heard."""
        known = self._known[place]
        if known is None:
            return math.nan
        return max(known.highest.value(), self.value(place, now))


def beside(sample: Sample, rotation_of: Callable[[int], Rotation]) -> Values:
    """Give what flows through a meter beside the chargers."""
    one, two, three, power = sample.values
    for number, flow in sample.chargers.items():
        if flow.power > 0:
            power -= flow.power
        if flow.has_phases and max(flow.currents) > 0:
            a, b, c = explained(flow.currents, rotation_of(number))
            one, two, three = one - a, two - b, three - c
    return one, two, three, power


def explained(currents: PerPhase, rotation: Rotation) -> PerPhase:
    """Give what a charger explains of the currents of a meter.

    If it is not known where it is connected, the smallest of its currents on each phase: nothing
    for a car with one or two phases, whose draw stays in the house.
    """
    if not is_located(currents, rotation):
        least = max(0.0, min(currents))
        return least, least, least
    found = [0.0, 0.0, 0.0]
    for ampere, phase in zip(currents, rotation, strict=True):
        if phase is not None:
            found[phase] = ampere
    return found[0], found[1], found[2]


def is_located(currents: PerPhase, rotation: Rotation) -> bool:
    """Tell whether it is known on which phases of a meter a charger draws."""
    return all(
        phase is not None or ampere <= _NO_CURRENT
        for ampere, phase in zip(currents, rotation, strict=True)
    )
