"""What is remembered of a car while it stays: phases, use, rest, tries."""

import math

import pytest

from microgrid_sync.power.stay import PhaseUse, Stay, Use

NAN = math.nan


# Phases


def phases(*samples: tuple[float, tuple[float, float, float]]) -> int | None:
    use = PhaseUse()
    for now, currents in samples:
        use.update(currents, now)
    return use.count()


@pytest.mark.parametrize(
    ("currents", "count"),
    [
        ((16.0, 0.0, 0.0), 1),
        ((0.0, 0.0, 16.0), 1),
        ((16.0, NAN, NAN), 1),
        ((16.0, 0.9, 0.9), 1),
        ((16.0, 16.0, 0.0), 2),
        ((16.0, 16.0, 1.1), 3),
        ((-16.0, -16.0, -16.0), 3),
        ((0.9, 0.9, 0.9), None),
    ],
)
def test_phases_are_those_that_carry_a_current_for_ten_seconds(
    currents: tuple[float, float, float], count: int | None
) -> None:
    assert phases((0.0, currents), (9.9, currents)) is None
    assert phases((0.0, currents), (10.0, currents)) == count


def test_interrupted_current_begins_anew() -> None:
    draws, pause = (16.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    assert phases((0.0, draws), (9.0, pause), (10.0, draws), (19.0, draws)) is None


def test_phase_that_has_just_begun_is_waited_for() -> None:
    one, two = (6.0, 0.0, 0.0), (6.0, 6.0, 0.0)
    assert phases((0.0, one), (8.0, two), (10.0, two)) is None
    assert phases((0.0, one), (8.0, two), (18.0, two)) == 2


def test_phases_stay_known_while_the_car_pauses() -> None:
    draws, pause = (16.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    assert phases((0.0, draws), (10.0, draws), (20.0, pause)) == 1


# Use


class Driven:
    """A car at a charger, second by second."""

    def __init__(self, most: float, *, whole_amperes: bool = False) -> None:
        self.use, self.most, self.now = Use(), most, 0.0
        self.whole_amperes = whole_amperes

    def draw(self, limit: float) -> float:
        offered = limit // 690.0 * 690.0 if self.whole_amperes else limit
        return min(offered, self.most)

    def run(self, seconds: int, limit: float) -> "Driven":
        for _ in range(seconds):
            self.now += 1.0
            self.use.update(self.draw(limit), limit, self.now)
        return self


def test_what_is_not_used_for_three_minutes_is_known() -> None:
    car = Driven(5000.0).run(180, 11_000.0)
    assert car.use.wanted == math.inf
    assert car.run(1, 11_000.0).use.wanted == pytest.approx(5500.0)


def test_margin_gets_closer_when_the_car_has_shown_that_it_draws_the_same() -> None:
    car = Driven(5000.0).run(181, 11_000.0).run(59, 5500.0)
    assert car.use.wanted == pytest.approx(5500.0)
    assert car.run(5, 5500.0).use.wanted == pytest.approx(5150.0)


def test_car_that_wants_more_again_shows_it_within_the_margin() -> None:
    car = Driven(5000.0).run(181, 11_000.0).run(70, 5500.0).run(10, 5150.0)
    car.most = 11_000.0
    assert car.run(1, 5150.0).use.wanted == math.inf or car.draw(5150.0) <= 5000 * 1.02 + 50
    # With the first margin it does so at once.
    car = Driven(5000.0).run(181, 11_000.0).run(10, 5500.0)
    car.most = 11_000.0
    assert car.run(1, 5500.0).use.wanted == math.inf


def test_car_that_takes_less_and_less_is_followed() -> None:
    car = Driven(5000.0).run(181, 11_000.0)
    car.most = 3000.0
    assert car.run(240, 5500.0).use.wanted <= 3000.0 * 1.1


def test_raise_that_is_not_followed_shows_the_limit_of_the_car() -> None:
    car = Driven(7360.0).run(60, 7300.0).run(60, 9000.0)
    assert car.use.wanted == math.inf
    assert car.run(1, 9000.0).use.wanted == pytest.approx(7360 * 1.03)


def test_charger_of_whole_amperes_is_not_lowered_step_by_step() -> None:
    car = Driven(22_000.0, whole_amperes=True)
    limit = 9.9 * 690.0
    for _ in range(60):
        car.run(30, limit)
        limit = min(limit, car.use.wanted)
    # 9 A are drawn of 9.9: one try with less shows why.
    assert limit >= 9.0 * 690.0


def test_limit_below_its_own_says_nothing_of_what_it_wants() -> None:
    car = Driven(5000.0).run(181, 11_000.0).run(600, 2000.0)
    assert car.use.wanted >= 5000.0


# Rest


@pytest.mark.parametrize(
    ("rest", "after_start", "after_stop"), [(900.0, 900.0, 180.0), (60.0, 60.0, 60.0), (0.0, 0, 0)]
)
def test_car_rests_after_a_start_and_after_a_stop(
    rest: float, after_start: float, after_stop: float
) -> None:
    stay = Stay(0.0)
    assert stay.may_start_at(rest) == -math.inf
    stay.begin_start(100.0, is_first=True)
    assert stay.may_start_at(rest) == 100.0 + after_start
    stay.stop(5000.0, is_charging=True)
    assert stay.may_start_at(rest) == 5000.0 + after_stop
    assert stay.interruptions == 1


def test_start_that_was_refused_was_none() -> None:
    stay = Stay(0.0)
    stay.begin_start(100.0, is_first=True)
    stay.undo_start()
    assert stay.may_start_at(900.0) == -math.inf
    # Nor is one undone that was confirmed.
    stay.begin_start(200.0, is_first=True)
    stay.confirm_start(203.0)
    stay.undo_start()
    assert stay.started_at == 203.0


def test_car_that_takes_nothing_gives_way_and_is_tried_less_and_less_often() -> None:
    stay = Stay(0.0)
    pauses = []
    now = 0.0
    for _ in range(4):
        for second in range(700):
            stay.update(0.0, 7000.0, now + second)
        now = stay.gives_way_at()
        stay.stop(now, is_charging=False)
        stay.update(0.0, 0.0, now)
        pauses.append(stay.tried_again_at() - now)
        now += 10_000.0
    assert pauses == [1800.0, 3600.0, 7200.0, 7200.0]
    assert stay.is_asleep
    assert stay.interruptions == 0
    stay.update(3000.0, 7000.0, now)
    assert not stay.is_asleep


# The minimum


def test_minimum_is_that_of_the_car_once_it_is_known_and_the_chargers_if_that_was_too_little() -> (
    None
):
    stay = Stay(0.0)
    assert stay.minimum_phases(3) == 3
    for now in range(11):
        stay.phases.update((16.0, 0.0, 0.0), float(now))
        stay.update(3680.0, 4265.0, float(now))
    assert stay.minimum_phases(3) == 1
    stay.reduce(1450.0, 11.0)
    for now in range(12, 90):
        stay.update(0.0, 1450.0, float(now))
    assert stay.minimum_phases(3) == 3


def test_car_that_only_paused_to_cool_its_battery_needs_no_more_than_before() -> None:
    stay = Stay(0.0)
    for now in range(20):
        stay.phases.update((16.0, 0.0, 0.0), float(now))
        stay.update(3680.0, 4265.0, float(now))
    stay.reduce(1450.0, 20.0)
    for now in range(21, 81):
        stay.update(0.0, 1450.0, float(now))
    assert not stay.too_little
    for now in range(81, 160):
        stay.update(0.0, 1450.0, float(now))
    assert stay.too_little == 1450.0
    for now in range(160, 175):
        stay.update(1440.0, 1450.0, float(now))
    assert not stay.too_little


def test_car_that_stops_long_after_a_low_offer_has_its_own_reasons() -> None:
    stay = Stay(0.0)
    for now in range(11):
        stay.phases.update((16.0, 0.0, 0.0), float(now))
    stay.update(3680.0, 4265.0, 10.0)
    stay.reduce(1450.0, 11.0)
    for now in range(12, 100):
        stay.update(1450.0, 1450.0, float(now))
    for now in range(100, 120):
        stay.update(0.0, 1450.0, float(now))
    assert stay.minimum_phases(3) == 1


def test_car_that_tapers_below_a_limit_that_was_lowered_leaves_the_rest_to_others() -> None:
    stay = Stay(0.0)
    for now in range(400):
        stay.update(7200.0, 11_000.0, float(now))
    assert stay.use.own_limit == 7200.0
    for now in range(400, 800):
        stay.update(5400.0, 5400.0, float(now))
    assert stay.use.own_limit == 7200.0
    for now in range(800, 1000):
        stay.update(2500.0, 5400.0, float(now))
    assert stay.use.own_limit == 2500.0
