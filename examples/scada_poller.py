"""Glue for a control system: a process image, polled by its own threads, with a watchdog."""

import signal
import sys
import threading
import time
from typing import Any

from microgrid_sync import MicrogridApiClient

INTERVAL, SILENT, STUCK = 1.0, 10.0, 30.0
SENDING = {"METER", "INVERTER", "EV_CHARGER", "BATTERY"}


class ProcessImage:
    """The newest values by tag, as control systems have them: value and quality."""

    def __init__(self) -> None:
        """Begin with nothing."""
        # Protects the values: callbacks write, the poller reads.
        self._lock = threading.Lock()
        self._values: dict[str, tuple[float, float]] = {}

    def expect(self, components: list[Any]) -> None:
        """Have a tag for each component, though it has not been heard."""
        for one in components:
            name = "SOC" if one.category.name == "BATTERY" else "P"
            self._values[f"C{one.component_id}.{name}"] = (0.0, -SILENT)

    def write(self, data: Any) -> None:
        """Take what a component sends: the callback of the subscription."""
        name, value = ("SOC", data.soc) if hasattr(data, "soc") else ("P", data.active_power)
        with self._lock:
            self._values[f"C{data.component_id}.{name}"] = (value, time.monotonic())

    def read(self) -> dict[str, tuple[float, str]]:
        """Give all tags with their quality, as of now."""
        now = time.monotonic()
        with self._lock:
            values = sorted(self._values.items())
        return {tag: (value, "GOOD" if now - at < SILENT else "BAD") for tag, (value, at) in values}


def poll(image: ProcessImage, stop: threading.Event, beats: list[float]) -> None:
    """Hand the image on: here to the output, elsewhere to the control system."""
    while not stop.wait(INTERVAL):
        tags = image.read().items()
        print(
            " ".join(f"{tag}={value:.0f}/{quality}" for tag, (value, quality) in tags), flush=True
        )
        beats[0] = time.monotonic()


def main(url: str) -> int:
    """Run until SIGTERM or Ctrl-C; end with an error if the poller hangs."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    image, beats, hangs = ProcessImage(), [time.monotonic()], False
    poller = threading.Thread(target=poll, args=(image, stop, beats), name="poller", daemon=True)
    with MicrogridApiClient(url) as client:
        client.wait_until_ready()
        components = [c for c in client.components() if c.category.name in SENDING]
        image.expect(components)
        with client.subscribe([c.component_id for c in components], image.write):
            poller.start()
            while not stop.wait(INTERVAL):
                if hangs := time.monotonic() - beats[0] > STUCK:
                    stop.set()
        poller.join(INTERVAL)
    print("the poller hangs" if hangs else "ended", flush=True)
    return int(hangs)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: scada_poller.py grpc://host:port")
    sys.exit(main(sys.argv[1]))
