"""Writes the report of a day as one page of HTML, with its pictures in it. Pure."""

import html
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from microgrid_sync.model.shown import amperes, kilowatts
from microgrid_sync.notebook.markup import table
from microgrid_sync.recording.report import Charge, DayReport, known_seconds

_WIDTH, _HEIGHT = 960.0, 240.0
_LEFT, _BOTTOM, _TOP = 64.0, 22.0, 8.0

_POINTS = 480
"""So many points of a line: two pixels each."""

_BAR = 14.0
"""The height of a charger's bar, in pixels."""

_POWERS = {
    "grid_power_w": ("grid", "#1f4e79"),
    "consumers_power_w": ("consumers", "#7f7f7f"),
    "pv_power_w": ("PV", "#e6a100"),
    "chp_power_w": ("CHP", "#8c564b"),
    "batteries_power_w": ("batteries", "#2ca02c"),
    "chargers_power_w": ("EV chargers", "#9467bd"),
}

_PHASE_COLOURS = {1: "#8b4513", 2: "#333333", 3: "#808080"}
"""Brown, black and grey, as the wires of the phases are."""

_STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;"
    "color:#222}table{border-collapse:collapse;margin:.5em 0}td,th{padding:.2em .9em .2em 0;"
    "border-bottom:1px solid #ddd}svg{width:100%;height:auto}h2{margin-top:1.6em}"
    ".key span{margin-right:1.2em}.key i{display:inline-block;width:1.2em;height:.25em;"
    "margin-right:.4em;vertical-align:middle}p.note{color:#555}"
)


class _Line(NamedTuple):
    """A line of a picture."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    """Shares of the day, and values; a value that is not known is NaN."""


def page(report: DayReport) -> str:
    """Write the page."""
    title = f"{report.site}, {report.day:%A, %d %B %Y}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="note">{html.escape(known_in_words(report))}</p>',
        "<h2>Energy</h2>",
        energy_table(report),
        _powers(report),
        "<h2>Peaks at the grid connection</h2>",
        peak_table(report),
        _currents(report),
        "<h2>Cars charged</h2>",
        charge_table(report),
        _bars(report),
        "<h2>Interruptions</h2>",
        gap_table(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def known_in_words(report: DayReport) -> str:
    """Say how much of the day is known."""
    known = known_seconds(report)
    if not report.energies:
        return f"All times in {report.timezone}. No powers were recorded on this day."
    whole = (report.until - report.start).total_seconds()
    so_far = "" if report.until == report.end else " so far"
    return (
        f"All times in {report.timezone}. Powers are known for {duration(known)} of "
        f"{duration(whole)}{so_far}; what is not known is in no sum."
    )


# Tables, for the page and for terminals


def energy_rows(report: DayReport) -> list[tuple[str, str]]:
    """Give what is shown of the energies."""
    return [(one.kind, f"{one.kwh:,.1f} kWh") for one in report.energies]


def peak_rows(report: DayReport) -> list[tuple[str, str, str, str]]:
    """Give what is shown of the peaks."""
    rows = []
    for one in report.peaks:
        fuse = report.fuse_a
        share = "" if not fuse else f"{one.current_a / fuse:.0%} of {fuse:g} A"
        over = "" if not one.over_s else f"above it for {duration(one.over_s)}"
        rows.append(
            (
                f"L{one.phase}",
                amperes(one.current_a),
                clock(report, one.at),
                f"{share} {over}".strip(),
            )
        )
    return rows


def charge_rows(report: DayReport) -> list[tuple[str, ...]]:
    """Give what is shown of the cars."""
    return [
        (
            charger_name(one),
            clock(report, one.start),
            clock(report, one.end),
            f"{one.kwh:.1f} kWh",
            kilowatts(one.peak_w),
            str(one.pauses) if one.pauses else "",
        )
        for one in report.charges
    ]


def gap_rows(report: DayReport) -> list[tuple[str, str, str, str, str]]:
    """Give what is shown of the interruptions."""
    return [
        (
            clock(report, gap.start),
            clock(report, gap.end),
            duration((gap.end - gap.start).total_seconds()),
            gap.what,
            gap.reason,
        )
        for gap in report.gaps
    ]


CHARGE_HEADINGS = ("charger", "from", "until", "energy", "at most", "pauses")
GAP_HEADINGS = ("from", "until", "for", "what", "why")


def energy_table(report: DayReport) -> str:
    """Write the energies."""
    if not report.energies:
        return "<p>No powers were recorded.</p>"
    return table(("", "energy"), energy_rows(report))


def peak_table(report: DayReport) -> str:
    """Write the peaks."""
    if not report.peaks:
        return "<p>No currents were recorded.</p>"
    return table(("phase", "current", "at", "fuse"), peak_rows(report))


def charge_table(report: DayReport) -> str:
    """Write the cars."""
    return f"<p>{html.escape(cars_in_words(report))}</p>" + (
        table(CHARGE_HEADINGS, charge_rows(report)) if report.charges else ""
    )


def gap_table(report: DayReport) -> str:
    """Write the interruptions."""
    if not report.gaps:
        return f"<p>{gaps_in_words(report)}</p>"
    return table(GAP_HEADINGS, gap_rows(report))


def gaps_in_words(report: DayReport) -> str:
    """Say how many interruptions there were."""
    if not report.gaps:
        if report.until == report.start:
            return "This day has not begun."
        return "No interruptions." if report.until == report.end else "No interruptions so far."
    whole = sum((gap.end - gap.start).total_seconds() for gap in report.gaps)
    count = len(report.gaps)
    return f"{count} interruption{'s' if count > 1 else ''}, {duration(whole)}:"


def cars_in_words(report: DayReport) -> str:
    """Say how many cars were charged."""
    count = len(report.charges)
    energy = sum(one.kwh for one in report.charges)
    cars = "1 car was charged" if count == 1 else f"{count} cars were charged"
    idle = f"; {report.idle_cars} more took less than 0.1 kWh each" if report.idle_cars else ""
    return f"{cars} with {energy:,.1f} kWh{idle}."


def charger_name(charge: Charge) -> str:
    """Name a charger."""
    return f"{charge.component_id} {charge.name}".rstrip()


def clock(report: DayReport, moment: datetime) -> str:
    """Write a time of the day down, in the site's zone."""
    there = moment.astimezone(ZoneInfo(report.timezone))
    return "24:00:00" if moment >= report.end else f"{there:%H:%M:%S}"


def duration(seconds: float) -> str:
    """Write a duration down."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


# Pictures


def _powers(report: DayReport) -> str:
    lines = [
        _Line(name, colour, _points(report, column, 1e-3))
        for column, (name, colour) in _POWERS.items()
        if column in report.totals
    ]
    return _picture(report, [line for line in lines if line.points], "kW", None)


def _currents(report: DayReport) -> str:
    lines = [
        _Line(f"L{phase}", colour, _points(report, f"grid_current_phase_{phase}_a", 1.0))
        for phase, colour in _PHASE_COLOURS.items()
        if f"grid_current_phase_{phase}_a" in report.totals
    ]
    return _picture(report, [line for line in lines if line.points], "A", report.fuse_a)


def _points(report: DayReport, column: str, factor: float) -> list[tuple[float, float]]:
    """Make a few points of many values: the mean of each piece of the day, if anything is known."""
    import numpy as np  # noqa: PLC0415 - comes with an extra

    values = report.totals[column].dropna()
    if not len(values):
        return []
    length = (report.end - report.start).total_seconds()
    times = values.index.as_unit("us").asi8 / 1e6
    pieces = ((times - report.start.timestamp()) / length * _POINTS).astype("int64")
    pieces = pieces.clip(0, _POINTS - 1)
    sums = np.bincount(pieces, weights=values.to_numpy() * factor, minlength=_POINTS)
    counts = np.bincount(pieces, minlength=_POINTS)
    with np.errstate(invalid="ignore"):
        means = sums / np.where(counts == 0, np.nan, counts)
    return [((n + 0.5) / _POINTS, float(mean)) for n, mean in enumerate(means)]


def _picture(report: DayReport, lines: Sequence[_Line], unit: str, limit: float | None) -> str:
    if not lines:
        return ""
    known = [value for line in lines for _, value in line.points if not math.isnan(value)]
    low, high, step = _scale(min([0.0, *known]), max([0.0, *known, *([limit] if limit else [])]))
    parts = [*_hours(report, _HEIGHT)]

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        parts.append(_rule(y(value), "#ddd" if value else "#888"))
        parts.append(_word(_LEFT - 6, y(value) + 4, f"{value:g} {unit}", "end"))
    if limit:
        parts.append(_rule(y(limit), "#c00"))
    for line in lines:
        for piece in _pieces(line.points):
            points = " ".join(f"{_x(share):.1f},{y(value):.1f}" for share, value in piece)
            parts.append(
                f'<polyline fill="none" stroke="{line.colour}" stroke-width="1.4" '
                f'points="{points}"/>'
            )
    keys = [(line.name, line.colour) for line in lines]
    if limit:
        keys.append((f"fuse {limit:g} A", "#c00"))
    return _svg(_HEIGHT, parts) + _keys(keys)


def _bars(report: DayReport) -> str:
    """Draw when each charger charged a car."""
    numbers = sorted({one.component_id for one in report.charges})
    if not numbers:
        return ""
    height = _TOP + _BAR * len(numbers) + _BOTTOM
    parts = [*_hours(report, height)]
    length = (report.end - report.start).total_seconds()
    for place, number in enumerate(numbers):
        top = _TOP + place * _BAR
        parts.append(_word(_LEFT - 6, top + _BAR - 3, str(number), "end"))
        for one in report.charges:
            if one.component_id == number:
                begin, end = (
                    _x(min(max((moment - report.start).total_seconds() / length, 0.0), 1.0))
                    for moment in (one.start, one.end)
                )
                text = html.escape(f"{charger_name(one)}: {one.kwh:.1f} kWh")
                parts.append(
                    f'<rect x="{begin:.1f}" y="{top + 1:.1f}" width="{max(end - begin, 1):.1f}" '
                    f'height="{_BAR - 3:.1f}" fill="#9467bd"><title>{text}</title></rect>'
                )
    return _svg(height, parts)


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """Give round ends of a scale, and its step."""
    span = max(high - low, 1e-9)
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _pieces(points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Cut a line where nothing is known."""
    piece: list[tuple[float, float]] = []
    for share, value in points:
        if math.isnan(value):
            if piece:
                yield piece
            piece = []
        else:
            piece.append((share, value))
    if piece:
        yield piece


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT)


def _hours(report: DayReport, height: float) -> Iterator[str]:
    zone = ZoneInfo(report.timezone)
    length = report.end - report.start
    moment = report.start
    while moment <= report.end:
        # An hour of the clock, which a day has 23 to 25 of.
        there = moment.astimezone(zone)
        if there.hour % 3 == 0:
            x = _x((moment - report.start) / length)
            yield (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}" '
                'stroke="#eee"/>'
            )
            if moment < report.end:
                yield _word(x, height - 6, f"{there:%H:%M}", "start")
        moment += timedelta(hours=1)


def _rule(y: float, colour: str) -> str:
    return f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'


def _word(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="#555" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def _svg(height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" role="img">'
        + "".join(parts)
        + "</svg>"
    )


def _keys(keys: Sequence[tuple[str, str]]) -> str:
    spans = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>'
        for name, colour in keys
    )
    return f'<p class="key">{spans}</p>'
