"""What the ledger makes of set-points that the server has accepted, and not more."""

import math

from microgrid_sync.power import set_point_ledger
from microgrid_sync.power.charger import Charger
from microgrid_sync.power.set_point_ledger import LANDING_TIME, Answer, SetPointLedger

REFRESH = set_point_ledger.REFRESH_AFTER


def confirmed(watts: float, now: float = 0.0) -> SetPointLedger:
    ledger = SetPointLedger()
    ledger.answered(ledger.send(watts, now), Answer.CONFIRMED, now)
    return ledger


def test_accepted_is_not_confirmed() -> None:
    ledger = confirmed(9000.0)
    number = ledger.send(4000.0, 1.0)
    ledger.accepted(number)
    assert not ledger.is_confirmed
    assert ledger.may_hold() == 9000.0
    ledger.answered(number, Answer.CONFIRMED, 2.0)
    assert ledger.is_confirmed
    assert ledger.may_hold() == 4000.0


def test_accepted_is_sent_again_as_what_is_confirmed_is() -> None:
    ledger = confirmed(4000.0)
    number = ledger.send(9000.0, 100.0)
    assert ledger.due_at() == math.inf
    ledger.accepted(number)
    assert ledger.due_at() == 100.0 + REFRESH
    assert not ledger.is_due(9000.0, 100.0 + REFRESH - 0.1)
    assert ledger.is_due(9000.0, 100.0 + REFRESH)
    assert ledger.is_due(8000.0, 100.1)


def test_accepted_is_neither_late_nor_given_up() -> None:
    ledger = SetPointLedger()
    number = ledger.send(9000.0, 0.0)
    assert ledger.answer_by() == (number, 5.0)
    assert ledger.overdue(100.0) == number
    ledger.accepted(number)
    assert ledger.answer_by() is None
    assert ledger.overdue(100.0) is None


def test_refresh_does_not_cancel_what_was_accepted() -> None:
    ledger = confirmed(4000.0)
    first = ledger.send(9000.0, 100.0)
    ledger.accepted(first)
    ledger.send(9000.0, 110.0)
    # Its last word still counts.
    ledger.answered(first, Answer.CONFIRMED, 111.0)
    assert ledger.confirmed == 9000.0
    assert ledger.may_hold() == 9000.0


def test_higher_value_that_was_accepted_counts_until_its_last_word() -> None:
    ledger = confirmed(4000.0)
    high = ledger.send(9000.0, 1.0)
    ledger.accepted(high)
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
    ledger.accepted(high)
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
    ledger.accepted(high)
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
    charger.ledger.accepted(number)
    assert charger.answered(number, Answer.UNDECIDED, 30.0)
    assert charger.health.failures == 0
    number = charger.send(5000.0, 31.0)
    charger.answered(number, Answer.CUT_OFF, 32.0)
    assert charger.health.failures == 1
