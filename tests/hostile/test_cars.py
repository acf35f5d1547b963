"""Cars and chargers of all kinds over a real connection, and what a pool is told of them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    Bounds,
    ChargerReport,
    ChargerStatus,
    ChargingConfig,
    ComponentId,
    EVChargerPool,
    EVChargerPoolReport,
    LinearBackoff,
    Microgrid,
    MicrogridApiClient,
    PartialFailure,
    Power,
    Receiver,
    Resampling,
)
from microgrid_sync.simulator import Fault, Simulator
from microgrid_sync.simulator.physics.site import Site
from tests.support.charger_server import ChargerServer
from tests.support.depot import FIRST, described, plugged
from tests.support.server import failing
from tests.support.waiting import PATIENCE, eventually

NAN = float("nan")


@pytest.fixture
def site() -> Iterator[ChargerServer]:
    with ChargerServer(3) as site:
        yield site


@pytest.fixture
def microgrid(site: ChargerServer) -> Iterator[Microgrid]:
    config = ChargingConfig(raise_interval=timedelta(seconds=0.5))
    with (
        MicrogridApiClient(site.url, retry_strategy=LinearBackoff(0.05, 0.0)) as client,
        Microgrid(client, charging=config) as microgrid,
    ):
        yield microgrid


@pytest.fixture
def pool(microgrid: Microgrid) -> EVChargerPool:
    return microgrid.new_ev_charger_pool(priority=1)


def cap(pool: EVChargerPool, watts: float) -> None:
    pool.propose_power(None, bounds=Bounds(None, Power.from_watts(watts)))


def plug_in(simulator: Simulator, mix: str) -> None:
    def change(site: Site) -> None:
        for number, kind in enumerate(mix, FIRST):
            site.charger(number).plug_in(plugged(kind, number))

    simulator.change(change)


def told(reports: Receiver[EVChargerPoolReport], charger: int, word: str) -> ChargerReport:
    """Wait until the reason of a charger has some words."""
    seen: list[str] = []
    for _ in range(200):
        report = reports.receive(PATIENCE).chargers[ComponentId(charger)]
        seen.append(report.reason)
        if word in report.reason:
            return report
    raise AssertionError(seen)


@pytest.mark.both_apis
@pytest.mark.parametrize("volts", [(230.0, 0.0, 0.0), (230.0, NAN, NAN)])
def test_one_phase_charger_is_served(
    site: ChargerServer, pool: EVChargerPool, volts: tuple[float, float, float]
) -> None:
    for charger in site.chargers.values():
        charger.voltages, charger.upper, charger.held = volts, 3680.0, 0.0
        charger.wanted = 3680.0
    cap(pool, 100_000)
    assert eventually(lambda: min(site.held()) >= 1400)


@pytest.mark.both_apis
def test_bounds_that_are_too_low_for_any_car_are_told(
    site: ChargerServer, pool: EVChargerPool, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("microgrid_sync.power.control_loop._COMPLAIN_AFTER", 0.2)
    site.chargers[11].upper = 3000.0
    site.chargers[11].wanted = 0.0
    reports = pool.power_status.new_receiver()
    cap(pool, 30_000)
    told(reports, 11, "cannot be served: its bounds allow 3.0 kW, its car needs 4.3 kW")
    assert eventually(lambda: "charger 11 cannot be served" in caplog.text)
    assert eventually(lambda: any(watts > 0 for watts in site.set_points(12)[-1:]))


@pytest.mark.both_apis
def test_charger_that_refuses_is_named_in_status_log_and_result(
    site: ChargerServer, pool: EVChargerPool, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("microgrid_sync.power.control_loop._COMPLAIN_AFTER", 0.2)
    for charger in site.chargers.values():
        charger.wanted = 0.0
    refuse = failing(grpc.StatusCode.FAILED_PRECONDITION, "not now")

    def handle(charger: int, watts: float, context: grpc.ServicerContext) -> None:
        if charger == 11:
            refuse(None, context)
        site.hold(charger, watts)

    site.handle = handle
    reports = pool.power_status.new_receiver()
    results = pool.power_distribution_results.new_receiver()
    cap(pool, 25_000)
    waits = told(reports, 12, "held back by charger 11, which refuses set-points")
    assert waits.status is ChargerStatus.WORKING
    assert waits.allocation == Power.zero()
    assert eventually(lambda: "cars wait because of charger 11, which refuses" in caplog.text)
    result: Any = results.receive(PATIENCE)
    while not isinstance(result, PartialFailure):
        result = results.receive(PATIENCE)
    assert result.failed_components == {11}
    # Without its car it holds nobody back.
    site.chargers[11].connected = False
    assert eventually(lambda: any(watts >= 6900 for watts in site.set_points(12)[-1:]))
    told(reports, 11, "no car")


@pytest.mark.both_apis
def test_what_is_offered_and_drawn_is_told(site: ChargerServer) -> None:
    for charger in site.chargers.values():
        charger.held = 0.0
    # Which of them is heard of first is anybody's guess; the weights decide who is first.
    config = ChargingConfig(weights={11: 3.0, 12: 2.0})
    with Microgrid(site.url, charging=config) as microgrid:
        _offered_and_drawn(microgrid.new_ev_charger_pool(priority=1))


def _offered_and_drawn(pool: EVChargerPool) -> None:
    reports = pool.power_status.new_receiver()
    told(reports, 11, "not commanded")
    cap(pool, 7000)
    offered = told(reports, 11, "first offer 10 A")
    assert offered.allocation == Power.from_watts(6900.0)
    told(reports, 12, "waits: 1 of 2 places")
    told(reports, 13, "waits: 2 of 2 places")
    cap(pool, 0)
    told(reports, 11, "the target is 0 W")
    cap(pool, 3000)
    told(reports, 12, "the target of 3.0 kW is less than its 4.3 kW")
    cap(pool, 7000)
    told(reports, 11, "rests until ")


def test_dead_time_is_learned_and_told(site: ChargerServer, pool: EVChargerPool) -> None:
    site.chargers[12].connected = site.chargers[13].connected = False
    site.chargers[11].wanted = 22_000.0
    reports = pool.power_status.new_receiver()
    cap(pool, 20_000)
    assert eventually(lambda: site.held()[0] > 0)
    # It goes on as before for a while.
    report = told(reports, 11, "charges")
    # A raise that is under way would be taken back first, which is a reduction of its own.
    while report.draw is None or report.draw.as_watts() < 19_000:
        report = reports.receive(PATIENCE).chargers[ComponentId(11)]
    draw = site.chargers[11].drawn()
    site.chargers[11].draw = draw
    cap(pool, draw / 2)
    assert eventually(lambda: site.held()[0] <= draw / 2)
    time.sleep(2.0)
    site.chargers[11].draw = None
    # A car that drew more than the first set-point has obeyed that in no time; the slowest counts.
    while report.obey_time is None or report.obey_time < timedelta(seconds=1.5):
        report = reports.receive(PATIENCE).chargers[ComponentId(11)]
    assert report.obey_time <= timedelta(seconds=PATIENCE)


@pytest.mark.parametrize("gone", ["data", "data.ac.power_active"])
def test_charger_without_a_total_has_its_meter_stand_in(
    gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However late the meter's first sample is.
    monkeypatch.setattr("microgrid_sync.formulas.window._START_UP", 40)
    with (
        Simulator(described(3), sample_interval=0.1) as simulator,
        Microgrid(
            simulator.url,
            resampling_period=timedelta(seconds=0.5),
            resampling=Resampling(max_age_periods=40),
        ) as microgrid,
    ):
        plug_in(simulator, "333")
        power = microgrid.new_ev_charger_pool(priority=1).power.new_receiver()

        def total() -> float | None:
            value = power.receive(PATIENCE).value
            return None if value is None else value.as_watts()

        assert eventually(lambda: (total() or 0.0) > 33_000)
        simulator.faults.add(Fault(kind="missing", fields=(gone,), components=(FIRST,)))
        totals = [total() for _ in range(10)]
        # Unknown while the meter is being asked; never without the one that is missing.
        assert all(watts is None or watts > 30_000 for watts in totals)
        assert eventually(lambda: total() is not None)


# A new program

PROGRAM = """
import sys, time
from microgrid_sync import Bounds, Microgrid, Power
from microgrid_sync.power import charger_set

# On a busy machine data may be late.
charger_set._FIRST_ROUND_WAIT = 60.0
microgrid = Microgrid(sys.argv[1])
pool = microgrid.new_ev_charger_pool(priority=1)
while True:
    pool.propose_power(None, bounds=Bounds(None, Power.from_watts(float(sys.argv[2]))))
    time.sleep(1.0)
"""


def program(url: str, watts: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(watts)])


def test_program_that_is_killed_and_started_again_stops_no_car() -> None:
    with Simulator(described(6), sample_interval=0.2) as simulator:
        numbers = [FIRST + n for n in range(5)]
        plug_in(simulator, "1233L")

        def starts() -> dict[int, int]:
            return simulator.change(lambda site: {n: site.charger(n).starts for n in numbers})

        def charging() -> list[int]:
            return simulator.change(
                lambda site: [n for n in numbers if site.charger(n).flow.power > 0]
            )

        first = program(simulator.url, 30_000)
        try:
            time.sleep(10.0)
            assert eventually(lambda: len(charging()) >= 3)
            # Both at one moment.
            before, went_on = simulator.change(
                lambda site: (
                    {n: site.charger(n).starts for n in numbers},
                    [n for n in numbers if site.charger(n).flow.power > 0],
                )
            )
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait(PATIENCE)
        time.sleep(2.0)
        second = program(simulator.url, 30_000)
        try:
            end = time.monotonic() + 15.0
            while time.monotonic() < end:
                assert set(went_on) <= set(charging())
                time.sleep(0.2)
            after = starts()
            assert {n: after[n] for n in went_on} == {n: before[n] for n in went_on}
        finally:
            second.kill()
            second.wait(PATIENCE)
