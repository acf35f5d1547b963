"""Errors: their classes, their texts, their copies."""

import copy
import pickle
from typing import Any

import grpc
import pytest

import microgrid_sync
from microgrid_sync import ApiClientError, ClientNotConnected, GrpcError, SetPointSuperseded
from microgrid_sync.exceptions import GrpcStatus

CODES = [
    (grpc.StatusCode.CANCELLED, "OperationCancelled", True),
    (grpc.StatusCode.UNKNOWN, "UnknownError", True),
    (grpc.StatusCode.INVALID_ARGUMENT, "InvalidArgument", False),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "OperationTimedOut", True),
    (grpc.StatusCode.NOT_FOUND, "EntityNotFound", True),
    (grpc.StatusCode.ALREADY_EXISTS, "EntityAlreadyExists", True),
    (grpc.StatusCode.PERMISSION_DENIED, "PermissionDenied", True),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "ResourceExhausted", True),
    (grpc.StatusCode.FAILED_PRECONDITION, "OperationPreconditionFailed", True),
    (grpc.StatusCode.ABORTED, "OperationAborted", True),
    (grpc.StatusCode.OUT_OF_RANGE, "OperationOutOfRange", True),
    (grpc.StatusCode.UNIMPLEMENTED, "OperationNotImplemented", False),
    (grpc.StatusCode.INTERNAL, "InternalError", True),
    (grpc.StatusCode.UNAVAILABLE, "ServiceUnavailable", True),
    (grpc.StatusCode.DATA_LOSS, "DataLoss", False),
    (grpc.StatusCode.UNAUTHENTICATED, "OperationUnauthenticated", False),
    (grpc.StatusCode.OK, "UnrecognizedGrpcStatus", True),
    (None, "UnrecognizedGrpcStatus", True),
]


class RpcError(grpc.RpcError, grpc.Call):
    """What the blocking stack raises: an error that is a call that has ended.

    Typed more loosely than the library's stubs, which the library itself does not keep to.
    """

    def __init__(self, code: grpc.StatusCode | None) -> None:
        self._code = code

    def code(self) -> Any:
        return self._code

    def details(self) -> str:
        return "the details"

    def trailing_metadata(self) -> Any:
        return (("key", "value"),)

    def initial_metadata(self) -> Any: ...
    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any: ...
    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        return False


def _error(code: grpc.StatusCode | None) -> GrpcError:
    return ApiClientError.from_grpc_error(
        server_url="grpc://host", operation="Op()", grpc_error=RpcError(code)
    )


def test_every_code_is_in_the_table() -> None:
    assert set(grpc.StatusCode) <= {code for code, _, _ in CODES}


@pytest.mark.parametrize(("code", "name", "retryable"), CODES)
def test_code_gives_its_class(code: grpc.StatusCode | None, name: str, retryable: bool) -> None:
    error = _error(code)
    assert type(error) is getattr(microgrid_sync, name)
    assert error.is_retryable is retryable
    assert (error.server_url, error.operation) == ("grpc://host", "Op()")
    assert error.grpc_error.code() is code
    assert error.grpc_error.details() == "the details"
    assert error.grpc_error.trailing_metadata() == (("key", "value"),)


def test_error_says_what_failed_where_and_why() -> None:
    text = str(_error(grpc.StatusCode.NOT_FOUND))
    for part in ("Op()", "grpc://host", "NOT_FOUND", "the details"):
        assert part in text


def test_error_that_is_no_call_is_kept_with_its_text() -> None:
    error = ApiClientError.from_grpc_error(
        server_url="u", operation="o", grpc_error=grpc.RpcError("odd")
    )
    assert isinstance(error, microgrid_sync.UnrecognizedGrpcStatus)
    assert "odd" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        *(_error(code) for code, _, _ in CODES),
        ClientNotConnected(server_url="grpc://host", operation="Op()"),
        SetPointSuperseded(server_url="grpc://host", operation="Op()"),
        ApiClientError(server_url="u", operation="o", description="d", retryable=False),
    ],
)
def test_errors_can_be_copied_and_pickled(error: ApiClientError) -> None:
    error.attempts = 3
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.is_retryable is error.is_retryable
        assert twin.description == error.description


@pytest.mark.parametrize(("attempts", "text"), [(1, "(1 attempt)"), (4, "(4 attempts)")])
def test_attempts_are_in_the_text(attempts: int, text: str) -> None:
    error = _error(grpc.StatusCode.ABORTED)
    assert "attempt" not in str(error)
    error.attempts = attempts
    assert str(error).endswith(text)


def test_status_without_details_is_its_code() -> None:
    assert str(GrpcStatus(grpc.StatusCode.ABORTED, None)) == "ABORTED"
    assert str(GrpcStatus(None, None)) == "no status code"


def test_superseded_set_point_is_not_retried() -> None:
    assert not SetPointSuperseded(server_url="u", operation="o").is_retryable
