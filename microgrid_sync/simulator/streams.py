"""The streams of a simulated site: from the clock that samples to the calls that send."""

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

    def __init__(self, component_id: int) -> None:
        """Begin with nothing to send."""
        self.component_id = component_id
        self.is_awaited = True
        """Whether a clock that races waits for this client."""
        self._waiting: queue.SimpleQueue[bytes | End] = queue.SimpleQueue()

    def put(self, sample: bytes) -> None:
        """Send a sample; never waits."""
        self._waiting.put(sample)
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
class Outlet:
    """Where the samples of one component go. For the owner of the site's lock only."""

    interval: float
    """Seconds between two samples."""

    count: int = 0
    """How many samples have been taken."""

    streams: list[SampleStream] = field(default_factory=list)
    newest: bytes | None = None
    """The newest sample as it was sent; ``None`` if it has not been needed."""

    held: bytes | None = None
    """A sample that waits to be sent after the one that follows it."""

    @property
    def due(self) -> float:
        """The second of the site's clock of the next sample."""
        return round(self.count * self.interval, 6)

    def send(self, sample: bytes, *, disordered: bool) -> None:
        """Send a sample to all streams; or hold it back until after the next."""
        self.newest = sample
        if disordered and self.held is None:
            self.held = sample
            return
        held, self.held = self.held, None
        for each in (sample, held):
            if each is not None:
                for stream in self.streams:
                    stream.put(each)
