"""Every status code on every call, and on a stream: the right error, retried or not."""

from collections.abc import Callable, Iterator

import grpc
import pytest

import microgrid_sync
from microgrid_sync import (
    DEFAULT_CALL_RETRY,
    ApiClientError,
    LinearBackoff,
    Metadata,
    MicrogridApiClient,
)
from tests.support.server import ScriptedServer, failing
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.both_apis

CODES = {
    "CANCELLED": ("OperationCancelled", True),
    "UNKNOWN": ("UnknownError", True),
    "INVALID_ARGUMENT": ("InvalidArgument", False),
    "DEADLINE_EXCEEDED": ("OperationTimedOut", True),
    "NOT_FOUND": ("EntityNotFound", True),
    "ALREADY_EXISTS": ("EntityAlreadyExists", True),
    "PERMISSION_DENIED": ("PermissionDenied", True),
    "RESOURCE_EXHAUSTED": ("ResourceExhausted", True),
    "FAILED_PRECONDITION": ("OperationPreconditionFailed", True),
    "ABORTED": ("OperationAborted", True),
    "OUT_OF_RANGE": ("OperationOutOfRange", True),
    "UNIMPLEMENTED": ("OperationNotImplemented", False),
    "INTERNAL": ("InternalError", True),
    "UNAVAILABLE": ("ServiceUnavailable", True),
    "DATA_LOSS": ("DataLoss", False),
    "UNAUTHENTICATED": ("OperationUnauthenticated", False),
}

CALLS: dict[str, Callable[[MicrogridApiClient], object]] = {
    "ListComponents": lambda client: client.components(),
    "ListConnections": lambda client: client.connections(),
    "SetPowerActive": lambda client: client.set_power(1, 1.0),
    "SetPowerReactive": lambda client: client.set_reactive_power(1, 1.0),
    "AddInclusionBounds": lambda client: client.set_bounds(1, -1.0, 1.0),
}

NAMES = {
    ("v1alpha18", "ListComponents"): "ListElectricalComponents",
    ("v1alpha18", "ListConnections"): "ListElectricalComponentConnections",
    ("v1alpha18", "SetPowerActive"): "SetElectricalComponentPower",
    ("v1alpha18", "SetPowerReactive"): "SetElectricalComponentPower",
    ("v1alpha18", "AddInclusionBounds"): "AugmentElectricalComponentBounds",
}
"""What a call is called there."""

QUICK = DEFAULT_CALL_RETRY.copy(wait=lambda _: 0.0)


def test_table_is_complete() -> None:
    assert set(CODES) == set(grpc.StatusCode.__members__) - {"OK"}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("code", CODES)
def test_call_that_fails(server: ScriptedServer, api: str, method: str, code: str) -> None:
    name, retryable = CODES[code]
    server.answers[method] = failing(grpc.StatusCode[code], "the server's own words")
    with MicrogridApiClient(server.url, call_retry=QUICK) as client:
        with pytest.raises(getattr(microgrid_sync, name)) as raised:
            CALLS[method](client)
        assert raised.value.is_retryable is retryable
        assert server.count(method) == (4 if retryable else 1)
        for words in (f"{NAMES.get((api, method), method)}(", server.url, "the server's own words"):
            assert words in str(raised.value)
        # It goes on afterwards.
        server.answers.clear()
        CALLS[method](client)


@pytest.mark.parametrize("code", CODES)
def test_metadata_that_fails(server: ScriptedServer, code: str) -> None:
    server.answers["GetMicrogridMetadata"] = failing(grpc.StatusCode[code])
    with MicrogridApiClient(server.url, call_retry=QUICK) as client:
        assert client.metadata() == Metadata()
    assert server.count("GetMicrogridMetadata") == (4 if CODES[code][1] else 1)


@pytest.mark.parametrize("code", CODES)
def test_stream_that_fails(server: ScriptedServer, code: str) -> None:
    name, retryable = CODES[code]
    opened = 0

    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        nonlocal opened
        opened += 1
        if opened <= 2:
            context.abort(grpc.StatusCode[code], "the server's own words")
        yield from server.count_up(component_id, context)

    server.stream = stream
    strategy = LinearBackoff(interval=0.01, jitter=0.0, limit=5)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        receiver = client.meter_data(1, 10_000)
        if retryable:
            assert receiver.receive(PATIENCE).active_power == 0
            return
        with pytest.raises(getattr(microgrid_sync, name), match="the server's own words"):
            list(receiver)
        assert opened == 1


@pytest.mark.parametrize("code", CODES)
def test_stream_that_never_works_tells_its_reader(server: ScriptedServer, code: str) -> None:
    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        del component_id
        context.abort(grpc.StatusCode[code], "never")
        yield from ()

    server.stream = stream
    strategy = LinearBackoff(interval=0.0, jitter=0.0, limit=3)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        with pytest.raises(ApiClientError, match="never") as raised:
            list(client.meter_data(1))
        assert isinstance(raised.value, getattr(microgrid_sync, CODES[code][0]))
    assert server.count("StreamComponentData") == (4 if CODES[code][1] else 1)
