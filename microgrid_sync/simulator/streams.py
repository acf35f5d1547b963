"""Streams a simulated site: from the clock that samples to the calls that send."""

import math
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

_MOST_WAITING = 10_000
"""Samples that wait for a client at the most; then the oldest go."""


@dataclass(frozen=True)
class End:
    """How a stream ends."""

    status: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""


class SampleStream:
    """One client's stream of one component. The clock puts in, the call's thread takes out."""

    def __init__(self) -> None:
        """Begin with nothing to send."""
        self.is_awaited = True
        """Whether a clock that races waits for this client."""
        self._waiting: queue.SimpleQueue[bytes | End] = queue.SimpleQueue()
        self._held: bytes | None = None

    def put(self, sample: bytes, *, disordered: bool = False) -> None:
        """Send a sample, or hold it back until after the next; never waits."""
        if disordered and self._held is None:
            self._held = sample
            return
        held, self._held = self._held, None
        for each in (sample, held):
            if each is not None:
                self._waiting.put(each)
        if self._waiting.qsize() > _MOST_WAITING:
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                return

    def end(self, end: End) -> None:
        """End the stream after what has been put in; also the canceller of `samples`."""
        self._waiting.put(end)

    @property
    def waiting(self) -> int:
        """How many samples have not been taken out."""
        return self._waiting.qsize()

    def samples(self, fail: Callable[[End], None]) -> Iterator[bytes]:
        """Take the samples out until the end.

        Args:
            fail: Called with an end that is not in good order.
        """
        while isinstance(item := self._waiting.get(), bytes):
            yield item
        if item.status is not grpc.StatusCode.OK:
            fail(item)


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
    newest: bytes | None = None
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
