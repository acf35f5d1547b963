"""Reads tables of a description: each value by its key, with a word about what is wrong."""

import math
import re
import reprlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, time
from typing import Any

from microgrid_sync.simulator.cars import Range, seconds_of_day

_CLOCK = re.compile(r"(\d{1,6}):([0-5]\d):([0-5]\d(?:\.\d+)?)")

_LARGEST = 1e18

LONGEST = 10 * 365 * 86_400.0
"""Seconds: no duration is longer."""

_NOT_WITH = {"arrives": {"stays", "away"}, "stays": {"arrives", "leaves"}}
"""Keys that are known, only not beside these."""

_YEARS = range(1970, 2200)


class SiteError(ValueError):
    """A description of a site is wrong; the text says where, and what would be right."""


def shown(value: object) -> str:
    """Write a value for an error's text: short, whatever it is."""
    try:
        return reprlib.repr(value)
    except ValueError:
        # Python refuses to write integers of very many digits.
        return "a number with thousands of digits"


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


class Table:
    """One table of a description. What has been read is noted; `end` refuses what has not."""

    def __init__(self, values: object, where: str) -> None:
        """Take a table.

        Args:
            values: The table.
            where: What to call it in errors.
        """
        if not isinstance(values, Mapping):
            raise SiteError(f"{where}: must be a table, not {shown(values)}")
        self._values: Mapping[str, Any] = values
        self._unread = set(values)
        self._known: set[str] = set()
        self.where = where

    def error(self, key: str, problem: str) -> SiteError:
        """Make the error of a key."""
        return SiteError(f"{self.where}: {key}: {problem}")

    def has(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self._values

    def raw(self, key: str, default: Any = None) -> Any:
        """Read whatever a key has."""
        self._unread.discard(key)
        self._known.add(key)
        return self._values.get(key, default)

    def required(self, key: str) -> Any:
        """Read whatever a key has, which must be there."""
        if key not in self._values:
            raise self.error(key, "is missing")
        return self.raw(key)

    def number(
        self,
        key: str,
        default: float | None = None,
        *,
        least: float = -math.inf,
        most: float = math.inf,
        above: float = -math.inf,
    ) -> float:
        """Read a finite number.

        Args:
            key: The key.
            default: What holds without the key; ``None`` if it must be there.
            least: The least that it may be.
            most: The most that it may be.
            above: What it must be more than.
        """
        value = self.required(key) if default is None else self.raw(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(key, f"must be a number, not {shown(value)}")
        # Compared before it is made a float, which not every integer can be.
        if not (abs(value) <= _LARGEST and least <= value <= most and value > above):
            raise self.error(key, f"must be {_range(least, most, above)}, not {shown(value)}")
        return float(value)

    def whole(self, key: str, default: int | None = None, *, least: int, most: int) -> int:
        """Read a whole number."""
        value = self.required(key) if default is None else self.raw(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(
                key, f"must be a whole number from {least} to {most}, not {shown(value)}"
            )
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Read a truth value."""
        value = self.raw(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {shown(value)}")
        return value

    def word(
        self, key: str, default: str | None = None, *, among: Collection[str] | None = None
    ) -> str:
        """Read a string, one of a few if they are given."""
        value = self.required(key) if default is None else self.raw(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, not {shown(value)}")
        if among is not None and value not in among:
            raise self.error(key, f"{shown(value)} is none of {', '.join(among)}")
        if not value.isprintable():
            raise self.error(key, f"must be printable, not {shown(value)}")
        return value

    def seconds(self, key: str, default: float | None = None) -> float:
        """Read a duration: seconds, or ``"HH:MM:SS"``."""
        value = self.required(key) if default is None else self.raw(key, default)
        try:
            return duration(value)
        except ValueError as error:
            raise self.error(key, str(error)) from None

    def interval(self, key: str, default: float | None = None) -> float:
        """Read a duration of whole milliseconds, at least ten of them."""
        value = self.seconds(key, default)
        if value < 0.01 or not math.isclose(value * 1000, round(value * 1000), rel_tol=1e-9):
            raise self.error(
                key, f"must be whole milliseconds, at least 0.01 s, not {shown(value)}"
            )
        return value

    def whole_numbers(self, key: str, default: Sequence[int] | None = None) -> list[int]:
        """Read a list of whole numbers that are all different."""
        value = self.required(key) if default is None else self.raw(key, default)
        if not is_list(value):
            raise self.error(key, f"must be a list of whole numbers, not {shown(value)}")
        for number in value:
            if not isinstance(number, int) or isinstance(number, bool):
                raise self.error(key, f"must be a list of whole numbers, not {shown(value)}")
        if len(set(value)) != len(value):
            raise self.error(key, f"names something twice: {shown(value)}")
        return list(value)

    def range(self, key: str, default: float | None = None, *, least: float, most: float) -> Range:
        """Read a number, or the two ends of a range of numbers."""
        value = self.required(key) if default is None else self.raw(key, default)
        ends = value if is_list(value) else [value] * 2
        if len(ends) != 2 or not all(
            isinstance(end, int | float) and not isinstance(end, bool) and least <= end <= most
            for end in ends
        ):
            problem = f"must be a number from {least:g} to {most:g}, or a list of two"
            raise self.error(key, f"{problem}, not {shown(value)}")
        if ends[0] > ends[1]:
            raise self.error(key, f"must begin with the lower number, not {shown(value)}")
        return float(ends[0]), float(ends[1])

    def day_range(self, key: str) -> Range:
        """Read a time of the day, or the earliest and the latest: as seconds of the day."""
        value = self.required(key)
        ends = value if is_list(value) else [value] * 2
        try:
            first, last = (_time_of_day(end) for end in ends)
        except ValueError:
            problem = f"must be a time such as '17:30', or a list of two, not {shown(value)}"
            raise self.error(key, problem) from None
        if first > last:
            raise self.error(key, f"must begin with the earlier time, not {shown(value)}")
        return first, last

    def time_of_day(self, key: str) -> float:
        """Read one time of the day, as seconds of the day."""
        first, last = self.day_range(key)
        if is_list(self.raw(key)):
            raise self.error(key, "must be one time, not a list")
        del last
        return first

    def moment(self, key: str) -> datetime | None:
        """Read a date and time with a UTC offset, if it is there."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            problem = "must be a date and time with a UTC offset such as 2026-06-21T04:00:00Z"
            raise self.error(key, f"{problem}, not {shown(value)}")
        if value.year not in _YEARS:
            raise self.error(key, f"must be in the years {_YEARS[0]} to {_YEARS[-1]}, not {value}")
        return value

    def table(self, key: str) -> "Table":
        """Read a table in this one; an empty one if it is not there."""
        return Table(self.raw(key, {}), f"{self.where}: {key}")

    def tables(self, key: str) -> "list[Table]":
        """Read a list of tables; an empty one if it is not there."""
        value = self.raw(key, [])
        if not is_list(value):
            raise self.error(key, f"must be a list of tables, not {shown(value)}")
        return [Table(v, f"{self.where}: {key} {n}") for n, v in enumerate(value, 1)]

    def end(self) -> None:
        """Refuse keys that nobody knows.

        Raises:
            SiteError: If there are any.
        """
        if self._unread:
            key = min(self._unread, key=str)
            for read, others in _NOT_WITH.items():
                if key in others and read in self._known and self.has(read):
                    raise self.error(key, f"cannot be used together with {read!r}")
            raise self.error(
                str(key), f"is unknown here; known are {', '.join(sorted(self._known))}"
            )


def _range(least: float, most: float, above: float) -> str:
    if above > -math.inf:
        return f"more than {above:g}" + (f" and at most {most:g}" if most < math.inf else "")
    if most < math.inf and least > -math.inf:
        return f"from {least:g} to {most:g}"
    return f"at least {least:g}" if least > -math.inf else "finite"


def _time_of_day(value: object) -> float:
    if isinstance(value, str):
        value = time.fromisoformat(value)
    if not isinstance(value, time) or value.tzinfo is not None:
        raise ValueError(value)
    return seconds_of_day(value)
