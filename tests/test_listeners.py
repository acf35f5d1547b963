"""Callbacks that any thread adds and takes back."""

import threading
from collections.abc import Callable

from microgrid_sync.listeners import Listeners


def test_all_that_are_there_are_given_in_order() -> None:
    listeners = Listeners[str]()
    listeners.add("a")
    take_back = listeners.add("b")
    listeners.add("c")
    assert [*listeners] == ["a", "b", "c"]
    take_back()
    take_back()
    assert [*listeners] == ["a", "c"]


def test_one_that_is_added_twice_is_taken_back_once() -> None:
    listeners = Listeners[str]()
    first = listeners.add("a")
    listeners.add("a")
    first()
    first()
    assert [*listeners] == ["a"]


def test_one_that_is_taken_back_while_others_are_called_does_not_disturb_them() -> None:
    listeners = Listeners[Callable[[], None]]()
    called: list[int] = []
    ends: list[Callable[[], None]] = []

    def caller(number: int) -> Callable[[], None]:
        def call() -> None:
            called.append(number)
            for end in ends:
                end()

        return call

    ends += [listeners.add(caller(number)) for number in range(3)]
    for one in listeners:
        one()
    assert called == [0, 1, 2]
    assert [*listeners] == []


def test_threads_lose_none() -> None:
    listeners = Listeners[int]()
    start = threading.Barrier(4)

    def add(first: int) -> None:
        start.wait(20)
        for number in range(first, first + 500):
            take_back = listeners.add(number)
            if number % 2:
                take_back()

    threads = [threading.Thread(target=add, args=(first,)) for first in range(0, 2000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(listeners) == [*range(0, 2000, 2)]
