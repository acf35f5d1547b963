"""Sums up a day of a site: energy, peaks against the fuse, cars, interruptions.

What it is made of is read before; the rest is pure. It needs the extra ``notebook``.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, NamedTuple

from microgrid_sync.recording.gaps import Gap
from microgrid_sync.recording.reading import NO_NOTES, Recording

if TYPE_CHECKING:
    from pandas import DataFrame, Series

_HELD = 3.0
"""A value holds for so many times the usual distance of two at the most, then it is unknown."""

_LEAST_HELD = 5.0
"""Seconds that it holds for in any case."""

_LEAST_ENERGY = 100.0
"""Wh: who took less has not been charged."""

_LEAST_POWER = 100.0
"""W: who draws less does not charge."""

_UNKNOWN_FOR = 5
"""Samples without the state of the cable, or the power, in which it is what it was."""

_WAS_PLUGGED = ("ev_plugged", "ev_locked")

_KINDS = {
    "grid_power_w": ("drawn from the grid", "fed into the grid"),
    "consumers_power_w": ("consumers", ""),
    "pv_power_w": ("", "PV"),
    "chp_power_w": ("", "CHP"),
    "batteries_power_w": ("batteries charged", "batteries discharged"),
    "chargers_power_w": ("EV chargers", "EV chargers, fed back"),
}
"""What a total's energy is called where it is positive, and where it is negative."""


_CURRENTS = tuple(f"grid_current_phase_{phase}_a" for phase in (1, 2, 3))


class Energy(NamedTuple):
    """The energy of a kind in a day."""

    kind: str
    kwh: float
    known_s: float
    """Seconds in which the power was known."""


class Peak(NamedTuple):
    """The highest current of a phase at the grid connection."""

    phase: int
    current_a: float
    """Its size, whatever its direction."""

    at: datetime
    over_s: float
    """Seconds in which it was above the fuse's rating; 0 where that is not known."""


class Charge(NamedTuple):
    """A car at a charger, from being plugged in until unplugged, or as far as the day goes."""

    component_id: int
    name: str
    start: datetime
    end: datetime
    kwh: float
    peak_w: float
    pauses: int
    """How often it stopped charging and began again."""


class DayReport(NamedTuple):
    """A day of a site."""

    site: str
    day: date
    timezone: str
    start: datetime
    end: datetime
    until: datetime
    """As far as the day has come: its end, or now; its start if it has not begun."""

    fuse_a: float | None
    energies: list[Energy]
    peaks: list[Peak]
    charges: list[Charge]
    """The cars that were charged, by charger and time."""

    idle_cars: int
    """Cars that were plugged in, and took less than 0.1 kWh."""

    gaps: list[Gap]
    totals: "DataFrame"
    """The totals of the day, for pictures."""


def day_report(
    recording: Recording, day: date, *, site: str | None = None, timezone: str | None = None
) -> DayReport:
    """Sum up a day.

    Args:
        recording: What is read.
        day: The day.
        site: The site; may be left out if there is but one.
        timezone: The zone that the day is one of; the site's own unless given, UTC if that is not
            known.

    Raises:
        ValueError: If the site is not known, or must be said.
    """
    known = recording.sites
    if site is None:
        if not known:
            raise ValueError(f"{recording.name} does not say of which site it is{NO_NOTES}")
        if len(known) != 1:
            listed = ", ".join(known) or "none"
            raise ValueError(f"say which site; there are {listed}")
        site = known[0]
    elif site not in known:
        raise ValueError(f"there is no site {site!r}; there are {', '.join(known) or 'none'}")
    # As things were on that day.
    noon = datetime.combine(day, time(12), UTC)
    zone = timezone or recording.timezone(site, noon)
    start, end = recording.day(day, zone)
    totals = recording.totals([*_KINDS, *_CURRENTS], start, end, site=site).dropna(
        axis=1, how="all"
    )
    components = recording.components(site=site)
    is_charger = components["category"] == "ev_charger"
    names = {
        int(number): name if isinstance(name, str) else ""
        for number, name in zip(components["component_id"], components["name"], strict=True)
    }
    charges: list[Charge] = []
    energies = [*_energies(totals)]
    idle = 0
    if is_charger.any() or not len(components):
        data = recording.samples(
            [*map(int, components[is_charger]["component_id"])] or None,
            ["active_power_w", "cable_state"],
            start,
            end,
            site=site,
        )
        for number, rows in data.groupby("component_id"):
            for charge in _charges(int(number), names.get(int(number), ""), rows):
                if charge.kwh * 1000 >= _LEAST_ENERGY:
                    charges.append(charge)
                else:
                    idle += 1
        if "chargers_power_w" not in totals and len(data):
            energies += _energies_of_chargers(data)
    fuse = recording.fuse(site, end)
    return DayReport(
        site,
        day,
        zone or "UTC",
        start,
        end,
        max(start, min(end, datetime.now(UTC))),
        fuse,
        energies,
        [*_peaks(totals, fuse)],
        charges,
        idle,
        recording.gaps_between(start, end, site=site),
        totals,
    )


def _seconds(times: Any) -> Any:
    """Give for how many seconds each of some values holds."""
    import numpy as np  # noqa: PLC0415 - comes with an extra

    if not len(times):
        return np.zeros(0)
    steps = np.diff(times.as_unit("us").asi8) / 1e6
    usual = float(np.median(steps)) if len(steps) else 1.0
    steps = np.append(steps, usual)
    return np.minimum(steps, max(_LEAST_HELD, _HELD * usual))


def _energies(totals: "DataFrame") -> Iterator[Energy]:
    for column, names in _KINDS.items():
        if column in totals:
            yield from _both_ways(totals[column].dropna(), names)


def _both_ways(power: "Series[float]", names: Sequence[str]) -> Iterator[Energy]:
    if not len(power):
        return
    held = _seconds(power.index)
    watts = power.to_numpy()
    for name, sign in zip(names, (1.0, -1.0), strict=True):
        joules = float(((watts * sign).clip(min=0.0) * held).sum())
        if name and (joules > 0.0 or sign > 0.0 or not names[0]):
            yield Energy(name, joules / 3.6e6, float(held.sum()))


def _energies_of_chargers(data: "DataFrame") -> Iterator[Energy]:
    """Sum chargers up where nobody recorded their total."""
    found: dict[str, list[Energy]] = {}
    for _, rows in data.groupby("component_id"):
        for one in _both_ways(rows["active_power_w"].dropna(), _KINDS["chargers_power_w"]):
            found.setdefault(one.kind, []).append(one)
    for kind, ones in found.items():
        yield Energy(kind, sum(one.kwh for one in ones), max(one.known_s for one in ones))


def _peaks(totals: "DataFrame", fuse: float | None) -> Iterator[Peak]:
    for phase in (1, 2, 3):
        column = _CURRENTS[phase - 1]
        if column not in totals:
            continue
        sizes = totals[column].dropna().abs()
        if not len(sizes):
            continue
        over = 0.0 if fuse is None else float(_seconds(sizes.index)[sizes.to_numpy() > fuse].sum())
        yield Peak(phase, float(sizes.max()), sizes.idxmax().to_pydatetime(), over)


def _charges(number: int, name: str, rows: "DataFrame") -> Iterator[Charge]:
    """Find the cars at one charger."""
    # A sample without a state does not make two cars of one.
    cables = rows["cable_state"].replace("unspecified", None).ffill(limit=_UNKNOWN_FOR)
    plugged = cables.isin(_WAS_PLUGGED).to_numpy()
    # A sample without its power is no pause, and no end of one.
    watts = rows["active_power_w"].ffill(limit=_UNKNOWN_FOR).fillna(0.0).to_numpy()
    if not plugged.any() and (watts >= _LEAST_POWER).any():
        # A server that says nothing of the cable: who draws is there.
        plugged = watts >= _LEAST_POWER
    held = _seconds(rows.index)
    begin = None
    for place in range(len(rows) + 1):
        is_there = place < len(rows) and plugged[place]
        if is_there and begin is None:
            begin = place
        elif not is_there and begin is not None:
            drawn = watts[begin:place]
            draws = drawn >= _LEAST_POWER
            starts = int((draws[1:] & ~draws[:-1]).sum()) + int(draws[0])
            last = rows.index[min(place, len(rows) - 1)]
            yield Charge(
                number,
                name,
                rows.index[begin].to_pydatetime(),
                last.to_pydatetime(),
                float((drawn * held[begin:place]).clip(min=0.0).sum()) / 3.6e6,
                float(drawn.max()),
                max(0, starts - 1),
            )
            begin = None


def as_json(report: DayReport) -> dict[str, Any]:
    """Give a report as JSON can have it."""
    return {
        "site": report.site,
        "day": report.day.isoformat(),
        "timezone": report.timezone,
        "fuse_a": report.fuse_a,
        "energy": [{"kind": one.kind, "kwh": round(one.kwh, 3)} for one in report.energies],
        "known_s": round(known_seconds(report)),
        "peaks": [
            {
                "phase": one.phase,
                "current_a": round(one.current_a, 2),
                "at": one.at.isoformat(),
                "over_fuse_s": round(one.over_s, 1),
            }
            for one in report.peaks
        ],
        "charges": [
            {
                "component_id": one.component_id,
                "start": one.start.isoformat(),
                "end": one.end.isoformat(),
                "kwh": round(one.kwh, 3),
                "peak_w": round(one.peak_w),
                "pauses": one.pauses,
            }
            for one in report.charges
        ],
        "plugged_and_not_charged": report.idle_cars,
        "interruptions": [
            {
                "start": gap.start.isoformat(),
                "end": gap.end.isoformat(),
                "what": gap.what,
                "reason": gap.reason,
            }
            for gap in report.gaps
        ],
    }


def known_seconds(report: DayReport) -> float:
    """Give for how much of the day powers are known."""
    return max((one.known_s for one in report.energies), default=0.0)
