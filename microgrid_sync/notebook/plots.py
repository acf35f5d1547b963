"""Draws what receivers give over time: live in a notebook, else as one picture."""

import contextlib
import io
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from microgrid_sync.notebook.collecting import check_amount, collect
from microgrid_sync.notebook.html import heading
from microgrid_sync.notebook.jupyter import Display, is_jupyter
from microgrid_sync.notebook.rows import rows_of
from microgrid_sync.receiver import Receiver

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEFAULT_DURATION = 30.0
"""Seconds for which something is drawn unless told otherwise."""

_FRAME_INTERVAL = 1.0
"""Seconds between two pictures of a live plot at the least."""

_FRAME_SHARE = 0.25
"""No more than this share of the time goes into drawing."""

_SIZE = (9.0, 3.6)
_MOST_LINES = 8

_NEXT_ROW = 2.4
"""Inches that each further unit takes."""

_SHORT = 8.0
"""Seconds: what is shorter has a tick a second."""

_STYLES = ("-", "--", "-.")
"""So that lines which lie on each other can be seen."""

_IN_KILO = frozenset({"W", "VAr", "VA", "Wh"})

_PREFERRED = ("active_power_w", "soc_percent", "ac_power_active_w", "dc_power_w")
"""What is drawn of a component unless told otherwise: the first of these that it measures."""

_COLOURS = ("#1f6fb4", "#d1700a", "#2c9145", "#8e4bb5", "#c0392b", "#6b5344", "#444444", "#0e8f8f")


class Line(NamedTuple):
    """A level that does not change, such as a fuse's rating."""

    level: float
    label: str


class Look(NamedTuple):
    """How something is drawn."""

    title: str
    columns: Sequence[str] = ()
    """What is drawn; the first of what is there that people ask for most, unless given."""

    level: Line | None = None


def plot(
    receiver: Receiver[Any],
    look: Look,
    zone: tzinfo | None,
    duration: float | None,
    samples: int | None,
) -> "Figure":
    """Draw what a receiver gives; see `Receiver.plot`."""
    if duration is None and samples is None:
        duration = _DEFAULT_DURATION
    check_amount(duration, samples)
    for column in look.columns:
        if not isinstance(column, str):
            raise TypeError(
                f"a column is named by a string, such as 'active_power_w', not {column!r}"
            )
    figure_class = _figure_class()
    if not is_jupyter():
        found = collect(receiver, duration, samples, lambda seen: _check_columns(seen, look))
        return _drawn(figure_class(figsize=_SIZE), found, look, zone)
    figure: Figure = _shown_already(figure_class)(figsize=_SIZE)
    live = Display()
    seen: list[Any] = []
    due = 0.0

    def show(found: list[Any]) -> float:
        begun = time.monotonic()
        live.show({"image/png": _png(_drawn(figure, found, look, zone))})
        return begun + max(_FRAME_INTERVAL, (time.monotonic() - begun) / _FRAME_SHARE)

    def each(found: list[Any]) -> None:
        nonlocal due, seen
        _check_columns(found, look)
        seen = found
        if time.monotonic() >= due:
            due = show(found)

    # A kernel that is interrupted has seen enough: what has come is the picture.
    with contextlib.suppress(KeyboardInterrupt):
        seen = collect(receiver, duration, samples, each)
    show(seen)
    return figure


def _check_columns(samples: Sequence[Any], look: Look) -> None:
    """Check, with the first sample, that there is what is to be drawn.

    Raises:
        ValueError: If there is not.
    """
    if len(samples) != 1 or not look.columns:
        return
    (row,) = rows_of(samples)
    numbers = [column for column in row if _is_number([row], column)]
    for column in look.columns:
        # A sample of a formula without a value has no name for it yet.
        if column not in row or (row[column] is not None and column not in numbers):
            raise ValueError(
                f"there is no column {column!r} to draw; there are {', '.join(numbers)}"
            )


def plot_new(
    new_receiver: Callable[[], Receiver[Any]],
    look: Look,
    zone: tzinfo | None,
    duration: float | None,
    samples: int | None,
) -> "Figure":
    """Draw what a receiver gives that is opened for it."""
    # Before it is opened, so that nobody waits for an error.
    _figure_class()
    with new_receiver() as receiver:
        return plot(receiver, look, zone, duration, samples)


def _figure_class() -> "type[Figure]":
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra that not everybody has
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib; install it with the extra 'notebook': "
            "pip install 'microgrid_sync[notebook]'"
        ) from error
    return Figure


def _shown_already(figure_class: "type[Figure]") -> "type[Figure]":
    """Give figures that are not shown a second time as the value of the cell that draws them."""

    class LiveFigure(figure_class):  # type: ignore[misc, valid-type] # known when it is loaded
        is_new = True

        def _ipython_display_(self) -> None:
            if not self.is_new:
                Display().show({"image/png": _png(self)})
            self.is_new = False

    return LiveFigure


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=96)
    return file.getvalue()


def _drawn(figure: "Figure", samples: Iterable[Any], look: Look, zone: tzinfo | None) -> "Figure":
    """Draw samples, in place of what the figure had before: a row of axes for each unit."""
    from matplotlib.dates import (  # noqa: PLC0415 - as above
        AutoDateLocator,
        DateFormatter,
        SecondLocator,
    )

    rows = rows_of(samples)
    figure.clear()
    lines = _lines(rows, look)
    units = list(dict.fromkeys(heading(column)[1] for _, column in lines)) or [""]
    figure.set_size_inches(_SIZE[0], _SIZE[1] + _NEXT_ROW * (len(units) - 1))
    all_axes = figure.subplots(len(units), sharex=True, squeeze=False)[:, 0]
    for unit, axes in zip(units, all_axes, strict=True):
        of_unit = {key: line for key, line in lines.items() if heading(key[1])[1] == unit}
        _draw_unit(axes, unit, of_unit, look.level)
    stamps = [row["timestamp"] for row in rows if "timestamp" in row]
    seconds = (max(stamps) - min(stamps)).total_seconds() if stamps else 0.0
    # Not several times the same second.
    is_short = 1.0 <= seconds < _SHORT
    locator = SecondLocator(tz=zone) if is_short else AutoDateLocator(tz=zone)
    last = all_axes[-1]
    if seconds:
        # As long as no value is known the axis would be of years, with a tick a second.
        last.set_xlim(min(stamps), max(stamps))
    last.xaxis.set_major_locator(locator)
    last.xaxis.set_major_formatter(DateFormatter(_clock(seconds), tz=zone))
    last.set_xlabel(f"time ({'UTC' if zone is None else zone})")
    all_axes[0].set_title(look.title, fontsize="medium", loc="left")
    if not rows:
        last.text(0.5, 0.5, "nothing has come", transform=last.transAxes, ha="center")
    figure.tight_layout()
    return figure


def _draw_unit(axes: Any, unit: str, lines: "_Lines", level: Line | None) -> None:
    """Draw what has one unit."""
    factor = 1e-3 if unit in _IN_KILO else 1.0
    shown = f"k{unit}" if unit in _IN_KILO else unit
    names = {heading(column)[0].partition(" phase")[0] for _, column in lines}
    kind = names.pop() if len(names) == 1 else _KINDS.get(unit, "value")
    looks = zip(itertools.cycle(_COLOURS), itertools.cycle(_STYLES), strict=False)
    for (label, points), (colour, style) in zip(lines.values(), looks, strict=False):
        values = [math.nan if value is None else value * factor for _, value in points]
        times = [time for time, _ in points]
        axes.plot(times, values, color=colour, linestyle=style, label=label, linewidth=1.6)
    if level is not None:
        axes.axhline(level.level, color="#c0392b", linestyle=":", label=level.label)
    axes.set_ylabel(f"{kind} ({shown})" if shown else kind)
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(lines) > 1 or level is not None:
        axes.legend(loc="best", fontsize="small", frameon=False)


_Lines = dict[tuple[int | None, str], tuple[str, list[tuple[Any, float | None]]]]


def _lines(rows: Sequence[dict[str, Any]], look: Look) -> _Lines:
    """Sort the values by component and column."""
    columns = look.columns or _default_columns(rows)
    components = {row.get("component_id") for row in rows}
    lines: _Lines = {}
    for row in rows:
        for column in columns:
            if column not in row or "timestamp" not in row:
                continue
            component = row.get("component_id")
            key = (component, column)
            if key not in lines:
                label, _ = heading(column)
                lines[key] = (f"{component}: {label}" if len(components) > 1 else label, [])
            lines[key][1].append((row["timestamp"], row[column]))
    return lines


def _default_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    known = {column: None for row in rows for column in row}
    for column in _PREFERRED:
        if column in known:
            return [column]
    return [column for column in known if _is_number(rows, column)][:_MOST_LINES]


def _is_number(rows: Sequence[dict[str, Any]], column: str) -> bool:
    if column in {"timestamp", "component_id"}:
        return False
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    )


_KINDS = {"W": "power", "VAr": "reactive power", "A": "current", "V": "voltage", "Hz": "frequency"}


def _clock(seconds: float) -> str:
    """Give the format of times that go over some seconds: with a date if there is a second one."""
    if seconds > 20 * 3600:
        return "%d.%m. %H:%M"
    return "%H:%M" if seconds > 20 * 60 else "%H:%M:%S"
