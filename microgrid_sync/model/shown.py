"""Shows values as text: short, with units, without tails of digits."""

import enum
import functools
import math
from collections.abc import Mapping, Set
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from frequenz.quantities import Quantity

T = TypeVar("T")

_DIGITS = 3
"""So many decimals of a number are shown."""


class Shown:
    """Gives a dataclass a short ``repr``, and what Jupyter shows of it."""

    def __repr__(self) -> str:
        """Name its fields, but those that are as they are unless given."""
        return short_repr(self)

    def _repr_html_(self) -> str:
        from microgrid_sync.notebook.html import html_of  # noqa: PLC0415 - only notebooks need it

        return html_of(self)


class Tabular(Shown):
    """Gives a sample its row of a table, too."""

    def to_dict(self) -> dict[str, Any]:
        """Give it as one flat row.

        Returns:
            The values by name: units are part of the names (``active_power_w``,
                ``current_phase_1_a``), enums are words, the time is in UTC. What is not known is
                ``None``, or NaN where the sample has that.
        """
        from microgrid_sync.notebook.rows import row_of  # noqa: PLC0415 - as above

        return row_of(self)


class Listing(list[T]):
    """A list that Jupyter shows as a table."""

    def _repr_html_(self) -> str:
        from microgrid_sync.notebook.html import html_of_list  # noqa: PLC0415 - as above

        return html_of_list(self)


def escaped(text: str) -> str:
    """Write control characters as escapes: what a server says must not act on a terminal or log."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def short_repr(value: Any) -> str:
    """Write a dataclass down without what is as it is unless given, and without tails."""
    parts = [
        f"{field.name}={short(getattr(value, field.name))}"
        for field in fields(value)
        if field.repr and getattr(value, field.name) is not field.default
    ]
    return f"{type(value).__name__}({', '.join(parts)})"


@functools.singledispatch
def short(value: Any) -> str:
    """Write a value of a field down."""
    if hasattr(value, "base_value"):
        # Of frequenz.quantities, which nobody waits for who asks for none.
        return quantity(value)
    return repr(value)


@short.register
def _(value: enum.Enum) -> str:
    return value.name


@short.register
def _(value: float) -> str:
    return number(value)


@short.register
def _(value: datetime) -> str:
    return moment(value)


@short.register
def _(value: timedelta) -> str:
    return f"{number(value.total_seconds())} s"


@short.register
def _(value: tuple) -> str:  # type: ignore[type-arg] # singledispatch takes plain classes alone
    if hasattr(value, "_fields"):
        return repr(value)
    return f"({', '.join(map(short, value))}{',' if len(value) == 1 else ''})"


@short.register
def _(value: list) -> str:  # type: ignore[type-arg] # as above
    return f"[{', '.join(map(short, value))}]"


@short.register
def _(value: Set) -> str:  # type: ignore[type-arg] # as above
    return f"{{{', '.join(sorted(map(short, value)))}}}"


@short.register
def _(value: Mapping) -> str:  # type: ignore[type-arg] # as above
    return f"{{{', '.join(f'{short(key)}: {short(v)}' for key, v in value.items())}}}"


def number(value: float, digits: int = _DIGITS) -> str:
    """Write a number down without a tail of zeros, and never as minus zero."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def moment(time: datetime) -> str:
    """Write a date and time down, in whole seconds, with its zone."""
    text = f"{time:%Y-%m-%d %H:%M:%S}"
    if time.tzinfo is None:
        return text
    return f"{text} UTC" if time.utcoffset() == timedelta(0) else f"{text}{time:%z}"


def quantity(value: "Quantity") -> str:
    """Write a quantity down: powers in kW from 1 kW on, else in the base unit."""
    unit = _UNITS.get(type(value).__name__, "")
    base = value.base_value
    if unit in _IN_KILO and abs(base) >= _KILO:
        return f"{number(base / _KILO)} k{unit}"
    return f"{number(base)} {unit}".rstrip()


_KILO = 1000.0
_IN_KILO = frozenset({"W", "VAr", "VA", "Wh"})
_UNITS = {
    "ApparentPower": "VA",
    "Current": "A",
    "Energy": "Wh",
    "Frequency": "Hz",
    "Percentage": "%",
    "Power": "W",
    "ReactivePower": "VAr",
    "Temperature": "°C",
    "Voltage": "V",
}


def kilowatts(watts: float | None) -> str:
    """Write a power down in kW, as people read it in columns; "-" if it is not known."""
    if watts is None or math.isnan(watts):
        return "-"
    text = f"{watts / _KILO:.2f}"
    return f"{'0.00' if text == '-0.00' else text} kW"


def amperes(value: float | None) -> str:
    """Write a current down with one decimal; "-" if it is not known."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.1f}"
    return f"{'0.0' if text == '-0.0' else text} A"


def words(name: str) -> str:
    """Turn the name of an enum's member into words: ``EV_LOCKED`` into ``ev locked``."""
    return name.replace("_", " ").lower()
