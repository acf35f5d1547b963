"""Calls back with what components send: one thread for all functions of a client."""

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from microgrid_sync.program_end import interrupts_us, run_or_hand_over
from microgrid_sync.receiver import Receiver, ReceiverStoppedError, calling, close_receiver

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
        # Those for which something has come; a stream's thread, a finalizer and a handler may put.
        self._due: queue.SimpleQueue[Subscription] = queue.SimpleQueue()
        # Protects the number, and that there is one thread while it is not zero.
        self._lock = threading.Lock()
        self._open = 0
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Note a subscription that begins; run."""
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

    def wake(self, subscription: "Subscription") -> None:
        """Have a subscription looked at in the thread."""
        self._due.put(subscription)

    def is_current(self) -> bool:
        """Tell whether this is the thread."""
        return self._thread is threading.current_thread()

    def _run(self) -> None:
        while True:
            try:
                subscription = self._due.get(timeout=_WAIT)
            except queue.Empty:
                continue
            if not subscription.look():
                continue
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    # What is left is of subscriptions that have ended: a new one begins, under the
                    # lock, before anything is due for it.
                    with contextlib.suppress(queue.Empty):
                        while True:
                            self._due.get_nowait()
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
        self._errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self._logged_at = -math.inf
        self._is_closed = False
        self._has_ended = False
        # Whether it is among those that are due: it stands there once, however much comes. Set too
        # often is no harm.
        self._is_due = False
        # Set while no call is under way.
        self._is_idle = threading.Event()
        self._is_idle.set()
        # Until it is there, nothing is looked at.
        self._receiver: Receiver[Any] | None = None
        self._receiver = calling(receivers, self._wake, self._note_error)
        callbacks.begin()
        # Whatever has come before the thread was there for it.
        callbacks.wake(self)

    def __repr__(self) -> str:
        """Say what it receives, and whether it still does."""
        state = "closed" if self.is_closed else "open"
        name = "" if self._receiver is None else self._receiver.name
        return f"<Subscription to {name}, {state}, {self._failures} failures>"

    @property
    def failures(self) -> int:
        """How often the function has raised; the log has the reason, every ten seconds at most."""
        return self._failures

    @property
    def is_closed(self) -> bool:
        """Whether nothing will be called any more."""
        return self._is_closed or (self._receiver is not None and self._receiver.is_closed)

    @property
    def error(self) -> BaseException | None:
        """What has ended a component's stream last, if that was an error; the others go on."""
        return self._error

    @property
    def dropped(self) -> int:
        """How many values were dropped because the function took too long."""
        return 0 if self._receiver is None else self._receiver.dropped

    def close(self) -> None:
        """Call no more. A call that is under way is waited for, for a second. Again: nothing."""
        interrupts = interrupts_us()
        self._is_closed = True
        run_or_hand_over(self._close_receiver, interrupts=interrupts)
        if not self._callbacks.is_current() and not interrupts:
            self._is_idle.wait(_CLOSE_TIMEOUT)

    def _close_receiver(self) -> None:
        if self._receiver is not None:
            close_receiver(self._receiver)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # In any thread

    def _wake(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._callbacks.wake(self)

    def _note_error(self, error: BaseException) -> None:
        self._errors.put(error)
        self._wake()

    # The thread

    def look(self) -> bool:
        """Call with the next value; tell if the whole is found to have ended just now."""
        # First this: what comes from now on makes it due again.
        self._is_due = False
        self._tell_errors()
        receiver = self._receiver
        if receiver is None or self._has_ended:
            return False
        try:
            value = receiver.receive(timeout=0)
        except TimeoutError:
            return False
        except ReceiverStoppedError:
            self._has_ended = True
            return True
        # First this, then the question: who closes does it the other way round.
        self._is_idle.clear()
        try:
            if not self._is_closed:
                self._call(receiver.name, value)
        finally:
            self._is_idle.set()
        # There may be more; others come before it.
        self._wake()
        return False

    def _tell_errors(self) -> None:
        while not self._errors.empty():
            self._error = self._errors.get()
            _logger.warning("%s; nothing is called with it any more", self._error)

    def _call(self, name: str, value: Any) -> None:
        try:
            self._callback(value)
        except BaseException:
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
