"""Defines what a generation of the API offers to the rooms above: requests ready to be sent."""

import enum
import importlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import grpc

from microgrid_sync.model import Component, ComponentCategory, ComponentData, Connection, Metadata
from microgrid_sync.model.telemetry import Sensor, Telemetry

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class UndecodableMessage(Exception):
    """A message of a stream is not what was subscribed to, or no message at all."""


class NotOffered(Exception):
    """A generation of the API cannot do what it is asked for."""


class UnaryRequest(NamedTuple, Generic[T]):
    """One request with one answer."""

    operation: str
    """The call and its arguments, as errors name them."""

    path: str
    """The path of the gRPC method."""

    message: Any
    """The protobuf message to send."""

    parse: Callable[[bytes], Any]
    """Makes the protobuf message of what is answered; raises protobuf's ``DecodeError``."""

    decode: Callable[[Any], T]
    """Makes the value of the protobuf message that is answered."""


class ComponentListing(NamedTuple):
    """A server's answer to the question which components there are."""

    components: list[Component]
    """Those that can be read or commanded, in the server's order."""

    left_out: frozenset[int] = frozenset()
    """The IDs of what it lists besides: sensors, and what is not in operation now."""


class SetPointState(enum.Enum):
    """What a server says of a set-point."""

    UNKNOWN = "unknown"
    """A word that this package does not know; more will follow."""

    ACCEPTED = "accepted"
    """It has been taken, and one of those below will follow."""

    SUCCESS = "success"
    """It has been given to the component."""

    REJECTED = "rejected"
    """It will not be carried out."""

    FAILED = "failed"
    """It could not be carried out."""

    OVERRIDDEN = "overridden"
    """Another one has taken its place."""


class SetPointAnswer(NamedTuple):
    """One answer to a set-point."""

    state: SetPointState
    valid_until: datetime | None
    """When it expires (UTC); ``None`` if the server does not say."""


class SetPointRequest(NamedTuple):
    """A set-point: one request with one answer, or with several of which the last one counts."""

    operation: str
    """The call and its arguments, as errors name them."""

    path: str
    """The path of the gRPC method."""

    message: Any
    """The protobuf message to send."""

    parse: Callable[[bytes], SetPointAnswer]
    """Reads an answer; raises protobuf's ``DecodeError``."""

    is_followed: bool
    """Whether further answers may follow the first one."""


class StreamRequest(NamedTuple, Generic[T_co]):
    """One request with a stream of answers, all of them bytes to the transport."""

    operation: str
    """The call and its arguments, as errors name them."""

    path: str
    """The path of the gRPC method."""

    payload: bytes
    """The serialized protobuf message to send."""

    read: Callable[[bytes], Any]
    """Makes the protobuf message of one answer, and checks whose it is, what it is about, and that
    its time is one; raises `UndecodableMessage`."""

    make: Callable[[Any], T_co]
    """Makes the value of such a message."""


class ApiGeneration:
    """One generation of the server's API. What one of them lacks raises `NotOffered`."""

    def __init__(self, name: str) -> None:
        """Make it.

        Args:
            name: What users call it, such as ``v0.15``.
        """
        self.name = name

    def lacks(self, what: str) -> NoReturn:
        """Refuse what this generation does not have."""
        raise NotOffered(f"API {self.name} has {what}")

    def make_stub(self, channel: grpc.Channel) -> Any:
        """Make the stub of the official bindings; ``ImportError`` if they are not installed."""
        raise NotImplementedError

    def list_components(self) -> UnaryRequest[ComponentListing]:
        """Ask for all components but sensors."""
        raise NotImplementedError

    def list_connections(
        self, starts: Iterable[int], ends: Iterable[int]
    ) -> UnaryRequest[list[Connection]]:
        """Ask for the connections with these starts and ends; none means all."""
        raise NotImplementedError

    def get_metadata(self) -> UnaryRequest[Metadata]:
        """Ask for the microgrid's metadata."""
        raise NotImplementedError

    def list_sensors(self) -> UnaryRequest[list[Sensor]]:
        """Ask for all sensors."""
        self.lacks("no list of sensors")

    def set_power(
        self, component_id: int, power_w: float, lifetime: int | None = None
    ) -> SetPointRequest:
        """Set active power, in W, for some seconds."""
        raise NotImplementedError

    def set_reactive_power(
        self, component_id: int, reactive_power_var: float, lifetime: int | None = None
    ) -> SetPointRequest:
        """Set reactive power, in VAr, for some seconds; positive is capacitive."""
        raise NotImplementedError

    def add_inclusion_bounds(
        self,
        component_id: int,
        lower: float,
        upper: float,
        lifetime: int | None = None,
        token: str | None = None,
    ) -> UnaryRequest[datetime | None]:
        """Narrow the active power allowed, in W, for some seconds; gives when that ends."""
        raise NotImplementedError

    def add_exclusion_bounds(
        self, component_id: int, lower: float, upper: float
    ) -> UnaryRequest[datetime | None]:
        """Exclude a range of active power, in W; gives when that ends."""
        self.lacks("no exclusion bounds")

    def clear_bounds(self, component_id: int, token: str) -> UnaryRequest[None]:
        """Take bounds back that were added with a token."""
        self.lacks("no tokens of bounds")

    def start(self, component_id: int) -> UnaryRequest[None]:
        """Start a component."""
        raise NotImplementedError

    def standby(self, component_id: int, *, hot: bool) -> UnaryRequest[None]:
        """Bring a component to standby."""
        raise NotImplementedError

    def stop(self, component_id: int) -> UnaryRequest[None]:
        """Stop a component."""
        raise NotImplementedError

    def acknowledge_error(self, component_id: int) -> UnaryRequest[None]:
        """Acknowledge a component's error."""
        raise NotImplementedError

    def stream_data(
        self, component_id: int, category: ComponentCategory
    ) -> StreamRequest[ComponentData]:
        """Ask for the data of a component of that category."""
        raise NotImplementedError

    def stream_telemetry(
        self, component_id: int, metrics: frozenset[int]
    ) -> StreamRequest[Telemetry]:
        """Ask for metrics of a component; none means all."""
        self.lacks("no telemetry")

    def stream_sensor_telemetry(
        self, sensor_id: int, metrics: frozenset[int]
    ) -> StreamRequest[Telemetry]:
        """Ask for metrics of a sensor; none means all."""
        self.lacks("no telemetry of sensors")


def official_stub(channel: grpc.Channel, module: str, api: str, version: str) -> Any:
    """Make the stub of the official bindings, which are for users and may not be there.

    Args:
        channel: Where it makes its calls.
        module: The module that has it.
        api: What users call the generation.
        version: Which versions of the bindings have it, as pip takes it.

    Raises:
        ImportError: If they are not installed.
    """
    try:
        bindings = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the stub of API {api} needs its official bindings: "
            f"pip install 'frequenz-api-microgrid{version}'"
        ) from error
    return bindings.MicrogridStub(channel)


def nothing(_: Any) -> None:
    """Decode an answer that says nothing more than that it is one."""
