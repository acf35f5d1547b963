"""The gateways as processes, and what others wrote as their clients."""

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microgrid_sync.gateways import register_map
from microgrid_sync.simulator import Simulator
from microgrid_sync.simulator.serving.ports import reserved_port
from tests.gateways.masters import Master, registers_of
from tests.gateways.sites import draw
from tests.integration.broker import Broker, Listener
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.1)

_CONFIG = """
[site]
url = "{url}"
name = "depot"
max_age = 1.0

[modbus]
port = {modbus}
word_order = "{order}"
commands = true
safe_cap_w = 4200
heartbeat_timeout = 600

[mqtt]
port = {mqtt}
interval = 0.2

[prometheus]
port = {prometheus}
"""


class Gateways:
    """All gateways of a site, in a process of their own."""

    def __init__(self, folder: Path, url: str, broker: Broker, order: str = "big") -> None:
        self._ports_held = contextlib.ExitStack()
        self.modbus, self.prometheus = (
            self._ports_held.enter_context(reserved_port()) for _ in range(2)
        )
        self.config = folder / "site.toml"
        self.config.write_text(
            _CONFIG.format(
                url=url, modbus=self.modbus, order=order, mqtt=broker.port,
                prometheus=self.prometheus,
            )
        )  # fmt: skip
        self._log = (folder / "log").open("w+")
        command = [sys.executable, "-m", "microgrid_sync", "gateway", "all"]
        self.process = subprocess.Popen(
            [*command, "--config", str(self.config)], stderr=self._log, start_new_session=True
        )
        assert eventually(lambda: "Ctrl-C ends it" in self.log()), self.log()

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.prometheus}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        self._log.close()
        self._ports_held.close()
        return code


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    with Broker(tmp_path / "broker") as broker:
        yield broker


def mbpoll(gateways: Gateways, start: int, count: int, *more: str) -> dict[int, str]:
    """Read with mbpoll; give the numbers that it prints, by address."""
    command = [
        "mbpoll", "-m", "tcp", "-p", str(gateways.modbus), "-a", "1", "-0", "-1",
        "-r", str(start), "-c", str(count), *more, "127.0.0.1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {int(at): text for at, text in re.findall(r"^\[(\d+)\]:\s+(\S+)", done.stdout, re.M)}


# Slowly, so that both read the same sample.
@pytest.mark.microgrid(sample_interval=1.0)
@pytest.mark.both_apis
def test_mbpoll_reads_what_pymodbus_reads(
    microgrid: Simulator, broker: Broker, tmp_path: Path, api: str
) -> None:
    gateways = Gateways(tmp_path, f"{microgrid.url}?api={api}", broker)
    with Master(gateways.modbus) as master:
        size = register_map.RECORD
        blocks = [
            (register_map.SITE_START, len(register_map.SITE)),
            *(
                (register_map.CHARGERS_START + register_map.CHARGER_SIZE * place + size,
                 len(register_map.CHARGER))
                for place in range(2)
            ),
        ]  # fmt: skip
        assert eventually(lambda: master.records(0, 1)[0].valid)
        assert eventually(lambda: master.input(register_map.GATEWAY_START + 2) == [2])
        for start, count in blocks:
            for number in range(count):
                _same(gateways, master, start + size * number)
        # What is written by one is read by the other.
        command = ["mbpoll", "-m", "tcp", "-p", str(gateways.modbus), "-a", "1", "-0", "-1",
                   "-t", "4:float", "-B", "-r", "0", "127.0.0.1", "5000"]  # fmt: skip
        written = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert written.returncode == 0, written.stdout + written.stderr
        assert master.holding(0, 2) == registers_of(5000.0)
        assert eventually(lambda: draw(microgrid) <= 5001)
        assert float(mbpoll(gateways, 0, 1, "-t", "4:float", "-B")[0]) == 5000.0
    assert gateways.end() == 0
    assert (
        "Modbus master 127.0.0.1 caps the chargers at 5000 W" in Path(tmp_path / "log").read_text()
    )


def _same(gateways: Gateways, master: Master, address: int) -> None:
    """Compare a record that both read, until both have read the same sample of it."""
    found: dict[str, Any] = {}

    def is_same_sample() -> bool:
        before = master.input(address, register_map.RECORD)
        registers = mbpoll(gateways, address, register_map.RECORD, "-t", "3")
        number = mbpoll(gateways, address, 1, "-t", "3:float", "-B")[address]
        after = master.input(address, register_map.RECORD)
        found.update(before=before, registers=registers, number=number)
        # All but the age.
        return before[:4] + before[5:] == after[:4] + after[5:]

    assert eventually(is_same_sample), found
    raw = [int(found["registers"][address + n]) for n in range(register_map.RECORD)]
    before = found["before"]
    assert raw[:4] + raw[5:] == before[:4] + before[5:]
    (value,) = struct.unpack(">f", struct.pack(">HH", *before[:2]))
    if before[3]:
        assert float(found["number"]) == pytest.approx(value, rel=1e-5, abs=1e-4)
    else:
        assert "nan" in found["number"].lower()


@pytest.mark.both_apis
def test_metrics_are_as_promtool_wants_them(
    microgrid: Simulator, broker: Broker, tmp_path: Path, api: str
) -> None:
    gateways = Gateways(tmp_path, f"{microgrid.url}?api={api}", broker)
    assert eventually(lambda: 'microgrid_power_watts{site="depot",subject="grid"}' in
                      gateways.get("/metrics"))  # fmt: skip
    with Master(gateways.modbus) as master:
        master.write(0, *registers_of(5000.0))
        assert eventually(lambda: "microgrid_target_power_watts" in gateways.get("/metrics"))
    text = gateways.get("/metrics")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert gateways.end(signal.SIGINT) == 0


def test_site_that_is_gone_is_valid_nowhere_and_comes_back(
    microgrid: Simulator, broker: Broker, tmp_path: Path
) -> None:
    gateways = Gateways(tmp_path, microgrid.url, broker)
    topic = "microgrid/depot/component/7/active_power_w"
    sample = 'microgrid_active_power_watts{category="ev charger",component_id="7"'
    with Master(gateways.modbus) as master, Listener(broker.port) as listener:

        def valid() -> list[bool]:
            return [
                bool(master.records(1008, 1)[0].valid) if _has_chargers(master) else False,
                bool(listener.is_valid(topic)),
                sample in gateways.get("/metrics"),
                bool(master.records(0, 1)[0].valid),
            ]

        assert eventually(lambda: all(valid()))
        microgrid.stop()
        assert eventually(lambda: not any(valid()))
        assert listener.value(topic) is None
        microgrid.start()
        assert eventually(lambda: all(valid()), timeout=60)
    assert gateways.end() == 0


def _has_chargers(master: Master) -> bool:
    return master.input(register_map.GATEWAY_START + 2)[0] > 0


def test_gateway_starts_before_its_site_and_its_broker(tmp_path: Path, port: int) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    gateways = Gateways(tmp_path, f"grpc://127.0.0.1:{port}", broker)
    assert eventually(lambda: "waiting for the site" in gateways.log())
    assert eventually(lambda: "cannot be reached: Connection refused" in gateways.log())
    with Simulator(sample_interval=0.1, port=port), broker:
        with Listener(broker.port) as listener:
            assert eventually(
                lambda: listener.is_valid("microgrid/depot/component/7/active_power_w"),
                timeout=60,
            )
        assert gateways.end() == 0


def test_signal_to_the_group_ends_it_within_moments(
    microgrid: Simulator, broker: Broker, tmp_path: Path
) -> None:
    gateways = Gateways(tmp_path, microgrid.url, broker)
    with Listener(broker.port) as listener:
        assert eventually(lambda: "microgrid/depot/status" in listener.newest)
    os.killpg(gateways.process.pid, signal.SIGINT)
    assert gateways.wait() == 0
    assert "Traceback" not in gateways.log()
    with Listener(broker.port) as listener:
        assert eventually(lambda: "microgrid/depot/status" in listener.newest)
        assert eventually(lambda: listener.text("microgrid/depot/status") == "offline")


def test_dashboard_and_settings_for_prometheus_are_as_its_tools_want_them() -> None:
    deploy = Path(__file__).parents[2] / "examples" / "deploy"
    checked = subprocess.run(
        ["promtool", "check", "config", str(deploy / "prometheus.yml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    json.loads((deploy / "grafana-dashboard.json").read_text())
