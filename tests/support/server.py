"""A gRPC server of the Microgrid service whose every answer a test decides."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Self

import grpc
from frequenz.api.microgrid import microgrid_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.messages import component, data

Unary = Callable[[Any, grpc.ServicerContext], Any]
Stream = Callable[[int, grpc.ServicerContext], Iterator[bytes]]

_REQUESTS: dict[str, Any] = {
    "GetMicrogridMetadata": Empty,
    "ListComponents": microgrid_pb2.ComponentFilter,
    "ListConnections": microgrid_pb2.ConnectionFilter,
    "AddInclusionBounds": microgrid_pb2.SetBoundsParam,
    "SetPowerActive": microgrid_pb2.SetPowerActiveParam,
    "SetPowerReactive": microgrid_pb2.SetPowerReactiveParam,
}
_PREFIX = "/frequenz.api.microgrid.Microgrid/"
_MOST_CALLS = 1100


class ScriptedServer(grpc.GenericRpcHandler):
    """Serves on loopback. Without further words every call succeeds, and streams send data."""

    def __init__(self, *components: microgrid_pb2.Component, port: int = 0) -> None:
        self.components = list(components) or [component(1, "meter")]
        self.port = port
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, Unary] = {}
        self.stream: Stream = self.count_up
        self.interval = 0.01
        self.released = threading.Event()
        self._server: grpc.Server | None = None
        self._pool: futures.ThreadPoolExecutor | None = None

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

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
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

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
        method = handler_call_details.method.removeprefix(_PREFIX)
        if method == "StreamComponentData":
            return grpc.unary_stream_rpc_method_handler(
                self._stream, request_deserializer=microgrid_pb2.ComponentIdParam.FromString
            )
        if method not in _REQUESTS:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(method, request, context),
            request_deserializer=_REQUESTS[method].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _stream(
        self, request: microgrid_pb2.ComponentIdParam, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        self.calls.append(("StreamComponentData", request))
        return self.stream(request.id, context)

    def _answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append((method, request))
        if method in self.answers:
            return self.answers[method](request, context)
        match method:
            case "ListComponents":
                return microgrid_pb2.ComponentList(components=self.components)
            case "ListConnections":
                return microgrid_pb2.ConnectionList()
            case "GetMicrogridMetadata":
                return microgrid_pb2.MicrogridMetadata(microgrid_id=7)
            case "AddInclusionBounds":
                return Timestamp(seconds=1)
            case _:
                return Empty()


def failing(code: grpc.StatusCode, details: str = "as the test wants") -> Unary:
    """An answer that is an error."""

    def answer(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, details)

    return answer
