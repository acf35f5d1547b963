"""Adds and ends the faults of a running simulator."""

from collections.abc import Callable
from datetime import datetime

from microgrid_sync.simulator.life.running_site import Event, RunningSite
from microgrid_sync.simulator.trouble.fault import Fault


class Faults:
    """What goes wrong at a site, now and later. For any thread.

    A fault is known by the number that it was given when it was added.
    """

    def __init__(self, running_site: RunningSite, do: Callable[[list[Event]], None]) -> None:
        """Look after the faults of a site.

        Args:
            running_site: The site.
            do: What its server does with what comes of a change.
        """
        self._running_site = running_site
        self._do = do

    def add(self, fault: Fault) -> int:
        """Plan a fault; it begins its ``at`` seconds of the site's clock from now.

        Returns:
            Its number.

        Raises:
            ValueError: If the site cannot have it: it names an unknown component, for instance.
        """
        number, events = self._running_site.add_fault(fault)
        self._do(events)
        return number

    def end(self, number: int) -> None:
        """End a fault, or drop one that has not begun.

        Raises:
            KeyError: If there is none of that number, or no longer.
        """
        self._do(self._running_site.end_fault(number))

    def clear(self) -> None:
        """End all faults and drop those that have not begun."""
        self._do(self._running_site.clear_faults())

    def planned(self) -> dict[int, Fault]:
        """Give all faults that have not ended, by number."""
        return self._running_site.planned_faults()

    def times(self) -> dict[int, tuple[datetime, datetime | None]]:
        """Give since when and until when each of them goes on, by number, on the site's clock.

        One that somebody must end has no end.
        """
        return self._running_site.fault_times()

    def active(self, kind: str, component_id: int | None = None) -> dict[int, Fault]:
        """Give the faults of a kind that go on now, by number.

        Args:
            kind: The kind, such as ``late``.
            component_id: Only those about this component, if it is given.
        """
        active = self._running_site.active_faults(component_id)
        return {number: fault for number, fault in active.items() if fault.kind == kind}
