"""Receivers: bounded, thread-safe queues from a stream to those who read it."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, NoReturn, Protocol, Self, TypeVar

T = TypeVar("T")

RECEIVER_MAX_SIZE = 50
"""How many values a receiver holds unless told otherwise."""

_LOG_INTERVAL = 10.0
"""Seconds between two lines about the values that one receiver has dropped."""

_WAIT_SLICE = 1.0
"""Seconds of one wait at the most: some platforms deliver Ctrl-C only between two waits."""

_END: Final = object()
"""Stands in a queue behind its last value; whoever takes it out puts it back for the next."""

_logger = logging.getLogger(__name__)


class ReceiverStoppedError(Exception):
    """Nothing more will come from a receiver: it is closed and empty.

    If an error ended it, that error is the ``__cause__``.
    """


def check_maxsize(maxsize: int) -> None:
    """Check the size of a receiver.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is less than 1.
    """
    if not isinstance(maxsize, int) or isinstance(maxsize, bool):
        raise TypeError(f"maxsize must be an integer, 1 or more, not {maxsize!r}")
    if maxsize < 1:
        raise ValueError(f"maxsize must be 1 or more, not {maxsize}")


class Receiver(Generic[T]):
    """Takes what a stream sends, and holds it until it is read.

    One thread, the stream's, writes with `put` and `end`; any number of threads read. Each value
    goes to one of them. A full receiver drops its oldest value, and counts it.

    A receiver that nobody refers to any more counts as closed when the next value comes.
    """

    def __init__(
        self,
        *,
        maxsize: int = RECEIVER_MAX_SIZE,
        name: str = "receiver",
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Make an empty receiver.

        Args:
            maxsize: How many values it holds, 1 at least.
            name: What it receives, as its errors and log lines call it.
            on_close: Called once, without any lock held, when it is closed by a reader.

        Raises:
            TypeError: If `maxsize` is not an integer.
            ValueError: If `maxsize` is less than 1.
        """
        check_maxsize(maxsize)
        self._name = name
        self._maxsize = maxsize
        self._on_close = on_close
        # Serializes writing, closing and merging: nothing is put behind the end of the queue, or
        # into the queue of a receiver that has been merged. Reading needs no lock. Re-entrant, so
        # that a signal handler may close the receiver that the interrupted thread writes to.
        self._lock = threading.RLock()
        # Not a deque with a condition: this one wakes a reader in C, which makes a message that is
        # handed over a third cheaper.
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._latest: T | None = None
        self._latest_asked = False
        self._dropped = 0
        self._ended = False
        self._error: BaseException | None = None
        self._merged_into: Receiver[T] | None = None
        self._last_logged = -math.inf

    def __repr__(self) -> str:
        """Say what it receives and how full it is."""
        has_end = self._ended or self._merged_into is not None
        waiting = self._queue.qsize() - has_end
        state = "closed" if self._ended else "open"
        return f"<Receiver of {self._name}, {state}, {waiting}/{self._maxsize} waiting>"

    @property
    def name(self) -> str:
        """What it receives, as its errors and log lines call it."""
        return self._name

    @property
    def maxsize(self) -> int:
        """How many values it holds."""
        return self._maxsize

    @property
    def dropped(self) -> int:
        """How many values it has dropped because it was full."""
        return self._dropped

    # The reader's side

    def receive(self, timeout: float | None = None) -> T:
        """Wait for the next value.

        Args:
            timeout: How many seconds to wait at the most; 0 does not wait, ``None`` waits until
                a value comes or the receiver ends.

        Returns:
            The oldest value that has not been read.

        Raises:
            TimeoutError: If none has come in time.
            ReceiverStoppedError: If the receiver is closed and empty; the error that ended the
                stream, if any, is its cause.
            ValueError: If the timeout is negative or not a number.
            RuntimeError: If the receiver has been merged into another one.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be 0 or more seconds, or None, not {timeout!r}")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        wait = _WAIT_SLICE if timeout is None else min(timeout, _WAIT_SLICE)
        while True:
            try:
                value = self._queue.get(timeout=wait)
            except queue.Empty:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(f"nothing from {self._name} within {timeout} s") from None
                wait = min(remaining, _WAIT_SLICE)
                continue
            if value is not _END:
                taken: T = value
                return taken
            self._queue.put(_END)
            self._raise_the_end()

    def _raise_the_end(self) -> NoReturn:
        self._raise_if_merged()
        reason = "it was closed" if self._error is None else str(self._error)
        raise ReceiverStoppedError(f"{self._name} has ended: {reason}") from self._error

    def _raise_if_merged(self) -> None:
        if self._merged_into is not None:
            raise RuntimeError(f"{self._name} has been merged; read from what merge() gave")

    def __iter__(self) -> Iterator[T]:
        """Give itself: a receiver is read in a ``for`` loop."""
        return self

    def __next__(self) -> T:
        """Wait for the next value; end after a close, raise the error that ended the stream."""
        try:
            return self.receive()
        except ReceiverStoppedError as stopped:
            if stopped.__cause__ is None:
                raise StopIteration from None
            # One error may be raised in many readers: each starts with a traceback of its own.
            raise stopped.__cause__.with_traceback(None) from None

    def latest(self) -> T | None:
        """Give the newest value that has come, read or not; ``None`` before the first.

        A reader that asks for nothing else needs no queue, and is not told that it is full.
        """
        self._latest_asked = True
        return self._latest

    def drain(self) -> list[T]:
        """Take all values that are waiting, oldest first, without waiting for more.

        Raises:
            RuntimeError: If the receiver has been merged into another one.
        """
        with self._lock:
            self._raise_if_merged()
            return self._take_all()

    def _take_all(self) -> list[T]:
        """Take all values out of the queue; its end stays."""
        values: list[T] = []
        try:
            while (value := self._queue.get_nowait()) is not _END:
                values.append(value)
        except queue.Empty:
            return values
        self._queue.put(_END)
        return values

    def close(self) -> None:
        """Receive nothing more; what is waiting can still be read. Closing again does nothing."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            on_close, self._on_close = self._on_close, None
            merged_into = self._merged_into
            self._queue.put(_END)
        if on_close is not None:
            on_close()
        if merged_into is not None:
            merged_into._source_ended(None)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # The writer's side

    def put(self, value: T) -> int:
        """Add a value, at the expense of the oldest one if the receiver is full.

        Args:
            value: The value.

        Returns:
            How many values were dropped for it, 0 or 1.
        """
        with self._lock:
            if self._ended:
                return 0
            self._latest = value
            merged_into = self._merged_into
            if merged_into is None:
                self._queue.put(value)
                if self._queue.qsize() <= self._maxsize:
                    return 0
                dropped, log_due = self._drop_oldest()
        if merged_into is not None:
            return merged_into.put(value)
        if log_due:
            _logger.warning(
                "%s: nobody reads fast enough; %d values dropped so far", self._name, self._dropped
            )
        return dropped

    def _drop_oldest(self) -> tuple[int, bool]:
        """Drop a value under the lock; tell how many were and whether to log it."""
        try:
            self._queue.get_nowait()
        except queue.Empty:
            # Readers have taken everything just now.
            return 0, False
        self._dropped += 1
        now = time.monotonic()
        if now - self._last_logged < _LOG_INTERVAL:
            return 1, False
        self._last_logged = now
        log_due = not self._latest_asked
        self._latest_asked = False
        return 1, log_due

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more will come; what is waiting can still be read.

        Args:
            error: What ended the stream, if it was an error.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._error = error
            self._on_close = None
            merged_into = self._merged_into
            self._queue.put(_END)
        if merged_into is not None:
            merged_into._source_ended(error)

    # Merging

    def _merge_into(self, target: "Receiver[T]") -> bool:
        """Send everything to `target` from now on, and what is waiting first.

        Returns:
            Whether it had ended already, so that nothing more will come.
        """
        with self._lock:
            if self._merged_into is not None:
                raise ValueError(f"{self._name} has been merged already")
            self._merged_into = target
            # The target's lock inside this one: a target never takes a source's lock while it
            # holds its own, so they cannot wait for each other. It keeps the values' order.
            for value in self._take_all():
                target.put(value)
            # For those who read from this one: they are told to read from the other.
            self._queue.put(_END)
            return self._ended

    def _source_ended(self, error: BaseException | None) -> None:
        """Only what `merge` gives has sources."""
        raise NotImplementedError


def take_all(receiver: Receiver[T]) -> list[T] | None:
    """Take all values that are waiting; ``None`` if there are none and never will be."""
    values = receiver.drain()
    if values:
        return values
    try:
        return [receiver.receive(timeout=0)]
    except TimeoutError:
        return []
    except ReceiverStoppedError:
        return None


class _MergedReceiver(Receiver[T]):
    """The values of several receivers; it owns them."""

    def __init__(self, sources: tuple[Receiver[T], ...]) -> None:
        super().__init__(
            maxsize=sum(source.maxsize for source in sources),
            name=" + ".join(source.name for source in sources),
            on_close=self._close_sources,
        )
        self._sources = sources
        self._open_sources = len(sources)

    def _close_sources(self) -> None:
        for source in self._sources:
            source.close()

    def _source_ended(self, error: BaseException | None) -> None:
        with self._lock:
            self._open_sources -= 1
            last = self._open_sources == 0
        if error is not None or last:
            self.end(error)
        if error is not None:
            self._close_sources()


def merge(*receivers: Receiver[T]) -> Receiver[T]:
    """Read several receivers as one.

    What is waiting in them comes first. They belong to the merged receiver from then on: closing
    it closes them, and reading from one of them raises `RuntimeError`. A source that is closed
    just leaves; one that ends by an error ends the merged receiver by that error, and closes
    the others.

    Args:
        *receivers: The receivers, each of them once.

    Returns:
        A receiver of all their values in the order in which they come, as large as they are
            together.

    Raises:
        TypeError: If one of them is no receiver.
        ValueError: If there are none, or one of them is there twice or merged already.
    """
    if not receivers:
        raise ValueError("merge() needs at least one receiver")
    for receiver in receivers:
        if not isinstance(receiver, Receiver):
            raise TypeError(f"merge() takes receivers, not {receiver!r}")
        if receiver._merged_into is not None or receivers.count(receiver) > 1:
            raise ValueError(f"{receiver.name} can be merged only once")
    merged = _MergedReceiver(receivers)
    # All that waits first: the error of one must not keep the values of the next from coming.
    ended = [receiver for receiver in receivers if receiver._merge_into(merged)]
    for receiver in ended:
        merged._source_ended(receiver._error)
    return merged


class ReceiverFetcher(Protocol[T]):
    """Something that can be received as often as one likes."""

    def new_receiver(self, *, maxsize: int = RECEIVER_MAX_SIZE) -> Receiver[T]:
        """Make a new receiver.

        Args:
            maxsize: How many values it holds.

        Returns:
            A receiver that gets every value from now on. One of a status or of bounds starts
                with the latest.
        """
