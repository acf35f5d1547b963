"""Puts a client, its topology and its pools under one ``with``."""

import threading
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Self

from microgrid_sync.client import MicrogridApiClient, disconnect, subscribe_in_background
from microgrid_sync.ev_charger_pool import EVChargerPool
from microgrid_sync.formulas.formula import FormulaSource
from microgrid_sync.formulas.sum_loop import SumLoop
from microgrid_sync.model import ComponentCategory
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.control_loop import ControlLoop
from microgrid_sync.program_end import hand_over, interrupts_us, run_or_hand_over
from microgrid_sync.receiver import Receiver
from microgrid_sync.topology import Topology
from microgrid_sync.transport.channel import site_of
from microgrid_sync.worker import SubscribeInBackground

_CHARGING = ChargingConfig()
_PERIOD = timedelta(seconds=1)


_WINDOW_SIZE = 1000
"""How many values of a component are averaged in one window at the most."""

_HAS_DATA = (ComponentCategory.METER, ComponentCategory.INVERTER, ComponentCategory.EV_CHARGER)


class _Threads:
    """What a microgrid runs, as everybody holds it who needs it to run.

    The microgrid, its pools and formulas and their receivers do; the threads themselves do not.
    When the last of them has gone, everything ends.
    """

    def __init__(
        self,
        client: MicrogridApiClient,
        sum_loop: SumLoop,
        control_loop: ControlLoop,
        *,
        owns_client: bool,
    ) -> None:
        self._client = client
        self._sum_loop = sum_loop
        self._control_loop = control_loop
        self._owns_client = owns_client
        self._closed = False

    def close(self, *, wait: bool) -> None:
        """End both threads and all receivers; a client that is owned, too."""
        self._closed = True
        self._control_loop.worker.close(wait=wait)
        self._sum_loop.worker.close(wait=wait)
        if self._owns_client:
            disconnect(self._client, interrupts=not wait)

    def __del__(self) -> None:
        """End what nobody has closed, and nobody has any more."""
        # That a thread has it once more is no harm: it is closed then.
        if not self._closed and hand_over(lambda: self.close(wait=True)) is not None:
            warnings.warn(
                f"a Microgrid of {self._client.server_url} was not closed; use it in a with block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


class Microgrid:
    """A microgrid whose chargers are read and commanded together.

    Two worker threads serve it, however many pools there are. Closing it sends nothing, but for
    releases that have been asked for already: what the chargers do then is up to the server, which
    forgets set-points after a time of its own. `EVChargerPool.stop` is what releases chargers.
    """

    def __init__(
        self,
        server_url_or_client: str | MicrogridApiClient,
        *,
        resampling_period: timedelta = _PERIOD,
        charging: ChargingConfig = _CHARGING,
    ) -> None:
        """Connect to a microgrid, and ask for its components and connections.

        Args:
            server_url_or_client: The server's URL, or a client, which stays open at the end.
            resampling_period: How often totals are computed, aligned to the wall clock.
            charging: How power is distributed to chargers.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If the URL or the period is wrong.
            ApiClientError: If the microgrid cannot be asked.
        """
        self._owns_client = not isinstance(server_url_or_client, MicrogridApiClient)
        # Before the client exists, which would have to be closed again.
        if not isinstance(charging, ChargingConfig):
            raise TypeError(f"charging must be a ChargingConfig, not {charging!r}")
        if isinstance(server_url_or_client, MicrogridApiClient):
            self._client = server_url_or_client
        else:
            self._client = MicrogridApiClient(server_url_or_client)
        try:
            self._topology = Topology(self._client.components(), self._client.connections())
            subscribe = _subscriber(self._client, self._topology)
            sum_loop = SumLoop(subscribe, resampling_period, site_of(self._client.server_url))
            self._control_loop = ControlLoop(self._client, self._topology, charging, subscribe)
        except BaseException:
            if self._owns_client:
                disconnect(self._client, interrupts=False)
            raise
        self._threads = _Threads(
            self._client, sum_loop, self._control_loop, owns_client=self._owns_client
        )
        self._formulas = FormulaSource(sum_loop, self._threads)
        # Protects the number of pools.
        self._lock = threading.Lock()
        self._pools = 0

    @property
    def client(self) -> MicrogridApiClient:
        """The client."""
        return self._client

    @property
    def topology(self) -> Topology:
        """Which components there are, and who feeds whom; as it was when this was made."""
        return self._topology

    def new_ev_charger_pool(
        self, *, priority: int, component_ids: Iterable[int] | None = None, name: str | None = None
    ) -> EVChargerPool:
        """Make a pool of EV chargers.

        Args:
            priority: How important its proposals are; a higher number is more important.
            component_ids: The IDs of the chargers; all of the microgrid unless given.
            name: What receivers and log lines call it.

        Returns:
            The pool.

        Raises:
            TypeError: If the priority is not an integer.
            ValueError: If an ID is not that of a charger, or there are none.
        """
        if not isinstance(priority, int) or isinstance(priority, bool):
            raise TypeError(f"priority must be an integer, not {priority!r}")
        known = {c.component_id for c in self._topology.components(ComponentCategory.EV_CHARGER)}
        chargers = frozenset(known if component_ids is None else component_ids)
        if not chargers:
            raise ValueError("a pool needs at least one EV charger; there is none")
        if chargers - known:
            raise ValueError(
                f"no EV chargers: {', '.join(str(i) for i in sorted(chargers - known))}; "
                f"those of the microgrid: {', '.join(str(i) for i in sorted(known))}"
            )
        with self._lock:
            self._pools += 1
            number = self._pools
        return EVChargerPool(
            chargers,
            priority=priority,
            name=name or f"EV charger pool {number}",
            topology=self._topology,
            formulas=self._formulas,
            control_loop=self._control_loop,
        )

    def close(self) -> None:
        """End both threads and all receivers; a client that was made here, too.

        Chargers whose last proposal has just been withdrawn are released first, if the server
        answers within a second. Any thread, any number of times.
        """
        interrupts = interrupts_us()
        run_or_hand_over(lambda: self._threads.close(wait=not interrupts), interrupts=interrupts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._threads.close(wait=True)


def _subscriber(client: MicrogridApiClient, topology: Topology) -> SubscribeInBackground:
    """Give a function that subscribes to the data of any component that has some."""

    def subscribe(component_id: int, deliver: Callable[[Receiver[Any] | Exception], None]) -> None:
        category = topology.component(component_id).category
        if category in _HAS_DATA:
            subscribe_in_background(client, component_id, category, _WINDOW_SIZE, deliver)
        else:
            deliver(ValueError(f"component {component_id}, a {category.name}, has no data"))

    return subscribe
