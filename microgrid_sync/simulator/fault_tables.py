"""Makes faults of data: tables of a site's description, and of the command line."""

from collections.abc import Mapping
from typing import Any

from microgrid_sync.simulator.faults import USES, Fault, FaultKind
from microgrid_sync.simulator.message_faults import check_fields
from microgrid_sync.simulator.messages import body_of, error_codes
from microgrid_sync.simulator.site import STREAMING, SiteCategory, SiteComponent
from microgrid_sync.simulator.tables import SiteError, Table, shown
from microgrid_sync.wire import v0_15_schema as schema

_SET_POINTS = {
    FaultKind.REFUSED,
    FaultKind.DELAYED,
    FaultKind.LOST,
    FaultKind.REJECTED,
    FaultKind.FAILED,
    FaultKind.OVERRIDDEN,
}
_COMMANDED = {SiteCategory.INVERTER, SiteCategory.EV_CHARGER}


def fault_from(values: Mapping[str, Any]) -> Fault:
    """Make a fault of a table as it stands in a site's file, such as ``{"kind": "silent"}``.

    Raises:
        SiteError: If it is wrong.
    """
    return read_fault(Table(values, "fault"))


def read_fault(table: Table) -> Fault:
    """Read a fault.

    Raises:
        SiteError: If it is wrong.
    """
    values: dict[str, Any] = {"kind": table.word("kind", among=tuple(FaultKind))}
    for key in ("at", "lasts", "seconds"):
        if table.has(key):
            values[key] = table.seconds(key)
    for key in ("status", "code"):
        if table.has(key):
            values[key] = table.word(key).upper()
    if table.has("components"):
        values["components"] = table.whole_numbers("components")
    for key in ("fields", "methods"):
        if table.has(key):
            values[key] = _words(table, key)
    if table.has("number"):
        values["number"] = table.whole("number", least=-(2**31), most=2**31 - 1)
    if table.has("recoverable"):
        values["recoverable"] = table.flag("recoverable", default=True)
    for key in sorted({"at", "lasts", *USES[FaultKind(values["kind"])].takes}):
        table.raw(key)
    table.end()
    try:
        return Fault(**values)
    except ValueError as error:
        raise SiteError(f"{table.where}: {error}") from None


def _words(table: Table, key: str) -> list[str]:
    value = table.raw(key)
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise table.error(key, f"must be a list of strings, not {shown(value)}")
    return list(value)


def check_fault(fault: Fault, components: Mapping[int, SiteComponent]) -> None:
    """Check that a site can have a fault.

    Raises:
        ValueError: If it cannot.
    """
    for component_id in fault.components or ():
        component = components.get(component_id)
        if component is None:
            raise ValueError(f"components: there is no component {component_id}")
        _check_category(fault, component)
    if fault.components is None and (fault.fields is not None or fault.code is not None):
        raise ValueError("components: must be named when fields or a code are")


def _check_category(fault: Fault, component: SiteComponent) -> None:
    name = f"component {component.component_id} of category {component.category.name}"
    if fault.kind in _SET_POINTS and component.category not in _COMMANDED:
        raise ValueError(f"components: {name} takes no set-points")
    if component.category not in STREAMING:
        raise ValueError(f"components: {name} has no data that could show it")
    if fault.code is not None:
        known = error_codes(component.category)
        if fault.code not in known:
            raise ValueError(f"code: {fault.code!r} is none of {', '.join(known)}")
    check_fields(body_of(schema.ComponentData(), component), fault)
