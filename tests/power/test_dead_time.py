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
    known.failed()
    known.update(0.0, 101.0)
    assert known.known is None


def test_other_car_begins_with_what_is_known_of_the_charger() -> None:
    known = DeadTime()
    reduced(known, 6.0, 0.0)
    reduced(known, 2.0, 100.0)
    known.forget_car()
    assert known.known == 6.0
    for number in range(5):
        reduced(known, 2.0, 200.0 + 100 * number)
    assert known.known == 2.0
