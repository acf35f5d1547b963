"""Answers the Microgrid service of versions v1alpha18 and v1alpha19 with a simulated site."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.model.telemetry_codes import Metric
from microgrid_sync.simulator.life.running_site import RunningSite
from microgrid_sync.simulator.physics.components import STREAMING, SiteCategory, SiteComponent
from microgrid_sync.simulator.physics.devices import Commanded
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
from microgrid_sync.simulator.serving.v1alpha18_messages import (
    component_message,
    encoder,
    sensor_message,
)
from microgrid_sync.wire import v1alpha18_schema as schema

_Context = grpc.ServicerContext

_SHORTEST_SET_POINT, _SHORTEST_BOUNDS, _LONGEST = 10, 5, 900
"""Seconds that commands hold, at the least and at the most."""

_ACCEPTED, _SUCCESS = 1, 4
_STATUS_OF = {"rejected": 2, "failed": 3, "overridden": 5}
"""What is said of a set-point."""


def v1alpha18_service(running_site: RunningSite, api: str) -> grpc.GenericRpcHandler:
    """Make the service of a site.

    Args:
        running_site: The site.
        api: ``v1alpha18`` or ``v1alpha19``.
    """
    service = _Service(running_site, api)
    unary: dict[str, tuple[Any, Callable[[Any, _Context], Any]]] = {
        "GetMicrogrid": (Empty, service.microgrid),
        "ListElectricalComponents": (schema.ListElectricalComponentsRequest, service.list_all),
        "ListSensors": (schema.ListSensorRequest, service.sensors),
        "ListElectricalComponentConnections": (
            schema.ListElectricalComponentConnectionsRequest,
            service.list_connections,
        ),
        "AugmentElectricalComponentBounds": (
            schema.AugmentElectricalComponentBoundsRequest,
            service.augment_bounds,
        ),
        "ClearElectricalComponentBounds": (
            schema.ClearElectricalComponentBoundsRequest,
            service.clear_bounds,
        ),
        "StartElectricalComponent": (schema.StartElectricalComponentRequest, service.start_one),
        "PutElectricalComponentInStandby": (
            schema.PutElectricalComponentInStandbyRequest,
            service.put_in_standby,
        ),
        "StopElectricalComponent": (schema.StopElectricalComponentRequest, service.stop_one),
        "AckElectricalComponentError": (
            schema.AckElectricalComponentErrorRequest,
            service.acknowledge_one,
        ),
    }
    streams: dict[str, tuple[Any, Callable[[Any, _Context], Iterator[Any]]]] = {
        "ReceiveElectricalComponentTelemetryStream": (
            schema.ReceiveElectricalComponentTelemetryStreamRequest,
            service.telemetry,
        ),
        "ReceiveSensorTelemetryStream": (
            schema.ReceiveSensorTelemetryStreamRequest,
            service.sensor_telemetry,
        ),
        "SetElectricalComponentPower": (
            schema.SetElectricalComponentPowerRequest,
            service.set_power,
        ),
    }
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            functools.partial(service.answer, name, request, answer), response_serializer=_bytes
        )
        for name, (request, answer) in unary.items()
    }
    handlers |= {
        name: grpc.unary_stream_rpc_method_handler(
            functools.partial(service.answer_all, name, request, answer), response_serializer=_bytes
        )
        for name, (request, answer) in streams.items()
    }
    return grpc.method_handlers_generic_handler(f"frequenz.api.microgrid.{api}.Microgrid", handlers)


def _bytes(message: Any) -> bytes:
    # Samples are bytes already: all streams of a component send the same.
    serialized: bytes = message if isinstance(message, bytes) else message.SerializeToString()
    return serialized


class _Service(Calls):
    """Answers the calls. Each call has a thread of its own."""

    def answer_all(
        self,
        name: str,
        request: Any,
        answer: Callable[[Any, _Context], Iterator[Any]],
        data: bytes,
        context: _Context,
    ) -> Iterator[Any]:
        """Answer a call that has several answers, unless a fault keeps it from being answered."""
        self.hold(name, context)
        return answer(parse(request, data, context), context)

    # What there is

    def microgrid(self, request: Empty, context: _Context) -> Any:
        """Tell which microgrid this is, and where."""
        del request, context
        return self.running_site.ask(
            lambda site: schema.GetMicrogridResponse(
                microgrid=schema.Microgrid(
                    id=site.microgrid_id,
                    name=site.name,
                    status=1,
                    location=schema.Location(latitude=site.latitude, longitude=site.longitude),
                )
            )
        )

    def list_all(self, request: Any, context: _Context) -> Any:
        """List the components that pass both filters; no sensors."""
        del context
        ids = set(request.electrical_component_ids)
        categories = set(request.electrical_component_categories)
        listed = self.running_site.ask(
            lambda site: [
                component_message(component, site.microgrid_id, _rating(site, component))
                for component in site.components.values()
                if component.category is not SiteCategory.SENSOR
            ]
        )
        return schema.ListElectricalComponentsResponse(
            electrical_components=[
                component
                for component in listed
                if (not ids or component.id in ids)
                and (not categories or component.category in categories)
            ]
        )

    def sensors(self, request: Any, context: _Context) -> Any:
        """List the sensors that pass the filter."""
        del context
        ids = set(request.sensor_ids)
        return self.running_site.ask(
            lambda site: schema.ListSensorsResponse(
                sensors=[
                    sensor_message(component, site.microgrid_id)
                    for component in site.components.values()
                    if component.category is SiteCategory.SENSOR
                    and (not ids or component.component_id in ids)
                ]
            )
        )

    def list_connections(self, request: Any, context: _Context) -> Any:
        """List the connections that pass both filters."""
        del context
        starts = set(request.source_electrical_component_ids)
        ends = set(request.destination_electrical_component_ids)
        return schema.ListElectricalComponentConnectionsResponse(
            electrical_component_connections=[
                schema.ElectricalComponentConnection(
                    source_electrical_component_id=start, destination_electrical_component_id=end
                )
                for start, end in self.running_site.ask(lambda site: site.connections)
                if (not starts or start in starts) and (not ends or end in ends)
            ]
        )

    def telemetry(self, request: Any, context: _Context) -> Iterator[bytes]:
        """Send a component's samples until the client has enough."""
        component = self.component(request.electrical_component_id, context)
        if component.category not in STREAMING or component.category is SiteCategory.SENSOR:
            refuse_category(component, context)
        encode = encoder(_metrics(request, context))
        return self.samples(component.component_id, encode, context)

    def sensor_telemetry(self, request: Any, context: _Context) -> Iterator[bytes]:
        """Send a sensor's samples until the client has enough."""
        component = self.component(request.sensor_id, context)
        if component.category is not SiteCategory.SENSOR:
            abort(context, grpc.StatusCode.NOT_FOUND, f"there is no sensor {request.sensor_id}")
        encode = encoder(_metrics(request, context))
        return self.samples(component.component_id, encode, context)

    # Set-points and bounds

    def set_power(self, request: Any, context: _Context) -> Iterator[Any]:
        """Set a device's power for a while, and tell what becomes of that."""
        component_id, power = request.electrical_component_id, request.power
        unit = "VAr" if request.power_type == 2 else "W"
        self.told(f"set-point of {power:g} {unit}", component_id, context)
        device = self.commanded(component_id, context)
        if request.power_type not in (1, 2):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"power type {request.power_type}")
        if not math.isfinite(power):
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"a power of {power}")
        lifetime = _lifetime(request, _SHORTEST_SET_POINT, context)
        limits = active_limits(device)
        if request.power_type == 2:
            # What is inductive is positive here, and negative in the site.
            limits, power = reactive_limits(device), 0.0 - power
        fate = self.fate(component_id, context)
        if fate.said is not None:
            if fate.said != "rejected":
                yield self._said(_ACCEPTED, lifetime)
            yield schema.SetElectricalComponentPowerResponse(status=_STATUS_OF[fate.said])
            return

        def apply(site: Site, now: float) -> Problem | None:
            seconds = site.set_point_lifetime if lifetime is None else lifetime
            return apply_set_point(device, limits, power, now, seconds)

        if fate.is_lost:
            apply = _do_nothing
        if fate.seconds is None:
            self._check(self.running_site.at_clock(apply), component_id, context)
            yield self._said(_ACCEPTED, lifetime)
        else:
            # Planned before the first answer: the client may go after that.
            wait = self.delayed(fate.seconds, context, apply)
            yield self._said(_ACCEPTED, lifetime)
            self._check(wait(), component_id, context)
        yield self._said(_SUCCESS, lifetime)

    def _check(self, problem: Problem | None, component_id: int, context: _Context) -> None:
        if problem is not None:
            # One status for all that a device cannot be set to now.
            status = grpc.StatusCode.FAILED_PRECONDITION
            abort(context, status, f"component {component_id}: {problem.details}")

    def _said(self, status: int, lifetime: int | None) -> Any:
        """Say something of a set-point, and until when it holds."""

        def until(site: Site, now: float) -> Timestamp:
            seconds = site.set_point_lifetime if lifetime is None else lifetime
            return _stamp(site, now, seconds)

        return schema.SetElectricalComponentPowerResponse(
            status=status, valid_until_time=self.running_site.at_clock(until)
        )

    def augment_bounds(self, request: Any, context: _Context) -> Any:
        """Narrow what a device may be set to for a while."""
        device = self.commanded(request.electrical_component_id, context)
        lifetime = _lifetime(request, _SHORTEST_BOUNDS, context)
        limits = _limits_of(device, request.target_metric)
        if limits is None:
            details = f"no metric that can have bounds: {request.target_metric}"
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, details)
        ranges = _ranges(request, context)
        text = f"bounds of {', '.join(f'{lower:g} to {upper:g}' for lower, upper in ranges)}"
        self.told(text, request.electrical_component_id, context)
        token = request.bounds_token if request.HasField("bounds_token") else None

        def apply(site: Site, now: float) -> Timestamp | str:
            seconds = site.bounds_lifetime if lifetime is None else lifetime
            device.forget(now)
            if token is not None:
                limits.clear(token)
            try:
                limits.include(ranges[0][0], ranges[-1][1], now + seconds, token)
            except OutOfBounds as error:
                return str(error)
            for (_, low), (high, _) in itertools.pairwise(ranges):
                limits.exclude(low, high, now + seconds, token)
            return _stamp(site, now, seconds)

        until = self.running_site.at_clock(apply)
        if isinstance(until, str):
            details = f"component {request.electrical_component_id}: {until}"
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, details)
        return schema.AugmentElectricalComponentBoundsResponse(valid_until_time=until)

    def clear_bounds(self, request: Any, context: _Context) -> Any:
        """Take bounds back that were added with a token."""
        device = self.commanded(request.electrical_component_id, context)
        limits = _limits_of(device, request.target_metric)
        if limits is None or not request.bounds_token:
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "no metric, or no token")
        self.running_site.at_clock(lambda *_: limits.clear(request.bounds_token))
        return Empty()

    # Switching

    def start_one(self, request: Any, context: _Context) -> Any:
        """Start an inverter or close a battery's relays."""
        self.start_component(request.electrical_component_id, context)
        return Empty()

    def put_in_standby(self, request: Any, context: _Context) -> Any:
        """Bring an inverter to cold standby."""
        self.cold_standby_of_component(request.electrical_component_id, context)
        return Empty()

    def stop_one(self, request: Any, context: _Context) -> Any:
        """Stop an inverter or open a battery's relays."""
        self.stop_component(request.electrical_component_id, context)
        return Empty()

    def acknowledge_one(self, request: Any, context: _Context) -> Any:
        """Acknowledge a component's error."""
        self.acknowledge_component(request.electrical_component_id, context)
        return Empty()


def _do_nothing(site: Site, now: float) -> Problem | None:
    del site, now
    return None


def _rating(site: Site, component: SiteComponent) -> tuple[float, float] | None:
    device = site.devices.get(component.component_id)
    if isinstance(device, Commanded):
        return device.active.lower, device.active.upper
    battery = site.batteries.get(component.component_id)
    return None if battery is None else (-battery.rating, battery.rating)


def _metrics(request: Any, context: _Context) -> frozenset[int]:
    """Give the metrics that are asked for; none for all."""
    if request.HasField("filter") and not request.filter.metrics:
        abort(context, grpc.StatusCode.INVALID_ARGUMENT, "a filter without metrics")
    return frozenset(request.filter.metrics)


def _lifetime(request: Any, least: int, context: _Context) -> int | None:
    """Give the lifetime that is asked for, if any."""
    if not request.HasField("request_lifetime"):
        return None
    lifetime: int = request.request_lifetime
    if not least <= lifetime <= _LONGEST:
        details = f"a lifetime of {lifetime} s; it must be {least} to {_LONGEST}"
        abort(context, grpc.StatusCode.INVALID_ARGUMENT, details)
    return lifetime


def _ranges(request: Any, context: _Context) -> list[tuple[float, float]]:
    """Give the ranges that are asked for, in their order."""
    ranges = sorted(
        (
            bounds.lower if bounds.HasField("lower") else -math.inf,
            bounds.upper if bounds.HasField("upper") else math.inf,
        )
        for bounds in request.bounds
    )
    if request.target_metric == Metric.AC_POWER_REACTIVE:
        ranges = [(0.0 - upper, 0.0 - lower) for lower, upper in reversed(ranges)]
    if not ranges:
        abort(context, grpc.StatusCode.INVALID_ARGUMENT, "no bounds")
    for lower, upper in ranges:
        if math.isnan(lower) or math.isnan(upper) or lower > upper:
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"bounds of {lower} to {upper}")
    return ranges


def _stamp(site: Site, now: float, seconds: float) -> Timestamp:
    """Give the time in some seconds."""
    stamp = Timestamp()
    stamp.FromDatetime(site.time + timedelta(seconds=now - site.now + seconds))
    return stamp


def _limits_of(device: Commanded, metric: int) -> Limits | None:
    one, two, three = device.current_per_phase
    limits: dict[int, Limits] = {
        Metric.AC_POWER_ACTIVE: device.active,
        Metric.AC_POWER_REACTIVE: device.reactive,
        Metric.AC_CURRENT: device.current,
        Metric.AC_CURRENT_PHASE_1: one,
        Metric.AC_CURRENT_PHASE_2: two,
        Metric.AC_CURRENT_PHASE_3: three,
    }
    return limits.get(metric)
