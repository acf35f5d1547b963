"""How commands write: tables for people, JSON for machines."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from microgrid_sync.model.shown import amperes, kilowatts, number

_LONGEST = 1000
"""Seconds: no command holds for longer."""

_NUMBER_WIDTH = 8
"""Columns for a number and its unit at the least."""

_TOO_SMALL = 5.0
"""W: what is less reads as zero in kW."""

_WIDE = 10_000
"""Columns, where nobody looks: nothing is cut off or wrapped for a file."""

STATE_COLOURS = {
    "charging": "green",
    "discharging": "green",
    "error": "red",
    "authorization rejected": "red",
    "unavailable": "red",
}


def console() -> Console:
    """Give what tables are written to: colours and their width are for terminals alone."""
    if is_terminal():
        return Console(highlight=False)
    return Console(highlight=False, width=_WIDE, no_color=True, force_terminal=False)


def is_terminal() -> bool:
    """Tell whether somebody looks at the output, on a terminal that can draw in place."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}


def show(content: RenderableType) -> None:
    """Write a table; into a file or a pipe without blanks at the ends of its lines."""
    to = console()
    if is_terminal():
        to.print(content)
        return
    with to.capture() as captured:
        to.print(content)
    for line in captured.get().splitlines():
        say(line.rstrip())


def write_json(value: Any) -> None:
    """Write one line of JSON; of a list of sites it says which one it is of."""
    ctx = click.get_current_context(silent=True)
    site = None if ctx is None else ctx.meta.get("site name")
    if site is not None and isinstance(value, dict):
        value = {"site": site, **value}
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def new_table(*headings: str, right: Sequence[str] = ()) -> Table:
    """Make a table without rows; columns that are named again hold numbers."""
    table = Table(box=box.SIMPLE_HEAD if is_terminal() else None, pad_edge=False)
    for heading in headings:
        number = heading in right
        # Numbers are never cut: a part of one is another one.
        width = _NUMBER_WIDTH if number and heading != "ID" else None
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(heading, justify=justify, no_wrap=number, min_width=width)
    return table


def state(word: str) -> Text:
    """Colour a state."""
    return Text(word, style=STATE_COLOURS.get(word, ""))


def say(text: str, *, err: bool = False) -> None:
    """Write a line of plain text."""
    click.echo(text, err=err)


@contextmanager
def live(to: Console) -> Iterator[Callable[[RenderableType], None]]:
    """Show one thing in place of the one before, on a terminal."""
    with Live(console=to, auto_refresh=False, vertical_overflow="ellipsis") as shown:
        yield lambda content: shown.update(content, refresh=True)


def follow(
    interval: float,
    duration: float | None,
    *,
    line: Callable[[], None],
    screen: Callable[[], RenderableType] | None,
) -> None:
    """Look again and again, until a duration is over.

    Args:
        interval: Seconds between two looks.
        duration: Seconds; ``None`` for no end.
        line: Writes what there is, where nobody looks.
        screen: Gives it for a terminal; ``None`` for lines there, too.
    """
    if screen is None or not is_terminal():
        for _ in ticks(interval, duration):
            line()
        return
    with live(console()) as draw:
        for _ in ticks(interval, duration):
            draw(screen())


def ticks(interval: float, duration: float | None) -> Iterator[float]:
    """Come back every interval until a duration is over, once at least; give the seconds so far."""
    begun = time.monotonic()
    end = math.inf if duration is None else begun + duration
    number = 0
    while True:
        now = time.monotonic()
        yield now - begun
        number += 1
        due = min(end, begun + number * interval)
        if time.monotonic() >= end:
            return
        while (left := due - time.monotonic()) > 0:
            # In slices: some platforms deliver Ctrl-C only between two waits.
            time.sleep(min(left, 1.0))


def clock(moment: datetime) -> str:
    """Write a time down as this machine's clock shows it; with the day if that is another one."""
    there = moment.astimezone()
    now = datetime.now(UTC).astimezone()
    return f"{there:%H:%M:%S}" if there.date() == now.date() else f"{there:%Y-%m-%d %H:%M:%S}"


def now_text() -> str:
    """Give the time of now as machines read it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_clock() -> str:
    """Give the time of now as this machine's clock shows it, as log lines and reasons have it."""
    return f"{datetime.now():%H:%M:%S}"


def lasts_until(expires: datetime | None, api: str | None) -> str:
    """Say until when a command holds."""
    if expires is None:
        return f"it holds as long as the server keeps it; API {api} does not say how long"
    left = expires - datetime.now(UTC)
    seconds = round(left / timedelta(seconds=1))
    until = f"it holds until {clock(expires)}"
    # The clock of a simulated site, or of a server that is off, is another one than ours.
    return (
        f"{until} ({seconds} s)" if 0 <= seconds <= _LONGEST else f"{until} of the server's clock"
    )


def phases(values: Iterable[float | None]) -> str:
    """Write the currents of three phases down."""
    return "  ".join(amperes(value) for value in values)


class PowerType(click.ParamType):  # type: ignore[type-arg] # generic in newer versions alone
    """A power in W; ``kW`` and ``MW`` may stand behind the number."""

    name = "power"

    _UNITS = (("mw", 1e6), ("kw", 1e3), ("w", 1.0))

    def __init__(self, unit: str = "W") -> None:
        """Make a type.

        Args:
            unit: ``W``, or ``VAr`` for reactive power.
        """
        self.unit = unit
        self._units = self._UNITS if unit == "W" else (("mvar", 1e6), ("kvar", 1e3), ("var", 1.0))

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a power."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        # "5mW" is five thousandths of a watt: nobody means that, and nobody should get megawatts.
        number, factor = text, 1.0
        for unit, scale in self._units:
            if text.lower().endswith(unit):
                number, factor = text[: -len(unit)].strip(), scale
                if text[-len(unit) :].startswith("m"):
                    self.fail(f"{text!r}: write M for mega, such as 2M{self.unit}", param, ctx)
                break
        try:
            power = float(number) * factor
        except ValueError:
            self.fail(
                f"{text!r} is no power; write 5000, 5000{self.unit} or 5k{self.unit}", param, ctx
            )
        if not math.isfinite(power):
            self.fail(f"{text!r} is no finite power", param, ctx)
        return power


def power_words(power: float, unit: str = "W") -> str:
    """Write a power down as people read it: in kW, but for what would read as zero."""
    if 0.0 < abs(power) < _TOO_SMALL:
        return f"{number(power)} {unit}"
    return kilowatts(power).replace("kW", f"k{unit}")
