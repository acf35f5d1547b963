"""Keeps the table that leads from a protobuf message to the value it stands for.

The values of this package know no message layout. The modules of ``wire/`` register
here, when they are imported, how a message of theirs becomes a value; `from_proto` and
`from_pb` look the message's full name up. A program that has not used a generation of the API may
have messages of it all the same: then those modules are imported here.
"""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_DECODERS: dict[tuple[type, str], Callable[[Any], Any]] = {}

_REGISTERING = ("microgrid_sync.wire.v0_15", "microgrid_sync.wire.v1alpha18")
"""By name: they stand on this room, not the other way round."""


def register_decoder(value_type: type[T], message_name: str, decoder: Callable[[Any], T]) -> None:
    """Tell how a message becomes a value.

    Args:
        value_type: The class of the value.
        message_name: The message's full name, such as ``frequenz.api.microgrid.ComponentData``.
        decoder: A function that takes the message and gives the value.
    """
    _DECODERS[value_type, message_name] = decoder


def decode(value_type: type[T], message: Any) -> T:
    """Make a value of a protobuf message.

    Args:
        value_type: The class of the value.
        message: The message, of any generation of the API that this package knows.

    Returns:
        The value.

    Raises:
        TypeError: If such a message is not known to hold such a value.
        ValueError: If the message's content does not fit the value.
    """
    descriptor = getattr(message, "DESCRIPTOR", None)
    name = getattr(descriptor, "full_name", type(message).__qualname__)
    decoder = _DECODERS.get((value_type, name))
    if decoder is None:
        for module in _REGISTERING:
            importlib.import_module(module)
        decoder = _DECODERS.get((value_type, name))
    if decoder is None:
        known = sorted(known for of_type, known in _DECODERS if of_type is value_type)
        raise TypeError(
            f"a {value_type.__name__} cannot be made of a {name}; "
            f"it can be made of: {', '.join(known) or 'nothing'}"
        )
    value: T = decoder(message)
    return value
