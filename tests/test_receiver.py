"""Receivers: order, bounds, ends, merging."""

import gc
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgrid_sync import Receiver, ReceiverStoppedError, merge
from microgrid_sync.receiver import Writer, newest_of
from microgrid_sync.undecoded import Undecoded, decoded
from tests.support.receivers import FedReceiver
from tests.support.waiting import PATIENCE, eventually


@contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=function)
    thread.start()
    yield thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_values_come_in_order() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    for number in range(5):
        receiver.put(number)
    assert [receiver.receive() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_receive_waits_for_the_next_value() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    found: list[int] = []
    with in_thread(lambda: found.append(receiver.receive(PATIENCE))):
        receiver.put(42)
    assert found == [42]


def test_receive_gives_up_after_its_timeout() -> None:
    receiver: FedReceiver[int] = FedReceiver(name="the meter")
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"the meter.*0\.05"):
        receiver.receive(timeout=0.05)
    assert time.monotonic() - started >= 0.05


def test_receive_with_no_time_takes_what_is_there() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    receiver.put(1)
    assert receiver.receive(timeout=0) == 1
    with pytest.raises(TimeoutError):
        receiver.receive(timeout=0)


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan])
def test_impossible_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        FedReceiver[int]().receive(timeout)


def test_infinite_timeout_waits_like_none() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    with in_thread(lambda: receiver.put(1)):
        assert receiver.receive(math.inf) == 1


@pytest.mark.parametrize(("maxsize", "error"), [(0, ValueError), (-5, ValueError)])
def test_impossible_size_is_refused(maxsize: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(maxsize)):
        FedReceiver[int](maxsize=maxsize)


@pytest.mark.parametrize("maxsize", [2.5, "7", None, True])
def test_size_that_is_no_integer_is_refused(maxsize: object) -> None:
    with pytest.raises(TypeError, match="maxsize must be an integer"):
        FedReceiver[int](maxsize=maxsize)  # type: ignore[arg-type] # that is what is tested


def test_full_receiver_drops_the_oldest_and_counts() -> None:
    receiver: FedReceiver[int] = FedReceiver(maxsize=3)
    assert [receiver.put(number) for number in range(10)] == [0] * 3 + [1] * 7
    assert receiver.dropped == 7
    assert receiver.maxsize == 3
    assert receiver.drain() == [7, 8, 9]


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, 9), st.just("receive"), st.just("drain"))))
def test_receiver_behaves_like_a_list_cut_at_its_front(steps: list[int | str]) -> None:
    receiver: FedReceiver[int] = FedReceiver(maxsize=4)
    model: list[int] = []
    dropped = 0
    for step in steps:
        if isinstance(step, int):
            receiver.put(step)
            model.append(step)
            if len(model) > 4:
                del model[0]
                dropped += 1
            assert receiver.latest() == step
        elif step == "drain":
            assert receiver.drain() == model
            model.clear()
        elif model:
            assert receiver.receive(0) == model.pop(0)
        else:
            with pytest.raises(TimeoutError):
                receiver.receive(0)
        assert receiver.dropped == dropped


def test_dropping_is_logged_once_in_ten_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    receiver: FedReceiver[int] = FedReceiver(maxsize=1, name="the meter")
    for _ in range(100):
        receiver.put(0)
        now += 0.5
    assert receiver.dropped == 99
    lines = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(lines) == 5
    assert "the meter" in lines[0].getMessage()


def test_reader_of_the_latest_value_is_not_told_that_it_is_slow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver: FedReceiver[int] = FedReceiver(maxsize=1)
    receiver.put(0)
    assert receiver.latest() == 0
    receiver.put(1)
    assert receiver.dropped == 1
    assert not caplog.records


def test_latest_consumes_nothing() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    assert receiver.latest() is None
    receiver.put(1)
    assert receiver.latest() == 1
    assert receiver.receive() == 1
    assert receiver.latest() == 1


def test_closed_receiver_gives_what_is_waiting_and_then_stops() -> None:
    receiver: FedReceiver[int] = FedReceiver(name="the meter")
    receiver.put(1)
    receiver.close()
    assert receiver.put(2) == 0
    assert receiver.receive() == 1
    with pytest.raises(ReceiverStoppedError, match="the meter has ended") as raised:
        receiver.receive()
    assert raised.value.__cause__ is None
    assert list(receiver) == []


def test_error_that_ended_a_stream_reaches_every_reader() -> None:
    error = ConnectionError("gone")
    receiver: FedReceiver[int] = FedReceiver()
    receiver.put(1)
    receiver.end(error)
    assert receiver.receive() == 1
    for _ in range(2):
        with pytest.raises(ReceiverStoppedError, match="gone") as stopped:
            receiver.receive()
        assert stopped.value.__cause__ is error
    with pytest.raises(ConnectionError, match="gone"):
        next(receiver)


def test_only_the_first_end_counts() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    receiver.close()
    receiver.end(ConnectionError("late"))
    assert list(receiver) == []


def test_close_calls_back_once() -> None:
    calls: list[int] = []
    receiver: FedReceiver[int] = FedReceiver(on_close=lambda: calls.append(1))
    with receiver:
        pass
    receiver.close()
    assert calls == [1]


def test_end_by_the_writer_does_not_call_back() -> None:
    calls: list[int] = []
    receiver: FedReceiver[int] = FedReceiver(on_close=lambda: calls.append(1))
    receiver.end()
    receiver.close()
    assert calls == []


def test_close_wakes_every_reader() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    barrier = threading.Barrier(11)
    out: list[BaseException] = []

    def read() -> None:
        barrier.wait(PATIENCE)
        try:
            receiver.receive()
        except ReceiverStoppedError as error:
            out.append(error)

    threads = [threading.Thread(target=read) for _ in range(10)]
    for thread in threads:
        thread.start()
    barrier.wait(PATIENCE)
    receiver.close()
    assert eventually(lambda: len(out) == 10)
    for thread in threads:
        thread.join(PATIENCE)


def test_each_value_goes_to_one_of_many_readers() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        receiver: FedReceiver[int] = FedReceiver(maxsize=10_000)
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.extend(receiver)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(5000):
            receiver.put(number)
        receiver.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(found) == list(range(5000))
        assert receiver.dropped == 0
    finally:
        sys.setswitchinterval(interval)


def test_repr_tells_name_and_state() -> None:
    receiver: FedReceiver[int] = FedReceiver(maxsize=2, name="the meter")
    receiver.put(1)
    assert repr(receiver) == "<Receiver of the meter, open, 1/2 waiting>"
    receiver.close()
    assert "closed" in repr(receiver)


# Merging


def _two() -> tuple[FedReceiver[int], FedReceiver[int]]:
    return FedReceiver(maxsize=2, name="one"), FedReceiver(maxsize=3, name="two")


def test_merged_receiver_gives_what_was_waiting_and_what_comes() -> None:
    one, two = _two()
    one.put(1)
    two.put(2)
    merged = merge(one, two)
    two.put(3)
    one.put(4)
    assert merged.maxsize == 5
    assert [merged.receive(0) for _ in range(4)] == [1, 2, 3, 4]
    assert one.latest() == 4


def test_merged_receiver_counts_what_it_drops() -> None:
    one, two = _two()
    merged = merge(one, two)
    assert sum(one.put(number) for number in range(8)) == 3
    assert merged.dropped == 3


def test_closing_a_merged_receiver_closes_its_sources() -> None:
    one, two = _two()
    merged = merge(one, two)
    merged.close()
    assert list(merged) == []
    assert [one.put(1), two.put(1)] == [0, 0]


def test_merged_receiver_ends_with_its_last_source() -> None:
    one, two = _two()
    merged = merge(one, two)
    one.end()
    two.put(2)
    assert merged.receive(0) == 2
    two.close()
    assert list(merged) == []


def test_error_of_one_source_ends_the_merged_receiver_and_the_others() -> None:
    one, two = _two()
    merged = merge(one, two)
    two.put(2)
    one.end(ConnectionError("gone"))
    assert merged.receive(0) == 2
    with pytest.raises(ConnectionError, match="gone"):
        next(merged)
    two.put(3)
    assert two.latest() == 2


def test_source_that_has_ended_already_may_be_merged() -> None:
    one, two = _two()
    one.put(1)
    one.close()
    merged = merge(one, two)
    two.close()
    assert list(merged) == [1]


def test_error_of_a_source_that_has_ended_already_comes_after_all_that_waits() -> None:
    one, two = _two()
    one.put(1)
    two.put(2)
    one.end(ConnectionError("gone"))
    merged = merge(one, two)
    assert merged.drain() == [1, 2]
    with pytest.raises(ConnectionError, match="gone"):
        next(merged)


def test_what_is_no_receiver_cannot_be_merged() -> None:
    with pytest.raises(TypeError, match="5"):
        merge(5)  # type: ignore[arg-type] # that is what is tested


def test_merged_source_cannot_be_read() -> None:
    one, two = _two()
    merge(one, two)
    with pytest.raises(RuntimeError, match="one has been merged"):
        one.receive(0)
    with pytest.raises(RuntimeError, match="one has been merged"):
        one.drain()


def test_reader_that_waits_on_a_source_is_told_of_the_merging() -> None:
    one, two = _two()
    errors: list[str] = []

    def read() -> None:
        try:
            one.receive()
        except RuntimeError as error:
            errors.append(str(error))

    with in_thread(read):
        merge(one, two)
    assert "merged" in errors[0]


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="at least one"):
        merge()


def test_one_receiver_cannot_be_merged_twice() -> None:
    one, two = _two()
    with pytest.raises(ValueError, match="one can be merged only once"):
        merge(one, one)
    merge(one)
    with pytest.raises(ValueError, match="one can be merged only once"):
        merge(two, one)
    two.put(1)
    assert two.receive(0) == 1


def test_merged_receivers_are_freed() -> None:
    one, two = _two()
    merge(one, two)
    del one, two
    gc.collect()
    assert not [o for o in gc.get_objects() if isinstance(o, Receiver) and o.name == "one"]


def _undecoded(number: int, made: list[int], failures: list[Exception]) -> Undecoded[int]:
    """A message whose value is its number; one of a negative number has none."""

    def make(message: int) -> int:
        made.append(message)
        if message < 0:
            raise ValueError(f"{message} has no value")
        return message

    return Undecoded(number, make, failures.append)


def test_message_is_decoded_when_it_is_taken() -> None:
    receiver: FedReceiver[int] = FedReceiver(maxsize=4)
    made: list[int] = []
    for number in range(10):
        receiver.put(_undecoded(number, made, []))
    assert made == []
    assert receiver.latest() == 9
    assert made == [9]
    assert receiver.receive() == 6
    assert next(receiver) == 7
    assert receiver.drain() == [8, 9]
    # What was dropped never was, and nothing twice.
    assert made == [9, 6, 7, 8]


def test_all_receivers_get_the_same_value() -> None:
    one: FedReceiver[int] = FedReceiver()
    two: FedReceiver[int] = FedReceiver()
    made: list[int] = []
    for number in range(1000, 1005):
        message = _undecoded(number, made, [])
        one.put(message)
        two.put(message)
    values = one.drain()
    assert all(a is b for a, b in zip(values, two.drain(), strict=True))
    assert two.latest() is values[-1]
    assert made == values


def test_threads_that_decode_at_once_get_the_same_value() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            failures: list[Exception] = []
            good: Undecoded[list[int]] = Undecoded(7, lambda number: [number], failures.append)
            bad: Undecoded[int] = Undecoded(0, lambda number: 1 // number, failures.append)
            found: list[list[list[int]]] = []
            start = threading.Barrier(3)

            def read(
                good: Undecoded[list[int]] = good,
                bad: Undecoded[int] = bad,
                found: list[list[list[int]]] = found,
                start: threading.Barrier = start,
            ) -> None:
                start.wait(PATIENCE)
                found.append(decoded([good, bad]))

            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert [len(values) for values in found] == [1, 1, 1]
            assert all(values[0] is found[0][0] for values in found)
            assert len(failures) == 1
    finally:
        sys.setswitchinterval(before)


def test_message_that_cannot_be_decoded_is_skipped_and_told_once() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    other: FedReceiver[int] = FedReceiver()
    failures: list[Exception] = []
    for number in (1, -2, 3, -4, -5):
        message = _undecoded(number, [], failures)
        receiver.put(message)
        other.put(message)
        if number == 1:
            assert receiver.latest() == 1
    assert receiver.receive(timeout=0) == 1
    assert receiver.receive(timeout=0) == 3
    # The newest that there is.
    assert receiver.latest() == 3
    with pytest.raises(TimeoutError):
        receiver.receive(timeout=0)
    assert other.drain() == [1, 3]
    assert [str(failure) for failure in failures] == [
        "ValueError: -2 has no value",
        "ValueError: -5 has no value",
        "ValueError: -4 has no value",
    ]


def test_batches_gather_what_comes_within_an_interval() -> None:
    receiver: FedReceiver[int] = FedReceiver(maxsize=1000)
    lists: list[list[int]] = []
    times: list[float] = []

    def read() -> None:
        for batch in receiver.batches(0.1):
            times.append(time.monotonic())
            lists.append(batch)

    began = time.monotonic()
    with in_thread(read):
        for number in range(500):
            receiver.put(number)
            time.sleep(0.001)
        receiver.close()
    assert [number for batch in lists for number in batch] == list(range(500))
    # One comes 0.1 s after the other at the earliest; the last one is cut short by the close.
    assert (len(lists) - 2) * 0.1 <= times[-1] - began
    assert all(lists)


def test_batches_wait_for_the_first_value() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    batches = receiver.batches(0.01)
    found: list[list[int]] = []
    with in_thread(lambda: found.append(next(batches))):
        time.sleep(0.1)
        assert found == []
        receiver.put(5)
    assert found == [[5]]


def test_close_cuts_an_interval_short_and_loses_nothing() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    lists: list[list[int]] = []
    receiver.put(1)
    with in_thread(lambda: lists.extend(receiver.batches(1000.0))):
        assert eventually(lambda: lists == [[1]])
        receiver.put(2)
        receiver.close()
    assert lists == [[1], [2]]


def test_error_that_ended_a_stream_ends_its_batches() -> None:
    receiver: FedReceiver[int] = FedReceiver()
    receiver.put(1)
    receiver.end(OSError("cut off"))
    batches = receiver.batches(5.0)
    assert next(batches) == [1]
    with pytest.raises(OSError, match="cut off"):
        next(batches)


def test_reader_of_batches_is_told_of_the_merging() -> None:
    one, two = _two()
    one.put(1)
    batches = one.batches(1000.0)
    assert next(batches) == [1]
    errors: list[str] = []

    def read() -> None:
        with pytest.raises(RuntimeError, match="has been merged") as caught:
            next(batches)
        errors.append(str(caught.value))

    with in_thread(read):
        merged = merge(one, two)
    assert len(errors) == 1
    two.put(2)
    assert next(merged.batches(0.01)) == [2]


@pytest.mark.parametrize("interval", [0, -1.0, math.nan, math.inf])
def test_impossible_interval_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match="interval must be"):
        FedReceiver[int]().batches(interval)


def test_newest_of_holds_the_newest_alone_and_loses_nothing_by_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer: Writer[int] = Writer(2, "the meter")
    newest = newest_of(Receiver(writer))
    for number in range(100):
        assert writer.put(number) == 0
    assert newest.latest() == 99
    assert newest.drain() == [99]
    assert newest.drain() == []
    assert newest.dropped == 0
    assert caplog.text == ""
    writer.put(100)
    newest.close()
    assert newest.receive(timeout=0) == 100
    with pytest.raises(ReceiverStoppedError):
        newest.receive(timeout=0)
