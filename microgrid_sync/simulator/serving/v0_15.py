"""Answers the Microgrid service of version 0.15 with a simulated site."""

import functools
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from microgrid_sync.simulator.life.running_site import RunningSite
from microgrid_sync.simulator.physics.components import STREAMING
from microgrid_sync.simulator.physics.devices import Commanded
from microgrid_sync.simulator.physics.inverters import Inverter
from microgrid_sync.simulator.physics.limits import Limits, OutOfBounds
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.simulator.serving.calls import (
    Calls,
    Problem,
    abort,
    active_limits,
    apply_set_point,
    parse,
    reactive_limits,
    refuse_category,
)
from microgrid_sync.simulator.serving.v0_15_messages import component_message, encode
from microgrid_sync.simulator.trouble.fault import ASKED_FOR
from microgrid_sync.wire import v0_15_schema as schema

_NAME = "frequenz.api.microgrid.Microgrid"

_Context = grpc.ServicerContext
_IdParam = schema.ComponentIdParam

_STATUS_OF = {
    "rejected": grpc.StatusCode.FAILED_PRECONDITION,
    "failed": grpc.StatusCode.INTERNAL,
    "overridden": grpc.StatusCode.ABORTED,
}
"""How this version says what later ones have words for."""


def v0_15_service(running_site: RunningSite) -> grpc.GenericRpcHandler:
    """Make the service of a site, as version 0.15 has it."""
    service = _Service(running_site, "v0.15")
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


class _Service(Calls):
    """Answers the calls."""

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
        return self.samples(request.id, encode, context)

    # Set-points and bounds

    def set_active(self, request: Any, context: _Context) -> Message:
        """Set a device's active power for a while."""
        self._command(request.component_id, request.power, context, active_limits, "W")
        return Empty()

    def set_reactive(self, request: Any, context: _Context) -> Message:
        """Set a device's reactive power for a while."""
        self._command(request.component_id, request.power, context, reactive_limits, "VAr")
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
        unit: str,
    ) -> None:
        self.told(f"set-point of {power:g} {unit}", component_id, context)
        device = self.commanded(component_id, context)
        if not math.isfinite(power):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"a power of {power}")
        fate = self.fate(component_id, context)
        if fate.said is not None:
            abort(context, _STATUS_OF[fate.said], ASKED_FOR)
        if fate.is_lost:
            return

        def apply(site: Site, now: float) -> Problem | None:
            lifetime = site.set_point_lifetime
            return apply_set_point(device, limits_of(device), power, now, lifetime)

        if fate.seconds is not None:
            problem = self.delayed(fate.seconds, context, apply)()
        else:
            problem = self.running_site.at_clock(apply)
        if problem is not None:
            abort(context, problem.status, f"component {component_id}: {problem.details}")

    def _add_bounds(
        self,
        request: Any,
        context: _Context,
        add: Callable[[Limits, float, float, float], None],
    ) -> Timestamp:
        device = self.commanded(request.component_id, context)
        lower, upper = request.bounds.lower, request.bounds.upper
        self.told(f"bounds of {lower:g} to {upper:g}", request.component_id, context)
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
        self.start_component(request.id, context)
        return Empty()

    def hot_standby(self, request: Any, context: _Context) -> Message:
        """Bring an inverter to hot standby."""
        action = Inverter.hot_standby
        self.switch(request.id, context, lambda part, *_: action(part), Inverter, "hot standby")
        return Empty()

    def cold_standby(self, request: Any, context: _Context) -> Message:
        """Bring an inverter to cold standby."""
        self.cold_standby_of_component(request.id, context)
        return Empty()

    def stop(self, request: Any, context: _Context) -> Message:
        """Stop an inverter or open a battery's relays."""
        self.stop_component(request.id, context)
        return Empty()

    def acknowledge(self, request: Any, context: _Context) -> Message:
        """Acknowledge a component's error."""
        self.acknowledge_component(request.id, context)
        return Empty()


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
