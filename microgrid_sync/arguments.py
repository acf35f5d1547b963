"""Judges what users pass in, before anything is done with it."""

import math
import operator
from collections.abc import Collection
from datetime import timedelta

_LARGEST_ID = 2**64 - 1
"""IDs are unsigned 64-bit integers."""

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
"""The largest number that a 32-bit float holds (IEEE 754, binary32)."""

_LONGEST_LIFETIME = 900
"""Seconds, of set-points and bounds (v1alpha18)."""

_LONGEST_TIMEOUT = 1e8
"""Three years, in seconds; gRPC's clock overflows with much more."""


def check_component_id(value: int) -> int:
    """Check an ID; any kind of integer will do, numpy's too.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is negative, or too large.
    """
    if isinstance(value, bool):
        raise TypeError(f"a component ID must be an integer, not {value!r}")
    try:
        component_id = operator.index(value)
    except TypeError:
        raise TypeError(f"a component ID must be an integer, not {value!r}") from None
    if not 0 <= component_id <= _LARGEST_ID:
        raise ValueError(f"a component ID must be 0 to {_LARGEST_ID}, not {component_id}")
    return component_id


def _number(name: str, value: float) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r}") from None
    except OverflowError:
        # An integer beyond every float; not finite, as far as a number of W is concerned.
        return math.inf


def check_float32(name: str, value: float) -> float:
    """Check a number that a command sends: all APIs have numbers of 32 bits.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not finite, or too large.
    """
    number = _number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    if abs(number) > FLOAT32_MAX:
        raise ValueError(
            f"{name} must be between -{FLOAT32_MAX:.7e} and {FLOAT32_MAX:.7e}, not {value!r}: "
            "the API has 32-bit numbers"
        )
    return number


def check_lifetime(value: float | timedelta | None, *, least: int) -> int | None:
    """Check for how long a command holds.

    Args:
        value: Seconds, or a `timedelta`; ``None`` leaves it to the server.
        least: The shortest that the API takes, in s.

    Returns:
        Whole seconds, rounded up.

    Raises:
        TypeError: If it is neither a number nor a `timedelta`.
        ValueError: If it is too short or too long.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else _number("lifetime", value)
    if not least <= seconds <= _LONGEST_LIFETIME:
        raise ValueError(f"lifetime must be {least} to {_LONGEST_LIFETIME} seconds, not {value!r}")
    return math.ceil(seconds)


def check_metrics(value: Collection[int] | None) -> frozenset[int]:
    """Check the metrics that somebody wants to receive.

    Returns:
        Their numbers; none for all.

    Raises:
        TypeError: If one of them is no integer.
        ValueError: If there is none, or one that cannot be a metric.
    """
    if value is None:
        return frozenset()
    if isinstance(value, int | str | bytes) or not isinstance(value, Collection):
        raise TypeError(f"metrics must be a collection of Metric, or None, not {value!r}")
    try:
        metrics = frozenset(operator.index(metric) for metric in value)
    except TypeError:
        raise TypeError(f"metrics must be of Metric, not {value!r}") from None
    if not metrics:
        raise ValueError("metrics must name at least one; None means all")
    wrong = [metric for metric in metrics if not 0 < metric < 2**31]
    if wrong:
        raise ValueError(f"a metric must be 1 to {2**31 - 1}, not {wrong[0]}")
    return metrics


def check_token(value: str) -> None:
    """Check the token of bounds.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"a token must be a string, not {value!r}")
    if not value:
        raise ValueError("a token must not be empty")


def check_timeout(value: float, name: str = "timeout") -> float:
    """Check how long a call may take.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive, or too long for gRPC's clock.
    """
    number = _number(name, value)
    if not 0 < number <= _LONGEST_TIMEOUT:
        raise ValueError(
            f"{name} must be a positive number of seconds up to {_LONGEST_TIMEOUT:g}, not {value!r}"
        )
    return number
