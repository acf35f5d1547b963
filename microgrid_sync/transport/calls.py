"""Makes calls with one deadline, retries and errors.

A call is driven by the thread that waits for it, as a stream of answers that another thread can
cancel; a future of gRPC's takes a fifth more time.
"""

import functools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError

from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import (
    ApiClientError,
    ClientNotConnected,
    GrpcError,
    GrpcStatus,
    InternalError,
    OperationNotImplemented,
    OperationTimedOut,
    SetPointSuperseded,
)
from microgrid_sync.model.shown import Shown
from microgrid_sync.transport.api_search import ApiSearch
from microgrid_sync.transport.attempts import (
    CallOptions,
    CallPlan,
    NotOneAnswer,
    OngoingCall,
    is_cut_off,
    only_answer,
)
from microgrid_sync.transport.reachability import Reachability
from microgrid_sync.transport.retry import for_one_call
from microgrid_sync.wire import ApiGeneration, NotOffered, UnaryRequest

T = TypeVar("T")


class Request(Protocol):
    """What all requests have."""

    @property
    def operation(self) -> str:
        """The call and its arguments."""

    @property
    def path(self) -> str:
        """The path of the gRPC method."""

    @property
    def message(self) -> Any:
        """What to send."""


P = TypeVar("P")
R = TypeVar("R", bound=Request)


class Sent(NamedTuple, Generic[R]):
    """A request that has been sent."""

    api: ApiGeneration
    """The API that the server speaks."""

    request: R
    call: Any
    """The gRPC call, to be read."""


BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)
"""Seconds, of the histograms of how long calls take."""


@dataclass(frozen=True, repr=False)
class CallTimes(Shown):
    """How long the calls of one method have taken, their retries included: a histogram."""

    buckets: tuple[tuple[float, int], ...]
    """Seconds, and how many calls took that or less; the last one, infinity, has all of them."""

    total_s: float
    """Seconds of all calls together."""


class CallCounters:
    """How many unary calls a client has made, over all of its connections."""

    def __init__(self) -> None:
        """Start at zero."""
        # Protects the four numbers and the times.
        self._lock = threading.Lock()
        self._calls = 0
        self._retries = 0
        self._failures = 0
        self._resent = 0
        self._times: dict[str, tuple[list[int], float]] = {}

    def count(self, ongoing: OngoingCall, *, failed: bool) -> None:
        """Count a call that has ended."""
        seconds = time.monotonic() - ongoing.began_at
        with self._lock:
            self._calls += 1
            self._retries += max(0, ongoing.attempts - 1)
            self._failures += failed
            counts, total = self._times.get(ongoing.method) or ([0] * len(BUCKETS), 0.0)
            counts = [n + (seconds <= most) for n, most in zip(counts, BUCKETS, strict=True)]
            # Replaced as a whole: it is read without the lock.
            self._times[ongoing.method] = (counts, total + seconds)

    def count_resent(self) -> None:
        """Count a set-point that is sent once more."""
        with self._lock:
            self._resent += 1

    def read(self) -> tuple[int, int, int, int]:
        """Give calls, retries, failures and set-points that were sent once more."""
        # Without the lock: a handler may ask.
        return self._calls, self._retries, self._failures, self._resent

    def times(self) -> dict[str, CallTimes]:
        """Give how long calls have taken, by method."""
        return {
            method: CallTimes(tuple(zip(BUCKETS, counts, strict=True)), total)
            for method, (counts, total) in self._times.copy().items()
        }


class Calls:
    """The calls of one connection. Any number of threads call; any thread may end them."""

    def __init__(
        self,
        server_url: str,
        channel: grpc.Channel,
        counters: CallCounters,
        reachability: Reachability,
        api: str | None = None,
    ) -> None:
        """Make no call yet.

        Args:
            server_url: The server's URL, for errors.
            channel: The channel to call on, with the single-threaded option for streams.
            counters: Where calls are counted.
            reachability: Where it is noted whether the server answers.
            api: Which API the server speaks; ``None`` to find it out.
        """
        self.server_url = server_url
        self.counters = counters
        self._open: Callable[[str], Any] = functools.cache(
            lambda path: channel.unary_stream(path, None, None)
        )
        self._reachability = reachability
        self.search = ApiSearch(server_url, self._open, reachability, api)
        # Protects the two below. A call's own lock is taken inside it, never the other way round.
        self._lock = threading.Lock()
        self._ongoing: set[OngoingCall] = set()
        self._closed = False

    def call(self, plan: CallPlan[UnaryRequest[T]], options: CallOptions) -> T:
        """Make a call and wait for its one answer.

        Args:
            plan: What to ask.
            options: How long to wait, and when to try again.

        Returns:
            The answer.

        Raises:
            ApiClientError: The last error, with the number of attempts in its text.
        """
        ongoing = self.begin(plan.operation)
        deadline = Deadline(options.timeout)

        def read(call: Any, request: UnaryRequest[T]) -> tuple[Callable[[Any], T], Any]:
            return request.decode, request.parse(only_answer(call))

        try:
            decode, answer = self.try_(ongoing, plan, read, options, deadline)
        except ApiClientError as error:
            raise without_depths(error, ongoing) from cause_of(error)
        finally:
            self.end(ongoing)
        return decode(answer)

    def request(self, plan: CallPlan[P], options: CallOptions) -> P:
        """Find out which API the server speaks, and make a request in it.

        Raises:
            ApiClientError: If that cannot be found out, or the API cannot do it.
        """
        return self.make(plan, self.find_api(plan.operation, options))

    def find_api(self, operation: str, options: CallOptions) -> ApiGeneration:
        """Give the API that the server speaks, asking it if that is not known.

        Raises:
            ApiClientError: If that cannot be found out.
        """
        found = self.search.found
        if found is not None:
            return found
        ongoing = self.begin(operation)
        deadline = Deadline(options.timeout)
        try:
            return self._with_policy(
                ongoing,
                lambda: self._find(ongoing, operation, options, deadline),
                options,
                deadline,
            )
        except ApiClientError as error:
            raise without_depths(error, ongoing) from cause_of(error)
        finally:
            ongoing.end()
            self.discard(ongoing)

    def speaks_another(self, operation: str, path: str, api: ApiGeneration, timeout: float) -> bool:
        """Ask again which API the server speaks: see `ApiSearch.speaks_another`."""
        ongoing = self.begin(operation)
        try:
            return self.search.speaks_another(api, path, ongoing, operation, Deadline(timeout))
        finally:
            ongoing.end()
            self.discard(ongoing)

    # What a call consists of

    def begin(self, operation: str) -> OngoingCall:
        """Note a call that begins."""
        self._reachability.asked()
        ongoing = OngoingCall(operation.partition("(")[0])
        with self._lock:
            if self._closed:
                raise self.closed_error(operation)
            self._ongoing.add(ongoing)
        return ongoing

    def discard(self, ongoing: OngoingCall) -> None:
        """Forget a call that has ended."""
        with self._lock:
            self._ongoing.discard(ongoing)

    def end(self, ongoing: OngoingCall) -> None:
        """End a call, and count it. After Ctrl-C, too, nothing is left that goes on by itself."""
        ongoing.end()
        self.discard(ongoing)
        self.counters.count(ongoing, failed=not ongoing.succeeded)

    def try_(
        self,
        ongoing: OngoingCall,
        plan: CallPlan[R],
        read: Callable[[Any, R], T],
        options: CallOptions,
        deadline: Deadline,
    ) -> T:
        """Make as many attempts as the policy and the time allow.

        Args:
            ongoing: The call.
            plan: What to ask.
            read: Waits for the answer, and reads it; raises what says that it failed.
            options: How to call.
            deadline: When to give up.
        """

        def attempt() -> T:
            api = self._find(ongoing, plan.operation, options, deadline)
            request = self.make(plan, api)
            call = self.open(ongoing, request, deadline.remaining(), options)
            return self.read(ongoing, plan, Sent(api, request, call), read, deadline)

        answer = self._with_policy(ongoing, attempt, options, deadline)
        ongoing.succeeded = True
        return answer

    def _with_policy(
        self,
        ongoing: OngoingCall,
        attempt: Callable[[], T],
        options: CallOptions,
        deadline: Deadline,
    ) -> T:
        def counted() -> T:
            ongoing.begin_attempt()
            try:
                return attempt()
            except ApiClientError as error:
                ongoing.last_error = error
                raise

        try:
            return counted()
        except ApiClientError as error:
            if options.retry is None:
                raise
            failures = [error]

        def try_again() -> T:
            if failures:
                raise failures.pop()
            return counted()

        # Only now: most calls succeed at once, and to make a policy for one call takes as long as
        # a third of the call.
        policy = for_one_call(options.retry, seconds=deadline.remaining(), ended=ongoing.ended)
        return policy(try_again)

    def _find(
        self, ongoing: OngoingCall, operation: str, options: CallOptions, deadline: Deadline
    ) -> ApiGeneration:
        found = self.search.found
        if found is not None:
            return found
        keywords = {"wait_for_ready": True} if options.wait_for_ready else {}
        try:
            return self.search.find(ongoing, operation, deadline, **keywords)
        except ApiClientError as error:
            if ongoing.superseded:
                raise self.superseded(operation, ongoing) from error
            raise

    def make(self, plan: CallPlan[P], api: ApiGeneration) -> P:
        """Make a request; what the API cannot do is an error before anything is sent."""
        try:
            return plan.make(api)
        except NotOffered as error:
            raise OperationNotImplemented(
                server_url=self.server_url,
                operation=plan.operation,
                grpc_error=GrpcStatus(grpc.StatusCode.UNIMPLEMENTED, str(error)),
            ) from None

    def open(
        self, ongoing: OngoingCall, request: Request, timeout: float, options: CallOptions
    ) -> Any:
        """Send a request, unless the call has ended; does not wait."""
        keywords = {"wait_for_ready": True} if options.wait_for_ready else {}
        open_call = self._open(request.path)
        payload = request.message.SerializeToString()
        try:
            started = ongoing.start(lambda: open_call(payload, timeout, **keywords), sends=True)
        except ValueError:
            # The channel has been closed just now.
            raise self.closed_error(request.operation) from None
        if started:
            return started[0]
        if ongoing.superseded:
            raise self.superseded(request.operation, ongoing) from ongoing.last_error
        raise ongoing.last_error or self.closed_error(request.operation)

    def read(
        self,
        ongoing: OngoingCall,
        plan: CallPlan[R],
        sent: Sent[R],
        read: Callable[[Any, R], T],
        deadline: Deadline,
    ) -> T:
        """Read what a request is answered with; ask again if the server speaks another API now."""
        operation = sent.request.operation
        try:
            return self._read(ongoing, sent.request, sent.call, read)
        except OperationNotImplemented as error:
            path = sent.request.path
            if not self.search.speaks_another(sent.api, path, ongoing, operation, deadline):
                raise
            first_error = error
        again = self.make(plan, self.search.find(ongoing, operation, deadline))
        seconds = deadline.remaining()
        try:
            call = self.open(ongoing, again, seconds, CallOptions(seconds, None))
        except ApiClientError as error:
            raise error from first_error
        return self._read(ongoing, again, call, read)

    def _read(self, ongoing: OngoingCall, request: R, call: Any, read: Callable[[Any, R], T]) -> T:
        before = ongoing.was_cut_off
        # Until there is an answer; Ctrl-C may come before that.
        ongoing.was_cut_off = True
        try:
            answer = read(call, request)
        except grpc.RpcError as error:
            translated = self.translate(request.operation, error, ongoing)
            ongoing.was_cut_off = before or is_cut_off(translated)
            raise translated from error
        except (DecodeError, NotOneAnswer) as error:
            ongoing.was_cut_off = before
            self._reachability.answered()
            status = GrpcStatus(grpc.StatusCode.INTERNAL, f"the answer is broken: {error}")
            raise InternalError(
                server_url=self.server_url, operation=request.operation, grpc_error=status
            ) from error
        except ApiClientError as error:
            # The server's own word, or none in time.
            ongoing.was_cut_off = before or is_cut_off(error)
            self._reachability.answered()
            raise
        # What was cut off before was of the same value.
        ongoing.was_cut_off = before
        self._reachability.answered()
        self.search.note_success(request.path)
        return answer

    # Errors

    def superseded(self, operation: str, ongoing: OngoingCall) -> SetPointSuperseded:
        """Make the error of a call whose place a newer one has taken."""
        error = SetPointSuperseded(server_url=self.server_url, operation=operation)
        error.was_sent = ongoing.sent > 0
        return error

    def closed_error(self, operation: str) -> ClientNotConnected:
        """Make the error of a call for which there is no connection."""
        return ClientNotConnected(server_url=self.server_url, operation=operation)

    def translate(self, operation: str, error: Any, ongoing: OngoingCall) -> GrpcError:
        """Make the error of a gRPC call that has failed, and note whether the server answers."""
        translated: GrpcError
        if ongoing.was_given_up and error.code() is grpc.StatusCode.CANCELLED:
            status = GrpcStatus(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time")
            translated = OperationTimedOut(
                server_url=self.server_url, operation=operation, grpc_error=status
            )
        else:
            translated = ApiClientError.from_grpc_error(
                server_url=self.server_url, operation=operation, grpc_error=error
            )
        self._reachability.ended(translated.grpc_error.code(), time.monotonic())
        return translated

    def close(self) -> None:
        """End all calls, and refuse new ones."""
        with self._lock:
            self._closed = True
            ongoing = list(self._ongoing)
        # Who waits for the search does not take it over from one that has been ended.
        self.search.close()
        for call in ongoing:
            call.end()


def without_depths(error: ApiClientError, ongoing: OngoingCall) -> ApiClientError:
    """Give an error with the number of attempts, from here on up, not from the depths of gRPC."""
    error.attempts = ongoing.attempts or None
    return error.with_traceback(None)


def cause_of(error: ApiClientError) -> ApiClientError | None:
    """Give what an error follows from, if that is one of ours."""
    return error.__cause__ if isinstance(error.__cause__, ApiClientError) else None
