"""A recorder, and what it has recorded, with simulated sites over TCP."""

import csv
import json
import math
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from microgrid_sync import MicrogridApiClient, recording
from microgrid_sync.gateways import LiveSite
from microgrid_sync.gateways.live_site import is_of_site
from microgrid_sync.recording.destination import default_spool, destination_of
from microgrid_sync.recording.parquet import ParquetStore
from microgrid_sync.recording.recorder import shortened
from microgrid_sync.recording.rows import sample_row
from microgrid_sync.recording.schema import Row, micros
from microgrid_sync.recording.selection import Only
from microgrid_sync.recording.spool import Spool, SpoolError
from microgrid_sync.recording.store import StoreError
from microgrid_sync.simulator import Simulator
from microgrid_sync.snapshot import open_all
from tests.support.waiting import eventually


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
            while recorder.stats.recorded < rows or len(heard) < 100:
                for value in receiver.receive(timeout=10), *receiver.drain():
                    if hasattr(value, "cable_state"):
                        heard[value.component_id, value.timestamp] = value.active_power
    return heard, recorder.stats


@pytest.mark.parametrize("name", ["folder/", "site.csv", "site.jsonl"])
@pytest.mark.both_apis
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
        # One component may have been followed a moment before another one.
        begun = {n: min(t for m, t in found if m == n) for n, _ in found}
        ended = {n: max(t for m, t in found if m == n) for n, _ in found}
        expected = {(n, t): watts for (n, t), watts in heard.items() if begun[n] < t < ended[n]}
        assert len(expected) > 20
        assert expected.keys() <= found.keys()
        assert all(math.isclose(found[key], expected[key], rel_tol=1e-8) for key in expected)
        totals = opened.totals(["grid_power", "grid_current"])
        assert [*totals.columns[1:]] == [
            "grid_power_w", *(f"grid_current_phase_{n}_a" for n in (1, 2, 3)),
        ]  # fmt: skip
        assert opened.gaps(end=max(ended.values())).empty


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
        # The first one was somewhere in its interval.
        steps = frame[frame["component_id"] == 7].index.to_series().diff().dropna()[1:]
    assert steps.min() >= timedelta(seconds=0.1)
    assert timedelta(seconds=0.15) < steps.median() < timedelta(seconds=0.25)


def test_a_clock_and_an_id_that_are_other_ones_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Simulator("demo", sample_interval=0.05, start=datetime(2020, 6, 21, tzinfo=UTC)) as site,
        MicrogridApiClient(site.url) as client,
        recording.Recorder(tmp_path / "data.parquet", only=Only([7, 999])) as recorder,
    ):
        recorder.record(client, name="site")
        assert recorder.spool == tmp_path / "data.parquet" / ".spool.sqlite"
        assert eventually(lambda: "behind this machine's clock" in caplog.text)
        assert eventually(lambda: "site: there is no component 999 to record" in caplog.text)
        assert eventually(lambda: recorder.stats.recorded > 50)
    assert caplog.text.count("this machine's clock") == 1
    assert caplog.text.count("999") == 1


@pytest.mark.both_apis
def test_a_site_that_goes_away_is_silent_in_the_gaps(tmp_path: Path, api: str) -> None:
    folder = tmp_path / "data.parquet"
    with (
        simulator(api) as site,
        MicrogridApiClient(site.url) as client,
        LiveSite(client, name="site", max_age=1.0) as live,
        recording.Recorder(folder) as recorder,
    ):
        heard: list[datetime] = []

        def note(source: str, _: list[Any]) -> None:
            # Totals come all the same, and say that they are not known.
            if is_of_site(source):
                heard.append(datetime.now(UTC))

        live.tap(note)
        recorder.record(live)
        assert eventually(lambda: recorder.stats.recorded > 100)
        site.stop()
        gone = datetime.now(UTC)

        def silences() -> list[recording.Gap]:
            with recording.open(folder) as opened:
                return [g for g in opened.gaps_between(None, None) if g.what == "silent"]

        assert eventually(lambda: any(g.end > gone + timedelta(seconds=2) for g in silences()))
        # It may have been silent before on a busy machine, and what waited may have come late. One
        # that goes over a full hour has two pieces.
        latest = max(heard[-1], gone) + timedelta(seconds=2)
        assert any(g.start < latest for g in silences() if g.end > gone)
        gap = silences()[-1]
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
        with monkeypatch.context() as patched:
            # As much must stay free as is nowhere.
            patched.setattr("microgrid_sync.recording.spool.shutil.disk_usage", _full)
            assert eventually(lambda: "database or disk is full" in caplog.text)
            assert eventually(lambda: recorder.stats.lost > 0)
            with (
                MicrogridApiClient(url_of_another(site)) as late,
                LiveSite(late, name="late") as live,
            ):
                # What a site is made of comes once, and is not among what is lost.
                recorder.record(live)
                assert eventually(lambda: live.microgrid is not None)
                lost = recorder.stats.lost
                assert eventually(lambda: recorder.stats.lost > lost + 300)
        assert eventually(lambda: "rows can be written again" in caplog.text)
    assert caplog.text.count("database or disk is full") == 1
    with recording.open(folder) as opened:
        gaps = [gap for gap in opened.gaps_between(None, None) if gap.what == "lost"]
        assert set(opened.sites) == {"site", "late"}
        assert len(opened.components(site="late"))
    assert gaps
    assert "database or disk is full" in gaps[0].reason


def url_of_another(site: Simulator) -> str:
    """Give a URL of the same site that is written otherwise."""
    return site.url.replace("127.0.0.1", "localhost")


def _full(_: object) -> Any:
    return SimpleNamespace(total=10**9, free=1000)


def test_the_oldest_of_those_who_have_more_than_their_share_are_left_out() -> None:
    rows = [Row("site", "a", 0, 0, 0, [])]
    rows += [Row("meter", site, 0, number, 0, []) for number in range(5) for site in "ab"]
    rows.append(Row("meter", "c", 0, 9, 0, []))
    kept, dropped = shortened(rows, 3)
    assert dropped == {"a": 3, "b": 2}
    assert [row.timestamp for row in kept if row.site == "a"] == [0, 3, 4]
    assert [row.timestamp for row in kept if row.site == "b"] == [2, 3, 4]
    assert kept[0].table == "site"
    assert kept[-1].site == "c"


def test_a_second_close_does_not_wait_for_one_that_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recording.Recorder(tmp_path / "data.parquet")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recorder._thread, "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            recorder.close()
    assert recorder._closed.is_set()
    recorder.close()
    recorder._thread.join()


@pytest.mark.parametrize("name", ["12", "NA", "0042"])
def test_a_site_may_be_called_as_numbers_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "site.csv"
    # Its samples are not of whole milliseconds.
    start = datetime.now(UTC).replace(microsecond=123_456)
    with (
        Simulator("demo", api=["v1alpha18"], sample_interval=0.05, start=start) as site,
        MicrogridApiClient(site.url) as client,
        recording.Recorder(path) as recorder,
    ):
        recorder.record(client, name=name)
        assert eventually(lambda: recorder.stats.recorded > 100)
    with recording.open(path) as opened:
        assert opened.sites == [name]
        samples = opened.samples(site=name)
        assert len(samples)
        # In microseconds, as the site has sent them.
        assert any(stamp.microsecond % 1000 for stamp in samples.index)


def test_a_sample_that_comes_once_more_is_in_a_file_once(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, "hour")
    store.check()
    stamp = 1_795_608_000_000_000
    rows = [Row("allocation", "s", 7, stamp, 5, [1.0, "working", "why"])]
    place = store.place("allocation", stamp)
    with Spool(tmp_path / "spool.sqlite") as spool:
        spool.add({place: rows})
        spool.add({place: rows})
        store.deliver(spool, all_of_it=True)
        assert spool.waiting() == 0
    (path,) = tmp_path.glob("allocation/*.parquet")
    assert pq.ParquetFile(path).metadata.num_rows == 1


def test_a_time_that_ends_all_times_holds_up_no_other_place(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, "hour")
    store.check()
    last = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
    with Spool(tmp_path / "spool.sqlite") as spool:
        for moment in (last, datetime(2026, 11, 25, 12, tzinfo=UTC)):
            row = Row("allocation", "s", 7, micros(moment), 0, [1.0, "working", "why"])
            spool.add({store.place("allocation", row.timestamp): [row]})
        assert store.deliver(spool, all_of_it=False) == 0
        assert store.deliver(spool, all_of_it=True) == 2


def test_no_password_is_in_a_name_or_an_error(tmp_path: Path) -> None:
    for url in (
        "postgresql://user:secret/x@host/db",
        "postgresql://user:secret%zz@host/db",
        "postgresql:/user:secret@host/db",
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at
            recording.Recorder(url, spool=tmp_path / "spool.sqlite")
        assert "secret" not in str(caught.value)


def test_a_spool_is_the_same_however_its_database_is_connected_to() -> None:
    names = {
        default_spool(destination_of(url), "1-of-2")
        for url in (
            "postgresql://host/db",
            "postgresql://user:secret@host/db",
            "postgresql://user@host/db?sslmode=verify-full",
        )
    }
    assert len(names) == 1
    assert default_spool(destination_of("postgresql://host/other"), "1-of-2") not in names


def test_wrong_arguments_are_errors_before_anything_is_opened(tmp_path: Path) -> None:
    for options, words in (
        ({"what": ["sample"]}, "may be samples, totals, results, set-points, not 'sample'"),
        ({"what": []}, "not nothing"),
        ({"every": -1.0}, "every"),
        ({"every": 1e-7}, "every must be at least"),
        ({"period": "week"}, "period must be 'hour' or 'day', not 'week'"),
    ):
        with pytest.raises(ValueError, match=words):
            recording.Recorder(tmp_path / "data.parquet", **options)
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


def test_files_of_records_that_were_made_for_one_site_are_read(tmp_path: Path) -> None:
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


def test_what_one_site_sends_does_not_stop_another(
    tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_sometimes(site: str, value: Any) -> Any:
        if site == "bad":
            raise ArithmeticError("nobody has thought of this")
        return sample_row(site, value)

    monkeypatch.setattr("microgrid_sync.recording.selection.sample_row", fail_sometimes)
    folder = tmp_path / "odd # folder?"
    folder.mkdir()
    with (
        simulator(api) as one,
        simulator(api) as other,
        MicrogridApiClient(one.url) as good,
        MicrogridApiClient(other.url) as bad,
        recording.Recorder(folder) as recorder,
    ):
        recorder.record(good, name="good")
        recorder.record(bad, name="bad")
        assert eventually(lambda: recorder.stats.recorded > 300)
        assert eventually(lambda: recorder.stats.lost > 0)
        with recording.open(folder) as opened:
            assert opened.sites == ["bad", "good"]
            assert len(opened.samples(site="good")) > 50
            assert opened.samples(site="bad").empty
    assert caplog.text.count("Traceback") == 1
    with recording.open(folder) as opened:
        lost = [gap for gap in opened.gaps_between(None, None) if gap.what == "lost"]
    assert {gap.site for gap in lost} == {"bad"}
    assert "nobody has thought of this" in lost[0].reason


def test_a_value_that_no_file_can_have_stops_no_other(tmp_path: Path) -> None:
    rows = [Row("allocation", "s", n, 10**15, 0, [1.0, "working", ""]) for n in (1, 2**63, 2)]
    other = Row("result", "s", 0, 10**15, 0, [1.0, 1.0, "Success", "{}"])
    store = ParquetStore(tmp_path)
    store.check()
    with Spool(tmp_path / "spool.sqlite") as spool:
        spool.add({store.place(one.table, one.timestamp): [one] for one in (rows[0], other)})
        spool.add({store.place("allocation", 10**15): rows[1:]})
        store.deliver(spool, all_of_it=True)
        assert spool.waiting() == 0
    with recording.open(tmp_path) as opened:
        assert sorted(opened.allocations()["component_id"]) == [1, 2]
        assert len(opened.results()) == 1


def test_rows_of_a_spool_that_nobody_uses_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data.parquet"
    folder.mkdir()
    with Spool(folder / ".spool-3-of-8.sqlite") as spool:
        spool.add({"result/2026-11-25T12": [Row("result", "s", 0, 0, 0, [1.0, 1.0, "", "{}"])]})
    with recording.Recorder(folder, share="3-of-9"):
        pass
    assert "1 rows wait in the spool" in caplog.text
    assert ".spool-3-of-8.sqlite" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_full_is_emptied_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        store = ParquetStore(tmp_path / "data")
        store.check()
        text = "".join(map(chr, range(0x4E00, 0x9000)))
        with Spool(tmp_path / "spool.sqlite") as spool:
            row = Row("allocation", "s", 1, 10**15, 0, [1.0, "working", text])

            def fill() -> None:
                for _ in range(1000):
                    spool.add({store.place("allocation", 10**15): [row]})

            with pytest.raises(SpoolError, match="database or disk is full"):
                fill()
            # What is there gets away all the same, and there is room again.
            waiting = spool.waiting()
            assert waiting > 10
            spool.remove(spool.newest()["allocation/2001-09-09T01"])
            assert spool.waiting() == 0
            spool.add({"allocation/2001-09-09T01": [row]})
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert "Traceback" not in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_a_disk_that_cannot_be_written_is_one_line_and_is_read(tmp_path: Path, api: str) -> None:
    with simulator(api) as site:
        record_until(tmp_path / "data.parquet", site.url, 100)
    seen = tmp_path / "seen"
    seen.mkdir()
    done = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(tmp_path / "data.parquet"), str(seen)],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            recording.Recorder(seen)
        with recording.open(seen) as opened:
            assert opened.sites == ["site"]
            assert len(opened.samples(metric="active_power")) > 5
    finally:
        subprocess.run(["umount", str(seen)], check=True)
