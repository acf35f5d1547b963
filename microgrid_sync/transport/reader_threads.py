"""Runs what reads set-points on, each in a thread, and uses the threads again."""

import queue
import threading
from collections.abc import Callable

Task = Callable[[], object]

_IDLE_TIME = 5.0
"""Seconds for which a thread waits for something else to do: longer than between two set-points of
whoever gives many."""


class ReaderThreads:
    """The threads of one connection that read set-points. Any thread may start something.

    To start a thread takes as long as a tenth of a set-point.
    """

    def __init__(self, site: str) -> None:
        """Start none yet.

        Args:
            site: What the threads' names call the site.
        """
        self._site = site
        # Protects the two below. To put something into a queue of these never waits.
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[tuple[int, Task] | None]] = []
        self._closed = False

    def start(self, component_id: int, task: Task) -> None:
        """Run something in a thread of its own.

        Args:
            component_id: Whose set-point it reads, for the thread's name.
            task: What to run; it raises nothing.

        Raises:
            RuntimeError: If there is no thread to be had.
        """
        with self._lock:
            if self._idle:
                self._idle.pop().put((component_id, task))
                return
        threading.Thread(
            target=self._run,
            args=(task,),
            name=self._name(component_id),
            daemon=True,
        ).start()

    def close(self) -> None:
        """End those that have nothing to do, and the others when they have done it."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().put(None)

    def _name(self, component_id: int) -> str:
        return f"microgrid-set-point-{component_id} {self._site}"

    def _run(self, task: Task) -> None:
        inbox: queue.SimpleQueue[tuple[int, Task] | None] = queue.SimpleQueue()
        while True:
            task()
            # What it refers to may be large, and this thread may wait.
            del task
            following = self._next(inbox)
            if following is None:
                return
            component_id, task = following
            threading.current_thread().name = self._name(component_id)

    def _next(self, inbox: "queue.SimpleQueue[tuple[int, Task] | None]") -> tuple[int, Task] | None:
        """Wait for something else to do; ``None`` if that takes too long."""
        with self._lock:
            if self._closed:
                return None
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=_IDLE_TIME)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
        # Who takes it off the list gives it something under the same lock.
        return inbox.get(block=False)
