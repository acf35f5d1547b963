"""Commands with a list of sites, and those that record whole sites and read that back."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from microgrid_sync.recording.spool import rows_in
from microgrid_sync.simulator import Simulator
from tests.cli.test_site_commands import done, objects, run, start
from tests.support.waiting import PATIENCE, eventually

BERLIN = ZoneInfo("Europe/Berlin")
"""Of the simulated sites."""


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Path]:
    """A list of two sites that are there, one a server of v0.15, and one that is not."""
    now = datetime.now(UTC)
    with (
        Simulator("demo", sample_interval=0.2, start=now) as one,
        Simulator("house", sample_interval=0.2, start=now, api=["v0.15"]) as other,
    ):
        path = tmp_path / "sites.toml"
        path.write_text(
            f'[record]\nto = "data/"\n'
            f'[[site]]\nname = "one"\nurl = "{one.url}"\n'
            f'[[site]]\nname = "other"\nurl = "{other.url}"\n'
            f'[[site]]\nname = "down"\nurl = "grpc://127.0.0.1:9"\ntimeout = 1\n'
        )
        yield path


def test_a_command_is_run_for_each_site_and_one_that_fails_hides_no_other(sites: Path) -> None:
    result = run("list", "--sites", str(sites), "--json")
    assert result.exit_code == 1
    assert [one["site"] for one in objects(result.stdout)] == ["one", "other"]
    assert result.stderr.startswith("Error: down: grpc://127.0.0.1:9 cannot be reached")
    assert result.stderr.count("\n") == 1
    text = done("connections", "--sites", str(sites), "--site", "one", "--site", "other")
    assert "\nother: grpc://127.0.0.1" in text
    # A part of the list: the second of two is the second site alone.
    (found,) = objects(done("info", "--sites", str(sites), "--share", "2/2", "--json"))
    assert (found["site"], found["api"]) == ("other", "v0.15")
    assert done("list", "--sites", str(sites), "--share", "7/9") == ""


def test_one_site_of_the_list_is_commanded(sites: Path) -> None:
    arguments = ["set-power", "7", "2kW", "--yes", "--sites", str(sites)]
    result = run(*arguments)
    assert result.exit_code == 2
    assert "it is for one site, and the list has 3: name it with --site" in result.stderr
    assert "2.00 kW" in done(*arguments, "--site", "one")
    (found,) = objects(done("pool", "--json", "--sites", str(sites), "--site", "one"))
    assert found["site"] == "one"


def test_all_are_watched_and_streamed(sites: Path) -> None:
    def are_watched() -> bool:
        rows = objects(done("watch", "--once", "--json", "--sites", str(sites)))
        assert [row["site"] for row in rows] == ["one", "other", "down"]
        assert (rows[2]["grid_w"], rows[2]["components"]) == (None, 0)
        return rows[0]["grid_w"] is not None and rows[0]["heard"] == rows[0]["components"] > 0

    # One that is down is waited for for some seconds, in which a busy machine may not have all.
    assert eventually(are_watched)
    table = done("watch", "--once", "--sites", str(sites))
    assert "not heard" in table.splitlines()[-1]
    process = start("stream", "ev-charger", "--json", "--sites", str(sites))
    assert process.stdout is not None
    assert process.stderr is not None
    seen: set[str] = set()
    while seen != {"one", "other"}:
        seen.add(json.loads(process.stdout.readline())["site"])
    assert process.stderr.readline().startswith("down: components()")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--site", "one"], "--site is a part of a list"),
        (["list", "--share", "1/2"], "--share is a part of a list"),
        (["list", "--sites", "SITES", "grpc://127.0.0.1:9"], "--sites and a URL: one of them"),
        (["list", "--sites", "SITES", "--share", "3/2"], "there are 1/2 to 2/2"),
        (["list", "--sites", "SITES", "--site", "on"], "did you mean 'one'?"),
        (["list", "--sites", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["stream", "7", "--csv", "--sites", "SITES"], "--csv is for one site"),
        (["tree", "--watch", "--sites", "SITES"], "--watch shows one site"),
        (["gateway", "all", "--sites", "SITES", "--config", "x.toml"], "--sites and --config"),
        (["gateway", "modbus", "--sites", "SITES"], "each needs a port of its own"),
        (["record", "--sites", "SITES", "x.csv"], "needs --to"),
        (["record"], "name a FILE, or with --to a DESTINATION"),
        (["record", "x.csv", "--every", "5", "grpc://x:1"], "--every goes with --to"),
        (["record", "--to", "data/", "-n", "5", "grpc://x:1"], "--samples goes with a FILE"),
        (["record", "--to", "data", "grpc://x:1"], "is no destination"),
        (["record", "--to", "data/", "cars", "grpc://x:1"], "'cars' is none of"),
        (["record", "--to", "data/", "--name", "a/b", "grpc://x:1"], "must be a name"),
        (["record", "--to", "postgresql://h/d?x=1", "grpc://x:1"], "no URL of a PostgreSQL"),
        (["report", "nowhere/", "--day", "today"], "there is no folder 'nowhere'"),
        (["report", "nowhere/", "--day", "monday"], "'monday' is no day"),
        (["report", "x/", "--day", "today", "--timezone", "CET/x"], "is no time zone"),
        (["gaps", "nowhere.csv"], "there is no file 'nowhere.csv'"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = tmp_path / "sites.toml"
    names = ("one", "other", "down")
    sites.write_text("".join(f'[[site]]\nname = "{n}"\nurl = "grpc://{n}:9"\n' for n in names))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = run(*(str(sites) if one == "SITES" else one for one in arguments))
    assert result.exit_code in {1, 2}
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")
    assert not isinstance(result.exception, AssertionError)


def test_sites_are_recorded_and_read_back(
    sites: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    days = {datetime.now(BERLIN).date()}
    process = start("record", "--sites", str(sites), "--site", "one", "--site", "other")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Recording 2 sites to ")
    folder = sites.parent / "data"
    assert eventually((folder / ".spool.sqlite").exists)
    assert eventually(lambda: _knows_totals(folder) >= {"one", "other"})
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "rows were recorded" in said
    result = run("report", "data/", "--day", "today")
    assert "say which site; there are one, other" in result.stderr
    page = tmp_path / "day.html"
    # Midnight may have come.
    days.add(datetime.now(BERLIN).date())
    options = ["--site", "one", "--html", str(page)]
    texts = [done("report", "data/", "--day", f"{day}", *options) for day in days]
    assert any("drawn from the grid" in text for text in texts)
    assert all("0 cars were charged" in text for text in texts)
    assert page.read_text().startswith("<!DOCTYPE html>")
    (found,) = objects(done("gaps", "data/", "--json", "--site", "other"))
    assert [gap["reason"] for gap in found["gaps"]] == ["it was stopped"]
    assert "not recorded" in done("gaps", "data/")


def _knows_totals(folder: Path) -> set[str]:
    """Name the sites of which the power of the grid was recorded, twice at the least."""
    counts = Counter(
        row.site
        for row in rows_in(folder / ".spool.sqlite")
        if row.table == "total" and row.values[0] is not None
    )
    return {site for site, count in counts.items() if count > 1}


def test_gateways_of_all_sites_run_in_one_process(sites: Path) -> None:
    sites.write_text(sites.read_text() + "\n[prometheus]\nport = 0\n")
    process = start("gateway", "all", "--sites", str(sites), "--share", "1/1")
    assert process.stderr is not None
    lines: list[str] = []
    expected = "3 sites, share 1/1", "/metrics and /healthz, of all sites", "recording to "
    while not all(words in "".join(lines) for words in expected):
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    text = "".join(lines) + said
    assert text.endswith("Ended.\n")
    assert "Traceback" not in text


def test_to_says_where_else_and_changes_nothing_else(
    sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = sites.read_text()
    sites.write_text(text.replace("[record]\n", '[record]\nwhat = ["totals"]\nperiod = "day"\n'))
    options = ["--to", "other/", "--duration", "8", "--site", "one"]
    result = run("record", "--sites", str(sites), *options)
    assert result.exit_code == 0, result.output
    files = {path.relative_to(tmp_path / "other") for path in tmp_path.glob("other/*/*.parquet")}
    assert {str(path.parent) for path in files} == {"total", "site", "coverage"}
    assert not any("T" in path.name for path in files)


def test_a_site_is_recorded_into_files(
    sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = sites.read_text().split('url = "')[1].partition('"')[0]
    days = {datetime.now(BERLIN).date()}
    for options in (["--to", "a.csv"], ["--to", "b.jsonl", "--what", "totals"]):
        result = run("record", *options, "--duration", "6", url)
        assert result.exit_code == 0, result.output
    # With --to it is said when it was recorded, into whatever.
    assert "its duration was over" in done("gaps", "a.csv")
    days.add(datetime.now(BERLIN).date())
    reports = [done("report", "a.csv", "--day", f"{day}") for day in days]
    assert any("drawn from the grid" in text for text in reports)
    tables = {json.loads(line)["table"] for line in (tmp_path / "b.jsonl").read_text().splitlines()}
    assert tables == {"total", "site", "coverage"}
    result = run("record", "--to", "b.jsonl", "--what", "totals", "--duration", "1", url)
    assert result.exit_code == 1
    assert "b.jsonl exists already" in result.stderr
    result = run("record", "--to", "c.csv", "--duration", "1", "grpc://127.0.0.1:1")
    assert result.exit_code == 1
    assert "Nothing has come from 127.0.0.1:1." in result.stderr
    destination = "postgresql://me:secret@127.0.0.1:1/sites"
    spool = tmp_path / "spool.sqlite"
    process = start("record", "--to", destination, "--spool", str(spool), url)
    assert eventually(
        lambda: spool.exists() and any(row.table == "meter" for row in rows_in(spool))
    )
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "can see the password in the URL" in said
    assert "secret" not in said
    assert f"of these wait in {spool}, and go to postgresql://" in said
    result = run("record", "--to", "c.csv", "--every", "1m", url)
    assert result.exit_code == 2
    assert "'1m' is no number of seconds, such as 60" in result.stderr
