"""Makes values of parts of messages, the same in all generations."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

MOST_ERRORS = 100
"""Errors of one component that are read; honest ones have a handful."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds())
_LAST_SECOND = int((datetime.max.replace(tzinfo=UTC) - _EPOCH).total_seconds())


def value_of(kind: type[T], fields: dict[str, Any]) -> T:
    """Make a frozen value of all its fields; its own ``__init__`` sets them one by one."""
    value = object.__new__(kind)
    object.__setattr__(value, "__dict__", fields)
    return value


def check_time(stamp: Any) -> None:
    """Check that a timestamp is a time, without making it.

    Raises:
        ValueError: If it is none that `time_of` can give.
    """
    seconds = stamp.seconds
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise ValueError(f"a timestamp of {seconds} s, outside of the years 1 to 9999")
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise ValueError(f"a timestamp with {stamp.nanos} ns")


def time_of(stamp: Any) -> datetime:
    """Give a timestamp in UTC, to the microsecond; ``ToDatetime`` takes five times as long.

    Raises:
        ValueError: If its nanoseconds are not within a second.
        OverflowError: If it is outside of the years that a `datetime` knows.
    """
    nanoseconds = stamp.nanos
    if not 0 <= nanoseconds < 1_000_000_000:
        raise ValueError(f"a timestamp with {nanoseconds} ns")
    return _EPOCH + timedelta(0, stamp.seconds, nanoseconds // 1000)


def time_in(message: Any, name: str) -> datetime | None:
    """Give a timestamp that a message may have; ``None`` for one that is none."""
    if not message.HasField(name):
        return None
    try:
        return time_of(getattr(message, name))
    except (ValueError, OverflowError):
        return None


def joined(*words: str) -> str | None:
    """Join words that may be empty; ``None`` if all are."""
    return " ".join(word for word in words if word) or None
