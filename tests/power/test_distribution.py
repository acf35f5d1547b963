"""The distribution of power: rules one by one, and any sequence of events."""

import math
from datetime import timedelta
from typing import Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.distribution import plan
from microgrid_sync.power.proposals import Proposal, Range
from microgrid_sync.power.results import PartialFailure, Success
from microgrid_sync.power.set_point_ledger import Answer
from tests.support.site_model import (
    FAULTS,
    RATING,
    RECONNECTED_AFTER,
    SIX_AMPERES,
    VOLTAGE,
    Fault,
    ModelSite,
)

MINIMUM = math.ceil(SIX_AMPERES * 1.03)
TEN_AMPERES = 10 * VOLTAGE

EQUAL = ChargingConfig(
    distribution="equal",
    minimum_on_time=timedelta(seconds=120),
    rest=timedelta(seconds=120),
    raise_interval=timedelta(seconds=60),
)


def site(*cars: float, config: ChargingConfig | None = None, chargers: int = 0) -> ModelSite:
    """Make a site with cars of these limits at the first chargers."""
    made = ModelSite(max(len(cars), chargers), config or ChargingConfig())
    for number, limit in enumerate(cars, 1):
        made.chargers[number].connected = True
        made.chargers[number].car_limit = limit
    return made


def held(made: ModelSite) -> list[float | None]:
    return [charger.held for charger in made.chargers.values()]


def test_rule_2_nobody_is_raised_before_his_last_set_point_is_confirmed() -> None:
    made = site(22_000.0, config=ChargingConfig(raise_interval=timedelta(seconds=1)))
    # It charges only when it is offered something.
    made.chargers[1].held = 0.0
    # Answered after 3 s each.
    made.chargers[1].fault = "slow"
    made.propose(50_000)
    made.run(3.9)
    assert made.sent[1] == [0.0]
    made.run(3)
    assert made.sent[1] == [0.0, TEN_AMPERES]
    made.run(3)
    assert made.sent[1] == [0.0, TEN_AMPERES, RATING]


def test_rule_3_raise_that_has_failed_is_taken_back_if_it_does_not_fit() -> None:
    made = site(22_000.0, 22_000.0)
    made.propose(22_000)
    made.run(100)
    one, two = made.known.values()
    # The first one's raise has failed, the second one's decrease has not been answered.
    one.answered(one.send(6900.0, made.now), Answer.CONFIRMED, made.now)
    two.answered(two.send(11_000.0, made.now), Answer.CONFIRMED, made.now)
    one.answered(one.send(15_000.0, made.now), Answer.REFUSED, made.now)
    two.send(4265.0, made.now)
    planned = plan([one, two], 22_000.0, made.config, now=made.now, may_raise=True)
    assert planned.set_points[1] == 6900.0


def test_rule_5_new_campaign_commands_every_charger_again() -> None:
    made = site(11_000.0, 11_000.0)
    made.propose(20_000)
    # Not when the ordinary refresh is due.
    made.run(93)
    # It has lapsed: nothing is sent, and the server may forget.
    made.proposals = []
    made.run(3)
    before = {number: len(sent) for number, sent in made.sent.items()}
    made.propose(20_000)
    made.run(0.5)
    assert all(len(sent) > before[number] for number, sent in made.sent.items())


def test_first_round_commands_every_charger() -> None:
    made = site(chargers=4)
    made.propose(50_000)
    made.run(2)
    assert held(made) == [0.0] * 4


def test_car_that_arrives_gets_ten_amperes_if_they_are_free() -> None:
    made = site(chargers=2)
    made.propose(50_000)
    made.run(2)
    made.chargers[1].connected = True
    made.run(2)
    assert held(made) == [TEN_AMPERES, 0.0]


def test_car_that_arrives_gets_six_amperes_if_no_more_is_free() -> None:
    made = site(chargers=2)
    made.propose(5000)
    made.run(2)
    made.chargers[1].connected = True
    made.run(2)
    assert held(made) == [MINIMUM, 0.0]


def test_car_that_arrives_gets_nothing_if_less_than_the_minimum_is_free() -> None:
    made = site(chargers=2)
    made.propose(4000)
    made.run(2)
    made.chargers[1].connected = True
    made.run(200)
    assert held(made) == [0.0, 0.0]


def test_limit_is_raised_after_a_minute_up_to_the_bound() -> None:
    made = site(chargers=2)
    made.propose(50_000)
    made.run(2)
    made.chargers[1].connected = True
    made.run(58)
    assert held(made)[0] == TEN_AMPERES
    made.run(6)
    assert held(made)[0] == math.floor(RATING)


def test_cars_that_charge_already_go_on_as_they_are() -> None:
    made = site(7400.0, 11_000.0)
    made.propose(30_000)
    made.run(2)
    assert held(made) == [7400.0, 11_000.0]


def test_car_that_leaves_gets_zero_and_another_gets_its_power() -> None:
    made = site(11_000.0, chargers=2)
    made.propose(11_000)
    made.run(5)
    made.chargers[2].connected = True
    made.run(5)
    assert held(made) == [11_000.0, 0.0]
    made.chargers[1].connected = False
    made.run(3)
    assert held(made) == [0.0, TEN_AMPERES]


def test_target_below_the_draw_throttles_those_that_draw_most() -> None:
    made = site(5000.0, 11_000.0, 8000.0)
    made.propose(24_000)
    made.run(5)
    made.propose(20_000)
    made.run(3)
    assert held(made) == [5000.0, 7000.0, 8000.0]
    made.propose(14_000)
    made.run(3)
    assert made.total_held() <= 14_000
    assert held(made)[0] == 5000.0
    made.propose(9000)
    made.run(3)
    assert sorted(h or 0.0 for h in held(made)) == [0.0, MINIMUM, MINIMUM]
    made.propose(0)
    made.run(3)
    assert held(made) == [0.0] * 3


def test_target_below_what_is_allocated_takes_back_what_is_not_drawn() -> None:
    made = site(5000.0, 11_000.0)
    made.propose(40_000)
    made.run(130)
    assert made.total_held() > 30_000
    made.propose(16_500)
    made.run(3)
    one, two = held(made)
    assert one is not None
    assert two is not None
    assert one + two <= 16_500
    assert one >= 5000
    assert two >= 11_000


def test_lower_bound_of_a_charger_lowers_its_limit() -> None:
    made = site(11_000.0)
    made.propose(30_000)
    made.run(5)
    made.chargers[1].upper = 8000.0
    made.run(2)
    assert held(made) == [8000.0]
    made.chargers[1].upper = 3000.0
    made.run(2)
    assert held(made) == [0.0]


def test_failed_set_point_is_reported_reserved_and_tried_again() -> None:
    made = site(11_000.0, 11_000.0)
    made.propose(30_000)
    made.run(5)
    made.chargers[1].fault = "refused"
    made.propose(14_000)
    made.run(3)
    result = made.under_test.result
    assert isinstance(result, PartialFailure)
    assert result.failed_components == {1}
    # What the first may still draw is reserved: the second must not make up for it.
    assert made.total_held() <= 22_000
    made.chargers[1].fault = "none"
    made.run(5)
    assert made.total_held() <= 14_000
    made.run(120)
    assert isinstance(made.under_test.result, Success)
    assert made.under_test.result.succeeded_components == {1, 2}


@pytest.mark.parametrize("how", ["silent", "nan"])
def test_charger_that_falls_silent_keeps_its_limit_reserved(how: str) -> None:
    made = site(11_000.0, chargers=2)
    made.propose(20_000)
    made.run(5)
    made.chargers[1].silent = how == "silent"
    made.chargers[1].is_nan = how == "nan"
    made.run(30)
    made.chargers[2].connected = True
    made.run(200)
    assert held(made)[0] == 11_000.0
    assert (held(made)[1] or 0.0) <= 9000.0
    assert (held(made)[1] or 0.0) >= TEN_AMPERES
    # A decrease goes to it all the same.
    made.propose(6000)
    made.run(10)
    assert made.total_held() <= 6000


def test_nothing_is_raised_before_all_have_been_heard_of_or_ten_seconds_have_passed() -> None:
    made = site(0.0, chargers=2)
    made.chargers[2].silent = True
    made.propose(60_000)
    made.run(9.5)
    assert held(made) == [0.0, 0.0]
    made.run(3)
    assert held(made) == [TEN_AMPERES, 0.0]


def test_silent_charger_that_cannot_be_commanded_is_reserved_at_its_rating() -> None:
    made = site(0.0, chargers=2)
    made.chargers[2].silent = True
    made.chargers[2].fault = "lost"
    made.propose(RATING + 5000)
    made.run(60)
    # The server may have taken the zero, or not: nobody knows.
    assert held(made)[0] == MINIMUM


def test_charger_without_a_car_that_refuses_costs_nobody_anything() -> None:
    made = site(22_000.0, 22_000.0, 22_000.0)
    made.propose(100_000)
    made.run(80)
    assert made.total_held() > 60_000
    made.chargers[3].fault = "refused"
    made.chargers[3].connected = False
    made.run(30)
    assert held(made)[:2] == [RATING, RATING]


def test_limit_that_has_fallen_below_six_amperes_is_not_kept() -> None:
    made = site(11_000.0)
    made.propose(MINIMUM)
    made.run(5)
    assert held(made) == [MINIMUM]
    made._report()

    def commands(volts: float, seconds: int) -> list[float]:
        commanded: list[float] = []
        for _ in range(seconds):
            made.now += 1.0
            made._report()
            made.known[1].advance(made.now, volts * 3)
            commanded += made.under_test.step(made.proposals, made.now).values()
        return commanded

    # A wobble of some percent stops nobody, nor does what a car goes on with.
    assert 0.0 not in commands(235.0, 5) + commands(250.0, 1) + commands(236.0, 5)
    assert 0.0 not in commands(250.0, 30)
    made.chargers[1].car_limit = 0.0
    assert 0.0 in commands(250.0, 1)


def test_staggered_time_outs_are_reported() -> None:
    made = site(11_000.0, 11_000.0, 11_000.0)
    made.propose(33_000)
    made.run(5)
    made.chargers[1].fault = "lost"
    made.propose(20_000)
    made.run(2.5)
    made.chargers[2].fault = "lost"
    made.propose(12_000)
    made.run(60)
    assert isinstance(made.under_test.result, PartialFailure)


def test_set_points_are_sent_again_so_that_they_are_not_forgotten() -> None:
    made = site(11_000.0)
    made.propose(20_000)
    made.run(5)
    before = made.commands
    made.run(45)
    assert 3 <= made.commands - before <= 5


def test_without_proposals_nothing_is_commanded() -> None:
    made = site(11_000.0, 11_000.0)
    made.run(100)
    assert made.commands == 0


def test_withdrawing_releases_the_chargers_once() -> None:
    made = site(11_000.0, chargers=2)
    made.propose(5000)
    made.run(5)
    made.withdraw()
    made.run(3)
    assert held(made) == [RATING, RATING]
    before = made.commands
    made.run(60)
    assert made.commands == before


def test_release_is_tried_until_it_is_confirmed() -> None:
    made = site(11_000.0)
    made.propose(5000)
    made.run(5)
    made.chargers[1].fault = "refused"
    made.withdraw()
    made.run(10)
    assert held(made) == [5000.0]
    made.chargers[1].fault = "none"
    made.run(5)
    assert held(made) == [RATING]


def test_charger_that_draws_more_than_its_limit_is_reported_and_reserved() -> None:
    made = site(11_000.0, chargers=2)
    made.propose(22_000)
    made.run(5)
    made.chargers[1].cheats = True
    made.run(8)
    assert isinstance(made.under_test.result, Success)
    made.run(5)
    result = made.under_test.result
    assert isinstance(result, PartialFailure)
    assert result.failed_components == {1}
    assert result.failed_power.as_watts() == pytest.approx(
        made.chargers[1].draw - (held(made)[0] or 0.0)
    )
    made.chargers[2].connected = True
    made.run(60)
    assert made.chargers[1].draw + (held(made)[1] or 0.0) <= 22_000


def test_without_voltage_nothing_new_is_allocated() -> None:
    made = site(11_000.0, chargers=2)
    made.propose(30_000)
    made.run(3)
    made.chargers[2].connected = True
    made._report()
    made.known[2].advance(made.now, None)
    commands = made.under_test.step(made.proposals, made.now)
    assert commands == {}


# Equal shares


def test_equal_shares_are_equal() -> None:
    made = site(22_000.0, 22_000.0, 22_000.0, config=EQUAL)
    made.propose(30_000)
    made.run(150)
    assert held(made) == [10_000.0] * 3


def test_equal_shares_leave_what_one_cannot_take_to_the_others() -> None:
    made = site(22_000.0, 22_000.0, 22_000.0, config=EQUAL)
    made.chargers[2].upper = 5000.0
    made.propose(30_000)
    made.run(150)
    assert held(made) == [12_500.0, 5000.0, 12_500.0]


@pytest.mark.parametrize("target", range(3 * MINIMUM, 3 * MINIMUM + 4))
def test_all_get_their_minimum_if_it_fits(target: int) -> None:
    made = site(11_000.0, 11_000.0, chargers=3, config=EQUAL)
    made.propose(target)
    made.run(60)
    made.chargers[3].connected = True
    made.run(6)
    assert min(power or 0.0 for power in held(made)) >= MINIMUM


def test_new_car_takes_its_share_from_the_others() -> None:
    made = site(22_000.0, chargers=2, config=EQUAL)
    made.propose(20_000)
    made.run(100)
    assert held(made) == [20_000.0, 0.0]
    made.chargers[2].connected = True
    made.run(5)
    assert held(made) == [10_000.0, 10_000.0]


@pytest.mark.computes
def test_cars_take_turns_when_there_is_not_enough_for_all() -> None:
    made = site(11_000.0, 11_000.0, 11_000.0, config=EQUAL)
    made.propose(5000)
    made.run(1200)
    received = [charger.received for charger in made.chargers.values()]
    assert min(received) > 0.5 * max(received)


def test_car_that_takes_nothing_gives_way() -> None:
    made = site(0.0, 11_000.0, config=EQUAL)
    made.propose(5000)
    made.run(1200)
    assert made.chargers[2].received > 400 * MINIMUM


@pytest.mark.computes
@pytest.mark.parametrize("interval", [1.0, 0.1])
def test_what_has_been_chosen_stays_chosen_while_its_set_point_is_under_way(
    interval: float,
) -> None:
    made = site(11_000.0, 11_000.0, config=EQUAL)
    for charger in made.chargers.values():
        charger.fault = "slow"
    before = made.commands
    for _ in range(round(600 / interval)):
        made.propose(5000)
        made.run(interval)
    received = sum(charger.received for charger in made.chargers.values())
    # The target all the time but for the changes from one to the other.
    assert received > 0.8 * 600 * MINIMUM
    assert made.commands - before < 300


def test_energy_counts_from_the_confirmation() -> None:
    made = site(11_000.0, config=EQUAL)
    made.chargers[1].fault = "lost"
    made.propose(5000)
    made.run(30)
    stay = made.known[1].stay
    assert stay is not None
    assert not stay.energy.total(made.now)


# Draws that are not what they should be


def total_draw(made: ModelSite) -> float:
    return sum(charger.draw for charger in made.chargers.values())


@pytest.mark.parametrize("excess", [1.03, 1.095, 1.2])
def test_rule_7_what_is_drawn_beyond_the_limit_is_reserved_told_or_not(excess: float) -> None:
    made = site(22_000.0, 22_000.0, 22_000.0)
    made.propose(33_000)
    made.run(100)
    for charger in made.chargers.values():
        charger.excess = excess
    made.run(60)
    for _ in range(300):
        made.run(1)
        assert total_draw(made) <= 33_000 * 1.02
    # Nobody is stopped for it, and no more is taken away than there is need for.
    assert total_draw(made) > 29_000


def test_others_make_room_for_a_charger_that_ignores_its_limit() -> None:
    made = site(11_000.0, 22_000.0, 22_000.0)
    made.propose(40_000)
    made.run(100)
    made.chargers[1].excess = 3.0
    made.chargers[1].car_limit = 22_000.0
    made.run(30)
    assert total_draw(made) <= 40_000 * 1.02


@pytest.mark.parametrize("lag", [2.0, 4.5, 6.0, 9.0])
def test_nobody_is_raised_on_what_a_car_still_draws(lag: float) -> None:
    made = site(22_000.0, chargers=2, config=EQUAL)
    made.chargers[1].obeys_after = lag
    made.propose(20_000)
    made.run(100)
    assert held(made) == [20_000.0, 0.0]
    made.chargers[2].connected = True
    made.chargers[2].car_limit = 22_000.0
    for _ in range(200):
        made.run(0.1)
        assert total_draw(made) <= 20_000
    made.run(60)
    assert min(power or 0.0 for power in held(made)) >= MINIMUM


def test_silent_charger_is_given_its_time_to_obey() -> None:
    made = site(22_000.0, chargers=2)
    made.chargers[1].obeys_after = 4.5
    made.propose(22_000)
    made.run(100)
    made.chargers[1].silent = True
    made.run(20)
    made.chargers[2].connected = True
    made.propose(15_000)
    for _ in range(100):
        made.run(0.1)
        assert total_draw(made) <= max(15_000, made.chargers[1].draw)


@pytest.mark.parametrize("count", [1, 5])
def test_server_that_forgets_all_set_points_is_answered_at_once(count: int) -> None:
    made = site(*[22_000.0] * count)
    made.propose(count * 5000)
    made.run(100)
    made.restart()
    made.run(RECONNECTED_AFTER + 1.0)
    assert made.total_held() <= count * 5000


def test_draw_far_above_the_limit_is_answered_at_once() -> None:
    made = site(22_000.0, 22_000.0)
    made.propose(10_000)
    made.run(100)
    # One charger alone has forgotten, and its stream goes on.
    made.chargers[1].held = None
    made.run(2.1)
    assert made.total_held() <= 10_000


# Targets and bounds


def test_upper_bound_below_zero_never_sends_a_negative_set_point() -> None:
    made = site(11_000.0)
    made.propose(5000)
    made.run(5)
    made.chargers[1].upper = -4000.0
    made.run(5)
    made.withdraw()
    made.run(20)
    assert held(made) == [0.0]


@pytest.mark.parametrize(
    ("power", "bounds", "most"),
    [
        (10_000.0, (-math.inf, math.inf), 10_000.0),
        (3000.0, (-math.inf, math.inf), 0.0),
        (None, (5000.0, 10_000.0), 10_000.0),
        (None, (1000.0, 4000.0), 0.0),
        (None, (-math.inf, 4139.0), 0.0),
        (0.0, (-math.inf, math.inf), 0.0),
    ],
)
def test_excluded_power_is_excluded_for_one_charger_not_for_all_together(
    power: float | None, bounds: tuple[float, float], most: float
) -> None:
    made = site(11_000.0, 11_000.0, 11_000.0, 11_000.0)
    for charger in made.chargers.values():
        charger.excluded = SIX_AMPERES
        charger.lower = 3100.0
    made.proposals = [Proposal(0, power, Range(*bounds))]
    made.run(200)
    assert made.total_held() <= most
    assert made.total_held() >= most - 2 * MINIMUM
    assert made.under_test.target == most


# Any sequence of events


class Distribution(RuleBasedStateMachine):
    """Cars, targets, bounds, refusals, late answers, silences and returns, in any order."""

    @initialize(
        count=st.integers(1, 4),
        distribution=st.sampled_from(["first-come", "equal"]),
        watts=st.integers(0, 60_000),
    )
    def begin(self, count: int, distribution: Literal["first-come", "equal"], watts: int) -> None:
        self.config = ChargingConfig(
            distribution=distribution,
            minimum_on_time=timedelta(seconds=60),
            rest=timedelta(seconds=60),
            raise_interval=timedelta(seconds=20),
        )
        self.site = ModelSite(count, self.config)
        self.site.propose(watts)

    def _charger(self, number: int) -> int:
        return number % self.site.count + 1

    @rule(seconds=st.floats(0.2, 40.0))
    def wait(self, seconds: float) -> None:
        self.site.run(seconds)

    @rule(watts=st.integers(0, 60_000))
    def propose(self, watts: int) -> None:
        self.site.propose(watts)
        self.site.run(0.01)

    @rule()
    def withdraw(self) -> None:
        self.site.withdraw()
        self.site.run(0.01)

    @rule(
        number=st.integers(0, 3),
        car=st.sampled_from(
            [(0.0, 3), (3600.0, 1), (7400.0, 2), (7400.0, 3), (11_000.0, 3), (22_000.0, 3)]
        ),
    )
    def arrive(self, number: int, car: tuple[float, int]) -> None:
        charger = self.site.chargers[self._charger(number)]
        if not charger.connected:
            charger.plug(connected=True, car_limit=car[0], phases=car[1])

    @rule(number=st.integers(0, 3))
    def leave(self, number: int) -> None:
        self.site.chargers[self._charger(number)].plug(connected=False)

    @rule(number=st.integers(0, 3), fault=st.sampled_from(FAULTS))
    def fail(self, number: int, fault: Fault) -> None:
        self.site.chargers[self._charger(number)].fault = fault

    @rule(number=st.integers(0, 3), silent=st.booleans(), nan=st.booleans())
    def fall_silent(self, number: int, silent: bool, nan: bool) -> None:
        charger = self.site.chargers[self._charger(number)]
        charger.silent, charger.is_nan = silent, nan

    @rule(number=st.integers(0, 3), upper=st.sampled_from([3000.0, 8000.0, 11_040.0, RATING]))
    def change_bound(self, number: int, upper: float) -> None:
        charger = self.site.chargers[self._charger(number)]
        # Before the first set-point a charger is taken for as large as it last said.
        if charger.held is not None and not charger.silent and not charger.is_nan:
            charger.upper = upper

    @rule(number=st.integers(0, 3), cheats=st.booleans())
    def cheat(self, number: int, cheats: bool) -> None:
        self.site.chargers[self._charger(number)].cheats = cheats

    @precondition(lambda self: hasattr(self, "site"))
    @invariant()
    def nothing_is_between_zero_and_the_minimum(self) -> None:
        for charger in self.site.chargers.values():
            assert not charger.held or charger.held >= SIX_AMPERES / 3

    def teardown(self) -> None:
        """When all faults are gone, everything comes right."""
        if not hasattr(self, "site"):
            return
        made = self.site
        for charger in made.chargers.values():
            charger.silent = charger.is_nan = charger.cheats = False
            charger.fault, charger.upper = "none", RATING
        made.propose(12_000)
        made.run(120)
        assert made.total_held() <= 12_000
        assert all(charger.ledger.is_confirmed for charger in made.known.values())
        cars = [c for c in made.chargers.values() if c.connected]
        if self.config.distribution == "first-come":
            idle = [c for c in cars if c.car_limit and not c.held]
            assert not idle or 12_000 - made.total_held() < MINIMUM
            return
        hungry = [c for c in cars if c.car_limit]
        before = {id(c): c.received for c in hungry}
        made.run(60.0 * (len(cars) + 2) * 2)
        assert all(c.received > before[id(c)] for c in hungry), "somebody starves"


TestDistribution = pytest.mark.computes(Distribution.TestCase)
TestDistribution.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
