"""Whole sites: what flows where, voltages, loads, and one seed that is one life."""

import statistics
import struct
from datetime import UTC, datetime, timedelta

import pytest

from microgrid_sync.simulator import Site, load_site, shipped_sites
from microgrid_sync.simulator.physics.components import STREAMING, ComponentError, SiteCategory
from microgrid_sync.simulator.physics.devices import PROFILES, profile_at
from microgrid_sync.simulator.physics.readings import read
from microgrid_sync.simulator.serving.v0_15_messages import encode
from microgrid_sync.wire import v0_15_schema as schema
from tests.simulator.descriptions import CHARGER, METER, imbalance, small_site

DAY = 86_400


@pytest.mark.computes
@pytest.mark.parametrize("name", shipped_sites())
def test_power_balances_at_every_meter_for_a_day(name: str) -> None:
    site = load_site(name, start=datetime(2026, 6, 22, tzinfo=UTC))
    highest = 0.0
    for step in range(DAY // 30):
        site.advance(30.0)
        # Far less than the watt that a reader could see: only the order of adding differs.
        assert imbalance(site) < 1e-6
        if step % 10 == 0:
            assert told_imbalance(site) < 1.0
        highest = max(highest, abs(site.flows[2].power))
    assert highest > 5000


def told_imbalance(site: Site) -> float:
    """The most by which a meter's message differs from those of what is behind it, in W.

    Messages have fewer digits. Meters with something behind them that says nothing are left out.
    """
    powers: dict[int, float] = {}
    for component_id, component in site.components.items():
        if component.category in STREAMING - {SiteCategory.BATTERY, SiteCategory.SENSOR}:
            power = read(site, component).values["data"]["ac"]["power_active"]["value"]
            powers[component_id] = struct.unpack("f", struct.pack("f", power))[0]
        elif component.category is SiteCategory.UNSPECIFIED:
            powers[component_id] = 0.0
    return max(
        abs(powers[meter] - sum(powers[successor] for successor in site.successors(meter)))
        for meter, component in site.components.items()
        if component.category is SiteCategory.METER
        and site.successors(meter)
        and all(successor in powers for successor in site.successors(meter))
    )


@pytest.mark.parametrize("name", shipped_sites())
def test_one_seed_is_one_life(name: str) -> None:
    def lived(seed: int) -> list[bytes]:
        site = load_site(name, seed=seed, start=datetime(2026, 6, 22, tzinfo=UTC))
        streaming = [c for c in site.components.values() if c.category in STREAMING]
        messages: list[bytes] = []
        for _ in range(DAY // 900):
            site.advance(900.0)
            messages += [encode(read(site, component)) for component in streaming]
        return messages

    life = lived(1)
    assert life == lived(1)
    assert life != lived(2)


def test_depot_is_a_depot() -> None:
    site = load_site("depot")
    chargers = [c for c in site.components.values() if c.category is SiteCategory.EV_CHARGER]
    assert len(chargers) == 24
    meters = {
        meter
        for meter in site.components
        for successor in site.successors(meter)
        if site.components[successor].category is SiteCategory.EV_CHARGER
    }
    assert len(meters) == 4
    assert all(site.components[meter].category is SiteCategory.METER for meter in meters)


def test_every_category_is_there() -> None:
    site = load_site("every_category")
    assert {c.category for c in site.components.values()} == set(SiteCategory)


def test_voltage_sags_with_load_and_rises_with_supply() -> None:
    def voltages(power: float) -> tuple[float, float, float]:
        site = small_site(
            {"id": 3, "category": "inverter", "type": "solar", "peak": 60_000.0, "phases": [2]},
            METER | {"load": "constant", "load_power": power},
            weather={"cloudiness": 0.0},
            supply={"resistance": 0.2},
        )
        site.advance(60.0)
        site.advance(1.0)
        return site.line.voltage

    light, heavy = voltages(100.0), voltages(60_000.0)
    # 20 kW and 87 A a phase at 0.2 ohm; on the second phase the sun gives more than is drawn.
    assert light[0] - heavy[0] == pytest.approx(17.4, abs=1.0)
    assert light[1] > light[0] + 20


def test_voltage_and_frequency_fluctuate_about_their_nominal_values() -> None:
    site = small_site(METER)
    voltages, frequencies = [], []
    for _ in range(2000):
        site.advance(60.0)
        voltages.append(site.line.voltage[0])
        frequencies.append(site.line.frequency)
    assert statistics.mean(voltages) == pytest.approx(230.0, abs=0.5)
    assert 0.5 < statistics.pstdev(voltages) < 2.5
    assert statistics.mean(frequencies) == pytest.approx(50.0, abs=0.003)
    assert 0.005 < statistics.pstdev(frequencies) < 0.03


def test_voltages_and_frequencies_of_other_countries() -> None:
    site = small_site(METER, supply={"voltage": 120.0, "frequency": 60.0})
    assert site.line.voltage[0] == pytest.approx(120.0, abs=5)
    assert site.line.frequency == pytest.approx(60.0, abs=0.2)


@pytest.mark.parametrize("profile", PROFILES)
def test_load_follows_its_profile(profile: str) -> None:
    site = small_site(METER | {"load": profile, "load_power": 10_000.0})
    drawn, expected = [], []
    for _ in range(3 * 24 * 12):
        site.advance(300.0)
        flow = site.flows[9]
        assert min(flow.active) >= 0
        drawn.append(flow.power)
        expected.append(10_000 * profile_at(profile, site.time))
    assert profile == "constant" or statistics.correlation(drawn, expected) > 0.9
    assert statistics.mean(drawn) == pytest.approx(statistics.mean(expected), rel=0.05)
    assert len(set(site.flows[9].active)) == 3


def test_people_work_by_day_and_not_on_weekends() -> None:
    monday = datetime(2026, 6, 22, tzinfo=UTC)
    by_hour = [profile_at("workplace", monday + timedelta(hours=hour)) for hour in range(24)]
    assert max(by_hour) == by_hour[10] == 1.0
    assert by_hour[3] < 0.2
    assert profile_at("workplace", monday - timedelta(hours=14)) < 0.3
    evening = profile_at("household", monday + timedelta(hours=19))
    assert evening == 1.0
    assert profile_at("household", monday + timedelta(hours=3, minutes=30)) < 0.2


def test_load_is_inductive() -> None:
    site = small_site(METER | {"load": "household", "load_power": 5000.0})
    site.advance(60.0)
    assert sum(site.flows[9].reactive) < 0


def test_heat_and_power_runs_at_its_hours() -> None:
    plant = {"id": 8, "category": "chp", "rating": 6000.0, "starts": "22:00", "stops": "06:00"}
    site = small_site(plant, start=datetime(2026, 6, 21, tzinfo=UTC))
    found = []
    for _ in range(24):
        site.advance(1800.0)
        found.append(site.flows[8].power)
        site.advance(1800.0)
    assert found == [-6000.0 if hour < 6 or hour >= 22 else 0.0 for hour in range(24)]


def test_heat_and_power_starts_slowly() -> None:
    plant = {"id": 8, "category": "chp", "rating": 6000.0, "starts": "00:00", "stops": "23:00"}
    site = small_site(plant)
    site.advance(10.0)
    assert site.flows[8].power == pytest.approx(-1000.0)


def test_error_stops_a_device_until_it_is_over() -> None:
    site = small_site(CHARGER, car=[{"chargers": [7], "ramp": 1e6}])
    site.advance(1.0)
    assert site.flows[2].power > 10_000
    site.fail(7, ComponentError("OVERCURRENT", "too much"))
    site.advance(1.0)
    assert site.flows[2].power == 0.0
    message = schema.ComponentData.FromString(encode(read(site, site.components[7])))
    assert [(e.code, e.msg) for e in message.ev_charger.errors] == [(4, "too much")]
    site.recover(7)
    site.advance(1.0)
    assert site.flows[2].power > 10_000
