"""Work that must not be done in the thread that asks for it."""

import threading
from collections.abc import Callable


def run_aside(function: Callable[[], object]) -> threading.Thread:
    """Run a function in a daemon thread of its own, and give the thread.

    For what cancels or closes something of gRPC's. A signal handler may ask for that while the
    thread that it interrupts holds one of gRPC's locks, which are not re-entrant: a thread of its
    own waits until that one goes on, where the handler would wait for ever.
    """
    thread = threading.Thread(target=function, name="microgrid-close", daemon=True)
    thread.start()
    return thread
