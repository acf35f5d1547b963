"""Receives what a stream sends: bounded, thread-safe queues, for those who read and who write."""

import logging
import math
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, Self, TypeVar

from microgrid_sync import program_end
from microgrid_sync.program_end import interrupts_us, is_forked, run_or_hand_over
from microgrid_sync.undecoded import NoValue, Undecoded, decoded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

T = TypeVar("T")

RECEIVER_MAX_SIZE = 50
"""How many values a receiver holds unless told otherwise."""

_LOG_INTERVAL = 10.0
"""Seconds between two lines about the values that one receiver has dropped."""

_WAIT_SLICE = 1.0
"""Seconds of one wait at the most: some platforms deliver Ctrl-C only between two waits."""

_ADVICE = (
    ". It holds the newest {}; latest() gives the one of now, to_dataframe(duration=...) all from "
    "now on, maxsize= makes room for more. This is said once."
)
"""What somebody at a prompt can do about values that are dropped between two cells."""

_END: Final = object()
"""Stands in a queue behind its last value; whoever takes it out puts it back for the next."""

_logger = logging.getLogger(__name__)


class ReceiverStoppedError(Exception):
    """Nothing more will come from a receiver: it is closed and empty.

    If an error ended it, that error is the ``__cause__``.
    """


def is_interactive() -> bool:
    """Tell whether somebody types what is run: at a prompt, or in a notebook."""
    return "ipykernel" in sys.modules or hasattr(sys, "ps1")


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


class Writer(Generic[T]):
    """The writer's side of one receiver: its queue, its counters and its end.

    The stream or loop that sends owns it, and one thread of it writes. The receiver's readers take
    from its queue.
    """

    # Of a thousand streams, the memory of each has left the processor's caches by the time its next
    # message comes: the less there is of it, the cheaper.
    __slots__ = (
        "_last_logged",
        "dropped",
        "end_signal",
        "error",
        "has_ended",
        "is_forgotten",
        "latest",
        "latest_asked",
        "lock",
        "maxsize",
        "merged_into",
        "name",
        "queue",
    )

    def __init__(self, maxsize: int, name: str) -> None:
        """Make an empty queue.

        Args:
            maxsize: How many values it holds, 1 at least.
            name: What it carries, as errors and log lines call it.

        Raises:
            TypeError: If `maxsize` is not an integer.
            ValueError: If `maxsize` is less than 1.
        """
        check_maxsize(maxsize)
        self.name = name
        self.maxsize = maxsize
        # Serializes writing, closing and merging: nothing is put behind the end of the queue, or
        # into the queue of a receiver that is being merged. Reading needs no lock. The lock of the
        # writer that this one has been merged into is taken inside it, never the other way round.
        self.lock = threading.Lock()
        # Not a deque with a condition: this one wakes a reader in C, which makes a message that is
        # handed over a third cheaper.
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Holds something as soon as the queue has its end: wakes those who wait for time to pass,
        # not for values.
        self.end_signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.latest: T | Undecoded[T] | None = None
        self.latest_asked = False
        self.dropped = 0
        self.has_ended = False
        self.is_forgotten = False
        """Whether nobody refers to the receiver any more."""
        self.error: BaseException | None = None
        self.merged_into: _MergedWriter[T] | None = None
        self._last_logged = -math.inf

    def put(self, value: T | Undecoded[T]) -> int:
        """Add a value, at the expense of the oldest one if the queue is full.

        Args:
            value: The value, or the message that it is to be made of.

        Returns:
            How many values were dropped for it, 0 or 1.
        """
        if self.merged_into is not None:
            return self._put_merged(value, self.merged_into)
        with self.lock:
            if self.has_ended:
                return 0
            merged_into = self.merged_into
            if merged_into is None:
                self.latest = value
                self.queue.put(value)
                if self.queue.qsize() <= self.maxsize:
                    return 0
                dropped, log_due = self._drop_oldest()
        if merged_into is not None:
            return self._put_merged(value, merged_into)
        if log_due:
            _logger.warning(
                "%s: nobody reads fast enough; values dropped so far: %d%s",
                self.name,
                self.dropped,
                _ADVICE.format(self.maxsize) if is_interactive() else "",
            )
        return dropped

    def _put_merged(self, value: T | Undecoded[T], merged_into: "_MergedWriter[T]") -> int:
        # Without the lock: where it goes never changes again, and nothing comes before it.
        if self.has_ended:
            return 0
        self.latest = value
        return merged_into.put(value)

    def _drop_oldest(self) -> tuple[int, bool]:
        """Drop a value under the lock; tell how many were and whether to log it."""
        try:
            self.queue.get_nowait()
        except queue.Empty:
            # Readers have taken everything just now.
            return 0, False
        self.dropped += 1
        now = time.monotonic()
        if now - self._last_logged < _LOG_INTERVAL:
            return 1, False
        is_first = self._last_logged == -math.inf
        self._last_logged = now
        # At a prompt values wait from one cell to the next as a matter of course: said once.
        log_due = not self.latest_asked and (is_first or not is_interactive())
        self.latest_asked = False
        return 1, log_due

    def end(self, error: BaseException | None = None) -> bool:
        """Say that nothing more will come; what is waiting can still be read.

        Args:
            error: What ended the stream, if it was an error.

        Returns:
            Whether it had not ended before.
        """
        with self.lock:
            if self.has_ended:
                return False
            self.has_ended = True
            self.error = error
            merged_into = self.merged_into
            self._put_end()
        if merged_into is not None:
            merged_into.source_ended(error)
        return True

    def _put_end(self) -> None:
        self.queue.put(_END)
        self.end_signal.put(None)

    def take_all(self) -> list[T | Undecoded[T]]:
        """Take all that is waiting out of the queue; its end stays."""
        values: list[T | Undecoded[T]] = []
        try:
            while (value := self.queue.get_nowait()) is not _END:
                values.append(value)
        except queue.Empty:
            return values
        self.queue.put(_END)
        return values

    def merge_into(self, target: "_MergedWriter[T]") -> bool:
        """Send what is waiting and all that comes to another writer; tell if it has ended."""
        with self.lock:
            # The target's lock inside this one, so that the order of the values is kept.
            for value in self.take_all():
                target.put(value)
            # Only now: who writes looks at it before he takes the lock.
            self.merged_into = target
            # For those who read from this one: they are told to read from the other.
            self._put_end()
            return self.has_ended


class Receiver(Generic[T]):
    """Takes what a stream sends, and holds it until it is read.

    Any number of threads read; each value goes to one of them. A full receiver drops its oldest
    value, and counts it.

    A receiver that nobody refers to any more counts as closed when the next value comes.
    """

    def __init__(
        self,
        writer: Writer[T],
        *,
        on_close: Callable[[], None] | None = None,
        keeps: object = None,
    ) -> None:
        """Make a receiver of what a writer sends.

        Args:
            writer: Its other side.
            on_close: Called once, without any lock held, when it is closed by a reader.
            keeps: What must stay alive as long as somebody reads.
        """
        self._writer = writer
        self._on_close = on_close
        self._keeps = keeps
        self._latest: T | None = None
        self.find_timezone: Callable[[], tzinfo | None] | None = None
        """Asks for the zone of the site, for pictures; set by whoever makes the receiver."""

    def __del__(self) -> None:
        """Tell the writer that nobody will read; it finds out when the next value comes."""
        writer = getattr(self, "_writer", None)
        # One that could not be made has none.
        if writer is not None:
            writer.is_forgotten = True

    def __repr__(self) -> str:
        """Say what it receives and how full it is."""
        writer = self._writer
        has_end = writer.has_ended or writer.merged_into is not None
        waiting = writer.queue.qsize() - has_end
        state = "closed" if writer.has_ended else "open"
        return f"<Receiver of {writer.name}, {state}, {waiting}/{writer.maxsize} waiting>"

    @property
    def name(self) -> str:
        """What it receives, as its errors and log lines call it."""
        return self._writer.name

    @property
    def maxsize(self) -> int:
        """How many values it holds."""
        return self._writer.maxsize

    @property
    def dropped(self) -> int:
        """How many values it has dropped because it was full."""
        return self._writer.dropped

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come; what is waiting can still be read."""
        return self._writer.has_ended

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
            RuntimeError: If the receiver has been merged into another one, or in a child that was
                forked off after the client had connected.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be 0 or more seconds, or None, not {timeout!r}")
        values = self._writer.queue
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        wait = _WAIT_SLICE if timeout is None else min(timeout, _WAIT_SLICE)
        while True:
            if program_end.is_child and values.empty():
                program_end.check_not_forked()
            try:
                value = values.get(timeout=wait)
            except queue.Empty:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(f"nothing from {self.name} within {timeout} s") from None
                wait = min(remaining, _WAIT_SLICE)
                continue
            if value is _END:
                values.put(_END)
                self._raise_the_end()
            if type(value) is not Undecoded:
                plain: T = value
                return plain
            try:
                made: T = value.value()
            except NoValue:
                continue
            self._latest = made
            return made

    def _raise_the_end(self) -> NoReturn:
        self._raise_if_merged()
        error = self._writer.error
        reason = "it was closed" if error is None else str(error)
        raise ReceiverStoppedError(f"{self.name} has ended: {reason}") from error

    def _raise_if_merged(self) -> None:
        if self._writer.merged_into is not None:
            raise RuntimeError(f"{self.name} has been merged; read from what merge() gave")

    def __iter__(self) -> Iterator[T]:
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
        self._writer.latest_asked = True
        newest = decoded([self._writer.latest])
        # In place of one that cannot be decoded stands the one that was taken last.
        self._latest = newest[0] if newest else self._latest
        return self._latest

    def drain(self) -> list[T]:
        """Take all values that are waiting, oldest first, without waiting for more.

        Raises:
            RuntimeError: If the receiver has been merged into another one.
        """
        self._raise_if_merged()
        values: list[T] = decoded(self._writer.take_all())
        if values:
            self._latest = values[-1]
        return values

    def batches(self, interval: float) -> Iterator[list[T]]:
        """Take what has come in lists, with one wake-up an interval at the most.

        For who can wait a little: a reader that is woken for each value costs more than the value
        itself. The first list comes with the first value. Each further one comes an interval after
        the one before, or with the next value if there is none by then. What comes meanwhile waits
        in the queue, so `maxsize` must have room for an interval's values.

        Args:
            interval: Seconds between two lists at the least, more than 0. A close is noticed at
                once.

        Returns:
            An iterator of lists of at least one value, oldest first. After a close it gives what is
            waiting and ends; an error that ended the stream is raised then.

        Raises:
            ValueError: If the interval is not more than 0, or not finite.
            RuntimeError: While iterating, if the receiver has been merged into another one.
        """
        if not 0 < interval < math.inf:
            raise ValueError(f"interval must be more than 0 seconds, not {interval!r}")
        return self._batches(interval)

    def _batches(self, interval: float) -> Iterator[list[T]]:
        due = -math.inf
        while True:
            self._wait_until(due)
            values = self.drain()
            if not values:
                try:
                    values = [next(self)]
                except StopIteration:
                    return
                values += self.drain()
            due = time.monotonic() + interval
            yield values

    def _wait_until(self, due: float) -> None:
        """Let time pass; return early if nothing more will come."""
        end_signal = self._writer.end_signal
        while (remaining := due - time.monotonic()) > 0:
            try:
                end_signal.put(end_signal.get(timeout=min(remaining, _WAIT_SLICE)))
            except queue.Empty:
                continue
            return

    def to_dataframe(
        self, *, duration: float | None = None, samples: int | None = None
    ) -> "pd.DataFrame":
        """Make a table of what comes, and show how far that is in a notebook or on a terminal.

        What is waiting counts, and comes first. The receiver stays open.

        Args:
            duration: For how many seconds.
            samples: Or how many samples.

        Returns:
            See `to_dataframe`. It is shorter if the receiver ends before; the log says why.

        Raises:
            ImportError: If pandas, of the extra ``notebook``, is not installed.
            TypeError: If an argument is of the wrong type.
            ValueError: If not exactly one of them is given, or it is not more than 0.
        """
        from microgrid_sync.notebook.frames import collected  # noqa: PLC0415 - an extra

        return collected(self, duration, samples)

    def plot(
        self, *columns: str, duration: float | None = None, samples: int | None = None
    ) -> "Figure":
        """Draw what comes over time: live in a notebook, else as one picture at the end.

        What is waiting counts, and comes first. In a notebook, interrupting the kernel ends it and
        leaves the picture. The receiver stays open.

        Args:
            *columns: What is drawn, as ``to_dict()`` names it, such as ``"current_phase_1_a"``; the
                active power or the state of charge unless given.
            duration: For how many seconds; 30 unless this or ``samples`` is given.
            samples: For how many samples.

        Returns:
            The picture; ``savefig("day.png")`` of it writes a file.

        Raises:
            ImportError: If matplotlib, of the extra ``notebook``, is not installed.
            TypeError: If an argument is of the wrong type.
            ValueError: If both amounts are given, or one is not more than 0.
        """
        from microgrid_sync.notebook.plots import Look, plot  # noqa: PLC0415 - an extra

        zone = None if self.find_timezone is None else self.find_timezone()
        return plot(self, Look(self.name, columns), zone, duration, samples)

    def close(self) -> None:
        """Receive nothing more; what is waiting can still be read. Closing again does nothing."""
        if is_forked():
            # Its stream is not here, and its lock may be held for ever.
            return
        run_or_hand_over(lambda: close_receiver(self), interrupts=interrupts_us())

    def _closed(self) -> None:
        """Do what follows from a close by a reader. Comes once, and after no other end."""
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        close_receiver(self)


def close_receiver(receiver: Receiver[Any]) -> None:
    """Do as `Receiver.close` does, for our own code, which no handler calls."""
    if receiver._writer.end():
        receiver._closed()


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


class _MergedWriter(Writer[T]):
    """What several sources write into. It knows its receiver weakly."""

    __slots__ = ("_open_sources", "receiver")

    def __init__(self, sources: tuple[Receiver[T], ...]) -> None:
        super().__init__(
            sum(source.maxsize for source in sources),
            " + ".join(source.name for source in sources),
        )
        self._open_sources = len(sources)
        self.receiver: weakref.ref[_MergedReceiver[T]] | None = None

    def source_ended(self, error: BaseException | None) -> None:
        """Note that a source has ended; the last one, or an error, ends the whole."""
        with self.lock:
            self._open_sources -= 1
            last = self._open_sources == 0
        if error is not None or last:
            self.end(error)
        receiver = None if self.receiver is None else self.receiver()
        if error is not None and receiver is not None:
            receiver._closed()


class _WakingWriter(_MergedWriter[T]):
    """What one source writes into, and somebody is told each time."""

    __slots__ = ("_wake",)

    def __init__(self, source: Receiver[T], wake: Callable[[], None]) -> None:
        super().__init__((source,))
        self._wake = wake

    def put(self, value: T | Undecoded[T]) -> int:
        """See `Writer.put`."""
        dropped = super().put(value)
        self._wake()
        return dropped


class _CallingWriter(_MergedWriter[T]):
    """What several sources write into, for callbacks: an error of one leaves the others."""

    __slots__ = ("_failed", "_wake")

    def __init__(
        self,
        sources: tuple[Receiver[T], ...],
        wake: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(sources)
        self._wake = wake
        self._failed = failed

    def put(self, value: T | Undecoded[T]) -> int:
        """See `Writer.put`."""
        dropped = super().put(value)
        self._wake()
        return dropped

    def end(self, error: BaseException | None = None) -> bool:
        """See `Writer.end`; the end is told, too."""
        is_first = super().end(error)
        if is_first:
            self._wake()
        return is_first

    def source_ended(self, error: BaseException | None) -> None:
        """Note that a source has ended; the last one ends the whole."""
        if error is not None:
            self._failed(error)
        super().source_ended(None)


class _NewestWriter(_MergedWriter[T]):
    """Holds the newest value of one source alone; that older ones go is no loss."""

    __slots__ = ()

    def put(self, value: T | Undecoded[T]) -> int:
        """See `Writer.put`."""
        with self.lock:
            if not self.has_ended:
                self.latest = value
                self.take_all()
                self.queue.put(value)
        return 0


class _MergedReceiver(Receiver[T]):
    """The values of several receivers; it owns them."""

    def __init__(self, writer: _MergedWriter[T], sources: tuple[Receiver[T], ...]) -> None:
        super().__init__(writer)
        self._sources = sources
        self.find_timezone = sources[0].find_timezone
        writer.receiver = weakref.ref(self)

    def _closed(self) -> None:
        for source in self._sources:
            close_receiver(source)


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
        if receiver._writer.merged_into is not None or receivers.count(receiver) > 1:
            raise ValueError(f"{receiver.name} can be merged only once")
    writer = _MergedWriter(receivers)
    merged = _MergedReceiver(writer, receivers)
    # All that waits first: the error of one must not keep the values of the next from coming.
    ended = [receiver for receiver in receivers if receiver._writer.merge_into(writer)]
    for receiver in ended:
        writer.source_ended(receiver._writer.error)
    return merged


def waking(receiver: Receiver[T], wake: Callable[[], None]) -> Receiver[T]:
    """Give a receiver of the same values that tells somebody of each, for our own code.

    Args:
        receiver: The receiver; it belongs to the new one from then on.
        wake: Called in the thread that writes; must neither wait nor raise.
    """
    return _through(_WakingWriter(receiver, wake), receiver)


def calling(
    receivers: Sequence[Receiver[T]],
    wake: Callable[[], None],
    failed: Callable[[BaseException], None],
) -> Receiver[T]:
    """Give a receiver of the values of several, in the order in which they come, for our own code.

    Args:
        receivers: The receivers; they belong to the new one from then on.
        wake: Called with each value and at the end, in the thread that writes; must neither wait
            nor raise.
        failed: Called with the error by which a source has ended, likewise; the others go on.
    """
    sources = tuple(receivers)
    writer = _CallingWriter(sources, wake, failed)
    merged = _MergedReceiver(writer, sources)
    ended = [receiver for receiver in sources if receiver._writer.merge_into(writer)]
    for receiver in ended:
        writer.source_ended(receiver._writer.error)
    return merged


def newest_of(receiver: Receiver[T]) -> Receiver[T]:
    """Give a receiver that holds the newest value alone, for our own code.

    Args:
        receiver: The receiver; it belongs to the new one from then on.
    """
    return _through(_NewestWriter((receiver,)), receiver)


def _through(writer: _MergedWriter[T], receiver: Receiver[T]) -> Receiver[T]:
    merged = _MergedReceiver(writer, (receiver,))
    if receiver._writer.merge_into(writer):
        writer.source_ended(receiver._writer.error)
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
