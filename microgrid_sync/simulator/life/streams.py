"""Streams a simulated site: from the clock that samples to the calls that send."""

import math
import queue
import threading
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

    def __init__(self, reading: Reading) -> None:
        """Encode nothing yet: that is done by who sends it."""
        self._reading = reading
        self._encoded: dict[Encode, bytes] = {}

    def encoded(self, encode: Encode) -> bytes:
        """Give it as a message, made once for all streams that send the same. Any thread."""
        message = self._encoded.get(encode)
        if message is None:
            message = self._encoded.setdefault(encode, encode(self._reading))
        return message


class SampleStream:
    """One client's stream of one component. The clock puts in, the call's thread takes out."""

    def __init__(self) -> None:
        """Begin with nothing to send."""
        self.is_awaited = True
        """Whether a clock that races waits for this client."""
        self._waiting: queue.SimpleQueue[Sample | End] = queue.SimpleQueue()
        self._held: Sample | None = None
        # Protects the two below; notified when a sample has been sent. Held for a moment.
        self._sent = threading.Condition()
        self._to_send = 0
        self._is_over = False

    def put(self, sample: Sample, *, disordered: bool = False) -> None:
        """Send a sample, or hold it back until after the next; never waits."""
        if disordered and self._held is None:
            self._held = sample
            return
        held, self._held = self._held, None
        for each in (sample, held):
            if each is not None:
                with self._sent:
                    self._to_send += 1
                self._waiting.put(each)
        if self._waiting.qsize() > _MOST_WAITING:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                return
            self._note_sent()

    def end(self, end: End) -> None:
        """End the stream after what has been put in; also the canceller of `samples`."""
        self._waiting.put(end)

    def wait_until_at_most(self, count: int, timeout: float) -> bool:
        """Wait until no more samples than that are left to send, or the stream is over.

        Returns:
            Whether that came in time.
        """
        with self._sent:
            return self._sent.wait_for(lambda: self._is_over or self._to_send <= count, timeout)

    def samples(self, fail: Callable[[End], None]) -> Iterator[Sample]:
        """Take the samples out until the end; who asks for the next has sent the one before.

        Args:
            fail: Called with an end that is not in good order.
        """
        while isinstance(item := self._waiting.get(), Sample):
            yield item
            self._note_sent()
        if item.status != "OK":
            fail(item)

    def leave(self) -> None:
        """Note that nothing more will be sent: the call is over."""
        with self._sent:
            self._is_over = True
            self._sent.notify_all()

    def _note_sent(self) -> None:
        with self._sent:
            self._to_send -= 1
            self._sent.notify_all()


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
