"""Ends things: handlers, threads that close, the end of the program, and forked children.

**The one rule.** A signal handler, a finalizer (``__del__``, `weakref.finalize`) and a callback of
gRPC's run in a thread that may hold any lock at that moment: ours, gRPC's or the program's.
Therefore:

1. Finalizers and callbacks of this package take no lock and log nothing. They put a small value
   into a `queue.SimpleQueue`, whose ``put`` may interrupt itself, or hand their work over to a
   thread of its own (`hand_over`).
2. What users may call in handlers of theirs, which is every ``close()`` and ``disconnect()``, asks
   `interrupts_us` first. If the call has interrupted code of this package, or of gRPC, in its own
   thread, it hands everything over and does not wait; the work is done when the interrupted code
   has gone on. Otherwise no lock of ours is held in this thread, and it may wait, with a deadline.
3. So no lock has to be re-entrant for the sake of a handler, and none is.

Starting a thread is safe in a handler: of Python's own locks it takes but a re-entrant one.
"""

import atexit
import contextlib
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

_PACKAGE = "microgrid_sync."
_ROOMS_ABOVE = ("simulator", "cli", "__main__", "notebook", "gateways", "recording", "service")
"""Rooms of this package that use the client as any program does, and hold no lock below it."""


def interrupts_us() -> bool:
    """Tell whether the caller's caller was called by code that has interrupted ours, or gRPC's.

    To be asked by a public method that closes something, which our own code never calls.
    """
    frame = sys._getframe(1).f_back
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith(_PACKAGE):
            if name.removeprefix(_PACKAGE).split(".")[0] not in _ROOMS_ABOVE:
                return True
        elif name == "grpc" or name.startswith("grpc."):
            return True
        frame = frame.f_back
    return False


def hand_over(work: Callable[[], object]) -> threading.Thread | None:
    """Do something in a daemon thread of its own, named ``microgrid-close``.

    Returns:
        The thread; ``None`` if there was none to be had, at the end of the program or at a limit of
            the system, and the work has been done in this thread.
    """
    if sys.is_finalizing():
        # No thread runs any more but this one, and all has been ended by `at_exit`.
        return None
    thread = threading.Thread(target=work, name="microgrid-close", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # What is being closed must end all the same.
        work()
        return None
    return thread


def run_or_hand_over(work: Callable[[], object], *, interrupts: bool) -> None:
    """Do something here, or in a thread of its own if the call has interrupted us."""
    if interrupts:
        hand_over(work)
    else:
        work()


# The end of the program


class EndsWithProgram(Protocol):
    """Something that has threads, or readers that wait."""

    def at_main_thread_end(self) -> None:
        """Wake all readers: the program's main thread has ended."""

    def at_exit(self) -> None:
        """End everything: all threads of the program that are no daemons have ended."""


# No lock protects it: each step is one operation of the dictionary's.
_open: dict[int, "weakref.ref[EndsWithProgram]"] = {}


def ends_with_program(what: EndsWithProgram) -> None:
    """End something when the program does, if it is still referred to then."""
    _register_hooks()
    key = id(what)

    def forget(reference: "weakref.ref[EndsWithProgram]") -> None:
        if _open.get(key) is reference:
            del _open[key]

    _open[key] = weakref.ref(what, forget)


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
    if is_forked():
        # None of the threads is here, and locks may be held for ever.
        return
    for reference in _open.copy().values():
        what = reference()
        if what is None:
            continue
        # One that fails must not keep the others open.
        with contextlib.suppress(Exception):
            end(what)


# Forked children

# The process in which the first channel was made; gRPC does not work in its forked children.
_grpc_process: int | None = None

is_child = False
"""Whether this process was forked off one that had imported this module; costs less to ask than
`is_forked`."""


def _note_fork() -> None:
    global is_child
    is_child = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def note_use_of_grpc() -> None:
    """Note that gRPC is being used in this process."""
    global _grpc_process
    check_not_forked()
    _grpc_process = os.getpid()


def is_forked() -> bool:
    """Tell whether this is a child that was forked after gRPC had been used."""
    return _grpc_process is not None and _grpc_process != os.getpid()


def check_not_forked() -> None:
    """Refuse to work in a child that was forked after a channel had been made.

    gRPC's threads do not exist there, and every call hangs past its deadline.

    Raises:
        RuntimeError: In such a child.
    """
    if is_forked():
        raise RuntimeError(
            f"gRPC was in use in process {_grpc_process} before this one, {os.getpid()}, was "
            "forked off, and does not work here; start the process with the method 'spawn' "
            "(multiprocessing.set_start_method), or connect only after the fork"
        )
