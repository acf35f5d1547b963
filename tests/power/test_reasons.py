"""What a pool is told of each charger, in words."""

import math
from dataclasses import replace

import pytest

from microgrid_sync import EVChargerComponentState
from microgrid_sync.power.config import ChargingConfig
from tests.support.site_model import ModelSite


def site(*cars: float, distribution: str = "first-come") -> ModelSite:
    config = ChargingConfig(distribution=distribution)  # type: ignore[arg-type] # one of the two
    made = ModelSite(len(cars), config)
    for charger, power in zip(made.chargers.values(), cars, strict=True):
        charger.plug(connected=True, car_limit=power)
        charger.held = 0.0
    return made


def words(made: ModelSite, charger: int) -> str:
    """Give the reason; times of the day as seconds from now."""
    reports = made.under_test.charger_reports(lambda at: f"{at - made.now:.0f} s", made.now)
    return reports[charger].reason


def test_first_offer_counts_down_and_is_raised() -> None:
    made = site(22_000.0)
    assert words(made, 1) == "not commanded: nobody proposes anything"
    made.propose(12_000)
    made.run(20)
    assert words(made, 1) == "first offer 10 A; may be raised in 42 s"
    made.run(60)
    assert words(made, 1) == "charges with what is free; may be raised in 42 s"
    made.propose(60_000)
    made.run(180)
    assert words(made, 1) == "all that the charger can"


def test_places_in_the_queue_and_turns() -> None:
    made = site(11_000.0, 11_000.0, 11_000.0, distribution="equal")
    made.propose(5000)
    made.run(300)
    assert words(made, 1).startswith("charges with its share")
    assert words(made, 2) == "waits: 1 of 2 places; next at 601 s"
    assert words(made, 3) == "waits: 2 of 2 places; next at 601 s"
    made.run(620)
    assert words(made, 1).startswith("waits: 2 of 2 places") or "rests" in words(made, 1)


def test_car_that_was_stopped_rests() -> None:
    made = site(11_000.0)
    made.propose(8000)
    made.run(60)
    made.propose(0)
    made.run(10)
    assert words(made, 1) == "the target is 0 W"
    made.propose(3000)
    made.run(10)
    assert words(made, 1) == "the target of 3.0 kW is less than its 4.3 kW"
    made.propose(8000)
    made.run(10)
    assert words(made, 1) == "rests until 811 s"


def test_car_that_takes_nothing() -> None:
    made = site(0.0, 11_000.0)
    made.propose(8000)
    made.run(120)
    assert words(made, 1).startswith("full or asleep: draws under 100 W; gives way to others from")
    made.run(600)
    assert words(made, 1).startswith("full: drew under 100 W for 10 min; tried again from ")


def test_car_that_takes_less_than_it_may() -> None:
    made = site(5000.0, 22_000.0)
    made.propose(18_000)
    made.run(600)
    assert words(made, 1) == "all that its car takes: 5.0 kW"


def test_what_is_wrong_with_a_charger() -> None:
    made = site(11_000.0, 11_000.0, 11_000.0, 11_000.0)
    made.propose(30_000)
    made.run(60)
    made.chargers[1].silent = True
    made.chargers[2].plug(connected=False)
    made.chargers[3].fault = "refused"
    made.chargers[4].cheats = True
    made.run(20)
    made.propose(20_000)
    made.run(5)
    assert words(made, 1).startswith("silent; ")
    assert words(made, 2) == "no car"
    assert words(made, 3) == "set-points fail; they are sent again every second"
    assert "more than it may; others make room" in words(made, 4)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (EVChargerComponentState.ERROR, "in error"),
        (EVChargerComponentState.AUTHORIZATION_REJECTED, "the car is not authorized"),
        (EVChargerComponentState.STARTING, "not ready"),
    ],
)
def test_states(state: EVChargerComponentState, expected: str) -> None:
    made = site(0.0)
    made.propose(20_000)
    made.run(5)
    data = replace(made.data(1), component_state=state)
    made.now += 1.0
    made.known[1].update(replace(data, timestamp=made.data(1).timestamp), made.now)
    made._look()
    assert words(made, 1) == expected


def test_unknown_voltage_and_bounds_that_are_too_low() -> None:
    made = site(0.0)
    made.chargers[1].upper = 3000.0
    made.propose(20_000)
    made.run(5)
    assert words(made, 1) == "cannot be served: its bounds allow 3.0 kW, its car needs 4.3 kW"
    made.known[1].advance(made.now, None)
    made.under_test.step(made.proposals, made.now)
    assert words(made, 1) == "no voltage is known: nothing new is allocated"
    assert math.isinf(made.known[1].volts.highest)
