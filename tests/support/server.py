"""A gRPC server of the Microgrid service whose every answer a test decides."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple, Self

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.simulator.serving.ports import reserved_port
from microgrid_sync.wire import v0_15_schema as schema
from microgrid_sync.wire import v1alpha18_schema as alpha
from tests.support.messages import CATEGORIES, component, data
from tests.support.translation import component_message, telemetry_message

Unary = Callable[[Any, grpc.ServicerContext], Any]
Stream = Callable[[int, grpc.ServicerContext], Iterator[bytes]]

_PREFIX = "/frequenz.api.microgrid.Microgrid/"
_ALPHA_PREFIX = "/frequenz.api.microgrid.{api}.Microgrid/"
_REQUESTS: dict[str, Any] = {
    "GetMicrogridMetadata": Empty,
    "ListComponents": schema.ComponentFilter,
    "ListConnections": schema.ConnectionFilter,
    "AddInclusionBounds": schema.SetBoundsParam,
    "SetPowerActive": schema.SetPowerActiveParam,
    "SetPowerReactive": schema.SetPowerReactiveParam,
}
_MOST_CALLS = 1100


class _Translated(NamedTuple):
    """A call of v1alpha18 in terms of version 0.15, in which tests write."""

    method: str
    request: Callable[[Any], Any]
    answer: Callable[[Any], Any]


class ScriptedServer(grpc.GenericRpcHandler):
    """Serves on loopback. Without further words every call succeeds, and streams send data.

    What it is asked and what it answers is written in version 0.15 of the API, whatever it speaks.
    """

    default_api = "v1alpha18"
    """What the servers of the test that runs speak."""

    def __init__(self, *components: Any, port: int = 0) -> None:
        self.components = list(components) or [component(1, "meter")]
        self.api = self.default_api
        self.port = port
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, Unary] = {}
        self.stream: Stream = self.count_up
        self.interval = 0.01
        self.released = threading.Event()
        self._server: grpc.Server | None = None
        self._pool: futures.ThreadPoolExecutor | None = None
        self._port_held = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """With the API in it, so that nothing is asked that a test does not expect."""
        return f"grpc://127.0.0.1:{self.port}?api={self.api}"

    def start(self) -> Self:
        self.released.clear()
        self._pool = futures.ThreadPoolExecutor(_MOST_CALLS)
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(self._pool, handlers=[self], options=options)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return self

    def stop(self) -> None:
        """Cut everything off at once."""
        if self._server is None or self._pool is None:
            return
        self._server.stop(None)
        self.released.set()
        self._server.wait_for_termination(10)
        self._pool.shutdown(wait=True)
        self._server = self._pool = None

    def __enter__(self) -> Self:
        if not self.port:
            self.port = self._port_held.enter_context(reserved_port())
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._port_held.close()

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    # What a stream may do

    def count_up(self, component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send 0 W, 1 W, 2 W, ... of a component of the category it is listed with."""
        for number in itertools.count():
            if not context.is_active() or self.released.is_set():
                return
            yield data(component_id, self.category(component_id), number).SerializeToString()
            self.released.wait(self.interval)

    def category(self, component_id: int) -> str:
        names = {2: "meter", 3: "inverter", 5: "battery", 6: "ev_charger"}
        return names[next(c.category for c in self.components if c.id == component_id)]

    def silent_stream(self, component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send nothing until the client has left or the server stops."""
        del component_id
        self.silence(context)
        yield from ()

    def never(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Do not answer until the client has left or the server stops."""
        del request
        self.silence(context)
        return Empty()

    def silence(self, context: grpc.ServicerContext, seconds: float = 60.0) -> None:
        """Say nothing until the client has left or the server stops."""
        deadline = time.monotonic() + seconds
        while context.is_active() and time.monotonic() < deadline:
            if self.released.wait(0.01):
                return

    # gRPC's side

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        if self.api != "v0.15":
            prefix = _ALPHA_PREFIX.format(api=self.api)
            return self._alpha_handler(path.removeprefix(prefix)) if prefix in path else None
        method = path.removeprefix(_PREFIX)
        if method == "StreamComponentData":
            return grpc.unary_stream_rpc_method_handler(
                self._stream, request_deserializer=schema.ComponentIdParam.FromString
            )
        if method not in _REQUESTS:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(method, request, context),
            request_deserializer=_REQUESTS[method].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _alpha_handler(self, method: str) -> Any:
        if method == "ReceiveElectricalComponentTelemetryStream":
            request = alpha.ReceiveElectricalComponentTelemetryStreamRequest
            return grpc.unary_stream_rpc_method_handler(
                self._alpha_stream, request_deserializer=request.FromString
            )
        if method == "SetElectricalComponentPower":
            return grpc.unary_stream_rpc_method_handler(
                self._alpha_set_point,
                request_deserializer=alpha.SetElectricalComponentPowerRequest.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        if method not in _TRANSLATED:
            return None
        request_class, translated = _TRANSLATED[method]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: translated.answer(
                self._answer(translated.method, translated.request(request), context)
            ),
            request_deserializer=request_class.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _alpha_stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        component_id = request.electrical_component_id
        for payload in self._stream(schema.ComponentIdParam(id=component_id), context):
            yield translated_payload(payload)

    def _alpha_set_point(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        active = request.power_type == 1
        method = "SetPowerActive" if active else "SetPowerReactive"
        message = (schema.SetPowerActiveParam if active else schema.SetPowerReactiveParam)(
            component_id=request.electrical_component_id,
            power=request.power if active else 0.0 - request.power,
        )
        answer = self._answer(method, message, context)
        if isinstance(answer, Iterator):
            # A test that knows of v1alpha18 gives the answers themselves.
            yield from answer
        else:
            yield alpha.SetElectricalComponentPowerResponse(status=4)

    def _stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.calls.append(("StreamComponentData", request))
        return self.stream(request.id, context)

    def _answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append((method, request))
        if method in self.answers:
            return self.answers[method](request, context)
        match method:
            case "ListComponents":
                return schema.ComponentList(components=self.components)
            case "ListConnections":
                return schema.ConnectionList()
            case "GetMicrogridMetadata":
                return schema.MicrogridMetadata(microgrid_id=7)
            case "AddInclusionBounds":
                return Timestamp(seconds=1)
            case _:
                return Empty()


def translated_payload(payload: bytes) -> bytes:
    """Translate a message of a stream; what is none stays as it is."""
    try:
        message = schema.ComponentData.FromString(payload)
    except DecodeError:
        return payload
    response = alpha.ReceiveElectricalComponentTelemetryStreamResponse(
        telemetry=telemetry_message(message)
    )
    translated: bytes = response.SerializeToString()
    return translated


def _bounds_param(request: Any) -> Any:
    (bounds,) = request.bounds
    return schema.SetBoundsParam(
        component_id=request.electrical_component_id,
        target_metric=1,
        bounds=schema.Bounds(lower=bounds.lower, upper=bounds.upper),
    )


def _microgrid(message: Any) -> Any:
    microgrid = alpha.Microgrid(id=message.microgrid_id)
    if message.HasField("location"):
        microgrid.location.latitude = message.location.latitude
        microgrid.location.longitude = message.location.longitude
    return alpha.GetMicrogridResponse(microgrid=microgrid)


_TRANSLATED: dict[str, tuple[Any, _Translated]] = {
    "GetMicrogrid": (
        Empty,
        _Translated("GetMicrogridMetadata", lambda request: request, _microgrid),
    ),
    "ListElectricalComponents": (
        alpha.ListElectricalComponentsRequest,
        _Translated(
            "ListComponents",
            lambda request: schema.ComponentFilter(
                ids=request.electrical_component_ids,
                categories=request.electrical_component_categories,
            ),
            lambda answer: alpha.ListElectricalComponentsResponse(
                electrical_components=[
                    component_message(c, 7, None)
                    for c in answer.components
                    if c.category != CATEGORIES["sensor"]
                ]
            ),
        ),
    ),
    "ListElectricalComponentConnections": (
        alpha.ListElectricalComponentConnectionsRequest,
        _Translated(
            "ListConnections",
            lambda request: schema.ConnectionFilter(
                starts=request.source_electrical_component_ids,
                ends=request.destination_electrical_component_ids,
            ),
            lambda answer: alpha.ListElectricalComponentConnectionsResponse(
                electrical_component_connections=[
                    alpha.ElectricalComponentConnection(
                        source_electrical_component_id=c.start,
                        destination_electrical_component_id=c.end,
                    )
                    for c in answer.connections
                ]
            ),
        ),
    ),
    "AugmentElectricalComponentBounds": (
        alpha.AugmentElectricalComponentBoundsRequest,
        _Translated(
            "AddInclusionBounds",
            _bounds_param,
            lambda answer: alpha.AugmentElectricalComponentBoundsResponse(valid_until_time=answer),
        ),
    ),
}


def failing(code: grpc.StatusCode, details: str = "as the test wants") -> Unary:
    """An answer that is an error."""

    def answer(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, details)

    return answer
