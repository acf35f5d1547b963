"""A reader that stops reading for 10,000 messages: memory, drops, log lines."""

import logging
import time
from pathlib import Path

from server import serving

from microgrid_sync import MicrogridApiClient

MESSAGES = 10_000


class Counter(logging.Handler):
    """Counts lines."""

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        del record
        self.lines += 1


def resident_kib() -> int:
    """Give the memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def main() -> None:
    """Measure and print."""
    counter = Counter()
    logging.getLogger("microgrid_sync").addHandler(counter)
    with (
        serving(rate=0.0) as port,
        MicrogridApiClient(f"grpc://127.0.0.1:{port}") as client,
    ):
        receiver = client.meter_data(1)
        started = time.monotonic()
        figures = []
        for goal in range(1000, MESSAGES + 1000, 1000):
            while client.stats().streams[0].messages < goal:
                time.sleep(0.001)
            figures.append(resident_kib())
        receiver.close()
        taken = time.monotonic() - started
        stats = receiver.dropped + len(receiver.drain())
        print(f"{stats} messages in {taken:.1f} s, {receiver.dropped} dropped, 50 kept")
    print(f"memory after each 1000, KiB: {figures}")
    print(f"log lines: {counter.lines}")


if __name__ == "__main__":
    main()
