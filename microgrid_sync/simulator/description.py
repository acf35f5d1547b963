"""Makes a site of data: a description in TOML, or the same structure in Python."""

import functools
import tomllib
import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from importlib import resources
from pathlib import Path
from typing import Any

from microgrid_sync.simulator.cars import Car, ScheduledCar, Visits, again_and_again, always, daily
from microgrid_sync.simulator.device_tables import (
    battery_from,
    car_from,
    charger_from,
    heat_and_power_from,
    inverter_from,
)
from microgrid_sync.simulator.devices import PROFILES, Device, Load
from microgrid_sync.simulator.fault_tables import check_fault, read_fault
from microgrid_sync.simulator.faults import Fault
from microgrid_sync.simulator.inverters import Battery
from microgrid_sync.simulator.messages import SENSOR_TYPES
from microgrid_sync.simulator.randomness import generator
from microgrid_sync.simulator.site import (
    STREAMING,
    Site,
    SiteCategory,
    SiteComponent,
    Supply,
)
from microgrid_sync.simulator.structure import check_structure, inverter_of
from microgrid_sync.simulator.tables import SiteError, Table, is_list, shown
from microgrid_sync.simulator.weather import Weather

SiteSource = str | Path | Mapping[str, Any]
"""A shipped site's name, the path of a TOML file, or the structure of such a file."""

_SHIPPED = "sites"
_CATEGORIES = {category.name.lower(): category for category in SiteCategory}
_INVERTER_TYPES = ("solar", "battery", "hybrid")
_LARGEST_ID = 2**63 - 1
_NOMINAL_VOLTAGE = 230.0


def shipped_sites() -> list[str]:
    """Give the names of the sites that come with the package."""
    folder = resources.files(__package__) / _SHIPPED
    names = (file.name for file in folder.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_site(
    source: SiteSource = "demo",
    *,
    seed: int | None = None,
    start: datetime | None = None,
    sample_interval: float | None = None,
) -> Site:
    """Make a site of its description.

    Args:
        source: The name of a shipped site, the path of a TOML file, or the structure that such a
            file has as a mapping.
        seed: Takes the place of the description's own.
        start: Date and time at which its clock begins, in place of the description's own.
        sample_interval: Seconds between two samples of every component, in place of the
            description's own.

    Returns:
        The site, at second 0 of its clock. The same description and seed have the same history.

    Raises:
        SiteError: If the description is wrong; its text names the file, the key or line, and says
            what would be right.
        OSError: If the file cannot be read.
    """
    values, where = _read(source)
    overrides = {"seed": seed, "start": start, "sample_interval": sample_interval}
    given = {key: value for key, value in overrides.items() if value is not None}
    if isinstance(values, Mapping):
        values = {**values, **given}
        if sample_interval is not None and is_list(values.get("component")):
            values["component"] = [_without_interval(c) for c in values["component"]]
    return _Reader(Table(values, where)).site()


def _read(source: SiteSource) -> tuple[object, str]:
    """Give the structure of a description, and what to call it in errors."""
    if isinstance(source, Mapping):
        return source, "site"
    if not isinstance(source, str | Path):
        raise TypeError(f"a site is a name, a path or a mapping, not {shown(source)}")
    path = Path(source)
    if isinstance(source, str) and source in shipped_sites():
        text = (resources.files(__package__) / _SHIPPED / f"{source}.toml").read_text("utf-8")
    elif "\0" in str(source) or not str(source).isprintable():
        raise SiteError(f"{str(source)!r} cannot be the path of a file")
    elif not source or (isinstance(source, str) and not path.suffix and not path.exists()):
        known = ", ".join(shipped_sites())
        raise SiteError(f"{source!r} is no file, and none of the sites that are shipped: {known}")
    else:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SiteError(f"{source}: is no UTF-8 text: {error}") from None
    try:
        return tomllib.loads(text), str(source)
    except RecursionError:
        raise SiteError(f"{source}: is nested too deeply") from None
    except ValueError as error:
        # TOMLDecodeError, which names the line, or what Python says of endless numbers.
        raise SiteError(f"{source}: {error}") from None


def _without_interval(component: object) -> object:
    if not isinstance(component, Mapping):
        return component
    return {key: value for key, value in component.items() if key != "sample_interval"}


class _Reader:
    """Reads one description. What one table says is checked at once, and the whole at the end."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._seed = table.whole("seed", 0, least=-(2**63), most=_LARGEST_ID)
        self._interval = table.interval("sample_interval", 1.0)
        self._components: dict[int, SiteComponent] = {}
        self._tables: dict[int, Table] = {}
        self._connections: list[tuple[int, int]] = []
        self._occupied: set[int] = set()
        self._voltage = _NOMINAL_VOLTAGE

    def site(self) -> Site:
        """Read everything."""
        table = self._table
        latitude, longitude, zone = self._location(table.table("location"))
        weather = self._weather(table.table("weather"), latitude, longitude)
        supply = self._supply(table.table("supply"))
        for entry in table.tables("component"):
            self._component(entry)
        self._connections = self._read_connections()
        check_structure(table.where, self._components, self._connections)
        scheduled_cars: dict[int, list[ScheduledCar]] = {}
        for entry in table.tables("car"):
            self._car(entry, scheduled_cars)
        devices = self._devices(scheduled_cars)
        for entry in self._tables.values():
            entry.end()
        faults = [self._fault(entry) for entry in table.tables("fault")]
        site = Site(
            name=table.word("name", Path(table.where).stem),
            microgrid_id=table.whole("microgrid_id", 1, least=0, most=_LARGEST_ID),
            seed=self._seed,
            latitude=latitude,
            longitude=longitude,
            zone=zone,
            start=table.moment("start"),
            supply=supply,
            weather=weather,
            components=list(self._components.values()),
            connections=self._connections,
            devices=devices,
            faults=faults,
            set_point_lifetime=table.seconds("set_point_lifetime", 60.0),
            bounds_lifetime=table.seconds("bounds_lifetime", 5.0),
        )
        table.end()
        return site

    def _location(self, table: Table) -> tuple[float, float, tzinfo]:
        latitude = table.number("latitude", 52.52, least=-90, most=90)
        longitude = table.number("longitude", 13.405, least=-180, most=180)
        key = table.word("timezone", "UTC")
        table.end()
        if key == "UTC":
            return latitude, longitude, UTC
        try:
            return latitude, longitude, zoneinfo.ZoneInfo(key)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            problem = f"{key!r} is no time zone such as 'Europe/Berlin'"
            raise table.error("timezone", problem) from None

    def _weather(self, table: Table, latitude: float, longitude: float) -> Weather:
        weather = Weather(
            self._seed,
            latitude=latitude,
            longitude=longitude,
            cloudiness=table.number("cloudiness", 0.4, least=0, most=1),
            temperature=table.number("temperature", 12.0, least=-60, most=60),
        )
        table.end()
        return weather

    def _supply(self, table: Table) -> Supply:
        self._voltage = table.number("voltage", _NOMINAL_VOLTAGE, least=50, most=1000)
        supply = Supply(
            self._seed,
            voltage=self._voltage,
            frequency=table.number("frequency", 50.0, least=10, most=400),
            resistance=table.number("resistance", 0.02, least=0, most=10),
        )
        table.end()
        return supply

    def _component(self, table: Table) -> None:
        component_id = table.whole("id", least=1, most=_LARGEST_ID)
        if component_id in self._components:
            raise table.error("id", f"there is a component {component_id} already")
        word = table.word("category", among=_CATEGORIES)
        table.where = f"{self._table.where}: component {component_id} ({word})"
        category = _CATEGORIES[word]
        interval = self._interval
        if category in STREAMING:
            interval = table.interval("sample_interval", self._interval)
        kind = None
        if category is SiteCategory.INVERTER:
            kind = table.word("type", among=_INVERTER_TYPES)
        elif category is SiteCategory.SENSOR:
            kind = table.word("type", among=SENSOR_TYPES)
        fuse = None
        if category is SiteCategory.GRID:
            fuse = table.number("fuse", 63.0, least=1, most=2**31)
        self._tables[component_id] = table
        self._components[component_id] = SiteComponent(
            component_id,
            category,
            table.word("name", f"{word.replace('_', ' ')} {component_id}"),
            kind,
            fuse,
            interval,
        )

    def _read_connections(self) -> list[tuple[int, int]]:
        value = self._table.raw("connections", [])
        problem = "must be a list of pairs of IDs such as [[1, 2], [2, 3]]"
        if not is_list(value):
            raise self._table.error("connections", f"{problem}, not {shown(value)}")
        pairs = []
        for number, pair in enumerate(value, 1):
            if (
                not is_list(pair)
                or len(pair) != 2
                or not all(isinstance(i, int) and not isinstance(i, bool) for i in pair)
            ):
                raise self._table.error(
                    "connections", f"{problem}; number {number} is {shown(pair)}"
                )
            pairs.append((pair[0], pair[1]))
        return pairs

    def _devices(self, scheduled_cars: Mapping[int, Sequence[ScheduledCar]]) -> list[Device]:
        feeding = {start for start, _ in self._connections}
        feeders = {end: start for start, end in self._connections}
        batteries: dict[int, list[Battery]] = {}
        for component_id, component in self._components.items():
            if component.category is SiteCategory.BATTERY:
                inverter = inverter_of(component_id, self._components, feeders)
                if inverter is not None:
                    battery = battery_from(component_id, self._tables[component_id])
                    batteries.setdefault(inverter, []).append(battery)
        devices = []
        for component_id, component in self._components.items():
            table = self._tables[component_id]
            device: Device | None = None
            match component.category:
                case SiteCategory.METER if table.has("load"):
                    if component_id in feeding:
                        problem = "only a meter that feeds no component can have a load"
                        raise table.error("load", problem)
                    device = self._load(component_id, table)
                case SiteCategory.INVERTER:
                    device = inverter_from(component, table, batteries.get(component_id, []))
                case SiteCategory.EV_CHARGER:
                    cars_here = scheduled_cars.get(component_id, ())
                    device = charger_from(component_id, table, cars_here, self._voltage)
                case SiteCategory.CHP:
                    device = heat_and_power_from(component_id, table)
                case SiteCategory.ELECTROLYZER | SiteCategory.CRYPTO_MINER:
                    power = table.number("rating", above=0, most=1e9)
                    device = Load(component_id, profile="constant", power=power, seed=self._seed)
                case _:
                    pass
            if device is not None:
                devices.append(device)
        return devices

    def _load(self, component_id: int, table: Table) -> Load:
        return Load(
            component_id,
            profile=table.word("load", among=PROFILES),
            power=table.number("load_power", above=0, most=1e9),
            seed=self._seed,
        )

    def _car(self, table: Table, scheduled_cars: dict[int, list[ScheduledCar]]) -> None:
        chargers = table.whole_numbers("chargers")
        if not chargers:
            raise table.error("chargers", "names none")
        for charger in chargers:
            component = self._components.get(charger)
            if component is None:
                raise table.error("chargers", f"there is no component {charger}")
            if component.category is not SiteCategory.EV_CHARGER:
                problem = f"component {charger} is of category {component.category.name}"
                raise table.error("chargers", f"{problem}, not an EV charger")
        soc = table.range("soc", Car.soc, least=0, most=100)
        car = car_from(table)
        if soc[0] >= car.target_soc:
            problem = f"must begin below the {car.target_soc:g} % at which it stops"
            raise table.error("soc", problem)
        for charger in chargers:
            visits = self._visits(table, soc, charger, len(scheduled_cars.get(charger, ())))
            scheduled_cars.setdefault(charger, []).append(ScheduledCar(car, visits))
        table.end()

    def _visits(self, table: Table, soc: tuple[float, float], charger: int, number: int) -> Visits:
        # Each kind of car draws for itself, also where two share a charger.
        chance = functools.partial(generator, self._seed, "car", number, charger)
        if table.has("arrives") or table.has("leaves"):
            arrives, leaves = table.day_range("arrives"), table.day_range("leaves")
            if arrives[1] > leaves[0] and leaves[1] > arrives[0]:
                problem = "must not overlap with 'arrives': the car could leave before it comes"
                raise table.error("leaves", problem)
            return daily(arrives, leaves, soc, chance=chance)
        if table.has("stays") or table.has("away"):
            stays, away = table.seconds("stays"), table.seconds("away")
            if stays <= 0:
                raise table.error("stays", "must be more than 0")
            return again_and_again(stays, away, soc, chance=chance)
        if charger in self._occupied:
            raise table.error("chargers", f"at charger {charger} there is a car that never leaves")
        self._occupied.add(charger)
        return always(soc, chance=chance)

    def _fault(self, table: Table) -> Fault:
        fault = read_fault(table)
        try:
            check_fault(fault, self._components)
        except ValueError as error:
            raise SiteError(f"{table.where}: {error}") from None
        return fault
