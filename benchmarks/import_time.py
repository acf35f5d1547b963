"""CPU time of importing the client, against grpc and the bindings alone, in turns."""

import os
import statistics
import subprocess
import sys

ROUNDS = 25
BARE = "import grpc; from frequenz.api.microgrid.v1alpha18 import microgrid_pb2_grpc"
OURS = "import microgrid_sync; microgrid_sync.MicrogridApiClient"
# CPU time: a busy machine measures the same.
TIMED = "import time; t = time.process_time(); {}; print(time.process_time() - t)"


def seconds(statement: str) -> float:
    """Run an import in an interpreter of its own, of compiled files as an installation has them."""
    command = [sys.executable, "-c", TIMED.format(statement)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return float(subprocess.check_output(command, text=True, env=environment))


def main() -> None:
    """Measure and print."""
    # The first one compiles what is not compiled yet.
    seconds(OURS)
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(ROUNDS):
        bare.append(seconds(BARE))
        ours.append(seconds(OURS))
    one, two = statistics.median(bare), statistics.median(ours)
    print(f"grpc and the bindings: {one * 1000:.1f} ms, microgrid_sync: {two * 1000:.1f} ms")
    print(f"ratio: {two / one:.2f} (at most 1.5 is wanted)")


if __name__ == "__main__":
    main()
