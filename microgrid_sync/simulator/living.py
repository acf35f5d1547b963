"""A site that lives: its clock, and all that waits for it."""

import contextlib
import functools
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import grpc

from microgrid_sync.simulator.fault_tables import check_fault
from microgrid_sync.simulator.faults import Fault, FaultKind, Faults
from microgrid_sync.simulator.messages import data_message
from microgrid_sync.simulator.pace import Pace
from microgrid_sync.simulator.site import STREAMING, ComponentError, Site
from microgrid_sync.simulator.spoiling import spoil
from microgrid_sync.simulator.streams import End, Outlet, SampleStream

T = TypeVar("T")

_STOP_TIMEOUT = 5.0
"""Seconds in which the clock's thread ends."""

_MOST_BEHIND = 100
"""Samples that a client may be behind before a clock that races waits for it."""

_PATIENCE = 5.0
"""Seconds for which it waits; a client that is stuck is not waited for again."""

_WALL_DRIFT = timedelta(seconds=1)
"""What timestamps may lie behind the wall clock, if they follow it."""


class LivingSite:
    """A site, the thread that moves its clock on, and the streams that follow it.

    Any thread may ask, command and subscribe. With speed 0 there is no thread: the clock stands,
    and `step` moves it.
    """

    def __init__(self, site: Site, *, speed: float, restart: Callable[[float], None]) -> None:
        """Make a site that does not live yet.

        Args:
            site: The site.
            speed: Seconds of its clock for each second of the machine's; 0 lets it stand.
            restart: Called without a lock when the server is to be gone for some seconds.
        """
        # Protects the site and all below; notified when the clock must look again. While it is
        # held, the lock of the faults may be taken, and streams are put into, which never waits.
        self._changed = threading.Condition()
        self._site = site
        self._outlets = {
            component.component_id: Outlet(component.sample_interval)
            for component in site.components.values()
            if component.category in STREAMING
        }
        self._restart = restart
        self._pace = Pace(speed) if speed else None
        self._now = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._stopping = True
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        # One step at a time. Always taken before the lock above.
        self._stepping = threading.Lock()
        self.faults = Faults(
            site.scheduled_faults,
            check=lambda fault: check_fault(fault, site.components),
            wake=self._look_again,
        )
        with self._changed:
            self._take_samples(0.0)

    # Its clock

    def start(self) -> None:
        """Let the site live."""
        with self._changed:
            self._stopping = False
            self._ended.clear()
            if self._site.follows_wall_clock:
                self._site.set_time(max(datetime.now(UTC), self._site.time))
            if self._pace is not None:
                self._pace.begin(self._now, time.monotonic())
        if self._pace is not None:
            self._thread = threading.Thread(
                target=self._run, args=(self._pace,), name="simulator-clock", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Let the site stand still, end all streams, and drop what was to be done later."""
        with self._changed:
            self._stopping = True
            self._agenda.clear()
            self._changed.notify_all()
            self._end_streams(End())
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_TIMEOUT)

    def step(self, seconds: float) -> None:
        """Let a standing clock go on, through every sample, as fast as the machine can.

        Clients that fall far behind are waited for, for some seconds.
        """
        with self._stepping:
            with self._changed:
                until = self._now + seconds
            while True:
                with self._changed:
                    due = self._next()
                    if self._stopping or due > until:
                        self._now = max(self._now, until)
                        return
                    actions = self._live_until(due)
                self._do(actions)

    def _run(self, pace: Pace) -> None:
        while True:
            with self._changed:
                while not self._stopping:
                    due = self._next()
                    pause = pace.due(due) - time.monotonic()
                    if pause <= 0:
                        break
                    self._changed.wait(min(pause, threading.TIMEOUT_MAX))
                if self._stopping:
                    return
                actions = self._live_until(due)
                pace.fall_back(due, time.monotonic())
            self._do(actions)

    def _next(self) -> float:
        """Find the next second at which something happens. The lock is held."""
        due = min((outlet.due for outlet in self._outlets.values()), default=self._now + 1.0)
        if self._agenda:
            due = min(due, self._agenda[0][0])
        return max(min(due, self.faults.next_change()), self._now)

    def _live_until(self, now: float) -> list[Callable[[], None]]:
        """Live until the next second at which something happens. The lock is held.

        Returns:
            What is to be done without it.
        """
        self._now = now
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
            return [
                stream
                for outlet in self._outlets.values()
                for stream in outlet.streams
                if stream.is_awaited and stream.waiting > _MOST_BEHIND
            ]

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _clock(self) -> float:
        """Give the second that the clock shows. The lock is held."""
        if self._pace is None or self._stopping:
            return self._now
        return max(self._now, self._pace.site_time(time.monotonic()))

    # What happens at a second of its clock

    def _change_faults(self, now: float) -> list[Callable[[], None]]:
        """Let faults begin and end. The lock is held."""
        actions: list[Callable[[], None]] = []
        begun, ended = self.faults.advance(now)
        for fault in ended:
            if fault.kind is FaultKind.ERROR:
                for component_id in self._concerned(fault):
                    self._site.recover(component_id)
        for fault in begun:
            match fault.kind:
                case FaultKind.ERROR:
                    error = ComponentError(
                        fault.code or "UNSPECIFIED",
                        "a fault was asked for",
                        recoverable=fault.recoverable is not False,
                    )
                    for component_id in self._concerned(fault):
                        self._site.fail(component_id, error)
                case FaultKind.STREAM_END:
                    end = End(fault.status_code, "a fault was asked for")
                    for component_id in self._concerned(fault):
                        self._end_streams(end, component_id)
                case FaultKind.RESTART:
                    actions.append(functools.partial(self._restart, fault.delay))
                case _:
                    pass
        return actions

    def _concerned(self, fault: Fault) -> list[int]:
        return [i for i in self._outlets if fault.concerns(i)]

    def _take_samples(self, now: float) -> None:
        """Live until now, if a sample is due, and send all that are. The lock is held."""
        due = [(i, outlet) for i, outlet in self._outlets.items() if outlet.due <= now]
        if not due:
            return
        if now > self._site.now:
            for component_id, outlet in self._outlets.items():
                if outlet.due > now and outlet.newest is None:
                    # The last chance to say it: soon the site will have lived on.
                    outlet.newest = self._sample(component_id)
            self._site.advance_to(now)
            self._follow_wall_clock()
        for component_id, outlet in due:
            outlet.count += 1
            outlet.newest = None
            if outlet.streams and not self.faults.active(FaultKind.SILENT, component_id):
                disordered = bool(self.faults.active(FaultKind.DISORDERED, component_id))
                outlet.send(self._sample(component_id), disordered=disordered)

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
        for fault in self.faults.concerning(component_id):
            spoil(message, component, fault)
        return message.SerializeToString(deterministic=True)

    def _end_streams(self, end: End, component_id: int | None = None) -> None:
        """End all streams, or those of one component. The lock is held."""
        for outlet_id, outlet in self._outlets.items():
            if component_id in {None, outlet_id}:
                for stream in outlet.streams:
                    stream.end(end)
                outlet.streams = []

    # For calls

    def ask(self, question: Callable[[Site], T]) -> T:
        """Ask or change something of the site, between two moments of its life."""
        with self._changed:
            return question(self._site)

    def at_clock(self, question: Callable[[Site, float], T]) -> T:
        """Likewise, with the second that the clock shows now."""
        with self._changed:
            return question(self._site, self._clock())

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something done in some seconds of the site's clock, unless it stops before."""
        with self._changed:
            heapq.heappush(self._agenda, (self._clock() + seconds, next(self._numbers), action))
            self._changed.notify_all()

    @contextlib.contextmanager
    def stream(self, component_id: int) -> Iterator[SampleStream]:
        """Follow a component: its newest sample at once, then each new one."""
        stream = SampleStream(component_id)
        outlet = self._outlets[component_id]
        with self._changed:
            ending = self.faults.active(FaultKind.STREAM_END, component_id)
            if self._stopping:
                stream.end(End(grpc.StatusCode.UNAVAILABLE, "the simulator has stopped"))
            elif ending:
                stream.end(End(ending[0].status_code, "a fault was asked for"))
            else:
                if not self.faults.active(FaultKind.SILENT, component_id):
                    if outlet.newest is None:
                        outlet.newest = self._sample(component_id)
                    if outlet.held is None:
                        stream.put(outlet.newest)
                outlet.streams.append(stream)
        try:
            yield stream
        finally:
            with self._changed:
                if stream in outlet.streams:
                    outlet.streams.remove(stream)
