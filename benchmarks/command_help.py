"""CPU time of ``microgrid-sync --help``, against ``import click`` alone, in turns."""

import os
import resource
import statistics
import subprocess
import sys

ROUNDS = 25
BARE = ["-c", "import click"]
OURS = ["-m", "microgrid_sync", "--help"]


def seconds(arguments: list[str]) -> float:
    """Run an interpreter of its own, of compiled files as an installation has them."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
    print(f"import click: {one * 1000:.1f} ms, microgrid-sync --help: {two * 1000:.1f} ms")
    print(f"ratio: {two / one:.2f} (at most 1.5 is wanted)")


if __name__ == "__main__":
    main()
