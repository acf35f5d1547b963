"""The report of a day, of rows whose sums are known."""

import json
import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from microgrid_sync import recording
from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.recording.gaps import BEFORE
from microgrid_sync.recording.parquet import ParquetStore
from microgrid_sync.recording.report import Energy, as_json
from microgrid_sync.recording.report_page import duration, gaps_in_words, known_in_words, page
from microgrid_sync.recording.rows import coverage_row, site_row
from microgrid_sync.recording.schema import TABLES, Row, micros
from microgrid_sync.recording.spool import Spool

DAY = date(2026, 10, 25)
"""It has 25 hours in Berlin."""

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 10, 25, tzinfo=BERLIN).astimezone(UTC)
LENGTH = 25 * 3600


def total(second: float, **values: float) -> Row:
    """Make a row of totals."""
    stamp = micros(START + timedelta(seconds=second))
    return Row("total", "site", 0, stamp, 0, [values.get(name) for name in TABLES["total"].values])


def charger(second: float, number: int, power: float | None, cable: str) -> Row:
    """Make a row of a charger."""
    stamp = micros(START + timedelta(seconds=second))
    known: dict[str, float | str | None] = {"active_power_w": power, "cable_state": cable}
    cells = [known.get(name) for name in TABLES["ev_charger"].values]
    return Row("ev_charger", "site", number, stamp, 0, cells)


def recorded(tmp_path: Path, rows: Iterable[Row], zone: str | None = "Europe/Berlin") -> Path:
    """Record rows into a folder."""
    components = [Component(n, ComponentCategory.EV_CHARGER, name=f"post {n}") for n in (7, 8)]
    made = site_row("site", "grpc://x", None, components, fuse_a=35.0, now=START)
    made.values[1] = zone  # type: ignore[index] # a list
    end = START + timedelta(seconds=LENGTH)
    cover = [
        coverage_row("site", 1, "recorded", START, START + timedelta(hours=6), reason=None),
        coverage_row("site", 2, "recorded", START + timedelta(hours=7), end, reason=None),
    ]
    store = ParquetStore(tmp_path / "data", "day")
    store.check()
    with Spool(tmp_path / "spool.sqlite") as spool:
        for row in (made, *cover, *rows):
            spool.add({store.place(row.table, row.timestamp): [row]})
        store.deliver(spool, all_of_it=True)
    return tmp_path / "data"


def test_energy_is_the_sum_of_what_is_known(tmp_path: Path) -> None:
    # An hour of 6 kW every 10 s, an hour of nothing, an hour of -3 kW.
    rows = [total(10 * n, grid_power_w=6000.0, pv_power_w=-1000.0) for n in range(360)]
    rows += [total(7200 + 10 * n, grid_power_w=-3000.0) for n in range(360)]
    # Of other days.
    rows += [total(-10, grid_power_w=1e6), total(LENGTH, grid_power_w=1e6)]
    with recording.open(recorded(tmp_path, rows)) as opened:
        found = recording.day_report(opened, DAY)
    energies = {one.kind: one.kwh for one in found.energies}
    # A value holds until the next one, and three times as long as usual at the most.
    assert energies["drawn from the grid"] == pytest.approx(6.0 + 6.0 * 20 / 3600)
    assert energies["fed into the grid"] == pytest.approx(3.0)
    assert energies["PV"] == pytest.approx(1.0)
    assert found.end - found.start == timedelta(hours=25)
    assert found.timezone == "Europe/Berlin"


def test_peaks_are_measured_against_the_fuse(tmp_path: Path) -> None:
    names = [f"grid_current_phase_{n}_a" for n in (1, 2, 3)]
    rows = [
        total(second, **dict(zip(names, currents, strict=True)))
        for second in range(100)
        for currents in [(10.0, -40.0 if 20 <= second < 50 else 5.0, 34.0)]
    ]
    with recording.open(recorded(tmp_path, rows)) as opened:
        found = recording.day_report(opened, DAY)
    assert [(one.phase, one.current_a, one.over_s) for one in found.peaks] == [
        (1, 10.0, 0.0),
        (2, 40.0, 30.0),
        (3, 34.0, 0.0),
    ]
    assert found.peaks[1].at == START + timedelta(seconds=20)


def test_cars_are_counted_with_their_energy_and_pauses(tmp_path: Path) -> None:
    rows = []
    for minute in range(600):
        plugged = 60 <= minute < 300
        charging = plugged and not 100 <= minute < 130 and minute < 200
        rows.append(charger(60 * minute, 7, 11_000.0 if charging else 0.0,
                            "ev_locked" if plugged else "unplugged"))  # fmt: skip
        # Plugged in, and never charged.
        rows.append(charger(60 * minute, 8, 0.0, "ev_plugged" if minute > 500 else "unplugged"))
    with recording.open(recorded(tmp_path, rows)) as opened:
        found = recording.day_report(opened, DAY, site="site")
    (car,) = found.charges
    assert car.component_id == 7
    assert car.name == "post 7"
    assert car.start == START + timedelta(minutes=60)
    assert car.end == START + timedelta(minutes=300)
    assert car.kwh == pytest.approx(11.0 * (200 - 60 - 30) / 60)
    assert car.pauses == 1
    assert car.peak_w == 11_000.0
    assert found.idle_cars == 1
    # Nobody recorded totals: the chargers are summed up.
    (energy,) = found.energies
    assert energy.kind == "EV chargers"
    assert energy.kwh == pytest.approx(car.kwh)
    assert json.loads(json.dumps(as_json(found)))["charges"][0]["pauses"] == 1


def test_a_sample_without_its_power_is_no_pause(tmp_path: Path) -> None:
    unknown = {40, 41, 90}
    rows = [charger(10 * n, 7, None if n in unknown else 11_000.0, "ev_locked") for n in range(200)]
    with recording.open(recorded(tmp_path, rows)) as opened:
        (car,) = recording.day_report(opened, DAY).charges
    assert car.pauses == 0
    assert car.kwh == pytest.approx(11.0 * 2000 / 3600)


def test_a_day_is_reported_as_the_site_was_then(tmp_path: Path) -> None:
    later = site_row("site", "grpc://x", None, [], fuse_a=63.0, now=START + timedelta(days=9))
    later.values[1] = "Asia/Tokyo"  # type: ignore[index] # a list
    with recording.open(recorded(tmp_path, [later])) as opened:
        found = recording.day_report(opened, DAY)
        assert (found.fuse_a, found.timezone) == (35.0, "Europe/Berlin")
        assert (opened.fuse("site"), opened.timezone("site")) == (63.0, "Asia/Tokyo")


def test_samples_alone_do_not_say_when_they_were_recorded(tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text("component_id,timestamp,active_power_w\n2,2026-11-25T12:00:00.000Z,5.0\n")
    with recording.open(path) as opened:
        with pytest.raises(ValueError, match="does not say when it was recorded"):
            opened.gaps()
        with pytest.raises(ValueError, match="does not say of which site it is"):
            recording.day_report(opened, DAY)


def test_the_page_has_it_all_and_nothing_acts(tmp_path: Path) -> None:
    rows = [total(60 * n, grid_power_w=1000.0 * math.sin(n / 99), pv_power_w=-5.0,
                  **{f"grid_current_phase_{p}_a": 1.0 * p for p in (1, 2, 3)})
            for n in range(1500)]  # fmt: skip
    rows += [charger(60 * n, 7, 11_000.0, "ev_locked") for n in range(1500)]
    with recording.open(recorded(tmp_path, rows)) as opened:
        found = recording.day_report(opened, DAY)
    text = page(found._replace(site="<script>alert(1)</script>"))
    assert "<script>" not in text
    assert text.count("<svg") == 3
    assert "25 h 00 min" in text
    assert "7 post 7" in text
    # The hour without a recorder, by the site's clock, in which three o'clock comes twice.
    assert [row for row in ("05:00:00", "06:00:00", "not recorded") if row not in text] == []
    assert text.count(">03:00<") == 3


def test_a_day_without_anything_says_so(tmp_path: Path) -> None:
    with recording.open(recorded(tmp_path, [])) as opened:
        found = recording.day_report(opened, DAY)
        assert found.energies == []
        text = page(found)
        assert "No powers were recorded" in text
        assert as_json(found)["known_s"] == 0
        assert "0 cars were charged" in text
        with pytest.raises(ValueError, match="there is no site 'other'; there are site"):
            recording.day_report(opened, DAY, site="other")
        for read in (opened.samples, opened.totals, opened.gaps):
            with pytest.raises(ValueError, match="there is no site 'depott'; there are site"):
                read(site="depott")
        with pytest.raises(ValueError, match="there is no site 'depott'; there are site"):
            opened.samples("ev-charger", site="depott")


def test_a_day_that_nobody_recorded_is_no_day_without_interruptions(tmp_path: Path) -> None:
    with recording.open(recorded(tmp_path, [])) as opened:
        before = recording.day_report(opened, DAY - timedelta(days=1))
        (gap,) = before.gaps
        assert (gap.start, gap.end, gap.reason) == (before.start, before.end, BEFORE)
        assert gaps_in_words(before) == "1 interruption, 24 h 00 min:"
        ahead = recording.day_report(opened, datetime.now(BERLIN).date() + timedelta(days=2))
        assert (ahead.gaps, ahead.until) == ([], ahead.start)
        assert gaps_in_words(ahead) == "This day has not begun."
        with pytest.raises(ValueError, match="is before the start"):
            opened.gaps("2026-12-01", "2026-11-01")


def test_of_today_it_is_said_how_much_of_it_is_known_so_far(tmp_path: Path) -> None:
    with recording.open(recorded(tmp_path, [])) as opened:
        while True:
            day = datetime.now(BERLIN).date()
            found = recording.day_report(opened, day)
            if datetime.now(BERLIN).date() == day:
                break
    assert found.start <= found.until < found.end
    known = found._replace(energies=[Energy("consumers", 1.0, 29.0)])
    assert f"29 s of {duration((found.until - found.start).total_seconds())} so far" in (
        known_in_words(known)
    )
    assert gaps_in_words(found._replace(gaps=[])) == "No interruptions so far."
