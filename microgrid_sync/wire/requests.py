"""Defines what a generation of the API offers to the rooms above: requests ready to be sent."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import grpc

from microgrid_sync.model import Component, ComponentCategory, ComponentData, Connection, Metadata

T = TypeVar("T")


class UndecodableMessage(Exception):
    """A message of a stream is not what was subscribed to, or no message at all."""


class UnaryRequest(NamedTuple, Generic[T]):
    """One request with one answer."""

    operation: str
    """The call and its arguments, as errors name them."""

    method: str
    """The name of the stub's method."""

    message: Any
    """The protobuf message to send."""

    path: str
    """The path of the gRPC method."""

    parse: Callable[[bytes], Any]
    """Makes the protobuf message of what is answered; raises protobuf's ``DecodeError``."""

    decode: Callable[[Any], T]
    """Makes the value of the protobuf message that is answered."""


class StreamRequest(NamedTuple):
    """One request with a stream of answers, all of them bytes to the transport."""

    operation: str
    """The call and its arguments, as errors name them."""

    path: str
    """The path of the gRPC method."""

    payload: bytes
    """The serialized protobuf message to send."""

    decode: Callable[[bytes], ComponentData]
    """Makes the value of one answer; raises `UndecodableMessage`."""


class ApiGeneration(Protocol):
    """One generation of the server's API: a module of this package."""

    def make_stub(self, channel: grpc.Channel) -> Any:
        """Make the generation's stub."""

    def list_components(self) -> UnaryRequest[list[Component]]:
        """Ask for all components but sensors."""

    def list_connections(
        self, starts: Iterable[int], ends: Iterable[int]
    ) -> UnaryRequest[list[Connection]]:
        """Ask for the connections with these starts and ends; none means all."""

    def get_metadata(self) -> UnaryRequest[Metadata]:
        """Ask for the microgrid's metadata."""

    def set_power(self, component_id: int, power_w: float) -> UnaryRequest[None]:
        """Set active power; ``ValueError`` for a value that cannot be sent."""

    def set_reactive_power(
        self, component_id: int, reactive_power_var: float
    ) -> UnaryRequest[None]:
        """Set reactive power; ``ValueError`` for a value that cannot be sent."""

    def add_inclusion_bounds(
        self, component_id: int, lower: float, upper: float
    ) -> UnaryRequest[None]:
        """Narrow the active power allowed; ``ValueError`` for a value that cannot be sent."""

    def stream_data(self, component_id: int, category: ComponentCategory) -> StreamRequest:
        """Ask for the data of a component of that category."""
