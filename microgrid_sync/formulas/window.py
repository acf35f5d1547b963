"""Resamples what a component measured: one value a window, and none if it is missing. Pure."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from microgrid_sync.formulas.metrics import getter
from microgrid_sync.model import ComponentMetricId
from microgrid_sync.model.shown import Shown

_START_UP = 3
"""Periods within which a component may still send its first message."""


@dataclass(frozen=True, repr=False)
class Resampling(Shown):
    """How the values of a resampling period become one."""

    max_age_periods: float = 3
    """How many periods a value stands for what is measured now, 1 or more. A component of which
    nothing newer has come is missing then."""

    method: Literal["mean", "last", "min", "max"] = "mean"
    """Which value a period has, of all that came in it, the mean, the last one, the smallest or the
    largest."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            TypeError: If the age is no number.
            ValueError: If the age is less than 1 or infinite, or there is no such method.
        """
        age = self.max_age_periods
        if isinstance(age, bool) or not isinstance(age, int | float):
            raise TypeError(f"max_age_periods must be a number, not {age!r}")
        if not 1 <= age < math.inf:
            raise ValueError(f"max_age_periods must be 1 or more, and finite, not {age!r}")
        if self.method not in _METHODS:
            raise ValueError(f"method must be one of {', '.join(_METHODS)}, not {self.method!r}")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _last(values: Sequence[float]) -> float:
    return values[-1]


_METHODS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": _mean,
    "last": _last,
    "min": min,
    "max": max,
}


class Window:
    """What is remembered of one component from window to window."""

    def __init__(self, now: float, resampling: Resampling = Resampling()) -> None:
        """Begin.

        Args:
            now: The time on the monotonic clock, in seconds.
            resampling: How values become one.
        """
        self._began = now
        self._resampling = resampling
        self._newest: datetime | None = None
        self._heard: float | None = None
        self._coming: list[Any] = []
        self._held: Sequence[Any] = ()
        self._values: dict[ComponentMetricId, float | None] = {}
        self._is_missing = True

    def is_pending(self, now: float, period: float) -> bool:
        """Tell whether it has never been heard of, and may still be within its time."""
        return self._heard is None and now - self._began < _START_UP * period

    def add(self, data: Iterable[Any]) -> None:
        """Take what has arrived, oldest first.

        What does not have a later timestamp than the one before it does not count: it is old, or
        its sender's clock stands still.
        """
        for value in data:
            if self._newest is None or value.timestamp > self._newest:
                self._coming.append(value)
            self._newest = value.timestamp

    def close(self, now: float, period: float) -> None:
        """Close a window, and open the next.

        Args:
            now: The time on the monotonic clock, in seconds.
            period: The length of a window in seconds.
        """
        if self._coming:
            self._heard = now
            self._held, self._coming = self._coming, []
            self._values = {}
        # Half a period of tolerance: windows close when the loop wakes, not on the dot.
        most = (self._resampling.max_age_periods - 0.5) * period
        self._is_missing = self._heard is None or now - self._heard >= most

    def value(self, metric: ComponentMetricId) -> float | None:
        """Give what a metric was in the window that was closed last.

        Returns:
            The value, numbers that are not finite left out. Without new data that of the last
                window with data, until that is too old.
        """
        if self._is_missing:
            return None
        if metric not in self._values:
            self._values[metric] = self._resample(metric)
        return self._values[metric]

    def _resample(self, metric: ComponentMetricId) -> float | None:
        get = getter(type(self._held[0]), metric)
        if get is None:
            return None
        finite = [value for value in map(get, self._held) if math.isfinite(value)]
        return _METHODS[self._resampling.method](finite) if finite else None
