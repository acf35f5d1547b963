"""Takes trouble from another process: a small gRPC service beside the simulated one.

Requests and answers are ``google.protobuf.Struct`` messages: the tables of a site's description.
"""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from microgrid_sync.simulator.fault_tables import fault_from
from microgrid_sync.simulator.faults import Faults
from microgrid_sync.simulator.tables import Table

_NAME = "microgrid_sync.simulator.Trouble"


def control_service(faults: Faults) -> grpc.GenericRpcHandler:
    """Make the service that adds, lists and ends a simulator's faults."""

    def add(values: dict[str, Any]) -> dict[str, Any]:
        return {"number": faults.add(fault_from(values))}

    def planned(values: dict[str, Any]) -> dict[str, Any]:
        del values
        return {str(number): fault.describe() for number, fault in faults.planned().items()}

    def end(values: dict[str, Any]) -> dict[str, Any]:
        try:
            faults.end(Table(values, "fault").whole("number", least=0, most=2**53))
        except KeyError as error:
            raise ValueError(f"there is no fault {error}, or it is over") from None
        return {}

    def clear(values: dict[str, Any]) -> dict[str, Any]:
        del values
        faults.clear()
        return {}

    methods = {"Add": add, "List": planned, "End": end, "Clear": clear}
    return grpc.method_handlers_generic_handler(
        _NAME, {name: _handler(answer) for name, answer in methods.items()}
    )


def _handler(
    answer: Callable[[dict[str, Any]], dict[str, Any]],
) -> "grpc.RpcMethodHandler[Struct, Struct]":
    def call(request: Struct, context: grpc.ServicerContext) -> Struct:
        try:
            return _struct(answer(_values(request)))
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=Struct.FromString,
        response_serializer=Struct.SerializeToString,
    )


def _struct(values: Mapping[str, Any]) -> Struct:
    message = Struct()
    message.update(values)
    return message


def _values(message: Struct) -> dict[str, Any]:
    """Turn a message into plain values; its numbers are floats, so whole ones become whole."""
    values: dict[str, Any] = _whole(json_format.MessageToDict(message))
    return values


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class UnexpectedAnswerError(ValueError):
    """A server answers otherwise than a simulator does."""

    def __init__(self, method: str) -> None:
        """Make an error about one method."""
        super().__init__(f"{method}: the answer is none of this simulator's")


class TroubleMaker:
    """Adds, lists and ends the faults of a running simulator from another process."""

    def __init__(self, channel: grpc.Channel, *, timeout: float) -> None:
        """Speak to the simulator behind a channel.

        Args:
            channel: The channel; it stays its owner's.
            timeout: Seconds for each call.
        """
        self._channel = channel
        self._timeout = timeout

    def add(self, fault: Mapping[str, Any]) -> int:
        """Add a fault, as a table of a site's description; give its number.

        Raises:
            ValueError: If the simulator refuses it.
            grpc.RpcError: If there is no answer.
        """
        number = self._call("Add", fault).get("number")
        if not isinstance(number, int):
            raise UnexpectedAnswerError("Add")
        return number

    def planned(self) -> dict[int, dict[str, Any]]:
        """List the faults that have not ended, by number."""
        answer = self._call("List", {})
        if not all(
            number.isdecimal() and isinstance(fault, dict) and isinstance(fault.get("kind"), str)
            for number, fault in answer.items()
        ):
            raise UnexpectedAnswerError("List")
        return dict(sorted((int(number), fault) for number, fault in answer.items()))

    def end(self, number: int) -> None:
        """End a fault; `ValueError` if there is none of that number."""
        self._call("End", {"number": number})

    def clear(self) -> None:
        """End all faults."""
        self._call("Clear", {})

    def _call(self, method: str, values: Mapping[str, Any]) -> dict[str, Any]:
        call = self._channel.unary_unary(
            f"/{_NAME}/{method}",
            request_serializer=Struct.SerializeToString,
            response_deserializer=Struct.FromString,
        )
        try:
            return _values(call(_struct(values), timeout=self._timeout))
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise ValueError(error.details()) from None
            raise
