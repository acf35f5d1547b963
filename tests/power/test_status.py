"""Whether a charger is usable."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from microgrid_sync import EVChargerCableState, EVChargerComponentState, EVChargerData
from microgrid_sync.power.status import ChargerHealth, ChargerStatus
from tests.support.messages import START

ZERO = (0.0, 0.0, 0.0)
PLUGGED = EVChargerData(
    1, START, 5000.0, ZERO, ZERO, 0.0, ZERO, ZERO, 0.0, 0.0, 22_000.0, 0.0, 50.0,
    EVChargerCableState.EV_LOCKED, EVChargerComponentState.CHARGING,
)  # fmt: skip


def later(seconds: float, data: EVChargerData = PLUGGED) -> EVChargerData:
    return replace(data, timestamp=START + timedelta(seconds=seconds))


def updated(data: EVChargerData = PLUGGED, now: float = 100.0) -> ChargerHealth:
    health = ChargerHealth()
    health.update(data, now)
    return health


@pytest.mark.parametrize("state", EVChargerComponentState)
def test_state(state: EVChargerComponentState) -> None:
    # Of one that says nothing of itself, but of its car, the best is thought.
    working = state.name in {"UNSPECIFIED", "READY", "CHARGING", "DISCHARGING", "INTERRUPTED"}
    expected = ChargerStatus.WORKING if working else ChargerStatus.NOT_WORKING
    assert updated(replace(PLUGGED, component_state=state)).status(100.0, 10.0) is expected


@pytest.mark.parametrize("cable", EVChargerCableState)
def test_cable(cable: EVChargerCableState) -> None:
    working = cable.name in {"EV_PLUGGED", "EV_LOCKED"}
    expected = ChargerStatus.WORKING if working else ChargerStatus.NOT_WORKING
    assert updated(replace(PLUGGED, cable_state=cable)).status(100.0, 10.0) is expected


def test_charger_that_was_never_heard_of_does_not_work() -> None:
    assert ChargerHealth().status(100.0, 10.0) is ChargerStatus.NOT_WORKING


@pytest.mark.parametrize(
    ("age", "status"), [(9.9, ChargerStatus.WORKING), (10.0, ChargerStatus.NOT_WORKING)]
)
def test_data_grows_old(age: float, status: ChargerStatus) -> None:
    assert updated().status(100.0 + age, 10.0) is status


@pytest.mark.parametrize(
    "change",
    [
        {"active_power": math.nan},
        {"active_power_inclusion_upper_bound": math.inf},
        {"active_power_inclusion_lower_bound": math.nan},
        {"active_power_exclusion_upper_bound": math.nan},
    ],
)
def test_data_that_is_not_finite_is_no_data(change: dict[str, float]) -> None:
    health = updated()
    health.update(replace(later(5), **change), 105.0)  # type: ignore[arg-type] # names of floats
    assert health.newest == PLUGGED
    assert health.status(110.0, 10.0) is ChargerStatus.NOT_WORKING


def test_data_whose_timestamp_stands_still_is_no_data() -> None:
    health = updated()
    health.update(PLUGGED, 109.0)
    assert health.status(110.0, 10.0) is ChargerStatus.NOT_WORKING
    health.update(later(11), 111.0)
    assert health.status(111.0, 10.0) is ChargerStatus.WORKING


def test_doubt_doubles_with_every_failure_up_to_half_a_minute() -> None:
    health = updated()
    doubts = []
    for _ in range(8):
        health.fail(100.0)
        doubts.append(health.uncertain_until - 100.0)
    assert doubts == [1, 2, 4, 8, 16, 30, 30, 30]
    assert health.status(101.0, 10.0) is ChargerStatus.UNCERTAIN
    health.succeed()
    assert health.status(101.0, 10.0) is ChargerStatus.WORKING
    health.fail(101.0)
    assert health.status(101.9, 10.0) is ChargerStatus.UNCERTAIN
    assert health.status(102.0, 10.0) is ChargerStatus.WORKING
