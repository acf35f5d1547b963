"""Keeps a site's clock: what second it shows, and what is to be done when."""

import heapq
import itertools
import math
import threading
from collections.abc import Callable

from microgrid_sync.simulator.life.pace import Pace

Action = Callable[[], None]


class Clock:
    """The clock of a site. The machine's time is passed in; one thread at a time uses it."""

    def __init__(self, speed: float, now: float) -> None:
        """Stand at a second.

        Args:
            speed: Seconds of it for each second of the machine's; 0 lets it stand.
            now: The second.
        """
        self.now = now
        """The second of what has happened last."""
        self._pace = Pace(speed) if speed else None
        self._agenda: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()

    @property
    def speed(self) -> float:
        """Seconds of it for each second of the machine's; 0 if it stands."""
        return 0.0 if self._pace is None else self._pace.speed

    def begin(self, now: float, machine: float) -> None:
        """Go on from a second."""
        self.now = now
        if self._pace is not None:
            self._pace.begin(now, machine)

    def shows(self, machine: float, next_event: float) -> float:
        """Give the second that it shows: never beyond what happens next."""
        if self._pace is None:
            return self.now
        return max(self.now, min(self._pace.site_time(machine), next_event))

    def pause(self, due: float, machine: float) -> float:
        """Give the seconds of the machine's until one of its own, at most what can be waited."""
        if self._pace is None:
            return threading.TIMEOUT_MAX
        return min(self._pace.due(due) - machine, threading.TIMEOUT_MAX)

    def fall_back(self, due: float, machine: float) -> None:
        """Take note that it is only now where it should have been; give up a long lag."""
        if self._pace is not None:
            self._pace.fall_back(due, machine)

    def plan(self, due: float, action: Action) -> None:
        """Have something done at a second."""
        heapq.heappush(self._agenda, (due, next(self._numbers), action))

    def next_action(self) -> float:
        """Give the second at which the next of what is planned is to be done."""
        return self._agenda[0][0] if self._agenda else math.inf

    def take_actions(self) -> list[Action]:
        """Take what is to be done by now."""
        actions = []
        while self._agenda and self._agenda[0][0] <= self.now:
            actions.append(heapq.heappop(self._agenda)[2])
        return actions

    def drop_actions(self) -> None:
        """Forget what is planned."""
        self._agenda.clear()
