"""Reads streams: one thread for each subscribed component, shared by all of its receivers."""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from microgrid_sync.exceptions import ApiClientError, GrpcError, OperationNotImplemented
from microgrid_sync.fan_out import FanOut
from microgrid_sync.model import ComponentCategory
from microgrid_sync.model.shown import Tabular
from microgrid_sync.program_end import hand_over
from microgrid_sync.receiver import Receiver
from microgrid_sync.transport.attempts import take_last_events
from microgrid_sync.transport.channel import site_of
from microgrid_sync.transport.outages import Outages
from microgrid_sync.transport.pace import Pace
from microgrid_sync.transport.reachability import ClientState, Reachability
from microgrid_sync.transport.retry import Strategy
from microgrid_sync.transport.stream_places import Place, StreamPlaces
from microgrid_sync.undecoded import Undecoded, decoded
from microgrid_sync.wire import StreamRequest, UndecodableMessage

_UNDECODABLE_LOG_INTERVAL = 60.0
"""Seconds between two lines about messages of one stream that cannot be decoded."""

_NOT_REACHED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
"""Statuses that a client gives itself when it has no word of the server."""

# Looked up once: a member of an enum costs a tenth of a microsecond, for each message.
_READY = ClientState.READY

_NUMBERS = itertools.count(1)
"""The streams of this process, one after the other."""

StreamKey = tuple[int, Hashable]
"""A component, and what is asked of it: ``None`` for the data of its category."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class StreamStats(Tabular):
    """What one component's stream has done so far."""

    component_id: int
    """The component."""

    messages: int
    """How many messages have come and were handed to the receivers."""

    dropped: int
    """How many values the receivers of the stream have dropped because they were full."""

    undecodable: int
    """How many messages were skipped, being broken or another component's. That one is broken may
    turn out as late as when a reader takes it; then it counts as a message, too."""

    reconnects: int
    """How often the stream was opened again after an error or its end."""

    age_s: float | None
    """Seconds since the newest message arrived; ``None`` before the first."""

    state: ClientState = ClientState.CONNECTING
    """Whether it has data (``READY``), waits for its first (``CONNECTING``), or is to be opened
    again (``FAILING``)."""

    last_error: str | None = None
    """Why it failed last; stays when it has data again."""


class Connection:
    """What the streams of one connection share: where they are opened, what is told of them."""

    def __init__(
        self,
        open_channel: Callable[[], grpc.Channel],
        server_url: str,
        on_reconnect: Callable[[], None],
    ) -> None:
        """Open nothing yet.

        Args:
            open_channel: Makes one more channel to the server.
            server_url: The server's URL, for errors and log lines.
            on_reconnect: Called, with no lock held, when a stream that was cut has data again.
        """
        self.server_url = server_url
        self._on_reconnect = on_reconnect
        self.site = site_of(server_url)
        self.pace: Pace | None = None
        """How fast messages are read; as fast as they come unless given."""

        self.reachability = Reachability()
        self.places = StreamPlaces(open_channel, server_url)
        # Protects the outages. Nothing is logged under it.
        self._lock = threading.Lock()
        self._outages = Outages()

    def failed(self, component_id: int, failure: ApiClientError, plan: str) -> None:
        """Tell the log of a stream that has failed, if it is worth a line."""
        reason = type(failure).__name__
        with self._lock:
            others = self._outages.failed(component_id, reason, time.monotonic())
        level = logging.DEBUG if others is None else logging.WARNING
        _logger.log(level, "%s; %s%s", failure, plan, others or "")

    def recovered(self, component_id: int, *, again: bool) -> None:
        """Tell the log of a stream that has data again, if it is worth a line.

        Args:
            component_id: The stream's component.
            again: Whether it had to be opened again.
        """
        with self._lock:
            line = self._outages.recovered(component_id, time.monotonic())
        if line is not None:
            _logger.warning("%s: %s", self.server_url, line)
        if again:
            self._on_reconnect()

    def ended(self, component_id: int) -> None:
        """Forget a stream that has ended."""
        with self._lock:
            self._outages.ended(component_id)


class StreamSource(Generic[T_co]):
    """What a stream asks of the server, once it is known which API that speaks."""

    def __init__(
        self,
        operation: str,
        make: Callable[[], StreamRequest[T_co]],
        speaks_another: Callable[[StreamRequest[T_co]], bool],
        note_success: Callable[[str], None],
        *,
        is_optional: bool = False,
    ) -> None:
        """Ask nothing yet.

        Args:
            operation: What is asked, for errors until it is known how.
            make: Makes the request; finds out which API the server speaks, if need be, and raises
                `ApiClientError` if that fails.
            speaks_another: Tells whether the server speaks another API than that of a request
                which it has refused; likewise.
            note_success: Notes that the server knows the path of a request.
            is_optional: Whether nobody minds if the server has no such stream.
        """
        self.operation = operation
        self.is_optional = is_optional
        self._make = make
        self._speaks_another = speaks_another
        self._note_success = note_success
        self._request: StreamRequest[T_co] | None = None

    def request(self) -> StreamRequest[T_co]:
        """Give the request."""
        if self._request is None:
            self._request = self._make()
            self.operation = self._request.operation
        return self._request

    def answered(self) -> None:
        """Note that the server has answered with data."""
        if self._request is not None:
            self._note_success(self._request.path)

    def is_outdated(self) -> bool:
        """Tell, after a refusal, whether to ask in another way from now on."""
        request = self._request
        # Made anew in any case: if it cannot be found out now, it is the next time.
        self._request = None
        return request is None or self._speaks_another(request)


class ComponentStream:
    """One component's stream. Its thread reads; its receivers' owners may stop it.

    The last receiver that closes stops the stream, for good: a later subscription makes a new
    one.
    """

    # As of `Writer`: cold memory at each message of many streams.
    __slots__ = (
        "__weakref__",
        "_call",
        "_changed",
        "_connection",
        "_dropped",
        "_last_error",
        "_messages",
        "_newest_at",
        "_on_end",
        "_place",
        "_receivers",
        "_skipping",
        "_source",
        "_state",
        "_stopped",
        "_strategy",
        "_undecodable",
        "_undecodable_logged_at",
        "component_id",
        "key",
        "kind",
        "number",
        "reconnects",
        "thread",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        component_id: int,
        kind: object,
        source: StreamSource[Any],
        key: StreamKey,
        strategy: Strategy,
        on_end: Callable[["ComponentStream"], None],
    ) -> None:
        """Make a stream that has not started.

        Args:
            connection: Where to open it.
            component_id: The component.
            kind: What kind of data is expected; receivers of another kind need another stream.
            source: What to ask, and how to decode the answers.
            key: What the stream is known by.
            strategy: How to reconnect; not used by anybody else.
            on_end: Called by the thread when the stream has ended, before its readers know.
        """
        self.component_id = component_id
        self.number = next(_NUMBERS)
        self.kind = kind
        self._connection = connection
        self.key = key
        self._source = source
        self._strategy = strategy
        self._on_end = on_end
        # Serializes subscribing, opening and stopping: no receiver joins a stream that has
        # stopped, and no call is opened that nobody will cancel. Opening and cancelling a gRPC
        # call do not wait.
        self._changed = threading.Condition(threading.Lock())
        self._stopped = False
        self._call: Any = None
        self._place: Place | None = None
        self._receivers: FanOut[Any] = FanOut(
            f"the data of component {component_id} on {connection.server_url}",
            on_empty=self._stop_if_empty,
        )
        # Protects the two below: the thread skips messages, and so do readers who cannot decode
        # them. Readers do not wait for it, because one may be a handler. Nothing is logged under
        # it.
        self._skipping = threading.Lock()
        self._undecodable = 0
        self._undecodable_logged_at = -math.inf
        # Written by the thread alone.
        self._messages = 0
        self._dropped = 0
        self.reconnects = 0
        self._newest_at: float | None = None
        self._state = ClientState.CONNECTING
        self._last_error: ApiClientError | None = None
        # A daemon: a program that ends without disconnecting must not wait for the server.
        self.thread = threading.Thread(
            target=self._run,
            name=f"microgrid-stream-{component_id} {connection.site}",
            daemon=True,
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
        # In a thread of its own: who closes a receiver may be in the middle of a call of gRPC's.
        hand_over(self.stop)

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

    def move(self, place: Place) -> None:
        """Cancel the call that is open in a place, so that it is opened in another one."""
        with self._changed:
            if self._call is not None and self._place is place:
                self._call.cancel()

    def end_receivers(self, error: BaseException | None = None) -> None:
        """Tell all readers that nothing more will come, and why."""
        self._receivers.end(error)

    def newest(self, max_age: float) -> Any:
        """Give the newest value; ``None`` if there is none that has come within some seconds."""
        newest_at = self._newest_at
        if newest_at is None or time.monotonic() - newest_at > max_age:
            return None
        return next(iter(decoded([self._receivers.newest()])), None)

    def stats(self) -> StreamStats:
        """Give the counters."""
        newest_at = self._newest_at
        error = self._last_error
        return StreamStats(
            component_id=self.component_id,
            messages=self._messages,
            dropped=self._dropped,
            undecodable=self._undecodable,
            reconnects=self.reconnects,
            age_s=None if newest_at is None else time.monotonic() - newest_at,
            state=self._state,
            last_error=None if error is None else str(error),
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
            self._connection.ended(self.component_id)
            self._on_end(self)
            self.end_receivers(error)

    def _read_until_the_end(self) -> ApiClientError | None:
        """Read one call after the other; give the error that leaves nothing to try."""
        while True:
            failure = self._read_one_call()
            # A stream that has only forgotten receivers left stops here.
            self._receivers.remove()
            if self._stopped:
                return None
            if failure is None:
                # It has been moved to another place, or is asked for in another way.
                continue
            self._state, self._last_error = ClientState.FAILING, failure
            interval = self._strategy.next_interval() if failure.is_retryable else None
            if interval is None:
                level = logging.DEBUG if self._source.is_optional else logging.ERROR
                _logger.log(level, "Giving up: %s", failure)
                return failure
            # In ASCII: a log file of a code page of its own must not fail because of it.
            progress = self._strategy.get_progress().replace("\N{INFINITY}", "no limit")
            plan = f"reconnecting in {interval:.1f} s {progress}"
            self._connection.failed(self.component_id, failure, plan)
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped, interval):
                    return None
            self.reconnects += 1

    def _read_one_call(self) -> ApiClientError | None:
        """Open a call and read it; tell how it ended, or nothing if it was moved."""
        try:
            request = self._source.request()
        except ApiClientError as error:
            return error
        failure = self._read_request(request)
        if isinstance(failure, OperationNotImplemented) and not self._stopped:
            try:
                if self._source.is_outdated():
                    return None
            except ApiClientError as error:
                return error
        return failure

    def _hold_back(self, pace: Pace | None) -> None:
        if pace is None:
            return
        now = time.monotonic()
        pause = pace.pause(self.component_id, now)
        if pause > 0.0:
            if pace.is_news(now):
                _logger.warning(
                    "%s sends more than %.0f samples a second, which are read of it at the most "
                    "(max_rate): its values are late",
                    self._connection.server_url,
                    pace.rate,
                )
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, pause)

    def _open(self, place: Place, request: StreamRequest[Any]) -> Any:
        """Open a call; ``None`` if the stream has stopped, or is to go elsewhere already."""
        with self._changed:
            # A place that was given up before it was used is not watched any more.
            if self._stopped or place.is_given_up:
                return None
            self._place = place
            # Without a deserializer: one that fails would end the stream. The messages are parsed
            # by who reads, one by one.
            self._call = place.open(request.path)(request.payload)
            return self._call

    def _read_request(self, request: StreamRequest[Any]) -> ApiClientError | None:
        connection = self._connection
        connection.reachability.asked()
        read, make, skip_late = request.read, request.make, self._skip_late
        place = connection.places.take(self)
        call: Any = None
        try:
            call = self._open(place, request)
            for payload in call or ():
                if not place.has_answered:
                    place.answered()
                    self._source.answered()
                try:
                    message = read(payload)
                except UndecodableMessage as error:
                    self._skip(error)
                else:
                    self._hand_over(Undecoded(message, make, skip_late))
                self._hold_back(connection.pace)
        except grpc.RpcError as error:
            if place.is_given_up:
                return None
            failure: ApiClientError = ApiClientError.from_grpc_error(
                server_url=connection.server_url,
                operation=request.operation,
                grpc_error=error,
            )
            if not self._stopped:
                # Else it is our own doing.
                self._note_failure(failure)
            return failure
        except ValueError:
            # The channel is being closed.
            if not self._stopped:
                raise
        finally:
            self._call = None
            place.leave()
            if call is not None:
                take_last_events(call)
        if place.is_given_up:
            return None
        return ApiClientError(
            server_url=connection.server_url,
            operation=request.operation,
            description="the server ended the stream",
            retryable=True,
        )

    def _note_failure(self, failure: ApiClientError) -> None:
        if isinstance(failure, GrpcError) and failure.grpc_error.code() not in _NOT_REACHED:
            self._connection.reachability.answered()
        else:
            self._connection.reachability.failed(time.monotonic())

    def _hand_over(self, message: Undecoded[Any]) -> None:
        """Hand one message to the receivers; who reads it decodes it."""
        self._newest_at = time.monotonic()
        self._messages += 1
        if self._state is not _READY:
            self._connection.reachability.answered()
            self._strategy.reset()
            self._state = _READY
            self._connection.recovered(self.component_id, again=self.reconnects > 0)
        self._dropped += self._receivers.put(message)

    def _skip(self, error: Exception) -> None:
        """Count a message that says nothing, and tell the log of it now and then."""
        with self._skipping:
            is_logged = self._count_skipped()
        if is_logged:
            self._log_skipped(error)

    def _skip_late(self, error: Exception) -> None:
        """Do the same in the thread of a reader, who could not decode it."""
        if not self._skipping.acquire(blocking=False):
            hand_over(lambda: self._skip(error))
            return
        try:
            is_logged = self._count_skipped()
        finally:
            self._skipping.release()
        if is_logged:
            self._log_skipped(error)

    def _count_skipped(self) -> bool:
        """Count one more, under the lock; tell whether the log is to be told."""
        self._undecodable += 1
        now = time.monotonic()
        if now - self._undecodable_logged_at < _UNDECODABLE_LOG_INTERVAL:
            return False
        self._undecodable_logged_at = now
        return True

    def _log_skipped(self, error: Exception) -> None:
        _logger.warning(
            "Skipped a message of component %s on %s, %d so far: %s",
            self.component_id,
            self._connection.server_url,
            self._undecodable,
            error,
        )


class Streams:
    """The streams of one connection."""

    def __init__(self, connection: Connection, strategy: Strategy, owner: object) -> None:
        """Open no stream yet.

        Args:
            connection: Where to open them.
            strategy: How to reconnect; each stream gets a copy.
            owner: Kept alive by every stream, so that it can end them with the program.
        """
        self._owner = owner
        self._connection = connection
        self._strategy = strategy
        # Protects the three below. A stream's own lock is taken inside it, never the other way
        # round.
        self._lock = threading.Lock()
        self._by_key: dict[StreamKey, ComponentStream] = {}
        # Includes those that have stopped and whose threads have not ended yet.
        self._alive: set[ComponentStream] = set()
        self._closed = False

    def subscribe(
        self, component_id: int, kind: Hashable, source: StreamSource[T], maxsize: int
    ) -> Receiver[T] | None:
        """Receive a component's data, of a new stream if there is none.

        Args:
            component_id: The component.
            kind: What kind of data is expected: the component's category, or what else is asked
                for.
            source: What to ask for a new stream.
            maxsize: How many values the receiver holds.

        Returns:
            The receiver; ``None`` if the connection has been closed.
        """
        is_category = isinstance(kind, ComponentCategory)
        key = (component_id, None if is_category else kind)
        outdated = None
        with self._lock:
            if self._closed:
                return None
            stream = self._by_key.get(key)
            if stream is not None and stream.kind != kind:
                # The component has become another: its old readers wait in vain.
                outdated, stream = stream, None
            receiver = None if stream is None else stream.subscribe(maxsize)
            if receiver is None:
                receiver = self._start(key, kind, source, maxsize)
        if outdated is not None:
            error = ApiClientError(
                server_url=self._connection.server_url,
                operation=source.operation,
                description="the component is of another category now",
                retryable=False,
            )
            outdated.end_receivers(error)
            hand_over(outdated.stop)
        return receiver

    def _start(
        self, key: StreamKey, kind: Hashable, source: StreamSource[T], maxsize: int
    ) -> Receiver[T] | None:
        stream = ComponentStream(
            self._connection,
            component_id=key[0],
            kind=kind,
            source=source,
            key=key,
            strategy=self._strategy.copy(),
            on_end=self._forget,
        )
        receiver = stream.subscribe(maxsize)
        # Known before its thread starts, which may be interrupted by Ctrl-C; nobody waits for one
        # that could not be started.
        self._by_key[key] = stream
        self._alive.add(stream)
        try:
            stream.thread.start()
        except RuntimeError:
            del self._by_key[key]
            self._alive.discard(stream)
            raise
        return receiver

    def _forget(self, stream: ComponentStream) -> None:
        with self._lock:
            self._alive.discard(stream)
            if self._by_key.get(stream.key) is stream:
                del self._by_key[stream.key]

    def newest(self, key: StreamKey, max_age: float) -> Any:
        """Give the newest value of a stream that is open: see `ComponentStream.newest`."""
        stream = self._by_key.get(key)
        return None if stream is None else stream.newest(max_age)

    def reconnects(self, component_id: int) -> tuple[int, int] | None:
        """Tell a component's stream from earlier ones: its own number, and how often it was opened.

        ``None`` without one.
        """
        stream = self._by_key.get((component_id, None))
        return None if stream is None else (stream.number, stream.reconnects)

    def stats(self) -> tuple[StreamStats, ...]:
        """Give the counters of all streams, in the order of the components' IDs."""
        # Without the lock: a handler may ask. The copy is one operation of the dictionary's.
        streams = self._by_key.copy().values()
        return tuple(s.stats() for s in sorted(streams, key=lambda s: (s.component_id, s.number)))

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
        # Readers do not wait for hundreds of calls to be cancelled.
        for stream in streams:
            stream.end_receivers()
        for stream in streams:
            stream.stop()
        return [stream.thread for stream in streams]
