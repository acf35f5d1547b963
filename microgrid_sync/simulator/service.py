"""Answers the Microgrid service of version 0.15 with a simulated site."""

import functools
import math
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from microgrid_sync.simulator.devices import Commanded, Device
from microgrid_sync.simulator.faults import ASKED_FOR, FaultKind
from microgrid_sync.simulator.inverters import Battery, Inverter, NotPossible
from microgrid_sync.simulator.limits import Limits, OutOfBounds
from microgrid_sync.simulator.messages import component_message
from microgrid_sync.simulator.running_site import RunningSite
from microgrid_sync.simulator.site import STREAMING, Site, SiteComponent
from microgrid_sync.simulator.streams import End
from microgrid_sync.wire import v0_15_schema as schema

T = TypeVar("T", bound=Message)

_NAME = "frequenz.api.microgrid.Microgrid"

_Context = grpc.ServicerContext
_IdParam = schema.ComponentIdParam


class Problem(NamedTuple):
    """Why a call fails."""

    status: grpc.StatusCode
    details: str


def v0_15_service(running_site: RunningSite) -> grpc.GenericRpcHandler:
    """Make the service of a site, as version 0.15 has it."""
    service = Service(running_site)
    unary: dict[str, tuple[type[Message], Callable[[Any, _Context], Message]]] = {
        "GetMicrogridMetadata": (Empty, service.metadata),
        "ListComponents": (schema.ComponentFilter, service.components),
        "ListConnections": (schema.ConnectionFilter, service.connections),
        "CanStreamData": (_IdParam, service.can_stream),
        "AddInclusionBounds": (schema.SetBoundsParam, service.add_inclusion_bounds),
        "AddExclusionBounds": (schema.SetBoundsParam, service.add_exclusion_bounds),
        "SetPowerActive": (schema.SetPowerActiveParam, service.set_active),
        "SetPowerReactive": (schema.SetPowerReactiveParam, service.set_reactive),
        "Start": (_IdParam, service.start),
        "HotStandby": (_IdParam, service.hot_standby),
        "ColdStandby": (_IdParam, service.cold_standby),
        "Stop": (_IdParam, service.stop),
        "ErrorAck": (_IdParam, service.acknowledge),
    }
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            functools.partial(service.answer, name, request, answer),
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, (request, answer) in unary.items()
    }
    # Samples are bytes already: all streams of a component send the same.
    handlers["StreamComponentData"] = grpc.unary_stream_rpc_method_handler(service.stream)
    return grpc.method_handlers_generic_handler(_NAME, handlers)


def parse(request: type[T], data: bytes, context: _Context) -> T:
    """Read a request; one that is none ends the call."""
    try:
        return request.FromString(data)
    except DecodeError:
        details = f"the request is no {request.DESCRIPTOR.full_name}"
        abort(context, grpc.StatusCode.INVALID_ARGUMENT, details)


class Service:
    """Answers the calls. Each call has a thread of its own."""

    def __init__(self, running_site: RunningSite) -> None:
        """Answer for a site."""
        self.running_site = running_site

    def answer(
        self,
        name: str,
        request: type[Message],
        answer: Callable[[Any, _Context], Message],
        data: bytes,
        context: _Context,
    ) -> Message:
        """Answer a call, unless a fault keeps it from being answered."""
        self.hold(name, context)
        return answer(parse(request, data, context), context)

    def hold(self, name: str, context: _Context) -> None:
        """Wait until the client has given up, if the call is never to be answered."""
        faults = self.running_site.faults.active(FaultKind.UNANSWERED).values()
        if any(fault.names_call(name) for fault in faults):
            gone = threading.Event()
            # Ends the wait without a deadline: every call ends, at the latest with the server.
            if context.add_callback(gone.set):
                gone.wait()
            abort(context, grpc.StatusCode.CANCELLED, ASKED_FOR)

    # What there is

    def metadata(self, request: Empty, context: _Context) -> Any:
        """Tell which microgrid this is, and where."""
        del request, context
        return self.running_site.ask(
            lambda site: schema.MicrogridMetadata(
                microgrid_id=site.microgrid_id,
                location=schema.Location(latitude=site.latitude, longitude=site.longitude),
            )
        )

    def components(self, request: Any, context: _Context) -> Any:
        """List the components that pass both filters."""
        del context
        ids, categories = set(request.ids), set(request.categories)
        return schema.ComponentList(
            components=[
                component_message(component)
                for component in self.running_site.ask(lambda site: list(site.components.values()))
                if (not ids or component.component_id in ids)
                and (not categories or component.category.value in categories)
            ]
        )

    def connections(self, request: Any, context: _Context) -> Any:
        """List the connections that pass both filters."""
        del context
        starts, ends = set(request.starts), set(request.ends)
        return schema.ConnectionList(
            connections=[
                schema.Connection(start=start, end=end)
                for start, end in self.running_site.ask(lambda site: site.connections)
                if (not starts or start in starts) and (not ends or end in ends)
            ]
        )

    def can_stream(self, request: Any, context: _Context) -> Message:
        """Tell whether a component has data."""
        return BoolValue(value=self.component(request.id, context).category in STREAMING)

    def stream(self, data: bytes, context: _Context) -> Iterator[bytes]:
        """Send a component's samples until the client has enough."""
        self.hold("StreamComponentData", context)
        request = parse(_IdParam, data, context)
        component = self.component(request.id, context)
        if component.category not in STREAMING:
            refuse_category(component, context)
        with self.running_site.stream(request.id) as stream:
            if not context.add_callback(lambda: stream.end(End())):
                return
            yield from stream.samples(lambda end: abort(context, end.status, end.details))

    # Set-points and bounds

    def set_active(self, request: Any, context: _Context) -> Message:
        """Set a device's active power for a while."""
        self._command(request.component_id, request.power, context, active_limits)
        return Empty()

    def set_reactive(self, request: Any, context: _Context) -> Message:
        """Set a device's reactive power for a while."""
        self._command(request.component_id, request.power, context, reactive_limits)
        return Empty()

    def add_inclusion_bounds(self, request: Any, context: _Context) -> Message:
        """Narrow what a device may be set to for a while."""
        return self._add_bounds(request, context, Limits.include)

    def add_exclusion_bounds(self, request: Any, context: _Context) -> Message:
        """Exclude some of what a device may be set to for a while."""
        return self._add_bounds(request, context, Limits.exclude)

    def _command(
        self,
        component_id: int,
        power: float,
        context: _Context,
        limits_of: Callable[[Commanded], Limits],
    ) -> None:
        device = self.commanded(component_id, context)
        if not math.isfinite(power):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"a power of {power}")
        faults = self.running_site.faults
        for fault in faults.active(FaultKind.REFUSED, component_id).values():
            abort(context, fault.status_code, ASKED_FOR)
        for kind, status in _STATUS_OF_FAULT.items():
            if faults.active(kind, component_id):
                abort(context, status, ASKED_FOR)
        if faults.active(FaultKind.LOST, component_id):
            return

        def apply(site: Site, now: float) -> Problem | None:
            lifetime = site.set_point_lifetime
            return apply_set_point(device, limits_of(device), power, now, lifetime)

        delays = [fault.delay for fault in faults.active(FaultKind.DELAYED, component_id).values()]
        if delays:
            problem = self.delayed(max(delays), context, lambda: self.running_site.at_clock(apply))
        else:
            problem = self.running_site.at_clock(apply)
        if problem is not None:
            abort(context, problem.status, f"component {component_id}: {problem.details}")

    def delayed(
        self, seconds: float, context: _Context, apply: Callable[[], Problem | None]
    ) -> Problem | None:
        """Apply a set-point later, whether or not its client still waits then."""
        done = threading.Event()
        problems: list[Problem | None] = []

        def act() -> None:
            problems.append(apply())
            done.set()

        self.running_site.later(seconds, act)
        # Ends the wait without a deadline, as for calls that are never answered.
        if context.add_callback(done.set):
            done.wait()
        return problems[0] if problems else None

    def _add_bounds(
        self,
        request: Any,
        context: _Context,
        add: Callable[[Limits, float, float, float], None],
    ) -> Timestamp:
        device = self.commanded(request.component_id, context)
        lower, upper = request.bounds.lower, request.bounds.upper
        if not request.HasField("bounds"):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "no bounds")
        if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"bounds of {lower} to {upper}")
        limits = _limits_of(device, request.target_metric)
        if limits is None:
            details = f"no metric that can have bounds: {request.target_metric}"
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, details)
        until = Timestamp()

        def apply(site: Site, now: float) -> str | None:
            device.forget(now)
            until.FromDatetime(site.time + timedelta(seconds=now - site.now + site.bounds_lifetime))
            try:
                add(limits, lower, upper, now + site.bounds_lifetime)
            except OutOfBounds as error:
                return str(error)
            return None

        problem = self.running_site.at_clock(apply)
        if problem is not None:
            details = f"component {request.component_id}: {problem}"
            abort(context, grpc.StatusCode.OUT_OF_RANGE, details)
        return until

    # Switching

    def start(self, request: Any, context: _Context) -> Message:
        """Start an inverter or close a battery's relays."""
        return self.switch(
            request.id,
            context,
            lambda part, site, now: part.start(now, site.set_point_lifetime),
            Inverter | Battery,
        )

    def hot_standby(self, request: Any, context: _Context) -> Message:
        """Bring an inverter to hot standby."""
        return self.switch(request.id, context, lambda part, *_: part.hot_standby(), Inverter)

    def cold_standby(self, request: Any, context: _Context) -> Message:
        """Bring an inverter to cold standby."""
        return self.switch(request.id, context, lambda part, *_: part.cold_standby(), Inverter)

    def stop(self, request: Any, context: _Context) -> Message:
        """Stop an inverter or open a battery's relays."""
        return self.switch(request.id, context, lambda part, *_: part.stop(), Inverter | Battery)

    def acknowledge(self, request: Any, context: _Context) -> Message:
        """Acknowledge a component's error."""
        component = self.component(request.id, context)
        if component.category not in STREAMING:
            refuse_category(component, context)
        self._try(request.id, context, lambda *_: self.running_site.acknowledge(request.id))
        return Empty()

    def switch(
        self,
        component_id: int,
        context: _Context,
        action: Callable[[Any, Site, float], None],
        kinds: Any,
    ) -> Message:
        """Let a part of the site do something, if it is of the right kind."""
        component = self.component(component_id, context)
        part = self.running_site.ask(lambda site: _part(site, component_id))
        if not isinstance(part, kinds):
            refuse_category(component, context)
        self._try(component_id, context, lambda site, now: action(part, site, now))
        return Empty()

    def _try(
        self, component_id: int, context: _Context, action: Callable[[Site, float], None]
    ) -> None:
        try:
            self.running_site.at_clock(action)
        except NotPossible as error:
            details = f"component {component_id}: {error}"
            abort(context, grpc.StatusCode.FAILED_PRECONDITION, details)

    # Helpers

    def component(self, component_id: int, context: _Context) -> SiteComponent:
        """Give a component; the call ends if there is none."""
        component = self.running_site.ask(lambda site: site.components.get(component_id))
        if component is None:
            abort(context, grpc.StatusCode.NOT_FOUND, f"there is no component {component_id}")
        return component

    def commanded(self, component_id: int, context: _Context) -> Commanded:
        """Give a device that takes set-points; the call ends if there is none."""
        component = self.component(component_id, context)
        device = self.running_site.ask(lambda site: site.devices.get(component_id))
        if not isinstance(device, Commanded):
            refuse_category(component, context)
        return device


_STATUS_OF_FAULT = {
    FaultKind.REJECTED: grpc.StatusCode.FAILED_PRECONDITION,
    FaultKind.FAILED: grpc.StatusCode.INTERNAL,
    FaultKind.OVERRIDDEN: grpc.StatusCode.ABORTED,
}
"""How version 0.15 says what later ones have words for."""


def active_limits(device: Commanded) -> Limits:
    """Give the limits of active power."""
    return device.active


def reactive_limits(device: Commanded) -> Limits:
    """Give the limits of reactive power."""
    return device.reactive


def apply_set_point(
    device: Commanded, limits: Limits, power: float, now: float, lifetime: float
) -> Problem | None:
    """Let a device take a set-point for some seconds; tell why not, if it does not."""
    device.forget(now)
    problem = device.check_operational()
    if problem is not None:
        return Problem(grpc.StatusCode.FAILED_PRECONDITION, problem)
    try:
        limits.check(power)
        limits.command(device.floored(power), now + lifetime)
    except OutOfBounds as error:
        return Problem(grpc.StatusCode.OUT_OF_RANGE, str(error))
    return None


def _part(site: Site, component_id: int) -> Device | Battery | None:
    return site.devices.get(component_id) or site.batteries.get(component_id)


def _limits_of(device: Commanded, metric: int) -> Limits | None:
    one, two, three = device.current_per_phase
    limits: dict[int, Limits] = {
        1: device.active,
        2: device.current,
        3: one,
        4: two,
        5: three,
        6: device.reactive,
    }
    return limits.get(metric)


def refuse_category(component: SiteComponent, context: _Context) -> NoReturn:
    """End a call that a component of this category cannot answer."""
    name = component.category.name
    details = f"component {component.component_id} is of category {name}, which cannot do this"
    abort(context, grpc.StatusCode.UNIMPLEMENTED, details)


def abort(context: _Context, code: grpc.StatusCode, details: str) -> NoReturn:
    """End a call with a status."""
    context.abort(code, details)
    raise AssertionError("abort() raises")
