"""Decides when to try again: policies for unary calls, strategies for streams."""

import abc
import math
import random
import threading
from collections.abc import Iterator
from typing import Any, Self, cast

import tenacity

from microgrid_sync.exceptions import ApiClientError, ClientNotConnected, ServiceUnavailable


def _may_help(error: BaseException) -> bool:
    """Tell whether a unary call may succeed when it is tried again."""
    return (
        isinstance(error, ApiClientError)
        and error.is_retryable
        and not isinstance(error, ClientNotConnected)
    )


RETRY_IF_RETRYABLE = tenacity.retry_if_exception(_may_help)
"""Tries again after an error of the API that is retryable, unless there is no connection."""

DEFAULT_CALL_RETRY = tenacity.Retrying(
    stop=tenacity.stop_after_attempt(4),
    wait=tenacity.wait_random_exponential(multiplier=0.1),
    retry=RETRY_IF_RETRYABLE,
    reraise=True,
)
"""How unary calls are retried unless told otherwise: 4 attempts at the most, with a random pause
of up to 0.1 s, 0.2 s, 0.4 s between them, as long as the call's timeout leaves time for it."""

# What a policy has as `retry` when nobody gave it one.
_UNSPECIFIED_RETRY = tenacity.Retrying().retry


_UNREACHABLE_PAUSE = 0.25
"""Seconds between two attempts at the least if the server could not be reached: so long gRPC itself
makes no new attempt to connect, and a call fails at once."""

_LEAST_TIME = 0.01
"""Seconds: an attempt with less time than this left is not worth starting."""


def for_one_call(
    policy: tenacity.Retrying, *, seconds: float, ended: threading.Event
) -> tenacity.Retrying:
    """Fit a user's policy to one call.

    Args:
        policy: The policy. One that does not say what to retry retries what is retryable.
        seconds: The time that is left for the call; no attempt starts after it.
        ended: Set when no further attempt may start; it cuts a pause short.

    Returns:
        A policy for this call alone, which raises the last real error.
    """
    unspecified = policy.retry is _UNSPECIFIED_RETRY

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        least = _UNREACHABLE_PAUSE if isinstance(error, ServiceUnavailable) else 0.0
        return max(least, float(policy.wait(state)))

    return policy.copy(
        wait=wait,
        sleep=tenacity.sleep_using_event(ended),
        stop=tenacity.stop_any(
            cast("Any", policy.stop),  # may be any function; typed too narrowly
            tenacity.stop_before_delay(seconds - _LEAST_TIME),
            tenacity.stop_when_event_set(ended),
        ),
        # Nothing but an error of the API is ever a reason: neither Ctrl-C nor an answer.
        retry=tenacity.retry_all(
            tenacity.retry_if_exception_type(ApiClientError),
            cast("Any", RETRY_IF_RETRYABLE if unspecified else policy.retry),
        ),
        reraise=True,
        retry_error_callback=None,
    )


class Strategy(abc.ABC):
    """How long a stream waits before it reconnects, and how often it does so."""

    def __init__(self, *, jitter: float, limit: int | None) -> None:
        """Start counting.

        Args:
            jitter: Seconds up to which each interval is lengthened at random.
            limit: How often to reconnect; ``None`` for as often as it takes.

        Raises:
            ValueError: If one of them is negative or not a number.
        """
        _require_seconds("jitter", jitter)
        if limit is not None and (
            not isinstance(limit, int) or isinstance(limit, bool) or limit < 0
        ):
            raise ValueError(f"limit must be an integer, 0 or more, or None, not {limit!r}")
        self._jitter = jitter
        self._limit = limit
        self._count = 0

    @abc.abstractmethod
    def _interval(self) -> float:
        """Give the seconds of this interval without jitter; `_count` intervals came before."""

    @abc.abstractmethod
    def copy(self) -> Self:
        """Give a strategy with the same settings that has not been used yet."""

    def next_interval(self) -> float | None:
        """Count an attempt.

        Returns:
            How many seconds to wait before it; ``None`` if there are no attempts left.
        """
        if self._limit is not None and self._count >= self._limit:
            return None
        interval = self._interval() + random.uniform(0.0, self._jitter)  # noqa: S311 - no secret
        self._count += 1
        return interval

    def get_progress(self) -> str:
        """Give the attempts made and those allowed, such as ``(2/5)`` or ``(2/∞)``."""
        return f"({self._count}/{'∞' if self._limit is None else self._limit})"

    def reset(self) -> None:
        """Start counting afresh."""
        self._count = 0

    def __iter__(self) -> Iterator[float]:
        """Give the intervals until there are no attempts left."""
        while (interval := self.next_interval()) is not None:
            yield interval


class LinearBackoff(Strategy):
    """Waits the same time before each attempt."""

    def __init__(
        self, interval: float = 3.0, jitter: float = 1.0, limit: int | None = None
    ) -> None:
        """Make a strategy.

        Args:
            interval: Seconds before each attempt.
            jitter: Seconds up to which each interval is lengthened at random.
            limit: How often to reconnect; ``None`` for as often as it takes.

        Raises:
            ValueError: If one of them is negative or not a number.
        """
        super().__init__(jitter=jitter, limit=limit)
        _require_seconds("interval", interval)
        self._fixed_interval = interval

    def _interval(self) -> float:
        return self._fixed_interval

    def copy(self) -> Self:
        """Give a strategy with the same settings that has not been used yet."""
        return type(self)(self._fixed_interval, self._jitter, self._limit)

    def __repr__(self) -> str:
        """Name the settings."""
        return (
            f"LinearBackoff(interval={self._fixed_interval}, jitter={self._jitter}, "
            f"limit={self._limit})"
        )


class ExponentialBackoff(Strategy):
    """Waits longer before each attempt, up to a longest time."""

    def __init__(
        self,
        initial_interval: float = 3.0,
        max_interval: float = 60.0,
        multiplier: float = 2.0,
        jitter: float = 1.0,
        limit: int | None = None,
    ) -> None:
        """Make a strategy.

        Args:
            initial_interval: Seconds before the first attempt.
            max_interval: Seconds that no interval exceeds, its jitter not counted.
            multiplier: How many times longer each interval is than the one before, 1 or more.
            jitter: Seconds up to which each interval is lengthened at random.
            limit: How often to reconnect; ``None`` for as often as it takes.

        Raises:
            ValueError: If one of them is negative or not a number, or the multiplier below 1.
        """
        super().__init__(jitter=jitter, limit=limit)
        _require_seconds("initial_interval", initial_interval)
        _require_seconds("max_interval", max_interval)
        if not (math.isfinite(multiplier) and multiplier >= 1):
            raise ValueError(f"multiplier must be 1 or more, not {multiplier!r}")
        self._initial_interval = initial_interval
        self._max_interval = max_interval
        self._multiplier = multiplier

    def _interval(self) -> float:
        try:
            growth = self._multiplier**self._count
        except OverflowError:
            # After months of attempts the power is beyond a float, and far beyond the maximum.
            return self._max_interval if self._initial_interval else 0.0
        return min(self._initial_interval * growth, self._max_interval)

    def copy(self) -> Self:
        """Give a strategy with the same settings that has not been used yet."""
        return type(self)(
            self._initial_interval,
            self._max_interval,
            self._multiplier,
            self._jitter,
            self._limit,
        )

    def __repr__(self) -> str:
        """Name the settings."""
        return (
            f"ExponentialBackoff(initial_interval={self._initial_interval}, "
            f"max_interval={self._max_interval}, multiplier={self._multiplier}, "
            f"jitter={self._jitter}, limit={self._limit})"
        )


def _require_seconds(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")
