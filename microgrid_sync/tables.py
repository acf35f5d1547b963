"""Reads tables of a description into typed values, and names all that is wrong with them.

What a value may be is said by the type of a dataclass's field; msgspec checks it.
"""

import dataclasses
import difflib
import functools
import math
import re
import reprlib
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, time
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

_CLOCK = re.compile(r"(\d{1,6}):([0-5]\d):([0-5]\d(?:\.\d+)?)")

LONGEST = 10 * 365 * 86_400.0
"""Seconds: no duration is longer."""

LARGEST_ID = 2**63 - 1

_YEARS = range(1970, 2200)


class SiteError(ValueError):
    """A description of a site is wrong; the text says where, and what would be right.

    A line for each mistake.
    """


class Mistakes:
    """All that is wrong with one description."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._texts: list[str] = []

    def __len__(self) -> int:
        """Count them."""
        return len(self._texts)

    def add(self, *words: str) -> None:
        """Add one: the table, the key if it is about one, and what is wrong and would be right."""
        self._texts.append(": ".join(word for word in words if word))

    def error(self) -> SiteError:
        """Give an error with all of them, each in a line."""
        return SiteError("\n".join(dict.fromkeys(self._texts)))

    def raise_any(self) -> None:
        """Raise that error, if there are any."""
        if self._texts:
            raise self.error()


def shown(value: object) -> str:
    """Write a value for an error's text: short, whatever it is."""
    try:
        return reprlib.repr(value)
    except ValueError:
        # Python refuses to write integers of very many digits.
        return "a number with thousands of digits"
    except Exception:  # noqa: BLE001 - whatever a program hands over, its own error must not hide ours
        return f"a {type(value).__name__} that cannot be shown"


def shown_key(key: object) -> str:
    """Write a key for an error's text."""
    return key if isinstance(key, str) and key.isprintable() else shown(key)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Give a hint at the known word that is most like another one; nothing if none is."""
    close = difflib.get_close_matches(word, list(known), 1) if isinstance(word, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""


def none_of(word: object, known: Collection[str]) -> str:
    """Say that a word is none of some."""
    return f"{shown(word)} is none of {', '.join(known)}{did_you_mean(word, known)}"


# Types of values. Those that msgspec has no word for are read by a function.


@dataclasses.dataclass(frozen=True)
class ReadBy:
    """Stands in a type: the function that reads such a value, and raises `ValueError`."""

    function: Callable[[Any], Any]


def is_number(value: object) -> bool:
    """Tell whether a value is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_list(value: object) -> bool:
    """Tell whether a value is what TOML calls an array."""
    return isinstance(value, list | tuple)


def duration(value: object) -> float:
    """Read a duration: a number of seconds, or ``"HH:MM:SS"``.

    Raises:
        ValueError: If it is neither, or negative, or longer than ten years.
    """
    seconds = math.nan
    if isinstance(value, str):
        found = _CLOCK.fullmatch(value)
        if found:
            hours, minutes, rest = found.groups()
            seconds = int(hours) * 3600.0 + int(minutes) * 60.0 + float(rest)
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST:
        seconds = float(value)
    if not 0 <= seconds <= LONGEST:
        raise ValueError(
            f"must be seconds, 0 or more and less than ten years, or 'HH:MM:SS', not {shown(value)}"
        )
    return seconds


def _positive_duration(value: object) -> float:
    seconds = duration(value)
    if not seconds:
        raise ValueError("must be more than 0")
    return seconds


def _durations(value: object) -> tuple[float, float]:
    ends = value if isinstance(value, list | tuple) else (value, value)
    if len(ends) != 2:
        raise ValueError(f"must be a duration, or a list of two, not {shown(value)}")
    shortest, longest = (_positive_duration(end) for end in ends)
    if shortest > longest:
        raise ValueError(f"must begin with the shorter one, not {shown(value)}")
    return shortest, longest


def _interval(value: object) -> float:
    seconds = duration(value)
    if seconds < 0.01 or not math.isclose(seconds * 1000, round(seconds * 1000), rel_tol=1e-9):
        raise ValueError(f"must be whole milliseconds, at least 0.01 s, not {shown(seconds)}")
    return seconds


def _percentages(value: object) -> tuple[float, float]:
    ends = value if isinstance(value, list | tuple) else (value, value)
    if len(ends) != 2 or not all(is_number(end) and 0 <= end <= 100 for end in ends):
        raise ValueError(f"must be a number from 0 to 100, or a list of two, not {shown(value)}")
    lower, upper = ends
    if lower > upper:
        raise ValueError(f"must begin with the lower number, not {shown(value)}")
    return float(lower), float(upper)


def _seconds_of_day(value: object) -> float:
    if isinstance(value, str):
        value = time.fromisoformat(value)
    if not isinstance(value, time) or value.tzinfo is not None:
        raise ValueError(value)
    return value.hour * 3600.0 + value.minute * 60.0 + value.second


def _times_of_day(value: object) -> tuple[float, float]:
    ends = value if isinstance(value, list | tuple) else (value, value)
    try:
        first, last = (_seconds_of_day(end) for end in ends)
    except ValueError:
        problem = f"must be a time such as '17:30', or a list of two, not {shown(value)}"
        raise ValueError(problem) from None
    if first > last:
        raise ValueError(f"must begin with the earlier time, not {shown(value)}")
    return first, last


def _time_of_day(value: object) -> float:
    first, _ = _times_of_day(value)
    if is_list(value):
        raise ValueError("must be one time, not a list")
    return first


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        problem = "must be a date and time with a UTC offset such as 2026-06-21T04:00:00Z"
        raise ValueError(f"{problem}, not {shown(value)}")
    if value.year not in _YEARS:
        raise ValueError(f"must be in the years {_YEARS[0]} to {_YEARS[-1]}, not {value}")
    return value


def _printable(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {shown(value)}")  # noqa: TRY004 - as all others
    if not value.isprintable():
        raise ValueError(f"must be printable, not {shown(value)}")
    return value


def _different_numbers(value: object) -> tuple[int, ...]:
    if not is_list(value):
        raise ValueError(f"must be a list of whole numbers, not {shown(value)}")
    try:
        numbers = msgspec.convert(value, tuple[int, ...])
    except msgspec.ValidationError:
        raise ValueError(f"must be a list of whole numbers, not {shown(value)}") from None
    if not all(0 <= number <= LARGEST_ID for number in numbers):
        raise ValueError(f"must be numbers from 0 to {LARGEST_ID}, not {shown(value)}")
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"names something twice: {shown(value)}")
    return numbers


def _phases(value: object) -> tuple[int, ...]:
    phases = _different_numbers(value)
    if not phases or not set(phases) <= {1, 2, 3}:
        raise ValueError(f"must be some of 1, 2 and 3, not {shown(value)}")
    return phases


Seconds = Annotated[float, ReadBy(duration)]
PositiveSeconds = Annotated[float, ReadBy(_positive_duration)]
Durations = Annotated[tuple[float, float], ReadBy(_durations)]
Interval = Annotated[float, ReadBy(_interval)]
Percentages = Annotated[tuple[float, float], ReadBy(_percentages)]
TimesOfDay = Annotated[tuple[float, float], ReadBy(_times_of_day)]
TimeOfDay = Annotated[float, ReadBy(_time_of_day)]
Moment = Annotated[datetime, ReadBy(_moment)]
Text = Annotated[str, ReadBy(_printable)]
DifferentNumbers = Annotated[tuple[int, ...], ReadBy(_different_numbers)]
Phases = Annotated[tuple[int, ...], ReadBy(_phases)]
ComponentNumber = Annotated[int, Meta(ge=1, le=LARGEST_ID)]


# Reading


Check = Callable[[dict[str, Any]], Iterator[tuple[str, str]]]
"""Checks values of a table against each other. It is given those that are right, those unless given
among them, and gives keys and what is wrong with them."""


def no_check(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Find nothing wrong."""
    del values
    yield from ()


def read_table(
    kind: Callable[..., T],
    values: object,
    where: str,
    mistakes: Mistakes,
    *,
    beside: Collection[str] = (),
    check: Check = no_check,
) -> T | None:
    """Read a table into a dataclass.

    Args:
        kind: The dataclass.
        values: The table.
        where: What to call it in errors.
        mistakes: Where to add what is wrong.
        beside: Keys that are known, too, and read by somebody else.
        check: Checks the values against each other, also when some of them are wrong.

    Returns:
        The value; ``None`` if something is wrong.
    """
    if not isinstance(values, Mapping):
        mistakes.add(where, f"must be a table, not {shown(values)}")
        return None
    before = len(mistakes)
    found = read_fields(kind, values, where, mistakes)
    known = sorted({*fields_of(kind), *beside})
    for key in values:
        if key not in known:
            unknown = f"is unknown here; known are {', '.join(known)}{did_you_mean(key, known)}"
            mistakes.add(where, shown_key(key), unknown)
    for key, problem in check({**_unless_given(kind, values), **found}):
        mistakes.add(where, key, problem)
    return kind(**found) if len(mistakes) == before else None


def right_ones(kind: Callable[..., T], values: object) -> T:
    """Read a table whose keys may all be absent; what is wrong is as if it were absent."""
    if not isinstance(values, Mapping):
        return kind()
    return kind(**read_fields(kind, values, "", Mistakes()))


def _unless_given(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.name not in values and field.default is not dataclasses.MISSING
    }


def read_fields(
    kind: Callable[..., object], values: Mapping[str, Any], where: str, mistakes: Mistakes
) -> dict[str, Any]:
    """Read those fields of a dataclass that a table has."""
    found = {}
    for name, (wanted, is_required) in fields_of(kind).items():
        if name in values:
            try:
                found[name] = read_value(wanted, values[name])
            except ValueError as error:
                mistakes.add(where, name, str(error))
        elif is_required:
            mistakes.add(where, name, "is missing")
    return found


@functools.lru_cache(maxsize=1000)
def _fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.name: (
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    }


def fields_of(kind: Callable[..., object]) -> dict[str, tuple[Any, bool]]:
    """Give the type of each field of a dataclass, and whether it must be there."""
    return _fields_of(kind)


def read_value(wanted: Any, value: object) -> Any:
    """Read a value of a type.

    Raises:
        ValueError: If it is none; the text says what would be right.
    """
    kind, extras = taken_apart(wanted)
    for extra in extras:
        if isinstance(extra, ReadBy):
            return extra.function(value)
    limits = tuple(extra for extra in extras if isinstance(extra, Meta))
    annotated: Any = Annotated[(kind, *limits)] if limits else kind
    try:
        return msgspec.convert(value, annotated)
    except (msgspec.ValidationError, OverflowError):
        raise ValueError(_problem(kind, limits, value)) from None


def taken_apart(wanted: Any) -> tuple[Any, tuple[Any, ...]]:
    """Give the plain type of what is there when something is there, and what is said of it."""
    extras: tuple[Any, ...] = getattr(wanted, "__metadata__", ())
    kind = wanted.__origin__ if extras else wanted
    present = [each for each in typing.get_args(kind) if each is not type(None)]
    if type(None) in typing.get_args(kind) and len(present) == 1:
        # In a table nothing is None: a key that may be absent is absent.
        kind, inner = taken_apart(present[0])
        extras = (*inner, *extras)
    return kind, extras


def _problem(kind: Any, limits: tuple[Meta, ...], value: object) -> str:
    """Say what a value should be and is not."""
    if typing.get_origin(kind) is typing.Literal:
        if not isinstance(value, str):
            return f"must be a string, not {shown(value)}"
        return none_of(value, typing.get_args(kind))
    if kind is float and is_number(value):
        return f"must be {_range(limits[0])}, not {shown(value)}"
    if kind is int:
        return f"must be a whole number from {limits[0].ge} to {limits[0].le}, not {shown(value)}"
    words = {float: "a number", bool: "true or false", str: "a string"}
    return f"must be {words[kind]}, not {shown(value)}"


def _range(meta: Meta) -> str:
    if meta.gt is not None:
        return f"more than {meta.gt:g}" + (f" and at most {meta.le:g}" if meta.le else "")
    return f"from {meta.ge:g} to {meta.le:g}"
