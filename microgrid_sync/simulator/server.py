"""A simulated site behind a real gRPC server of version 0.15 of the API."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Self, TypeVar

import grpc
from frequenz.api.microgrid import microgrid_pb2, microgrid_pb2_grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from microgrid_sync.model import Component
from microgrid_sync.simulator.devices import Device, Limits, OutOfBounds
from microgrid_sync.simulator.faults import Faults
from microgrid_sync.simulator.messages import STREAMING, component_message, data_message
from microgrid_sync.simulator.site import Site, demo_site

T = TypeVar("T")

SET_POINT_LIFETIME = 60.0
"""Seconds after which a set-point is forgotten unless it is set again; the API names no time."""

BOUNDS_LIFETIME = 5.0
"""Seconds after which added bounds are forgotten; the API names no time."""

_GRACE = 0.5
"""Seconds that calls have to end by themselves when the server stops."""

_CLIENT_CHECK = 1.0
"""Seconds between two looks at whether a stream's client is still there."""

_STOP_TIMEOUT = 5.0
"""Seconds in which everything has stopped."""

_TargetMetric = microgrid_pb2.SetBoundsParam.TargetMetric


class Simulator:
    """Serves a simulated site, and lets it live at the wall clock's pace.

    Any thread may start and stop it. Its threads are daemons, named ``simulator-...``.
    """

    def __init__(
        self,
        site: Site | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        sample_interval: float = 1.0,
    ) -> None:
        """Make a simulator that does not serve yet.

        Args:
            site: The site; the demo's unless given. It belongs to the simulator.
            host: The address to serve on: loopback unless given.
            port: The TCP port; 0 takes a free one, and keeps it.
            sample_interval: Seconds between two samples of each component.

        Raises:
            ValueError: If port or interval is out of range.
        """
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {port}")
        if not (math.isfinite(sample_interval) and sample_interval > 0):
            raise ValueError(f"sample_interval must be positive, not {sample_interval!r}")
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self.faults = Faults()
        """What goes wrong at the site; may be changed at any time."""
        self._living = _LivingSite(site or demo_site(), sample_interval, self.faults)
        self._server: grpc.Server | None = None

    @property
    def url(self) -> str:
        """The URL for clients; the port is known once the simulator has been started."""
        return f"grpc://{self._host}:{self._port}"

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start if a free one is to be taken."""
        return self._port

    def change(self, change: Callable[[Site], T]) -> T:
        """Ask or change something of the site between two samples.

        Args:
            change: A function of the site; it must not wait.

        Returns:
            What the function returns.
        """
        return self._living.ask(change)

    def start(self) -> Self:
        """Serve; on the same port as before if it has been stopped.

        Returns:
            Itself.

        Raises:
            RuntimeError: If it is serving already.
            OSError: If the address cannot be served on, because it is in use for instance.
        """
        if self._server is not None:
            raise RuntimeError(f"{self.url} is being served already")
        options = [
            # Two servers on one port would each get some of the clients.
            ("grpc.so_reuseport", 0),
            # Clients may check a silent connection as often as they like.
            ("grpc.http2.min_ping_interval_without_data_ms", 100),
            ("grpc.http2.max_ping_strikes", 0),
        ]
        server = grpc.server(_ThreadPerCall(), options=options)
        microgrid_pb2_grpc.add_MicrogridServicer_to_server(_Service(self._living), server)
        try:
            self._port = server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise OSError(
                f"cannot serve on {self._host}:{self._port}: it is in use, or no address of this "
                "machine"
            ) from error
        self._living.start()
        server.start()
        self._server = server
        return self

    def stop(self) -> None:
        """End all streams and stop serving; the site stands still. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        # Streams end by themselves, in good order, before what is still open is cut off.
        self._living.stop()
        server.stop(_GRACE).wait(_STOP_TIMEOUT)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


class _LivingSite:
    """A site, the thread that moves it on, and the streams that wait for it."""

    def __init__(self, site: Site, sample_interval: float, faults: Faults) -> None:
        self._sample_interval = sample_interval
        self.faults = faults
        # Protects the site and all below; notified at every sample and at the end.
        self._changed = threading.Condition()
        self._site = site
        self._samples = 0
        self._timestamp = datetime.now(UTC)
        self._messages: dict[int, microgrid_pb2.ComponentData] = {}
        self._stopping = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Let the site live."""
        self._stopping = False
        self._thread = threading.Thread(target=self._live, name="simulator-site", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the site stand still, and end all streams."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT)

    def _live(self) -> None:
        due = time.monotonic()
        with self._changed:
            while not self._stopping:
                due += self._sample_interval
                # Behind after the machine slept or was busy: skip the samples that were missed.
                due = max(due, time.monotonic())
                while not self._stopping and (pause := due - time.monotonic()) > 0:
                    self._changed.wait(pause)
                if not self._stopping:
                    self._site.advance(self._sample_interval)
                    # Later than the one before, whatever the wall clock does.
                    earliest = self._timestamp + timedelta(microseconds=1)
                    self._timestamp = max(earliest, datetime.now(UTC))
                    self._messages.clear()
                    self._samples += 1
                    self._changed.notify_all()

    def ask(self, question: Callable[[Site], T]) -> T:
        """Ask or change something of the site."""
        with self._changed:
            return question(self._site)

    def samples(
        self, component: Component, is_active: Callable[[], bool]
    ) -> Iterator[microgrid_pb2.ComponentData]:
        """Give a component's samples: the newest at once, then each new one."""
        seen = -1
        while True:
            with self._changed:
                while self._samples == seen and not self._stopping and is_active():
                    self._changed.wait(min(self._sample_interval, _CLIENT_CHECK))
                if self._stopping or not is_active():
                    return
                seen = self._samples
                if component.component_id in self.faults.silent:
                    continue
                message = self._message(component)
            yield message

    def _message(self, component: Component) -> microgrid_pb2.ComponentData:
        """Give the message of the newest sample; all streams of a component share it."""
        component_id = component.component_id
        if component_id not in self._messages:
            self._messages[component_id] = data_message(self._site, component, self._timestamp)
        return self._messages[component_id]


class _Service(microgrid_pb2_grpc.MicrogridServicer):
    """Answers the calls of the Microgrid service."""

    def __init__(self, living: _LivingSite) -> None:
        self._living = living
        self._components = {c.component_id: c for c in living.ask(lambda site: site.components)}

    def GetMicrogridMetadata(  # noqa: N802 - the API's name, as below
        self, request: Empty, context: grpc.ServicerContext
    ) -> microgrid_pb2.MicrogridMetadata:
        """Tell which microgrid this is, and where."""
        del request, context
        return self._living.ask(
            lambda site: microgrid_pb2.MicrogridMetadata(
                microgrid_id=site.microgrid_id,
                location=microgrid_pb2.Location(latitude=site.latitude, longitude=site.longitude),
            )
        )

    def ListComponents(  # noqa: N802
        self, request: microgrid_pb2.ComponentFilter, context: grpc.ServicerContext
    ) -> microgrid_pb2.ComponentList:
        """List the components that pass both filters."""
        del context
        return microgrid_pb2.ComponentList(
            components=[
                component_message(component)
                for component in self._components.values()
                if (not request.ids or component.component_id in request.ids)
                and (not request.categories or component.category.value in request.categories)
            ]
        )

    def ListConnections(  # noqa: N802
        self, request: microgrid_pb2.ConnectionFilter, context: grpc.ServicerContext
    ) -> microgrid_pb2.ConnectionList:
        """List the connections that pass both filters."""
        del context
        return microgrid_pb2.ConnectionList(
            connections=[
                microgrid_pb2.Connection(start=connection.start, end=connection.end)
                for connection in self._living.ask(lambda site: site.connections)
                if (not request.starts or connection.start in request.starts)
                and (not request.ends or connection.end in request.ends)
            ]
        )

    def CanStreamData(  # noqa: N802
        self, request: microgrid_pb2.ComponentIdParam, context: grpc.ServicerContext
    ) -> BoolValue:
        """Tell whether a component has data."""
        return BoolValue(value=self._component(request.id, context).category in STREAMING)

    def StreamComponentData(  # noqa: N802
        self, request: microgrid_pb2.ComponentIdParam, context: grpc.ServicerContext
    ) -> Iterator[microgrid_pb2.ComponentData]:
        """Send a component's samples until the client has enough."""
        component = self._component(request.id, context)
        if component.category not in STREAMING:
            _refuse_category(component, context)
        return self._living.samples(component, context.is_active)

    def SetPowerActive(  # noqa: N802
        self, request: microgrid_pb2.SetPowerActiveParam, context: grpc.ServicerContext
    ) -> Empty:
        """Set a device's active power for a while."""
        self._command(request.component_id, request.power, context, lambda d: d.active)
        return Empty()

    def SetPowerReactive(  # noqa: N802
        self, request: microgrid_pb2.SetPowerReactiveParam, context: grpc.ServicerContext
    ) -> Empty:
        """Set a device's reactive power for a while."""
        self._command(request.component_id, request.power, context, lambda d: d.reactive)
        return Empty()

    def AddInclusionBounds(  # noqa: N802
        self, request: microgrid_pb2.SetBoundsParam, context: grpc.ServicerContext
    ) -> Timestamp:
        """Narrow what a device may be set to for a while."""
        return self._add_bounds(request, context, lambda limits: limits.inclusion)

    def AddExclusionBounds(  # noqa: N802
        self, request: microgrid_pb2.SetBoundsParam, context: grpc.ServicerContext
    ) -> Timestamp:
        """Exclude some of what a device may be set to for a while."""
        return self._add_bounds(request, context, lambda limits: limits.exclusion)

    def Start(  # noqa: N802
        self, request: microgrid_pb2.ComponentIdParam, context: grpc.ServicerContext
    ) -> Empty:
        """Refuse: the devices of this site are always on."""
        _refuse_category(self._component(request.id, context), context)

    # Nothing can be switched, so nothing is ever in error.
    HotStandby = ColdStandby = Stop = ErrorAck = Start

    def _component(self, component_id: int, context: grpc.ServicerContext) -> Component:
        component = self._components.get(component_id)
        if component is None:
            _abort(context, grpc.StatusCode.NOT_FOUND, f"there is no component {component_id}")
        return component

    def _device(self, component_id: int, context: grpc.ServicerContext) -> Device:
        component = self._component(component_id, context)
        device = self._living.ask(lambda site: site.devices.get(component_id))
        if device is None:
            _refuse_category(component, context)
        return device

    def _command(
        self,
        component_id: int,
        power: float,
        context: grpc.ServicerContext,
        limits_of: Callable[[Device], Limits],
    ) -> None:
        device = self._device(component_id, context)
        refused = self._living.faults.refused.get(component_id)
        if refused is not None:
            _abort(context, refused, "a fault was asked for")
        if not math.isfinite(power):
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"a power of {power}")
        try:
            self._living.ask(
                lambda site: limits_of(device).command(power, site.now + SET_POINT_LIFETIME)
            )
        except OutOfBounds as error:
            details = f"component {component_id}: {error}"
            _abort(context, grpc.StatusCode.OUT_OF_RANGE, details)

    def _add_bounds(
        self,
        request: microgrid_pb2.SetBoundsParam,
        context: grpc.ServicerContext,
        list_of: Callable[[Limits], list[tuple[float, float, float]]],
    ) -> Timestamp:
        device = self._device(request.component_id, context)
        lower, upper = request.bounds.lower, request.bounds.upper
        if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"bounds of {lower} to {upper}")
        if request.target_metric == _TargetMetric.TARGET_METRIC_POWER_ACTIVE:
            limits = device.active
        elif request.target_metric == _TargetMetric.TARGET_METRIC_POWER_REACTIVE:
            limits = device.reactive
        else:
            name = _name_of(request.target_metric)
            _abort(context, grpc.StatusCode.UNIMPLEMENTED, f"bounds of {name}")
        self._living.ask(
            lambda site: list_of(limits).append((lower, upper, site.now + BOUNDS_LIFETIME))
        )
        until = Timestamp()
        until.FromDatetime(datetime.now(UTC) + timedelta(seconds=BOUNDS_LIFETIME))
        return until


def _name_of(metric: "_TargetMetric.ValueType") -> str:
    return next((name for name, number in _TargetMetric.items() if number == metric), str(metric))


def _refuse_category(component: Component, context: grpc.ServicerContext) -> NoReturn:
    name = component.category.name
    details = f"component {component.component_id} is of category {name}, which cannot do this"
    _abort(context, grpc.StatusCode.UNIMPLEMENTED, details)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> NoReturn:
    context.abort(code, details)
    raise AssertionError("abort() raises")


class _ThreadPerCall(futures.ThreadPoolExecutor):
    """Runs each call in a daemon thread of its own.

    A stream keeps a thread for as long as it lasts, so that no size of a pool is right; and the
    threads of a pool keep the interpreter from ending.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "futures.Future[T]":
        """Start a thread that runs the function."""
        future: futures.Future[T] = futures.Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - as in every executor: into the future
                future.set_exception(error)

        threading.Thread(target=run, name="simulator-call", daemon=True).start()
        return future
