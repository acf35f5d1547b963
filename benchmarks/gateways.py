"""All three gateways of a site with 100 components at 1 Hz: CPU and memory, minute by minute.

Usage: gateways.py [MINUTES [API]]; 10 minutes and v1alpha18 unless given. Needs mosquitto. The
server, the broker, the gateways and a reader of the same streams with bare grpcio are processes of
their own; this one is a Modbus master that reads all registers each second, an MQTT client that
takes all messages, and a scraper that asks every five seconds.
"""

import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from parts import cpu_seconds, read_bare_streams
from site_cost import serve

from microgrid_sync import MicrogridApiClient
from microgrid_sync.gateways import read_gateways, register_map
from microgrid_sync.gateways.service import running_gateways
from microgrid_sync.snapshot import has_data
from tests.gateways.masters import Master
from tests.integration.broker import Broker, Listener
from tests.support.process import open_sockets, resident

CHARGERS = 50


def report(*figures: object) -> None:
    """Print this process' CPU seconds, memory, threads and sockets whenever it is asked."""
    print(*figures, flush=True)
    for _ in sys.stdin:
        print(
            cpu_seconds(), resident() / 2**20, threading.active_count(), open_sockets(), flush=True
        )


def serve_gateways(url: str, broker: int) -> None:
    """Run the gateways until the standard input is closed."""
    config = read_gateways(
        {
            "site": {"url": url, "name": "site"},
            "limit": {"max_current_a": 200.0, "fuse": "gG"},
            "modbus": {"port": 0, "commands": True, "safe_cap_w": 50_000.0},
            "mqtt": {"port": broker, "home_assistant": True, "commands": True},
            "prometheus": {"port": 0},
        }
    )
    assert config.site is not None
    with running_gateways(config, config.site, ["modbus", "mqtt", "prometheus"]) as running:
        assert running.modbus is not None
        assert running.prometheus is not None
        report(running.modbus.port, running.prometheus.port)


def read_bare(url: str) -> None:
    """Read the same streams with grpcio alone."""
    api = url.rpartition("=")[2]
    port = int(url.partition("?")[0].rpartition(":")[2])
    with MicrogridApiClient(url) as client:
        numbers = [c.component_id for c in client.components() if has_data(c, api)]
    channel = read_bare_streams(port, numbers, api=api)
    report(len(numbers))
    channel.close()


class Figures:
    """What a process takes, from one look to the next."""

    def __init__(self, *command: str, script: str = __file__) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, script, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said = self._line()
        self._before = (time.monotonic(), self._ask()[0])

    def _line(self) -> list[float]:
        assert self.process.stdout is not None
        return [float(word) for word in self.process.stdout.readline().split()]

    def _ask(self) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def look(self) -> tuple[float, float, int, int]:
        """Give the share of a core in percent, MiB, threads and sockets."""
        cpu, memory, threads, sockets = self._ask()
        now = time.monotonic()
        at, before = self._before
        self._before = (now, cpu)
        return 100 * (cpu - before) / (now - at), memory, int(threads), int(sockets)


class Load:
    """What others ask of the gateways."""

    def __init__(self, modbus: int, prometheus: int) -> None:
        """Begin."""
        self.registers = self.scrapes = 0
        self._ended = threading.Event()
        self._ports = (modbus, prometheus)
        self._threads = [threading.Thread(target=one) for one in (self._poll, self._scrape)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _poll(self) -> None:
        with Master(self._ports[0]) as master:
            while not self._ended.wait(1.0):
                master.write_one(register_map.HEARTBEAT, 1)
                found = master.records(register_map.SITE_START, len(register_map.SITE))
                for place in range(CHARGERS):
                    start = register_map.CHARGERS_START + register_map.CHARGER_SIZE * place
                    found += master.records(start + register_map.RECORD, len(register_map.CHARGER))
                self.registers += register_map.RECORD * len(found)

    def _scrape(self) -> None:
        while not self._ended.wait(5.0):
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[1]}/metrics") as answer:
                answer.read()
            self.scrapes += 1


def main() -> None:
    """Run, and print a line a minute."""
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["gateways", url, broker]:
            serve_gateways(url, int(broker))
        case ["bare", url]:
            read_bare(url)
        case arguments:
            minutes = float(arguments[0]) if arguments else 10.0
            measure(minutes, arguments[1] if len(arguments) > 1 else "v1alpha18")


def measure(minutes: float, api: str) -> None:
    """Print a line for each minute."""
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    url = f"grpc://127.0.0.1:{server.stdout.readline().strip()}?api={api}"
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        gateways = Figures("gateways", url, str(broker.port))
        bare = Figures("bare", url)
        with Listener(broker.port) as listener:
            load = Load(*map(int, gateways.said))
            time.sleep(20)
            gateways.look()
            bare.look()
            print(f"{bare.said[0]:.0f} components, API {api}")
            print("minute  gateways: CPU %  MiB  threads  sockets   bare: CPU %  MiB   "
                  "MQTT/s  registers/s")  # fmt: skip
            for minute in range(1, round(minutes) + 1):
                told, registers = len(listener.all), load.registers
                time.sleep(60)
                rates = ((len(listener.all) - told) / 60, (load.registers - registers) / 60)
                print(_row(minute, gateways.look(), bare.look(), rates), flush=True)
                listener.all.clear()
            load.end()
        for process in (gateways.process, bare.process, server):
            process.kill()
            process.wait(10)


def _row(minute: int, ours: Any, bare: Any, rates: tuple[float, float]) -> str:
    cpu, memory, threads, sockets = ours
    return (f"{minute:>6} {cpu:>16.1f} {memory:>4.0f} {threads:>8} {sockets:>8} "
            f"{bare[0]:>12.1f} {bare[1]:>5.0f} {rates[0]:>8.0f} {rates[1]:>12.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
