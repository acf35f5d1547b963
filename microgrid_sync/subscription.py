"""Calls back with what components send, in a thread of its own."""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from microgrid_sync.program_end import interrupts_us
from microgrid_sync.receiver import Receiver, ReceiverStoppedError

_JOIN_TIMEOUT = 1.0
"""Seconds in which the thread ends when it is closed, unless the callback takes longer."""

_LOG_INTERVAL = 10.0
"""Seconds between two lines about a callback that raises."""

_NUMBERS = itertools.count(1)

_logger = logging.getLogger(__name__)


class Subscription:
    """Calls a function with each value that components send, until it is closed.

    Made by `MicrogridApiClient.subscribe`. One thread calls, one value after the other, in the
    order in which they come; a function that takes long gets the newest values alone, and the
    older ones count as dropped. It may be closed from any thread, the function itself included.
    """

    def __init__(self, receiver: Receiver[Any], callback: Callable[[Any], object]) -> None:
        """Begin to call; see `MicrogridApiClient.subscribe`.

        Args:
            receiver: What the values come from; it belongs to the subscription from then on.
            callback: What is called.
        """
        self._receiver = receiver
        self._callback = callback
        self._failures = 0
        self._error: BaseException | None = None
        self._logged_at = -math.inf
        # A daemon: a program that ends without closing must not wait for its callbacks.
        self._thread = threading.Thread(
            target=self._run, name=f"microgrid-subscription-{next(_NUMBERS)}", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        """Say what it receives, and whether it still does."""
        state = "open" if self._thread.is_alive() else "closed"
        return f"<Subscription to {self._receiver.name}, {state}, {self._failures} failures>"

    @property
    def failures(self) -> int:
        """How often the function has raised; the log has the reason, every ten seconds at most."""
        return self._failures

    @property
    def is_closed(self) -> bool:
        """Whether nothing will be called any more."""
        return self._receiver.is_closed

    @property
    def error(self) -> BaseException | None:
        """What has ended it, if that was the error of a component's stream; it ends the whole."""
        return self._error

    @property
    def dropped(self) -> int:
        """How many values were dropped because the function took too long."""
        return self._receiver.dropped

    def close(self) -> None:
        """Call no more. A call that is under way is waited for, for a second. Again: nothing."""
        self._receiver.close()
        if self._thread is not threading.current_thread() and not interrupts_us():
            self._thread.join(_JOIN_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _run(self) -> None:
        while True:
            try:
                value = self._receiver.receive()
            except ReceiverStoppedError as stopped:
                self._error = stopped.__cause__
                if stopped.__cause__ is not None:
                    _logger.warning("%s; nothing is called any more", stopped)
                return
            if self._receiver.is_closed:
                # What is waiting after a close is not wanted any more.
                return
            self._call(value)

    def _call(self, value: Any) -> None:
        try:
            self._callback(value)
        except (Exception, SystemExit):
            self._failures += 1
            now = time.monotonic()
            if now - self._logged_at >= _LOG_INTERVAL:
                self._logged_at = now
                _logger.exception(
                    "%s: the callback has raised; failures so far: %d",
                    self._receiver.name,
                    self._failures,
                )


def ids_of(component_ids: int | Iterable[int]) -> list[int]:
    """Give the components that are meant, each once.

    Raises:
        TypeError: If it is neither a number nor several.
        ValueError: If there are none.
    """
    if isinstance(component_ids, int):
        return [component_ids]
    if isinstance(component_ids, str) or not isinstance(component_ids, Iterable):
        raise TypeError(f"component_ids must be an ID or several, not {component_ids!r}")
    ids = list(dict.fromkeys(component_ids))
    if not ids:
        raise ValueError("subscribe() needs at least one component")
    return ids
