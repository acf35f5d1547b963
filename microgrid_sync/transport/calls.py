"""Unary calls: the one way in which all of them go, with deadline, retries and errors."""

import functools
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import grpc
import tenacity
from google.protobuf.message import DecodeError

from microgrid_sync.exceptions import (
    ApiClientError,
    ClientNotConnected,
    GrpcError,
    GrpcStatus,
    InternalError,
    SetPointSuperseded,
)
from microgrid_sync.transport.retry import for_one_call
from microgrid_sync.wire import UnaryRequest

T = TypeVar("T")


class CallCounters:
    """How many unary calls a client has made, over all of its connections."""

    def __init__(self) -> None:
        """Start at zero."""
        # Protects the three numbers.
        self._lock = threading.RLock()
        self._calls = 0
        self._retries = 0
        self._failures = 0

    def count(self, *, retries: int, failed: bool) -> None:
        """Count a call that has ended."""
        with self._lock:
            self._calls += 1
            self._retries += retries
            self._failures += failed

    def read(self) -> tuple[int, int, int]:
        """Give calls, retries and failures."""
        with self._lock:
            return self._calls, self._retries, self._failures


class _OngoingCall:
    """A call that has begun; another thread may end it at any time."""

    def __init__(self) -> None:
        # Serializes the start of an attempt with the end of the call, so that no attempt starts
        # after the end and none goes on unseen. Starting and cancelling a gRPC call do not wait.
        self._lock = threading.RLock()
        self._attempt: Any = None
        self._has_ended = False
        self._ended: threading.Event | None = None
        self.attempts = 0
        self.superseded = False

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


class _NotOneAnswer(Exception):
    """A server has answered a unary call with success, but not once."""


def _only_answer(call: Any) -> bytes:
    """Wait for the one answer of a call, and for its end."""
    answers: list[bytes] = list(call)
    if len(answers) != 1:
        raise _NotOneAnswer(f"{len(answers)} messages instead of one")
    return answers[0]


class UnaryCalls:
    """The unary calls of one connection. Any number of threads call; any thread may end them."""

    def __init__(
        self, server_url: str, channel: grpc.Channel, stub: Any, counters: CallCounters
    ) -> None:
        """Make no call yet.

        Args:
            server_url: The server's URL, for errors.
            channel: The channel to call on, with the single-threaded option for streams.
            stub: The generation's stub on that channel.
            counters: Where calls are counted.
        """
        self._server_url = server_url
        self._stub = stub
        # As streams of one answer: the waiting thread drives such a call itself, as it does a
        # blocking call of the stub's, and another thread can cancel it, as it can a future. A
        # future takes a fifth more time.
        self._open: Callable[[str], Any] = functools.cache(
            lambda path: channel.unary_stream(path, None, None)
        )
        self._counters = counters
        # Protects the three below. A call's own lock is taken inside it, never the other way
        # round. Re-entrant, so that a signal handler may disconnect.
        self._lock = threading.RLock()
        self._ongoing: set[_OngoingCall] = set()
        self._newest: dict[Hashable, _OngoingCall] = {}
        self._closed = False

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
        deadline = time.monotonic() + options.timeout
        ongoing = _OngoingCall()
        self._begin(ongoing, request.operation, order_by)
        failed = True
        try:
            answer = self._try(ongoing, request, options, deadline)
            failed = False
        except ApiClientError as error:
            error.attempts = ongoing.attempts
            if ongoing.superseded and not isinstance(error, SetPointSuperseded):
                superseded = self._superseded(request.operation)
                superseded.attempts = ongoing.attempts
                raise superseded from error
            raise
        finally:
            # Ctrl-C, too, leaves nothing behind that goes on by itself.
            ongoing.end()
            self._finish(ongoing, order_by)
            self._counters.count(retries=max(0, ongoing.attempts - 1), failed=failed)
        return request.decode(answer)

    def start(
        self,
        request: UnaryRequest[None],
        timeout: float,
        *,
        order_by: Hashable,
        on_done: Callable[[ApiClientError | None], None],
    ) -> None:
        """Make a single attempt without waiting for its answer.

        Args:
            request: What to ask.
            timeout: Seconds for the answer.
            order_by: See `call`.
            on_done: Called once, with the error if there is one, in a thread of gRPC's or in
                this one; it must not wait.

        Raises:
            ClientNotConnected: If the connection has been closed; `on_done` is not called.
        """
        ongoing = _OngoingCall()
        self._begin(ongoing, request.operation, order_by)
        method = getattr(self._stub, request.method)
        try:
            future = ongoing.start_attempt(lambda: method.future(request.message, timeout))
        except BaseException:
            self._finish(ongoing, order_by)
            raise

        def done(_: object) -> None:
            error = self._outcome(ongoing, request.operation, future)
            self._finish(ongoing, order_by)
            self._counters.count(retries=0, failed=error is not None)
            on_done(error)

        if future is None:
            done(None)
        else:
            future.add_done_callback(done)

    def _outcome(self, ongoing: _OngoingCall, operation: str, future: Any) -> ApiClientError | None:
        """Tell how an attempt has ended."""
        if future is None:
            return (
                self._superseded(operation) if ongoing.superseded else self._closed_error(operation)
            )
        if future.code() is grpc.StatusCode.OK:
            return None
        error: ApiClientError = self._translate(operation, future)
        if ongoing.superseded:
            error = self._superseded(operation)
        error.attempts = ongoing.attempts
        return error

    def _superseded(self, operation: str) -> SetPointSuperseded:
        return SetPointSuperseded(server_url=self._server_url, operation=operation)

    def _closed_error(self, operation: str) -> ClientNotConnected:
        return ClientNotConnected(server_url=self._server_url, operation=operation)

    def _begin(self, ongoing: _OngoingCall, operation: str, order_by: Hashable) -> None:
        with self._lock:
            if self._closed:
                raise self._closed_error(operation)
            self._ongoing.add(ongoing)
            if order_by is None:
                return
            older = self._newest.get(order_by)
            self._newest[order_by] = ongoing
            if older is not None:
                # Inside the lock: a third call must not start before the first is cancelled.
                older.end(superseded=True)

    def _finish(self, ongoing: _OngoingCall, order_by: Hashable) -> None:
        with self._lock:
            self._ongoing.discard(ongoing)
            if self._newest.get(order_by) is ongoing:
                del self._newest[order_by]

    def _try(
        self,
        ongoing: _OngoingCall,
        request: UnaryRequest[Any],
        options: CallOptions,
        deadline: float,
    ) -> Any:
        """Make as many attempts as the policy and the time allow."""
        open_call = self._open(request.path)
        payload = request.message.SerializeToString()
        last_error: ApiClientError | None = None

        def attempt() -> Any:
            nonlocal last_error
            remaining = max(0.0, deadline - time.monotonic())
            call = ongoing.start_attempt(lambda: open_call(payload, remaining))
            if call is None:
                if ongoing.superseded:
                    raise self._superseded(request.operation) from last_error
                raise last_error or self._closed_error(request.operation)
            try:
                return request.parse(_only_answer(call))
            except grpc.RpcError as error:
                last_error = self._translate(request.operation, error)
                raise last_error from error
            except (DecodeError, _NotOneAnswer) as error:
                status = GrpcStatus(grpc.StatusCode.INTERNAL, f"the answer is broken: {error}")
                last_error = InternalError(
                    server_url=self._server_url, operation=request.operation, grpc_error=status
                )
                raise last_error from error

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
        remaining = max(0.0, deadline - time.monotonic())
        policy = for_one_call(options.retry, seconds=remaining, ended=ongoing.ended)
        return policy(try_again)

    def _translate(self, operation: str, error: Any) -> GrpcError:
        return ApiClientError.from_grpc_error(
            server_url=self._server_url, operation=operation, grpc_error=error
        )

    def close(self) -> None:
        """End all calls, and refuse new ones."""
        with self._lock:
            self._closed = True
            ongoing = list(self._ongoing)
        for call in ongoing:
            call.end()
