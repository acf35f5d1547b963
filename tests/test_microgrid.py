"""Microgrids and their pools, against the embedded garage over TCP."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from microgrid_sync import (
    Bounds,
    ChargingConfig,
    ComponentCategory,
    Current,
    EVChargerPool,
    EVChargerPoolError,
    Formula,
    Microgrid,
    MicrogridApiClient,
    PartialFailure,
    Power,
    Receiver,
    ReceiverStoppedError,
    Sample,
    Success,
)
from microgrid_sync.simulator import Car, Fault, Simulator, Site
from tests.support.waiting import PATIENCE, eventually

PERIOD = timedelta(seconds=0.2)
QUICK = ChargingConfig(
    raise_interval=timedelta(seconds=2),
    max_data_age=timedelta(seconds=2),
    rest=timedelta(0),
)


def watts(power: float) -> Power:
    return Power.from_watts(power)


CHARGERS = (101, 102, 103)
GARAGE = {
    "component": [
        {"id": 1, "category": "grid"},
        {"id": 2, "category": "meter"},
        {"id": 10, "category": "meter"},
        *({"id": charger, "category": "ev_charger"} for charger in CHARGERS),
        {"id": 20, "category": "inverter", "type": "solar", "peak": 8000.0},
    ],
    "connections": [[1, 2], [2, 10], *([10, charger] for charger in CHARGERS), [2, 20]],
}
"""No cars yet."""

pytestmark = [pytest.mark.microgrid(site=GARAGE, sample_interval=0.05), pytest.mark.both_apis]


@pytest.fixture
def simulator(microgrid: Simulator) -> Simulator:
    return microgrid


@pytest.fixture
def garage(simulator: Simulator) -> Iterator[Microgrid]:
    with Microgrid(simulator.url, resampling_period=PERIOD, charging=QUICK) as garage:
        yield garage


def connect(simulator: Simulator, charger: int, *, connected: bool = True) -> None:
    def change(site: Site) -> None:
        if connected:
            site.charger(charger).plug_in(Car(soc=20.0, ramp=10_000.0))
        else:
            site.charger(charger).unplug()

    simulator.change(change)


def silence(simulator: Simulator, *components: int) -> None:
    simulator.faults.add(Fault(kind="silent", components=components))


def refuse(simulator: Simulator, charger: int) -> None:
    simulator.faults.add(Fault(kind="refused", components=[charger]))


def held(simulator: Simulator) -> dict[int, float | None]:
    """What the server holds as set-points now."""
    return simulator.change(lambda site: {n: site.charger(n).active.set_point for n in CHARGERS})


def total(simulator: Simulator) -> float:
    return sum(power or 0.0 for power in held(simulator).values())


def next_value(receiver: Receiver[Sample[Power]], condition: Callable[[float], bool]) -> float:
    """Wait for a sample whose value fulfils a condition."""
    found: list[float] = []

    def fulfilled() -> bool:
        value = receiver.receive(PATIENCE).value
        if value is not None and condition(value.as_watts()):
            found.append(value.as_watts())
        return bool(found)

    assert eventually(fulfilled)
    return found[0]


# Totals


def test_total_adds_up_and_stamps_are_full_periods(simulator: Simulator, garage: Microgrid) -> None:
    for charger in (101, 102):
        connect(simulator, charger)
    pool = garage.new_ev_charger_pool(priority=1)
    assert pool.power.expression == (
        "COALESCE(#103 + #102 + #101, #10, "
        "COALESCE(#103, 0.0) + COALESCE(#102, 0.0) + COALESCE(#101, 0.0))"
    )
    receiver = pool.power.new_receiver()
    next_value(receiver, lambda value: 20_000 < value < 22_100)
    samples = [receiver.receive(PATIENCE) for _ in range(5)]
    epoch = datetime.fromtimestamp(0, UTC)
    for sample in samples:
        assert (sample.timestamp - epoch) % PERIOD == timedelta(0)
        assert abs((datetime.now(UTC) - sample.timestamp).total_seconds()) < 30
    for one, two in itertools.pairwise(samples):
        assert two.timestamp > one.timestamp


def test_current_of_each_phase(simulator: Simulator, garage: Microgrid) -> None:
    connect(simulator, 101)
    pool = garage.new_ev_charger_pool(priority=1, component_ids=[101])
    assert pool.component_ids == {101}
    receiver = pool.current_per_phase.new_receiver()

    def all_phases() -> bool:
        sample = receiver.receive(PATIENCE)
        values = (sample.value_p1, sample.value_p2, sample.value_p3)
        return all(v is not None and 14 < v.as_amperes() < 17 for v in values)

    assert eventually(all_phases)


def test_formulas_compose_on_one_snapshot(simulator: Simulator, garage: Microgrid) -> None:
    connect(simulator, 101)
    connect(simulator, 102)
    one = garage.new_ev_charger_pool(priority=1, component_ids=[101]).power
    two = garage.new_ev_charger_pool(priority=1, component_ids=[102]).power
    formulas = [
        one,
        two,
        (one + two).build("sum"),
        (one - two).build("difference"),
        ((one + two) * 2 / 4).build("mean"),
        (watts(30_000) - one).build("rest"),
        (one + watts(5)).build("more"),
        one.min(two, watts(100)).build("min"),
        one.max(two).build("max"),
        one.coalesce(two).build("first"),
        (2 * one).build("double"),
    ]
    receivers = [formula.new_receiver() for formula in formulas]
    merged: dict[datetime, list[float | None]] = {}

    def complete() -> list[float | None] | None:
        for number, receiver in enumerate(receivers):
            sample = receiver.receive(PATIENCE)
            row = merged.setdefault(sample.timestamp, [None] * len(formulas))
            row[number] = sample.value.as_watts() if sample.value is not None else None
        return next((row for row in merged.values() if None not in row and row[0]), None)

    assert eventually(complete)
    rows = [row for row in merged.values() if None not in row]
    assert rows
    for row in rows:
        a, b = row[0], row[1]
        assert a is not None
        assert b is not None
        expected = [
            a, b, a + b, a - b, (a + b) / 2, 30_000 - a, a + 5, min(a, b, 100), max(a, b), a, 2 * a,
        ]  # fmt: skip
        assert row == pytest.approx(expected)
    assert formulas[4].expression == (f"({one.expression} + {two.expression}) * 2.0 / 4.0")


@pytest.mark.parametrize(
    "combine",
    [
        lambda f, other: f + 5,
        lambda f, other: f * f,
        lambda f, other: f / f,
        lambda f, other: f * watts(5),
        lambda f, other: f + Current.from_amperes(1),
        lambda f, other: f - other,
        lambda f, other: f * True,
        lambda f, other: f.min(5),
        lambda f, other: f.coalesce(other),
        lambda f, other: "x" + f,
    ],
)
def test_formulas_that_do_not_fit_are_refused(
    garage: Microgrid, combine: Callable[[Formula[Power], Any], Any]
) -> None:
    pool = garage.new_ev_charger_pool(priority=1)
    with pytest.raises(TypeError):
        combine(pool.power, pool.current_per_phase)


def test_formulas_of_two_microgrids_do_not_fit(simulator: Simulator, garage: Microgrid) -> None:
    with Microgrid(simulator.url) as other, pytest.raises(TypeError):
        garage.new_ev_charger_pool(priority=1).power.min(
            other.new_ev_charger_pool(priority=1).power
        )


def _subscribed(garage: Microgrid) -> list[int]:
    return [stream.component_id for stream in garage.client.stats().streams]


def test_meter_stands_in_for_a_silent_charger_and_is_let_go(
    simulator: Simulator, garage: Microgrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.formulas.sum_loop._KEEP_FALLBACK", 0.5)
    connect(simulator, 101)
    receiver = garage.new_ev_charger_pool(priority=1).power.new_receiver()
    next_value(receiver, lambda value: value > 10_000)
    assert eventually(lambda: _subscribed(garage) == [101, 102, 103])
    silence(simulator, 101)
    # Without the meter the total would be zero.
    assert eventually(lambda: 10 in _subscribed(garage))
    next_value(receiver, lambda value: value > 10_000)
    receiver.drain()
    next_value(receiver, lambda value: value > 10_000)
    simulator.faults.clear()
    assert eventually(lambda: 10 not in _subscribed(garage))
    next_value(receiver, lambda value: value > 10_000)


WITH_A_PLANT = {
    "component": [
        {"id": 1, "category": "grid"},
        *({"id": meter, "category": "meter"} for meter in (2, 10, 20)),
        *({"id": charger, "category": "ev_charger"} for charger in (101, 102)),
        {"id": 8, "category": "chp", "rating": 1000.0, "starts": "00:00", "stops": "23:59"},
    ],
    "connections": [[1, 2], [2, 10], [2, 20], [10, 101], [20, 102], [20, 8]],
    "car": [{"chargers": [101, 102], "ramp": 10_000.0}],
}


@pytest.mark.microgrid(site=WITH_A_PLANT)
def test_component_without_data_does_not_keep_a_meter_from_standing_in(
    simulator: Simulator, garage: Microgrid
) -> None:
    receiver = garage.new_ev_charger_pool(priority=1).power.new_receiver()
    next_value(receiver, lambda value: value > 20_000)
    silence(simulator, 101, 102)
    # The one behind the meter without a CHP; what the other draws cannot be known.
    next_value(receiver, lambda value: 9000 < value < 12_000)


def test_total_of_nothing_known_is_none(simulator: Simulator, garage: Microgrid) -> None:
    receiver = garage.new_ev_charger_pool(priority=1).power.new_receiver()
    next_value(receiver, lambda value: value == 0)
    silence(simulator, 10, *CHARGERS)
    assert eventually(lambda: receiver.receive(PATIENCE).value is None)


def test_formula_runs_from_its_first_receiver_to_its_last(garage: Microgrid) -> None:
    power = garage.new_ev_charger_pool(priority=1).power
    assert _subscribed(garage) == []
    one, two = power.new_receiver(), power.new_receiver()
    one.receive(PATIENCE)
    one.close()
    two.drain()
    two.receive(PATIENCE)
    two.close()
    assert eventually(lambda: _subscribed(garage) == [])
    with power.new_receiver() as again:
        again.receive(PATIENCE)


def test_total_goes_on_after_the_server_was_gone(simulator: Simulator, garage: Microgrid) -> None:
    connect(simulator, 101)
    receiver = garage.new_ev_charger_pool(priority=1).power.new_receiver()
    next_value(receiver, lambda value: value > 10_000)
    simulator.stop()
    assert eventually(lambda: receiver.receive(PATIENCE).value is None)
    simulator.start()
    next_value(receiver, lambda value: value > 10_000)


# Threads and ends


def _threads() -> list[str]:
    return sorted(
        thread.name.split()[0]
        for thread in threading.enumerate()
        if thread.name.startswith("microgrid-") and "stream" not in thread.name
    )


def test_two_threads_serve_all_pools(garage: Microgrid) -> None:
    assert _threads() == []
    receivers: list[Any] = []
    for number in range(5):
        pool = garage.new_ev_charger_pool(priority=number)
        receivers += [
            pool.power.new_receiver(),
            pool.current_per_phase.new_receiver(),
            pool.power_status.new_receiver(),
            pool.system_power_bounds.new_receiver(),
        ]
    assert _threads() == ["microgrid-control-loop", "microgrid-sum-loop"]
    garage.close()
    assert eventually(lambda: _threads() == [])
    for receiver in receivers:
        receiver.drain()
        with pytest.raises(ReceiverStoppedError):
            receiver.receive(0)


def test_closed_microgrid_refuses_new_work(garage: Microgrid) -> None:
    pool = garage.new_ev_charger_pool(priority=1)
    pool.power_status.new_receiver()
    garage.close()
    garage.close()
    for use in (
        pool.power.new_receiver,
        pool.power_status.new_receiver,
        lambda: pool.propose_power(watts(1)),
    ):
        with pytest.raises(ReceiverStoppedError, match="closed"):
            use()
    pool.stop()


def test_client_that_was_handed_in_stays_open(simulator: Simulator) -> None:
    with MicrogridApiClient(simulator.url) as client:
        with Microgrid(client) as garage:
            assert garage.client is client
            assert len(garage.topology.components(ComponentCategory.EV_CHARGER)) == 3
            garage.new_ev_charger_pool(priority=1).power.new_receiver().receive(PATIENCE)
        assert client.is_connected
        with pytest.raises(ValueError, match="resampling_period"):
            Microgrid(client, resampling_period=timedelta(0))
        assert client.is_connected


def test_microgrid_that_cannot_be_asked_leaves_nothing_behind() -> None:
    with pytest.raises(Exception, match="UNAVAILABLE"):
        Microgrid("grpc://127.0.0.1:1")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"priority": "high"}, TypeError, "'high'"),
        ({"priority": 1, "component_ids": [101, 20, 999]}, ValueError, "20, 999"),
        ({"priority": 1, "component_ids": []}, ValueError, "at least one"),
    ],
)
def test_wrong_pool_is_refused(
    garage: Microgrid, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        garage.new_ev_charger_pool(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"distribution": "fair"},
        {"minimum_current": Current.zero()},
        {"initial_current": Current.from_amperes(5)},
        {"fallback_power": watts(-1)},
        {"raise_interval": timedelta(seconds=-1)},
        {"rest": timedelta(seconds=-1)},
        {"weights": {7: 0.0}},
        {"weights": {7: float("inf")}},
        {"weights": {7: "2"}},
        {"weights": {"7": 2.0}},
        {"proposal_lifetime": timedelta(seconds=-1)},
    ],
)
def test_wrong_charging_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ChargingConfig(**options)
    with pytest.raises(TypeError, match="ChargingConfig"):
        Microgrid("grpc://127.0.0.1:1", charging=options)  # type: ignore[arg-type] # tested


# Proposals


@pytest.fixture
def pool(garage: Microgrid) -> EVChargerPool:
    return garage.new_ev_charger_pool(priority=5, name="the garage")


@pytest.mark.parametrize(
    ("power", "bounds", "error", "words"),
    [
        (-1.0, (None, None), EVChargerPoolError, "0 W or more"),
        (math.nan, (None, None), ValueError, "finite"),
        (math.inf, (None, None), ValueError, "finite"),
        (None, (math.nan, None), ValueError, "lower bound must be finite"),
        (None, (None, math.inf), ValueError, "upper bound must be finite"),
        (1.0, (5.0, 4.0), ValueError, "must not be above"),
        (None, (-5.0, -1.0), ValueError, "0 W or more"),
        (None, (None, -1.0), ValueError, "0 W or more"),
    ],
)
def test_impossible_proposal_is_refused_at_once(
    pool: EVChargerPool,
    power: float | None,
    bounds: tuple[float | None, float | None],
    error: type[Exception],
    words: str,
) -> None:
    lower, upper = (None if bound is None else watts(bound) for bound in bounds)
    with pytest.raises(error, match=words):
        pool.propose_power(None if power is None else watts(power), bounds=Bounds(lower, upper))
    assert _threads() == []


def test_number_instead_of_a_power_is_refused(pool: EVChargerPool) -> None:
    with pytest.raises(TypeError, match=r"power must be a Power.*not 5000"):
        pool.propose_power(5000)  # type: ignore[arg-type] # that is what is tested
    with pytest.raises(TypeError, match=r"the upper bound must be a Power.*not 5000"):
        pool.propose_power(None, bounds=Bounds(None, 5000))  # type: ignore[arg-type] # as above


def test_sets_must_be_equal_or_apart(garage: Microgrid, pool: EVChargerPool) -> None:
    pool.propose_power(watts(5000))
    some = garage.new_ev_charger_pool(priority=1, component_ids=[101, 103])
    with pytest.raises(ValueError, match="101, 103"):
        some.propose_power(watts(5000))
    same = garage.new_ev_charger_pool(priority=9, component_ids=[103, 102, 101])
    same.propose_power(watts(4000))
    same.stop()
    pool.stop()
    some.propose_power(watts(5000))


def test_status_tells_what_higher_priorities_leave(
    simulator: Simulator, garage: Microgrid, pool: EVChargerPool
) -> None:
    for charger in (101, 102, 103):
        connect(simulator, charger)
    low = garage.new_ev_charger_pool(priority=1)
    status, bounds = low.power_status.new_receiver(), pool.system_power_bounds.new_receiver()

    def told(target: float | None, upper: float) -> bool:
        report = status.receive(PATIENCE)
        found = report.target_power
        return (
            report.bounds is not None
            and report.bounds.upper.isclose(watts(upper))
            and (None if found is None else round(found.as_watts())) == target
        )

    assert eventually(lambda: told(None, 66_240.0))
    pool.propose_power(None, bounds=Bounds(None, watts(20_000)))
    assert eventually(lambda: told(20_000, 20_000.0))
    low.propose_power(watts(15_000))
    assert eventually(lambda: told(15_000, 20_000.0))
    pool.stop()
    assert eventually(lambda: told(15_000, 66_240.0))
    # A new receiver gets the latest at once.
    assert low.power_status.new_receiver().receive(0).target_power == watts(15_000)
    everybody = Bounds(watts(0.0), watts(66_240.0))
    # A charger that is late on a busy machine is left out for a moment.
    assert eventually(
        lambda: (newest := bounds.latest()) is not None and newest.inclusion_bounds == everybody
    )
    for charger in (101, 102, 103):
        connect(simulator, charger, connected=False)
    assert eventually(
        lambda: bounds.receive(PATIENCE).inclusion_bounds == Bounds(watts(0.0), watts(0.0))
    )


@pytest.mark.parametrize("fallback", [None, watts(6000.0)])
def test_lapsed_proposal(simulator: Simulator, fallback: Power | None) -> None:
    connect(simulator, 101)
    config = ChargingConfig(
        proposal_lifetime=timedelta(seconds=4),
        raise_interval=timedelta(seconds=1),
        fallback_power=fallback,
    )
    with Microgrid(simulator.url, charging=config) as garage:
        pool = garage.new_ev_charger_pool(priority=1)
        status = pool.power_status.new_receiver()

        def is_obeyed() -> bool:
            pool.propose_power(watts(9000.0))
            return total(simulator) >= 6900

        # Again and again: a busy machine may take as long as one lives.
        assert eventually(is_obeyed)
        expected = fallback
        assert eventually(
            lambda: (
                status.receive(PATIENCE).target_power == expected
                and (expected is None or total(simulator) <= 6000)
            )
        )
        if fallback is None:
            # The set-points stay, and are released when the pool is stopped.
            assert total(simulator) >= 6900
        pool.stop()
        assert eventually(lambda: held(simulator)[101] == 22_080.0)


def test_stop_right_before_the_end_releases_the_chargers(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long a busy machine takes.
    monkeypatch.setattr("microgrid_sync.worker._FINISH_TIMEOUT", PATIENCE)
    connect(simulator, 101)
    with Microgrid(simulator.url, charging=QUICK) as garage:
        pool = garage.new_ev_charger_pool(priority=1)
        pool.propose_power(None, bounds=Bounds(None, watts(8000)))
        assert eventually(lambda: (held(simulator)[101] or 0.0) > 4000)
        pool.stop()
    assert set(held(simulator).values()) == {22_080.0}


def test_pool_that_never_proposed_releases_nothing(
    simulator: Simulator, garage: Microgrid, pool: EVChargerPool
) -> None:
    pool.propose_power(None, bounds=Bounds(None, watts(0)))
    assert eventually(lambda: set(held(simulator).values()) == {0.0})
    other = garage.new_ev_charger_pool(priority=9)
    status = other.power_status.new_receiver()
    other.stop()
    other.propose_power(None)
    # The loop has looked at everything since when it tells of a car.
    connect(simulator, 101)

    def car_is_seen() -> bool:
        bounds = status.receive(PATIENCE).bounds
        return bounds is not None and bounds.upper > watts(0)

    assert eventually(car_is_seen)
    assert set(held(simulator).values()) == {0.0}


def test_charger_that_was_silent_is_released_when_it_is_heard(
    simulator: Simulator, garage: Microgrid, pool: EVChargerPool
) -> None:
    silence(simulator, 102)
    pool.propose_power(watts(60_000))
    assert eventually(lambda: held(simulator)[102] == 0.0)
    pool.stop()
    assert eventually(lambda: held(simulator)[101] == 22_080.0)
    simulator.faults.clear()
    assert eventually(lambda: held(simulator)[102] == 22_080.0)


def test_charger_without_a_car_that_refuses_does_not_stop_the_others(
    simulator: Simulator, garage: Microgrid, pool: EVChargerPool
) -> None:
    connect(simulator, 101)
    refuse(simulator, 103)
    pool.propose_power(None, bounds=Bounds(None, watts(60_000)))
    assert eventually(lambda: (held(simulator)[101] or 0.0) > 10_000)


def test_charger_that_another_set_commands_is_not_released(
    simulator: Simulator, garage: Microgrid, pool: EVChargerPool
) -> None:
    pool.propose_power(watts(5000))
    assert eventually(lambda: set(held(simulator).values()) == {0.0})
    pool.stop()
    garage.new_ev_charger_pool(priority=1, component_ids=[101]).propose_power(watts(0))
    assert eventually(lambda: held(simulator) == {101: 0.0, 102: 22_080.0, 103: 22_080.0})
    status = pool.power_status.new_receiver()
    assert status.receive(PATIENCE)
    assert held(simulator)[101] == 0.0


def test_a_day_in_the_garage(simulator: Simulator, garage: Microgrid, pool: EVChargerPool) -> None:
    results = pool.power_distribution_results.new_receiver()
    power = pool.power.new_receiver()
    pool.propose_power(None, bounds=Bounds(None, watts(24_000.0)))
    # The first round commands every charger.
    assert eventually(lambda: set(held(simulator).values()) == {0.0})
    # Two cars arrive: 10 A each, then what is free.
    connect(simulator, 101)
    connect(simulator, 102)
    assert eventually(lambda: total(simulator) > 20_000)
    assert total(simulator) <= 24_000
    # They take 11 kW at the most; a third gets what they leave.
    bounds = pool.system_power_bounds.new_receiver()
    connect(simulator, 103)
    everybody = Bounds(watts(0.0), watts(3 * 22_080.0))
    assert eventually(lambda: bounds.receive(PATIENCE).inclusion_bounds == everybody)
    pool.propose_power(None, bounds=Bounds(None, watts(30_000.0)))
    assert eventually(lambda: (held(simulator)[103] or 0.0) >= 4140)
    assert total(simulator) <= 30_000
    # The target drops.
    pool.propose_power(None, bounds=Bounds(None, watts(14_000.0)))
    assert eventually(lambda: total(simulator) <= 14_000)
    next_value(power, lambda value: value <= 14_000)
    # The set-points of one charger fail: it is named, and nobody takes what it may still draw.
    refuse(simulator, 101)
    before = held(simulator)[101] or 0.0
    pool.propose_power(None, bounds=Bounds(None, watts(5000.0)))

    def failed() -> bool:
        result = results.receive(PATIENCE)
        return isinstance(result, PartialFailure) and result.failed_components == {101}

    if before > 0:
        # It may be one of the set-points of the target before that fails.
        assert eventually(failed)
    assert eventually(lambda: total(simulator) <= max(5000.0, before))
    if before > 0:
        assert eventually(failed)
    assert total(simulator) <= max(5000.0, before)
    simulator.faults.clear()
    assert eventually(lambda: total(simulator) <= 5000)
    pool.propose_power(None, bounds=Bounds(None, watts(25_000.0)))
    assert eventually(lambda: total(simulator) > 12_000)
    # One falls silent: its meter stands in, and its limit stays reserved. No raise is under way.
    assert eventually(lambda: held(simulator)[102])
    silence(simulator, 102)
    silent = held(simulator)[102] or 0.0
    assert eventually(lambda: 10 in _subscribed(garage))
    power.drain()
    next_value(power, lambda value: value > 0)
    assert (held(simulator)[102] or 0.0) >= silent
    assert total(simulator) <= 25_000
    simulator.faults.clear()

    def succeeded() -> bool:
        return any(isinstance(result, Success) for result in results.drain())

    assert eventually(succeeded)
    # All withdraw.
    pool.stop()
    assert eventually(lambda: set(held(simulator).values()) == {22_080.0})
