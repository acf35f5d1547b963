"""The sum loop, with sources and formulas of the test's own."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from microgrid_sync import ApiClientError, Receiver, ReceiverStoppedError
from microgrid_sync.formulas.expression import Coalesce, Expression, Found, Metric, OrZero, total
from microgrid_sync.formulas.sum_loop import SumLoop, _Clock, _Start
from tests.formulas.test_window import sample
from tests.support.receivers import FedReceiver
from tests.support.waiting import PATIENCE, eventually

PERIOD = timedelta(seconds=0.05)


class Source:
    """Streams that the test writes to."""

    def __init__(self) -> None:
        self.receivers: dict[int, list[FedReceiver[Any]]] = {}
        self.fails: set[int] = set()

    def subscribe(
        self, component_id: int, deliver: Callable[[Receiver[Any] | Exception], None]
    ) -> None:
        if component_id in self.fails:
            deliver(ApiClientError(server_url="u", operation="o", description="d", retryable=True))
            return
        receiver: FedReceiver[Any] = FedReceiver(maxsize=1000)
        self.receivers.setdefault(component_id, []).append(receiver)
        deliver(receiver)

    def is_followed(self, component_id: int) -> bool:
        return component_id in self.receivers

    def put(self, component_id: int, power: float) -> None:
        self.receivers[component_id][-1].put(sample(time.monotonic(), power))


class Recorder:
    """A running formula that keeps what it was sent."""

    def __init__(self, tree: Expression, *, broken: bool = False) -> None:
        self.trees = [tree]
        self.name = "a formula"
        self.found: list[tuple[datetime, float | None]] = []
        self.broken = broken
        self.received = True
        self.ended = threading.Event()

    def publish(self, stamp: datetime, values: Sequence[float | None]) -> None:
        if self.broken:
            raise ZeroDivisionError("a defect")
        self.found.append((stamp, values[0]))

    def is_received(self) -> bool:
        return self.received

    def end(self) -> None:
        self.ended.set()

    def has_been(self, value: float) -> bool:
        """Tell whether it has had a value, however short: it is too old after three periods."""
        return any(found == value for _, found in self.found)

    def newest(self) -> float | None:
        return self.found[-1][1] if self.found else None


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def loop(source: Source) -> Iterator[SumLoop]:
    loop = SumLoop(source.subscribe, PERIOD, "a site")
    yield loop
    loop.worker.close()


def test_values_reach_the_formula_in_time_order(loop: SumLoop, source: Source) -> None:
    formula = Recorder(Metric(1))
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    source.put(1, 7.0)
    assert eventually(lambda: formula.has_been(7.0))
    assert eventually(lambda: len(formula.found) > 10)
    stamps = [stamp for stamp, _ in formula.found]
    assert all(
        (two - one) % PERIOD == timedelta(0) and two > one
        for one, two in itertools.pairwise(stamps)
    )


def test_stream_that_has_ended_is_subscribed_to_again(
    loop: SumLoop, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.worker._RESUBSCRIBE_AFTER", 0.1)
    formula = Recorder(Metric(1))
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    source.fails = {1}
    source.receivers[1][0].end(ConnectionError("gone"))
    time.sleep(0.2)  # for an attempt that fails; without one this shows less
    source.fails = set()
    assert eventually(lambda: len(source.receivers[1]) == 2)
    source.put(1, 9.0)
    assert eventually(lambda: formula.has_been(9.0))


def test_fallback_that_cannot_be_subscribed_to_is_tried_again(
    loop: SumLoop, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    formula = Recorder(Coalesce((Metric(1), Metric(2))))
    monkeypatch.setattr("microgrid_sync.worker._RESUBSCRIBE_AFTER", 0.1)
    source.fails = {2}
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    assert eventually(lambda: len(formula.found) > 8)
    assert set(source.receivers) == {1}
    source.fails = set()
    assert eventually(lambda: 2 in source.receivers)
    source.put(2, 5.0)
    assert eventually(lambda: formula.has_been(5.0))


def test_defect_of_one_window_does_not_end_the_loop(
    loop: SumLoop, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    formula = Recorder(Metric(1), broken=True)
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    source.put(1, 2.0)
    assert eventually(lambda: "failed" in caplog.text)
    formula.broken = False
    # The same value: the first window may have failed before either was taken.
    source.put(1, 2.0)
    assert eventually(lambda: formula.has_been(2.0))


def test_stopped_formula_lets_go_what_no_other_needs(loop: SumLoop, source: Source) -> None:
    one, two = Recorder(Coalesce((Metric(1), Metric(2)))), Recorder(Metric(2))
    loop.start(one)
    loop.start(two)
    assert eventually(lambda: source.is_followed(1) and source.is_followed(2))
    one.received = False
    loop.look_for_unneeded()
    loop.look_for_unneeded()
    with pytest.raises(ReceiverStoppedError):
        source.receivers[1][0].receive(PATIENCE)
    source.put(2, 5.0)
    assert eventually(lambda: two.has_been(5.0))


def test_close_ends_everything(loop: SumLoop, source: Source) -> None:
    formula = Recorder(Metric(1))
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    loop.worker.close()
    assert formula.ended.wait(PATIENCE)
    with pytest.raises(ReceiverStoppedError):
        source.receivers[1][0].receive(0)
    with pytest.raises(ReceiverStoppedError, match="closed"):
        loop.start(Recorder(Metric(1)))
    assert all(r.put(1) == 0 for r in source.receivers[1])


def test_windows_that_were_slept_through_are_left_out() -> None:
    clock = _Clock(PERIOD)
    seconds = PERIOD.total_seconds()
    first = clock.close_window(clock.due)
    assert clock.close_window(clock.due + 0.2 * seconds) == first + PERIOD
    late = clock.due + 10.3 * seconds
    # The newest full window, and the next one is to come.
    assert clock.close_window(late) == first + 12 * PERIOD
    assert late < clock.due <= late + seconds
    assert clock.close_window(clock.due) == first + 13 * PERIOD


def test_site_changes_between_two_windows(loop: SumLoop, source: Source) -> None:
    tree = Found(Metric(1))
    formula = Recorder(tree)
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    source.put(1, 1.0)
    assert eventually(lambda: formula.has_been(1.0))
    loop.change_site(lambda: setattr(tree, "now", Metric(2)), frozenset())
    assert eventually(lambda: source.is_followed(2))
    source.receivers[1][0].drain()
    with pytest.raises(ReceiverStoppedError):
        source.receivers[1][0].receive(PATIENCE)
    source.put(2, 2.0)
    assert eventually(lambda: formula.has_been(2.0))


def test_component_that_is_something_else_is_subscribed_to_anew(
    loop: SumLoop, source: Source
) -> None:
    formula = Recorder(Metric(1))
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    loop.change_site(lambda: None, frozenset({1}))
    assert eventually(lambda: len(source.receivers[1]) == 2)
    source.put(1, 3.0)
    assert eventually(lambda: formula.has_been(3.0))


def test_log_names_what_counts_as_zero_once(
    loop: SumLoop, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    formula = Recorder(OrZero((Metric(1),), {1}))
    loop.start(formula)
    assert eventually(lambda: source.is_followed(1))
    assert eventually(lambda: "a formula goes on without components 1" in caplog.text)
    windows = len(formula.found)
    assert eventually(lambda: len(formula.found) > windows + 5)
    assert caplog.text.count("goes on without") == 1
    assert formula.newest() == 0.0


def test_values_of_one_instant_are_in_one_window(source: Source) -> None:
    """A window that is due waits as long as values are just coming."""
    loop = SumLoop(source.subscribe, timedelta(seconds=1), "a site")
    formula = Recorder(total([Metric(1), Metric(2)]))
    now = time.monotonic()
    loop._work([_Start(formula)], now)
    loop._work(loop.worker._next_messages(0.0), now)
    assert loop._clock is not None
    due = loop._clock.due
    source.put(1, 1.0)
    again = loop._work([], due)
    assert due < again < due + 0.05
    assert formula.found == []
    source.put(2, 2.0)
    later = loop._work([], again)
    assert again < later < due + 0.05
    assert formula.found == []
    loop._work([], later)
    assert formula.newest() == 3.0
    loop.worker.close()


def test_window_closes_however_long_values_keep_coming(source: Source) -> None:
    loop = SumLoop(source.subscribe, timedelta(seconds=0.3), "a site")
    formula = Recorder(Metric(1))
    try:
        loop.start(formula)
        assert eventually(lambda: source.is_followed(1))
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(0.001):
                source.put(1, 1.0)

        writer = threading.Thread(target=write)
        writer.start()
        # However long values keep coming, the window closes.
        assert eventually(lambda: len(formula.found) > 3)
        stop.set()
        writer.join()
    finally:
        loop.worker.close()
