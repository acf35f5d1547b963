"""The scripts that users start from do run."""

import configparser
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from microgrid_sync.simulator import Simulator, load_site
from tests.support.waiting import PATIENCE, eventually

ROOT = Path(__file__).parent.parent


def test_script_of_the_readme_works_and_has_ten_lines() -> None:
    text = (ROOT / "README.rst").read_text()
    found = re.search(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text)
    assert found
    script = "\n".join(line[3:] for line in found.group(1).splitlines())
    assert len([line for line in script.splitlines() if line.strip()]) <= 10
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "7 EV_CHARGER" in result.stdout
    draws = [float(watts) for watts in re.findall(r"takes (\d+) W", result.stdout)]
    # What the car takes, and what the set-point makes of it.
    assert len(draws) == 6
    assert max(draws) > 9000
    assert draws[-1] < 5100


def test_every_example_is_tested_here() -> None:
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == {
        "dim_14a.py",
        "ev_charger_pool.py",
        "follow_chargers.py",
        "fuse.py",
        "health.py",
        "limit_a_charger.py",
        "site_overview.py",
        "test_my_program.py",
        "watchdog.py",
    }


def test_site() -> None:
    site = load_site(ROOT / "examples" / "site.toml")
    site.advance(14 * 3600.0)
    assert site.flows[2].power != 0


def test_site_overview() -> None:
    path = ROOT / "examples" / "site_overview.py"
    assert len(path.read_text().splitlines()) < 25
    result = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"grid .*W house .*W sun .*W battery .*W [\d.]+ %", lines[-1])
    assert "None" not in lines[-1]


def test_ev_charger_pool() -> None:
    path = ROOT / "examples" / "ev_charger_pool.py"
    assert len(path.read_text().splitlines()) <= 25
    result = subprocess.run(
        [sys.executable, str(path), "12000", "8"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 8
    found = re.fullmatch(r"\d\d:\d\d:\d\d ([\d.]+) kW", lines[-1])
    assert found
    assert 10 < float(found.group(1)) <= 12


def test_fuse() -> None:
    path = ROOT / "examples" / "fuse.py"
    assert len(path.read_text().splitlines()) < 25
    result = subprocess.run(
        [sys.executable, str(path), "4"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    line = r"\d\d:\d\d:\d\d house (-?[\d.]+(, )?){3} A, left to cars (-?[\d.]+(, )?){3} A"
    assert re.fullmatch(line, result.stdout.splitlines()[-1])


def test_dim_14a(tmp_path: Path) -> None:
    path = ROOT / "examples" / "dim_14a.py"
    example = runpy.run_path(str(path))
    # Federal Network Agency, BK6-22-300, annex 1, 4.5.
    guaranteed = [round(example["guaranteed"](n).as_kilowatts(), 2) for n in (1, 2, 3, 4, 5, 10)]
    assert guaranteed == [4.2, 7.56, 10.5, 13.02, 15.12, 21.21]
    dimming = tmp_path / "signal"
    dimming.write_text("0")
    process = subprocess.Popen(
        [sys.executable, str(path), str(dimming), "15"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "4 chargers not dimmed\n"
    dimming.write_text("1")
    assert process.stdout.readline() == "4 chargers dimmed to 13.02 kW\n"
    dimming.unlink()
    time.sleep(1.5)
    dimming.write_text("0\n")
    assert process.stdout.readline() == "4 chargers not dimmed\n"
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    # Without an argument it says how it is used.
    result = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("usage: ")


def test_follow_chargers() -> None:
    script = str(ROOT / "examples" / "follow_chargers.py")
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("2 chargers\n")
    assert {line.split()[1] for line in result.stdout.splitlines()[1:]} == {"7:", "8:"}


def test_limit_a_charger() -> None:
    script = str(ROOT / "examples" / "limit_a_charger.py")
    process = subprocess.Popen(
        [sys.executable, script, "7", "5000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "5000 W":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.endswith("set to 0 W\n")


def test_watchdog_releases_the_cars_on_sigterm(tmp_path: Path) -> None:
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(PATIENCE)
    script = str(ROOT / "examples" / "watchdog.py")
    with notify, Simulator(sample_interval=0.2) as simulator:
        process = subprocess.Popen(
            [sys.executable, script, simulator.url, "11"],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )  # fmt: skip
        assert process.stdout is not None
        assert notify.recv(100) == b"READY=1"
        assert process.stdout.readline() == "holding 11 kW\n"
        assert notify.recv(100) == b"WATCHDOG=1"
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "released\n")


def test_unit_of_the_service_is_one() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign] # names keep their letters
    unit.read(ROOT / "examples" / "microgrid-cap.service")
    assert unit["Service"]["Type"] == "notify"
    program, script, *arguments = unit["Service"]["ExecStart"].split()
    assert program.endswith("/python")
    assert (ROOT / "examples" / Path(script).name).exists()
    assert len(arguments) == 2


def test_health() -> None:
    script = str(ROOT / "examples" / "health.py")
    with Simulator(sample_interval=0.2) as simulator:
        process = subprocess.Popen(
            [sys.executable, script, simulator.url, "0"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        def answer(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(url.replace("/health", path), timeout=10) as reply:
                    return reply.status, reply.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        assert eventually(lambda: answer("/health") == (200, '{"ok": true, "state": "ready"}'))
        code, text = answer("/metrics")
        assert code == 200
        assert 'microgrid_up{component="2"} 1' in text
    assert eventually(lambda: answer("/health")[0] == 503)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_tests_of_a_program() -> None:
    path = ROOT / "examples" / "test_my_program.py"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, path],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], [], ["seven", "5000"]])
def test_wrong_arguments_of_an_example_give_a_usage_line(arguments: list[str]) -> None:
    script = str(ROOT / "examples" / "limit_a_charger.py")
    result = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == "usage: limit_a_charger.py CHARGER_ID WATTS [grpc://host:port]\n"
