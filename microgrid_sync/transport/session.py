"""One connection to one server: its channel, its calls, its streams, and their common end."""

import atexit
import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, TypeVar

import grpc

from microgrid_sync.exceptions import ClientNotConnected, GrpcStatus, OperationTimedOut
from microgrid_sync.model import Component, ComponentCategory, Connection
from microgrid_sync.receiver import Receiver
from microgrid_sync.transport.calls import CallCounters, CallOptions, UnaryCalls
from microgrid_sync.transport.channel import (
    ChannelOptions,
    check_not_forked,
    open_channel,
    parse_url,
)
from microgrid_sync.transport.retry import Strategy
from microgrid_sync.transport.streams import Streams
from microgrid_sync.wire import ApiGeneration, UnaryRequest

T = TypeVar("T")

_JOIN_TIMEOUT = 1.0
"""Seconds in which the threads of a connection end when it is closed."""


class Session:
    """A connection from the moment it is made until it is closed, once.

    The client owns it. Any thread may use it and close it.
    """

    def __init__(
        self,
        server_url: str,
        *,
        channel_defaults: ChannelOptions,
        generation: ApiGeneration,
        strategy: Strategy,
        call_options: CallOptions,
        counters: CallCounters,
    ) -> None:
        """Make a channel, which connects when it is first used.

        Args:
            server_url: The server's URL.
            channel_defaults: How to connect where the URL does not say it.
            generation: The API that the server speaks.
            strategy: How streams reconnect.
            call_options: How the list of components is asked for.
            counters: Where calls are counted.

        Raises:
            ValueError: If the URL is wrong.
            RuntimeError: In a process forked off one that had a channel.
        """
        self.server_url = server_url
        self.channel = open_channel(parse_url(server_url, channel_defaults))
        self.stub: Any = generation.make_stub(self.channel)
        self._generation = generation
        self._call_options = call_options
        self._calls = UnaryCalls(server_url, self.stub, counters)
        self.streams = Streams(self.channel, server_url, strategy)
        self._process = os.getpid()
        # Held while the list of components is fetched, so that many subscriptions at once make
        # one call. Nothing else is done under it; the call has a deadline.
        self._fetching = threading.Lock()
        # Replaced as a whole. The number counts how often that was done.
        self._known: tuple[int, dict[int, Component]] = (0, {})
        _close_at_exit(self)

    def call(
        self,
        request: UnaryRequest[T],
        options: CallOptions,
        order_by: tuple[str, int] | None = None,
    ) -> T:
        """Make a unary call: see `UnaryCalls.call`."""
        check_not_forked()
        return self._calls.call(request, options, order_by=order_by)

    def components(self, options: CallOptions) -> list[Component]:
        """Ask the server for its components, and remember them."""
        components = self.call(self._generation.list_components(), options)
        self._known = (
            self._known[0] + 1,
            {component.component_id: component for component in components},
        )
        return components

    def connections(
        self, request: UnaryRequest[list[Connection]], options: CallOptions
    ) -> list[Connection]:
        """Ask the server for connections, and for its components, between which they must be.

        Args:
            request: Which connections to ask for.
            options: How; the timeout is for both calls.

        Returns:
            The connections between components that exist, or number 0.
        """
        deadline = time.monotonic() + options.timeout
        connections = self.call(request, options)
        remaining = max(0.0, deadline - time.monotonic())
        components = self.components(CallOptions(remaining, options.retry))
        known = {0, *(component.component_id for component in components)}
        return [c for c in connections if c.start in known and c.end in known]

    def subscribe(
        self, component_id: int, category: ComponentCategory, maxsize: int
    ) -> Receiver[Any]:
        """Receive the data of a component.

        Args:
            component_id: The component.
            category: What it is expected to be.
            maxsize: How many values the receiver holds.

        Returns:
            The receiver.

        Raises:
            ValueError: If the component is unknown or of another category.
            ApiClientError: If the components had to be asked for, and that failed.
        """
        check_not_forked()
        self._require(component_id, category)
        request = self._generation.stream_data(component_id, category)
        receiver = self.streams.subscribe(component_id, request, maxsize)
        if receiver is None:
            raise ClientNotConnected(server_url=self.server_url, operation=request.operation)
        return receiver

    def _require(self, component_id: int, category: ComponentCategory) -> None:
        """Look a component up in the list; fetch the list anew if it does not fit."""
        fetched, known = self._known
        if _is(known.get(component_id), category):
            return
        options = self._call_options
        deadline = time.monotonic() + options.timeout
        if not self._fetching.acquire(timeout=options.timeout):
            status = GrpcStatus(
                grpc.StatusCode.DEADLINE_EXCEEDED, "waited for the call of another thread"
            )
            raise OperationTimedOut(
                server_url=self.server_url, operation="ListComponents()", grpc_error=status
            )
        try:
            # Somebody else may have fetched it in the meantime.
            if self._known[0] == fetched:
                remaining = max(0.0, deadline - time.monotonic())
                self.components(CallOptions(remaining, options.retry))
        finally:
            self._fetching.release()
        _, known = self._known
        component = known.get(component_id)
        if component is None:
            raise ValueError(
                f"unknown component {component_id} on {self.server_url}; "
                f"{_name_all(known, category)}"
            )
        if not _is(component, category):
            raise ValueError(
                f"component {component_id} on {self.server_url} is of category "
                f"{component.category.name}, not {category.name}; {_name_all(known, category)}"
            )

    def close(self) -> None:
        """End all calls, streams and threads; readers are woken. Closing again does nothing."""
        if os.getpid() != self._process:
            # A forked child has none of the threads, and its locks may be held for ever.
            return
        self._calls.close()
        _join(self.streams.stop())
        self.channel.close()


def _is(component: Component | None, category: ComponentCategory) -> bool:
    return component is not None and component.category is category


def _name_all(known: dict[int, Component], category: ComponentCategory) -> str:
    """List the components of a category, to choose the right one from."""
    ids = sorted(i for i, component in known.items() if component.category is category)
    if not ids:
        return f"there are none of category {category.name}"
    listed = ", ".join(str(component_id) for component_id in ids[:20])
    return f"those of category {category.name}: {listed}{', ...' if len(ids) > 20 else ''}"


def _join(threads: Sequence[threading.Thread]) -> None:
    deadline = time.monotonic() + _JOIN_TIMEOUT
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


# Sessions that end when the program does.
_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
# Protects the set. Re-entrant, so that a signal handler may connect.
_open_sessions_lock = threading.RLock()


def _close_at_exit(session: Session) -> None:
    _register_exit_hook()
    with _open_sessions_lock:
        _open_sessions.add(session)


@functools.cache
def _register_exit_hook() -> None:
    # At the end of the main thread, before Python waits for the other threads: those that wait in
    # receive() would keep the program from ending. Only the threading module knows this moment,
    # and gives it out under a private name; without that name, the end comes after all threads
    # that are no daemons have ended.
    getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _close_all() -> None:
    with _open_sessions_lock:
        sessions = list(_open_sessions)
    for session in sessions:
        # One that fails must not keep the others open.
        with contextlib.suppress(Exception):
            session.close()
