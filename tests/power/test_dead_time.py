"""How long a charger and its car take to obey."""

from microgrid_sync.power.dead_time import DeadTime


def reduced(known: DeadTime, after: float, at: float) -> None:
    """Let a reduction from 11 to 5 kW be seen after some seconds."""
    known.sent(5000.0, 11_000.0, at)
    known.update(11_000.0, at + after / 2)
    known.update(5040.0, at + after)
    known.sent(11_000.0, 5040.0, at + after + 1)


def test_slowest_of_the_last_reductions_counts() -> None:
    known = DeadTime()
    assert known.known is None
    reduced(known, 6.0, 0.0)
    assert known.known == 6.0
    reduced(known, 3.0, 100.0)
    assert known.known == 6.0
    for number in range(5):
        reduced(known, 3.0, 200.0 + 100 * number)
    assert known.known == 3.0


def test_nothing_is_learned_of_what_was_obeyed_before_or_never() -> None:
    known = DeadTime()
    # Lower than before, but more than it draws.
    known.sent(9000.0, 5000.0, 0.0)
    known.update(5000.0, 1.0)
    # It has its own reasons.
    known.sent(2000.0, 5000.0, 10.0)
    known.update(5000.0, 80.0)
    known.update(0.0, 81.0)
    # It was refused.
    known.sent(2000.0, 5000.0, 100.0)
    known.failed(2000.0)
    known.update(0.0, 101.0)
    assert known.known is None


def test_lower_limit_on_the_way_does_not_hide_how_slow_the_first_is_obeyed() -> None:
    known = DeadTime()
    known.sent(5000.0, 11_000.0, 0.0)
    known.update(11_000.0, 3.0)
    known.sent(0.0, 11_000.0, 4.0)
    known.update(11_000.0, 6.0)
    known.update(5000.0, 7.0)
    assert known.known == 7.0
    known.update(0.0, 12.0)
    assert known.known == 8.0


def test_raise_to_what_is_still_less_than_is_drawn_does_not_begin_anew() -> None:
    known = DeadTime()
    known.sent(5000.0, 11_000.0, 0.0)
    known.sent(6000.0, 11_000.0, 3.0)
    known.update(6000.0, 5.0)
    assert known.known == 5.0


def test_lower_limit_that_fails_leaves_the_one_before() -> None:
    known = DeadTime()
    known.sent(5000.0, 11_000.0, 0.0)
    known.sent(0.0, 11_000.0, 3.0)
    known.failed(0.0)
    # Tried once more.
    known.failed(0.0)
    known.update(5000.0, 6.0)
    assert known.known == 6.0


def test_other_car_begins_with_what_is_known_of_the_charger() -> None:
    known = DeadTime()
    reduced(known, 6.0, 0.0)
    reduced(known, 2.0, 100.0)
    known.forget_car()
    assert known.known == 6.0
    for number in range(5):
        reduced(known, 2.0, 200.0 + 100 * number)
    assert known.known == 2.0
