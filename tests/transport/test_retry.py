"""Strategies for reconnecting, and policies for unary calls."""

import itertools
import math

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync import DEFAULT_CALL_RETRY, ExponentialBackoff, LinearBackoff
from microgrid_sync.transport.retry import Strategy


def test_linear_backoff_is_the_interval_and_up_to_its_jitter() -> None:
    intervals = list(itertools.islice(LinearBackoff(2.0, 0.5), 200))
    assert all(2.0 <= interval <= 2.5 for interval in intervals)
    assert max(intervals) - min(intervals) > 0.1


def test_exponential_backoff_grows_to_its_maximum() -> None:
    strategy = ExponentialBackoff(1.0, 10.0, 3.0, jitter=0.0)
    assert list(itertools.islice(strategy, 5)) == [1.0, 3.0, 9.0, 10.0, 10.0]


def test_exponential_backoff_outlasts_any_number_of_attempts() -> None:
    strategy = ExponentialBackoff(3.0, 60.0, 10.0, jitter=0.0)
    assert list(itertools.islice(strategy, 1000))[-1] == 60.0
    assert list(itertools.islice(ExponentialBackoff(0.0, 60.0, 10.0, 0.0), 1000))[-1] == 0.0


@pytest.mark.parametrize(
    "strategy", [LinearBackoff(1.0, 0.0, 3), ExponentialBackoff(1.0, 5.0, 2.0, 0.0, 3)]
)
def test_limit_progress_reset_and_copy(strategy: Strategy) -> None:
    assert strategy.get_progress() == "(0/3)"
    first = strategy.next_interval()
    assert first == 1.0
    strategy.next_interval()
    assert strategy.get_progress() == "(2/3)"
    twin = strategy.copy()
    assert twin.get_progress() == "(0/3)"
    assert repr(twin) == repr(strategy)
    assert strategy.next_interval() is not None
    assert strategy.next_interval() is None
    assert strategy.get_progress() == "(3/3)"
    assert len(list(twin)) == 3
    strategy.reset()
    assert strategy.get_progress() == "(0/3)"
    assert strategy.next_interval() == first


def test_progress_without_limit() -> None:
    strategy = LinearBackoff()
    strategy.next_interval()
    assert strategy.get_progress() == "(1/∞)"


def test_no_attempt_at_all() -> None:
    assert LinearBackoff(limit=0).next_interval() is None


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_seconds_are_refused(value: float) -> None:
    for make in (
        lambda: LinearBackoff(interval=value),
        lambda: LinearBackoff(jitter=value),
        lambda: ExponentialBackoff(initial_interval=value),
        lambda: ExponentialBackoff(max_interval=value),
        lambda: ExponentialBackoff(jitter=value),
        lambda: ExponentialBackoff(multiplier=value),
    ):
        with pytest.raises(ValueError, match=str(value)):
            make()


@pytest.mark.parametrize("limit", [-1, 2.5, True])
def test_impossible_limit_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be"):
        LinearBackoff(limit=limit)


@given(
    st.floats(0, 100), st.floats(0, 100), st.floats(1, 100), st.floats(0, 10), st.integers(0, 20)
)
def test_exponential_backoff_stays_in_its_bounds(
    initial: float, maximum: float, multiplier: float, jitter: float, limit: int
) -> None:
    intervals = list(ExponentialBackoff(initial, maximum, multiplier, jitter, limit))
    assert len(intervals) == limit
    for interval in intervals:
        assert min(initial, maximum) <= interval <= maximum + jitter


def test_default_pauses_are_random_and_double() -> None:
    state = tenacity.RetryCallState(DEFAULT_CALL_RETRY, None, (), {})
    for attempt, longest in ((1, 0.1), (2, 0.2), (3, 0.4)):
        state.attempt_number = attempt
        pauses = [DEFAULT_CALL_RETRY.wait(state) for _ in range(300)]
        assert 0 <= min(pauses) < 0.2 * longest
        assert 0.8 * longest < max(pauses) <= longest


@pytest.mark.parametrize("value", ["3", None, True])
def test_seconds_that_are_no_number_are_refused(value: float) -> None:
    with pytest.raises(TypeError, match="interval must be a number of seconds"):
        LinearBackoff(value)
