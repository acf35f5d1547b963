"""Makes devices and cars of the tables of a site's description."""

from collections.abc import Sequence

from microgrid_sync.simulator.cars import Car, ScheduledCar
from microgrid_sync.simulator.charger import EVCharger
from microgrid_sync.simulator.devices import HeatAndPower
from microgrid_sync.simulator.electricity import ALL_PHASES
from microgrid_sync.simulator.inverters import Battery, Inverter
from microgrid_sync.simulator.limits import Limits
from microgrid_sync.simulator.site import SiteComponent
from microgrid_sync.simulator.tables import Table

_MODES = ("idle", "self-consumption")


def _reactive(table: Table, rating: float) -> Limits:
    most = table.number("reactive_rating", rating / 2, least=0, most=1e9)
    return Limits(-most, most)


def _phases(table: Table) -> tuple[int, ...]:
    phases = table.whole_numbers("phases", ALL_PHASES)
    if not phases or not set(phases) <= set(ALL_PHASES):
        raise table.error("phases", f"must be some of 1, 2 and 3, not {phases!r}")
    return tuple(phases)


def battery_from(component_id: int, table: Table) -> Battery:
    """Read a battery."""
    capacity = table.number("capacity", above=0, most=1e12)
    lower = table.number("soc_lower", 10.0, least=0, most=100)
    upper = table.number("soc_upper", 95.0, above=lower, most=100)
    return Battery(
        component_id,
        capacity,
        table.number("rating", capacity / 2, above=0, most=1e12),
        soc=table.number("soc", 50.0, least=0, most=100),
        soc_lower=lower,
        soc_upper=upper,
        efficiency=table.number("efficiency", 0.97, above=0, most=1),
    )


def inverter_from(component: SiteComponent, table: Table, batteries: list[Battery]) -> Inverter:
    """Read an inverter with the batteries behind it."""
    solar = component.type in {"solar", "hybrid"}
    peak = table.number("peak", above=0, most=1e9) if solar else 0.0
    rating = table.number("rating", peak or None, above=0, most=1e9)
    minimum = table.number("minimum_power", 0.0, least=0, most=rating)
    mode = table.word("mode", "idle", among=_MODES) if batteries else "idle"
    return Inverter(
        component.component_id,
        Limits(-rating, rating if batteries else 0.0, -minimum or 0.0, minimum),
        _reactive(table, rating),
        _phases(table),
        resolution=table.number("resolution", 0.0, least=0, most=rating),
        rating=rating,
        peak=peak,
        batteries=tuple(batteries),
        efficiency=table.number("efficiency", 0.97, above=0, most=1),
        ramp=table.number("ramp", rating, above=0, most=1e12),
        balances=mode == "self-consumption",
    )


def charger_from(
    component_id: int, table: Table, scheduled_cars: Sequence[ScheduledCar], voltage: float
) -> EVCharger:
    """Read an EV charger with the cars that come to it."""
    phases = _phases(table)
    current = table.number("rated_current", 32.0, least=6, most=1000)
    rating = current * len(phases) * voltage
    return EVCharger(
        component_id,
        Limits(0.0, rating),
        _reactive(table, rating),
        phases,
        rated_current=current,
        scheduled_cars=scheduled_cars,
        resolution=table.number("resolution", 0.0, least=0, most=rating),
    )


def heat_and_power_from(component_id: int, table: Table) -> HeatAndPower:
    """Read a heat and power plant."""
    rating = table.number("rating", above=0, most=1e9)
    starts, stops = table.time_of_day("starts"), table.time_of_day("stops")
    if starts == stops:
        raise table.error("stops", "must differ from 'starts'")
    ramp = table.number("ramp", rating / 60, above=0, most=1e12)
    return HeatAndPower(component_id, rating, (starts, stops), ramp)


def car_from(table: Table) -> Car:
    """Read a car; its charge is drawn anew for each visit."""
    return Car(
        power=table.number("power", Car.power, above=0, most=1e7),
        phases=table.whole("phases", Car.phases, least=1, most=3),
        capacity=table.number("capacity", Car.capacity, above=0, most=1e9),
        target_soc=table.number("target_soc", Car.target_soc, above=0, most=100),
        cable_current=table.number("cable_current", Car.cable_current, least=6, most=1000),
        taper_above=table.number("taper_above", Car.taper_above, least=0, most=99.9),
        ramp=table.number("ramp", Car.ramp, above=0, most=1e9),
        efficiency=table.number("efficiency", Car.efficiency, above=0, most=1),
    )
