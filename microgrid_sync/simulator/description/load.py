"""Makes a site of data: a description in TOML, or the same structure in Python."""

import functools
import tomllib
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from microgrid_sync.simulator.description.devices import (
    VISIT_KEYS,
    appliance_from,
    battery_from,
    charger_from,
    check_car,
    check_of,
    fuses_from,
    inverter_from,
    plant_from,
)
from microgrid_sync.simulator.description.structure import check_structure, inverter_of
from microgrid_sync.simulator.description.tables import (
    INVERTER_TABLES,
    TABLES,
    ApplianceTable,
    BatteryInverterTable,
    BatteryTable,
    CarTable,
    ChargerTable,
    ComponentTable,
    ConsumerTable,
    GridTable,
    LocationTable,
    MeterTable,
    PlantTable,
    SiteTable,
    SolarInverterTable,
    SupplyTable,
    WeatherTable,
)
from microgrid_sync.simulator.physics.appliances import Appliance
from microgrid_sync.simulator.physics.cars import (
    Car,
    ScheduledCar,
    Visits,
    again_and_again,
    always,
    daily,
)
from microgrid_sync.simulator.physics.components import SiteCategory, SiteComponent
from microgrid_sync.simulator.physics.devices import Device, Load
from microgrid_sync.simulator.physics.fuses import PhaseFuse
from microgrid_sync.simulator.physics.inverters import Battery
from microgrid_sync.simulator.physics.randomness import generator
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.simulator.physics.supply import Supply
from microgrid_sync.simulator.physics.weather import Weather
from microgrid_sync.simulator.trouble.fault import Fault, read_fault
from microgrid_sync.tables import (
    ComponentNumber,
    Mistakes,
    SiteError,
    did_you_mean,
    fields_of,
    is_list,
    none_of,
    read_fields,
    read_table,
    read_value,
    right_ones,
    shown,
)

T = TypeVar("T")

SiteSource = str | Path | Mapping[str, Any]
"""A shipped site's name, the path of a TOML file, or the structure of such a file."""

_SHIPPED = "sites"
_CATEGORIES = {category.name.lower(): category for category in SiteCategory}
_TABLES_BESIDE = (
    "location",
    "weather",
    "supply",
    "component",
    "connections",
    "car",
    "appliance",
    "fault",
)

_INVERTER_KEYS = frozenset(key for table in INVERTER_TABLES.values() for key in fields_of(table))
"""What an inverter of any type may have."""


class DescribedSite(Site):
    """A site, and what its description plans to go wrong there."""

    scheduled_faults: Sequence[Fault] = ()


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
) -> DescribedSite:
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
        SiteError: If the description is wrong; its text names all mistakes, each in a line, with
            the file, the table and the key or the line, and what would be right.
        OSError: If the file cannot be read.
    """
    values, where = _read(source)
    if not isinstance(values, Mapping):
        raise SiteError(f"{where}: must be a table, not {shown(values)}")
    overrides = {"seed": seed, "start": start, "sample_interval": sample_interval}
    given = {key: value for key, value in overrides.items() if value is not None}
    if sample_interval is not None and is_list(values.get("component")):
        components = [_without_interval(component) for component in values["component"]]
        values = {**values, "component": components}
    return _Reader({**values, **given}, where).site()


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
        known = shipped_sites()
        words = f"{source!r} is no file, and none of the sites that are shipped: {', '.join(known)}"
        raise SiteError(f"{words}{did_you_mean(source, known)}")
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


def _pair(value: Any) -> list[object]:
    return list(value) if is_list(value) else []


class _Reader:
    """Reads one description, and goes on after each mistake to find all of them."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._where = where
        self._mistakes = Mistakes()
        self._components: dict[int, SiteComponent] = {}
        # Only of those that are right.
        self._tables: dict[int, ComponentTable] = {}
        # The IDs of components that cannot be read so far that they count as one.
        self._unreadable: set[int] = set()
        self._some_without_id = False
        self._all_connected = True
        self._connections: list[tuple[int, int]] = []
        self._with_load: set[int] = set()
        self._occupied: set[int] = set()
        self._faults: list[Fault] = []
        self._scheduled_cars: dict[int, list[ScheduledCar]] = {}
        self._appliances: dict[int, list[Appliance]] = {}

    def site(self) -> DescribedSite:
        """Read everything."""
        mistakes = self._mistakes
        read_table(SiteTable, self._values, self._where, mistakes, beside=_TABLES_BESIDE)
        # What is wrong with the whole does not keep the rest from being checked.
        table = right_ones(SiteTable, self._values)
        location = self._one(LocationTable, "location")
        weather = self._one(WeatherTable, "weather")
        before = len(mistakes)
        supply = self._one(SupplyTable, "supply")
        voltage = supply.voltage if len(mistakes) == before else None
        zone = self._zone(location)
        for number, values in enumerate(self._list("component"), 1):
            self._component(values, number, table, voltage)
        self._read_connections()
        check_structure(
            self._where,
            self._components,
            self._connections,
            mistakes,
            unreadable=None if self._some_without_id else frozenset(self._unreadable),
            all_connected=self._all_connected,
        )
        self._check_loads()
        for number, values in enumerate(self._list("car"), 1):
            self._car(values, f"{self._where}: car {number}", table.seed)
        for number, values in enumerate(self._list("appliance"), 1):
            self._appliance(values, f"{self._where}: appliance {number}", table.seed, number)
        for number, values in enumerate(self._list("fault"), 1):
            self._fault(values, f"{self._where}: fault {number}")
        mistakes.raise_any()
        site = DescribedSite(
            name=Path(self._where).stem if table.name is None else table.name,
            microgrid_id=table.microgrid_id,
            seed=table.seed,
            latitude=location.latitude,
            longitude=location.longitude,
            zone=zone,
            start=table.start,
            supply=Supply(
                table.seed,
                voltage=supply.voltage,
                frequency=supply.frequency,
                resistance=supply.resistance,
            ),
            weather=Weather(
                table.seed,
                latitude=location.latitude,
                longitude=location.longitude,
                cloudiness=weather.cloudiness,
                temperature=weather.temperature,
            ),
            components=list(self._components.values()),
            connections=self._connections,
            devices=self._devices(supply.voltage, table.seed),
            set_point_lifetime=table.set_point_lifetime,
            bounds_lifetime=table.bounds_lifetime,
            fuses=self._fuses(table.seed),
        )
        site.scheduled_faults = self._faults
        return site

    def _one(self, kind: Callable[[], T], key: str) -> T:
        """Read a table that may be absent."""
        values = self._values.get(key, {})
        read_table(kind, values, f"{self._where}: {key}", self._mistakes)
        return right_ones(kind, values)

    def _list(self, key: str) -> list[object]:
        """Read a list of tables that may be absent."""
        values = self._values.get(key, [])
        if not is_list(values):
            problem = f"must be a list of tables, not {shown(values)}"
            self._mistakes.add(self._where, key, problem)
            # Of components that cannot be read nothing is known.
            self._some_without_id |= key == "component"
            return []
        return list(values)

    def _zone(self, location: LocationTable) -> tzinfo:
        if location.timezone == "UTC":
            return UTC
        try:
            return zoneinfo.ZoneInfo(location.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            hint = did_you_mean(location.timezone, zoneinfo.available_timezones())
            problem = f"{location.timezone!r} is no time zone such as 'Europe/Berlin'{hint}"
            self._mistakes.add(self._where, "location", "timezone", problem)
            return UTC

    # Components

    def _component(
        self, values: object, number: int, site: SiteTable, voltage: float | None
    ) -> None:
        here = f"{self._where}: component {number}"
        if not isinstance(values, Mapping):
            self._some_without_id = True
            self._mistakes.add(here, f"must be a table, not {shown(values)}")
            return
        component_id = self._component_id(values, here)
        if component_id is None:
            self._some_without_id = True
        category = self._category(values, here, component_id)
        if category is None:
            if component_id is not None:
                self._unreadable.add(component_id)
            # What components of all categories may have can be checked without one.
            said = {key: values[key] for key in ("name", "sample_interval") if key in values}
            read_fields(SiteTable, said, here, self._mistakes)
            return
        if component_id is not None:
            here = f"{self._where}: component {component_id} ({category.name.lower()})"
        kind = TABLES.get(category, ComponentTable)
        if category is SiteCategory.INVERTER:
            type_ = values.get("type")
            kind = INVERTER_TABLES.get(type_, kind) if isinstance(type_, str) else kind
        checked = {key: value for key, value in values.items() if key != "id"}
        # Of a type that nobody knows, what any type may have is known.
        is_type_unknown = category is SiteCategory.INVERTER and kind is TABLES[category]
        beside = _INVERTER_KEYS if is_type_unknown else ()
        # The ID has been read already, and is what it is even if the table is known by its place.
        table = read_table(
            kind,
            {**checked, "id": component_id or 1},
            here,
            self._mistakes,
            beside=beside,
            check=check_of(category, voltage),
        )
        if component_id is None:
            return
        if values.get("load") is not None:
            self._with_load.add(component_id)
        if is_type_unknown:
            self._unreadable.add(component_id)
            return
        type_ = values.get("type") if "type" in kind.__dataclass_fields__ else None
        type_ = type_ if isinstance(type_, str) else None
        self._list_component(component_id, category, table, site, type_)

    def _list_component(
        self,
        component_id: int,
        category: SiteCategory,
        table: ComponentTable | None,
        site: SiteTable,
        type_: str | None,
    ) -> None:
        if table is not None:
            self._tables[component_id] = table
        name = None if table is None else table.name
        interval = getattr(table, "sample_interval", None)
        self._components[component_id] = SiteComponent(
            component_id,
            category,
            f"{category.name.lower().replace('_', ' ')} {component_id}" if name is None else name,
            type_,
            table.fuse if isinstance(table, GridTable) else None,
            site.sample_interval if interval is None else interval,
        )

    def _component_id(self, values: Mapping[str, Any], here: str) -> int | None:
        if "id" not in values:
            self._mistakes.add(here, "id", "is missing")
            return None
        try:
            component_id: int = read_value(ComponentNumber, values["id"])
        except ValueError as error:
            self._mistakes.add(here, "id", str(error))
            return None
        if component_id in self._components or component_id in self._unreadable:
            self._mistakes.add(here, "id", f"there is a component {component_id} already")
            return None
        return component_id

    def _category(
        self, values: Mapping[str, Any], here: str, component_id: int | None
    ) -> SiteCategory | None:
        if component_id is not None:
            here = f"{self._where}: component {component_id}"
        word = values.get("category")
        if "category" not in values:
            self._mistakes.add(here, "category", "is missing")
        elif not isinstance(word, str):
            self._mistakes.add(here, "category", f"must be a string, not {shown(word)}")
        elif word not in _CATEGORIES:
            self._mistakes.add(here, "category", none_of(word, [*_CATEGORIES]))
        else:
            return _CATEGORIES[word]
        return None

    def _read_connections(self) -> None:
        values = self._values.get("connections", [])
        problem = "must be a list of pairs of IDs such as [[1, 2], [2, 3]]"
        if not is_list(values):
            self._mistakes.add(self._where, "connections", f"{problem}, not {shown(values)}")
            self._all_connected = False
            return
        for number, pair in enumerate(values, 1):
            try:
                start, end = (read_value(ComponentNumber, each) for each in _pair(pair))
            except ValueError:
                text = f"{problem}; number {number} is {shown(pair)}"
                self._mistakes.add(self._where, "connections", text)
                self._all_connected = False
            else:
                self._connections.append((start, end))

    # Devices and cars. Devices are made when all is right.

    def _devices(self, voltage: float, seed: int) -> list[Device]:
        feeders = {end: start for start, end in self._connections}
        batteries: dict[int, list[Battery]] = {}
        for component_id, table in self._tables.items():
            if isinstance(table, BatteryTable):
                inverter = inverter_of(component_id, self._components, feeders)
                if inverter is not None:
                    batteries.setdefault(inverter, []).append(battery_from(table))
        devices = (
            self._device(table, batteries.get(component_id, []), voltage, seed)
            for component_id, table in self._tables.items()
        )
        return [device for device in devices if device is not None]

    def _device(
        self, table: ComponentTable, batteries: list[Battery], voltage: float, seed: int
    ) -> Device | None:
        match table:
            case MeterTable(load=str(profile), load_power=float(power)):
                return self._load(table.id, profile, power, seed)
            case SolarInverterTable() | BatteryInverterTable():
                return inverter_from(table, batteries)
            case ChargerTable():
                return charger_from(table, self._scheduled_cars.get(table.id, ()), voltage)
            case PlantTable():
                return plant_from(table)
            case ConsumerTable():
                return self._load(table.id, "constant", table.rating, seed)
            case _:
                return None

    def _load(self, component_id: int, profile: str, power: float, seed: int) -> Load:
        appliances = self._appliances.get(component_id, ())
        return Load(component_id, profile=profile, power=power, seed=seed, appliances=appliances)

    def _fuses(self, seed: int) -> list[PhaseFuse]:
        grids = [table for table in self._tables.values() if isinstance(table, GridTable)]
        return fuses_from(grids[0], seed) if grids else []

    def _check_loads(self) -> None:
        feeding = {start for start, _ in self._connections}
        for component_id, component in self._components.items():
            if component_id in self._with_load and component_id in feeding:
                word = component.category.name.lower()
                here = f"{self._where}: component {component_id} ({word})"
                problem = "only a meter that feeds no component can have a load"
                self._mistakes.add(here, "load", problem)

    def _car(self, values: object, here: str, seed: int) -> None:
        table = read_table(CarTable, values, here, self._mistakes, check=check_car)
        chargers: tuple[int, ...] = ()
        if isinstance(values, Mapping):
            chargers = read_fields(CarTable, values, here, Mistakes()).get("chargers", ())
        stays_for_ever = isinstance(values, Mapping) and not any(k in values for k in VISIT_KEYS)
        for charger in chargers:
            self._check_charger(charger, here, stays_for_ever=stays_for_ever)
        if table is None:
            return
        car = Car(
            power=table.power,
            phases=table.phases,
            capacity=table.capacity,
            target_soc=table.target_soc,
            cable_current=table.cable_current,
            taper_above=table.taper_above,
            ramp=table.ramp,
            efficiency=table.efficiency,
            obeys_after=table.obeys_after,
            starts_after=table.starts_after,
            pauses_every=table.pauses_every,
            pause_lasts=table.pause_lasts,
        )
        for charger in chargers:
            before = self._scheduled_cars.setdefault(charger, [])
            # Each kind of car draws for itself, also where two share a charger.
            chance = functools.partial(generator, seed, "car", len(before), charger)
            before.append(ScheduledCar(car, _visits(table, chance)))

    def _check_charger(self, charger: int, here: str, *, stays_for_ever: bool) -> None:
        if stays_for_ever and charger in self._occupied:
            problem = f"at charger {charger} there is a car that never leaves"
            self._mistakes.add(here, "chargers", problem)
        if stays_for_ever:
            self._occupied.add(charger)
        component = self._components.get(charger)
        if component is None:
            if charger not in self._unreadable and not self._some_without_id:
                self._mistakes.add(here, "chargers", f"there is no component {charger}")
        elif component.category is not SiteCategory.EV_CHARGER:
            problem = f"component {charger} is of category {component.category.name}"
            self._mistakes.add(here, "chargers", f"{problem}, not an EV charger")

    def _appliance(self, values: object, here: str, seed: int, number: int) -> None:
        table = read_table(ApplianceTable, values, here, self._mistakes)
        if table is None:
            return
        component = self._components.get(table.at)
        if component is None:
            if table.at not in self._unreadable and not self._some_without_id:
                self._mistakes.add(here, "at", f"there is no component {table.at}")
        elif not isinstance(self._tables.get(table.at), ConsumerTable) and (
            table.at not in self._with_load
        ):
            problem = f"component {table.at} must be a meter with a load, or a consumer"
            self._mistakes.add(here, "at", problem)
        self._appliances.setdefault(table.at, []).append(appliance_from(table, seed, number))

    # Faults

    def _fault(self, values: object, here: str) -> None:
        # Those that cannot be read are there all the same, and nothing is held against them.
        unread = None if self._some_without_id else self._unreadable
        fault = read_fault(values, here, self._mistakes, self._components, unread)
        if fault is not None:
            self._faults.append(fault)


def _visits(table: CarTable, chance: Callable[..., Any]) -> Visits:
    if table.arrives is not None and table.leaves is not None:
        return daily(table.arrives, table.leaves, table.soc, chance=chance)
    if table.stays is not None and table.away is not None:
        return again_and_again(table.stays, table.away, table.soc, chance=chance)
    return always(table.soc, chance=chance)
