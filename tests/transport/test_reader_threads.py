"""The threads that read set-points: used again, and ended."""

import gc
import threading
import time
import weakref

import pytest

from microgrid_sync.transport.reader_threads import ReaderThreads
from tests.support.waiting import PATIENCE, eventually


def names() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("microgrid-set-point"))


def test_thread_is_used_again_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microgrid_sync.transport.reader_threads._IDLE_TIME", PATIENCE)
    threads = ReaderThreads("site")
    idents = []
    for number in range(3):
        done = threading.Event()

        def task(done: threading.Event = done) -> None:
            idents.append(threading.get_ident())
            done.set()

        threads.start(number, task)
        assert done.wait(PATIENCE)
        assert eventually(lambda: len(threads._idle) == 1)
        assert names() == [f"microgrid-set-point-{number} site"]
    assert len(set(idents)) == 1
    threads.close()
    assert eventually(lambda: names() == [])


def test_as_many_threads_as_there_is_to_do_at_once() -> None:
    threads = ReaderThreads("site")
    goes_on = threading.Event()
    for number in range(5):
        threads.start(number, lambda: goes_on.wait(PATIENCE))
    assert len(names()) == 5
    threads.close()
    goes_on.set()
    assert eventually(lambda: names() == [])


def test_idle_thread_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microgrid_sync.transport.reader_threads._IDLE_TIME", 0.05)
    threads = ReaderThreads("site")
    threads.start(1, lambda: None)
    assert eventually(lambda: names() == [])
    assert threads._idle == []


def test_every_task_is_run_however_the_threads_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microgrid_sync.transport.reader_threads._IDLE_TIME", 0.001)
    threads = ReaderThreads("site")
    done = threading.Semaphore(0)
    for number in range(500):
        threads.start(number, done.release)
        if number % 3 == 0:
            time.sleep(0.001)
    for _ in range(500):
        assert done.acquire(timeout=PATIENCE)
    threads.close()


def test_idle_thread_keeps_nothing_of_what_it_has_done() -> None:
    class Large:
        def run(self) -> None:
            """Do nothing."""

    threads = ReaderThreads("site")
    large = Large()
    reference = weakref.ref(large)
    threads.start(1, large.run)
    assert eventually(lambda: len(threads._idle) == 1)
    del large
    gc.collect()
    assert eventually(lambda: reference() is None)
    threads.close()
