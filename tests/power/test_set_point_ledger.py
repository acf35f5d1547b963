"""What the server may hold as one charger's set-point, and when it is sent again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync.power.set_point_ledger import (
    LANDING_TIME,
    REFRESH_AFTER,
    RESEND_AFTER,
    Answer,
    SetPointLedger,
)


def confirmed(watts: float, at: float = 0.0) -> SetPointLedger:
    """A ledger whose newest set-point has just been confirmed."""
    ledger = SetPointLedger()
    ledger.answered(ledger.send(watts, at), Answer.CONFIRMED, at)
    return ledger


def test_before_the_first_confirmation_nothing_is_known() -> None:
    ledger = SetPointLedger()
    assert ledger.may_hold() is None
    ledger.send(5000.0, 0.0)
    assert ledger.may_hold() is None
    assert not ledger.is_confirmed


def test_rule_3_raise_counts_from_its_sending() -> None:
    ledger = confirmed(6000.0)
    ledger.send(11_000.0, 1.0)
    assert ledger.may_hold() == 11_000.0


def test_rule_3_decrease_frees_nothing_before_its_confirmation() -> None:
    ledger = confirmed(11_000.0)
    number = ledger.send(6000.0, 1.0)
    assert ledger.may_hold() == 11_000.0
    ledger.answered(number, Answer.CONFIRMED, 1.1)
    assert ledger.may_hold() == 6000.0


@pytest.mark.parametrize("answer", [Answer.CUT_OFF, Answer.TIMED_OUT])
def test_rule_3_raise_that_was_cut_off_stays_counted(answer: Answer) -> None:
    ledger = confirmed(6000.0)
    raised = ledger.send(22_000.0, 1.0)
    ledger.answered(raised, answer, 2.0)
    lowered = ledger.send(7000.0, 2.3)
    assert ledger.answered(lowered, Answer.CONFIRMED, 2.3)
    # It may land until 12 s, and may be held from then on until something newer was confirmed.
    assert ledger.may_hold() == 22_000.0
    again = ledger.send(7000.0, 12.0)
    ledger.answered(again, Answer.CONFIRMED, 12.1)
    assert ledger.may_hold() == 22_000.0
    last = ledger.send(7000.0, 12.1)
    ledger.answered(last, Answer.CONFIRMED, 12.2)
    assert ledger.may_hold() == 7000.0


def test_rule_3_what_was_superseded_while_under_way_stays_counted() -> None:
    ledger = confirmed(6000.0)
    ledger.send(22_000.0, 1.0)
    ledger.answered(ledger.send(7000.0, 1.5), Answer.CONFIRMED, 1.6)
    assert ledger.may_hold() == 22_000.0


def test_answer_of_its_own_closes_an_attempt() -> None:
    ledger = confirmed(6000.0)
    raised = ledger.send(22_000.0, 1.0)
    ledger.answered(ledger.send(7000.0, 1.5), Answer.CONFIRMED, 1.6)
    assert not ledger.answered(raised, Answer.REFUSED, 1.7)
    assert ledger.may_hold() == 7000.0
    assert ledger.is_confirmed


def test_late_answer_to_an_older_attempt_does_not_confirm_the_newest() -> None:
    ledger = confirmed(6000.0)
    older = ledger.send(22_000.0, 1.0)
    newest = ledger.send(7000.0, 1.5)
    assert not ledger.answered(older, Answer.CONFIRMED, 1.6)
    assert not ledger.is_confirmed
    assert ledger.may_hold() == 22_000.0
    assert ledger.answered(newest, Answer.CONFIRMED, 1.7)
    assert ledger.is_confirmed
    assert ledger.may_hold() == 7000.0


def test_older_one_that_is_confirmed_after_the_newest_has_the_newest_sent_again() -> None:
    ledger = confirmed(6000.0)
    older = ledger.send(22_000.0, 1.0)
    ledger.answered(ledger.send(7000.0, 1.5), Answer.CONFIRMED, 1.6)
    ledger.answered(older, Answer.CONFIRMED, 3.0)
    assert ledger.may_hold() == 22_000.0
    assert ledger.is_due(7000.0, 3.0)


def test_newest_is_sent_every_second_while_another_value_may_land() -> None:
    ledger = confirmed(6000.0)
    ledger.send(22_000.0, 1.0)
    ledger.answered(ledger.send(7000.0, 2.0), Answer.CONFIRMED, 2.1)
    assert not ledger.is_due(7000.0, 2.9)
    sent = []
    now = 3.0
    while ledger.is_due(7000.0, now):
        sent.append(now)
        number = ledger.send(7000.0, now)
        # One at a time, and never cancelling an equal one.
        assert not ledger.is_due(7000.0, now + 4.0)
        ledger.answered(number, Answer.CONFIRMED, now + 0.1)
        now += RESEND_AFTER
    # Once after the landing time, too: it was cut off at 2.
    assert sent == [3.0 + second for second in range(11)]
    assert sent[-1] > 2.0 + LANDING_TIME
    assert not ledger.is_due(7000.0, now + 8.0)
    assert ledger.is_due(7000.0, sent[-1] + REFRESH_AFTER)


def test_open_attempts_of_the_newest_value_count_for_nothing() -> None:
    ledger = confirmed(7000.0)
    for second in (10.0, 20.0, 30.0):
        ledger.answered(ledger.send(7000.0, second), Answer.CUT_OFF, second + 0.1)
    assert not ledger.has_other_open
    assert ledger.may_hold() == 7000.0
    ledger.answered(ledger.send(7000.0, 32.0), Answer.CONFIRMED, 32.1)
    assert not ledger.is_due(7000.0, 34.0)


def test_failed_one_is_tried_again_every_second() -> None:
    ledger = confirmed(7000.0)
    ledger.answered(ledger.send(5000.0, 1.0), Answer.REFUSED, 1.1)
    assert not ledger.is_due(5000.0, 1.5)
    assert ledger.is_due(5000.0, 2.0)
    # The server holds what it held.
    assert ledger.may_hold() == 7000.0


def test_timeouts_grow_after_two_in_a_row() -> None:
    ledger = SetPointLedger()
    given_times = []
    now = 0.0
    for _ in range(6):
        given_times.append(ledger.timeout)
        number = ledger.send(5000.0, now)
        now += ledger.timeout
        ledger.answered(number, Answer.TIMED_OUT, now)
    assert given_times == [5.0, 5.0, 10.0, 20.0, 20.0, 20.0]
    # A server that takes six seconds keeps the time that it needs.
    ledger.answered(ledger.send(5000.0, now), Answer.CONFIRMED, now + 6.0)
    assert ledger.timeout == 20.0
    ledger.answered(ledger.send(5000.0, now + 10), Answer.CONFIRMED, now + 10.1)
    assert ledger.timeout == 5.0


def test_newer_value_does_not_wait_for_a_long_timeout() -> None:
    ledger = confirmed(11_000.0)
    for now in (0.0, 5.0):
        ledger.answered(ledger.send(12_000.0, now), Answer.TIMED_OUT, now + 5.0)
    ledger.send(12_000.0, 10.0)
    assert ledger.is_due(5000.0, 10.1)


def test_doubted_set_point_is_sent_at_once_and_not_believed_until_confirmed() -> None:
    ledger = confirmed(7000.0)
    assert ledger.is_settled
    ledger.doubt()
    assert not ledger.is_settled
    assert ledger.is_due(7000.0, 0.1)
    number = ledger.send(7000.0, 0.1)
    assert not ledger.is_confirmed
    ledger.answered(number, Answer.CONFIRMED, 0.2)
    assert ledger.is_settled
    assert not ledger.is_due(7000.0, 1.0)


def test_new_campaign_believes_no_old_confirmation() -> None:
    ledger = SetPointLedger(confirmed(7000.0))
    assert ledger.may_hold() is None
    assert not ledger.is_confirmed
    assert ledger.newest is None
    assert ledger.earlier_limit == 7000.0


def test_new_campaign_counts_what_may_still_land() -> None:
    earlier = confirmed(7000.0)
    earlier.answered(earlier.send(22_000.0, 1.0), Answer.CUT_OFF, 1.1)
    ledger = SetPointLedger(earlier)
    ledger.answered(ledger.send(5000.0, 2.0), Answer.CONFIRMED, 2.1)
    assert ledger.may_hold() == 22_000.0
    assert ledger.earlier_limit == 7000.0


@given(st.lists(st.tuples(st.integers(0, 22_000), st.sampled_from(Answer)), max_size=300))
def test_it_remembers_no_more_than_ten_seconds_of_attempts(
    attempts: list[tuple[int, Answer]],
) -> None:
    ledger = SetPointLedger()
    for second, (watts, answer) in enumerate(attempts):
        ledger.answered(ledger.send(float(watts), float(second)), answer, second + 0.5)
        assert len(ledger._open) <= LANDING_TIME + 3
        may_hold = ledger.may_hold()
        assert may_hold is None or may_hold >= max(ledger.newest or 0.0, ledger.confirmed or 0.0)
    assert ledger.due_at() >= 0.0 or math.isinf(ledger.due_at())


def test_attempt_whose_end_nobody_tells_is_overdue() -> None:
    ledger = SetPointLedger()
    number = ledger.send(5000.0, 0.0)
    assert ledger.overdue(6.9) is None
    assert ledger.overdue(7.1) == number
    ledger.answered(number, Answer.TIMED_OUT, 7.1)
    assert ledger.is_due(5000.0, 7.1)
    assert ledger.overdue(7.1) is None


def test_campaign_without_a_set_point_leaves_the_limit_from_before() -> None:
    ledger = SetPointLedger(SetPointLedger(confirmed(0.0)))
    assert ledger.earlier_limit == 0.0
    assert ledger.was_commanded
    assert not SetPointLedger(SetPointLedger()).was_commanded
