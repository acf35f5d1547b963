"""One table of situations: the same values come out of both families of the API."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from microgrid_sync import ComponentCategory
from microgrid_sync.simulator import Fault, Site, load_site
from microgrid_sync.simulator.physics.components import ComponentError, SiteCategory
from microgrid_sync.simulator.physics.readings import read
from microgrid_sync.simulator.serving import v0_15_messages, v1alpha18_messages
from microgrid_sync.wire import UndecodableMessage, generation
from tests.simulator.descriptions import NOON
from tests.support.messages import decode

V0_15, V1_ALPHA_18 = generation("v0.15"), generation("v1alpha18")

STREAMED = {
    SiteCategory.METER: ComponentCategory.METER,
    SiteCategory.INVERTER: ComponentCategory.INVERTER,
    SiteCategory.BATTERY: ComponentCategory.BATTERY,
    SiteCategory.EV_CHARGER: ComponentCategory.EV_CHARGER,
}

LOSSES = {
    # Words that v1alpha18 has no counterpart for.
    "errors",
    # What is excluded below zero where nothing below zero is allowed.
    "active_power_exclusion_lower_bound",
}


def _nothing(site: Site) -> None:
    del site


def _all_in_error(site: Site) -> None:
    for component in site.components.values():
        if component.category in STREAMED:
            site.fail(component.component_id, ComponentError())


def _commanded(site: Site) -> None:
    for component in site.components.values():
        if component.category is SiteCategory.EV_CHARGER:
            site.charger(component.component_id).reactive.command(700.0, math.inf)
            site.charger(component.component_id).active.include(0.0, 5000.0, math.inf)
        if component.category is SiteCategory.INVERTER and component.type != "solar":
            site.inverter(component.component_id).active.exclude(-300.0, 300.0, math.inf)


_WITHOUT_EXCLUSION = ("without bounds", "without numbers")

SITUATIONS: dict[str, tuple[Callable[[Site], None], list[Fault]]] = {
    "as it is": (_nothing, []),
    "all in error": (_all_in_error, []),
    "commanded": (_commanded, []),
    "without data": (_nothing, [Fault(kind="missing")]),
    "without numbers": (_nothing, [Fault(kind="nan")]),
    "without active power": (
        _nothing, [Fault(kind="missing", components=[1], fields=["data.ac.power_active"])]
    ),
    "without voltage": (
        _nothing, [Fault(kind="missing", components=[1], fields=["data.ac.phase_2.voltage"])]
    ),
    "without currents": (
        _nothing, [Fault(kind="missing", components=[1], fields=["data.ac.phase_1.current"])]
    ),
    "without bounds": (
        _nothing,
        [
            Fault(
                kind="missing",
                components=[1],
                fields=["data.ac.power_active.system_inclusion_bounds"],
            )
        ],
    ),
    "with a state that nobody knows": (_nothing, [Fault(kind="wrong-enum")]),
    "late": (_nothing, [Fault(kind="late", seconds=77.0)]),
}  # fmt: skip


def decoded(api: Any, component_id: int, category: ComponentCategory, payload: bytes) -> Any:
    try:
        return decode(api.stream_data(component_id, category), payload)
    except UndecodableMessage:
        return None


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", ["demo", "depot", "every_category"])
def test_same_values(name: str, situation: str) -> None:
    prepare, faults = SITUATIONS[situation]
    site = load_site(name, start=NOON)
    prepare(site)
    compared = 0
    for _ in range(20):
        site.advance(7.0)
        for component in site.components.values():
            category = STREAMED.get(component.category)
            if category is None:
                continue
            reading = read(site, component)
            is_ac = category is not ComponentCategory.BATTERY
            for fault in faults if is_ac or not _of_ac(faults) else []:
                fault.change(reading)
            number = component.component_id
            old = decoded(V0_15, number, category, v0_15_messages.encode(reading))
            encode = v1alpha18_messages.encoder(frozenset())
            new = decoded(V1_ALPHA_18, number, category, encode(reading))
            assert old is not None
            assert new is not None
            for field in fields(old):
                if field.name in LOSSES or field.name == "raw":
                    continue
                values = getattr(old, field.name), getattr(new, field.name)
                if situation in _WITHOUT_EXCLUSION and "exclusion" in field.name:
                    # Ranges say both or nothing.
                    continue
                assert values[0] == values[1] or _both_nan(*values), f"{number}: {field.name}"
                compared += 1
    assert compared > 500


def _of_ac(faults: list[Fault]) -> bool:
    return any(
        "ac" in path.split(".") for fault in faults for path in getattr(fault, "fields", None) or ()
    )


def _both_nan(one: Any, two: Any) -> bool:
    if isinstance(one, tuple):
        pairs = zip(one, two, strict=True)
        return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs)
    return isinstance(one, float) and math.isnan(one) and math.isnan(two)
