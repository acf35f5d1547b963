"""Delivers what is in a spool to where it belongs, in a thread of its own."""

import contextlib
import logging
import math
import threading
import time
from pathlib import Path

from microgrid_sync.recording.spool import Spool, SpoolError
from microgrid_sync.recording.store import Store, StoreError

_DELIVERY_INTERVAL = 0.5
"""Seconds between two looks at the spool, where nothing has failed."""

_RETRY_INTERVALS = (1.0, 5.0)
"""Seconds until what has failed is tried again: at first, and at the most."""

_LOG_INTERVAL = 60.0
"""Seconds between two lines that say the same."""

_CALL_TIMEOUT = 60.0
"""Seconds for one delivery; then it is broken off, and tried again."""

_CHECK_TIMEOUT = 5.0
"""Seconds in which most destinations tell whether they can be used."""

_logger = logging.getLogger(__name__)


class Delivery:
    """Moves rows from a spool to a store until it is ended. Its thread owns what changes in it."""

    def __init__(self, spool: Spool, store: Store) -> None:
        """Make it; it does nothing until it is started."""
        self._spool = spool
        self._store = store
        self.delivered = 0
        """Rows that have been moved."""
        self.error: str | None = None
        """Why nothing is moved now; ``None`` if something is."""
        self._waiting = 0
        self._call_began: float | None = None
        self._refused: BaseException | None = None
        self._checked = threading.Event()
        self._is_ending = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="microgrid-recorder-delivery", daemon=True
        )

    @property
    def spool(self) -> Path:
        """The spool's file."""
        return self._spool.path

    def start(self) -> None:
        """Begin; a destination that does not answer is waited for later.

        Raises:
            StoreError: If the store is there, and cannot be used as it is.
        """
        self._thread.start()
        self._checked.wait(_CHECK_TIMEOUT)
        if self._refused is not None:
            raise self._refused

    @property
    def is_own_thread(self) -> bool:
        """Whether it is its thread that asks."""
        return threading.current_thread() is self._thread

    def count_waiting(self) -> int:
        """Count the rows in the spool; as many as last time if it cannot be read."""
        with contextlib.suppress(SpoolError):
            self._waiting = self._spool.waiting()
        return self._waiting

    def watch(self, now: float) -> None:
        """Break a delivery off that takes too long. Another thread must call this now and then."""
        began = self._call_began
        if began is not None and now - began >= _CALL_TIMEOUT:
            self._call_began = now
            self._store.hurry()

    def end(self, deadline: float) -> None:
        """Deliver what there is, as far as there is time; then close the spool and the store.

        Args:
            deadline: On the monotonic clock; it has a second in any case.
        """
        self._is_ending.set()
        self._thread.join(max(1.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self.give_up()
            self._store.hurry()
            self._thread.join(1.0)
        self._store.close()
        # What is left is told to the end.
        self.count_waiting()
        self._spool.close()

    def give_up(self) -> None:
        """Begin no delivery any more, however much there is."""
        self._is_over.set()
        self._is_ending.set()

    # The thread

    def _work(self) -> None:
        pause = _DELIVERY_INTERVAL
        told_at = -math.inf
        self._call_began = time.monotonic()
        try:
            self._store.check()
        except Exception as error:  # noqa: BLE001 - whoever starts it is told
            self._refused = error
        finally:
            self._checked.set()
        while True:
            is_end = self._is_ending.wait(pause)
            if self._is_over.is_set():
                return
            self._call_began = time.monotonic()
            try:
                moved = self._store.deliver(self._spool, all_of_it=is_end)
            except Exception as error:
                now = time.monotonic()
                said = str(error)
                is_news = said != self.error or now - told_at >= _LOG_INTERVAL
                # At the end it is told how much is left.
                if is_news and not is_end:
                    told_at = now
                    is_known = isinstance(error, StoreError | SpoolError)
                    _logger.warning("%s; the spool keeps what comes", said, exc_info=not is_known)
                pause = min(max(pause * 2, _RETRY_INTERVALS[0]), _RETRY_INTERVALS[1])
                self.error = said
                moved = 0
            else:
                if self.error is not None:
                    self.error = None
                    _logger.warning("%s takes rows again", self._store.name)
                pause = 0.0 if moved else _DELIVERY_INTERVAL
                self.delivered += moved
            finally:
                self._call_began = None
            if is_end and not moved:
                return
