"""The commands that speak to a site, against a real simulator in a process of its own."""

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click.testing
import pytest

from microgrid_sync import MicrogridApiClient
from microgrid_sync.cli import cli
from microgrid_sync.simulator import Fault, Simulator
from tests.support.messages import component
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

COMMAND = [sys.executable, "-m", "microgrid_sync"]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The URL of a site that speaks all APIs."""
    arguments = ["simulate", "--port", "0", "--sample-interval", "0.2", "--seed", "1"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate(timeout=PATIENCE)


@pytest.fixture(params=["v1alpha18", "v0.15"])
def url(request: pytest.FixtureRequest, site: str) -> str:
    """The same, as a server of one API."""
    return f"{site}?api={request.param}"


def run(*arguments: str, given: str | None = None) -> click.testing.Result:
    """Run a command in this process."""
    return click.testing.CliRunner().invoke(cli, arguments, given)


def done(*arguments: str, given: str | None = None) -> str:
    """Run a command that does what it is to do; give its output."""
    result = run(*arguments, given=given)
    assert result.exit_code == 0, result.output
    return result.stdout


def objects(text: str) -> list[dict[str, Any]]:
    """Read JSON Lines; NaN and the like are none."""
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start a command as a process."""
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# Looking


def test_info_says_what_the_site_is(url: str) -> None:
    api = url.rpartition("=")[2]
    text = done("info", url)
    for part in (
        "15",
        "52.5200 N, 13.4050 E",
        "Europe/Berlin",
        api,
        " ms",
        "100 A",
        "2 EV chargers",
    ):
        assert part in text
    (found,) = objects(done("info", "--json", "--url", url))
    assert (found["api"], found["microgrid_id"], found["tls"]) == (api, 15, False)
    assert found["components"]["ev_charger"] == 2
    assert found["round_trip_ms"] > 0
    assert found["url"] == url


def test_url_may_come_from_the_environment(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROGRID_URL", "grpc://127.0.0.1:1")
    # What is typed counts more, wherever it stands.
    assert "EV charger" in done("list", site)
    assert done("pool", "--json", site)
    monkeypatch.setenv("MICROGRID_URL", site)
    assert "EV charger" in done("list")
    assert "list" not in done("trouble", "list")


def test_list_filters(url: str) -> None:
    (found,) = objects(done("list", "--json", url))
    assert [c["component_id"] for c in found["components"]] == [*range(1, 10)]
    assert {c["category"] for c in found["components"]} >= {"grid", "meter", "ev_charger"}
    for word, ids in {
        "ev-charger": [7, 8],
        "EV_CHARGER": [7, 8],
        "chargers": [7, 8],
        "batteries": [5],
        "solar-inverter": [3],
        "chp": [],
    }.items():
        (found,) = objects(done("list", "--category", word, "--json", url))
        assert [c["component_id"] for c in found["components"]] == ids, word
    assert done("list", "--category", "chp", url) == "none\n"
    assert len(done("list", "--id", "7", "--id", "8", url).splitlines()) == 3


def test_connections_filter(url: str) -> None:
    (found,) = objects(done("connections", "--json", url))
    assert {"start": 6, "end": 7} in found["connections"]
    (found,) = objects(done("connections", "--from", "6", "--json", url))
    assert found["connections"] == [{"start": 6, "end": 7}, {"start": 6, "end": 8}]
    assert "7: EV charger" in done("connections", "--to", "7", url)
    assert done("connections", "--to", "1", url) == "none\n"


def test_tree_has_what_is_measured_beside_it(url: str) -> None:
    lines = done("tree", url).splitlines()
    assert lines[0].startswith("1: grid, fuse 100 A")
    (charger,) = [line for line in lines if "7: EV charger" in line]
    assert " kW " in charger
    assert "charging, ev " in charger
    (battery,) = [line for line in lines if " 5: battery" in line]
    assert " % " in battery
    assert " kW" not in done("tree", "--no-values", url)
    (found,) = objects(done("tree", "--json", url))
    (grid,) = found["tree"]
    assert grid["feeds"][0]["now"]["active_power_w"] is not None


def test_stream_gives_a_line_a_sample(url: str) -> None:
    found = objects(done("stream", "7", "8", "--json", "--samples", "4", url))
    assert len(found) == 4
    assert {row["component_id"] for row in found} <= {7, 8}
    assert found[0].keys() >= {"timestamp", "active_power_w", "current_phase_1_a", "cable_state"}
    assert found[0]["timestamp"].endswith("Z")
    text = done("stream", "ev-charger", "-n", "2", url)
    assert all(" kW" in line for line in text.splitlines())
    rows = list(csv.DictReader(io.StringIO(done("stream", "5", "--csv", "-n", "2", url))))
    assert [row["component_id"] for row in rows] == ["5", "5"]
    assert 0 < float(rows[0]["soc_percent"]) < 100


def test_stream_shows_the_metrics_that_are_asked_for(url: str) -> None:
    (row,) = objects(done("stream", "7", "-m", "active_power", "--json", "-n", "1", url))
    assert list(row) == ["component_id", "timestamp", "active_power_w"]
    (row,) = objects(done("stream", "7", "-m", "current", "--json", "-n", "1", url))
    assert list(row)[2:] == ["current_phase_1_a", "current_phase_2_a", "current_phase_3_a"]
    # Of a whole site, those alone that measure it.
    found = objects(done("stream", "5", "7", "-m", "soc", "--json", "-n", "2", url))
    assert {row["component_id"] for row in found} == {5}


def test_stream_of_telemetry(site: str) -> None:
    (row,) = objects(done("stream", "5", "-m", "METRIC_DC_POWER", "--json", "-n", "1", site))
    assert list(row) == ["component_id", "timestamp", "dc_power_w"]
    (row,) = objects(done("stream", "5", "--telemetry", "--json", "-n", "1", site))
    assert row.keys() >= {"battery_soc_percent", "states", "errors"}
    result = run("stream", "5", "--telemetry", "-n", "1", f"{site}?api=v0.15")
    assert (result.exit_code, "v0.15 has no telemetry" in result.stderr) == (1, True)


def test_stream_ends_with_its_time_and_says_if_nothing_came(site: str) -> None:
    assert objects(done("stream", "2", "--json", "--duration", "3", site))
    with ScriptedServer(component(1, "meter")) as server:
        server.stream = server.silent_stream
        result = run("stream", "1", "--duration", "0.3", server.url)
    assert (result.exit_code, "nothing has come" in result.stderr) == (1, True)


def test_watch_shows_the_whole_site(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # However late the first values are.
    monkeypatch.setattr("microgrid_sync.cli.watch._FIRST_VALUES", PATIENCE)
    line = done("watch", "--once", url)
    for part in ("grid ", "house ", "PV ", "battery ", "cars ", " of 2)", " of 100 A"):
        assert part in line
    assert "-0.00" not in line
    (found,) = objects(done("watch", "--once", "--json", url))
    assert found["grid_w"] == pytest.approx(
        found["consumers_w"] + found["batteries_w"] + found["chargers_w"] + found["pv_w"], abs=500
    )
    assert {c["component_id"] for c in found["chargers"]} == {7, 8}
    assert found["chargers"][0]["cable_state"].startswith("ev_")
    # A busy machine leaves lines out that are late.
    arguments = "watch", "--json", "-d", "0.5", "--interval", "0.25", url
    assert eventually(lambda: len(objects(done(*arguments))) in {2, 3})


# Commanding


def test_set_power_says_until_when_it_holds_and_what_is_measured(url: str) -> None:
    text = done("set-power", "7", "5kW", "--yes", url)
    assert "Set to 5.00 kW; it holds " in text
    assert ("does not say how long" in text) == ("v0.15" in url)
    assert "7 measures 5.0" in text
    (found,) = objects(done("set-power", "7", "4500", "--json", "-y", url))
    assert (found["component_id"], found["set_w"], found["sent"]) == (7, 4500.0, 1)
    assert (found["expires"] is None) == ("v0.15" in url)
    assert found["measured_w"] == pytest.approx(4500, abs=200)


def test_set_power_asks_first(url: str) -> None:
    # It waits until that is measured: a site that has just begun to live charges more and more.
    done("set-power", "7", "5000", "--yes", url)
    before = objects(done("stream", "7", "--json", "-n", "1", url))[0]["active_power_w"]
    for answer, code in (("n\n", 1), ("", 2)):
        result = run("set-power", "7", "2000", url, given=answer)
        assert (result.exit_code, "nothing was sent" in result.stderr) == (code, True)
        assert "Set 7: EV charger at " in result.stderr
        assert result.stdout == ""
    after = objects(done("stream", "7", "--json", "-n", "1", url))[0]["active_power_w"]
    assert after == pytest.approx(before, abs=200)
    assert "Set to" in done("set-power", "7", "4000", url, given="y\n")


def test_set_power_is_renewed_for_a_while_and_followed_by_another(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.cli.set_power._RENEW_INTERVAL", 0.4)
    # What it measures is not waited for for long.
    monkeypatch.setattr("microgrid_sync.cli.commanding._REACTION", 0.1)
    arguments = ("set-power", "4", "-2kW", "--for", "3", "--then", "-1000", "--json", "-y", url)

    def renewed() -> bool:
        (found,) = objects(done(*arguments))
        assert (found["set_w"], found["then_w"], found["last_set_w"]) == (-2000.0, -1000.0, -1000.0)
        return bool(found["sent"] >= 3)

    # A busy machine may leave no time for it.
    assert eventually(renewed)
    (row,) = objects(done("stream", "4", "--json", "-n", "1", url))
    assert row["active_power_w"] == pytest.approx(-1000, abs=1100)


def test_ctrl_c_ends_the_renewal_and_sends_what_is_to_come_last(url: str) -> None:
    process = start("set-power", "4", "-3kW", "--for", "600", "--then", "-1500", "--yes", url)
    assert process.stdout is not None
    assert "Set to -3.00 kW" in process.stdout.readline()
    # Whether it waits for what the component measures, or for the next time.
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert "Set to -1.50 kW last" in out


def test_lifetime_ends_with_the_renewal(site: str) -> None:
    (found,) = objects(done("set-power", "4", "0", "--for", "0.2", "--json", "-y", site))
    (row,) = objects(done("stream", "4", "--json", "-n", "1", site))
    # Ten seconds are the shortest.
    left = _seconds(found["expires"]) - _seconds(row["timestamp"])
    assert 0 < left <= 10.5


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_other_commands(url: str) -> None:
    assert "kVAr" in done("set-reactive-power", "3", "-1kvar", "-y", url)
    assert "Narrowed to -1.00 kW to 2.00 kW" in done("set-bounds", "4", "-1kW", "2kW", "-y", url)
    (found,) = objects(done("set-bounds", "4", "-9000", "9000", "-y", "--json", url))
    assert (found["lower_w"], found["upper_w"]) == (-9000.0, 9000.0)
    assert done("stop", "4", "-y", url).startswith("Done")
    (found,) = objects(done("start", "4", "-y", "--json", url))
    assert (found["command"], found["component_id"]) == ("start", 4)
    assert done("ack", "4", "-y", url).startswith("Done")
    assert done("standby", "4", "-y", url).startswith("Done")
    assert done("start", "4", "-y", url).startswith("Done")


def test_pool_shows_what_each_charger_has(url: str) -> None:
    text = done("pool", url)
    assert "\n7 " in text
    assert "could be set to 0.00 kW to " in text
    assert "not commanded" in text

    def agrees() -> bool:
        (found,) = objects(done("pool", "--json", "--charger", "7", url))
        assert [c["component_id"] for c in found["chargers"]] == [7]
        return bool(abs(found["power_w"] - found["chargers"][0]["draw_w"]) <= 500)

    # What it draws in a report is some seconds old.
    assert eventually(agrees)


def test_pool_cap_holds_and_releases(url: str) -> None:
    process = start("pool", "cap", "6kW", "--json", "--interval", "0.2", url)
    assert process.stdout is not None
    held = next(row for row in _rows(process) if row["target_w"] and (row["power_w"] or 9e9) < 6000)
    assert held["upper_w"] > 0
    with MicrogridApiClient(url) as client, client.ev_charger_data(7) as data:
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        # It is told before it is done; then the car may draw what it can.
        assert errors.index("this releases the cars") < errors.index("Released.")
        assert eventually(lambda: data.receive(PATIENCE).active_power > 6000)
    assert "Traceback" not in out + errors


def test_options_before_cap_are_its_own(site: str) -> None:
    arguments = ("pool", "--charger", "7", "--json", "cap", "11kW", "--for", "2", "--keep")
    result = run(*arguments, site)
    assert result.exit_code == 0, result.stderr
    assert "Holding 1 charger at" in result.stderr
    assert [c["component_id"] for c in objects(result.stdout)[-1]["chargers"]] == [7]


def test_pool_cap_says_if_the_cars_could_not_be_released() -> None:
    with Simulator(sample_interval=0.1) as simulator:
        process = start("pool", "cap", "6kW", "--json", "--interval", "0.2", simulator.url)
        next(row for row in _rows(process) if row["target_w"] and (row["power_w"] or 9e9) < 6000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "has not confirmed that the cars are released" in errors


def test_pool_cap_may_keep_the_set_points(url: str) -> None:
    process = start("pool", "cap", "5kW", "--keep", url)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Holding ")
    with MicrogridApiClient(url) as client, client.ev_charger_data(7) as data:
        assert eventually(lambda: data.receive(PATIENCE).active_power < 5100)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, "keep their set-points" in errors) == (0, True)
        data.drain()
        assert data.receive(PATIENCE).active_power < 5100
    done("pool", "cap", "100kW", "--for", "1", url)


def _rows(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def test_limit_is_held_and_shown(url: str) -> None:
    process = start("limit", "grid", "--interval", "0.2", "--json", url)
    row = next(row for row in _rows(process) if row["house_phase_1_a"] is not None)
    assert row["headroom_phase_1_a"] < 100
    assert row["thermal_state_phase_3"] >= 0
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "gG 100 A" in errors
    assert "nothing holds the fuse any more" in errors
    text = done("limit", "6", "80", "--curve", "none", "--for", "1", url)
    assert "left to cars" in text


# Recording


def test_record_writes_whole_files(url: str, tmp_path: Path) -> None:
    path = tmp_path / "cars.csv"
    assert "2 components" in done("record", str(path), "ev-charger", "-n", "60", url)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 60
    assert {row["component_id"] for row in rows} == {"7", "8"}
    assert not list(tmp_path.glob("*.part"))
    # It is not written over.
    result = run("record", str(path), "7", "-n", "1", url)
    assert (result.exit_code, "--force" in result.stderr) == (2, True)
    done("record", str(path), "7", "-n", "1", "--force", "-m", "active_power", url)
    assert path.read_text(encoding="utf-8").splitlines()[0] == (
        "component_id,timestamp,active_power_w"
    )
    lines = tmp_path / "all.jsonl"
    part = tmp_path / "all.jsonl.part"

    def recorded() -> set[int]:
        # The last line may be half there.
        whole = part.read_text(encoding="utf-8").rpartition("\n")[0] if part.exists() else ""
        return {row["component_id"] for row in objects(whole)}

    process = start("record", str(lines), url)
    assert eventually(lambda: recorded() == {2, 3, 4, 5, 6, 7, 8, 9})
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    found = objects(lines.read_text(encoding="utf-8"))
    assert {row["component_id"] for row in found} == {2, 3, 4, 5, 6, 7, 8, 9}


def test_recording_that_is_broken_off_does_not_look_whole(site: str, tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    part = tmp_path / "day.csv.part"
    process = start("record", str(path), "7", "--duration", "3600", site)
    # What is older than a second is in the file.
    assert eventually(lambda: part.exists() and len(part.read_text().splitlines()) > 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "broken off" in errors
    assert not path.exists()
    process = start("record", str(path), "7", "--force", site)
    assert eventually(lambda: part.exists() and len(part.read_text().splitlines()) > 3)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert not path.exists()
    # Without an end of its own, Ctrl-C and SIGTERM are the end.
    for numbers in ([signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]):
        part.unlink(missing_ok=True)
        process = start("record", str(path), "7", "--force", site)
        assert eventually(lambda: part.exists() and len(part.read_text().splitlines()) > 3)
        # All at once, as from a shell that signals the process and its group.
        for number in (signal.SIGSTOP, *numbers, signal.SIGCONT):
            process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert path.exists()
        assert not part.exists()


def test_recording_without_a_sample_is_none(tmp_path: Path) -> None:
    path = tmp_path / "nothing.csv"
    with ScriptedServer(component(1, "meter")) as server:
        server.stream = server.silent_stream
        result = run("record", str(path), "--duration", "0.3", server.url)
    assert (result.exit_code, "nothing has come" in result.stderr) == (1, True)
    assert not path.exists()


# What goes wrong


BAD = [
    "info",
    "info x",
    "info localhost:8800",
    "info http://localhost:8800",
    "info --url localhost:8800",
    "info grpc://h:99999",
    "info grpc://h/path",
    "info grpc://h?colour=red",
    "info grpc://a grpc://b",
    "info grpc://a --url grpc://b",
    "pool --url grpc://a cap 5kW --url grpc://b",
    "stream SITE 7 -d nan",
    "stream SITE 7 --csv --telemetry",
    "watch SITE --interval inf",
    "limit SITE 2 1e300",
    "info grpc://127.0.0.1:1",
    "info grpc://no.such.host.invalid",
    "info SITE --timeout 0",
    "list SITE --category cars",
    "list SITE --id 99",
    "connections SITE --from x",
    "tree SITE --interval 0",
    "stream",
    "stream SITE",
    "stream SITE 99",
    "stream SITE 1",
    "stream SITE 7 --samples 0",
    "stream SITE 7 --csv --json",
    "stream SITE 7 --metric zap",
    "stream SITE 7 --metric soc --telemetry",
    "stream SITE chp",
    "watch SITE --interval soon",
    "set-power SITE 7",
    "set-power SITE 7 lots",
    "set-power SITE 7 nan",
    "set-power SITE 7 5mW",
    "set-power SITE 7 1e99 -y",
    "set-power SITE 99 5 -y",
    "set-power SITE 1 5 -y",
    "set-power SITE 7 5 --then 0",
    "set-power SITE 7 5 --lifetime 5",
    "set-bounds SITE 7 5 7 -y",
    "set-bounds SITE 7 0 -7 -y",
    "start SITE 2 -y",
    "pool SITE --charger 3",
    "pool cap SITE",
    "pool cap SITE -5",
    "pool cap SITE 11",
    "limit SITE 2",
    "limit SITE roof 5",
    "limit SITE 3 5",
    "limit SITE 2 35 --curve X",
    "record SITE",
    "record SITE x.txt",
    "record SITE /no/such/folder/x.csv",
    "record SITE x.csv 99",
    "doctor SITE --listen 0",
    "doctor http://h",
    "demo SITE --site house",
    "trouble list http://h",
    "trouble end SITE 77",
    "nonsense",
    "strem 7",
    "--nonsense",
]


@pytest.mark.parametrize("line", BAD)
def test_what_is_wrong_is_said_in_one_line(
    line: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MICROGRID_URL", raising=False)
    result = run(*(site if word == "SITE" else word for word in line.split()))
    assert result.exit_code in {1, 2}
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    # One of a server or the network is 1, and no other but a recording's.
    unreachable = "127.0.0.1:1" in line or ".invalid" in line
    cannot = line.startswith(("set-power SITE 1", "start SITE 2", "trouble end"))
    assert result.exit_code == (1 if unreachable or cannot else 2), result.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("info localhost:8800", "did you mean grpc://localhost:8800?"),
        ("info https://localhost:8800", "did you mean grpc://localhost:8800?ssl=on?"),
        ("info localhost", "did you mean grpc://localhost?"),
        ("info --url example", "did you mean grpc://example?"),
        ("info grpc://127.0.0.1:1", "Connection refused"),
        ("strem 7", "did you mean 'stream'?"),
        ("list SITE -c invertr", "did you mean inverter?"),
        ("stream SITE 7 -m activ_power", "did you mean active_power_w?"),
        ("stream SITE chp", "the site has no chp"),
        ("stream SITE 99", "there are 1, 2, 3"),
    ],
)
def test_what_would_be_right_is_said_too(line: str, words: str, site: str) -> None:
    result = run(*(site if word == "SITE" else word for word in line.split()))
    assert words in result.stderr


def test_site_may_stand_before_the_command(site: str) -> None:
    assert "EV charger" in done(site, "list")
    assert "EV charger" in done("--url", site, "list")


@pytest.mark.parametrize(
    "words", ["--help", "", "info --help", "list SITE", "stream SITE 7 --json"]
)
def test_output_that_cannot_be_written_is_one_line(words: str, site: str) -> None:
    script = f"{shlex.join(COMMAND)} {words.replace('SITE', site)} > /dev/full"
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "No space left" in result.stderr
    result = subprocess.run(
        ["bash", "-c", f"{shlex.join(COMMAND)} list {site} >&-"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("to", "code"), [("nobody", 0), ("/dev/full", 1)])
def test_what_is_to_come_last_comes_whatever_becomes_of_the_output(
    to: str, code: int, site: str
) -> None:
    if to == "nobody":
        read, out = os.pipe()
        os.close(read)
    else:
        out = os.open(to, os.O_WRONLY)
    words = ["set-power", "4", "-3kW", "--for", "600", "--then", "-500", "-y", site]
    try:
        result = subprocess.run(
            [*COMMAND, *words], stdout=out, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    finally:
        os.close(out)
    assert result.returncode == code, result.stderr
    with MicrogridApiClient(site) as client, client.inverter_data(4) as data:
        assert eventually(lambda: abs(data.receive(PATIENCE).active_power + 500) < 300)


@pytest.mark.parametrize(("to", "code"), [("| head -2", 0), ("> /dev/full", 1)])
def test_cap_and_limit_end_in_good_order_without_their_output(
    to: str, code: int, site: str
) -> None:
    for words, last in (("pool cap 30kW", "Released."), ("limit grid", "Ended: ")):
        script = f"set -o pipefail; {shlex.join(COMMAND)} {words} --interval 0.2 {site} {to}"
        result = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == code, result.stderr
        assert result.stderr.splitlines()[-1].startswith(last)


def test_question_is_interrupted(site: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "set-power", "7", "5kW", site],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "]" not in process.stderr.read(1):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_every_command_has_an_example_in_its_help() -> None:
    context = click.Context(cli)
    names = [[name] for name in cli.list_commands(context)]
    names += [["pool", "cap"], *(["trouble", n] for n in ("add", "list", "end", "clear"))]
    for name in names:
        text = done(*name, "--help")
        assert "\nExample" in text, name
        assert f"microgrid-sync {' '.join(name)}" in text.partition("\nExample")[2]


def test_ctrl_c_ends_a_stream_quietly(url: str) -> None:
    process = start("stream", "7", "--json", url)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")


def test_closed_pipe_ends_a_stream_quietly(site: str) -> None:
    for arguments in (["stream", "7", "--json"], ["stream", "7", "--csv"], ["watch", "--line"]):
        process = start(*arguments, site)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert (process.wait(PATIENCE), errors) == (0, "")
        process.stderr.close()


def test_stream_goes_on_when_the_server_comes_back(port: int) -> None:
    with Simulator(sample_interval=0.1, port=port) as simulator:
        process = start("stream", "7", "--json", simulator.url)
        assert process.stdout is not None
        process.stdout.readline()
    assert process.stderr is not None
    # What has happened is told meanwhile.
    assert "grpc://" in process.stderr.readline()
    with Simulator(sample_interval=0.1, port=port):
        for _ in range(20):
            last = json.loads(process.stdout.readline())
        assert last["component_id"] == 7
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_tables_are_live_on_a_terminal(site: str) -> None:
    for arguments, words in (
        (["stream", "7", "-d", "3"], "sample of"),
        (["watch", "-d", "3"], "consumers"),
        (["pool", "cap", "50kW", "--for", "3"], "may draw"),
        (["limit", "grid", "--for", "3"], "thermal state"),
        (["tree"], "EV charger"),
        (["doctor", "--listen", "0.6"], "accepts connections"),
    ):
        script = f"import pty, sys\nsys.exit(pty.spawn({[*COMMAND, *arguments, site]!r}) >> 8)\n"
        result = subprocess.run(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )
        assert result.returncode == 0, result.stdout
        assert words in result.stdout, arguments
        assert "Traceback" not in result.stdout


# The doctor


def test_doctor_of_a_healthy_site(url: str) -> None:
    def text() -> str:
        return done("doctor", "--listen", "1", url)

    # A busy machine may hear one of them too late.
    assert eventually(lambda: "all 8 components that send data are heard" in text())
    assert eventually(lambda: "problem" not in text())
    assert f"it speaks API {url.rpartition('=')[2]}" in text()
    (found,) = objects(done("doctor", "--listen", "0.5", "--json", url))
    assert found["is_usable"] is True


def test_doctor_finds_the_silent_the_faulty_and_the_late() -> None:
    # A site whose clock is another one.
    start = datetime(2020, 6, 21, 12, tzinfo=UTC)
    with Simulator(sample_interval=0.1, start=start) as simulator:
        simulator.faults.add(Fault(kind="silent", components=[9]))
        simulator.faults.add(Fault(kind="error", components=[7]))

        def text() -> str:
            return done("doctor", "--listen", "1.5", simulator.url)

        # A busy machine may hear one of them too late.
        for words in (
            "9: meter is silent",
            "7: EV charger is in error",
            "clocks of all components are",
            "days behind",
        ):
            assert eventually(lambda words=words: words in text())  # type: ignore[misc] # mypy cannot infer a lambda's default


def test_doctor_says_why_it_cannot_be_used() -> None:
    def words(url: str) -> str:
        result = run("doctor", url)
        assert result.exit_code == 1
        assert "Traceback" not in result.output
        return result.stdout

    assert "nothing listens on port 1" in words("grpc://127.0.0.1:1")
    assert "is no known host" in words("grpc://no.such.host.invalid")
    with Simulator() as plain:
        text = words(f"{plain.url}?ssl=on")
        assert "does not speak TLS" in text
    with Simulator(tls=True) as secure:
        assert "the server speaks TLS, and the URL does not" in words(secure.url.partition("?")[0])
        address = secure.url.partition("?")[0]
        assert "certificate is refused" in words(f"{address}?ssl=on")
        # A busy machine may have it note that answers are slow.
        assert "problem" not in done("doctor", "--listen", "1", secure.url)
