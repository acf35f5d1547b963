"""Streams: one thread for each subscribed component, shared by all of its receivers."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.fan_out import FanOut
from microgrid_sync.receiver import Receiver
from microgrid_sync.transport.aside import run_aside
from microgrid_sync.transport.retry import Strategy
from microgrid_sync.wire import StreamRequest, UndecodableMessage

_UNDECODABLE_LOG_INTERVAL = 60.0
"""Seconds between two lines about messages of one stream that cannot be decoded."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamStats:
    """What one component's stream has done so far."""

    component_id: int
    """The component."""

    messages: int
    """How many messages were decoded and handed to the receivers."""

    dropped: int
    """How many values the receivers of the stream have dropped because they were full."""

    undecodable: int
    """How many messages were skipped, being broken or another component's."""

    reconnects: int
    """How often the stream was opened again after an error or its end."""

    age_s: float | None
    """Seconds since the newest message arrived; ``None`` before the first."""


class ComponentStream:
    """One component's stream. Its thread reads; its receivers' owners may stop it.

    The last receiver that closes stops the stream, for good: a later subscription makes a new
    one.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        server_url: str,
        component_id: int,
        kind: object,
        request: StreamRequest,
        strategy: Strategy,
        on_end: Callable[["ComponentStream"], None],
    ) -> None:
        """Make a stream that has not started.

        Args:
            channel: The channel to open it on.
            server_url: The server's URL, for errors.
            component_id: The component.
            kind: What kind of data is expected; receivers of another kind need another stream.
            request: What to ask, and how to decode the answers.
            strategy: How to reconnect; not used by anybody else.
            on_end: Called by the thread when the stream has ended, before its readers know.
        """
        self.component_id = component_id
        self.kind = kind
        self._server_url = server_url
        self._request = request
        # Without a deserializer: one that fails would end the stream. The messages are decoded
        # here, one by one.
        self._open: Any = channel.unary_stream(request.path, None, None)
        self._strategy = strategy
        self._on_end = on_end
        # Serializes subscribing, opening and stopping: no receiver joins a stream that has
        # stopped, and no call is opened that nobody will cancel. Opening and cancelling a gRPC
        # call do not wait. Re-entrant, so that a signal handler may disconnect.
        self._changed = threading.Condition(threading.RLock())
        self._stopped = False
        self._call: Any = None
        self._receivers: FanOut[Any] = FanOut(
            f"the data of component {component_id}", on_empty=self._stop_if_empty
        )
        # Written by the thread alone.
        self._messages = 0
        self._dropped = 0
        self._undecodable = 0
        self._reconnects = 0
        self._newest_at: float | None = None
        self._undecodable_logged_at = -math.inf
        self._failing_since: float | None = None
        # A daemon: a program that ends without disconnecting must not wait for the server.
        self.thread = threading.Thread(
            target=self._run, name=f"microgrid-stream-{component_id}", daemon=True
        )

    def subscribe(self, maxsize: int) -> Receiver[Any] | None:
        """Add a receiver; ``None`` if the stream has stopped."""
        with self._changed:
            return None if self._stopped else self._receivers.subscribe(maxsize)

    def _stop_if_empty(self) -> None:
        # Under the lock: a receiver may have joined since the last one left.
        with self._changed:
            if len(self._receivers) or self._stopped:
                return
            self._mark_stopped()
        run_aside(self.stop)

    def _mark_stopped(self) -> None:
        self._stopped = True
        self._changed.notify_all()

    def refuse_calls(self) -> None:
        """Open no further call."""
        with self._changed:
            self._mark_stopped()

    def stop(self) -> None:
        """Open no further call and cancel the one that is open. Any thread, any number of times."""
        with self._changed:
            self._mark_stopped()
            if self._call is not None:
                self._call.cancel()

    def end_receivers(self, error: BaseException | None = None) -> None:
        """Tell all readers that nothing more will come, and why."""
        self._receivers.end(error)

    def stats(self) -> StreamStats:
        """Give the counters."""
        newest_at = self._newest_at
        return StreamStats(
            component_id=self.component_id,
            messages=self._messages,
            dropped=self._dropped,
            undecodable=self._undecodable,
            reconnects=self._reconnects,
            age_s=None if newest_at is None else time.monotonic() - newest_at,
        )

    # The thread

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            error = self._read_until_the_end()
        except Exception as unexpected:
            # A defect of ours, or of gRPC: the readers must not wait for ever because of it.
            _logger.exception("The stream of component %s failed", self.component_id)
            error = unexpected
        finally:
            self.stop()
            self._on_end(self)
            self.end_receivers(error)

    def _read_until_the_end(self) -> ApiClientError | None:
        """Read one call after the other; give the error that leaves nothing to try."""
        while True:
            failure = self._read_one_call()
            # A stream that has only forgotten receivers left stops here.
            self._receivers.forget()
            if self._stopped:
                return None
            interval = self._strategy.next_interval() if failure.is_retryable else None
            if interval is None:
                _logger.error("Giving up: %s", failure)
                return failure
            # Only the first failure in a row is news; an outage may last for days.
            level = logging.DEBUG if self._failing_since else logging.WARNING
            self._failing_since = self._failing_since or time.monotonic()
            progress = self._strategy.get_progress()
            _logger.log(level, "%s; reconnecting in %.1f s %s", failure, interval, progress)
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped, interval):
                    return None
            self._reconnects += 1

    def _read_one_call(self) -> ApiClientError:
        """Open a call and read it; tell how it ended."""
        try:
            with self._changed:
                if self._stopped:
                    call = self._call = None
                else:
                    call = self._call = self._open(self._request.payload)
            for payload in call or ():
                self._take(payload)
        except grpc.RpcError as error:
            return ApiClientError.from_grpc_error(
                server_url=self._server_url,
                operation=self._request.operation,
                grpc_error=error,
            )
        return ApiClientError(
            server_url=self._server_url,
            operation=self._request.operation,
            description="the server ended the stream",
            retryable=True,
        )

    def _take(self, payload: bytes) -> None:
        """Decode one message and hand it to the receivers."""
        try:
            value = self._request.decode(payload)
        except UndecodableMessage as error:
            self._strategy.reset()
            self._skip(error)
            return
        now = self._newest_at = time.monotonic()
        self._messages += 1
        if self._failing_since is not None:
            self._strategy.reset()
            outage, self._failing_since = now - self._failing_since, None
            _logger.info("Component %s: data again after %.0f s", self.component_id, outage)
        self._dropped += self._receivers.put(value)

    def _skip(self, error: UndecodableMessage) -> None:
        self._undecodable += 1
        now = time.monotonic()
        if now - self._undecodable_logged_at >= _UNDECODABLE_LOG_INTERVAL:
            self._undecodable_logged_at = now
            _logger.warning(
                "Skipped a message of component %s, %d so far: %s",
                self.component_id,
                self._undecodable,
                error,
            )


class Streams:
    """The streams of one connection."""

    def __init__(
        self, channel: grpc.Channel, server_url: str, strategy: Strategy, owner: object
    ) -> None:
        """Open no stream yet.

        Args:
            channel: The channel to open them on.
            server_url: The server's URL, for errors.
            strategy: How to reconnect; each stream gets a copy.
            owner: Kept alive by every stream, so that it can end them with the program.
        """
        self._owner = owner
        self._channel = channel
        self._server_url = server_url
        self._strategy = strategy
        # Protects the three below. A stream's own lock is taken inside it, never the other way
        # round. Re-entrant, so that a signal handler may disconnect.
        self._lock = threading.RLock()
        self._by_component: dict[int, ComponentStream] = {}
        # Includes those that have stopped and whose threads have not ended yet.
        self._alive: set[ComponentStream] = set()
        self._closed = False

    def subscribe(
        self, component_id: int, kind: object, request: StreamRequest, maxsize: int
    ) -> Receiver[Any] | None:
        """Receive a component's data, of a new stream if there is none.

        Args:
            component_id: The component.
            kind: What kind of data is expected.
            request: What to ask for a new stream.
            maxsize: How many values the receiver holds.

        Returns:
            The receiver; ``None`` if the connection has been closed.
        """
        outdated = None
        with self._lock:
            if self._closed:
                return None
            stream = self._by_component.get(component_id)
            if stream is not None and stream.kind is not kind:
                # The component has become another: its old readers wait in vain.
                outdated, stream = stream, None
            receiver = None if stream is None else stream.subscribe(maxsize)
            if receiver is None:
                receiver = self._start(component_id, kind, request, maxsize)
            if self._closed:
                # By a signal handler, just now: it has not seen this stream.
                outdated, receiver = self._by_component[component_id], None
        if outdated is not None:
            error = ApiClientError(
                server_url=self._server_url,
                operation=request.operation,
                description="the component is of another category now, or the client closed",
                retryable=False,
            )
            outdated.end_receivers(error)
            run_aside(outdated.stop)
        return receiver

    def _start(
        self, component_id: int, kind: object, request: StreamRequest, maxsize: int
    ) -> Receiver[Any] | None:
        stream = ComponentStream(
            self._channel,
            server_url=self._server_url,
            component_id=component_id,
            kind=kind,
            request=request,
            strategy=self._strategy.copy(),
            on_end=self._forget,
        )
        receiver = stream.subscribe(maxsize)
        # Last, when all that the thread uses exists; before the stream is known, so that nobody
        # waits for a thread that could not be started.
        stream.thread.start()
        self._by_component[component_id] = stream
        self._alive.add(stream)
        return receiver

    def _forget(self, stream: ComponentStream) -> None:
        with self._lock:
            self._alive.discard(stream)
            if self._by_component.get(stream.component_id) is stream:
                del self._by_component[stream.component_id]

    def stats(self) -> tuple[StreamStats, ...]:
        """Give the counters of all streams, in the order of the components' IDs."""
        with self._lock:
            streams = sorted(self._by_component.items())
        return tuple(stream.stats() for _, stream in streams)

    def stop(self) -> list[threading.Thread]:
        """Stop all streams and wake their readers; new ones are refused.

        Returns:
            The threads that are about to end.
        """
        with self._lock:
            self._closed = True
            streams = list(self._alive)
        # All of them at once, before the first is cancelled: of a thousand, the last would go on
        # reading and reconnecting meanwhile.
        for stream in streams:
            stream.refuse_calls()
        for stream in streams:
            stream.stop()
        for stream in streams:
            stream.end_receivers()
        return [stream.thread for stream in streams]
