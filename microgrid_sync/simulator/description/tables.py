"""Defines the tables of a site's description: which keys they have, and what those may be."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from microgrid_sync.simulator.physics.appliances import Appliance
from microgrid_sync.simulator.physics.cars import Car
from microgrid_sync.simulator.physics.components import SiteCategory
from microgrid_sync.tables import (
    LARGEST_ID,
    ComponentNumber,
    DifferentNumbers,
    Durations,
    Interval,
    Moment,
    Percentages,
    Phases,
    PositiveSeconds,
    Seconds,
    Text,
    TimeOfDay,
    TimesOfDay,
)

Power = Annotated[float, Meta(gt=0, le=1e9)]
"""W."""

Part = Annotated[float, Meta(gt=0, le=1)]
Percent = Annotated[float, Meta(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True)
class LocationTable:
    """Where a site is."""

    latitude: Annotated[float, Meta(ge=-90, le=90)] = 52.52
    longitude: Annotated[float, Meta(ge=-180, le=180)] = 13.405
    timezone: Text = "UTC"


@dataclass(frozen=True, kw_only=True)
class WeatherTable:
    """What the weather is like on the average."""

    cloudiness: Annotated[float, Meta(ge=0, le=1)] = 0.4
    temperature: Annotated[float, Meta(ge=-60, le=60)] = 12.0


@dataclass(frozen=True, kw_only=True)
class SupplyTable:
    """The public grid at the site's connection."""

    voltage: Annotated[float, Meta(ge=50, le=1000)] = 230.0
    frequency: Annotated[float, Meta(ge=10, le=400)] = 50.0
    resistance: Annotated[float, Meta(ge=0, le=10)] = 0.02


@dataclass(frozen=True, kw_only=True)
class SiteTable:
    """What is said of the whole site; lists of other tables stand beside it."""

    name: Text | None = None
    microgrid_id: Annotated[int, Meta(ge=0, le=LARGEST_ID)] = 1
    seed: Annotated[int, Meta(ge=-(2**63), le=LARGEST_ID)] = 0
    sample_interval: Interval = 1.0
    start: Moment | None = None
    set_point_lifetime: Seconds = 60.0
    bounds_lifetime: Seconds = 5.0


@dataclass(frozen=True, kw_only=True)
class ComponentTable:
    """What is said of every component; those of most categories say more."""

    id: ComponentNumber
    category: str
    name: Text | None = None


@dataclass(frozen=True, kw_only=True)
class _StreamingTable(ComponentTable):
    sample_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class GridTable(ComponentTable):
    """A connection to the public grid."""

    fuse: Annotated[float, Meta(ge=1, le=2**31)] = 63.0
    fuse_type: Literal["gG", "B", "C", "D"] | None = None


@dataclass(frozen=True, kw_only=True)
class MeterTable(_StreamingTable):
    """A meter, perhaps with a load that is no component."""

    load: Literal["constant", "household", "workplace"] | None = None
    load_power: Power | None = None


@dataclass(frozen=True, kw_only=True)
class BatteryTable(_StreamingTable):
    """A battery."""

    capacity: Annotated[float, Meta(gt=0, le=1e12)]
    rating: Annotated[float, Meta(gt=0, le=1e12)] | None = None
    soc: Percent = 50.0
    soc_lower: Percent = 10.0
    soc_upper: Percent = 95.0
    efficiency: Part = 0.97


@dataclass(frozen=True, kw_only=True)
class _CommandedTable(_StreamingTable):
    reactive_rating: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    phases: Phases = (1, 2, 3)
    resolution: Annotated[float, Meta(ge=0, le=1e9)] = 0.0


@dataclass(frozen=True, kw_only=True)
class _InverterTable(_CommandedTable):
    type: Literal["solar", "battery", "hybrid"]
    minimum_power: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    efficiency: Part = 0.97
    ramp: Annotated[float, Meta(gt=0, le=1e12)] | None = None


@dataclass(frozen=True, kw_only=True)
class SolarInverterTable(_InverterTable):
    """An inverter of solar panels."""

    peak: Power
    rating: Power | None = None


@dataclass(frozen=True, kw_only=True)
class BatteryInverterTable(_InverterTable):
    """An inverter of batteries."""

    rating: Power
    mode: Literal["idle", "self-consumption"] = "idle"


@dataclass(frozen=True, kw_only=True)
class HybridInverterTable(SolarInverterTable):
    """An inverter of both."""

    mode: Literal["idle", "self-consumption"] = "idle"


InverterTable = SolarInverterTable | BatteryInverterTable | HybridInverterTable


@dataclass(frozen=True, kw_only=True)
class ChargerTable(_CommandedTable):
    """An EV charger."""

    rated_current: Annotated[float, Meta(ge=6, le=1000)] = 32.0
    reports_own_phases: bool = False


@dataclass(frozen=True, kw_only=True)
class PlantTable(ComponentTable):
    """A heat and power plant."""

    rating: Power
    starts: TimeOfDay
    stops: TimeOfDay
    ramp: Annotated[float, Meta(gt=0, le=1e12)] | None = None


@dataclass(frozen=True, kw_only=True)
class ConsumerTable(ComponentTable):
    """Something that always draws about the same."""

    rating: Power


@dataclass(frozen=True, kw_only=True)
class SensorTable(_StreamingTable):
    """A sensor of the weather."""

    type: Literal["thermometer", "hygrometer", "barometer", "pyranometer"]


INVERTER_TABLES: dict[str, type[ComponentTable]] = {
    "solar": SolarInverterTable,
    "battery": BatteryInverterTable,
    "hybrid": HybridInverterTable,
}
"""The table of each type of inverter."""

TABLES: dict[SiteCategory, type[ComponentTable]] = {
    SiteCategory.GRID: GridTable,
    SiteCategory.METER: MeterTable,
    SiteCategory.BATTERY: BatteryTable,
    SiteCategory.INVERTER: _InverterTable,
    SiteCategory.EV_CHARGER: ChargerTable,
    SiteCategory.CHP: PlantTable,
    SiteCategory.ELECTROLYZER: ConsumerTable,
    SiteCategory.CRYPTO_MINER: ConsumerTable,
    SiteCategory.SENSOR: SensorTable,
}
"""The table of each category; the others say nothing more than `ComponentTable`."""


@dataclass(frozen=True, kw_only=True)
class ApplianceTable:
    """Something that is switched on and off at a meter with a load, or at a consumer."""

    at: ComponentNumber
    power: Power
    phases: Phases = (1, 2, 3)
    times: Annotated[float, Meta(gt=0, le=86_400)] = Appliance.times
    lasts: Durations = Appliance.lasts
    begins: TimeOfDay = 0.0
    ends: TimeOfDay = 0.0
    inrush: Annotated[float, Meta(ge=1, le=100)] = Appliance.inrush
    inrush_lasts: Seconds = Appliance.inrush_lasts
    reactive: Annotated[float, Meta(ge=-10, le=10)] = Appliance.reactive


@dataclass(frozen=True, kw_only=True)
class CarTable:
    """A car that comes to some chargers."""

    chargers: DifferentNumbers
    soc: Percentages = (Car.soc, Car.soc)
    power: Annotated[float, Meta(gt=0, le=1e7)] = Car.power
    phases: Annotated[int, Meta(ge=1, le=3)] = Car.phases
    capacity: Power = Car.capacity
    target_soc: Annotated[float, Meta(gt=0, le=100)] = Car.target_soc
    cable_current: Annotated[float, Meta(ge=6, le=1000)] = Car.cable_current
    taper_above: Annotated[float, Meta(ge=0, le=99.9)] = Car.taper_above
    ramp: Power = Car.ramp
    efficiency: Part = Car.efficiency
    obeys_after: Seconds = Car.obeys_after
    starts_after: Seconds = Car.starts_after
    pauses_every: Seconds = Car.pauses_every
    pause_lasts: Seconds = Car.pause_lasts
    arrives: TimesOfDay | None = None
    leaves: TimesOfDay | None = None
    stays: PositiveSeconds | None = None
    away: Seconds | None = None
