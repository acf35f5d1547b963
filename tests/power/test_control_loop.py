"""The control loop against a server whose every answer the test decides."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from microgrid_sync import Bounds, LinearBackoff, Microgrid, MicrogridApiClient, Power, Success
from microgrid_sync.power.charger_set import ChargerSet
from tests.support.charger_server import ChargerServer
from tests.support.server import failing
from tests.support.waiting import PATIENCE, eventually

CHARGER = 11


@pytest.fixture
def site() -> Iterator[ChargerServer]:
    """One charger, with a car that draws nothing yet."""
    with ChargerServer(1) as site:
        site.chargers[CHARGER].wanted = 0.0
        yield site


@pytest.fixture
def microgrid(site: ChargerServer) -> Iterator[Microgrid]:
    strategy = LinearBackoff(0.05, 0.0)
    with (
        MicrogridApiClient(site.url, retry_strategy=strategy) as client,
        Microgrid(client) as microgrid,
    ):
        yield microgrid


def _cap(microgrid: Microgrid, watts: float) -> None:
    pool = microgrid.new_ev_charger_pool(priority=1)
    pool.propose_power(None, bounds=Bounds(None, Power.from_watts(watts)))


def test_voltage_of_the_charger_itself(site: ChargerServer, microgrid: Microgrid) -> None:
    site.chargers[CHARGER].voltages = (200.0,) * 3
    _cap(microgrid, 20_000)
    assert eventually(lambda: site.set_points(CHARGER)[-1:] == [6000.0])
    assert site.set_points(CHARGER)[0] == 0.0


def test_voltage_of_the_main_meter_stands_in(site: ChargerServer, microgrid: Microgrid) -> None:
    site.chargers[CHARGER].voltages = (0.0,) * 3
    site.meter_voltages = (210.0,) * 3
    _cap(microgrid, 20_000)
    assert eventually(lambda: site.set_points(CHARGER)[-1:] == [6300.0])


def test_without_any_voltage_nothing_is_allocated_and_it_is_said_once(
    site: ChargerServer, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    site.chargers[CHARGER].voltages = (float("nan"),) * 3
    site.meter_voltages = (0.0,) * 3
    _cap(microgrid, 20_000)
    assert eventually(lambda: len(site.sent) >= 1)
    assert eventually(lambda: "no voltage is known for chargers 11" in caplog.text)
    site.chargers[CHARGER].voltages = (230.0,) * 3
    assert eventually(lambda: site.set_points(CHARGER)[-1:] == [6900.0])
    assert set(site.set_points(CHARGER)[:-1]) == {0.0}
    assert caplog.text.count("no voltage") == 1


def test_set_point_that_hangs_is_given_up_and_sent_again(
    site: ChargerServer, microgrid: Microgrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.power.set_point_ledger.TIMEOUTS", (0.3,))
    hanging = threading.Event()

    def handle(charger: int, watts: float, context: grpc.ServicerContext) -> None:
        if watts and not hanging.is_set():
            hanging.set()
            site.silence(context)
        else:
            site.hold(charger, watts)

    site.handle = handle
    _cap(microgrid, 20_000)
    assert hanging.wait(PATIENCE)
    assert eventually(lambda: site.set_points(CHARGER)[-1:] == [6900.0])


def test_lower_target_overtakes_a_set_point_that_hangs(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    hanging = threading.Event()

    def handle(charger: int, watts: float, context: grpc.ServicerContext) -> None:
        if watts:
            hanging.set()
            site.silence(context)
        else:
            site.hold(charger, watts)

    site.handle = handle
    _cap(microgrid, 20_000)
    assert hanging.wait(PATIENCE)
    site.sent.clear()
    _cap_all = microgrid.new_ev_charger_pool(priority=9)
    _cap_all.propose_power(None, bounds=Bounds(None, Power.from_watts(0.0)))
    # Long before the five seconds of the one that hangs are over, or after: it comes.
    assert eventually(lambda: {*site.set_points(CHARGER)} == {0.0})


def test_loop_outlives_the_connection(
    site: ChargerServer, microgrid: Microgrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.worker._RESUBSCRIBE_AFTER", 0.1)
    results = microgrid.new_ev_charger_pool(priority=3).power_distribution_results.new_receiver()
    _cap(microgrid, 20_000)
    # A start that is cut off is taken back, and its car rests: whether it has come is not known.
    assert eventually(lambda: microgrid._control_loop._chargers[CHARGER].ledger.confirmed == 6900.0)
    microgrid.client.disconnect()
    results.drain()
    _cap_again = microgrid.new_ev_charger_pool(priority=4)
    _cap_again.propose_power(None, bounds=Bounds(None, Power.from_watts(5000.0)))
    assert eventually(lambda: bool(results.drain()))
    microgrid.client.connect()
    assert eventually(lambda: site.set_points(CHARGER)[-1:] == [5000.0])
    assert eventually(lambda: any(isinstance(result, Success) for result in results.drain()))


def test_charger_that_cannot_be_followed_any_more_is_tried_again(
    site: ChargerServer, microgrid: Microgrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.worker._RESUBSCRIBE_AFTER", 0.1)
    bounds = microgrid.new_ev_charger_pool(priority=3).system_power_bounds.new_receiver()
    assert bounds.receive(PATIENCE).inclusion_bounds is not None

    def refuse(_: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
        return iter([])

    site.stream = refuse
    site.stop()
    site.start()
    assert eventually(lambda: site.count("StreamComponentData") >= 3)
    site.stream = site.measure
    before = site.count("StreamComponentData")
    assert eventually(lambda: site.count("StreamComponentData") > before)
    _cap(microgrid, 20_000)
    assert eventually(lambda: site.set_points(CHARGER)[-1:] == [6900.0])


def test_failures_are_logged_once_in_a_row(
    site: ChargerServer, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    site.answers["SetPowerActive"] = failing(grpc.StatusCode.INTERNAL, "broken")
    _cap(microgrid, 20_000)
    assert eventually(lambda: site.count("SetPowerActive") >= 3)
    assert caplog.text.count("a set-point has failed") == 1


def test_defect_does_not_end_the_loop(
    site: ChargerServer, microgrid: Microgrid, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    original = ChargerSet.step
    broken = [True]

    def step(self: ChargerSet, *arguments: Any, **named: Any) -> Any:
        if broken.pop() if broken else False:
            raise ZeroDivisionError("a defect")
        return original(self, *arguments, **named)

    monkeypatch.setattr(ChargerSet, "step", step)
    _cap(microgrid, 20_000)
    assert eventually(lambda: site.set_points(CHARGER)[-1:] == [6900.0])
    assert "failed; it goes on" in caplog.text
