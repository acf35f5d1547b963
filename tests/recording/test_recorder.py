"""A recorder, and what it has recorded, with simulated sites over TCP."""

import csv
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from microgrid_sync import MicrogridApiClient, recording
from microgrid_sync.gateways import LiveSite
from microgrid_sync.recording.recorder import Only
from microgrid_sync.recording.store import StoreError
from microgrid_sync.simulator import Simulator
from microgrid_sync.snapshot import open_all
from tests.support.waiting import eventually

pytestmark = [pytest.mark.both_apis]


def simulator(api: str, **options: Any) -> Simulator:
    """Make a site whose clock is right."""
    return Simulator("demo", api=[api], sample_interval=0.05, start=datetime.now(UTC), **options)


def record_until(destination: str | Path, url: str, rows: int, **options: Any) -> Any:
    """Record a site; give what another reader has heard of chargers meanwhile, and the stats."""
    with (
        MicrogridApiClient(url) as client,
        recording.Recorder(destination, **options) as recorder,
    ):
        recorder.record(client, name="site")
        heard: dict[tuple[int, datetime], float] = {}
        receiver = open_all(client, client.components(), 1000)
        assert receiver is not None
        assert eventually(lambda: recorder.stats.recorded > 0)
        with receiver:
            while recorder.stats.recorded < rows:
                for value in receiver.receive(timeout=10), *receiver.drain():
                    if hasattr(value, "cable_state"):
                        heard[value.component_id, value.timestamp] = value.active_power
    return heard, recorder.stats


@pytest.mark.parametrize("name", ["folder/", "site.csv", "site.jsonl"])
def test_what_was_recorded_is_read_as_it_was_heard(tmp_path: Path, api: str, name: str) -> None:
    destination = f"{tmp_path}/{name}"
    with simulator(api) as site:
        heard, stats = record_until(destination, site.url, 600)
    assert stats.lost == 0
    assert stats.delivered == stats.recorded
    with recording.open(destination) as opened:
        assert opened.sites == ["site"]
        assert opened.timezone("site") == "Europe/Berlin"
        assert opened.fuse("site") is not None
        frame = opened.samples("ev-charger", "active_power_w")
        found = {
            (int(number), stamp.to_pydatetime()): value
            for stamp, number, value in zip(
                frame.index, frame["component_id"], frame["active_power_w"], strict=True
            )
        }
        assert len(found) == len(frame)
        if name != "folder/":
            # Text has milliseconds, and nine digits.
            found = {(n, t.replace(microsecond=t.microsecond // 1000 * 1000)): v
                     for (n, t), v in found.items()}  # fmt: skip
            heard = {(n, t.replace(microsecond=t.microsecond // 1000 * 1000)): v
                     for (n, t), v in heard.items()}  # fmt: skip
        begun, ended = min(t for _, t in found), max(t for _, t in found)
        expected = {key: value for key, value in heard.items() if begun < key[1] < ended}
        assert len(expected) > 20
        assert expected.keys() <= found.keys()
        assert all(math.isclose(found[key], expected[key], rel_tol=1e-8) for key in expected)
        totals = opened.totals(["grid_power", "grid_current"])
        assert [*totals.columns[1:]] == [
            "grid_power_w", *(f"grid_current_phase_{n}_a" for n in (1, 2, 3)),
        ]  # fmt: skip
        assert opened.gaps(end=ended).empty


def test_a_folder_is_read_while_it_is_recorded_and_files_are_whole(
    tmp_path: Path, api: str
) -> None:
    folder = tmp_path / "data.parquet"
    with (
        simulator(api) as site,
        MicrogridApiClient(site.url) as client,
        recording.Recorder(folder) as recorder,
    ):
        recorder.record(client, name="site")
        assert eventually(lambda: recorder.stats.recorded > 100)
        assert [*folder.glob("*/*.parquet")] == []
        with recording.open(folder) as opened:
            assert len(opened.samples(metric="active_power")) > 10
    assert [*folder.glob("*/*.parquet")] != []
    assert [*folder.glob("*/.*.part")] == []
    with recording.open(folder) as opened:
        before = opened.samples()
        assert not before.reset_index().duplicated(["timestamp", "component_id"]).any()
    # The same hour once more: another file, and nothing twice.
    with simulator(api) as site:
        record_until(folder, site.url, 200)
    with recording.open(folder) as opened:
        assert len(opened.samples()) > len(before)
        gaps = opened.gaps_between(None, datetime.now(UTC) - timedelta(seconds=1))
        assert {gap.reason for gap in gaps} <= {"the recorder was closed"}


def test_a_file_that_was_written_before_the_end_is_not_written_again(
    tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill it between a file's getting its name and the spool's letting go of its rows."""
    folder = tmp_path / "data.parquet"

    def fail(*_: object) -> None:
        raise StoreError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("microgrid_sync.recording.spool.Spool.remove", fail)
        with simulator(api) as site:
            record_until(folder, site.url, 200)
    files = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.parquet")}
    assert files
    with recording.open(folder) as opened:
        rows = len(opened.samples())
    with recording.Recorder(folder):
        pass
    assert files.items() <= {p: p.stat().st_mtime_ns for p in folder.glob("*/*.parquet")}.items()
    with recording.open(folder) as opened:
        found = opened.samples()
        assert len(found) == rows
        assert not found.reset_index().duplicated(["timestamp", "component_id"]).any()


def test_some_of_it_alone(tmp_path: Path, api: str) -> None:
    folder = tmp_path / "data.parquet"
    with simulator(api) as site:
        record_until(
            folder, site.url, 30, what=["samples"], every=0.2,
            only=Only(["ev-charger", 2], ["active_power"]),
        )  # fmt: skip
    with recording.open(folder) as opened:
        assert opened.totals().empty
        assert opened.allocations().empty
        frame = opened.samples()
        assert {*frame["component_id"]} == {2, 7, 8}
        assert frame["active_power_w"].notna().all()
        assert frame["frequency_hz"].isna().all()
        steps = frame[frame["component_id"] == 7].index.to_series().diff().dropna()
    assert steps.min() >= timedelta(seconds=0.1)
    assert timedelta(seconds=0.15) < steps.median() < timedelta(seconds=0.25)


def test_a_site_that_goes_away_is_silent_in_the_gaps(tmp_path: Path, api: str) -> None:
    folder = tmp_path / "data.parquet"
    with (
        simulator(api) as site,
        MicrogridApiClient(site.url) as client,
        LiveSite(client, name="site", max_age=1.0) as live,
        recording.Recorder(folder) as recorder,
    ):
        recorder.record(live)
        assert eventually(lambda: recorder.stats.recorded > 100)
        site.stop()
        gone = datetime.now(UTC)

        def silences() -> list[recording.Gap]:
            with recording.open(folder) as opened:
                return [g for g in opened.gaps_between(None, None) if g.what == "silent"]

        assert eventually(lambda: any(g.end > gone + timedelta(seconds=2) for g in silences()))
        (gap,) = silences()
    assert abs(gap.start - gone) < timedelta(seconds=2)
    assert gap.reason == "the site was not heard"


def test_a_site_is_recorded_once(tmp_path: Path, api: str) -> None:
    with (
        simulator(api) as site,
        MicrogridApiClient(site.url) as client,
        recording.Recorder(tmp_path / "data.parquet") as recorder,
    ):
        recorder.record(client, name="site")
        with pytest.raises(ValueError, match="'site' is recorded already"):
            recorder.record(client, name="site")
    with (
        MicrogridApiClient("grpc://127.0.0.1:1") as other,
        pytest.raises(RuntimeError, match="is closed"),
    ):
        recorder.record(other)


def test_what_cannot_be_written_waits_and_is_told_when_it_is_lost(
    tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("microgrid_sync.recording.recorder._MOST_WAITING", 150)
    folder = tmp_path / "data.parquet"
    with (
        simulator(api) as site,
        MicrogridApiClient(site.url) as client,
        recording.Recorder(folder) as recorder,
    ):
        recorder.record(client, name="site")
        assert eventually(lambda: recorder.stats.recorded > 50)
        spool = recorder._spool
        assert spool is not None
        assert spool._writer is not None
        # The disk is as full as SQLite can be told that it is.
        pages = spool._writer.execute("PRAGMA page_count").fetchone()[0]
        spool._writer.execute(f"PRAGMA max_page_count = {pages}")
        assert eventually(lambda: "database or disk is full" in caplog.text)
        assert eventually(lambda: recorder.stats.lost > 0)
        spool._writer.execute("PRAGMA max_page_count = 1000000")
        assert eventually(lambda: "rows can be written again" in caplog.text)
    assert caplog.text.count("database or disk is full") == 1
    with recording.open(folder) as opened:
        lost = [gap for gap in opened.gaps_between(None, None) if gap.what == "lost"]
    assert lost
    assert "database or disk is full" in lost[0].reason


def test_wrong_arguments_are_errors_before_anything_is_opened(tmp_path: Path, api: str) -> None:
    del api
    for options, words in (
        ({"what": ["sample"]}, "may be samples, totals, results, set-points, not 'sample'"),
        ({"what": []}, "not nothing"),
        ({"every": -1.0}, "every"),
        ({"period": "week"}, "period must be 'hour' or 'day', not 'week'"),
    ):
        with pytest.raises(ValueError, match=words):
            recording.Recorder(tmp_path / "data.parquet", **options)  # type: ignore[arg-type] # wrong on purpose
    for destination in ("data", "http://x/y", "mysql://user:secret@host/db"):
        with pytest.raises(ValueError, match="it may be a file that ends in"):
            recording.Recorder(destination)
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
            recording.open(destination)
        assert "secret" not in str(caught.value)
    for only in (["cars"], ["ev_chargers"]):
        with pytest.raises(ValueError, match="is none of"):
            Only(only)
    with pytest.raises(ValueError, match="no component has a metric 'power'"):
        Only([], ["power"])
    assert [*tmp_path.iterdir()] == []


def test_files_of_records_that_were_made_for_one_site_are_read(tmp_path: Path, api: str) -> None:
    del api
    path = tmp_path / "meter.csv"
    with path.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["component_id", "timestamp", "active_power_w"])
        writer.writerow([2, "2026-11-25T12:00:00.000Z", 5.0])
    with recording.open(path) as opened:
        assert list(opened.samples(2)["active_power_w"]) == [5.0]
    part = tmp_path / "meter.jsonl.part"
    line = json.dumps({"component_id": 2, "timestamp": "2026-11-25T12:00:00Z", "frequency_hz": 50})
    part.write_text(f'{line}\n{{"component_id": 2, "times')
    with recording.open(tmp_path / "meter.jsonl") as opened:
        assert list(opened.samples(metric="frequency")["frequency_hz"]) == [50.0]
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StoreError, match="has no column 'timestamp'"):
        recording.open(tmp_path / "no.csv")
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*none\.csv'"):
        recording.open(tmp_path / "none.csv")
