"""CPU time of 100 streams at 10 Hz: our client, against bare grpcio with a thread each.

Each reader is a process of its own; the server is another. Measured in turns.
"""

import subprocess
import sys

from parts import print_cpu_time, read_bare_streams
from server import serving

from microgrid_sync import MeterData, MicrogridApiClient, Receiver

METERS = 100
RATE = 10.0
SECONDS = 5.0
ROUNDS = 3


def read_ours(port: int) -> None:
    """Subscribe to all streams."""
    client = MicrogridApiClient(f"grpc://127.0.0.1:{port}")
    receivers.extend(client.meter_data(number) for number in range(1, METERS + 1))
    for receiver in receivers:
        # A reader of the latest value: its full queue is not worth a line in the log.
        receiver.latest()


# Kept: a receiver that nobody refers to counts as closed.
receivers: list[Receiver[MeterData]] = []


def child(which: str, port: int) -> None:
    """Read for some seconds; print the CPU time that they took."""
    if which == "bare":
        read_bare_streams(port, range(1, METERS + 1))
    else:
        read_ours(port)
    print_cpu_time(after=1, seconds=SECONDS)


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        child(sys.argv[1], int(sys.argv[2]))
        return
    taken: dict[str, list[float]] = {"bare": [], "ours": []}
    with serving(meters=2 * METERS, rate=RATE) as port:
        for _ in range(ROUNDS):
            for which, found in taken.items():
                command = [sys.executable, __file__, which, str(port)]
                found.append(float(subprocess.check_output(command, text=True)))
    bare, ours = (min(found) / SECONDS * 100 for found in taken.values())
    print(f"{METERS} streams at {RATE:g} Hz: bare {bare:.1f} % of a core, ours {ours:.1f} %")
    print(f"ratio: {ours / bare:.2f}")


if __name__ == "__main__":
    main()
