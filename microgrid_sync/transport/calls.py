"""Makes unary calls: with one deadline, retries and errors.

There are two ways. `UnaryCalls.call` waits in the thread of the caller, which drives the call
itself: as a stream of one answer, which another thread can cancel. `UnaryCalls.start` does not
wait, for loops that command many components at once: as a future, which one thread of gRPC's
drives. A future that is waited for takes a fifth more time than a call, and a call would take a
thread for each set-point.
"""

import functools
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import grpc
import tenacity
from google.protobuf.message import DecodeError

from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import (
    ApiClientError,
    ClientNotConnected,
    GrpcError,
    GrpcStatus,
    InternalError,
    SetPointSuperseded,
)
from microgrid_sync.transport.channel import site_of
from microgrid_sync.transport.reachability import Reachability
from microgrid_sync.transport.resend import LANDING_TIME, CutOff, ResendDone, Resends
from microgrid_sync.transport.retry import for_one_call
from microgrid_sync.wire import UnaryRequest

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class CallCounters:
    """How many unary calls a client has made, over all of its connections."""

    def __init__(self) -> None:
        """Start at zero."""
        # Protects the four numbers.
        self._lock = threading.Lock()
        self._calls = 0
        self._retries = 0
        self._failures = 0
        self._resent = 0

    def count(self, *, retries: int, failed: bool) -> None:
        """Count a call that has ended."""
        with self._lock:
            self._calls += 1
            self._retries += retries
            self._failures += failed

    def count_resent(self) -> None:
        """Count a set-point that is sent once more."""
        with self._lock:
            self._resent += 1

    def read(self) -> tuple[int, int, int, int]:
        """Give calls, retries, failures and set-points that were sent once more."""
        # Without the lock: a handler may ask.
        return self._calls, self._retries, self._failures, self._resent


class _OngoingCall:
    """A call that has begun; another thread may end it at any time."""

    def __init__(self) -> None:
        # Serializes the start of an attempt with the end of the call, so that no attempt starts
        # after the end and none goes on unseen. Starting and cancelling a gRPC call do not wait.
        self._lock = threading.Lock()
        self._attempt: Any = None
        self._has_ended = False
        self._ended: threading.Event | None = None
        self.attempts = 0
        self.superseded = False
        self.was_cut_off = False
        """Whether an attempt ended, or was left, without the server's answer."""

    @property
    def ended(self) -> threading.Event:
        """Set when the call has ended; made only for those that pause between attempts."""
        with self._lock:
            if self._ended is None:
                self._ended = threading.Event()
                if self._has_ended:
                    self._ended.set()
            return self._ended

    def start_attempt(self, start: Callable[[], Any]) -> Any:
        """Start an attempt, unless the call has ended: then give ``None``."""
        with self._lock:
            if self._has_ended:
                return None
            self._attempt = start()
            self.attempts += 1
            return self._attempt

    def end(self, *, superseded: bool = False) -> None:
        """Start no further attempt, and cancel the one that is under way."""
        with self._lock:
            self.superseded = self.superseded or superseded
            self._has_ended = True
            if self._ended is not None:
                self._ended.set()
            if self._attempt is not None:
                self._attempt.cancel()


class CallOptions(NamedTuple):
    """How one call is made."""

    timeout: float
    """Seconds for the call with all of its attempts."""

    retry: tenacity.Retrying | None
    """When to try again; ``None`` for a single attempt."""

    wait_for_ready: bool = False
    """Whether to wait for a server that is not there, until the timeout."""


class _NotOneAnswer(Exception):
    """A server has answered a unary call with success, but not once."""


def _only_answer(call: Any) -> bytes:
    """Wait for the one answer of a call, and for its end."""
    try:
        answers: list[bytes] = list(itertools.islice(call, 2))
        if len(answers) > 1:
            call.cancel()
            raise _NotOneAnswer("more than one message")
        if not answers:
            raise _NotOneAnswer("no message")
        return answers[0]
    finally:
        take_last_events(call)


def take_last_events(call: Any) -> None:
    """Take what gRPC still has to say of a call that has ended; in the thread that has read it.

    A call of a channel with the single-threaded option that was cancelled in another thread keeps
    its last event, and with it some 20 kB, until the channel is closed. gRPC offers no public way
    to take it, so this uses a private one, where that exists.
    """
    state = getattr(call, "_state", None)
    consume = getattr(call, "_consume_next_event", None)
    if state is None or consume is None or state.code is None:
        return
    while state.due:
        consume()


CUT_OFF = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
"""Statuses after which a server may still carry out what was asked; the others are its answer."""


def is_cut_off(error: ApiClientError) -> bool:
    """Tell whether the server may still carry out what failed with this error."""
    if isinstance(error, SetPointSuperseded):
        return error.attempts != 0
    return isinstance(error, GrpcError) and error.grpc_error.code() in CUT_OFF


class _Confirmed(NamedTuple):
    """The newest call of a kind that the server has confirmed."""

    number: int
    request: UnaryRequest[Any]
    began_at: float


class StartedCall:
    """A call that was started without waiting for its answer."""

    def __init__(self, calls: "UnaryCalls", ongoing: _OngoingCall, operation: str) -> None:
        """Note what has been started; see `UnaryCalls.start`."""
        self._calls = calls
        self._ongoing = ongoing
        self._operation = operation
        self.order_by: Hashable = None
        self.future: Any = None
        """The attempt; ``None`` if the call ended before it could begin."""

    def outcome(self) -> ApiClientError | None:
        """Tell how it has ended, and count it. To be called once, after it has ended."""
        return self._calls.settle(self, self._ongoing, self._operation)


class UnaryCalls:
    """The unary calls of one connection. Any number of threads call; any thread may end them."""

    def __init__(
        self,
        server_url: str,
        channel: grpc.Channel,
        counters: CallCounters,
        reachability: Reachability,
    ) -> None:
        """Make no call yet.

        Args:
            server_url: The server's URL, for errors.
            channel: The channel to call on, with the single-threaded option for streams.
            counters: Where calls are counted.
            reachability: Where it is noted whether the server answers.
        """
        self._server_url = server_url
        self._channel = channel
        self._open: Callable[[str], Any] = functools.cache(
            lambda path: channel.unary_stream(path, None, None)
        )
        self._open_future: Callable[[str], Any] = functools.cache(
            lambda path: channel.unary_unary(path, None, None)
        )
        self._counters = counters
        self._reachability = reachability
        # Protects the six below. A call's own lock is taken inside it, never the other way round.
        self._lock = threading.Lock()
        self._ongoing: set[_OngoingCall] = set()
        self._newest: dict[Hashable, _OngoingCall] = {}
        self._numbers: dict[Hashable, int] = {}
        self._confirmed: dict[Hashable, _Confirmed] = {}
        # Those since the newest confirmation.
        self._refused: dict[Hashable, set[int]] = {}
        self._closed = False
        self._resends = Resends(self._resend, self._finish_resend, site_of(server_url))

    def call(
        self, request: UnaryRequest[T], options: CallOptions, *, order_by: Hashable = None
    ) -> T:
        """Make a call and wait for its answer.

        Args:
            request: What to ask.
            options: How long to wait, and when to try again.
            order_by: What the call sets. A newer call with an equal value ends this one, and
                starts its first attempt after that.

        Returns:
            The answer.

        Raises:
            ApiClientError: The last error, with the number of attempts in its text.
        """
        deadline = Deadline(options.timeout)
        ongoing = _OngoingCall()
        number = self._begin(ongoing, request.operation, order_by)
        failed = True
        began_at = time.monotonic()
        try:
            answer = self._try(ongoing, request, options, deadline)
            failed = False
        except ApiClientError as error:
            error.attempts = ongoing.attempts
            if ongoing.superseded and not isinstance(error, SetPointSuperseded):
                superseded = self._superseded(request.operation)
                superseded.attempts = ongoing.attempts
                raise superseded from error.with_traceback(None)
            # From here on up, not from the depths of the policy and of gRPC.
            cause = error.__cause__ if isinstance(error.__cause__, ApiClientError) else None
            raise error.with_traceback(None) from cause
        finally:
            # Ctrl-C, too, leaves nothing behind that goes on by itself.
            ongoing.end()
            confirmed = None if failed else _Confirmed(number, request, began_at)
            self._finish(ongoing, order_by, confirmed)
            self._counters.count(retries=max(0, ongoing.attempts - 1), failed=failed)
            if failed and not ongoing.was_cut_off and order_by is not None:
                self._note_refusal(order_by, number)
            if ongoing.was_cut_off and order_by is not None:
                payload = request.message.SerializeToString()
                self._resends.add(CutOff(order_by, number, payload, time.monotonic()))
        return request.decode(answer)

    def start(
        self,
        request: UnaryRequest[None],
        timeout: float,
        *,
        order_by: Hashable,
        on_done: Callable[[StartedCall], None],
    ) -> None:
        """Make a single attempt without waiting for its answer.

        Args:
            request: What to ask.
            timeout: Seconds for the answer.
            order_by: See `call`.
            on_done: Called once when it has ended, in a thread of gRPC's or in this one. It must
                neither wait nor take a lock; `StartedCall.outcome` is for another thread.

        Raises:
            ClientNotConnected: If the connection has been closed; `on_done` is not called.
        """
        ongoing = _OngoingCall()
        self._begin(ongoing, request.operation, order_by)
        started = StartedCall(self, ongoing, request.operation)
        started.order_by = order_by
        open_call = self._open_future(request.path)
        payload = request.message.SerializeToString()
        try:
            started.future = ongoing.start_attempt(lambda: open_call.future(payload, timeout))
        except ValueError:
            # The channel has been closed just now.
            self._finish(ongoing, order_by)
            raise self._closed_error(request.operation) from None
        except BaseException:
            self._finish(ongoing, order_by)
            raise
        if started.future is None:
            on_done(started)
        else:
            started.future.add_done_callback(lambda _: on_done(started))

    def settle(
        self, started: StartedCall, ongoing: _OngoingCall, operation: str
    ) -> ApiClientError | None:
        """Tell how a started call has ended; see `StartedCall.outcome`."""
        error = self._outcome(ongoing, operation, started.future)
        if error is not None:
            error.attempts = ongoing.attempts
        self._finish(ongoing, started.order_by)
        self._counters.count(retries=0, failed=error is not None)
        return error

    def _outcome(self, ongoing: _OngoingCall, operation: str, future: Any) -> ApiClientError | None:
        if future is None:
            return (
                self._superseded(operation) if ongoing.superseded else self._closed_error(operation)
            )
        if future.code() is grpc.StatusCode.OK:
            self._reachability.answered()
            return None
        error = self._translate(operation, future)
        return self._superseded(operation) if ongoing.superseded and is_cut_off(error) else error

    def _superseded(self, operation: str) -> SetPointSuperseded:
        return SetPointSuperseded(server_url=self._server_url, operation=operation)

    def _closed_error(self, operation: str) -> ClientNotConnected:
        return ClientNotConnected(server_url=self._server_url, operation=operation)

    def _begin(
        self,
        ongoing: _OngoingCall,
        operation: str,
        order_by: Hashable,
    ) -> int:
        """Note a call that begins, and end an older one of the same kind.

        Args:
            ongoing: The call.
            operation: What it asks, for the error.
            order_by: What it sets.

        Returns:
            The number of the call among those that set the same.
        """
        self._reachability.asked()
        with self._lock:
            if self._closed:
                raise self._closed_error(operation)
            self._ongoing.add(ongoing)
            if order_by is None:
                return 0
            older = self._newest.get(order_by)
            self._newest[order_by] = ongoing
            number = self._numbers.get(order_by, 0) + 1
            self._numbers[order_by] = number
            if older is not None:
                # Inside the lock: a third call must not start before the first is cancelled.
                older.end(superseded=True)
            return number

    def _finish(
        self, ongoing: _OngoingCall, order_by: Hashable, confirmed: "_Confirmed | None" = None
    ) -> None:
        with self._lock:
            self._ongoing.discard(ongoing)
            if order_by is None:
                return
            if self._newest.get(order_by) is ongoing:
                del self._newest[order_by]
            if confirmed is not None:
                before = self._confirmed.get(order_by)
                if before is None or before.number < confirmed.number:
                    self._confirmed[order_by] = confirmed
                    self._refused.pop(order_by, None)

    def _note_refusal(self, order_by: Hashable, number: int) -> None:
        """Note that the server has refused a call: what was confirmed before still holds."""
        with self._lock:
            self._refused.setdefault(order_by, set()).add(number)

    def _try(
        self,
        ongoing: _OngoingCall,
        request: UnaryRequest[Any],
        options: CallOptions,
        deadline: Deadline,
    ) -> Any:
        """Make as many attempts as the policy and the time allow."""
        open_call = self._open(request.path)
        payload = request.message.SerializeToString()
        keywords = {"wait_for_ready": True} if options.wait_for_ready else {}
        last_error: ApiClientError | None = None

        def attempt() -> Any:
            nonlocal last_error
            before = ongoing.was_cut_off
            try:
                call = ongoing.start_attempt(
                    lambda: open_call(payload, deadline.remaining(), **keywords)
                )
            except ValueError:
                # The channel has been closed just now.
                raise self._closed_error(request.operation) from None
            if call is None:
                if ongoing.superseded:
                    raise self._superseded(request.operation) from last_error
                raise last_error or self._closed_error(request.operation)
            # Until there is an answer; Ctrl-C may come before that.
            ongoing.was_cut_off = True
            try:
                answer = request.parse(_only_answer(call))
            except grpc.RpcError as error:
                last_error = self._translate(request.operation, error)
                ongoing.was_cut_off = before or is_cut_off(last_error)
                raise last_error from error
            except (DecodeError, _NotOneAnswer) as error:
                ongoing.was_cut_off = before
                self._reachability.answered()
                status = GrpcStatus(grpc.StatusCode.INTERNAL, f"the answer is broken: {error}")
                last_error = InternalError(
                    server_url=self._server_url, operation=request.operation, grpc_error=status
                )
                raise last_error from error
            # What was cut off before was of the same value.
            ongoing.was_cut_off = before
            self._reachability.answered()
            return answer

        try:
            return attempt()
        except ApiClientError as error:
            if options.retry is None:
                raise
            failures = [error]

        def try_again() -> Any:
            if failures:
                raise failures.pop()
            return attempt()

        # Only now: most calls succeed at once, and to make a policy for one call takes as long as
        # a third of the call.
        policy = for_one_call(options.retry, seconds=deadline.remaining(), ended=ongoing.ended)
        return policy(try_again)

    def _translate(self, operation: str, error: Any) -> GrpcError:
        translated = ApiClientError.from_grpc_error(
            server_url=self._server_url, operation=operation, grpc_error=error
        )
        code = translated.grpc_error.code()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            self._reachability.failed(time.monotonic())
        elif code is not grpc.StatusCode.CANCELLED:
            self._reachability.answered()
        return translated

    def _resend(self, cut_off: CutOff) -> bool:
        """Send the newest set-point once more if an older one may have landed after it.

        Returns:
            Whether that is settled; not as long as a newer call is under way.
        """
        order_by = cut_off.order_by
        ongoing = _OngoingCall()
        with self._lock:
            if self._closed:
                return True
            if order_by in self._newest:
                return False
            newest = self._confirmed.get(order_by)
            if (
                newest is None
                or newest.number <= cut_off.number
                # A newer one has failed, and may hold all the same: its caller knows.
                or not self._refused.get(order_by, set()).issuperset(
                    range(newest.number + 1, self._numbers[order_by] + 1)
                )
                or newest.request.message.SerializeToString() == cut_off.payload
                or newest.began_at > cut_off.at + LANDING_TIME
            ):
                return True
            self._ongoing.add(ongoing)
            self._newest[order_by] = ongoing
        request = newest.request
        open_call = self._open_future(request.path)
        payload = request.message.SerializeToString()
        done = ResendDone(cut_off, ongoing, newest.number, payload)
        try:
            future = ongoing.start_attempt(lambda: open_call.future(payload, LANDING_TIME))
        except ValueError:
            # The channel has been closed just now.
            future = None
        if future is None:
            self._finish(ongoing, order_by)
            return True
        self._counters.count_resent()
        _logger.info(
            "%s on %s: sent once more, an older set-point may have landed after it",
            request.operation,
            self._server_url,
        )
        future.add_done_callback(
            lambda ended: self._resends.worker.deliver(done._replace(future=ended))
        )
        return True

    def _finish_resend(self, done: ResendDone) -> list[CutOff]:
        """Note that a set-point that was sent once more has ended; give what may still land now."""
        self._finish(done.call, done.cut_off.order_by)
        code = done.future.code()
        if code is grpc.StatusCode.OK:
            return []
        open_ones = [done.cut_off]
        if code in CUT_OFF:
            # It may land itself, after a newer one.
            cut_off = CutOff(done.cut_off.order_by, done.number, done.payload, time.monotonic())
            open_ones.append(cut_off)
        return open_ones

    def close(self) -> None:
        """End all calls, and refuse new ones."""
        with self._lock:
            self._closed = True
            ongoing = list(self._ongoing)
        for call in ongoing:
            call.end()
        self._resends.worker.close()
