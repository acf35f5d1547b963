"""Makes set-points: in order, read to the server's last word, and sent once more if need be.

A set-point that the server has only accepted is read on, in a thread of its own, whoever waits for
it and whatever comes after it.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import grpc

from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import (
    ApiClientError,
    GrpcStatus,
    OperationTimedOut,
    SetPointFailed,
    SetPointRejected,
    SetPointSuperseded,
)
from microgrid_sync.transport.attempts import (
    CUT_OFF,
    CallOptions,
    CallPlan,
    OngoingCall,
    Outcome,
    is_cut_off,
    next_answer,
)
from microgrid_sync.transport.calls import Calls, Sent, cause_of, without_depths
from microgrid_sync.transport.channel import site_of
from microgrid_sync.transport.reader_threads import ReaderThreads
from microgrid_sync.transport.resend import LANDING_TIME, CutOff, ResendDone, Resends
from microgrid_sync.wire import ApiGeneration, SetPointAnswer, SetPointRequest, SetPointState

READ_ON = 30.0
"""Seconds for which a set-point that was started is read on after the server has accepted it."""

_logger = logging.getLogger(__name__)

SetPointPlan = CallPlan[SetPointRequest]

OrderBy = tuple[str, int]
"""What a set-point sets: a kind of power, and the number of the component."""


class _Given(NamedTuple):
    """A set-point that somebody has given."""

    plan: SetPointPlan
    order_by: OrderBy
    number: int
    """Its number among those that set the same."""

    ongoing: OngoingCall
    began_at: float


class _Confirmed(NamedTuple):
    """The newest set-point of a kind that the server has confirmed."""

    number: int
    plan: SetPointPlan
    payload: bytes
    began_at: float


class StartedSetPoint:
    """A set-point that was started without waiting for its answer."""

    def __init__(self, ongoing: OngoingCall) -> None:
        """Note what has been started; see `SetPoints.start`."""
        self._ongoing = ongoing

    def give_up(self) -> None:
        """End it as timed out, unless the server has accepted it; does not wait."""
        self._ongoing.give_up()


class SetPoints:
    """The set-points of one connection. Any number of threads give them."""

    def __init__(self, calls: Calls) -> None:
        """Make none yet.

        Args:
            calls: Makes their attempts.
        """
        self._calls = calls
        site = site_of(calls.server_url)
        self._threads = ReaderThreads(site)
        # Protects the four below. The locks of calls are taken inside it, never the other way
        # round.
        self._lock = threading.Lock()
        self._newest: dict[OrderBy, OngoingCall] = {}
        self._numbers: dict[OrderBy, int] = {}
        self._confirmed: dict[OrderBy, _Confirmed] = {}
        # The last one of those since the newest confirmation of which all were refused.
        self._refused: dict[OrderBy, int] = {}
        self._resends = Resends(self._resend, self._finish_resend, site)

    # Waiting for it

    def call(self, plan: SetPointPlan, options: CallOptions, order_by: OrderBy) -> datetime | None:
        """Give a set-point and wait for the server's last word.

        Args:
            plan: What to ask.
            options: How long to wait, and when to try again.
            order_by: What it sets. A newer one of the same kind ends this one, and starts its first
                attempt after that.

        Returns:
            When it expires; ``None`` if the server does not say.

        Raises:
            ApiClientError: The last error, with the number of attempts in its text.
        """
        deadline = Deadline(options.timeout)
        given = self._begin(plan, order_by)
        ongoing = given.ongoing
        sent = b""

        def read(call: Any, request: SetPointRequest) -> datetime | None:
            nonlocal sent
            sent = request.message.SerializeToString()
            answer = next_answer(call, request)
            if answer.state is SetPointState.ACCEPTED:
                ongoing.accepted()
                answer = self._wait(given, call, request, answer, deadline)
            return self._judge(answer, request.operation, ongoing)

        confirmed = None
        was_refused = False
        try:
            expires = self._calls.try_(ongoing, plan, read, options, deadline)
            confirmed = _Confirmed(given.number, plan, sent, given.began_at)
        except ApiClientError as error:
            was_refused = not isinstance(error, SetPointSuperseded)
            if ongoing.superseded and not isinstance(error, SetPointSuperseded):
                superseded = self._calls.superseded(error.operation, ongoing)
                raise without_depths(superseded, ongoing) from error.with_traceback(None)
            raise without_depths(error, ongoing) from cause_of(error)
        finally:
            if ongoing.is_left:
                # Its thread goes on.
                self._calls.counters.count(ongoing, failed=True)
            else:
                self._calls.end(ongoing)
                self._finish(ongoing, order_by, confirmed)
                if was_refused and not ongoing.was_cut_off:
                    self._note_refusal(order_by, given.number)
                if ongoing.was_cut_off:
                    self._resends.add(CutOff(order_by, given.number, sent, time.monotonic()))
                elif confirmed is not None and ongoing.superseded:
                    # It has landed, maybe after the newer one.
                    landed = time.monotonic() - LANDING_TIME
                    self._resends.add(CutOff(order_by, given.number, sent, landed))
        return expires

    def _wait(
        self,
        given: _Given,
        call: Any,
        request: SetPointRequest,
        accepted: SetPointAnswer,
        deadline: Deadline,
    ) -> SetPointAnswer:
        """Wait for the last word on what was accepted, or for a newer set-point."""

        def follow() -> None:
            outcome: Outcome
            try:
                outcome = next_answer(call, request, accepted)
            except Exception as error:  # noqa: BLE001 - for whoever waits for it
                outcome = error
            if ongoing.settle(outcome):
                payload = request.message.SerializeToString()
                cut_off = CutOff(given.order_by, given.number, payload, 0.0)
                self._settle_left(ongoing, outcome, cut_off)

        ongoing = given.ongoing
        try:
            self._threads.start(given.order_by[1], follow)
        except RuntimeError:
            # No thread to be had: this one reads on, and a newer set-point ends it.
            ongoing.reads_itself()
            return next_answer(call, request, accepted)
        outcome = ongoing.wait(deadline.remaining())
        if outcome is None:
            raise self._calls.superseded(request.operation, ongoing)
        if isinstance(outcome, TimeoutError):
            raise OperationTimedOut(
                server_url=self._calls.server_url,
                operation=request.operation,
                grpc_error=GrpcStatus(grpc.StatusCode.DEADLINE_EXCEEDED, str(outcome)),
            )
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _settle_left(self, ongoing: OngoingCall, outcome: Outcome, cut_off: CutOff) -> None:
        """Note what came of a set-point after a newer one had begun."""
        self._calls.discard(ongoing)
        now = time.monotonic()
        if isinstance(outcome, SetPointAnswer):
            if outcome.state is SetPointState.SUCCESS:
                # It has landed, maybe after the newer one: as if it could land no more.
                self._resends.add(cut_off._replace(at=now - LANDING_TIME))
            return
        code = outcome.code() if isinstance(outcome, grpc.Call) else None
        if code is None or code in CUT_OFF:
            self._resends.add(cut_off._replace(at=now))

    def _judge(
        self, answer: SetPointAnswer, operation: str, ongoing: OngoingCall
    ) -> datetime | None:
        """Make an error of a last word that is none of success."""
        url = self._calls.server_url
        match answer.state:
            case SetPointState.REJECTED:
                raise SetPointRejected(server_url=url, operation=operation)
            case SetPointState.FAILED:
                raise SetPointFailed(server_url=url, operation=operation)
            case SetPointState.OVERRIDDEN:
                if not ongoing.superseded:
                    _logger.warning(
                        "%s on %s was overridden: another controller commands the component, too",
                        operation,
                        url,
                    )
                overridden = self._calls.superseded(operation, ongoing)
                overridden.was_overridden = True
                raise overridden
            case _:
                return answer.valid_until

    # Not waiting for it

    def start(
        self,
        plan: SetPointPlan,
        timeout: float,
        *,
        order_by: OrderBy,
        on_accepted: Callable[[], None],
        on_done: Callable[[ApiClientError | None], None],
    ) -> StartedSetPoint:
        """Make a single attempt without waiting for its answer.

        It is on its way when this returns, if it is known which API the server speaks; else a
        thread finds that out first. The same thread reads the answers, to the last one.

        Args:
            plan: What to ask.
            timeout: Seconds for the first answer. Where more may follow, it is the caller who gives
                up after that time, by way of what this returns.
            order_by: See `call`.
            on_accepted: Called when the server has accepted it, and its last word is to come.
            on_done: Called once when it has ended, with the error if it has failed. Both are called
                in a thread of this connection's.

        Raises:
            ApiClientError: If it cannot be sent at all; `on_done` is not called.
            RuntimeError: If there is no thread to be had; likewise. It may have been sent.
        """
        return self._start(self._begin(plan, order_by), timeout, on_accepted, on_done)

    def _start(
        self,
        given: _Given,
        timeout: float,
        on_accepted: Callable[[], None],
        on_done: Callable[[ApiClientError | None], None],
    ) -> StartedSetPoint:
        calls, plan, ongoing = self._calls, given.plan, given.ongoing
        options = CallOptions(timeout, None)

        def send(api: ApiGeneration) -> Sent[SetPointRequest]:
            request = calls.make(plan, api)
            seconds = max(timeout, READ_ON) if request.is_followed else timeout
            return Sent(api, request, calls.open(ongoing, request, seconds, options))

        def read(call: Any, request: SetPointRequest) -> None:
            answer = next_answer(call, request)
            if answer.state is SetPointState.ACCEPTED:
                ongoing.accepted()
                on_accepted()
                answer = next_answer(call, request, answer)
            self._judge(answer, request.operation, ongoing)

        def follow(sent: Sent[SetPointRequest] | None) -> None:
            error: ApiClientError | None = None
            try:
                if sent is None:
                    sent = send(calls.search.find(ongoing, plan.operation, Deadline(timeout)))
                calls.read(ongoing, plan, sent, read, Deadline(timeout))
                ongoing.succeeded = True
            except ApiClientError as failure:
                if ongoing.superseded and is_cut_off(failure):
                    failure = calls.superseded(failure.operation, ongoing)
                error = without_depths(failure, ongoing)
            except Exception as defect:
                _logger.exception("%s on %s failed", plan.operation, calls.server_url)
                error = ApiClientError(
                    server_url=calls.server_url,
                    operation=plan.operation,
                    description=f"an unexpected error: {defect}",
                    retryable=True,
                )
            finally:
                calls.end(ongoing)
                self._finish(ongoing, given.order_by)
                on_done(error)

        api = calls.search.found
        try:
            sent = None if api is None else send(api)
            self._threads.start(given.order_by[1], lambda: follow(sent))
        except BaseException:
            ongoing.end()
            calls.discard(ongoing)
            self._finish(ongoing, given.order_by)
            raise
        return StartedSetPoint(ongoing)

    # Their order

    def _begin(self, plan: SetPointPlan, order_by: OrderBy) -> _Given:
        """Note a set-point that begins, and end an older one of the same kind."""
        with self._lock:
            ongoing = self._calls.begin(plan.operation)
            older = self._newest.get(order_by)
            self._newest[order_by] = ongoing
            number = self._numbers.get(order_by, 0) + 1
            self._numbers[order_by] = number
            if older is not None:
                # Inside the lock: a third call must not start before the first is cancelled.
                older.end(superseded=True)
            return _Given(plan, order_by, number, ongoing, time.monotonic())

    def _finish(
        self, ongoing: OngoingCall, order_by: OrderBy, confirmed: _Confirmed | None = None
    ) -> None:
        with self._lock:
            if self._newest.get(order_by) is ongoing:
                del self._newest[order_by]
            if confirmed is not None:
                before = self._confirmed.get(order_by)
                if before is None or before.number < confirmed.number:
                    self._confirmed[order_by] = confirmed
                    self._refused.pop(order_by, None)

    def _note_refusal(self, order_by: OrderBy, number: int) -> None:
        """Note that the server has refused a call: what was confirmed before still holds."""
        with self._lock:
            confirmed = self._confirmed.get(order_by)
            if confirmed is None:
                return
            if number == self._refused.get(order_by, confirmed.number) + 1:
                self._refused[order_by] = number

    # Once more

    def _resend(self, cut_off: CutOff) -> bool:
        """Send the newest set-point once more if an older one may have landed after it.

        Returns:
            Whether that is settled; not as long as a newer call is under way.
        """
        order_by = cut_off.order_by
        with self._lock:
            if order_by in self._newest:
                return False
            newest = self._confirmed.get(order_by)
            if (
                newest is None
                or newest.number <= cut_off.number
                # A newer one has failed, and may hold all the same: its caller knows.
                or self._refused.get(order_by, newest.number) < self._numbers[order_by]
                or newest.payload == cut_off.payload
                or newest.began_at > cut_off.at + LANDING_TIME
            ):
                return True
            try:
                ongoing = self._calls.begin(newest.plan.operation)
            except ApiClientError:
                # The connection has been closed.
                return True
            self._newest[order_by] = ongoing
        # Under its old number: it is the same set-point.
        given = _Given(newest.plan, order_by, newest.number, ongoing, newest.began_at)
        done = ResendDone(cut_off, newest.number, newest.payload)

        def on_done(error: ApiClientError | None) -> None:
            self._resends.worker.deliver(done._replace(error=error))

        try:
            self._start(given, LANDING_TIME, _ignore, on_done)
        except ApiClientError:
            return True
        except RuntimeError:
            # No thread to be had now.
            return False
        self._calls.counters.count_resent()
        _logger.info(
            "%s on %s: sent once more, an older set-point may have landed after it",
            newest.plan.operation,
            self._calls.server_url,
        )
        return True

    def _finish_resend(self, done: ResendDone) -> list[CutOff]:
        """Note that a set-point that was sent once more has ended; give what may still land now."""
        if done.error is None:
            return []
        open_ones = [done.cut_off]
        if is_cut_off(done.error):
            # It may land itself, after a newer one.
            now = time.monotonic()
            open_ones.append(CutOff(done.cut_off.order_by, done.number, done.payload, now))
        return open_ones

    def close(self) -> None:
        """Send nothing once more, and end the threads that read."""
        self._resends.worker.close()
        self._threads.close()


def _ignore() -> None:
    """Make nothing of it."""
