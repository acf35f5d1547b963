"""Who has which proposal, and for how long."""

import pytest

from microgrid_sync.power.proposal_board import ProposalBoard
from microgrid_sync.power.proposals import Proposal

ONE, BOTH = frozenset([1]), frozenset([1, 2])
CAP = Proposal(1, 5000.0)


def test_pool_holds_one_proposal() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    board.propose("a", BOTH, Proposal(1, 6000.0), 1.0)
    board.propose("b", BOTH, CAP, 1.0)
    assert board.proposals(BOTH) == [Proposal(1, 6000.0), CAP]
    assert board.proposed() == BOTH
    assert board.proposals(ONE) == []


def test_sets_must_be_equal_or_apart() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    with pytest.raises(ValueError, match="chargers 1 have a proposal in another set, 1, 2"):
        board.propose("b", ONE, CAP, 1.0)
    board.propose("b", frozenset([3]), CAP, 1.0)


def test_proposal_whose_time_is_over_refuses_nobody() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    board.propose("b", ONE, CAP, 60.0)


def test_own_proposal_for_another_set_is_replaced() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    board.propose("a", ONE, CAP, 1.0)
    assert board.proposed() == ONE


def test_lapse_gives_the_sets_that_have_none_left() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    board.propose("b", BOTH, CAP, 10.0)
    assert board.lapse(59.9) == []
    assert board.lapse(60.0) == []
    assert board.proposals(BOTH) == [CAP]
    assert board.lapse(70.0) == [BOTH]
    assert board.lapse(71.0) == []


def test_withdrawing_the_last_one_releases_its_chargers() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    board.propose("b", BOTH, CAP, 0.0)
    assert board.withdraw("a") is None
    assert board.withdraw("b") == BOTH
    assert board.withdraw("b") is None


def test_lapsed_one_can_be_withdrawn_unless_it_is_forgotten() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    board.lapse(60.0)
    assert board.remembered() == {BOTH}
    assert board.withdraw("a") == BOTH
    board.propose("a", BOTH, CAP, 100.0)
    board.lapse(160.0)
    board.forget("a")
    assert board.remembered() == set()
    assert board.withdraw("a") is None


def test_pool_that_went_with_its_proposal_alive_is_forgotten_with_it() -> None:
    board = ProposalBoard(60.0)
    board.propose("a", BOTH, CAP, 0.0)
    board.forget("a")
    assert board.proposals(BOTH) == [CAP]
    assert board.lapse(60.0) == [BOTH]
    assert board.remembered() == set()
