"""Tests limits of circuits end to end: a microgrid, a simulator over TCP, and what it holds."""

import logging
import math
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from microgrid_sync import (
    Bounds,
    ChargingConfig,
    Current,
    FuseCurve,
    Limit,
    LimitReport,
    Microgrid,
    Power,
)
from microgrid_sync.client import on_set_point
from microgrid_sync.receiver import Receiver, ReceiverStoppedError
from microgrid_sync.simulator import Car, Simulator
from tests.support.waiting import PATIENCE, eventually

METER, INNER = 2, 3
CHARGERS = (11, 12)

SITE: dict[str, Any] = {
    "connections": [[1, METER], [METER, INNER], [METER, 11], [INNER, 12], [METER, 4]],
    "sample_interval": 0.2,
    "supply": {"resistance": 0.0},
    "component": [
        {"id": 1, "category": "grid", "fuse": 50.0},
        {"id": METER, "category": "meter"},
        {"id": INNER, "category": "meter"},
        {"id": 4, "category": "meter", "load": "constant", "load_power": 3000.0},
        {"id": 11, "category": "ev_charger"},
        {"id": 12, "category": "ev_charger"},
    ],
}


@pytest.fixture(params=["v0.15", "v1alpha18"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(SITE) as running:
        running.change(_plug_in)
        # Until they draw what they may.
        assert eventually(lambda: drawn(running) > 18.0)
        yield running


def _plug_in(site: Any) -> None:
    for number in CHARGERS:
        # They charge: a car that is started counts on all phases for its first minute.
        site.charger(number).active.command(5000.0, math.inf)
        site.charger(number).plug_in(Car(soc=20.0, capacity=200_000.0))


@pytest.fixture
def microgrid(simulator: Simulator, api: str) -> Iterator[Microgrid]:
    config = ChargingConfig(raise_interval=timedelta(seconds=2), rest=timedelta(seconds=0))
    with Microgrid(f"{simulator.url}?api={api}", charging=config) as made:
        yield made


def held(simulator: Simulator) -> dict[int, float | None]:
    """What the server holds as set-points."""
    return simulator.change(lambda site: {n: site.charger(n).active.set_point for n in CHARGERS})


def drawn(simulator: Simulator) -> float:
    """What flows through the main meter on the phase that carries most, in A."""
    return simulator.change(lambda site: max(site.flows[METER].current(site.line)))


def amperes(value: float) -> Current:
    return Current.from_amperes(value)


def test_limit_commands_every_charger_at_once_and_lets_cars_have_what_it_leaves(
    simulator: Simulator, microgrid: Microgrid
) -> None:
    limit = microgrid.limit(METER, max_current=amperes(32.0))
    assert limit.chargers == set(CHARGERS)
    assert eventually(lambda: 5000.0 not in held(simulator).values())
    assert eventually(lambda: drawn(simulator) > 25.0, timeout=40)
    assert drawn(simulator) <= 32.0

    def is_told() -> bool:
        report = limit.report
        if report is None or report.house is None or report.headroom is None:
            return False
        house = report.house[0].as_amperes()
        expected = min(0.97 * 32.0, 31.5) - house
        return house == pytest.approx(3000 / 690, rel=0.3) and report.headroom[
            0
        ].as_amperes() == pytest.approx(expected, abs=0.01)

    # What the house takes is not known exactly as long as cars go up.
    assert eventually(is_told)
    assert not limit.is_exceeded
    assert limit.thermal_state is None
    assert limit.where == METER
    assert repr(limit) == "<Limit of meter 2: 32 A>"


def test_fuse_of_the_grid_is_its_default(simulator: Simulator, microgrid: Microgrid) -> None:
    limit = microgrid.limit("grid")
    assert limit.max_current == amperes(50.0)
    assert limit.max_power is None
    assert eventually(lambda: limit.house is not None)


def test_limit_and_proposal_at_once_stop_no_car_that_charges(
    simulator: Simulator, microgrid: Microgrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However late data is on a busy machine.
    monkeypatch.setattr("microgrid_sync.power.charger_set._FIRST_ROUND_WAIT", PATIENCE)
    sent: list[float] = []
    end = on_set_point(microgrid.client, lambda _, __, watts, ___: sent.append(watts))
    # Before anything has been heard of a charger.
    microgrid.limit(METER, max_current=amperes(32.0))
    pool = microgrid.new_ev_charger_pool(priority=1000)
    pool.propose_power(None, bounds=Bounds(None, Power.from_kilowatts(40.0)))
    assert eventually(lambda: drawn(simulator) > 25.0, timeout=40)
    end()
    assert min(sent) > 4000.0


def test_proposals_of_any_priority_loosen_nothing_and_stop_raises_no_further(
    simulator: Simulator, microgrid: Microgrid
) -> None:
    microgrid.limit(METER, max_current=amperes(32.0))
    pool = microgrid.new_ev_charger_pool(priority=1000)
    pool.propose_power(None, bounds=Bounds(None, Power.from_kilowatts(40.0)))
    highest = _highest_for(simulator, lambda: drawn(simulator) > 25.0)
    pool.stop()
    highest = max(highest, _highest_for(simulator, lambda: False, seconds=3.0))
    assert highest <= 32.0
    assert sum(power or 0.0 for power in held(simulator).values()) < 22_000


def _highest_for(simulator: Simulator, stop: Any, seconds: float = 40.0) -> float:
    end = time.monotonic() + seconds
    highest = 0.0
    while time.monotonic() < end and not stop():
        highest = max(highest, drawn(simulator))
        time.sleep(0.05)
    return highest


def test_house_that_jumps_is_answered_within_its_sample(
    simulator: Simulator, microgrid: Microgrid
) -> None:
    microgrid.limit(METER, max_current=amperes(32.0))
    assert eventually(lambda: drawn(simulator) > 20.0, timeout=40)
    before = sum(power or 0.0 for power in held(simulator).values())

    def jump(site: Any) -> None:
        site.devices[4]._power = 11_000.0

    simulator.change(jump)
    assert eventually(lambda: sum(p or 0.0 for p in held(simulator).values()) < before - 5000)
    assert eventually(lambda: drawn(simulator) <= 32.0)


def test_nested_limits_bind_each_its_own(simulator: Simulator, microgrid: Microgrid) -> None:
    inner = microgrid.limit(INNER, max_power=Power.from_kilowatts(6.0))
    microgrid.limit("grid")
    assert inner.chargers == {12}
    assert eventually(lambda: (held(simulator)[11] or 0.0) > 10_000, timeout=40)
    assert eventually(lambda: (held(simulator)[12] or 0.0) > 4000, timeout=40)
    assert (held(simulator)[12] or 0.0) <= 0.97 * 6000
    assert inner.headroom is None
    assert inner.max_current is None


def test_limit_and_microgrid_that_are_closed_at_once_end_quietly(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with Microgrid(simulator.url) as microgrid:
            limit = microgrid.limit(METER, max_current=amperes(32.0))
            assert eventually(lambda: 5000.0 not in held(simulator).values())
            limit.close()
        assert "failed" not in caplog.text


def test_update_takes_effect_without_a_gap(simulator: Simulator, microgrid: Microgrid) -> None:
    limit = microgrid.limit(METER, max_current=amperes(50.0))
    assert eventually(lambda: drawn(simulator) > 30.0, timeout=40)
    limit.update(max_current=amperes(20.0))
    assert limit.max_current == amperes(20.0)
    assert eventually(lambda: drawn(simulator) <= 20.0)
    limit.update(max_current=FuseCurve.gG(50))
    assert eventually(lambda: limit.thermal_state is not None)
    with pytest.raises(ValueError, match="needs max_current, max_power or both"):
        limit.update()


def test_closed_limit_sends_nothing_and_says_so(
    simulator: Simulator, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    with microgrid.limit(METER, max_current=amperes(32.0)) as limit:
        reports = limit.new_receiver()
        report = reports.receive(timeout=10.0)
        assert isinstance(report, LimitReport)
        # Both have stood at 5 kW.
        assert eventually(lambda: 5000.0 not in held(simulator).values())
    assert "no other one covers chargers 11, 12" in caplog.text
    assert _ends(reports)
    # What is under way may end.
    assert eventually(lambda: not microgrid._control_loop._under_way)
    count = microgrid.client.stats().calls
    time.sleep(2.5)
    assert microgrid.client.stats().calls == count
    limit.close()
    with pytest.raises(ReceiverStoppedError, match="has been closed"):
        limit.update(max_current=amperes(16.0))
    with pytest.raises(ReceiverStoppedError):
        limit.new_receiver()


def _ends(receiver: Receiver[LimitReport]) -> bool:
    """Tell whether a receiver has come to its end."""
    try:
        while True:
            receiver.receive(timeout=5.0)
    except ReceiverStoppedError:
        return True


def test_lapse_leaves_its_set_points_as_upper_bounds(simulator: Simulator, api: str) -> None:
    config = ChargingConfig(
        raise_interval=timedelta(seconds=1),
        rest=timedelta(0),
        proposal_lifetime=timedelta(seconds=2),
    )
    with Microgrid(f"{simulator.url}?api={api}", charging=config) as microgrid:
        microgrid.limit(METER, max_current=amperes(50.0))
        pool = microgrid.new_ev_charger_pool(priority=1)

        def propose() -> bool:
            pool.propose_power(None, bounds=Bounds(None, Power.from_kilowatts(5.0)))
            return 4000 < sum(p or 0.0 for p in held(simulator).values()) <= 5000

        assert eventually(propose, timeout=30)
        # Nobody renews it; the limit would allow six times as much.
        highest = 0.0
        end = time.monotonic() + 8.0
        while time.monotonic() < end:
            highest = max(highest, sum(p or 0.0 for p in held(simulator).values()))
            time.sleep(0.1)
        assert highest <= 5000
        status = pool.power_status.new_receiver().receive(timeout=10.0)
        reasons = [one.reason for one in status.chargers.values()]
        assert any("a proposal has lapsed that left 0.0 kW" in reason for reason in reasons)
        # Whoever stops it says that it is over.
        pool.stop()
        assert eventually(lambda: sum(p or 0.0 for p in held(simulator).values()) > 10_000, 30)


def test_status_says_what_holds_a_charger_back(simulator: Simulator, microgrid: Microgrid) -> None:
    microgrid.limit(METER, max_current=amperes(16.0))
    pool = microgrid.new_ev_charger_pool(priority=1)
    status = pool.power_status.new_receiver()

    def is_told() -> bool:
        report = status.latest()
        reasons = [] if report is None else [one.reason for one in report.chargers.values()]
        return any("meter 2: 16 A at the most" in reason for reason in reasons)

    assert eventually(is_told, timeout=20)


@pytest.mark.parametrize(
    ("where", "more", "error", "words"),
    [
        (
            99,
            {"max_current": amperes(16)},
            ValueError,
            "no component 99; the meters with chargers behind them are 2, 3",
        ),
        (11, {"max_current": amperes(16)}, ValueError, "11: EV charger is no meter"),
        (4, {"max_current": amperes(16)}, ValueError, "there are none behind meter 4"),
        (METER, {}, ValueError, "needs max_current, max_power or both"),
        (METER, {"max_current": amperes(0)}, ValueError, "more than 0 A"),
        (METER, {"max_current": amperes(-16)}, ValueError, "more than 0 A"),
        (METER, {"max_current": amperes(math.nan)}, ValueError, "finite"),
        (METER, {"max_power": Power.from_watts(math.inf)}, ValueError, "finite"),
        (METER, {"max_current": 63}, TypeError, "must be a Current, such as"),
        (METER, {"max_power": 20_000}, TypeError, "must be a Power, such as"),
        ("main", {"max_current": amperes(16)}, TypeError, "ID of a meter or 'grid', not 'main'"),
        (True, {"max_current": amperes(16)}, TypeError, "ID of a meter or 'grid', not True"),
    ],
)
def test_limits_that_make_no_sense_are_refused_in_words(
    where: Any, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    with (
        Simulator(SITE) as simulator,
        Microgrid(simulator.url) as microgrid,
        pytest.raises(error, match=words),
    ):
        microgrid.limit(where, **more)


def test_grid_that_cannot_be_known_for_each_phase_is_refused_with_the_reason() -> None:
    site = {
        **SITE,
        "connections": [*SITE["connections"], [1, 9]],
        "component": [
            *SITE["component"],
            {"id": 9, "category": "chp", "rating": 5000.0, "starts": "06:00", "stops": "20:00"},
        ],
    }
    with (
        Simulator(site) as simulator,
        Microgrid(simulator.url) as microgrid,
        pytest.raises(ValueError, match="cannot be known for each phase: component 9: CHP"),
    ):
        microgrid.limit("grid")


def test_handle_need_not_be_kept_and_all_ends_with_the_microgrid(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Microgrid(simulator.url) as microgrid:
        microgrid.limit(METER, max_current=amperes(32.0))
        handle: Limit = microgrid.limit("grid")
        assert eventually(lambda: all(p is not None for p in held(simulator).values()))
        reports = handle.new_receiver()
    assert _ends(reports)
    handle.close()
    with pytest.raises(ReceiverStoppedError):
        microgrid.limit(METER, max_current=amperes(32.0))
