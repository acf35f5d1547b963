"""A stub of the Microgrid service of version 0.15, for what no client offers."""

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue

from microgrid_sync.wire import v0_15_schema as schema

PREFIX = "/frequenz.api.microgrid.Microgrid/"

ANSWERS: dict[str, Any] = {
    "GetMicrogridMetadata": schema.MicrogridMetadata,
    "ListComponents": schema.ComponentList,
    "ListConnections": schema.ConnectionList,
    "CanStreamData": BoolValue,
    "AddExclusionBounds": Timestamp,
    "AddInclusionBounds": Timestamp,
    "SetPowerActive": Empty,
    "SetPowerReactive": Empty,
    "Start": Empty,
    "HotStandby": Empty,
    "ColdStandby": Empty,
    "Stop": Empty,
    "ErrorAck": Empty,
}
"""What each unary call is answered with."""


class Stub:
    """Has a method for each call: ``stub.Stop(message, timeout=5.0)``."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        if name == "StreamComponentData":
            return self._channel.unary_stream(
                PREFIX + name, _serialize, schema.ComponentData.FromString
            )
        return self._channel.unary_unary(PREFIX + name, _serialize, ANSWERS[name].FromString)


def _serialize(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized
