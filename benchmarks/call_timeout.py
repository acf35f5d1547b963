"""A server that never answers: how long does a call with ``timeout=1.0`` take?"""

import time

from server import serving

from microgrid_sync import MicrogridApiClient, OperationTimedOut

CALLS = 10


def main() -> None:
    """Measure and print."""
    with serving() as port, MicrogridApiClient(f"grpc://127.0.0.1:{port}") as client:
        client.components()
        taken = []
        for _ in range(CALLS):
            started = time.monotonic()
            try:
                client.set_power(1, 5.0, timeout=1.0)
            except OperationTimedOut:
                taken.append(time.monotonic() - started)
    assert len(taken) == CALLS
    print(f"{CALLS} calls with timeout=1.0 ended by OperationTimedOut")
    print(f"after {min(taken):.3f} s to {max(taken):.3f} s (1.0 s to 1.2 s are wanted)")


if __name__ == "__main__":
    main()
