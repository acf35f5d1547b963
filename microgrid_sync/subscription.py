"""Calls back with what components send: one thread for all functions of a client."""

import functools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from microgrid_sync.program_end import interrupts_us, run_or_hand_over
from microgrid_sync.receiver import Receiver, ReceiverStoppedError, close_receiver, waking

_CLOSE_TIMEOUT = 1.0
"""Seconds in which a call that is under way ends when its subscription is closed, usually."""

_WAIT = 60.0
"""Seconds of one wait of the thread; all that is for it wakes it."""

_LOG_INTERVAL = 10.0
"""Seconds between two lines about a callback that raises."""

_logger = logging.getLogger(__name__)


class Callbacks:
    """The thread in which a client's functions are called, one call after the other.

    It runs as long as there are subscriptions. Any thread may use this.
    """

    def __init__(self, site: str) -> None:
        """Start nothing yet.

        Args:
            site: The server's host and port, for the thread's name.
        """
        self._name = f"microgrid-callbacks {site}"
        # What is to be looked at; a stream's thread, a finalizer and a handler may put.
        self._due: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        # Protects the number, and that there is one thread while it is not zero.
        self._lock = threading.Lock()
        self._open = 0
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Note a receiver that begins; run."""
        with self._lock:
            self._open += 1
            if self._thread is None:
                # A daemon: a program that ends without closing must not wait for its callbacks.
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread = thread
                try:
                    thread.start()
                except RuntimeError:
                    self._thread = None
                    self._open -= 1
                    raise

    def wake(self, look: Callable[[], bool]) -> None:
        """Have something looked at in the thread; it tells whether its receiver has ended."""
        self._due.put(look)

    def is_current(self) -> bool:
        """Tell whether this is the thread."""
        return self._thread is threading.current_thread()

    def _run(self) -> None:
        while True:
            try:
                look = self._due.get(timeout=_WAIT)
            except queue.Empty:
                continue
            if look():
                with self._lock:
                    self._open -= 1
                    if self._open == 0:
                        self._thread = None
                        return


class Subscription:
    """Calls a function with each value that components send, until it is closed.

    Made by `MicrogridApiClient.subscribe`. One thread calls all functions of a client, one value
    after the other, in the order in which they come; a function that takes long gets the newest
    values alone, and the older ones count as dropped. It may be closed from any thread, the
    function itself included.
    """

    def __init__(
        self,
        receivers: Sequence[Receiver[Any]],
        callback: Callable[[Any], object],
        callbacks: Callbacks,
    ) -> None:
        """Begin to call; see `MicrogridApiClient.subscribe`.

        Args:
            receivers: What the values come from; they belong to the subscription from then on.
            callback: What is called.
            callbacks: Where it is called.
        """
        self._callback = callback
        self._callbacks = callbacks
        self._failures = 0
        self._error: BaseException | None = None
        self._logged_at = -math.inf
        self._is_closed = False
        # Set while no call is under way.
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._ended = [False] * len(receivers)
        self._receivers: list[Receiver[Any]] = []
        for number, receiver in enumerate(receivers):
            callbacks.begin()
            look = functools.partial(self._look, number)
            self._receivers.append(waking(receiver, functools.partial(callbacks.wake, look)))
            # Whatever came before.
            callbacks.wake(look)

    def __repr__(self) -> str:
        """Say what it receives, and whether it still does."""
        state = "closed" if self.is_closed else "open"
        names = " + ".join(receiver.name for receiver in self._receivers)
        return f"<Subscription to {names}, {state}, {self._failures} failures>"

    @property
    def failures(self) -> int:
        """How often the function has raised; the log has the reason, every ten seconds at most."""
        return self._failures

    @property
    def is_closed(self) -> bool:
        """Whether nothing will be called any more."""
        return self._is_closed or all(receiver.is_closed for receiver in self._receivers)

    @property
    def error(self) -> BaseException | None:
        """What has ended a component's stream last, if that was an error; the others go on."""
        return self._error

    @property
    def dropped(self) -> int:
        """How many values were dropped because the function took too long."""
        return sum(receiver.dropped for receiver in self._receivers)

    def close(self) -> None:
        """Call no more. A call that is under way is waited for, for a second. Again: nothing."""
        interrupts = interrupts_us()
        self._is_closed = True
        run_or_hand_over(self._close_receivers, interrupts=interrupts)
        if not self._callbacks.is_current() and not interrupts:
            self._is_idle.wait(_CLOSE_TIMEOUT)

    def _close_receivers(self) -> None:
        for receiver in self._receivers:
            close_receiver(receiver)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # The thread

    def _look(self, number: int) -> bool:
        """Call with the next value of a receiver; tell if it is found to have ended just now."""
        if self._ended[number]:
            return False
        receiver = self._receivers[number]
        try:
            value = receiver.receive(timeout=0)
        except TimeoutError:
            # It was dropped.
            return False
        except ReceiverStoppedError as stopped:
            self._ended[number] = True
            if stopped.__cause__ is not None:
                self._error = stopped.__cause__
                _logger.warning("%s; nothing is called with it any more", stopped)
            return True
        # First this, then the question: who closes does it the other way round.
        self._is_idle.clear()
        try:
            if not self._is_closed:
                self._call(receiver.name, value)
        finally:
            self._is_idle.set()
        return False

    def _call(self, name: str, value: Any) -> None:
        try:
            self._callback(value)
        except (Exception, SystemExit):
            self._failures += 1
            now = time.monotonic()
            if now - self._logged_at >= _LOG_INTERVAL:
                self._logged_at = now
                _logger.exception(
                    "%s: the callback has raised; failures so far: %d", name, self._failures
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
