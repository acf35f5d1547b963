"""Changes samples as faults say, before they are sent."""

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from microgrid_sync.simulator.faults import Fault, FaultKind
from microgrid_sync.simulator.messages import body_of
from microgrid_sync.simulator.site import SiteComponent

UNKNOWN_NUMBER = 99
"""A number that no state of the API has."""

_ALL_DATA = ("data",)
_STATE = ("state.component_state",)


def apply_faults(message: Any, component: SiteComponent, faults: Iterable[Fault]) -> None:
    """Do to a sample what several faults say; what is missing is left out last."""
    for fault in sorted(faults, key=lambda fault: fault.kind is FaultKind.MISSING):
        apply_fault(message, component, fault)


def apply_fault(message: Any, component: SiteComponent, fault: Fault) -> None:
    """Do to a sample what a fault says; a fault of another kind changes nothing."""
    body = body_of(message, component)
    match fault.kind:
        case FaultKind.LATE:
            message.ts.FromDatetime(message.ts.ToDatetime() - timedelta(seconds=fault.delay))
        case FaultKind.WRONG_ENUM:
            number = UNKNOWN_NUMBER if fault.number is None else fault.number
            for path in fault.fields or _STATE:
                owner, name = _find(body, path)
                setattr(owner, name, number)
        case FaultKind.MISSING:
            for path in fault.fields or _ALL_DATA:
                owner, name = _find(body, path)
                owner.ClearField(name)
        case FaultKind.NAN:
            for path in fault.fields or _ALL_DATA:
                owner, name = _find(body, path)
                _make_nan(owner, owner.DESCRIPTOR.fields_by_name[name])
        case _:
            pass


def _find(body: Any, path: str) -> tuple[Any, str]:
    """Find the message that a path ends in, and the name of its field."""
    *outer, name = path.split(".")
    for part in outer:
        body = getattr(body, part)
    return body, name


def _make_nan(owner: Any, field: FieldDescriptor) -> None:
    """Make a field of a message, or all numbers in it, not a number."""
    value = getattr(owner, field.name)
    repeated = hasattr(value, "extend")
    if field.type == FieldDescriptor.TYPE_FLOAT:
        if repeated:
            value[:] = [math.nan] * len(value)
        else:
            setattr(owner, field.name, math.nan)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        for inner in value if repeated else [value]:
            # Only what the component measures: what is absent stays absent.
            for present, _ in inner.ListFields():
                _make_nan(inner, present)


def check_fields(message: Message, fault: Fault) -> None:
    """Check that the paths of a fault lead somewhere in a component's message.

    Args:
        message: The part of a data message that the category fills.
        fault: The fault.

    Raises:
        ValueError: If a path does not, or leads to something of another kind.
    """
    for path in fault.fields or ():
        where: Any = message
        *outer, name = path.split(".")
        for part in outer:
            where = getattr(where, part, None)
        if not isinstance(where, Message) or name not in where.DESCRIPTOR.fields_by_name:
            raise ValueError(f"fields: {path!r} is not in a {message.DESCRIPTOR.name} message")
        # Numbers are floats; what is an integer stands for a word.
        is_state = where.DESCRIPTOR.fields_by_name[name].type == FieldDescriptor.TYPE_INT32
        if fault.kind is FaultKind.WRONG_ENUM and not is_state:
            raise ValueError(f"fields: {path!r} is no state")
        if fault.kind is FaultKind.NAN and is_state:
            raise ValueError(f"fields: {path!r} is a state, which is always a number")
