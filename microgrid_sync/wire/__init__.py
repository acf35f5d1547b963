"""The server's API: one module for each family of it, protobuf on one side, values on the other."""

import functools
import importlib
from typing import NamedTuple

from microgrid_sync.wire.requests import (
    ApiGeneration,
    ComponentListing,
    NotOffered,
    SetPointAnswer,
    SetPointRequest,
    SetPointState,
    StreamRequest,
    UnaryRequest,
    UndecodableMessage,
)


class _Family(NamedTuple):
    """Generations with the same messages."""

    module: str
    """The module of this package that speaks them; imported when it is first needed."""

    names: tuple[str, ...]
    """What users call them."""

    probe: str
    """The path of a call that takes and gives no argument that matters, with ``{name}``."""


_FAMILIES = (
    _Family(
        "v1alpha18",
        ("v1alpha18", "v1alpha19"),
        "/frequenz.api.microgrid.{name}.Microgrid/GetMicrogrid",
    ),
    _Family(
        "v0_15",
        ("v0.15",),
        "/frequenz.api.microgrid.Microgrid/GetMicrogridMetadata",
    ),
)
"""Another generation with the messages of one of these is one more name."""

_FAMILY_OF = {name: family for family in _FAMILIES for name in family.names}

API_NAMES = tuple(_FAMILY_OF)
"""The generations, the one that most servers speak first."""


def probe_path(name: str) -> str:
    """Give the path of the call that shows whether a server speaks a generation.

    It takes an empty message.
    """
    return _FAMILY_OF[name].probe.format(name=name)


@functools.cache
def generation(name: str) -> ApiGeneration:
    """Load a generation of the API.

    Args:
        name: One of `API_NAMES`.
    """
    module = importlib.import_module(f"{__name__}.{_FAMILY_OF[name].module}")
    made: ApiGeneration = module.Generation(name)
    return made


__all__ = [
    "API_NAMES",
    "ApiGeneration",
    "ComponentListing",
    "NotOffered",
    "SetPointAnswer",
    "SetPointRequest",
    "SetPointState",
    "StreamRequest",
    "UnaryRequest",
    "UndecodableMessage",
    "generation",
    "probe_path",
]
