"""Runs a site: its clock, and all that waits for it."""

import contextlib
import functools
import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import grpc

from microgrid_sync.simulator.fault_tables import check_fault
from microgrid_sync.simulator.faults import ASKED_FOR, Fault, FaultKind, Faults
from microgrid_sync.simulator.message_faults import apply_faults
from microgrid_sync.simulator.messages import data_message
from microgrid_sync.simulator.pace import Pace
from microgrid_sync.simulator.site import STREAMING, ComponentError, Site
from microgrid_sync.simulator.streams import ComponentStreams, End, SampleStream

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)

_STOP_TIMEOUT = 5.0
"""Seconds in which the clock's thread ends."""

_MOST_BEHIND = 100
"""Samples that a client may be behind before a clock that races waits for it."""

_PATIENCE = 5.0
"""Seconds for which it waits; a client that is stuck is not waited for again."""

_WALL_DRIFT = timedelta(seconds=1)
"""What timestamps may lie behind the wall clock, if they follow it."""


class RunningSite:
    """A site, the thread that moves its clock on, and the streams that follow it.

    Any thread may ask, command and subscribe. With speed 0 there is no thread: the clock stands,
    and `step` moves it.
    """

    def __init__(self, site: Site, *, speed: float, restart: Callable[[float], None]) -> None:
        """Make a site whose clock does not run yet.

        Args:
            site: The site.
            speed: Seconds of its clock for each second of the machine's; 0 lets it stand.
            restart: Called without a lock when the server is to be gone for some seconds.
        """
        # Protects the site and all below; notified when the clock must look again. While it is
        # held, the lock of the faults may be taken, and streams are put into, which never waits.
        self._changed = threading.Condition()
        self._site = site
        self._now = site.now
        self._streams_of = {
            component.component_id: ComponentStreams(
                component.sample_interval, count=1, begins=site.now
            )
            for component in site.components.values()
            if component.category in STREAMING
        }
        self._restart = restart
        self._pace = Pace(speed) if speed else None
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._acknowledged: set[tuple[int, int]] = set()
        self._asking: int | None = None
        self._stopping = True
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        # One step at a time. Always taken before the lock above.
        self._stepping = threading.Lock()
        self.faults = Faults(
            site.scheduled_faults,
            check=lambda fault: check_fault(fault, site.components),
            clock=self.clock,
            changed=self._faults_changed,
        )

    # Its clock

    def start(self) -> None:
        """Start the clock."""
        with self._changed:
            self._stopping = False
            self._ended.clear()
            if self._site.follows_wall_clock:
                self._site.set_time(max(datetime.now(UTC), self._site.time))
            if self._pace is not None:
                self._pace.begin(self._now, time.monotonic())
            actions = self._change_faults(self._now)
        if self._pace is not None:
            self._thread = threading.Thread(
                target=self._run, args=(self._pace,), name="simulator-clock", daemon=True
            )
            self._thread.start()
        for action in actions:
            action()

    def stop(self) -> None:
        """Let the site stand still, end all streams, and drop what was to be done later."""
        with self._changed:
            self._end_all(End())
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_TIMEOUT)

    def _end_all(self, end: End) -> None:
        """Stop the clock and all streams. The lock is held."""
        self._stopping = True
        self._agenda.clear()
        self._changed.notify_all()
        for component_id in self._streams_of:
            self._end_streams(end, component_id)
        self._ended.set()

    def step(self, seconds: float) -> None:
        """Let a standing clock go on, through every sample, as fast as the machine can.

        Clients that fall far behind are waited for, for some seconds.

        Raises:
            RuntimeError: If the site is stopped meanwhile.
        """
        with self._stepping:
            with self._changed:
                until = round(self._now + seconds, 6)
            while True:
                with self._changed:
                    if self._stopping:
                        raise RuntimeError("the simulator has been stopped during a step")
                    due = self._next()
                    if due > until:
                        self._now = max(self._now, until)
                        return
                    actions = self._advance_to(due)
                self._do(actions)

    def _run(self, pace: Pace) -> None:
        try:
            while self._run_until_due(pace):
                pass
        except Exception:
            # A defect of ours, or a device that was changed into something impossible: nobody
            # must wait for a site that will not move again.
            _LOGGER.exception("The simulated site cannot go on")
            with self._changed:
                self._end_all(End(grpc.StatusCode.INTERNAL, "the simulated site has failed"))

    def _run_until_due(self, pace: Pace) -> bool:
        """Wait for the next second at which something happens, and let it; tell if it goes on."""
        with self._changed:
            while not self._stopping:
                due = self._next()
                pause = pace.due(due) - time.monotonic()
                if pause <= 0:
                    break
                self._changed.wait(min(pause, threading.TIMEOUT_MAX))
            if self._stopping:
                return False
            actions = self._advance_to(due)
            pace.fall_back(due, time.monotonic())
        self._do(actions)
        return True

    def _next(self) -> float:
        """Find the next second at which something happens. The lock is held."""
        due = min((streams.due for streams in self._streams_of.values()), default=self._now + 1.0)
        if self._agenda:
            due = min(due, self._agenda[0][0])
        return max(min(due, self.faults.next_change()), self._now)

    def _advance_to(self, now: float) -> list[Callable[[], None]]:
        """Live until the next second at which something happens. The lock is held.

        Returns:
            What is to be done without it.
        """
        self._now = now
        actions = []
        if self.faults.next_change() <= now:
            self._say_newest()
            actions = self._change_faults(now)
        while self._agenda and self._agenda[0][0] <= now:
            actions.append(heapq.heappop(self._agenda)[2])
        self._take_samples(now)
        return actions

    def _do(self, actions: list[Callable[[], None]]) -> None:
        """Do what the clock has come to, and let clients keep up with a clock that races."""
        for action in actions:
            action()
        if self._pace is not None and self._pace.speed <= 1:
            return
        deadline = time.monotonic() + _PATIENCE
        while behind := self._behind():
            # Clients take what waits for them meanwhile; nothing tells when they have.
            if self._ended.wait(0.002):
                return
            if time.monotonic() > deadline:
                for stream in behind:
                    stream.is_awaited = False

    def _behind(self) -> list[SampleStream]:
        """Give the streams whose clients are too far behind."""
        with self._changed:
            streams = [s for of_one in self._streams_of.values() for s in of_one.open]
        for stream in streams:
            if stream.waiting <= _MOST_BEHIND // 2:
                stream.is_awaited = True
        return [s for s in streams if s.is_awaited and s.waiting > _MOST_BEHIND]

    def clock(self) -> float:
        """Give the second that the clock shows: never beyond what happens next."""
        with self._changed:
            if self._pace is None or self._stopping:
                return self._now
            return max(self._now, min(self._pace.site_time(time.monotonic()), self._next()))

    # What happens at a second of its clock

    def _faults_changed(self) -> None:
        """Let what has been added or ended take effect now, if the clock runs."""
        with self._changed:
            if self._stopping:
                return
            self._say_newest()
            actions = self._change_faults(self.clock())
            self._changed.notify_all()
        for action in actions:
            action()

    def _change_faults(self, now: float) -> list[Callable[[], None]]:
        """Let faults begin and end. The lock is held."""
        actions: list[Callable[[], None]] = []
        for fault in self.faults.advance(now):
            if fault.kind is FaultKind.STREAM_END:
                end = End(fault.status_code, ASKED_FOR)
                for component_id in self._concerned(fault):
                    self._end_streams(end, component_id)
            elif fault.kind is FaultKind.RESTART:
                actions.append(functools.partial(self._restart, fault.delay))
        self._apply_errors()
        return actions

    def _apply_errors(self) -> None:
        """Let components have the errors that faults say, and no others. The lock is held.

        Of several, one that cannot be recovered from wins; the newest among equals.
        """
        wanted: dict[int, ComponentError] = {}
        active = self.faults.active(FaultKind.ERROR)
        self._acknowledged = {pair for pair in self._acknowledged if pair[0] in active}
        for number, fault in active.items():
            recoverable = fault.recoverable is not False
            error = ComponentError(fault.code or "UNSPECIFIED", ASKED_FOR, recoverable)
            for component_id in self._concerned(fault):
                before = wanted.get(component_id, error)
                if (number, component_id) not in self._acknowledged and (
                    before.recoverable or not recoverable
                ):
                    wanted[component_id] = error
        for component_id in self._site.errors.keys() - wanted.keys():
            self._site.recover(component_id)
        for component_id, error in wanted.items():
            self._site.fail(component_id, error)

    def acknowledge(self, component_id: int) -> None:
        """Acknowledge a component's errors, if it has any.

        Raises:
            NotPossible: If one of them is none that can be recovered from.
        """
        with self._changed:
            self._site.acknowledge(component_id)
            faults = self.faults.active(FaultKind.ERROR, component_id)
            self._acknowledged |= {(number, component_id) for number in faults}

    def _concerned(self, fault: Fault) -> list[int]:
        return [i for i in self._streams_of if fault.concerns(i)]

    def _take_samples(self, now: float) -> None:
        """Live until now, if a sample is due, and send all that are. The lock is held."""
        due = [(i, streams) for i, streams in self._streams_of.items() if streams.due <= now]
        if not due:
            return
        if now > self._site.now:
            self._say_newest(but_not_due_at=now)
            self._site.advance_to(now)
            self._follow_wall_clock()
        for component_id, streams in due:
            streams.count += 1
            streams.newest = None
            if streams.open and not self.faults.active(FaultKind.SILENT, component_id):
                disordered = bool(self.faults.active(FaultKind.DISORDERED, component_id))
                streams.newest = self._sample(component_id)
                for stream in streams.open:
                    stream.put(streams.newest, disordered=disordered)

    def _say_newest(self, *, but_not_due_at: float = math.inf) -> None:
        """Keep samples that nobody has asked for yet, before they can no longer be made.

        The lock is held.

        Args:
            but_not_due_at: Leave those alone that are replaced at this second.
        """
        for component_id, streams in self._streams_of.items():
            if streams.newest is None and streams.due > min(but_not_due_at, self._now):
                streams.newest = self._sample(component_id)

    def _follow_wall_clock(self) -> None:
        """Keep up timestamps that are the time of day, after the machine was asleep or busy."""
        if self._pace is not None and self._pace.speed == 1 and self._site.follows_wall_clock:
            wall = datetime.now(UTC)
            if wall - self._site.time > _WALL_DRIFT:
                self._site.set_time(wall)

    def _sample(self, component_id: int) -> bytes:
        """Say what a component measures, as faults let it. The lock is held."""
        component = self._site.components[component_id]
        message = data_message(self._site, component)
        apply_faults(message, component, self.faults.concerning(component_id))
        sample: bytes = message.SerializeToString(deterministic=True)
        return sample

    def _end_streams(self, end: End, component_id: int) -> None:
        """End all streams of a component. The lock is held."""
        streams = self._streams_of[component_id]
        for stream in streams.open:
            stream.end(end)
        streams.open = []

    # For calls

    def ask(self, question: Callable[[Site], T]) -> T:
        """Ask or change something of the site, between two moments of its life."""
        with self._changed:
            before, self._asking = self._asking, threading.get_ident()
            try:
                return question(self._site)
            finally:
                self._asking = before
                if self._site.now > self._now:
                    self._catch_up()

    def _catch_up(self) -> None:
        """Go on from where the site is, which somebody has moved. The lock is held."""
        self._now = self._site.now
        if self._pace is not None:
            self._pace.begin(self._now, time.monotonic())
        for streams in self._streams_of.values():
            streams.skip_to(self._now)
            streams.newest = None

    def is_asking(self) -> bool:
        """Tell whether this thread is asking the site something just now."""
        return self._asking == threading.get_ident()

    def at_clock(self, question: Callable[[Site, float], T]) -> T:
        """Ask or change something, with the second that the clock shows now."""
        with self._changed:
            return question(self._site, self.clock())

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something done in some seconds of the site's clock, unless it stops before."""
        with self._changed:
            due = round(self.clock() + seconds, 6)
            heapq.heappush(self._agenda, (due, next(self._numbers), action))
            self._changed.notify_all()

    @contextlib.contextmanager
    def stream(self, component_id: int) -> Iterator[SampleStream]:
        """Follow a component: its newest sample at once, then each new one."""
        stream = SampleStream()
        streams = self._streams_of[component_id]
        with self._changed:
            endings = self.faults.active(FaultKind.STREAM_END, component_id)
            if self._stopping:
                stream.end(End(grpc.StatusCode.UNAVAILABLE, "the simulator has stopped"))
            elif endings:
                ending = next(iter(endings.values()))
                stream.end(End(ending.status_code, ASKED_FOR))
            else:
                if not self.faults.active(FaultKind.SILENT, component_id):
                    if streams.newest is None:
                        streams.newest = self._sample(component_id)
                    stream.put(streams.newest)
                streams.open.append(stream)
        try:
            yield stream
        finally:
            with self._changed:
                if stream in streams.open:
                    streams.open.remove(stream)
