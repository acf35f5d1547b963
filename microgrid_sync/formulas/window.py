"""Averages what a component measured in one window, and tells when it is missing. Pure."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from microgrid_sync.model import ComponentData, EVChargerData, InverterData, MeterData

MISSING_AFTER = 3
"""Periods without a message after which a component counts as missing."""

METRICS = 4
"""Active power in W, and the current of each phase in A."""

Measurement = Sequence[float | None]
"""A value for each metric, or ``None``."""

NOTHING: Measurement = (None,) * METRICS


class Window:
    """What is remembered of one component from window to window."""

    def __init__(self, now: float) -> None:
        """Begin.

        Args:
            now: The time on the monotonic clock, in seconds.
        """
        self._began = now
        self._newest: datetime | None = None
        self._heard: float | None = None
        self._held: Measurement = NOTHING

    def is_pending(self, now: float, period: float) -> bool:
        """Tell whether it has never been heard of, and may still be within its time."""
        return self._heard is None and now - self._began < MISSING_AFTER * period

    def close(self, data: Iterable[ComponentData], now: float, period: float) -> Measurement:
        """Close a window.

        Args:
            data: What has arrived in it, oldest first. What does not have a later timestamp than
                the one before it does not count: it is old, or its sender's clock stands still.
            now: The time on the monotonic clock, in seconds.
            period: The length of a window in seconds.

        Returns:
            The averages, values that are not finite left out. Without new data those of the last
                window with data, until that is three periods ago.
        """
        fresh = []
        for value in data:
            if self._newest is None or value.timestamp > self._newest:
                fresh.append(_metrics(value))
            self._newest = value.timestamp
        if fresh:
            self._heard = now
            self._held = tuple(_average(column) for column in zip(*fresh, strict=True))
        # Half a period of tolerance: windows close when the loop wakes, not on the dot.
        if self._heard is None or now - self._heard >= (MISSING_AFTER - 0.5) * period:
            return NOTHING
        return self._held


def _metrics(data: ComponentData) -> tuple[float, ...]:
    if isinstance(data, MeterData | InverterData | EVChargerData):
        return (data.active_power, *data.current_per_phase)
    return (math.nan,) * METRICS


def _average(column: Sequence[float]) -> float | None:
    finite = [value for value in column if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None
