"""Runs a worker thread: it starts on first use, has an inbox, wakes when due, and ends.

Whatever the thread works on belongs to it alone. Others send it small values through its inbox, and
may wait for an answer; the thread itself never waits for a call. What it reads of components is
subscribed to elsewhere, and delivered to the inbox.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from microgrid_sync.deadline import Deadline
from microgrid_sync.program_end import check_not_forked, ends_with_program, hand_over, is_forked
from microgrid_sync.receiver import (
    Receiver,
    ReceiverStoppedError,
    close_receiver,
    take_all,
    waking,
)

A = TypeVar("A")

_ANSWER_TIMEOUT = 60.0
"""Seconds for an answer of a worker; it takes milliseconds unless the machine stands still."""

_WAIT_SLICE = 0.5
"""Seconds after which who waits for an answer looks whether the worker still runs."""

_PAUSE_AFTER_FAILURE = 1.0
_JOIN_TIMEOUT = 1.0

_FINISH_TIMEOUT = 1.0
"""Seconds for what has been asked for before the end."""

_RESUBSCRIBE_AFTER = 10.0
"""Seconds between two attempts to subscribe to a component whose stream has ended for good."""

_END: Final = object()

_logger = logging.getLogger(__name__)


class Question(Generic[A]):
    """A message to which its sender waits for an answer."""

    def __init__(self) -> None:
        """Make a question that has not been answered."""
        self._answer: queue.SimpleQueue[tuple[A | None, BaseException | None]]
        self._answer = queue.SimpleQueue()

    def answer(self, find: Callable[[], A]) -> None:
        """Answer with what a function gives, or raises."""
        try:
            self._answer.put((find(), None))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the sender raises it
            self._answer.put((None, error))

    def wait(self, timeout: float) -> A:
        """Wait for the answer; raise `queue.Empty` if none has come in time."""
        value, error = self._answer.get(timeout=timeout)
        if error is not None:
            raise error
        return value  # type: ignore[return-value] # with no error there is an answer


class _Mark(Question[None]):
    """A question that is answered when all messages before it have been worked on."""


class Worker:
    """A daemon thread with an inbox. Any thread may post, ask and close."""

    def __init__(
        self,
        name: str,
        *,
        work: Callable[[list[Any], float], float],
        end: Callable[[], None],
        is_idle: Callable[[], bool] = lambda: True,
    ) -> None:
        """Make a worker that has not started.

        Args:
            name: The thread's name.
            work: Called in the thread with the messages that have come and the time on the
                monotonic clock; gives the time by which it must be called again.
            end: Called once when all is over: in the thread, or in that of the first `close` if the
                worker has never started.
            is_idle: Tells, in the thread, whether nothing is left to be done before the end.
        """
        self._name = name
        self._work = work
        self._end = end
        self._is_idle = is_idle
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Serializes the start with the end.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._has_ended = False

    @property
    def has_started(self) -> bool:
        """Whether the thread has been started."""
        return self._thread is not None

    @property
    def is_closing(self) -> bool:
        """Whether `close` has been called."""
        return self._is_closing

    def post(self, message: object) -> None:
        """Send a message; start the thread if it is the first.

        Raises:
            ReceiverStoppedError: If the worker has been closed.
            RuntimeError: In a child that was forked off.
        """
        check_not_forked()
        # Without the lock, once the thread runs: a signal handler may post.
        if self._thread is None:
            self._start()
        if self._is_closing:
            raise ReceiverStoppedError("the microgrid has been closed")
        self.deliver(message)

    def deliver(self, message: object) -> None:
        """Send a message from a callback or a finalizer: no lock, no error, no start."""
        self._inbox.put(message)
        if self._has_ended:
            # What a message carries may need a lock to be let go of.
            hand_over(self._discard)

    def ask(self, question: Question[A]) -> A:
        """Send a question, and wait for its answer.

        Raises:
            ReceiverStoppedError: If the worker has been closed.
            TimeoutError: If there is no answer for a minute.
            RuntimeError: In a child that was forked off, or in the worker's own thread, which would
                wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError(f"{self._name} cannot wait for itself; ask in another thread")
        self.post(question)
        deadline = Deadline(_ANSWER_TIMEOUT)
        while not deadline.has_passed():
            has_ended = self._has_ended
            try:
                return question.wait(0.0 if has_ended else _WAIT_SLICE)
            except queue.Empty:
                if has_ended:
                    raise ReceiverStoppedError("the microgrid has been closed") from None
        raise TimeoutError(f"{self._name} gives no answer")

    def wait_for_messages(self) -> None:
        """Wait until all has been worked on that was sent before; not if nothing runs.

        Raises:
            TimeoutError: If that takes a minute.
        """
        if self._thread is not None and not self._is_closing:
            with contextlib.suppress(ReceiverStoppedError):
                self.ask(_Mark())

    def close(self, *, wait: bool = True) -> None:
        """End the thread, after what has been posted before. Any number of times.

        Args:
            wait: Whether to wait for the end, for about two seconds at the most.
        """
        if is_forked():
            return
        with self._lock:
            first, self._is_closing = not self._is_closing, True
            thread = self._thread
        if thread is None:
            if first:
                self._finish()
            return
        if first:
            self._inbox.put(_END)
        if wait and thread is not threading.current_thread():
            thread.join(_FINISH_TIMEOUT + _JOIN_TIMEOUT)

    def at_main_thread_end(self) -> None:
        """See `EndsWithProgram.at_main_thread_end`."""
        self.close()

    at_exit = at_main_thread_end

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_closing:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                # Before it starts: Ctrl-C may come while this thread waits for that.
                self._thread = thread
                ends_with_program(self)
                try:
                    thread.start()
                except RuntimeError:
                    self._thread = None
                    raise

    # The thread

    def _run(self) -> None:
        due = time.monotonic()
        until = math.inf
        try:
            while True:
                messages = self._next_messages(min(due, until))
                if _END in messages:
                    messages.remove(_END)
                    until = time.monotonic() + _FINISH_TIMEOUT
                due = self._try_to_work(messages)
                if until < math.inf and (self._is_idle() or time.monotonic() >= until):
                    return
        finally:
            self._finish()

    def _next_messages(self, due: float) -> list[Any]:
        """Wait for the first message until it is time; take all that have come."""
        messages = []
        try:
            pause = due - time.monotonic()
            if pause > 0:
                messages.append(self._inbox.get(timeout=min(pause, threading.TIMEOUT_MAX)))
            while True:
                messages.append(self._inbox.get_nowait())
        except queue.Empty:
            return messages

    def _try_to_work(self, messages: list[Any]) -> float:
        marks = [message for message in messages if isinstance(message, _Mark)]
        if marks:
            messages = [message for message in messages if not isinstance(message, _Mark)]
        try:
            return self._work(messages, time.monotonic())
        except Exception:
            # A defect of ours must not end everything for good.
            _logger.exception("%s failed; it goes on", self._name)
            return time.monotonic() + _PAUSE_AFTER_FAILURE
        finally:
            for mark in marks:
                mark.answer(lambda: None)

    def _finish(self) -> None:
        self._end()
        self._has_ended = True
        self._discard()

    def _discard(self) -> None:
        """Let go of what comes too late."""
        try:
            while True:
                message = self._inbox.get_nowait()
                # Messages that carry something have a method for it.
                discard = getattr(message, "discard", None)
                if discard is not None:
                    discard()
        except queue.Empty:
            return


class Subscribed(NamedTuple):
    """A message: what has come of a subscription."""

    component_id: int
    receiver: "Receiver[Any] | Exception"

    def discard(self) -> None:
        """Let go of it: nobody takes this message any more. In any thread."""
        if isinstance(self.receiver, Receiver):
            close_receiver(self.receiver)


class Sampled(NamedTuple):
    """A message: something has come of a component that is to wake the worker."""


SAMPLED = Sampled()

SubscribeInBackground = Callable[[int, Callable[[Receiver[Any] | Exception], None]], None]
"""Subscribes to a component without waiting: calls back, in any thread, with a receiver or with the
reason why there is none."""


@dataclass
class _Feed:
    """What is known of one component's receiver."""

    asked_at: float
    receiver: Receiver[Any] | None = None
    is_pending: bool = True
    wakes: bool = False
    """Whether each value wakes the worker."""


class ComponentReceivers:
    """The receivers of a worker, one a component. Used by its thread alone.

    They are subscribed to elsewhere and again after a while when they end.
    """

    def __init__(
        self, subscribe: SubscribeInBackground, deliver: "Callable[[Subscribed | Sampled], None]"
    ) -> None:
        """Follow nothing yet.

        Args:
            subscribe: How to subscribe.
            deliver: Sends what comes of it to the worker's inbox, and that there is something new
                of what is to wake the worker.
        """
        self._subscribe = subscribe
        self._deliver: Callable[[Subscribed | Sampled], None] = deliver
        self._feeds: dict[int, _Feed] = {}
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many values the worker did not take before its receivers were full."""
        return self._dropped + sum(
            feed.receiver.dropped for feed in self._feeds.values() if feed.receiver is not None
        )

    def follow(self, component_ids: Iterable[int], now: float) -> None:
        """Subscribe to those that are not followed."""
        for component_id in component_ids:
            if component_id not in self._feeds:
                self._feeds[component_id] = _Feed(now)
                self._ask(component_id)

    def wake_for(self, component_ids: Iterable[int]) -> None:
        """Tell the worker of each value of these, which are followed."""
        for component_id in component_ids:
            feed = self._feeds[component_id]
            if not feed.wakes:
                feed.wakes = True
                if feed.receiver is not None:
                    feed.receiver = self._waking(feed.receiver)

    def _waking(self, receiver: Receiver[Any]) -> Receiver[Any]:
        return waking(receiver, lambda: self._deliver(SAMPLED))

    def drop(self, component_ids: Iterable[int]) -> None:
        """Follow these no more."""
        for component_id in component_ids:
            feed = self._feeds.pop(component_id, None)
            if feed is not None and feed.receiver is not None:
                self._dropped += feed.receiver.dropped
                close_receiver(feed.receiver)

    def followed(self) -> set[int]:
        """Give the components that are followed."""
        return set(self._feeds)

    def has_failed(self, component_id: int) -> bool:
        """Tell whether there is no receiver of a component, and none is being made."""
        feed = self._feeds[component_id]
        return feed.receiver is None and not feed.is_pending

    def take(self, component_id: int, now: float) -> list[Any]:
        """Take what has come of a component; subscribe again if its stream has ended."""
        feed = self._feeds[component_id]
        if feed.receiver is not None:
            values = take_all(feed.receiver)
            if values is not None:
                return values
            self._dropped += feed.receiver.dropped
            feed.receiver = None
        if not feed.is_pending and now - feed.asked_at >= _RESUBSCRIBE_AFTER:
            feed.asked_at, feed.is_pending = now, True
            self._ask(component_id)
        return []

    def arrived(self, message: Subscribed) -> None:
        """Take what has come of a subscription."""
        feed = self._feeds.get(message.component_id)
        receiver = message.receiver
        if isinstance(receiver, Exception):
            _logger.debug("No data of component %s: %s", message.component_id, receiver)
            if feed is not None:
                feed.is_pending = False
        elif feed is None or feed.receiver is not None:
            close_receiver(receiver)
        else:
            feed.receiver = self._waking(receiver) if feed.wakes else receiver
            feed.is_pending = False

    def _ask(self, component_id: int) -> None:
        self._subscribe(
            component_id, lambda receiver: self._deliver(Subscribed(component_id, receiver))
        )

    def close(self) -> None:
        """Follow nothing any more."""
        self.drop(list(self._feeds))
