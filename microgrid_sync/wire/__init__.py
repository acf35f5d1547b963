"""The server's API: one module for each generation, protobuf on one side, values on the other."""

from microgrid_sync.wire import v0_15
from microgrid_sync.wire.requests import (
    ApiGeneration,
    StreamRequest,
    UnaryRequest,
    UndecodableMessage,
)

GENERATION: ApiGeneration = v0_15
"""The generation that the client speaks."""

__all__ = ["GENERATION", "ApiGeneration", "StreamRequest", "UnaryRequest", "UndecodableMessage"]
