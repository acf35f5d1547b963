"""Makes the attempts of one call: what is under way, and how its answers are read."""

import itertools
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
import tenacity

from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import ApiClientError, GrpcError, SetPointSuperseded
from microgrid_sync.wire import ApiGeneration, SetPointAnswer, SetPointRequest, SetPointState

R = TypeVar("R")

_FINAL = frozenset(
    {
        SetPointState.SUCCESS,
        SetPointState.REJECTED,
        SetPointState.FAILED,
        SetPointState.OVERRIDDEN,
    }
)

_LAST_WORD = 1.0
"""Seconds after its time-out in which gRPC ends a call."""

Outcome = SetPointAnswer | Exception
"""What came of a set-point: the server's last word, or why there is none."""


class CallOptions(NamedTuple):
    """How one call is made."""

    timeout: float
    """Seconds for the call with all of its attempts."""

    retry: tenacity.Retrying | None
    """When to try again; ``None`` for a single attempt."""

    wait_for_ready: bool = False
    """Whether to wait for a server that is not there, until the timeout."""


class NotOneAnswer(Exception):
    """A server has answered a unary call with success, but not once."""


class OngoingCall:
    """A call that has begun; another thread may end it at any time."""

    def __init__(self, method: str = "") -> None:
        """Begin without an attempt.

        Args:
            method: What is called, as it is counted.
        """
        self.method = method
        self.began_at = time.monotonic()
        # Serializes the start of an attempt with the end of the call, so that no attempt starts
        # after the end and none goes on unseen. Starting and cancelling a gRPC call do not wait.
        self._lock = threading.Lock()
        self._calls: tuple[Any, ...] = ()
        self._ended: threading.Event | None = None
        self._outcome: Outcome | None = None
        self._is_counted = False
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.has_ended = False
        self.attempts = 0
        """How often it was tried; finding out which API the server speaks is part of it."""

        self.sent = 0
        """How many of them got as far as sending it."""

        self.last_error: ApiClientError | None = None
        """Of the attempts so far."""

        self.succeeded = False
        self.superseded = False
        self.was_given_up = False
        self.was_cut_off = False
        """Whether an attempt ended, or was left, without the server's answer."""

        self.is_accepted = False
        """Whether the server has accepted the set-point, and its last word is to come."""

        self.is_left = False
        """Whether its caller has gone, and a thread reads on."""

    @property
    def ended(self) -> threading.Event:
        """Set when the call has ended; made only for those that pause between attempts."""
        with self._lock:
            if self._ended is None:
                self._ended = threading.Event()
                if self.has_ended:
                    self._ended.set()
            return self._ended

    def start(self, *starts: Callable[[], Any], sends: bool = False) -> tuple[Any, ...]:
        """Start gRPC calls, unless the call has ended: then give nothing.

        Args:
            starts: Each starts one.
            sends: Whether it is the call itself that is sent, and not a question before it.
        """
        with self._lock:
            if self.has_ended:
                return ()
            # Before the server can answer.
            self.is_accepted = False
            self._outcome = None
            self._calls = tuple(start() for start in starts)
            self.attempts += not self._is_counted
            self._is_counted = True
            self.sent += sends
            return self._calls

    def begin_attempt(self) -> None:
        """Count what is started next as one more attempt."""
        self._is_counted = False

    def accepted(self) -> None:
        """Note that the server has accepted the set-point: a newer one does not cancel it."""
        with self._lock:
            self.is_accepted = True

    def reads_itself(self) -> None:
        """Note that no thread reads on: what ends the call cancels it, whoever has accepted it."""
        with self._lock:
            self.is_accepted = False
            if self.has_ended:
                self._cancel()

    def end(self, *, superseded: bool = False) -> None:
        """Start no further attempt, and cancel what is under way.

        Args:
            superseded: Whether a newer call ends it. What the server has accepted goes on then.
        """
        with self._lock:
            self.superseded = self.superseded or superseded
            self.has_ended = True
            if self._ended is not None:
                self._ended.set()
            if not (superseded and self.is_accepted):
                self._cancel()
        self._woken.put(None)

    def give_up(self) -> None:
        """Cancel what is under way because its time is over, unless the server has accepted it."""
        with self._lock:
            if not self.is_accepted:
                self.was_given_up = True
                self._cancel()

    def _cancel(self) -> None:
        for call in self._calls:
            call.cancel()

    def settle(self, outcome: Outcome) -> bool:
        """Note what came of a set-point that a thread has read on; tell whether nobody waits."""
        with self._lock:
            self._outcome = outcome
            is_left = self.is_left
        self._woken.put(None)
        return is_left

    def wait(self, seconds: float) -> Outcome | None:
        """Wait for what a thread that reads on brings; ``None`` if it is left to that thread."""
        deadline = Deadline(seconds + _LAST_WORD)
        while True:
            try:
                self._woken.get(timeout=deadline.remaining())
            except queue.Empty:
                # gRPC should have ended it long ago.
                return TimeoutError("the server has accepted it, and has not said more in time")
            with self._lock:
                if self._outcome is None and self.superseded:
                    self.is_left = True
                    return None
                if self._outcome is not None:
                    return self._outcome


def only_answer(call: Any) -> bytes:
    """Wait for the one answer of a call, and for its end."""
    try:
        answers: list[bytes] = list(itertools.islice(call, 2))
        if len(answers) > 1:
            call.cancel()
            raise NotOneAnswer("more than one message")
        if not answers:
            raise NotOneAnswer("no message")
        return answers[0]
    finally:
        take_last_events(call)


def next_answer(
    call: Any, request: SetPointRequest, accepted: SetPointAnswer | None = None
) -> SetPointAnswer:
    """Wait for the next answer to a set-point that counts, or for its end.

    Args:
        call: The gRPC call; others may read on after an answer that is not the last.
        request: What was asked.
        accepted: The answer that it was accepted, if that has come.

    Returns:
        The server's last word, or the first one that it was accepted. A server that ends in good
        order after that has said all that it will.
    """
    if not request.is_followed:
        return request.parse(only_answer(call))
    is_last = False
    try:
        for payload in call:
            answer = request.parse(payload)
            if answer.state in _FINAL:
                is_last = True
                return answer
            if answer.state is SetPointState.ACCEPTED and accepted is None:
                return answer
        if accepted is None:
            raise NotOneAnswer("no message that says what has become of it")
        return SetPointAnswer(SetPointState.SUCCESS, accepted.valid_until)
    finally:
        if is_last:
            # Nothing more is to come; a server that goes on is not listened to.
            call.cancel()
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


class CallPlan(NamedTuple, Generic[R]):
    """What somebody asks for, before it is known which API the server speaks."""

    operation: str
    """What is asked, in the client's words: for errors until the API is known."""

    make: Callable[[ApiGeneration], R]
    """Makes the request in an API; raises `NotOffered`. Its arguments have been judged."""


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
        return error.was_sent and not error.was_overridden
    return isinstance(error, GrpcError) and error.grpc_error.code() in CUT_OFF
