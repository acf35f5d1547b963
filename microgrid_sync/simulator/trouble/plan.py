"""Keeps which faults a site has, now and later."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from microgrid_sync.simulator.physics.components import SiteComponent
from microgrid_sync.simulator.trouble.fault import Fault
from microgrid_sync.tables import SiteError


class _Entry(NamedTuple):
    fault: Fault
    begins: float
    ends: float


class Plan:
    """The faults of a site, by the number that each was given when it was added.

    Its owner sees to it that one thread at a time changes it; `active` may be called by any.
    """

    def __init__(
        self, components: Mapping[int, SiteComponent], scheduled: Iterable[Fault] = ()
    ) -> None:
        """Begin at second 0 of the site's clock.

        Args:
            components: The site's components, by ID.
            scheduled: The faults that are planned.
        """
        self._components = components
        self._numbers = itertools.count(1)
        self._entries: dict[int, _Entry] = {}
        # Replaced, never changed.
        self._active: dict[int, Fault] = {}
        for fault in scheduled:
            self.add(fault, 0.0)

    def add(self, fault: Fault, now: float) -> int:
        """Plan a fault; it begins its ``at`` seconds after a second of the site's clock.

        Returns:
            Its number.

        Raises:
            SiteError: If the site cannot have it: it names an unknown component, for instance.
        """
        problems = [*fault.problems_at(self._components)]
        if problems:
            raise SiteError("\n".join(problems))
        number = next(self._numbers)
        begins = now + fault.at
        self._entries[number] = _Entry(fault, begins, begins + fault.ends_after)
        return number

    def end(self, number: int) -> None:
        """End a fault, or drop one that has not begun; `KeyError` if there is none."""
        del self._entries[number]

    def clear(self) -> None:
        """End all faults and drop those that have not begun."""
        self._entries.clear()

    def planned(self) -> dict[int, Fault]:
        """Give all faults that have not ended, by number."""
        return {number: entry.fault for number, entry in self._entries.items()}

    def times(self) -> dict[int, tuple[float, float]]:
        """Give the seconds of the site's clock between which each of them goes on, by number."""
        return {number: (entry.begins, entry.ends) for number, entry in self._entries.items()}

    def active(self, component_id: int | None = None) -> dict[int, Fault]:
        """Give the faults that go on now, by number.

        Args:
            component_id: Only those about this component, if it is given.
        """
        if not self._active:
            return {}
        return {
            number: fault
            for number, fault in self._active.items()
            if component_id is None or fault.concerns(component_id)
        }

    def next_change(self) -> float:
        """Give the second of the site's clock at which the next fault begins or ends."""
        return min(
            (
                entry.ends if number in self._active else entry.begins
                for number, entry in self._entries.items()
            ),
            default=math.inf,
        )

    def advance(self, now: float) -> list[Fault]:
        """Go on to a second of the site's clock.

        Returns:
            What has begun since the last time, even if it was over at once.
        """
        begun = [
            entry.fault
            for number, entry in self._entries.items()
            if number not in self._active and entry.begins <= now
        ]
        for number in [n for n, entry in self._entries.items() if entry.ends <= now]:
            del self._entries[number]
        self._active = {
            number: entry.fault for number, entry in self._entries.items() if entry.begins <= now
        }
        return begun
