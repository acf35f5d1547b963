"""The scripts that users start from do run."""

import configparser
import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from microgrid_sync import MicrogridApiClient, recording
from microgrid_sync.gateways import Commands, LiveSite, load_gateways, read_gateways
from microgrid_sync.gateways.modbus import ModbusGateway
from microgrid_sync.gateways.mqtt import MqttGateway
from microgrid_sync.gateways.prometheus import PrometheusGateway
from microgrid_sync.service import load_sites, read_sites, running_sites, share_of
from microgrid_sync.simulator import Fault, Simulator, load_site
from tests.gateways.masters import Master, registers_of
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
        "alarm_on_silence.py",
        "cap_from_modbus.py",
        "dim_14a.py",
        "ev_charger_pool.py",
        "follow_chargers.py",
        "fuse.py",
        "health.py",
        "limit_a_charger.py",
        "scada_poller.py",
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


def started(name: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start an example."""
    script = str(ROOT / "examples" / name)
    return subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True)


def test_scada_poller_marks_what_is_silent_and_ends_on_sigterm() -> None:
    text = (ROOT / "examples" / "scada_poller.py").read_text()
    assert len(text.splitlines()) < 80
    with Simulator(sample_interval=0.2) as simulator:
        process = started("scada_poller.py", simulator.url)
        assert process.stdout is not None
        while not re.search(r"C7\.P=-?[\d.]+/GOOD", process.stdout.readline()):
            assert process.poll() is None
        simulator.faults.add(Fault(kind="silent", components=[7]))
        line = ""
        while not re.search(r"C7\.P=-?[\d.]+/BAD", line):
            assert process.poll() is None
            line = process.stdout.readline()
        assert re.search(r"C2\.P=-?[\d.]+/GOOD", line)
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.endswith("ended\n")


def test_scada_poller_that_hangs_ends_by_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "scada_poller.py"))
    main = example["main"]
    # As its own module has them.
    monkeypatch.setitem(main.__globals__, "STUCK", -1.0)
    monkeypatch.setitem(main.__globals__, "INTERVAL", 0.05)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Simulator(sample_interval=0.2) as simulator:
            assert main(simulator.url) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_cap_from_modbus() -> None:
    with Simulator(sample_interval=0.2) as simulator:
        process = started("cap_from_modbus.py", simulator.url, "0")
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with Master(port) as master:
            master.write(0, *registers_of(5000.0))

        def draw() -> float:
            return simulator.change(lambda site: sum(site.flows[n].power for n in (7, 8)))

        assert eventually(lambda: 0 < draw() <= 5001)
        line = ""
        while "5000 W by Modbus master 127.0.0.1" not in line:
            assert process.poll() is None
            line = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_alarm_on_silence() -> None:
    with Simulator(sample_interval=0.2) as simulator:
        process = started("alarm_on_silence.py", simulator.url, "2.5")
        assert process.stdout is not None
        assert process.stdout.readline() == "watching 8 components\n"
        simulator.faults.add(Fault(kind="silent", components=[7]))
        # On a busy machine others may be late, too.
        for words in ("component 7: ALARM: silent\n", "component 7: heard again\n"):
            while not (line := process.stdout.readline()).endswith(words):
                assert line
            simulator.faults.clear()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.endswith("ended\n")


def test_configuration_for_gateways_is_one() -> None:
    config = load_gateways(ROOT / "examples" / "deploy" / "site.toml")
    assert config.modbus is not None
    # Who only looks caps nobody.
    assert not config.modbus.commands
    # The lines that are comments are right, too.
    text = (ROOT / "examples" / "deploy" / "site.toml").read_text()
    lines = [re.sub(r"^# (\w+ = )", r"\1", line) for line in text.splitlines()]
    whole = read_gateways(tomllib.loads("\n".join(lines)))
    assert whole.modbus is not None
    assert whole.modbus.safe_cap_w == 11_000
    assert config.mqtt is not None
    assert config.prometheus is not None


def test_unit_of_the_gateways_is_one() -> None:
    unit = read_unit((ROOT / "examples" / "deploy" / "microgrid-gateway.service").read_text())
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert program.endswith("/microgrid-sync")
    assert arguments[:2] == ["gateway", "all"]
    assert unit["Service"]["Restart"] == "always"


def test_unit_of_the_recorder_is_one(tmp_path: Path) -> None:
    path = ROOT / "examples" / "deploy" / "microgrid-record.service"
    service = read_unit(path.read_text())["Service"]
    program, *arguments = service["ExecStart"].replace("%S", str(tmp_path)).split()
    assert program.endswith("/microgrid-sync")
    with Simulator(sample_interval=0.1) as site:
        done = subprocess.run(
            [sys.executable, "-m", "microgrid_sync", *arguments[:-1], site.url, "--duration", "5"],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with recording.open(tmp_path / "microgrid" / "depot") as opened:
        assert opened.sites == ["depot"]
    verify_unit(path, tmp_path, program)


def test_dashboard_asks_for_metrics_that_there_are(tmp_path: Path) -> None:
    dashboard = json.loads((ROOT / "examples" / "deploy" / "grafana-dashboard.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"microgrid_\w+", target["expr"])
    }
    with (
        Simulator(sample_interval=0.2) as simulator,
        MicrogridApiClient(simulator.url) as client,
        LiveSite(client) as site,
        Commands(site, max_current_a=50.0) as commands,
    ):
        source = commands.new_source("modbus")
        source.set_cap(5000.0, by="a test")
        with (
            ModbusGateway(site, port=0, source=source) as modbus,
            # There is no broker, which is a value, too.
            MqttGateway(site, port=1) as mqtt,
            PrometheusGateway(site, port=0, commands=commands, modbus=modbus, mqtt=mqtt) as gateway,
            # The recorder's are of the process, and no site's.
            running_sites(
                read_sites(
                    {
                        "record": {"to": f"{tmp_path}/data/"},
                        "prometheus": {"port": 0},
                        "site": [{"name": "one", "url": simulator.url}],
                    }
                ),
                ["prometheus", "record"],
            ) as running,
        ):
            recorders = running.prometheus
            assert recorders is not None

            def missing() -> set[str]:
                text = gateway.metrics("")[0] + recorders.metrics("")[0]
                return asked - set(re.findall(r"^(microgrid_\w+)", text.decode(), re.MULTILINE))

            assert eventually(lambda: not missing()), missing()


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


def test_list_of_sites_is_one() -> None:
    config = load_sites(ROOT / "examples" / "deploy" / "sites.toml")
    assert [site.name for site in config.sites] == ["north", "south"]
    assert config.record is not None
    assert config.prometheus is not None
    assert all(site.gateways.mqtt is not None for site in config.sites)
    # The lines that are comments are right, too.
    text = (ROOT / "examples" / "deploy" / "sites.toml").read_text()
    lines = [re.sub(r"^# (\w+ = )", r"\1", line) for line in text.splitlines()]
    whole = read_sites(tomllib.loads("\n".join(lines)))
    assert whole.record is not None
    assert whole.record.what == ("totals", "results")
    # Without commands nothing is capped.
    assert not any(site.gateways.mqtt.commands for site in config.sites if site.gateways.mqtt)


def read_unit(text: str) -> configparser.ConfigParser:
    """Read a unit of systemd."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign] # names keep their letters
    unit.read_string(text)
    return unit


def verify_unit(path: Path, folder: Path, program: str) -> None:
    """Have systemd's own validator look at a unit, where there is one."""
    if shutil.which("systemd-analyze") is None:
        return
    # It wants the program to be there.
    (folder / path.name).write_text(path.read_text().replace(program, "/bin/true"))
    name = path.name.replace("@.", "@3.")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(folder / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "microgrid" in done.stderr) == (0, False), done.stderr


def test_template_of_systemd_is_one(tmp_path: Path) -> None:
    path = ROOT / "examples" / "deploy" / "microgrid-sites@.service"
    # Environment stands there twice.
    unit = read_unit(re.sub(r"^Environment=SHARES.*\n", "", path.read_text(), flags=re.M))
    arguments = unit["Service"]["ExecStart"].split()
    assert arguments[1:3] == ["gateway", "all"]
    assert share_of(arguments[-1].replace("%i", "3").replace("${SHARES}", "8")) == (3, 8)
    verify_unit(path, tmp_path, arguments[0])


def test_manifest_of_kubernetes_is_one() -> None:
    path = ROOT / "examples" / "deploy" / "kubernetes.yaml"
    listed, service, stateful = yaml.safe_load_all(path.read_text())
    for found in (listed, service, stateful):
        kubernetes_validate.validate(found, "1.33", strict=True)
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    shares = re.search(r"--share \$\(\(POD_INDEX \+ 1\)\)/(\d+)", container["command"][-1])
    assert shares is not None
    assert int(shares[1]) == stateful["spec"]["replicas"]
    config = read_sites(tomllib.loads(listed["data"]["sites.toml"]))
    # All pods have the port that the service names, open to others.
    assert config.prometheus is not None
    ports = [port["containerPort"] for port in container["ports"]]
    assert [config.prometheus.port] == ports == [service["spec"]["ports"][0]["port"]]
    assert config.prometheus.host == "0.0.0.0"
    assert not config.prometheus.each_share_has_its_port
    # What the image has installed is all that is asked for.
    assert all(site.gateways.modbus is None for site in config.sites)
