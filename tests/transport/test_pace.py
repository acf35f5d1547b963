"""Streams that are held back."""

import itertools
import time

import hypothesis.strategies as st
from hypothesis import given

from microgrid_sync import MicrogridApiClient
from microgrid_sync.client import keep_pace
from microgrid_sync.simulator import Simulator
from microgrid_sync.transport.pace import Pace
from tests.support.waiting import PATIENCE


@given(st.floats(1.0, 1000.0), st.lists(st.floats(0.0, 0.5), min_size=1, max_size=200))
def test_no_more_come_than_are_wanted(rate: float, waits: list[float]) -> None:
    pace = Pace(rate)
    now = began = 100.0
    for wait in waits:
        now += wait
        now += pace.pause(1, now)
    # As many as the rate says, and those of two seconds more.
    assert len(waits) <= (now - began + 2.0) * rate + 1.0


def test_who_sends_less_is_not_held_back() -> None:
    pace = Pace(10.0)
    assert [pace.pause(1, 100.0 + 0.1 * n) for n in range(100)] == [0.0] * 100


def test_each_stream_has_its_rate_in_any_case() -> None:
    pace = Pace(10.0, 2.0)
    now = 100.0
    # A hundred components at 1 Hz are no flood.
    held = []
    for _ in range(20):
        held += [pace.pause(stream, now) for stream in range(100)]
        now += 1.0
    assert pace.rate == 200.0
    assert sum(held[500:]) == 0.0
    assert not pace.is_news(now)


def test_it_is_told_now_and_then_that_more_comes_than_is_read() -> None:
    pace = Pace(10.0)
    now, told = 100.0, []
    for _ in range(20_000):
        now += pace.pause(1, now)
        if pace.is_news(now):
            told.append(now)
    assert len(told) == 4
    assert told[0] - 100.0 < 10.0
    assert min(b - a for a, b in itertools.pairwise(told)) >= 600.0


def test_a_client_reads_at_its_pace_and_ends_at_once() -> None:
    with Simulator(sample_interval=0.01) as simulator, MicrogridApiClient(simulator.url) as client:
        keep_pace(client, 20.0)
        began = time.monotonic()
        receivers = [client.ev_charger_data(number) for number in (7, 8)]
        count = 0
        while count < 80:
            count += sum(len(receiver.drain()) for receiver in receivers)
            time.sleep(0.05)
        # Those of the first two seconds, and then twenty a second of both.
        assert time.monotonic() - began > 1.5
        # In the middle of a pause.
        ending = time.monotonic()
    assert time.monotonic() - ending < PATIENCE
