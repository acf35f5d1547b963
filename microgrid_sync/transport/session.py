"""Keeps one connection to one server: its channels, calls and streams, and their common end."""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import ClientNotConnected
from microgrid_sync.model import Component, ComponentCategory, Connection
from microgrid_sync.program_end import (
    check_not_forked,
    ends_with_program,
    hand_over,
    is_forked,
)
from microgrid_sync.receiver import Receiver
from microgrid_sync.transport import streams
from microgrid_sync.transport.calls import CallCounters, CallOptions, StartedCall, UnaryCalls
from microgrid_sync.transport.channel import ChannelOptions, open_channel, parse_url
from microgrid_sync.transport.component_list import ComponentList
from microgrid_sync.transport.reachability import Reachability
from microgrid_sync.transport.retry import Strategy
from microgrid_sync.wire import ApiGeneration, UnaryRequest

T = TypeVar("T")

_JOIN_TIMEOUT = 1.0
"""Seconds in which the threads of a connection end when it is closed."""

_CLOSE_MARGIN = 0.5
"""Seconds beyond that for closing the channels."""


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
        target = parse_url(server_url, channel_defaults)
        # Commands have a connection of their own: streams may fill all places of one.
        self.channel = open_channel(target)
        self._generation = generation
        self._call_options = call_options
        self._connection = connection = streams.Connection(
            functools.partial(open_channel, target, for_streams=True), server_url
        )
        self.reachability: Reachability = connection.reachability
        self._calls = UnaryCalls(server_url, self.channel, counters, self.reachability)
        self.streams = streams.Streams(connection, strategy, owner=self)
        self._components = ComponentList(server_url, self._fetch_components)
        self._process = os.getpid()
        self.is_closed = False
        ends_with_program(self)

    @functools.cached_property
    def stub(self) -> Any:
        """The generation's stub, for what this package does not offer."""
        return self._generation.make_stub(self.channel)

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
        on_done: Callable[[StartedCall], None],
    ) -> None:
        """Start a unary call without waiting for its answer: see `UnaryCalls.start`."""
        check_not_forked()
        self._calls.start(request, timeout, order_by=order_by, on_done=on_done)

    def components(self, options: CallOptions) -> list[Component]:
        """Ask the server for its components, and remember them."""
        components = self.call(self._generation.list_components(), options)
        self._components.remember(components)
        return components

    def _fetch_components(self) -> list[Component]:
        return self.call(self._generation.list_components(), self._call_options)

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
        deadline = Deadline(options.timeout)
        connections = self.call(request, options)
        components = self.components(CallOptions(deadline.remaining(), options.retry))
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
        self._components.require(component_id, category, self._call_options.timeout)
        return self._open_stream(component_id, category, maxsize)

    def subscribe_in_background(
        self,
        component_id: int,
        category: ComponentCategory,
        maxsize: int,
        deliver: Callable[[Receiver[Any] | Exception], None],
    ) -> None:
        """Receive the data of a component, without waiting for the list of components.

        Args:
            component_id: The component.
            category: What it is expected to be.
            maxsize: How many values the receiver holds.
            deliver: Called once, in any thread, with the receiver or with what `subscribe` would
                have raised.
        """

        def reply(error: Exception | None) -> None:
            result: Receiver[Any] | Exception
            try:
                result = error or self._open_stream(component_id, category, maxsize)
            except Exception as failure:  # noqa: BLE001 - delivered, whatever it is
                result = failure.with_traceback(None)
            deliver(result)

        self._components.when_known(component_id, category, reply)

    def _open_stream(
        self, component_id: int, category: ComponentCategory, maxsize: int
    ) -> Receiver[Any]:
        request = self._generation.stream_data(component_id, category)
        receiver = self.streams.subscribe(component_id, category, request, maxsize)
        if receiver is None:
            raise ClientNotConnected(server_url=self.server_url, operation=request.operation)
        return receiver

    def close(self, *, interrupts: bool) -> None:
        """End all calls, streams and threads; readers are woken. Closing again does nothing.

        Args:
            interrupts: Whether the caller has interrupted our code: then it does not wait.
        """
        if is_forked() or os.getpid() != self._process:
            # A forked child has none of the threads, and its locks may be held for ever.
            return
        self.is_closed = True
        caller = threading.current_thread()
        # In a thread of its own: the caller may have interrupted a call of gRPC's, whose locks are
        # not re-entrant, and Ctrl-C must leave this wait without leaving it half done.
        closing = hand_over(lambda: self._close(caller))
        if closing is not None and not interrupts:
            closing.join(_JOIN_TIMEOUT + _CLOSE_MARGIN)

    def _close(self, caller: threading.Thread) -> None:
        self._calls.close()
        self._end_streams(caller)
        self._connection.places.close()
        self.channel.close()

    def _end_streams(self, caller: threading.Thread) -> None:
        deadline = Deadline(_JOIN_TIMEOUT)
        for thread in self.streams.stop():
            # A stream's own thread may ask for its end, and waits for this one.
            if thread is not caller:
                thread.join(deadline.remaining())

    def at_main_thread_end(self) -> None:
        """End all streams, and wake their readers; calls can still be made."""
        if os.getpid() == self._process:
            self._end_streams(threading.current_thread())

    def at_exit(self) -> None:
        """Do as `close` does, but in this thread: at the program's end there may be no other."""
        if os.getpid() == self._process:
            self.is_closed = True
            self._close(threading.current_thread())
