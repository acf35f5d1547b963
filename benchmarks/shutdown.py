"""How long do 50 streams and 50 waiting threads take to end?"""

import subprocess
import sys
import threading
import time

from server import serving

from microgrid_sync import MicrogridApiClient, ReceiverStoppedError

STREAMS = 50


def occupied(url: str, *, daemon: bool) -> tuple[MicrogridApiClient, list[threading.Thread]]:
    """Connect a client, with a thread waiting at each stream."""
    client = MicrogridApiClient(url)

    def read(component_id: int) -> None:
        receiver = client.meter_data(component_id)
        try:
            while True:
                receiver.receive()
        except ReceiverStoppedError:
            pass

    threads = [
        threading.Thread(target=read, args=(number,), daemon=daemon)
        for number in range(1, STREAMS + 1)
    ]
    for thread in threads:
        thread.start()
    while sum(stream.messages > 0 for stream in client.stats().streams) < STREAMS:
        time.sleep(0.01)
    return client, threads


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        # The child whose end is measured.
        occupied(sys.argv[1], daemon=False)
        print("ready", flush=True)
        return
    with serving(meters=STREAMS, rate=0.01) as port:
        url = f"grpc://127.0.0.1:{port}"
        client, threads = occupied(url, daemon=True)
        started = time.monotonic()
        client.disconnect()
        for thread in threads:
            thread.join(10)
        taken = time.monotonic() - started
        left = [t.name for t in threading.enumerate() if t.name.startswith("microgrid-")]
        print(f"disconnect(): all out after {taken:.3f} s, threads left: {left} (1 s is wanted)")
        child = subprocess.Popen(
            [sys.executable, __file__, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        child.stdout.readline()
        started = time.monotonic()
        _, errors = child.communicate(timeout=60)
        taken = time.monotonic() - started
        print(f"end of the interpreter: after {taken:.3f} s, exit code {child.returncode}")
        print(f"on its standard error: {errors!r}")


if __name__ == "__main__":
    main()
