"""Runs the threads in which a simulator answers calls."""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar

T = TypeVar("T")

_NAME = "simulator-call"


def is_call_thread() -> bool:
    """Tell whether this thread answers a call."""
    return threading.current_thread().name == _NAME


class ThreadPerCall(futures.ThreadPoolExecutor):
    """Runs each call in a daemon thread of its own.

    A stream keeps a thread for as long as it lasts, so that no size of a pool is right; and the
    threads of a pool keep the interpreter from ending.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "futures.Future[T]":
        """Start a thread that runs the function."""
        future: futures.Future[T] = futures.Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - as in every executor: into the future
                future.set_exception(error)

        threading.Thread(target=run, name=_NAME, daemon=True).start()
        return future
