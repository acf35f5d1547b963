"""Makes devices of the tables of a site's description, and checks what is in these together.

A check is given the values that are right (see `Check`), so that one mistake hides no other.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from microgrid_sync.simulator.description.tables import (
    ApplianceTable,
    BatteryTable,
    ChargerTable,
    GridTable,
    InverterTable,
    PlantTable,
    SolarInverterTable,
)
from microgrid_sync.simulator.physics.appliances import Appliance
from microgrid_sync.simulator.physics.cars import ScheduledCar
from microgrid_sync.simulator.physics.charger import EVCharger
from microgrid_sync.simulator.physics.components import SiteCategory
from microgrid_sync.simulator.physics.devices import HeatAndPower
from microgrid_sync.simulator.physics.fuses import PhaseFuse
from microgrid_sync.simulator.physics.inverters import Battery, Inverter
from microgrid_sync.simulator.physics.limits import Limits
from microgrid_sync.tables import Check, no_check

VISIT_KEYS = ("arrives", "leaves", "stays", "away")
"""Either the first two say when a car comes and goes, or the last two."""


def check_of(category: SiteCategory, voltage: float | None) -> Check:
    """Give what checks the values of a component against each other."""
    checks: dict[SiteCategory, Check] = {
        SiteCategory.METER: _check_meter,
        SiteCategory.BATTERY: _check_battery,
        SiteCategory.INVERTER: _check_inverter,
        SiteCategory.EV_CHARGER: functools.partial(_check_charger, voltage=voltage),
        SiteCategory.CHP: _check_plant,
    }
    return checks.get(category, no_check)


def _check_meter(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    has_load = values.get("load", "wrong") is not None
    has_power = values.get("load_power", "wrong") is not None
    if has_power and not has_load:
        yield "load_power", "is of no use without 'load'"
    # What cannot be read is there all the same.
    if has_load and not has_power:
        yield "load_power", "is missing"


def _check_battery(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if values.keys() >= {"soc_lower", "soc_upper"}:
        lower, upper = values["soc_lower"], values["soc_upper"]
        if upper <= lower:
            yield "soc_upper", f"must be more than {lower:g} and at most 100, not {upper:g}"


def _check_inverter(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    rating = values.get("rating")
    if rating is None and "rating" in values:
        rating = values.get("peak")
    if rating is not None:
        yield from _check_at_most(values, "minimum_power", rating)
        yield from _check_at_most(values, "resolution", rating)


def _check_charger(values: dict[str, Any], voltage: float | None) -> Iterator[tuple[str, str]]:
    if voltage is not None and values.keys() >= {"rated_current", "phases"}:
        rating = values["rated_current"] * len(values["phases"]) * voltage
        yield from _check_at_most(values, "resolution", rating)


def _check_plant(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if values.keys() >= {"starts", "stops"} and values["starts"] == values["stops"]:
        yield "stops", "must differ from 'starts'"


def _check_at_most(values: dict[str, Any], key: str, most: float) -> Iterator[tuple[str, str]]:
    if key in values and values[key] > most:
        yield key, f"must be from 0 to {most:g}, not {values[key]:g}"


def check_car(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Check the values of a car against each other."""
    if "chargers" in values and not values["chargers"]:
        yield "chargers", "names none"
    if values.keys() >= {"soc", "target_soc"} and values["soc"][0] >= values["target_soc"]:
        yield "soc", f"must begin below the {values['target_soc']:g} % at which it stops"
    # What cannot be read is there all the same.
    there = [key for key in VISIT_KEYS if values.get(key, "wrong") is not None]
    if not there:
        return
    # The first that is there decides which of the two ways it is.
    wanted = VISIT_KEYS[:2] if there[0] in VISIT_KEYS[:2] else VISIT_KEYS[2:]
    for key in there:
        if key not in wanted:
            yield key, f"cannot be used together with {there[0]!r}"
    for key in wanted:
        if key not in there:
            yield key, "is missing"
    arrives, leaves = values.get("arrives"), values.get("leaves")
    if arrives and leaves and arrives[1] > leaves[0] and leaves[1] > arrives[0]:
        yield "leaves", "must not overlap with 'arrives': the car could leave before it comes"


def battery_from(table: BatteryTable) -> Battery:
    """Make a battery."""
    return Battery(
        table.id,
        table.capacity,
        table.capacity / 2 if table.rating is None else table.rating,
        soc=table.soc,
        soc_lower=table.soc_lower,
        soc_upper=table.soc_upper,
        efficiency=table.efficiency,
    )


def inverter_from(table: InverterTable, batteries: list[Battery]) -> Inverter:
    """Make an inverter."""
    peak = table.peak if isinstance(table, SolarInverterTable) else 0.0
    rating = peak if table.rating is None else table.rating
    # Only inverters with batteries have a mode.
    balances = getattr(table, "mode", "idle") == "self-consumption"
    minimum = table.minimum_power
    return Inverter(
        table.id,
        Limits(-rating, rating if batteries else 0.0, -minimum or 0.0, minimum),
        _reactive(table.reactive_rating, rating),
        table.phases,
        resolution=table.resolution,
        rating=rating,
        peak=peak,
        batteries=tuple(batteries),
        efficiency=table.efficiency,
        ramp=rating if table.ramp is None else table.ramp,
        balances=balances and bool(batteries),
    )


def charger_from(
    table: ChargerTable, scheduled_cars: Sequence[ScheduledCar], voltage: float
) -> EVCharger:
    """Make an EV charger with the cars that come to it."""
    rating = table.rated_current * len(table.phases) * voltage
    return EVCharger(
        table.id,
        Limits(0.0, rating),
        _reactive(table.reactive_rating, rating),
        table.phases,
        rated_current=table.rated_current,
        reports_own_phases=table.reports_own_phases,
        scheduled_cars=scheduled_cars,
        resolution=table.resolution,
    )


def appliance_from(table: ApplianceTable, seed: int, number: int) -> Appliance:
    """Make an appliance.

    Args:
        table: Its table.
        seed: The site's seed.
        number: Which one of the site's it is.
    """
    return Appliance(
        table.power,
        table.phases,
        table.times,
        table.lasts,
        (table.begins, table.ends),
        table.inrush,
        table.inrush_lasts,
        table.reactive,
        (seed, table.at, number),
    )


def fuses_from(table: GridTable, seed: int) -> list[PhaseFuse]:
    """Make the fuses of a grid connection, one for each phase; none if they cannot blow."""
    if table.fuse_type is None:
        return []
    return [PhaseFuse(table.fuse, table.fuse_type, seed, table.id, p) for p in (1, 2, 3)]


def plant_from(table: PlantTable) -> HeatAndPower:
    """Make a heat and power plant."""
    ramp = table.rating / 60 if table.ramp is None else table.ramp
    return HeatAndPower(table.id, table.rating, (table.starts, table.stops), ramp)


def _reactive(reactive_rating: float | None, rating: float) -> Limits:
    most = rating / 2 if reactive_rating is None else reactive_rating
    return Limits(-most, most)
