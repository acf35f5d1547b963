"""What the ledger makes of set-points that the server has accepted, and not more."""

import math

from microgrid_sync.power import set_point_ledger
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.set_point_ledger import LANDING_TIME, Answer, SetPointLedger

REFRESH = set_point_ledger.ACCEPTED_REFRESH


def confirmed(watts: float, now: float = 0.0) -> SetPointLedger:
    ledger = SetPointLedger()
    ledger.answered(ledger.send(watts, now), Answer.CONFIRMED, now)
    return ledger


def test_accepted_is_not_confirmed() -> None:
    ledger = confirmed(9000.0)
    number = ledger.send(4000.0, 1.0)
    ledger.accepted(number, ledger.newest or 0.0, ledger.sent_at)
    assert not ledger.is_confirmed
    assert ledger.may_hold() == 9000.0
    ledger.answered(number, Answer.CONFIRMED, 2.0)
    assert ledger.is_confirmed
    assert ledger.may_hold() == 4000.0


def test_accepted_is_sent_again_after_a_while() -> None:
    ledger = confirmed(4000.0)
    number = ledger.send(9000.0, 100.0)
    assert ledger.due_at() == math.inf
    ledger.accepted(number, ledger.newest or 0.0, ledger.sent_at)
    assert ledger.due_at() == 100.0 + REFRESH
    assert not ledger.is_due(9000.0, 100.0 + REFRESH - 0.1)
    assert ledger.is_due(9000.0, 100.0 + REFRESH)
    assert ledger.is_due(8000.0, 100.1)


def test_accepted_is_neither_late_nor_given_up() -> None:
    ledger = SetPointLedger()
    number = ledger.send(9000.0, 0.0)
    assert ledger.answer_by() == (number, 5.0)
    assert ledger.overdue(100.0) == number
    ledger.accepted(number, ledger.newest or 0.0, ledger.sent_at)
    assert ledger.answer_by() is None
    assert ledger.overdue(100.0) is None


def test_refresh_does_not_cancel_what_was_accepted() -> None:
    ledger = confirmed(4000.0)
    first = ledger.send(9000.0, 100.0)
    ledger.accepted(first, ledger.newest or 0.0, ledger.sent_at)
    ledger.send(9000.0, 140.0)
    # Its last word still counts, and says the same as that of the newest.
    assert ledger.answered(first, Answer.CONFIRMED, 141.0)
    assert ledger.is_confirmed
    assert ledger.confirmed == 9000.0
    assert ledger.may_hold() == 9000.0


def test_higher_value_that_was_accepted_counts_until_its_last_word() -> None:
    ledger = confirmed(4000.0)
    high = ledger.send(9000.0, 1.0)
    ledger.accepted(high, ledger.newest or 0.0, ledger.sent_at)
    low = ledger.send(2000.0, 2.0)
    ledger.answered(low, Answer.CONFIRMED, 3.0)
    # However long that takes: nobody has cancelled it.
    assert ledger.may_hold() == 9000.0
    later = ledger.send(2000.0, 3.0 + 2 * LANDING_TIME)
    ledger.answered(later, Answer.CONFIRMED, 3.0 + 2 * LANDING_TIME)
    assert ledger.may_hold() == 9000.0
    # Overridden, as the server says.
    ledger.answered(high, Answer.REFUSED, 40.0)
    assert ledger.may_hold() == 2000.0


def test_without_a_last_word_it_counts_as_cut_off() -> None:
    ledger = confirmed(4000.0)
    high = ledger.send(9000.0, 1.0)
    ledger.accepted(high, ledger.newest or 0.0, ledger.sent_at)
    low = ledger.send(2000.0, 2.0)
    ledger.answered(low, Answer.CONFIRMED, 3.0)
    ledger.answered(high, Answer.UNDECIDED, 31.0)
    assert ledger.may_hold() == 9000.0
    later = ledger.send(2000.0, 31.0 + LANDING_TIME + 1.0)
    ledger.answered(later, Answer.CONFIRMED, 31.0 + LANDING_TIME + 1.0)
    assert ledger.may_hold() == 2000.0


def test_late_success_of_an_older_one_is_what_the_server_holds() -> None:
    ledger = confirmed(4000.0)
    high = ledger.send(9000.0, 1.0)
    ledger.accepted(high, ledger.newest or 0.0, ledger.sent_at)
    low = ledger.send(2000.0, 2.0)
    ledger.answered(low, Answer.CONFIRMED, 3.0)
    ledger.answered(high, Answer.CONFIRMED, 4.0)
    assert ledger.may_hold() == 9000.0
    assert not ledger.is_confirmed
    # The newest one is sent again at once.
    assert ledger.is_due(2000.0, 4.0)


def test_undecided_is_no_failure_of_the_charger() -> None:
    charger = Charger(11)
    number = charger.send(5000.0, 0.0)
    charger.ledger.accepted(number, 5000.0, 0.0)
    assert charger.answered(number, Answer.UNDECIDED, 30.0)
    assert charger.health.failures == 0
    number = charger.send(5000.0, 31.0)
    charger.answered(number, Answer.CUT_OFF, 32.0)
    assert charger.health.failures == 1


def test_acceptance_that_is_heard_of_after_the_next_value_was_sent() -> None:
    ledger = confirmed(4000.0)
    high = ledger.send(9000.0, 1.0)
    low = ledger.send(2000.0, 1.1)
    # The server had accepted it before: it was not cancelled.
    ledger.accepted(high, 9000.0, 1.2)
    ledger.answered(low, Answer.CONFIRMED, 1.3)
    later = ledger.send(2000.0, 1.3 + 2 * LANDING_TIME)
    ledger.answered(later, Answer.CONFIRMED, 1.4 + 2 * LANDING_TIME)
    assert ledger.may_hold() == 9000.0
    ledger.answered(high, Answer.CONFIRMED, 25.0)
    assert ledger.may_hold() == 9000.0
    assert not ledger.is_confirmed


def test_acceptance_of_an_attempt_that_was_merged_counts_all_the_same() -> None:
    ledger = confirmed(4000.0)
    high = ledger.send(9000.0, 1.0)
    low = ledger.send(2000.0, 2.0)
    ledger.answered(low, Answer.CONFIRMED, 2.1)
    last = ledger.send(2000.0, 20.0)
    ledger.answered(last, Answer.CONFIRMED, 20.1)
    assert ledger.may_hold() == 2000.0
    ledger.accepted(high, 9000.0, 20.2)
    assert ledger.may_hold() == 9000.0
    ledger.answered(high, Answer.REFUSED, 21.0)
    assert ledger.may_hold() == 2000.0


def test_late_confirmation_of_a_lower_value_frees_nothing() -> None:
    ledger = SetPointLedger()
    low = ledger.send(1000.0, 0.0)
    ledger.accepted(low, 1000.0, 0.1)
    high = ledger.send(10_000.0, 1.0)
    ledger.answered(high, Answer.CONFIRMED, 1.1)
    ledger.send(3000.0, 2.0)
    ledger.answered(low, Answer.CONFIRMED, 2.1)
    assert ledger.may_hold() == 10_000.0


def test_slow_server_that_overrides_what_is_under_way_comes_to_an_end() -> None:
    """Of three values in a row the last one is confirmed, however slow the server is."""
    for delay in (3.0, 6.0, 12.0, 25.0):
        ledger = SetPointLedger()
        wanted = [(0.0, 10_000.0), (2.0, 8000.0), (4.0, 5000.0)]
        under_way: tuple[int, float] | None = None
        now, sent = 0.0, 0
        while now < 120.0:
            value = [watts for since, watts in wanted if since <= now][-1]
            if under_way is not None and now >= under_way[1] + delay:
                ledger.answered(under_way[0], Answer.CONFIRMED, now)
                under_way = None
            if ledger.is_due(value, now):
                number = ledger.send(value, now)
                ledger.accepted(number, value, now)
                if under_way is not None:
                    ledger.answered(under_way[0], Answer.REFUSED, now)
                under_way = number, now
                sent += 1
            now = round(now + 0.5, 3)
        assert ledger.confirmed == 5000.0
        assert ledger.may_hold() == 5000.0
        assert sent < 20
