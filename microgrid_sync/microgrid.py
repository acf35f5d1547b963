"""A microgrid: a client, its topology and its pools, under one ``with``."""

import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Self

from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.ev_charger_pool import EVChargerPool
from microgrid_sync.formulas.sum_loop import SumLoop
from microgrid_sync.model import ComponentCategory
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.control_loop import ControlLoop
from microgrid_sync.receiver import Receiver
from microgrid_sync.topology import Topology

_CHARGING = ChargingConfig()
_PERIOD = timedelta(seconds=1)


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
            self._sum_loop = SumLoop(self._subscribe, resampling_period)
            self._control_loop = ControlLoop(self._client, self._topology, charging)
        except BaseException:
            if self._owns_client:
                self._client.disconnect()
            raise
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
            sum_loop=self._sum_loop,
            control_loop=self._control_loop,
        )

    def close(self) -> None:
        """End both threads and all receivers; a client that was made here, too.

        Chargers whose last proposal has just been withdrawn are released first, if the server
        answers within a second. Any thread, any number of times.
        """
        self._control_loop.close()
        self._sum_loop.close()
        if self._owns_client:
            self._client.disconnect()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _subscribe(self, component_id: int) -> Receiver[Any]:
        """Subscribe to the data of a component, of whichever category."""
        methods = {
            ComponentCategory.METER: self._client.meter_data,
            ComponentCategory.INVERTER: self._client.inverter_data,
            ComponentCategory.EV_CHARGER: self._client.ev_charger_data,
        }
        category = self._topology.component(component_id).category
        if category not in methods:
            raise ValueError(f"component {component_id} of category {category.name} has no data")
        method: Any = methods[category]
        receiver: Receiver[Any] = method(component_id, maxsize=_WINDOW_SIZE)
        return receiver


_WINDOW_SIZE = 1000
"""How many values of a component are averaged in one window at the most."""
