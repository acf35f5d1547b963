"""Judges what users pass in, before anything is done with it."""

import math
import operator

_LARGEST_ID = 2**64 - 1
"""IDs are unsigned 64-bit integers."""

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


def check_finite(name: str, value: float) -> float:
    """Check a number that a command sends.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not finite.
    """
    number = _number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return number


def check_timeout(value: float) -> float:
    """Check how long a call may take.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive, or too long for gRPC's clock.
    """
    number = _number("timeout", value)
    if not 0 < number <= _LONGEST_TIMEOUT:
        raise ValueError(
            f"timeout must be a positive number of seconds up to {_LONGEST_TIMEOUT:g}, "
            f"not {value!r}"
        )
    return number
