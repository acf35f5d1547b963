"""What ends with the program: readers must not keep it from ending, nor threads disturb its end."""

import atexit
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Protocol


class EndsWithProgram(Protocol):
    """Something that has threads, or readers that wait."""

    def at_main_thread_end(self) -> None:
        """Wake all readers: the program's main thread has ended."""

    def at_exit(self) -> None:
        """End everything: all threads of the program that are no daemons have ended."""


_open: weakref.WeakSet[EndsWithProgram] = weakref.WeakSet()
# Protects the set. Re-entrant, so that a signal handler may connect.
_lock = threading.RLock()


def ends_with_program(what: EndsWithProgram) -> None:
    """End something when the program does, if it is still referred to then."""
    _register_hooks()
    with _lock:
        _open.add(what)


@functools.cache
def _register_hooks() -> None:
    atexit.register(_for_all, lambda what: what.at_exit())
    # Readers end with the main thread, before Python waits for the other threads: those that wait
    # in receive() would keep the program from ending. Only the threading module knows this
    # moment, and gives it out under a private name. It refuses when the moment is over; then, as
    # without the name, the hook above is all there is.
    with contextlib.suppress(AttributeError, RuntimeError):
        register = getattr(threading, "_register_atexit")  # noqa: B009 - a private name
        register(_for_all, lambda what: what.at_main_thread_end())


def _for_all(end: Callable[[EndsWithProgram], None]) -> None:
    with _lock:
        everything = list(_open)
    for what in everything:
        # One that fails must not keep the others open.
        with contextlib.suppress(Exception):
            end(what)
