"""Draws what receivers give over time: live in a notebook, else as one picture."""

import contextlib
import io
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
    figure_class = _figure_class()
    if not is_jupyter():
        return _drawn(figure_class(figsize=_SIZE), collect(receiver, duration, samples), look, zone)
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
        seen = found
        if time.monotonic() >= due:
            due = show(found)

    # A kernel that is interrupted has seen enough: what has come is the picture.
    with contextlib.suppress(KeyboardInterrupt):
        seen = collect(receiver, duration, samples, each)
    show(seen)
    return figure


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
    """Draw samples, in place of what the figure had before."""
    from matplotlib.dates import AutoDateLocator, DateFormatter  # noqa: PLC0415 - as above

    rows = rows_of(samples)
    figure.clear()
    axes = figure.add_subplot()
    lines = _lines(rows, look)
    stamps = [row["timestamp"] for row in rows if "timestamp" in row]
    kind, unit, factor = _axis(lines)
    for (label, points), colour in zip(lines.values(), _COLOURS, strict=False):
        values = [math.nan if value is None else value * factor for _, value in points]
        axes.plot([time for time, _ in points], values, color=colour, label=label, linewidth=1.6)
    if look.level is not None:
        axes.axhline(look.level.level, color="#c0392b", linestyle="--", label=look.level.label)
    locator = AutoDateLocator(tz=zone)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(DateFormatter(_clock(stamps), tz=zone))
    axes.set_xlabel(f"time ({'UTC' if zone is None else zone})")
    axes.set_ylabel(f"{kind} ({unit})" if unit else kind)
    axes.set_title(look.title, fontsize="medium", loc="left")
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(lines) > 1 or look.level is not None:
        axes.legend(loc="best", fontsize="small", frameon=False)
    if not rows:
        axes.text(0.5, 0.5, "nothing has come", transform=axes.transAxes, ha="center")
    figure.tight_layout()
    return figure


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


def _axis(lines: _Lines) -> tuple[str, str, float]:
    """Say what the axis shows, its unit, and by what values are multiplied for it."""
    found = {heading(column) for _, column in lines}
    units = {unit for _, unit in found}
    if len(units) != 1:
        return "value", "", 1.0
    names = {name.partition(" phase")[0] for name, _ in found}
    kind = names.pop() if len(names) == 1 else ""
    (unit,) = units
    if unit in {"W", "VAr", "VA", "Wh"}:
        return kind or _KINDS.get(unit, "value"), f"k{unit}", 1e-3
    return kind or _KINDS.get(unit, "value"), unit, 1.0


_KINDS = {"W": "power", "VAr": "reactive power", "A": "current", "V": "voltage", "Hz": "frequency"}


def _clock(stamps: Sequence[Any]) -> str:
    """Give the format of times: with a date where there is more than one."""
    if stamps and (max(stamps) - min(stamps)).total_seconds() > 20 * 3600:
        return "%d.%m. %H:%M"
    if stamps and (max(stamps) - min(stamps)).total_seconds() > 20 * 60:
        return "%H:%M"
    return "%H:%M:%S"
