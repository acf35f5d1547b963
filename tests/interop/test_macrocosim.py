"""Our client at a server that others wrote: macrocosim, which speaks v1alpha18.

Runs in an environment of its own: ``tox -e macrocosim``.
"""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from microgrid_sync import (
    ApiClientError,
    Bounds,
    ComponentCategory,
    Connection,
    InverterType,
    Metric,
    Microgrid,
    MicrogridApiClient,
    OperationNotImplemented,
    Power,
    Success,
)
from tests.support.waiting import PATIENCE, eventually

mc: Any = pytest.importorskip(
    "macrocosim",
    reason="macrocosim is installed in the environment 'macrocosim' only",
    exc_type=ImportError,
)

GRID, METER, STORAGE, BATTERY, SOLAR, CHARGERS, HOUSE = 1, 2, 3, 4, 5, (7, 8), 6


def kilowatts(value: float) -> Power:
    return Power.from_kilowatts(value)


def site_of_all() -> Any:
    """A site with one of everything, and two chargers."""
    from frequenz.quantities import Current, Energy, Percentage  # noqa: PLC0415 - only here

    battery = mc.battery(
        id=BATTERY,
        capacity=Energy.from_kilowatt_hours(92),
        initial_soc=Percentage.from_percent(50),
    )
    rated = (kilowatts(-5), kilowatts(5))
    behind = [
        mc.battery_inverter(id=STORAGE, rated=rated, successors=[battery]),
        mc.solar_inverter(id=SOLAR, rated=(kilowatts(-8), kilowatts(0))),
        *(mc.ev_charger(id=c, rated=(kilowatts(0), kilowatts(22))) for c in CHARGERS),
        mc.meter(id=HOUSE, power=Power.from_watts(1000)),
    ]
    meter = mc.meter(id=METER, successors=behind)
    grid = mc.grid(id=GRID, rated_fuse_current=Current.from_amperes(100), successors=[meter])
    return mc.Microgrid(id=1, topology=grid)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with mc.launch(site_of_all()) as site:
        yield "grpc://" + site.grpc_url.removeprefix("grpc://").split("?")[0]


@pytest.fixture
def client(url: str) -> Iterator[MicrogridApiClient]:
    with MicrogridApiClient(url) as client:
        yield client


def test_what_it_is_made_of(client: MicrogridApiClient) -> None:
    found = {c.component_id: c for c in client.components()}
    assert client.api == "v1alpha18"
    assert {i: c.category.name for i, c in found.items()} == {
        GRID: "GRID",
        METER: "METER",
        STORAGE: "INVERTER",
        BATTERY: "BATTERY",
        SOLAR: "INVERTER",
        HOUSE: "METER",
        **dict.fromkeys(CHARGERS, "EV_CHARGER"),
    }
    assert found[STORAGE].type is InverterType.BATTERY
    assert found[SOLAR].type is InverterType.SOLAR
    metadata = found[GRID].metadata
    assert metadata is not None
    assert metadata.fuse is not None
    assert metadata.fuse.max_current == 100.0
    assert found[STORAGE].name
    assert found[STORAGE].category_name == "INVERTER"
    connections = set(client.connections())
    assert {Connection(GRID, METER), Connection(STORAGE, BATTERY)} <= connections
    assert set(client.connections(starts={STORAGE})) == {Connection(STORAGE, BATTERY)}
    assert client.metadata().microgrid_id == 1
    assert client.sensors() == []


def test_all_kinds_of_data(client: MicrogridApiClient) -> None:
    meter = client.meter_data(METER).receive(PATIENCE)
    assert math.isfinite(meter.active_power)
    assert meter.voltage_per_phase[0] == pytest.approx(230, abs=30)
    assert abs(meter.timestamp - datetime.now(UTC)) < timedelta(minutes=1)
    inverter = client.inverter_data(STORAGE).receive(PATIENCE)
    assert inverter.active_power_inclusion_lower_bound == -5000.0
    assert inverter.active_power_inclusion_upper_bound == 5000.0
    battery = client.battery_data(BATTERY).receive(PATIENCE)
    assert battery.soc == pytest.approx(50, abs=5)
    assert battery.capacity == pytest.approx(92_000)
    charger = client.ev_charger_data(CHARGERS[0]).receive(PATIENCE)
    assert charger.is_ev_connected()
    assert math.isfinite(charger.active_power)
    house = client.meter_data(HOUSE).receive(PATIENCE)
    assert house.active_power == pytest.approx(1000, rel=0.1)


def test_telemetry(client: MicrogridApiClient) -> None:
    with client.telemetry(METER, {Metric.AC_POWER_ACTIVE, Metric.AC_FREQUENCY}) as receiver:
        found = receiver.receive(PATIENCE)
    assert set(found.metrics) == {Metric.AC_POWER_ACTIVE, Metric.AC_FREQUENCY}
    assert found.metrics[Metric.AC_FREQUENCY].value == pytest.approx(50, abs=1)


def test_set_points_of_both_kinds_and_when_they_expire(client: MicrogridApiClient) -> None:
    with client.inverter_data(STORAGE) as receiver:
        before = datetime.now(UTC)
        expires = client.set_power(STORAGE, 2000.0, lifetime=120)
        assert expires is not None
        assert timedelta(seconds=110) < expires - before < timedelta(seconds=140)
        assert eventually(lambda: receiver.receive(PATIENCE).active_power > 1900)
        assert client.set_power(STORAGE, 2000.0) is not None
        assert client.set_reactive_power(STORAGE, 500.0, lifetime=60) is not None
        # It has the sign that was asked for, both ways.
        assert eventually(lambda: receiver.receive(PATIENCE).reactive_power > 400)
        client.set_reactive_power(STORAGE, -500.0)
        assert eventually(lambda: receiver.receive(PATIENCE).reactive_power < -400)
        client.set_reactive_power(STORAGE, 0.0)
        client.set_power(STORAGE, 0.0)


def test_bounds(client: MicrogridApiClient) -> None:
    with client.inverter_data(STORAGE) as receiver:
        expires = client.set_bounds(STORAGE, -3000.0, 3000.0, lifetime=5)
        assert expires is not None

        def upper() -> float:
            return receiver.receive(PATIENCE).active_power_inclusion_upper_bound

        assert eventually(lambda: upper() == 3000.0)
        assert eventually(lambda: upper() == 5000.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.set_power(STORAGE, 50_000.0), "FAILED_PRECONDITION"),
        (lambda c: c.set_power(99, 1.0), "NOT_FOUND"),
        (lambda c: c.set_power(METER, 1.0), "UNIMPLEMENTED"),
        (lambda c: c.start(STORAGE), "UNIMPLEMENTED"),
        (lambda c: c.set_exclusion_bounds(STORAGE, -1.0, 1.0), "has no exclusion bounds"),
        (lambda c: c.standby(STORAGE, hot=True), "has no hot standby"),
    ],
)
def test_refusals(client: MicrogridApiClient, call: Any, words: str) -> None:
    with pytest.raises(ApiClientError, match=words):
        call(client)


def test_what_cannot_be_done_leaves_the_api_as_it_was(client: MicrogridApiClient) -> None:
    client.components()
    for _ in range(2):
        with pytest.raises(OperationNotImplemented):
            client.set_power(METER, 1.0)
    assert client.api == "v1alpha18"


def test_pool_commands_its_chargers(client: MicrogridApiClient) -> None:
    with Microgrid(client) as site:
        pool = site.new_ev_charger_pool(priority=5)
        assert pool.component_ids == set(CHARGERS)
        results = pool.power_distribution_results.new_receiver()
        bounds = pool.system_power_bounds.new_receiver()
        both = Bounds(Power.from_watts(0), Power.from_watts(44_000))
        # One charger may be heard before the other.
        assert eventually(lambda: bounds.receive(PATIENCE).inclusion_bounds == both)
        pool.propose_power(Power.from_kilowatts(20))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            result = results.receive(PATIENCE)
            if isinstance(result, Success) and result.succeeded_power.as_watts() > 10_000:
                break
        assert isinstance(result, Success)
        receivers = [client.ev_charger_data(charger) for charger in CHARGERS]

        def drawn() -> float:
            return sum(receiver.receive(PATIENCE).active_power for receiver in receivers)

        assert eventually(lambda: 5000 < drawn() <= 20_000 * 1.05)
        assert {c.category for c in client.components()} >= {ComponentCategory.EV_CHARGER}
