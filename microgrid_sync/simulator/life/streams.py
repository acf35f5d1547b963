"""Streams a simulated site: from the clock that samples to the calls that send."""

import math
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from microgrid_sync.simulator.physics.readings import Reading

_MOST_WAITING = 10_000
"""Samples that wait for a client at the most; then the oldest go."""

Encode = Callable[[Reading], bytes]
"""Makes a message of a reading. Streams that send the same have the same."""


@dataclass(frozen=True)
class End:
    """How a stream ends."""

    status: str = "OK"
    """The name of a gRPC status."""

    details: str = ""


class Sample:
    """What a component has said at one instant, for all streams of it; nobody changes it."""

    __slots__ = ("_encoded", "_reading")

    def __init__(self, reading: Reading) -> None:
        """Encode nothing yet: perhaps nobody listens."""
        self._reading = reading
        self._encoded: dict[Encode, bytes] = {}

    def encoded(self, encode: Encode) -> bytes:
        """Give it as a message, made once for all streams that send the same.

        The owner of the site's lock calls it: one thread makes all messages in a row, in half the
        time that the many threads of the calls would take.
        """
        message = self._encoded.get(encode)
        if message is None:
            message = self._encoded[encode] = encode(self._reading)
        return message


class SampleStream:
    """One client's stream of one component. The clock puts in, the call's thread takes out."""

    __slots__ = (
        "_encode",
        "_held",
        "_is_over",
        "_put",
        "_sent",
        "_waiting",
        "_watch",
        "is_awaited",
    )

    def __init__(self, encode: Encode) -> None:
        """Begin with nothing to send.

        Args:
            encode: Makes the messages that it sends.
        """
        self.is_awaited = True
        """Whether a clock that races waits for this client."""
        self._encode = encode
        self._waiting: queue.SimpleQueue[bytes | End] = queue.SimpleQueue()
        self._held: bytes | None = None
        # Counted by the clock, and by the call: no lock.
        self._put = 0
        self._sent = 0
        self._is_over = False
        self._watch: queue.SimpleQueue[None] | None = None
        """Where somebody who waits wants to hear that something has been sent."""

    def put(self, sample: Sample, *, disordered: bool = False) -> None:
        """Send a sample, or hold it back until after the next; never waits."""
        message = sample.encoded(self._encode)
        if disordered and self._held is None:
            self._held = message
            return
        held, self._held = self._held, None
        for each in (message, held):
            if each is not None:
                self._put += 1
                self._waiting.put(each)
        if self._waiting.qsize() > _MOST_WAITING:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                return
            self._put -= 1

    def end(self, end: End) -> None:
        """End the stream after what has been put in; also the canceller of `messages`."""
        self._waiting.put(end)

    def wait_until_at_most(self, count: int, timeout: float) -> bool:
        """Wait until no more samples than that are left to send, or the stream is over.

        One thread at a time waits.

        Returns:
            Whether that came in time.
        """
        deadline = time.monotonic() + timeout
        # Before looking, so that what is sent in between is heard of.
        watch: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._watch = watch
        try:
            while not self._is_over and self._put - self._sent > count:
                watch.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            return False
        finally:
            self._watch = None
        return True

    def messages(self, fail: Callable[[End], None]) -> Iterator[bytes]:
        """Take the messages out until the end; who asks for the next has sent the one before.

        Args:
            fail: Called with an end that is not in good order.
        """
        while isinstance(item := self._waiting.get(), bytes):
            yield item
            self._sent += 1
            watch = self._watch
            if watch is not None:
                watch.put(None)
        if item.status != "OK":
            fail(item)

    def leave(self) -> None:
        """Note that nothing more will be sent: the call is over."""
        self._is_over = True
        watch = self._watch
        if watch is not None:
            watch.put(None)


@dataclass
class ComponentStreams:
    """The streams of one component, and when it is sampled.

    Only the owner of the site's lock uses it.
    """

    interval: float
    """Seconds between two samples."""

    count: int = 0
    """How many samples have been taken."""

    open: list[SampleStream] = field(default_factory=list)
    newest: Sample | None = None
    """The newest sample as it was sent; ``None`` if it has not been needed."""

    begins: float = 0.0
    """The second of the site's clock of the first one."""

    @property
    def due(self) -> float:
        """The second of the site's clock of the next sample."""
        return round(self.begins + self.count * self.interval, 6)

    def skip_to(self, now: float) -> None:
        """Let the next sample be the first one at a second of the site's clock or after it."""
        self.count = max(self.count, math.ceil((now - self.begins) / self.interval - 1e-6))
