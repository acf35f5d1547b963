"""Tests how the rotation of a charger is found."""

import itertools
import random

import pytest

from microgrid_sync.power.rotation import (
    UNKNOWN,
    RotationSearch,
    parse_rotation,
    rotation_name,
)

ORDERS = list(itertools.permutations(range(3)))


class House:
    """A meter's currents, with cars that step behind it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.house = [5.0, 5.0, 5.0]
        self.now = 0.0

    def live(self) -> list[float]:
        self.now += 1.0
        for phase in range(3):
            self.house[phase] += self.chance.gauss(0.0, 0.15)
            if self.chance.random() < 0.01:
                self.house[phase] += self.chance.choice([-9.0, 9.0, -4.0, 4.0])
        return list(self.house)


def lived(
    search: RotationSearch, house: House, order: tuple[int, ...], phases: int, steps: int
) -> None:
    """Let a car step, and the search see it."""
    for _ in range(steps):
        ampere = house.chance.choice([0.0, 6.0, 10.0, 13.0, 16.0])
        for _ in range(8):
            meter = house.live()
            own = [ampere if phase < phases else 0.0 for phase in range(3)]
            for phase, of_meter in enumerate(order):
                meter[of_meter] += own[phase]
            search.update(meter, own, house.now)
            wrong = [f for f, t in zip(search.found, order, strict=True) if f not in {None, t}]
            assert not wrong


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_found_of_cars_with_one_and_two_phases(order: tuple[int, ...]) -> None:
    for seed in range(3):
        search, house = RotationSearch(), House(seed)
        lived(search, house, order, 1, 30)
        # One phase says where that one is; which of the others is which is not known yet.
        assert list(search.found) == [order[0], None, None]
        lived(search, house, order, 2, 30)
        assert list(search.found) == list(order)


def test_three_equal_phases_say_nothing() -> None:
    search, house = RotationSearch(), House(1)
    lived(search, house, (2, 0, 1), 3, 60)
    assert search.found == UNKNOWN


def test_one_step_is_never_enough() -> None:
    search, house = RotationSearch(), House(2)
    lived(search, house, (1, 2, 0), 1, 2)
    assert search.found == UNKNOWN


def test_kettle_that_is_switched_as_the_car_steps_misleads_nobody() -> None:
    search = RotationSearch()
    now = 0.0
    for ampere, kettle in [(16.0, 9.0), (6.0, 0.0), (16.0, 9.0), (6.0, 0.0)] * 3:
        for _ in range(6):
            now += 1.0
            # The car is on the third phase, the kettle always on the first.
            search.update([5.0 + kettle, 5.0, 5.0 + ampere], [ampere, 0.0, 0.0], now)
    assert search.found[0] in {None, 2}


def test_battery_that_answers_each_step_on_all_phases_hides_nothing() -> None:
    search = RotationSearch()
    now = 0.0
    for ampere in (0.0, 12.0) * 8:
        for _ in range(6):
            now += 1.0
            answer = ampere / 3
            search.update(
                [4.0 - answer, 4.0 + ampere - answer, 4.0 - answer], [ampere, 0.0, 0.0], now
            )
    assert search.found[0] == 1


def test_contradiction_drops_what_was_certain_and_the_new_order_is_found() -> None:
    search, house = RotationSearch(), House(3)
    lived(search, house, (0, 1, 2), 1, 60)
    assert search.found[0] == 0
    for _ in range(40):
        ampere = house.chance.choice([0.0, 8.0, 16.0])
        for _ in range(8):
            meter = house.live()
            meter[2] += ampere
            search.update(meter, [ampere, 0.0, 0.0], house.now)
    assert search.found[0] == 2


def test_names_of_all_six_orders_are_read_and_others_are_not() -> None:
    for order in ORDERS:
        assert parse_rotation(rotation_name(order)) == order
    assert parse_rotation("L2L3L1") == (1, 2, 0)
    for wrong in ("L1L2", "L1L1L2", "l1l2l3", "123"):
        with pytest.raises(ValueError, match="one of L1L2L3, L1L3L2"):
            parse_rotation(wrong)
