"""The commands, as real processes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from microgrid_sync import (
    MicrogridApiClient,
    OperationAborted,
    OperationTimedOut,
    PermissionDenied,
)
from microgrid_sync.simulator import FaultKind
from tests.support.messages import component
from tests.support.server import ScriptedServer, failing
from tests.support.waiting import PATIENCE, eventually

COMMAND = [sys.executable, "-m", "microgrid_sync"]


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def _summary(output: str) -> str:
    """The line of a demo that says what has been done."""
    return next(line for line in output.splitlines() if line.startswith("OK: "))


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


def test_demo_holds_the_fuse_of_the_house() -> None:
    result = subprocess.run(
        [*COMMAND, "demo", "--site", "house", "--seconds", "1"],
        capture_output=True, text=True, timeout=2 * PATIENCE + 100, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    words = (
        r"OK: 4 chargers held under a fuse of 35 A for 15 s: ([\d.]+) A .* before, ([\d.]+) A now"
    )
    found = re.fullmatch(words, _summary(result.stdout))
    assert found
    before, now = map(float, found.groups())
    assert now < 35.0 < before


def test_demo_does_all_of_it() -> None:
    result = _run("demo", "--seconds", "0.5")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for part in (
        "microgrid 15",
        "Europe/Berlin",
        "3: solar inverter",
        "7: EV charger",
        "grid: ",
        "consumers: ",
        "sun: ",
        "battery: ",
        "cars: ",
    ):
        assert part in result.stdout
    for part in ("ev charger 7: ", "ev charger 8: ", "battery 5: ", "meter 2: "):
        assert part in result.stdout
    summary = _summary(result.stdout)
    found = re.fullmatch(
        r"OK: 9 components listed, 4 followed for 0\.5 s, charger 7 set from ([\d.]+) kW to "
        r"5\.00 kW: meter 6 went from ([\d.]+) kW to ([\d.]+) kW within \d+\.\d s",
        summary,
    )
    assert found, summary
    drawn, before, after = (float(number) for number in found.groups())
    assert before - after == pytest.approx(drawn - 5.0, abs=1.0)
    # It ends with what to try next.
    assert "microgrid-sync watch grpc://" in result.stdout.partition(summary)[2]


def test_demo_only_reads_a_server_that_is_given(simulate: "subprocess.Popen[str]") -> None:
    assert simulate.stdout is not None
    url = simulate.stdout.readline().strip()
    result = _run("demo", url, "--seconds", "0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "OK: 9 components listed, 4 followed for 0 s"


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
    assert "OK: 9 components listed" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["demo", "http://host"], 2, "scheme 'http'"),
        (["demo", "grpc://127.0.0.1:1"], 1, "UNAVAILABLE"),
        (["demo", "--seconds", "-1"], 2, "--seconds"),
        (["demo", "--seconds", "nan"], 2, "--seconds"),
        (["simulate", "--port", "70000"], 2, "--port"),
        (["simulate", "--site", "villa"], 2, "shipped: demo, depot, every_category"),
        (["simulate", "--site", "villa.toml"], 1, "villa.toml"),
        (["simulate", "--speed", "0"], 2, "--speed"),
        (["simulate", "--speed", "nan"], 2, "--speed"),
        (["simulate", "--sample-interval", "0"], 2, "sample_interval must be positive"),
        (["simulate", "--start", "yesterday"], 2, "--start"),
        (["simulate", "--start", "2026-06-21T04:00:00"], 2, "UTC offset"),
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


# Sites and trouble


def test_simulate_serves_other_sites(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nmicrogrid_id = 77\nconnections = []\n'
        '[[component]]\nid = 1\ncategory = "grid"\n'
    )
    with _simulating("--site", str(file)) as url, MicrogridApiClient(url) as client:
        assert client.metadata().microgrid_id == 77


def test_simulate_has_a_clock_of_its_own() -> None:
    options = ["--site", "depot", "--speed", "600", "--start", "2030-01-02T03:04:05Z"]
    with _simulating(*options, "--seed", "9") as url, MicrogridApiClient(url) as client:
        receiver = client.meter_data(2)
        first = receiver.receive(PATIENCE).timestamp
        assert datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC) <= first < datetime(2030, 1, 3, tzinfo=UTC)


@contextlib.contextmanager
def _simulating(*arguments: str) -> Iterator[str]:
    process = subprocess.Popen(
        [*COMMAND, "simulate", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors


def test_trouble_comes_and_goes_at_a_running_simulator(
    simulate: "subprocess.Popen[str]",
) -> None:
    assert simulate.stdout is not None
    url = simulate.stdout.readline().strip()

    def trouble(*arguments: str) -> str:
        result = _run("trouble", "--url", url, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    with MicrogridApiClient(url, call_retry=None) as client:
        assert trouble("list") == ""
        number = trouble("add", "refused", "--component", "7", "--status", "ABORTED").strip()
        with pytest.raises(OperationAborted):
            client.set_power(7, 5000.0)
        trouble("add", "late", "--at", "01:00:00", "--seconds", "90", "--lasts", "0.5")
        assert [line.partition(", from ")[0] for line in trouble("list").splitlines()] == [
            f"{number}: refused (components [7], status ABORTED)",
            f"{int(number) + 1}: late (at 3600, lasts 0.5, seconds 90)",
        ]
        trouble("end", number)
        client.set_power(7, 5000.0)
        trouble("add", "error", "--component", "7", "--code", "OVERCURRENT", "--not-recoverable")
        receiver = client.ev_charger_data(7)
        assert eventually(lambda: not receiver.receive(PATIENCE).is_ev_connected())
        trouble("add", "missing", "--component", "7", "--field", "state", "--field", "data.ac")
        trouble("add", "wrong-enum", "--component", "8", "--number", "-3")
        trouble("add", "unanswered", "--method", "ListConnections")
        with pytest.raises(OperationTimedOut):
            list(client.connections(timeout=0.2))
        trouble("clear")
        assert trouble("list") == ""
        assert list(client.connections())
        # The server is gone, and comes back.
        trouble("add", "restart", "--seconds", "0.5")
        assert eventually(lambda: receiver.receive(PATIENCE).is_ev_connected())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["add", "sad"], 2, "'sad' is not one of 'error'"),
        (["add", "silent", "--component", "99"], 1, "there is no component 99"),
        (["add", "silent", "--component", "x"], 2, "--component"),
        (["add", "silent", "--at", "soon"], 1, "at: must be seconds"),
        (["add", "silent", "--lasts", "nan"], 1, "lasts: must be seconds"),
        (["add", "silent", "--status", "INTERNAL"], 1, "status: a fault 'silent' has none"),
        (["add", "refused", "--status", "BAD"], 1, "'BAD' is no gRPC status"),
        (["end", "99"], 1, "there is no fault 99"),
        (["end", "-1"], 2, "-1"),
    ],
)
def test_trouble_that_makes_no_sense_is_refused(
    simulate: "subprocess.Popen[str]", arguments: list[str], code: int, words: str
) -> None:
    assert simulate.stdout is not None
    url = simulate.stdout.readline().strip()
    result = _run("trouble", "--url", url, *arguments)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_each_mistake_of_trouble_has_a_line(simulate: "subprocess.Popen[str]") -> None:
    assert simulate.stdout is not None
    url = simulate.stdout.readline().strip()
    wrong = ["--seconds", "x", "--at", "y"]
    result = _run("trouble", "--url", url, "add", "late", "--component", "7", *wrong)
    lines = result.stderr.splitlines()
    assert (result.returncode, len(lines)) == (1, 2)
    assert "at: must be seconds" in lines[0]
    assert "seconds: must be seconds" in lines[1]


def test_every_kind_of_trouble_is_explained() -> None:
    text = _run("trouble", "add", "--help").stdout
    for kind in FaultKind:
        assert re.search(rf"^ +{kind}  +\w+", text, re.MULTILINE), kind


def test_trouble_needs_a_simulator() -> None:
    result = _run("trouble", "--url", "grpc://127.0.0.1:1", "list")
    assert (result.returncode, "UNAVAILABLE" in result.stderr) == (1, True)
    with ScriptedServer() as server:
        result = _run("trouble", "--url", server.url, "list")
    assert (result.returncode, "none of this simulator" in result.stderr) == (1, True)
    result = _run("trouble", "--url", "http://host", "list")
    assert (result.returncode, "scheme 'http'" in result.stderr) == (2, True)


def test_simulate_ends_on_sigterm(simulate: "subprocess.Popen[str]") -> None:
    assert simulate.stdout is not None
    assert simulate.stdout.readline().startswith("grpc://")
    simulate.terminate()
    _, errors = simulate.communicate(timeout=PATIENCE)
    assert simulate.returncode == 0
    assert errors.endswith("Stopped.\n")


@pytest.mark.parametrize(
    "answer",
    [{}, {"x": 1.0}, {"1": 2.0}, {"1": {"a": "b"}}, {"1": {"kind": 5.0}}],
    ids=str,
)
@pytest.mark.parametrize("command", [["list"], ["add", "silent"]], ids=str)
def test_trouble_at_a_server_that_answers_otherwise(
    answer: dict[str, Any], command: list[str]
) -> None:
    class Other(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> Any:
            message = Struct()
            message.update(answer)
            return grpc.unary_unary_rpc_method_handler(lambda *_: message.SerializeToString())

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Other()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        result = _run("trouble", "--url", f"grpc://127.0.0.1:{port}", *command)
    finally:
        server.stop(None).wait()
    assert "Traceback" not in result.stderr
    if answer or command != ["list"]:
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "none of this simulator's" in result.stderr


def test_what_a_server_says_does_not_act_on_the_terminal() -> None:
    words = "\x1b]0;title\x07\x1b[2J\nOK: all is well"

    with ScriptedServer() as server:
        server.answers["ListComponents"] = failing(grpc.StatusCode.PERMISSION_DENIED, words)
        client = MicrogridApiClient(server.url, call_retry=None)
        with client, pytest.raises(PermissionDenied) as raised:
            client.components()
    for text in (str(raised.value), repr(raised.value)):
        assert "\x1b" not in text
        assert "\n" not in text
        assert "all is well" in text


def test_help_loads_no_grpc() -> None:
    script = (
        "import sys\n"
        "from microgrid_sync.__main__ import main\n"
        "sys.argv = ['microgrid-sync', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(any(m in sys.modules for m in ('grpc', 'google.protobuf', 'rich', 'pandas')))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.endswith("False\n")
    for command in ("demo", "simulate", "trouble"):
        # The same words as the command's own help begins with.
        first = _run(command, "--help").stdout.split("\n\n")[1].strip()
        assert first.split("\n")[0] in result.stdout
