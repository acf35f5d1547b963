"""Waiting for something that another thread does, with a deadline that no busy machine misses."""

import time
from collections.abc import Callable

PATIENCE = 20.0
"""Seconds: only a test that fails waits so long."""


def eventually(condition: Callable[[], object], timeout: float = PATIENCE) -> bool:
    """Tell whether a condition comes true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
