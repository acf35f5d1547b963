"""Finds out which generation of the API a server speaks: with the first call of a connection.

The call that gives a microgrid's metadata is made in each generation, with an empty message, and
what it gives is not looked at: that one of them succeeds says all. First the one that most servers
speak, then all others at once, so that no server costs more than two round trips.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import (
    ApiClientError,
    ClientNotConnected,
    GrpcStatus,
    OperationNotImplemented,
    OperationTimedOut,
)
from microgrid_sync.transport.attempts import OngoingCall, take_last_events
from microgrid_sync.transport.reachability import Reachability
from microgrid_sync.wire import API_NAMES, ApiGeneration, generation, probe_path

_OLD_STABLE = "/frequenz.api.microgrid.v1.Microgrid/GetMicrogridMetadata"
"""A generation that no server was ever seen to speak; worth a word if one does."""

_WORTH_A_WORD = 1.0
"""Seconds for asking that."""


class ApiSearch:
    """Which API a connection speaks. Any thread may ask; one of them finds it out for all."""

    def __init__(
        self,
        server_url: str,
        open_call: Callable[[str], Any],
        reachability: Reachability,
        pinned: str | None,
    ) -> None:
        """Know nothing yet.

        Args:
            server_url: The server's URL, for errors.
            open_call: Gives the multi-callable of a path, whose answers are a stream.
            reachability: Where it is noted whether the server answers.
            pinned: The API to speak, without asking; ``None`` to find it out.
        """
        self._server_url = server_url
        self._open_call = open_call
        self._reachability = reachability
        self._pinned = pinned
        self.found: ApiGeneration | None = generation(pinned) if pinned else None
        """The API; ``None`` before it is known. Read without the lock."""

        # Protects the three below and what is found; notified when one of them changes, and when
        # somebody comes, because that may have ended the call of somebody who waits.
        # A lock of its own name: that of a condition is not let go of if Ctrl-C comes at its end.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._is_searching = False
        self._closed = False
        self._had_found = False
        # The paths that have worked. One operation of the set at a time, so that no lock protects
        # it.
        self._worked: set[str] = set()

    def note_success(self, path: str) -> None:
        """Note that the server knows a path."""
        if path not in self._worked:
            self._worked.add(path)

    def find(
        self, ongoing: OngoingCall, operation: str, deadline: Deadline, **keywords: Any
    ) -> ApiGeneration:
        """Give the API, asking the server if that is not known.

        Args:
            ongoing: The call that needs to know: its end ends the wait.
            operation: What it asks, for errors.
            deadline: How long it may take.
            keywords: What the questions are sent with, too.

        Raises:
            ApiClientError: If the server speaks none of the APIs, or cannot be asked.
        """
        found = self.found
        if found is not None:
            return found
        is_searcher = False
        try:
            with self._lock:
                self._changed.notify_all()
                while self.found is None and self._is_searching and not self._closed:
                    if ongoing.has_ended:
                        raise ClientNotConnected(server_url=self._server_url, operation=operation)
                    if not self._changed.wait(deadline.remaining()):
                        raise self._error(operation, grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")
                if self._closed:
                    raise ClientNotConnected(server_url=self._server_url, operation=operation)
                if self.found is not None:
                    return self.found
                self._is_searching = is_searcher = True
            found = generation(self._search(ongoing, operation, deadline, keywords))
        finally:
            if is_searcher:
                with self._lock:
                    self._is_searching = False
                    if found is not None:
                        self.found = found
                        self._had_found = True
                    self._changed.notify_all()
        return found

    def speaks_another(
        self,
        api: ApiGeneration,
        path: str,
        ongoing: OngoingCall,
        operation: str,
        deadline: Deadline,
    ) -> bool:
        """Ask again after a path that has worked was not known to the server any more.

        Args:
            api: The API that was spoken.
            path: The path.
            ongoing: The call that was refused.
            operation: What it asks, for errors.
            deadline: How long it may take.

        Returns:
            Whether the server speaks another API now.

        Raises:
            ApiClientError: If it cannot be found out.
        """
        if self._pinned or path not in self._worked:
            # It is the server's answer: not all servers can do everything.
            return False
        with self._lock:
            if self.found is api:
                self.found = None
        return self.find(ongoing, operation, deadline) is not api

    def close(self) -> None:
        """Wake all who wait."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def _search(
        self, ongoing: OngoingCall, operation: str, deadline: Deadline, keywords: dict[str, Any]
    ) -> str:
        for names in (API_NAMES[:1], API_NAMES[1:]):
            paths = [probe_path(name) for name in names]
            errors = self._ask(ongoing, operation, paths, deadline, keywords)
            for name, path, error in zip(names, paths, errors, strict=False):
                if error is None:
                    self._reachability.answered()
                    self.note_success(path)
                    return name
            for error in errors:
                if error is not None and error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise self._translated(operation, error)
        self._reachability.answered()
        raise self._speaks_none(ongoing, operation, deadline, keywords)

    def _ask(
        self,
        ongoing: OngoingCall,
        operation: str,
        paths: Sequence[str],
        deadline: Deadline,
        keywords: dict[str, Any],
    ) -> list[Any]:
        """Make the calls of some paths, all at once; give the error of each, or nothing."""
        timeout = deadline.remaining()

        def start(path: str) -> Callable[[], Any]:
            return lambda: self._open_call(path)(b"", timeout, **keywords)

        try:
            calls = ongoing.start(*(start(path) for path in paths))
        except ValueError:
            # The channel has been closed just now.
            calls = ()
        if not calls:
            raise ClientNotConnected(server_url=self._server_url, operation=operation)
        errors = []
        for number, call in enumerate(calls):
            errors.append(_end_of(call))
            if errors[-1] is None:
                # The others may take their time.
                for other in calls[number + 1 :]:
                    other.cancel()
                break
        return errors

    def _speaks_none(
        self, ongoing: OngoingCall, operation: str, deadline: Deadline, keywords: dict[str, Any]
    ) -> ApiClientError:
        listed = ", ".join(API_NAMES)
        what = f"the server speaks none of the APIs {listed}"
        seconds = Deadline(min(_WORTH_A_WORD, deadline.remaining()))
        (old_stable,) = self._ask(ongoing, operation, [_OLD_STABLE], seconds, {})
        if old_stable is None:
            what += "; it speaks v1, which this client does not"
        error = self._error(operation, grpc.StatusCode.UNIMPLEMENTED, what)
        # What has worked is gone for a while: a gateway answers so while the server restarts.
        error.is_retryable = self._had_found
        return error

    def _translated(self, operation: str, error: Any) -> ApiClientError:
        translated = ApiClientError.from_grpc_error(
            server_url=self._server_url, operation=operation, grpc_error=error
        )
        self._reachability.ended(error.code(), time.monotonic())
        return translated

    def _error(self, operation: str, code: grpc.StatusCode, details: str) -> ApiClientError:
        timed_out = code is grpc.StatusCode.DEADLINE_EXCEEDED
        kind = OperationTimedOut if timed_out else OperationNotImplemented
        return kind(
            server_url=self._server_url,
            operation=operation,
            grpc_error=GrpcStatus(code, details),
        )


def _end_of(call: Any) -> Any:
    """Wait for the end of a call; give its error, or nothing."""
    try:
        for _ in itertools.islice(call, 2):
            # What it gives is not looked at.
            continue
    except grpc.RpcError as error:
        take_last_events(call)
        return error
    except BaseException:
        # Ctrl-C has taken the event that was waited for: there is no last one to wait for.
        call.cancel()
        raise
    call.cancel()
    take_last_events(call)
    return None
