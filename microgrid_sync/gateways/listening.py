"""Listens on a port, with a thread a connection, and not more connections than it can bear."""

import collections
import contextlib
import itertools
import logging
import math
import socket
import socketserver
import sys
import threading
import time
from typing import Any, NamedTuple, Self

_POLL_INTERVAL = 0.2
"""Seconds in which the standard library's server notices that it is to end."""

_JOIN_TIMEOUT = 1.0

_LOG_INTERVAL = 60.0

_CONNECTIONS_PER_SECOND = 200
"""So many are accepted: each costs a thread."""

_AT_ONCE = 0.25
"""Seconds' worth of them that may come at once."""

_logger = logging.getLogger(__name__)


def place_of(host: str, port: int) -> str:
    """Write a host and a port as URLs have them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Peer(NamedTuple):
    """What is known of who is connected."""

    host: str
    has_asked: bool
    quiet_since: float
    """On the monotonic clock."""


class Listener(socketserver.ThreadingTCPServer):
    """Accepts connections, and has each of them served in a daemon thread of its own.

    Of more connections than it is to have, one is closed: of the host that has most of them the one
    that has asked nothing yet, or has been quiet for the longest. A peer that has lost power says
    no farewell, and comes back; and one that opens connections without end closes but its own. (The
    implementation guide for Modbus on TCP/IP wants the oldest unused one to be closed.)
    """

    allow_reuse_address = True
    daemon_threads = True
    # The threads are joined in `close`, with a deadline.
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, host: str, port: int, handler: type[socketserver.BaseRequestHandler], name: str,
        *, most: int,
    ) -> None:  # fmt: skip
        """Listen, and accept nothing yet.

        Args:
            host: The address or name to listen on.
            port: The port; 0 for any that is free.
            handler: Serves one connection.
            name: That of the threads.
            most: How many connections there may be.

        Raises:
            OSError: If that is not possible; the text names the host and the port.
        """
        self._name = name
        self._most = most
        # Protects the two below.
        self._lock = threading.Lock()
        self._peers: dict[socket.socket, _Peer] = {}
        self._serving: set[threading.Thread] = set()
        self._numbers = itertools.count(1)
        # The accepting thread's own.
        self._next_at = 0.0
        self._failed_at = -math.inf
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.address_family = found[0][0]
            super().__init__((host, port), handler)
        except (OSError, OverflowError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            if isinstance(error, PermissionError):
                why += "; ports below 1024 are for root, or need CAP_NET_BIND_SERVICE"
            raise OSError(f"{place_of(host, port)} cannot be listened on: {why}") from error
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_INTERVAL,), name=name, daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Accept connections."""
        self._accepting.start()

    def note_use(self, connection: socket.socket) -> None:
        """Note that a connection is in use."""
        with self._lock:
            if connection in self._peers:
                self._peers[connection] = _Peer(
                    self._peers[connection].host, has_asked=True, quiet_since=time.monotonic()
                )

    def connections(self) -> int:
        """Count the connections."""
        return len(self._peers)

    def close(self) -> None:
        """End all connections, and listen no more. Any number of times."""
        if self._accepting.is_alive():
            self.shutdown()
        self.server_close()
        with self._lock:
            connections, threads = [*self._peers], [*self._serving]
        for connection in connections:
            _hang_up(connection)
        deadline = time.monotonic() + _JOIN_TIMEOUT
        for thread in (self._accepting, *threads):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    # What the standard library calls

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError as error:
            # Such as no file descriptors left: it would be tried again at once.
            now = time.monotonic()
            if now - self._failed_at >= _LOG_INTERVAL:
                self._failed_at = now
                _logger.warning("%s: no connection can be accepted: %s", self._name, error.strerror)
            time.sleep(_POLL_INTERVAL)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread."""
        now = time.monotonic()
        self._next_at = max(self._next_at, now - _AT_ONCE) + 1 / _CONNECTIONS_PER_SECOND
        if self._next_at > now:
            # In the accepting thread: the others wait in the system's queue.
            time.sleep(self._next_at - now)
        with self._lock:
            if len(self._peers) >= self._most:
                self._make_room()
            self._peers[request] = _Peer(
                client_address[0], has_asked=False, quiet_since=time.monotonic()
            )
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"{self._name}-{next(self._numbers)}",
            daemon=True,
        )
        thread.start()
        with self._lock:
            self._serving = {one for one in self._serving if one.is_alive()} | {thread}

    def _make_room(self) -> None:
        """Close a connection, under the lock, which waits for nothing here."""
        counts = collections.Counter(peer.host for peer in self._peers.values())
        host, _ = counts.most_common(1)[0]
        found = {one: peer for one, peer in self._peers.items() if peer.host == host}
        oldest = min(found, key=lambda one: (found[one].has_asked, found[one].quiet_since))
        # Its thread may take a moment to notice.
        del self._peers[oldest]
        _hang_up(oldest)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._peers.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what has gone wrong with a connection: it disturbs no other."""
        del request
        # One that is cut is nobody's fault; anything else would be a defect of ours.
        is_cut = isinstance(sys.exception(), OSError)
        level = logging.DEBUG if is_cut else logging.ERROR
        _logger.log(
            level, "%s: the connection of %s fails", self._name, client_address, exc_info=True
        )


class Served:
    """A gateway that others connect to, from when it is made until it is closed."""

    def __init__(self, listener: Listener) -> None:
        """Accept connections.

        Args:
            listener: Where; it belongs to the gateway from then on.
        """
        self._listener = listener
        listener.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._listener.port

    def close(self) -> None:
        """End all connections, and listen no more. Any number of times."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def _hang_up(connection: socket.socket) -> None:
    """Wake the thread that serves a connection, which then closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
