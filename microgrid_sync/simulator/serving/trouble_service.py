"""Takes trouble from another process: a small gRPC service beside the simulated one.

Requests and answers are JSON: the tables of a site's description.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import grpc

from microgrid_sync.simulator.serving.faults import Faults
from microgrid_sync.simulator.trouble.fault import fault_from
from microgrid_sync.tables import shown

_NAME = "microgrid_sync.simulator.Trouble"

_LONGEST_TEXT = 1500
"""Characters, of four bytes at the most, of which each may become three in gRPC's encoding."""

Values = dict[str, Any]


def trouble_service(faults: Faults) -> grpc.GenericRpcHandler:
    """Make the service that adds, lists and ends a simulator's faults."""

    def add(values: Values) -> Values:
        return {"number": faults.add(fault_from(values))}

    def planned(values: Values) -> Values:
        del values
        return {str(number): fault.describe() for number, fault in faults.planned().items()}

    def end(values: Values) -> Values:
        number = values.get("number")
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"number: must be a whole number, not {shown(number)}")  # noqa: TRY004
        try:
            faults.end(number)
        except KeyError:
            raise ValueError(f"there is no fault {number}, or it is over") from None
        return {}

    def clear(values: Values) -> Values:
        del values
        faults.clear()
        return {}

    def times(values: Values) -> Values:
        del values
        return {
            str(number): [since.isoformat(), None if until is None else until.isoformat()]
            for number, (since, until) in faults.times().items()
        }

    methods = {"Times": times, "Add": add, "List": planned, "End": end, "Clear": clear}
    return grpc.method_handlers_generic_handler(
        _NAME, {name: _handler(answer) for name, answer in methods.items()}
    )


def _handler(answer: Callable[[Values], Values]) -> "grpc.RpcMethodHandler[bytes, bytes]":
    def call(request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return _written(answer(_read(request)))
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, _cut(str(error)))
            raise

    return grpc.unary_unary_rpc_method_handler(call)


def _cut(text: str) -> str:
    """Cut a text that is too long for the end of a call: gRPC drops it, and the call with it."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ..."


def _written(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values).encode()


def _read(message: bytes) -> Values:
    """Read a JSON object; `ValueError` if it is none."""
    try:
        values = json.loads(message)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"must be a JSON object, not {shown(values)}")  # noqa: TRY004 - as above
    return values


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
        if not isinstance(number, int) or isinstance(number, bool):
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

    def times(self) -> dict[int, tuple[datetime, datetime | None]]:
        """Tell since when and until when each of them goes on, by number, on the site's clock.

        One that somebody must end has no end.
        """
        answer = self._call("Times", {})
        try:
            return {
                int(number): (
                    datetime.fromisoformat(since),
                    None if until is None else datetime.fromisoformat(until),
                )
                for number, (since, until) in answer.items()
            }
        except (TypeError, ValueError):
            raise UnexpectedAnswerError("Times") from None

    def end(self, number: int) -> None:
        """End a fault; `ValueError` if there is none of that number."""
        self._call("End", {"number": number})

    def clear(self) -> None:
        """End all faults."""
        self._call("Clear", {})

    def _call(self, method: str, values: Mapping[str, Any]) -> dict[str, Any]:
        call: Any = self._channel.unary_unary(f"/{_NAME}/{method}", None, None)
        try:
            answer = call(_written(values), timeout=self._timeout)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise ValueError(error.details()) from None
            raise
        try:
            return _read(answer)
        except ValueError:
            raise UnexpectedAnswerError(method) from None
