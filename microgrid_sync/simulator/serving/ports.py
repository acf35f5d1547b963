"""Ports on loopback that stay a test's own while nobody serves on them."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reserved_port"]


@contextmanager
def reserved_port() -> Iterator[int]:
    """Keep a free port of 127.0.0.1, so that a server can be stopped and started again on it.

    Tests that run side by side start servers on any free port. One that has just been left is
    free, too: a client that waits for its server would find another test's.

    What keeps it is a socket that does not listen. Connections are refused, Linux gives the port
    to nobody who asks for any, and lets those have it who name it and say SO_REUSEADDR, as servers
    do. Other systems would refuse them: there the port is only free at first.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port
