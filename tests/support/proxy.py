"""A TCP proxy that a test can make cut, stall, delay and slow down what goes through it."""

import contextlib
import select
import socket
import threading
import time
from typing import Self

_CHUNK = 16_384
_LOOK = 0.02
"""Seconds between two looks at what the test wants."""


class Proxy:
    """Forwards connections to a port on loopback, in threads of its own."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.stalled = threading.Event()
        """While set, nothing is forwarded, and nothing is closed."""
        self.delay = 0.0
        """Seconds that every piece of data is held back."""
        self.bytes_per_second = 0.0
        """How much goes through each way; 0 for as much as comes."""
        self.accepted = 0
        self._stopping = threading.Event()
        # Protects the two below.
        self._lock = threading.Lock()
        self._connections: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.stalled.clear()
        self._listener.close()
        self.cut()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(5)

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            connections, self._connections = self._connections, []
        for pair in connections:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    )
                    end.shutdown(socket.SHUT_RDWR)

    def _start(self, run: "object", *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type] # any function
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(_LOOK)
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._connections.append((client, server))
                self.accepted += 1
            self._start(self._forward, client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Carry data both ways until one side closes."""
        other = {client: server, server: client}
        try:
            while not self._stopping.is_set():
                if self.stalled.is_set():
                    self._stopping.wait(_LOOK)
                    continue
                for source in select.select([client, server], [], [], _LOOK)[0]:
                    data = source.recv(_CHUNK)
                    if not data:
                        return
                    self._hold_back(len(data))
                    other[source].sendall(data)
        except (OSError, ValueError):
            return
        finally:
            client.close()
            server.close()

    def _hold_back(self, size: int) -> None:
        pause = self.delay
        if self.bytes_per_second:
            pause += size / self.bytes_per_second
        deadline = time.monotonic() + pause
        while (left := deadline - time.monotonic()) > 0 and not self._stopping.is_set():
            self._stopping.wait(min(left, _LOOK))
