"""The commands, as real processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microgrid_sync import MicrogridApiClient
from tests.support.messages import component
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE

COMMAND = [sys.executable, "-m", "microgrid_sync"]


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def simulate() -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*COMMAND, "simulate", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate(timeout=PATIENCE)


def test_demo_does_all_of_it() -> None:
    result = _run("demo", "--seconds", "0.5")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for part in ("microgrid 15", "Europe/Berlin", "3: solar inverter", "7: ev charger"):
        assert part in result.stdout
    for part in ("ev charger 7: ", "ev charger 8: ", "battery 5: ", "meter 2: "):
        assert part in result.stdout
    summary = result.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"OK: 8 components listed, 4 followed for 0\.5 s, charger 7 set from (\d+) W to 5000 W: "
        r"meter 6 went from (\d+) W to (\d+) W within \d+\.\d s",
        summary,
    )
    assert found, summary
    drawn, before, after = (int(number) for number in found.groups())
    assert before - after == pytest.approx(drawn - 5000, abs=1000)


def test_demo_only_reads_a_server_that_is_given(simulate: "subprocess.Popen[str]") -> None:
    assert simulate.stdout is not None
    url = simulate.stdout.readline().strip()
    result = _run("demo", url, "--seconds", "0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "OK: 8 components listed, 4 followed for 0 s"


def test_demo_of_a_bare_site() -> None:
    with ScriptedServer(component(1, "grid")) as server:
        result = _run("demo", server.url, "--seconds", "0")
    assert result.returncode == 0, result.stderr
    assert "1: grid" in result.stdout
    assert result.stdout.splitlines()[-1] == "OK: 1 components listed, 0 followed for 0 s"


def test_demo_is_drawn_in_place_on_a_terminal() -> None:
    script = (
        "import pty, sys\n"
        f"sys.exit(pty.spawn([{sys.executable!r}, '-m', 'microgrid_sync', 'demo', '--seconds',"
        " '1']) >> 8)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TERM": "xterm"},
    )
    assert result.returncode == 0
    assert "sample of" in result.stdout
    assert "OK: 8 components listed" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["demo", "http://host"], 2, "scheme 'http'"),
        (["demo", "grpc://127.0.0.1:1"], 1, "UNAVAILABLE"),
        (["demo", "--seconds", "-1"], 2, "--seconds"),
        (["demo", "--seconds", "nan"], 2, "--seconds"),
        (["simulate", "--port", "70000"], 2, "--port"),
        (["simulate", "--host", "no.such.host.invalid"], 1, "cannot serve on"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(
    arguments: list[str], code: int, words: str
) -> None:
    result = _run(*arguments)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_simulate_prints_its_url_and_ends_by_ctrl_c(simulate: "subprocess.Popen[str]") -> None:
    assert simulate.stdout is not None
    url = simulate.stdout.readline().strip()
    assert re.fullmatch(r"grpc://127\.0\.0\.1:\d+", url)
    with MicrogridApiClient(url) as client:
        client.set_power(7, 5000.0)
    simulate.send_signal(signal.SIGINT)
    _, errors = simulate.communicate(timeout=PATIENCE)
    assert simulate.returncode == 0
    assert "Traceback" not in errors
    assert "Stopped." in errors


def test_demo_ends_by_ctrl_c_without_a_traceback() -> None:
    process = subprocess.Popen(
        [*COMMAND, "demo", "--seconds", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    while "ev charger 7: " not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_command_without_its_extra_says_what_to_install(missing: str, tmp_path: Path) -> None:
    script = (
        "import importlib.util, runpy, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = ("
        f"lambda name, *a: None if name == {missing!r} else find(name, *a))\n"
        "runpy.run_module('microgrid_sync', run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert f"needs {missing}" in result.stderr
    assert "microgrid_sync[cli]" in result.stderr
    assert "Traceback" not in result.stderr


def test_version() -> None:
    assert re.search(r"\d+\.\d+\.\d+", _run("--version").stdout)
