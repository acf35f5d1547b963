"""Keeps up with a site that changes while a program runs."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from microgrid_sync.client import MicrogridApiClient, fetch_site, on_reconnect
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.fan_out import FanOut
from microgrid_sync.program_end import check_not_forked, is_forked
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.topology import Topology, changed_components, changes
from microgrid_sync.transport.channel import site_of

_INTERVAL = 600.0
"""Seconds between two looks at the list of components."""

_AFTER_RECONNECT = 1.0
"""Seconds after a reconnect: the streams of a connection come back one after the other."""

_AFTER_FAILURE = 10.0
"""Seconds after a list that could not be had."""

_TIMEOUT = 10.0
"""Seconds for a list that nobody waits for."""

_MOST_CHECKS = 3
"""So often a list that is new is fetched again, until two in a row are the same."""

_MOST_TRIES = 100
"""So often `refresh` asks again because another one has been faster."""

_JOIN_TIMEOUT = 1.0

_MOST_SAID = 20
"""So many differences are named one by one."""

OnChange = Callable[[Topology, frozenset[int]], None]
"""Called with a new topology, and the components that are gone or are something else now. It must
not wait, call users' code, or log."""

_logger = logging.getLogger(__name__)


class SiteWatch:
    """Owns the topology of a microgrid, and asks for it again now and then.

    The microgrid owns it. It has no thread of its own that waits: the loops look at it, each at its
    own pace, and a reconnect wakes it. A list is fetched aside, by a thread named
    ``microgrid-site-list`` that ends when it has been had.
    """

    def __init__(self, client: MicrogridApiClient, topology: Topology) -> None:
        """Begin with a topology.

        Args:
            client: Whom to ask.
            topology: What is known, which has just been fetched.
        """
        self._client = client
        self._site = site_of(client.server_url)
        self._on_change: OnChange = lambda *_: None
        # Replaced as a whole, under the lock.
        self.topology = topology
        self.changes: FanOut[str] = FanOut(f"the changes of {client.server_url}")
        # Serializes taking topologies, so that an older list never follows a newer one, and writing
        # to the receivers of changes. What it is held for tells the loops by their inboxes, finds
        # expressions and puts into queues under locks of theirs, under which nobody takes this one.
        self._lock = threading.Lock()
        self._taken_at = -math.inf
        # Held by the thread that fetches; never waited for.
        self._fetching = threading.Lock()
        self._is_asked_for = False
        self._thread: threading.Thread | None = None
        self._due = time.monotonic() + _INTERVAL
        self._closed = threading.Event()
        self._stop_listening: Callable[[], None] = lambda: None

    def begin(self, on_change: OnChange) -> None:
        """Tell the log what is wrong with the site, and watch from now on.

        Args:
            on_change: Told of another topology.
        """
        self._on_change = on_change
        self._stop_listening = on_reconnect(self._client, self._reconnected)
        self._tell(self.topology.problems())

    def look(self, now: float) -> None:
        """Fetch a list aside if it is time. From any thread; does not wait."""
        if now >= self._due:
            self._due = now + _INTERVAL
            self._fetch_aside(0.0)

    def refresh(self) -> None:
        """Ask for the site now, in the caller's thread.

        Raises:
            ApiClientError: If the microgrid cannot be asked.
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off.
        """
        check_not_forked()
        if self._closed.is_set():
            raise ReceiverStoppedError("the microgrid has been closed")
        for _ in range(_MOST_TRIES):
            started = time.monotonic()
            if self._take(started, self._fetch_steady(None)):
                return
        # Others have taken a list each time, all of them asked for after this call began.

    def close(self, *, wait: bool) -> None:
        """Watch no more. Any thread, any number of times.

        Args:
            wait: Whether to wait for the thread that fetches, for a second at the most.
        """
        if is_forked() or self._closed.is_set():
            return
        self._closed.set()
        self._stop_listening()
        self.changes.end()
        thread = self._thread
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_TIMEOUT)

    def _reconnected(self) -> None:
        self._fetch_aside(_AFTER_RECONNECT)

    def _fetch_aside(self, pause: float) -> None:
        """Fetch a list in a thread; one that is about to do so anyway will."""
        self._is_asked_for = True
        if self._closed.is_set() or not self._fetching.acquire(blocking=False):
            return
        thread = threading.Thread(
            target=self._fetch, args=(pause,), name=f"microgrid-site-list {self._site}", daemon=True
        )
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:
            # No thread to be had now: the next look, or the next reconnect, tries again.
            self._fetching.release()
            self._due = time.monotonic() + _AFTER_FAILURE

    # The thread that fetches

    def _fetch(self, pause: float) -> None:
        has_failed = False
        try:
            while self._is_asked_for and not self._closed.wait(pause):
                # Whoever asks from now on may know more than the list that is fetched now.
                self._is_asked_for = False
                started = time.monotonic()
                try:
                    topology = self._fetch_steady(_TIMEOUT)
                except ApiClientError as error:
                    self._note_failure(error, again=has_failed)
                    has_failed = self._is_asked_for = True
                    pause = _AFTER_FAILURE
                else:
                    self._is_asked_for |= not self._take(started, topology)
                    pause = _AFTER_RECONNECT
        except Exception:
            # A defect of ours must not be met without a word.
            _logger.exception("%s: the watch for changes of the site failed", self._site)
        finally:
            self._fetching.release()
        if self._is_asked_for and not self._closed.is_set():
            # Somebody has asked just before that.
            self._due = time.monotonic()

    def _note_failure(self, error: ApiClientError, *, again: bool) -> None:
        level = logging.DEBUG if again or self._closed.is_set() else logging.WARNING
        what = "%s: the components cannot be listed again: %s; the next try is in %.0f s"
        _logger.log(level, what, self._site, error, _AFTER_FAILURE)

    def _fetch_steady(self, timeout: float | None) -> Topology:
        """Fetch a list; one that differs from what is known is fetched again until it stays.

        Components and connections are two calls: what is new may be in one of them alone.
        """
        topology = fetch_topology(self._client, timeout)
        for _ in range(_MOST_CHECKS):
            if topology == self.topology:
                return topology
            again = fetch_topology(self._client, timeout)
            if again == topology:
                return topology
            topology = again
        return topology

    def _take(self, started: float, topology: Topology) -> bool:
        """Take a list.

        Args:
            started: When it was asked for.
            topology: What has come.

        Returns:
            Whether it counts: not if another one was taken meanwhile, which may be newer.
        """
        with self._lock:
            if started < self._taken_at:
                return False
            self._taken_at = time.monotonic()
            before = self.topology
            if topology == before:
                return True
            is_empty = not topology.components()
            if not is_empty:
                self.topology = topology
                self._on_change(topology, changed_components(before, topology))
                said = _shortened(changes(before, topology))
                if said:
                    self.changes.put(said)
        if is_empty:
            _logger.warning(
                "%s: the server lists no components now; those known before stay", self._site
            )
            return True
        if said:
            _logger.warning("%s: the site has changed: %s", self._site, said)
        known = before.problems()
        self._tell([problem for problem in topology.problems() if problem not in known])
        return True

    def _tell(self, problems: Sequence[str]) -> None:
        for problem in problems:
            _logger.warning("%s: %s", self._site, problem)


def fetch_topology(client: MicrogridApiClient, timeout: float | None = None) -> Topology:
    """Ask for the components and connections of a site.

    Args:
        client: Whom to ask.
        timeout: Seconds; the client's own unless given.

    Raises:
        ApiClientError: If it fails.
    """
    listing, connections = fetch_site(client, timeout)
    return Topology(listing.components, connections, left_out=listing.left_out)


def _shortened(said: Sequence[str]) -> str:
    text = "; ".join(said[:_MOST_SAID])
    return f"{text}; and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else text
