"""A day at the depot, over TCP, on a clock that is stepped: with clients, commands and trouble."""

import hashlib
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    ComponentCategory,
    EVChargerComponentState,
    EVChargerData,
    MicrogridApiClient,
)
from microgrid_sync.simulator import Simulator, Site
from microgrid_sync.simulator.physics.components import STREAMING
from microgrid_sync.simulator.trouble.methods import METHODS
from microgrid_sync.wire import v0_15_schema as schema
from tests.simulator.descriptions import imbalance
from tests.support.stub import ANSWERS, Stub
from tests.support.waiting import PATIENCE

INTERVAL = 300.0
SAMPLES = round(86_400 / INTERVAL)
METERS = (10, 20, 30, 40)


def day_of_bytes(seed: int) -> dict[int, str]:
    """What every stream of the depot sends in a day, as digests of its bytes."""
    found: dict[int, str] = {}
    with (
        Simulator("depot", speed=0, seed=seed, sample_interval=INTERVAL) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        ids = simulator.change(
            lambda site: [i for i, c in site.components.items() if c.category in STREAMING]
        )
        ready = threading.Barrier(len(ids) + 1)

        def read(component_id: int) -> None:
            digest = hashlib.sha256()
            # The bytes as they come, not decoded.
            stream: grpc.UnaryStreamMultiCallable[Any, bytes] = client.channel.unary_stream(
                "/frequenz.api.microgrid.Microgrid/StreamComponentData",
                request_serializer=schema.ComponentIdParam.SerializeToString,
            )
            call = stream(schema.ComponentIdParam(id=component_id), timeout=120)
            for count, data in enumerate(call):
                digest.update(data)
                if count == 0:
                    ready.wait(PATIENCE)
                if count == SAMPLES:
                    break
            call.cancel()
            found[component_id] = digest.hexdigest()

        threads = [threading.Thread(target=read, args=(i,)) for i in ids]
        for thread in threads:
            thread.start()
        ready.wait(PATIENCE)
        simulator.step(86_400.0)
        for thread in threads:
            thread.join(PATIENCE)
    assert set(found) == set(ids)
    return found


@pytest.mark.computes
def test_same_seed_gives_the_same_bytes() -> None:
    first = day_of_bytes(24)
    assert first == day_of_bytes(24)
    other = day_of_bytes(25)
    assert all(first[component_id] != other[component_id] for component_id in first)


def samples_by_time(simulator: Simulator, count: int, *, steps: bool) -> dict[int, bytes]:
    """The first samples of the main meter, as bytes, by their time."""
    samples: dict[int, bytes] = {}
    with MicrogridApiClient(simulator.url) as client:
        call = Stub(client.channel).StreamComponentData(schema.ComponentIdParam(id=2), timeout=120)
        for message in call:
            if not samples and steps:
                simulator.step(count)
            samples[message.ts.seconds] = message.SerializeToString(deterministic=True)
            if len(samples) == count:
                break
        call.cancel()
    return samples


@pytest.mark.slow
def test_speed_does_not_change_the_bytes() -> None:
    with Simulator("depot", speed=0) as simulator:
        stepped = samples_by_time(simulator, 600, steps=True)
    with Simulator("depot", speed=100) as simulator:
        running = samples_by_time(simulator, 200, steps=False)
    both = stepped.keys() & running.keys()
    assert len(both) > 100
    assert {ts: stepped[ts] for ts in both} == {ts: running[ts] for ts in both}


def check_invariants(site: Site) -> None:
    """What must hold at every moment of a depot's life."""
    assert imbalance(site) < 1e-6
    for component_id, device in site.devices.items():
        flow = site.flows[component_id]
        if component_id >= 100:
            charger = site.charger(component_id)
            lower, upper = charger.active.inclusion_bounds()
            assert lower <= flow.power <= upper + 1e-6
            if charger.active.set_point is not None:
                assert flow.power <= charger.active.set_point + 1e-6
            if charger.car is None or component_id in site.errors:
                assert flow.power == 0
            else:
                assert flow.power <= charger.car.power + 1e-6
                assert 0 <= charger.car.soc <= 100
                assert sum(power > 0 for power in flow.active) in {0, charger.car.phases}
            assert max(flow.current(site.line)) <= charger.rated_current + 1e-9
        del device
    for battery in site.batteries.values():
        assert battery.soc_lower - 1e-6 <= battery.soc <= battery.soc_upper + 1e-6
    assert all(200 < volts < 250 for volts in site.line.voltage)
    assert 49.8 < site.line.frequency < 50.2


@pytest.mark.computes
@pytest.mark.microgrid(
    "depot",
    speed=0,
    sample_interval=30.0,
    faults=[
        {"kind": "error", "components": [301], "at": "20:00:00", "lasts": "01:00:00"},
        {"kind": "silent", "components": [302], "at": "20:30:00", "lasts": "00:10:00"},
        {"kind": "nan", "components": [10], "at": "21:00:00", "lasts": "00:05:00"},
    ],
)
def test_a_day_at_the_depot(microgrid: Simulator) -> None:
    with MicrogridApiClient(microgrid.url) as client:
        components = list(client.components())
        assert sum(c.category is ComponentCategory.EV_CHARGER for c in components) == 24
        receiver = client.ev_charger_data(301, maxsize=3000)
        other = client.ev_charger_data(302, maxsize=3000)
        begin = receiver.receive(PATIENCE).timestamp
        other.receive(PATIENCE)
        drawn, present = [], []
        for number in range(24 * 12):
            if number % 12 == 0:
                # A set-point an hour for some, bounds for others; both run out on their own.
                client.set_power(303, 9000.0)
                client.set_bounds(304, 0.0, 8000.0)
            for _ in range(10):
                microgrid.step(30.0)
                microgrid.change(check_invariants)
            drawn.append(microgrid.change(lambda site: site.flows[2].power))
            present.append(microgrid.change(cars))
        values = up_to(receiver, begin + timedelta(days=1))
        failing = [
            value.timestamp - begin
            for value in values
            if value.component_state is EVChargerComponentState.ERROR
        ]
        assert failing[0] == timedelta(hours=20)
        assert failing[-1] == timedelta(hours=21, seconds=-30)
        # Nothing is lost but what was silent.
        assert len(values) == 2880
        assert len(up_to(other, begin + timedelta(days=1))) == 2880 - 20
    assert max(drawn) > 150_000
    assert min(drawn) < 20_000
    assert max(present) >= 18
    assert min(present) <= 2


def cars(site: Site) -> int:
    return sum(site.charger(i).car is not None for i in site.devices if i >= 100)


def up_to(receiver: Any, end: Any) -> list[EVChargerData]:
    values = [receiver.receive(PATIENCE)]
    while values[-1].timestamp < end:
        values.append(receiver.receive(PATIENCE))
    return values


def test_service_has_every_call_of_the_bindings() -> None:
    assert {*ANSWERS, "StreamComponentData"} < set(METHODS)
    names = [*ANSWERS]
    with (
        Simulator() as simulator,
        grpc.insecure_channel(f"127.0.0.1:{simulator.port}") as channel,
    ):
        for name in names:
            call: Any = channel.unary_unary(f"/frequenz.api.microgrid.Microgrid/{name}")
            try:
                call(b"", timeout=PATIENCE)
            except grpc.RpcError as error:
                # No such component, or no bounds: whatever it is, the method was found.
                assert "Method not found" not in str(error), name  # noqa: PT017 - many may succeed
