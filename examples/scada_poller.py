"""Glue for a control system: a process image, polled by its own threads, with a watchdog."""

import signal
import sys
import threading
import time
from typing import Any

from microgrid_sync import MicrogridApiClient

INTERVAL = 1.0
SILENT = 10.0
STUCK = 30.0
SENDING = {"METER", "INVERTER", "EV_CHARGER", "BATTERY"}


class ProcessImage:
    """The newest values by tag, as control systems have them: value, quality, age."""

    def __init__(self) -> None:
        """Begin with nothing."""
        # Protects the values: callbacks write, the poller reads.
        self._lock = threading.Lock()
        self._values: dict[str, tuple[float, float]] = {}

    def write(self, data: Any) -> None:
        """Take what a component sends: the callback of the subscription."""
        power = getattr(data, "active_power", None)
        if power is not None:
            with self._lock:
                self._values[f"C{data.component_id}.P"] = (power, time.monotonic())

    def read(self) -> dict[str, tuple[float, str, float]]:
        """Give all tags with their quality, as of now."""
        now = time.monotonic()
        with self._lock:
            values = dict(self._values)
        return {
            tag: (value, "GOOD" if now - at < SILENT else "BAD", now - at)
            for tag, (value, at) in sorted(values.items())
        }


def poll(image: ProcessImage, stop: threading.Event, beats: list[float]) -> None:
    """Hand the image on: here to the output, elsewhere to the control system."""
    while not stop.wait(INTERVAL):
        tags = image.read()
        print(
            " ".join(f"{tag}={v / 1000:.2f}kW/{q}" for tag, (v, q, _) in tags.items()), flush=True
        )
        beats[0] = time.monotonic()


def main(url: str) -> int:
    """Run until SIGTERM or Ctrl-C; end with an error if the poller hangs."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    image, beats = ProcessImage(), [time.monotonic()]
    with MicrogridApiClient(url) as client:
        client.wait_until_ready()
        ids = [c.component_id for c in client.components() if c.category.name in SENDING]
        poller = threading.Thread(
            target=poll, args=(image, stop, beats), name="poller", daemon=True
        )
        with client.subscribe(ids, image.write):
            poller.start()
            while not stop.wait(INTERVAL):
                if time.monotonic() - beats[0] > STUCK:
                    print("the poller hangs", file=sys.stderr)
                    return 1
        poller.join(INTERVAL)
    print("ended", flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: scada_poller.py grpc://host:port")
    sys.exit(main(sys.argv[1]))
