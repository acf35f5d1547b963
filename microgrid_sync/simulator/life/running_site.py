"""Runs a site: its samples, its faults, and all that waits for it."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from microgrid_sync.simulator.life.clock import Action, Clock
from microgrid_sync.simulator.life.streams import (
    ComponentStreams,
    Encode,
    End,
    Sample,
    SampleStream,
)
from microgrid_sync.simulator.physics.components import STREAMING, ComponentError
from microgrid_sync.simulator.physics.readings import read
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.simulator.trouble.fault import ASKED_FOR, Fault
from microgrid_sync.simulator.trouble.plan import Plan

T = TypeVar("T")

_MOST_BEHIND = 100
"""Samples that a client may be behind before a clock that races waits for it."""

_PATIENCE = 5.0
"""Seconds for which it waits; a client that is stuck is not waited for again."""

_SLICE = 0.1
"""Seconds of one wait for a client: a site that is stopped meanwhile waits no longer."""

_WALL_DRIFT = timedelta(seconds=1)
"""What timestamps may lie behind the wall clock, if they follow it."""


class Restart(NamedTuple):
    """The server is to be gone for some seconds of the site's clock."""

    seconds: float


Event = Restart | Action
"""What whoever moves the clock has to do, without a lock: a restart, or what was planned."""


class RunningSite:
    """A site, its clock, the faults that it has, and the streams that follow it.

    Any thread may ask, command and subscribe. It has no thread of its own: its owner moves the
    clock, and does what comes of that.
    """

    def __init__(self, site: Site, *, speed: float, scheduled_faults: Iterable[Fault]) -> None:
        """Make a site whose clock does not run yet.

        Args:
            site: The site.
            speed: Seconds of its clock for each second of the machine's; 0 lets it stand.
            scheduled_faults: The faults that are planned from second 0 on.
        """
        # Protects the site and all below; notified when the clock must look again. While it is
        # held, streams are put into, which never waits.
        self._changed = threading.Condition()
        self._site = site
        self._clock = Clock(speed, site.now)
        self._faults = Plan(site.components, scheduled_faults)
        self._streams_of = {
            component.component_id: ComponentStreams(
                component.sample_interval, count=1, begins=site.now
            )
            for component in site.components.values()
            if component.category in STREAMING
        }
        # All that are not over, also those that are to end once all has been sent.
        self._streams: set[SampleStream] = set()
        self._acknowledged: set[tuple[int, int]] = set()
        self._asking: int | None = None
        self._stopping = True
        # One step at a time. Always taken before the lock above.
        self._stepping = threading.Lock()

    # Its clock, for its owner

    def start(self) -> list[Event]:
        """Let the clock be moved; give what is to be done."""
        with self._changed:
            self._stopping = False
            if self._site.follows_wall_clock:
                self._site.set_time(max(datetime.now(UTC), self._site.time))
            self._clock.begin(self._clock.now, time.monotonic())
            return self._change_faults(self._clock.now)

    def stop(self, end: End | None = None) -> None:
        """Let the site stand still, end all streams, and drop what was to be done later."""
        with self._changed:
            self._stopping = True
            self._clock.drop_actions()
            self._changed.notify_all()
            for component_id in self._streams_of:
                self._end_streams(end or End(), component_id)

    def wait_and_advance(self) -> list[Event] | None:
        """Wait for the next second at which something happens, and let it.

        Returns:
            What is to be done; ``None`` if the site has been stopped.
        """
        with self._changed:
            while not self._stopping:
                due = self._next()
                pause = self._clock.pause(due, time.monotonic())
                if pause <= 0:
                    events = self._advance_to(due)
                    self._clock.fall_back(due, time.monotonic())
                    return events
                self._changed.wait(pause)
        return None

    def steps(self, seconds: float) -> Iterator[list[Event]]:
        """Let a standing clock go on, through every sample, as fast as the machine can.

        Yields:
            What is to be done at each second at which something happens.

        Raises:
            RuntimeError: If the site is stopped meanwhile.
        """
        with self._stepping:
            with self._changed:
                until = round(self._clock.now + seconds, 6)
            while True:
                with self._changed:
                    if self._stopping:
                        raise RuntimeError("the simulator has been stopped during a step")
                    due = self._next()
                    if due > until:
                        self._clock.now = max(self._clock.now, until)
                        return
                    events = self._advance_to(due)
                yield events

    def _next(self) -> float:
        """Find the next second at which something happens. The lock is held."""
        now = self._clock.now
        due = min((streams.due for streams in self._streams_of.values()), default=now + 1.0)
        return max(min(due, self._clock.next_action(), self._faults.next_change()), now)

    def _advance_to(self, now: float) -> list[Event]:
        """Live until the next second at which something happens. The lock is held."""
        self._clock.now = now
        events: list[Event] = []
        if self._faults.next_change() <= now:
            self._say_newest()
            events += self._change_faults(now)
        events += self._clock.take_actions()
        self._take_samples(now)
        return events

    def let_clients_keep_up(self) -> None:
        """Wait for clients that are too far behind a clock that races."""
        if 0 < self._clock.speed <= 1:
            return
        deadline = time.monotonic() + _PATIENCE
        for stream in self._open_streams():
            if stream.wait_until_at_most(_MOST_BEHIND // 2, 0.0):
                stream.is_awaited = True
            elif stream.is_awaited:
                stream.is_awaited = self._wait_for(stream, _MOST_BEHIND, deadline)

    def wait_until_sent(self, timeout: float) -> bool:
        """Wait until all samples have been sent to all clients; tell if that came in time."""
        deadline = time.monotonic() + timeout
        return all(self._wait_for(stream, 0, deadline) for stream in self._open_streams())

    def _open_streams(self) -> list[SampleStream]:
        with self._changed:
            return [*self._streams]

    def _wait_for(self, stream: SampleStream, count: int, deadline: float) -> bool:
        while not stream.wait_until_at_most(count, min(_SLICE, deadline - time.monotonic())):
            if self._stopping or time.monotonic() >= deadline:
                return False
        return True

    def clock(self) -> float:
        """Give the second that the clock shows: never beyond what happens next."""
        with self._changed:
            if self._stopping:
                return self._clock.now
            return self._clock.shows(time.monotonic(), self._next())

    # Its faults

    def add_fault(self, fault: Fault) -> tuple[int, list[Event]]:
        """Plan a fault from now on.

        Returns:
            Its number, and what is to be done.

        Raises:
            ValueError: If the site cannot have it.
        """
        with self._changed:
            number = self._faults.add(fault, self.clock())
            return number, self._look_at_faults()

    def end_fault(self, number: int) -> list[Event]:
        """End a fault; `KeyError` if there is none of that number. Gives what is to be done."""
        with self._changed:
            self._faults.end(number)
            return self._look_at_faults()

    def clear_faults(self) -> list[Event]:
        """End all faults. Gives what is to be done."""
        with self._changed:
            self._faults.clear()
            return self._look_at_faults()

    def planned_faults(self) -> dict[int, Fault]:
        """Give all faults that have not ended, by number."""
        with self._changed:
            return self._faults.planned()

    def fault_times(self) -> dict[int, tuple[datetime, datetime | None]]:
        """Give since when and until when, on the site's clock, each of them goes on, by number.

        One that somebody must end has no end.
        """
        with self._changed:
            zero = self._site.time - timedelta(seconds=self._site.now)
            return {
                number: (
                    zero + timedelta(seconds=begins),
                    None if ends == math.inf else zero + timedelta(seconds=ends),
                )
                for number, (begins, ends) in self._faults.times().items()
            }

    def active_faults(self, component_id: int | None = None) -> dict[int, Fault]:
        """Give the faults that go on now, by number; only those about a component, if given."""
        return self._faults.active(component_id)

    def _look_at_faults(self) -> list[Event]:
        """Let what has been added or ended take effect now, if the clock runs.

        The lock is held.
        """
        if self._stopping:
            return []
        self._say_newest()
        events = self._change_faults(self.clock())
        self._changed.notify_all()
        return events

    def _change_faults(self, now: float) -> list[Event]:
        """Let faults begin and end. The lock is held."""
        events: list[Event] = []
        for fault in self._faults.advance(now):
            status, gap = fault.end_of_streams(), fault.gap()
            if status is not None:
                for component_id in self._streams_of:
                    if fault.concerns(component_id):
                        self._end_streams(End(status, ASKED_FOR), component_id)
            if gap is not None:
                events.append(Restart(gap))
        self._apply_errors()
        return events

    def _apply_errors(self) -> None:
        """Let components have the errors that faults say, and no others. The lock is held.

        Of several, one that cannot be recovered from wins; the newest among equals.
        """
        wanted: dict[int, ComponentError] = {}
        active = self._faults.active()
        self._acknowledged = {pair for pair in self._acknowledged if pair[0] in active}
        for number, fault in active.items():
            error = fault.error()
            if error is None:
                continue
            for component_id in self._streams_of:
                before = wanted.get(component_id, error)
                if (
                    fault.concerns(component_id)
                    and (number, component_id) not in self._acknowledged
                    and (before.recoverable or not error.recoverable)
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
            errors = [n for n, f in self._faults.active(component_id).items() if f.error()]
            self._acknowledged |= {(number, component_id) for number in errors}

    # Its samples

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
            if not streams.open:
                continue
            faults = self._faults.active(component_id).values()
            if faults and any(fault.is_silent() for fault in faults):
                continue
            disordered = bool(faults) and any(fault.is_disordered() for fault in faults)
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
            if streams.newest is None and streams.due > min(but_not_due_at, self._clock.now):
                streams.newest = self._sample(component_id)

    def _follow_wall_clock(self) -> None:
        """Keep up timestamps that are the time of day, after the machine was asleep or busy."""
        if self._clock.speed == 1 and self._site.follows_wall_clock:
            wall = datetime.now(UTC)
            if wall - self._site.time > _WALL_DRIFT:
                self._site.set_time(wall)

    def _sample(self, component_id: int) -> Sample:
        """Say what a component measures, as faults let it. The lock is held."""
        reading = read(self._site, self._site.components[component_id])
        faults = self._faults.active(component_id).values()
        if faults:
            for fault in sorted(faults, key=lambda fault: fault.comes_last):
                fault.change(reading)
        return Sample(reading)

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
                if self._site.now > self._clock.now:
                    self._catch_up()

    def _catch_up(self) -> None:
        """Go on from where the site is, which somebody has moved. The lock is held."""
        self._clock.begin(self._site.now, time.monotonic())
        for streams in self._streams_of.values():
            streams.skip_to(self._site.now)
            streams.newest = None

    def is_asking(self) -> bool:
        """Tell whether this thread is asking the site something just now."""
        return self._asking == threading.get_ident()

    def at_clock(self, question: Callable[[Site, float], T]) -> T:
        """Ask or change something, with the second that the clock shows now."""
        with self._changed:
            return question(self._site, self.clock())

    def later(self, seconds: float, action: Action) -> None:
        """Have something done in some seconds of the site's clock, unless it stops before."""
        with self._changed:
            self._clock.plan(round(self.clock() + seconds, 6), action)
            self._changed.notify_all()

    @contextlib.contextmanager
    def stream(self, component_id: int, encode: Encode) -> Iterator[SampleStream]:
        """Follow a component: its newest sample at once, then each new one."""
        stream = SampleStream(encode)
        streams = self._streams_of[component_id]
        with self._changed:
            self._streams.add(stream)
            faults = self._faults.active(component_id).values()
            endings = [status for fault in faults if (status := fault.end_of_streams())]
            if self._stopping:
                stream.end(End("UNAVAILABLE", "the simulator has stopped"))
            elif endings:
                stream.end(End(endings[0], ASKED_FOR))
            else:
                if not any(fault.is_silent() for fault in faults):
                    if streams.newest is None:
                        streams.newest = self._sample(component_id)
                    stream.put(streams.newest)
                streams.open.append(stream)
        try:
            yield stream
        finally:
            stream.leave()
            with self._changed:
                self._streams.discard(stream)
                if stream in streams.open:
                    streams.open.remove(stream)
