"""Bytes and messages that nobody should send: no crash, no dead stream; what is valid arrives."""

import contextlib
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from microgrid_sync import (
    ComponentCategory,
    ComponentData,
    LinearBackoff,
    MicrogridApiClient,
    ResourceExhausted,
)
from microgrid_sync.wire import UndecodableMessage, generation
from microgrid_sync.wire import v0_15_schema as schema
from tests.support.messages import component, data
from tests.support.messages import decode as decode_request
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.both_apis

V0_15 = generation("v0.15")
V1_ALPHA_18 = generation("v1alpha18")

CATEGORIES = {
    "meter": ComponentCategory.METER,
    "inverter": ComponentCategory.INVERTER,
    "battery": ComponentCategory.BATTERY,
    "ev_charger": ComponentCategory.EV_CHARGER,
}

FLOATS = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 3.4e38])


def messages(kind: type[Message], depth: int = 0) -> st.SearchStrategy[Any]:
    """Messages of a kind with any field missing, extreme, or not a number."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.DESCRIPTOR.fields:
        value = values(field, depth)
        is_list = hasattr(getattr(kind(), field.name), "extend")
        fields[field.name] = st.lists(value, max_size=2) if is_list else value
    chosen = st.fixed_dictionaries({}, optional=fields)
    return chosen.map(lambda given_fields: build(kind, given_fields))


def build(kind: type[Message], fields: dict[str, Any]) -> Message:
    return kind(**fields)


def values(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        kind: Any = field.message_type._concrete_class
        return messages(kind, depth + 1)
    if field.enum_type is not None:
        return st.integers(-(2**31), 2**31 - 1)
    return {
        FieldDescriptor.CPPTYPE_FLOAT: FLOATS,
        FieldDescriptor.CPPTYPE_DOUBLE: FLOATS,
        FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
        FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_STRING: st.text(max_size=5),
    }[field.cpp_type]


def decode(category: str, payload: bytes) -> ComponentData | None:
    try:
        return decode_request(V0_15.stream_data(1, CATEGORIES[category]), payload)
    except UndecodableMessage:
        return None


@pytest.mark.parametrize("category", CATEGORIES)
@given(payload=st.binary(max_size=200))
def test_any_bytes_are_a_value_or_skipped(category: str, payload: bytes) -> None:
    decode(category, payload)


@pytest.mark.parametrize("category", CATEGORIES)
@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_message_with_a_byte_changed_is_a_value_or_skipped(
    category: str, at: int, byte: int
) -> None:
    payload = bytearray(data(1, category, 5).SerializeToString())
    payload[at % len(payload)] = byte
    decode(category, bytes(payload))


@pytest.mark.computes
@settings(max_examples=60)
@pytest.mark.parametrize("category", CATEGORIES)
@given(draw=st.data())
def test_any_message_is_a_value_or_skipped(category: str, draw: st.DataObject) -> None:
    message = schema.ComponentData(id=1)
    body = getattr(message, category)
    body.CopyFrom(draw.draw(messages(type(body))))
    body.SetInParent()
    message.ts.seconds = draw.draw(st.integers(-(2**62), 2**62) | st.integers(0, 2**31))
    message.ts.nanos = draw.draw(st.integers(-10, 2 * 10**9) | st.just(0))
    value = decode(category, message.SerializeToString())
    stamp_is_valid = (
        0 <= message.ts.nanos < 10**9
        and datetime.min.replace(tzinfo=UTC).timestamp()
        <= message.ts.seconds
        <= datetime.max.replace(tzinfo=UTC).timestamp() - 1
    )
    # Whatever it says: as long as its time is one, it arrives.
    assert (value is not None) == stamp_is_valid


Broken = Callable[[int], bytes]


@pytest.mark.parametrize(
    "broken",
    [
        lambda number: bytes([number % 256]) * 7,
        lambda number: b"",
        lambda number: data(2, "meter", number).SerializeToString(),
        lambda number: data(1, "battery", number).SerializeToString(),
        lambda number: data(1, "meter", number).SerializeToString()[:-3],
    ],
    ids=["nonsense", "empty", "of another component", "of another category", "cut off"],
)
def test_valid_messages_between_broken_ones_arrive(server: ScriptedServer, broken: Broken) -> None:
    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number, payload in enumerate(server.count_up(component_id, context)):
            yield broken(number)
            yield payload

    server.components[:] = [component(1, "meter")]
    server.stream = stream
    with MicrogridApiClient(server.url) as client:
        receiver = client.meter_data(1, 1000)
        values = [receiver.receive(PATIENCE).active_power for _ in range(20)]
        assert values == [float(number) for number in range(20)]
        stats = client.stats().streams[0]
        assert stats.undecodable >= 20
        assert stats.reconnects == 0


def test_message_that_is_too_large_ends_its_connection_and_no_more(server: ScriptedServer) -> None:
    opened = 0

    def stream(component_id: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        nonlocal opened
        opened += 1
        if opened == 1:
            yield bytes(5 * 2**20)
        yield from server.count_up(component_id, context)

    server.stream = stream
    strategy = LinearBackoff(interval=0.05, jitter=0.0)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        receiver = client.meter_data(1, 10_000)
        assert receiver.receive(PATIENCE).active_power == 0
        assert client.stats().streams[0].reconnects == 1
        large = schema.Component(name="x" * 5 * 2**20)
        server.answers["ListComponents"] = lambda *_: schema.ComponentList(components=[large])
        with pytest.raises(ResourceExhausted, match="larger than max"):
            list(client.components())


@settings(max_examples=50)
@given(payload=st.binary(max_size=100))
def test_any_bytes_as_an_answer_are_an_answer_or_an_error(payload: bytes) -> None:
    for request in (V0_15.list_components(), V0_15.get_metadata()):
        with contextlib.suppress(DecodeError):
            request.decode(request.parse(payload))
