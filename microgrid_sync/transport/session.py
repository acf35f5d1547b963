"""Keeps one connection to one server: its channels, calls and streams, and their common end."""

import functools
import os
import threading
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any, TypeVar

from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import ApiClientError, ClientNotConnected
from microgrid_sync.model import Component, ComponentCategory, Connection
from microgrid_sync.model.data import HAS_DATA
from microgrid_sync.model.telemetry import Sensor, Telemetry
from microgrid_sync.program_end import (
    check_not_forked,
    ends_with_program,
    hand_over,
    is_forked,
)
from microgrid_sync.receiver import Receiver, ReceiverStoppedError, newest_of
from microgrid_sync.transport import streams
from microgrid_sync.transport.attempts import CallOptions, CallPlan
from microgrid_sync.transport.calls import CallCounters, Calls
from microgrid_sync.transport.channel import AUTO, ChannelOptions, open_channel, parse_url
from microgrid_sync.transport.component_list import ComponentList
from microgrid_sync.transport.pace import Pace
from microgrid_sync.transport.reachability import Reachability
from microgrid_sync.transport.retry import Strategy
from microgrid_sync.transport.set_points import OrderBy, SetPoints, StartedSetPoint
from microgrid_sync.wire import (
    ApiGeneration,
    ComponentListing,
    SetPointRequest,
    StreamRequest,
    UnaryRequest,
)

T = TypeVar("T")

_LIST_COMPONENTS: CallPlan[UnaryRequest[ComponentListing]] = CallPlan(
    "components()", lambda api: api.list_components()
)

_NO_METRICS: frozenset[int] = frozenset()
"""Asks for all metrics."""

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
        api: str,
        strategy: Strategy,
        call_options: CallOptions,
        counters: CallCounters,
        on_reconnect: Callable[[], None],
    ) -> None:
        """Make a channel, which connects when it is first used.

        Args:
            server_url: The server's URL.
            channel_defaults: How to connect where the URL does not say it.
            api: Which API the server speaks where the URL does not say it.
            strategy: How streams reconnect.
            call_options: How the list of components is asked for.
            counters: Where calls are counted.
            on_reconnect: Called, in any thread, when a stream that was cut has data again.

        Raises:
            ValueError: If the URL is wrong.
            RuntimeError: In a process forked off one that had a channel.
        """
        self.server_url = server_url
        target = parse_url(server_url, channel_defaults, api)
        # Commands have a connection of their own: streams may fill all places of one.
        self.channel = open_channel(target)
        self._call_options = call_options
        self._connection = connection = streams.Connection(
            functools.partial(open_channel, target, for_streams=True), server_url, on_reconnect
        )
        self.reachability: Reachability = connection.reachability
        pinned = None if target.api == AUTO else target.api
        self._calls = Calls(server_url, self.channel, counters, self.reachability, pinned)
        self._set_points = SetPoints(self._calls)
        self.streams = streams.Streams(connection, strategy, owner=self)
        # What `latest` has opened, which stays open for the next time.
        self._kept: dict[int, Receiver[Any]] = {}
        self._components = ComponentList(server_url, self._fetch_components)
        self._process = os.getpid()
        self.is_closed = False
        ends_with_program(self)

    @property
    def api(self) -> str | None:
        """Which API the server speaks; ``None`` as long as that is not known."""
        found = self._calls.search.found
        return None if found is None else found.name

    def stub(self) -> Any:
        """Make the stub of the official bindings, for what this package does not offer."""
        api = self._calls.find_api("stub", self._call_options)
        return api.make_stub(self.channel)

    def call(self, plan: CallPlan[UnaryRequest[T]], options: CallOptions) -> T:
        """Make a unary call: see `Calls.call`."""
        check_not_forked()
        return self._calls.call(plan, options)

    def keep_pace(self, pace: Pace | None) -> None:
        """Read no more messages of streams than this lets through."""
        self._connection.pace = pace

    def set(
        self, plan: CallPlan[SetPointRequest], options: CallOptions, order_by: OrderBy
    ) -> datetime | None:
        """Give a set-point: see `SetPoints.call`."""
        check_not_forked()
        return self._set_points.call(plan, options, order_by)

    def start_set(
        self,
        plan: CallPlan[SetPointRequest],
        timeout: float,
        *,
        order_by: OrderBy,
        on_accepted: Callable[[], None],
        on_done: Callable[[ApiClientError | None], None],
    ) -> StartedSetPoint:
        """Give a set-point without waiting for its answer: see `SetPoints.start`."""
        check_not_forked()
        return self._set_points.start(
            plan, timeout, order_by=order_by, on_accepted=on_accepted, on_done=on_done
        )

    def components(self, options: CallOptions) -> ComponentListing:
        """Ask the server for its components, and remember them."""
        listing = self.call(_LIST_COMPONENTS, options)
        self._components.remember(listing.components)
        return listing

    def _fetch_components(self) -> list[Component]:
        return self.call(_LIST_COMPONENTS, self._call_options).components

    def connections(
        self, plan: CallPlan[UnaryRequest[list[Connection]]], options: CallOptions
    ) -> tuple[ComponentListing, list[Connection]]:
        """Ask the server for connections, and for its components.

        Args:
            plan: Which connections to ask for.
            options: How; the timeout is for both calls.

        Returns:
            The components, and the connections as the server lists them: some may lead to what is
                no component.
        """
        deadline = Deadline(options.timeout)
        connections = self.call(plan, options)
        listing = self.components(CallOptions(deadline.remaining(), options.retry))
        return listing, connections

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

    def subscribe_to_any(self, component_id: int, maxsize: int) -> Receiver[Any]:
        """Receive what a component sends, whatever it is.

        Args:
            component_id: The component.
            maxsize: How many values the receiver holds.

        Returns:
            A receiver of the data of its category; of telemetry if its category has none.

        Raises:
            ValueError: If the component is unknown, or sends no data.
            OperationNotImplemented: If its category has no data, and the API no telemetry.
            ApiClientError: If the components had to be asked for, and that failed.
        """
        check_not_forked()
        component = self._components.component(component_id, self._call_options.timeout)
        if component.category in HAS_DATA:
            return self._open_stream(component_id, component.category, maxsize)
        if component.category is ComponentCategory.GRID or component.provides_telemetry is False:
            raise ValueError(
                f"component {component_id} is of category {component.category.name}, which sends "
                "no data"
            )
        return self.telemetry(component_id, _NO_METRICS, maxsize)

    def latest(self, component_id: int, max_age: float, timeout: float) -> Any:
        """Give the newest value of a component: see `MicrogridApiClient.latest`."""
        deadline = Deadline(timeout)
        kept = self._kept.get(component_id)
        if kept is None or kept.is_closed:
            # Of two threads that come at once, one forgets its own; both share one stream.
            kept = self._kept[component_id] = newest_of(self.subscribe_to_any(component_id, 1))
        for kind in (None, ("telemetry", _NO_METRICS)):
            newest = self.streams.newest((component_id, kind), max_age)
            if newest is not None:
                return newest
        kept.drain()
        try:
            return kept.receive(deadline.remaining())
        except TimeoutError:
            errors = {s.last_error for s in self.streams.stats() if s.component_id == component_id}
            why = "".join(f": {error}" for error in errors if error)
            raise TimeoutError(
                f"component {component_id} has sent nothing within {timeout:g} s{why}"
            ) from None
        except ReceiverStoppedError as stopped:
            if stopped.__cause__ is None:
                raise
            raise stopped.__cause__.with_traceback(None) from None

    def subscribe_in_background(
        self,
        component_id: int,
        category: ComponentCategory,
        maxsize: int,
        deliver: Callable[[Receiver[Any] | Exception], None],
        *,
        metrics: frozenset[int] | None = None,
    ) -> None:
        """Receive the data of a component, without waiting for the list of components.

        Args:
            component_id: The component.
            category: What it is expected to be.
            maxsize: How many values the receiver holds.
            metrics: Which telemetry to receive, instead of the data of its category.
            deliver: Called once, in any thread, with the receiver or with what `subscribe` would
                have raised.
        """

        def reply(error: Exception | None) -> None:
            result: Receiver[Any] | Exception
            try:
                if metrics is None:
                    result = error or self._open_stream(component_id, category, maxsize)
                else:
                    result = error or self._open_telemetry(
                        component_id, metrics, maxsize, is_optional=True
                    )
            except Exception as failure:  # noqa: BLE001 - delivered, whatever it is
                result = failure.with_traceback(None)
            deliver(result)

        self._components.when_known(component_id, category, reply)

    def _open_stream(
        self, component_id: int, category: ComponentCategory, maxsize: int
    ) -> Receiver[Any]:
        plan = CallPlan(
            f"data(component_id={component_id})",
            lambda api: api.stream_data(component_id, category),
        )
        return self._follow(component_id, category, plan, maxsize)

    def _open_telemetry(
        self,
        component_id: int,
        metrics: frozenset[int],
        maxsize: int,
        *,
        is_optional: bool = False,
    ) -> Receiver[Telemetry]:
        """Receive metrics of a component, after its API has been found out."""
        plan = _telemetry_plan(component_id, metrics)
        api = self._calls.search.found
        if api is not None:
            # What the API lacks is an error here and now.
            self._calls.make(plan, api)
        return self._follow(
            component_id, ("telemetry", metrics), plan, maxsize, is_optional=is_optional
        )

    def telemetry(
        self, component_id: int, metrics: frozenset[int], maxsize: int
    ) -> Receiver[Telemetry]:
        """Receive metrics of a component.

        Args:
            component_id: The component.
            metrics: Which ones; none means all.
            maxsize: How many values the receiver holds.

        Raises:
            ValueError: If the component is unknown.
            ApiClientError: If the components had to be asked for, and that failed, or the server's
                API has no telemetry.
        """
        check_not_forked()
        # Nothing is asked for that the API lacks.
        self._calls.request(_telemetry_plan(component_id, metrics), self._call_options)
        self._components.require(component_id, None, self._call_options.timeout)
        return self._open_telemetry(component_id, metrics, maxsize)

    def sensor_data(
        self, sensor_id: int, metrics: frozenset[int], maxsize: int
    ) -> Receiver[Telemetry]:
        """Receive metrics of a sensor; see `telemetry`."""
        check_not_forked()
        plan = CallPlan(
            f"sensor_data(sensor_id={sensor_id})",
            lambda api: api.stream_sensor_telemetry(sensor_id, metrics),
        )
        self._calls.request(plan, self._call_options)
        known = sorted(sensor.sensor_id for sensor in self.sensors(self._call_options))
        if sensor_id not in known:
            listed = ", ".join(str(number) for number in known) or "none"
            raise ValueError(f"unknown sensor {sensor_id} on {self.server_url}; sensors: {listed}")
        return self._follow(sensor_id, ("sensor", metrics), plan, maxsize)

    def sensors(self, options: CallOptions) -> list[Sensor]:
        """Ask the server for its sensors."""
        return self.call(CallPlan("sensors()", lambda api: api.list_sensors()), options)

    def _follow(
        self,
        component_id: int,
        kind: Hashable,
        plan: CallPlan[StreamRequest[T]],
        maxsize: int,
        *,
        is_optional: bool = False,
    ) -> Receiver[T]:
        asked_in: list[ApiGeneration] = []

        def make() -> StreamRequest[T]:
            api = self._calls.find_api(plan.operation, self._call_options)
            asked_in[:] = [api]
            return self._calls.make(plan, api)

        def speaks_another(request: StreamRequest[T]) -> bool:
            return self._calls.speaks_another(
                request.operation, request.path, asked_in[0], self._call_options.timeout
            )

        source = streams.StreamSource(
            plan.operation,
            make,
            speaks_another,
            self._calls.search.note_success,
            is_optional=is_optional,
        )
        receiver = self.streams.subscribe(component_id, kind, source, maxsize)
        if receiver is None:
            raise ClientNotConnected(server_url=self.server_url, operation=plan.operation)
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
        self._set_points.close()
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


def _telemetry_plan(
    component_id: int, metrics: frozenset[int]
) -> CallPlan[StreamRequest[Telemetry]]:
    return CallPlan(
        f"telemetry(component_id={component_id})",
        lambda api: api.stream_telemetry(component_id, metrics),
    )
