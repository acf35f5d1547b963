"""Many sites in one process, some of which are in trouble."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from microgrid_sync import recording
from microgrid_sync.service import Share, read_sites, running_sites
from microgrid_sync.simulator import Fault, Simulator
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes connections, and never says a word."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        stopped = threading.Event()

        def accept() -> None:
            while not stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    connections.append(listening.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"grpc://127.0.0.1:{listening.getsockname()[1]}"
        stopped.set()
        thread.join()
    for connection in connections:
        connection.close()


def listed(urls: dict[str, str], **tables: Any) -> dict[str, Any]:
    """Make a list of sites."""
    sites = [{"name": name, "url": url, "timeout": 2} for name, url in urls.items()]
    return {"site": sites, **tables}


def simulator(api: str) -> Simulator:
    """Make a site whose clock is right."""
    return Simulator("demo", api=[api], sample_interval=0.1, start=datetime.now(UTC))


def get(port: int, path: str) -> str:
    """Ask the gateway for Prometheus; whatever it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return str(answer.read().decode())
    except urllib.request.HTTPError as error:
        with error:
            return error.read().decode()


@pytest.mark.both_apis
def test_trouble_of_one_site_is_not_another_ones(tmp_path: Path, api: str, deaf: str) -> None:
    with simulator(api) as one, simulator(api) as other:
        urls = {"one": one.url, "other": other.url, "deaf": deaf, "down": "grpc://127.0.0.1:9"}
        config = read_sites(
            listed(urls, prometheus={"port": 0}, record={"to": f"{tmp_path}/data/"})
        )
        with running_sites(config, ["prometheus", "record"]) as running:
            assert running.prometheus is not None
            assert running.recorder is not None
            port = running.prometheus.port
            assert eventually(lambda: 'microgrid_up{site="other"} 1.0' in get(port, "/metrics"))
            recorder = running.recorder
            assert eventually(lambda: recorder.stats.recorded > 300)
            other.faults.add(Fault(kind="silent"))
            began, before = datetime.now(UTC), recorder.stats.recorded
            # Of one site alone, and with what was on its way of the other.
            assert eventually(lambda: recorder.stats.recorded > before + 600)
            text = get(port, "/metrics")
            health = json.loads(get(port, "/healthz"))
            closing = time.monotonic()
        assert time.monotonic() - closing < PATIENCE
    assert text.count("# HELP microgrid_up ") == 1
    for name, up in (("one", "1.0"), ("deaf", "0.0"), ("down", "0.0")):
        assert f'microgrid_up{{site="{name}"}} {up}' in text
    assert 'microgrid_recorder_lost_values_total{site=""} 0.0' in text
    assert health["ok"] is True
    assert {"deaf", "down"} <= {*health["not_heard"]}
    with recording.open(tmp_path / "data") as opened:
        assert opened.sites == ["deaf", "down", "one", "other"]
        found = opened.samples(7, "active_power", site="one").index
        # As before.
        steps = found[found > began].to_series().diff().dropna()
    assert len(steps) > 10
    assert steps.median() < timedelta(seconds=0.2)


def test_each_share_has_its_spool_and_its_port(tmp_path: Path, api: str, port: int) -> None:
    with simulator(api) as one, simulator(api) as other:
        config = read_sites(
            listed(
                {"one": one.url, "other": other.url},
                prometheus={"port": port - 1, "each_share_has_its_port": True},
                record={"to": f"{tmp_path}/data/"},
            )
        )
        with running_sites(config.shared(Share(2, 2)), ["prometheus", "record"]) as running:
            assert [*running.sites] == ["other"]
            assert running.prometheus is not None
            assert running.prometheus.port == port
            assert (tmp_path / "data" / ".spool-2-of-2.sqlite").exists()
            recorder = running.recorder
            assert recorder is not None
            assert eventually(lambda: recorder.stats.recorded > 50)
            # What only a share's spool has is read, too.
            with recording.open(tmp_path / "data") as opened:
                assert opened.sites == ["other"]


def test_what_is_missing_is_said_before_anything_begins(tmp_path: Path) -> None:
    urls = {"one": "grpc://127.0.0.1:9", "other": "grpc://127.0.0.1:10"}
    config = read_sites(listed(urls))
    before = threading.active_count()
    for kind, words in (("record", r"a table \[record\]"), ("modbus", "needs a port of its own")):
        with pytest.raises(ValueError, match=words), running_sites(config, [kind]):
            pass
    # Of a test before one may have ended.
    assert threading.active_count() <= before
    assert [*tmp_path.iterdir()] == []


def test_what_is_not_wanted_is_not_loaded() -> None:
    program = (
        "import sys, microgrid_sync.recording.recorder, microgrid_sync.service\n"
        "print({'pandas', 'numpy', 'pyarrow', 'psycopg', 'paho', 'pymodbus', 'click'}"
        " & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert done.stdout == "set()\n"
