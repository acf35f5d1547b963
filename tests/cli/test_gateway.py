"""The command that serves a site to other systems; what it is told that is wrong."""

import itertools
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from microgrid_sync.gateways import register_map
from microgrid_sync.simulator import Simulator
from tests.cli.test_site_commands import COMMAND, done, run
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.2)


def told(tmp_path: Path, text: str) -> str:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return str(path)


def test_map_needs_no_site_and_has_every_register() -> None:
    text = done("gateway", "modbus", "--map")
    assert "1000 + 64 n + 8" in text
    assert "grid: power, import positive" in text
    found = json.loads(done("gateway", "modbus", "--map", "--json"))
    inputs = [row for row in found["input_registers"] if not row["is_of_charger"]]
    ends = [(row["address"], row["address"] + row["length"]) for row in inputs]
    # No two overlap.
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    of_charger = [row for row in found["input_registers"] if row["is_of_charger"]]
    assert sum(row["length"] for row in of_charger) == register_map.CHARGER_SIZE
    called = {row["value"]: row["address"] for row in found["input_registers"]}
    assert called["grid/power_w"] == 0
    assert called["component/{id}/active_power_w"] == 1008
    (cap,) = [row for row in found["holding_registers"] if row["address"] == 10]
    assert (cap["unit"], cap["scale"]) == ("W", 10.0)


def test_map_is_that_of_the_configuration(tmp_path: Path) -> None:
    path = told(tmp_path, '[modbus]\nword_order = "little"\nunit_id = 7\nwatts_per_count = 100\n')
    text = done("gateway", "all", "--map", "--config", path)
    assert text.startswith("Unit 7; numbers of 32 bits: the lower half first")
    assert "1 = 100 W" in text


@pytest.mark.parametrize(
    ("arguments", "config", "text", "code"),
    [
        (["modbus"], "[modbus]\nprot = 1\n", "prot: is unknown here", 2),
        (["modbus"], "[modbus]\nport = -1\nunit_id = 500\n", "65535, not -1; ", 2),
        (["modbus"], "[modbus\n", "site.toml: ", 2),
        (["modbus", "--json"], "", "--json goes with --map", 2),
        (["prometheus", "--map"], "", "--map is of modbus", 2),
        (["all"], '[site]\nurl = "grpc://127.0.0.1:1"\n', "all of nothing", 2),
        (["modbus"], "[modbus]\n", "no site is given", 2),
        (["profibus"], "", "profibus", 2),
        (
            ["mqtt"],
            '[site]\nurl = "grpc://127.0.0.1:1"\n[mqtt]\nuser_file = "nobody"\n',
            "mqtt: user_file: ", 1,
        ),
        (
            ["mqtt"],
            '[site]\nurl = "grpc://127.0.0.1:1"\n[mqtt]\ntls = true\nca_file = "no.pem"\n',
            "no.pem cannot be read: No such file or directory", 1,
        ),
        (
            ["modbus"],
            '[site]\nurl = "grpc://127.0.0.1:1"\n[modbus]\nhost = "203.0.113.1"\n',
            "203.0.113.1:5020 cannot be listened on: Cannot assign requested address", 1,
        ),
        (
            ["modbus"],
            '[site]\nurl = "grpc://127.0.0.1:1"\n[modbus]\nhost = "nowhere.invalid"\n',
            "nowhere.invalid:5020 cannot be listened on: ", 1,
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(
    arguments: list[str], config: str, text: str, code: int, tmp_path: Path
) -> None:
    path = told(tmp_path, config)
    outcome = run("gateway", *arguments, "--config", path)
    assert outcome.exit_code == code, outcome.output
    assert text in outcome.output
    *before, last = outcome.output.strip().splitlines()
    assert last.startswith("Error: ")
    # Nothing else but that the site is not there, which it is not.
    assert all("waiting for the site" in line for line in before), outcome.output


def test_file_that_is_not_there_is_named() -> None:
    outcome = run("gateway", "all", "--config", "nowhere.toml")
    assert outcome.exit_code == 1
    assert "nowhere.toml" in outcome.output


def test_port_that_is_taken_is_named(tmp_path: Path, microgrid: Simulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = told(tmp_path, f'[site]\nurl = "{microgrid.url}"\n[modbus]\nport = {port}\n')
        outcome = run("gateway", "all", "--config", path)
    assert outcome.exit_code == 1
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in outcome.output


def test_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "microgrid_sync.gateways.modbus", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pymodbus"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pymodbus", None)
    path = told(tmp_path, '[site]\nurl = "grpc://127.0.0.1:1"\n[modbus]\n')
    outcome = run("gateway", "modbus", "--config", path)
    assert outcome.exit_code == 1
    assert "pip install 'microgrid_sync[modbus]'" in outcome.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_url_alone_is_enough_to_begin_with(
    microgrid: Simulator, number: int, tmp_path: Path
) -> None:
    path = told(tmp_path, "[prometheus]\nport = 0\n")
    process = subprocess.Popen(
        [*COMMAND, "gateway", "prometheus", microgrid.url, "--config", path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(3)]
    url = lines[1].split()[1]
    assert url.startswith("http://127.0.0.1:")

    def answer() -> str:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            text: str = reply.read().decode()
        return text

    assert eventually(lambda: "microgrid_power_watts" in answer())
    process.send_signal(number)
    _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in rest


def test_nothing_of_the_gateways_is_loaded_by_the_client() -> None:
    script = (
        "import sys, microgrid_sync, microgrid_sync.gateways; "
        "print(*({'pymodbus', 'paho', 'prometheus_client'} & {*sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == ""


NOTICED_BY_ANOTHER_THREAD = """
import signal, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
# The system gives the signal to that thread: nothing wakes the main one, as if it came a moment
# before that began to wait.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
from microgrid_sync.cli import cli
cli()
"""


@pytest.mark.parametrize(
    "kind", ["gateway all --config site.toml", "record --to data/", "simulate"]
)
def test_signal_that_does_not_wake_the_main_thread_is_obeyed_soon(
    microgrid: Simulator, tmp_path: Path, kind: str
) -> None:
    told(tmp_path, "[prometheus]\nport = 0\n")
    words = kind.split() + (["--port", "0"] if kind == "simulate" else [microgrid.url])
    process = subprocess.Popen(
        [sys.executable, "-c", NOTICED_BY_ANOTHER_THREAD, *words],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "Ctrl-C ends it" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
