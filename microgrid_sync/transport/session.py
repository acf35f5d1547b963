"""One connection to one server: its channel, its calls, its streams, and their common end."""

import copy
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import grpc

from microgrid_sync.exceptions import (
    ApiClientError,
    ClientNotConnected,
    GrpcStatus,
    OperationTimedOut,
)
from microgrid_sync.model import Component, ComponentCategory, Connection
from microgrid_sync.program_end import ends_with_program
from microgrid_sync.receiver import Receiver
from microgrid_sync.transport.aside import run_aside
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

_CLOSE_MARGIN = 0.5
"""Seconds beyond that for closing the channel."""


class _Known(NamedTuple):
    """The components that were last fetched."""

    fetch: int
    """The number of the fetch that ended last; 0 before the first."""

    components: Mapping[int, Component]
    """The components by their IDs."""

    error: ApiClientError | None
    """Why that fetch has failed, if it has."""


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
        self._calls = UnaryCalls(server_url, self.channel, self.stub, counters)
        self.streams = Streams(self.channel, server_url, strategy, owner=self)
        self._process = os.getpid()
        self.is_closed = False
        # Held while the list of components is fetched, so that many subscriptions at once make
        # one or two calls. Nothing else is done under it; the call has a deadline.
        self._fetching = threading.Lock()
        self._fetches = itertools.count(1)
        self._newest_fetch = 0
        # Replaced as a whole.
        self._known = _Known(0, {}, None)
        ends_with_program(self)

    def call(
        self,
        request: UnaryRequest[T],
        options: CallOptions,
        order_by: tuple[str, int] | None = None,
    ) -> T:
        """Make a unary call: see `UnaryCalls.call`."""
        check_not_forked()
        return self._calls.call(request, options, order_by=order_by)

    def start(
        self,
        request: UnaryRequest[None],
        timeout: float,
        *,
        order_by: tuple[str, int],
        on_done: Callable[[ApiClientError | None], None],
    ) -> None:
        """Start a unary call without waiting for its answer: see `UnaryCalls.start`."""
        check_not_forked()
        self._calls.start(request, timeout, order_by=order_by, on_done=on_done)

    def components(self, options: CallOptions) -> list[Component]:
        """Ask the server for its components, and remember them."""
        number = self._newest_fetch = next(self._fetches)
        try:
            components = self.call(self._generation.list_components(), options)
        except ApiClientError as error:
            if number > self._known.fetch:
                self._known = self._known._replace(fetch=number, error=error)
            raise
        if number > self._known.fetch:
            by_id = {component.component_id: component for component in components}
            self._known = _Known(number, by_id, None)
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
        receiver = self.streams.subscribe(component_id, category, request, maxsize)
        if receiver is None:
            raise ClientNotConnected(server_url=self.server_url, operation=request.operation)
        return receiver

    def _require(self, component_id: int, category: ComponentCategory) -> None:
        """Look a component up in the list; fetch the list anew if it does not fit."""
        if _is(self._known.components.get(component_id), category):
            return
        options = self._call_options
        deadline = time.monotonic() + options.timeout
        # What is being fetched already may be older than what the caller knows.
        newest_fetch = self._newest_fetch
        if not self._fetching.acquire(timeout=options.timeout):
            status = GrpcStatus(
                grpc.StatusCode.DEADLINE_EXCEEDED, "waited for the call of another thread"
            )
            raise OperationTimedOut(
                server_url=self.server_url, operation="ListComponents()", grpc_error=status
            )
        try:
            # One that began later may have ended in the meantime, well or not.
            if self._known.fetch <= newest_fetch:
                remaining = max(0.0, deadline - time.monotonic())
                fetched = self.components(CallOptions(remaining, options.retry))
                # Not what is remembered: a newer call may have failed since, and left nothing.
                known: Mapping[int, Component] = {found.component_id: found for found in fetched}
            elif self._known.error is not None:
                raise copy.copy(self._known.error)
            else:
                known = self._known.components
        finally:
            self._fetching.release()
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
        self.is_closed = True
        caller = threading.current_thread()
        run_aside(lambda: self._close(caller)).join(_JOIN_TIMEOUT + _CLOSE_MARGIN)

    def _close(self, caller: threading.Thread) -> None:
        self._calls.close()
        self._end_streams(caller)
        self.channel.close()

    def _end_streams(self, caller: threading.Thread) -> None:
        deadline = time.monotonic() + _JOIN_TIMEOUT
        for thread in self.streams.stop():
            # A stream's own thread may ask for its end, and waits for this one.
            if thread is not caller:
                thread.join(max(0.0, deadline - time.monotonic()))

    def at_main_thread_end(self) -> None:
        """End all streams, and wake their readers; calls can still be made."""
        if os.getpid() == self._process:
            self._end_streams(threading.current_thread())

    def at_exit(self) -> None:
        """Do as `close` does, but in this thread: at the program's end there may be no other."""
        if os.getpid() == self._process:
            self.is_closed = True
            self._close(threading.current_thread())


def _is(component: Component | None, category: ComponentCategory) -> bool:
    return component is not None and component.category is category


def _name_all(known: Mapping[int, Component], category: ComponentCategory) -> str:
    """List the components of a category, to choose the right one from."""
    ids = sorted(i for i, component in known.items() if component.category is category)
    if not ids:
        return f"there are none of category {category.name}"
    listed = ", ".join(str(component_id) for component_id in ids[:20])
    return f"those of category {category.name}: {listed}{', ...' if len(ids) > 20 else ''}"
