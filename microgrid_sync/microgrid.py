"""Puts a client, its topology and its pools under one ``with``."""

import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from frequenz.quantities import Current, Power

from microgrid_sync.arguments import check_timeout
from microgrid_sync.client import (
    MicrogridApiClient,
    disconnect,
    subscribe_in_background,
    timezone_of,
)
from microgrid_sync.ev_charger_pool import EVChargerPool
from microgrid_sync.formulas.formula import Formula, FormulaSource, FoundExpressions
from microgrid_sync.formulas.members import Batteries, Grid, SitePower
from microgrid_sync.formulas.metrics import TELEMETRY_METRICS, metrics_of, unit_of
from microgrid_sync.formulas.site import (
    chp_formula,
    consumer_formula,
    producer_formula,
    pv_formula,
)
from microgrid_sync.formulas.sum_loop import SumLoop
from microgrid_sync.formulas.text import mistake, parse
from microgrid_sync.formulas.window import Resampling
from microgrid_sync.limit import Limit, check_limits, limit_name
from microgrid_sync.model import ComponentMetricId
from microgrid_sync.model.data import HAS_DATA
from microgrid_sync.power.circuits import CircuitLimit, Where, wiring_of
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.control_loop import ControlLoop, LimitKey
from microgrid_sync.power.fuse_curve import FuseCurve
from microgrid_sync.program_end import hand_over, interrupts_us, run_or_hand_over
from microgrid_sync.receiver import (
    RECEIVER_MAX_SIZE,
    Receiver,
    ReceiverFetcher,
    ReceiverStoppedError,
    check_maxsize,
)
from microgrid_sync.site_watch import SiteWatch, fetch_topology
from microgrid_sync.snapshot import has_data, in_words, snapshot
from microgrid_sync.topology import Topology, describe
from microgrid_sync.transport.channel import site_of
from microgrid_sync.worker import SubscribeInBackground

if TYPE_CHECKING:
    from microgrid_sync.notebook.drawing import Drawing

_CHARGING = ChargingConfig()
_RESAMPLING = Resampling()
_PERIOD = timedelta(seconds=1)


_DRAWING_TIMEOUT = 5.0

_WINDOW_SIZE = 1000
"""How many values of a component are averaged in one window at the most."""

_MOST_LISTED = 20
"""So many components are named in an error."""


class _Threads:
    """What a microgrid runs, as everybody holds it who needs it to run.

    The microgrid, its pools and formulas and their receivers do; the threads themselves do not.
    When the last of them has gone, everything ends.
    """

    def __init__(
        self,
        client: MicrogridApiClient,
        watch: SiteWatch,
        sum_loop: SumLoop,
        control_loop: ControlLoop,
        *,
        owns_client: bool,
    ) -> None:
        self._client = client
        self._watch = watch
        self._sum_loop = sum_loop
        self._control_loop = control_loop
        self._owns_client = owns_client
        self._closed = False

    def close(self, *, wait: bool) -> None:
        """End all threads and all receivers; a client that is owned, too."""
        self._closed = True
        self._control_loop.worker.close(wait=wait)
        self._sum_loop.worker.close(wait=wait)
        # Its thread may be in a call, which ends with the client at the latest.
        self._watch.close(wait=wait and not self._owns_client)
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
    """A microgrid: its numbers as a whole, and its chargers read and commanded together.

    Two worker threads serve it, however many formulas and pools there are. What is wrong with the
    site is told in the log, once at the start. Closing it sends nothing, but for
    releases that have been asked for already: what the chargers do then is up to the server, which
    forgets set-points after a time of its own. `EVChargerPool.stop` is what releases chargers.
    """

    def __init__(
        self,
        server_url_or_client: str | MicrogridApiClient,
        *,
        resampling_period: timedelta = _PERIOD,
        charging: ChargingConfig = _CHARGING,
        resampling: Resampling = _RESAMPLING,
    ) -> None:
        """Connect to a microgrid, and ask for its components and connections.

        Args:
            server_url_or_client: The server's URL, or a client, which stays open at the end.
            resampling_period: How often totals are computed, aligned to the wall clock.
            charging: How power is distributed to chargers.
            resampling: How the values of a period become one, and how old they may be.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If the URL or the period is wrong.
            ApiClientError: If the microgrid cannot be asked.
        """
        self._owns_client = not isinstance(server_url_or_client, MicrogridApiClient)
        # Before the client exists, which would have to be closed again.
        if not isinstance(charging, ChargingConfig):
            raise TypeError(f"charging must be a ChargingConfig, not {charging!r}")
        if not isinstance(resampling, Resampling):
            raise TypeError(f"resampling must be a Resampling, not {resampling!r}")
        if isinstance(server_url_or_client, MicrogridApiClient):
            self._client = server_url_or_client
        else:
            self._client = MicrogridApiClient(server_url_or_client)
        try:
            topology = fetch_topology(self._client)
            watch = SiteWatch(self._client, topology)
            subscribe = _subscriber(self._client, watch)
            sum_loop = SumLoop(
                subscribe,
                resampling_period,
                site_of(self._client.server_url),
                resampling,
                look=watch.look,
            )
            control_loop = ControlLoop(self._client, topology, charging, subscribe, look=watch.look)
        except BaseException:
            if self._owns_client:
                disconnect(self._client, interrupts=False)
            raise
        found = FoundExpressions(sum_loop, topology)

        def take(topology: Topology, changed: frozenset[int]) -> None:
            found.change_topology(topology, changed)
            control_loop.change_topology(topology, changed)

        watch.begin(take)
        self._threads = _Threads(
            self._client, watch, sum_loop, control_loop, owns_client=self._owns_client
        )
        self._watch, self._sum_loop, self._control_loop = watch, sum_loop, control_loop
        self._find_timezone = functools.partial(timezone_of, self._client)
        self._formulas = FormulaSource(sum_loop, found, self._threads, self._find_timezone)
        self._grid = Grid(self._formulas)
        self._battery = Batteries(self._formulas)
        self._consumer = SitePower(self._formulas, "the consumers", consumer_formula)
        self._producer = SitePower(self._formulas, "the producers", producer_formula)
        self._pv = SitePower(self._formulas, "the PV inverters", pv_formula)
        self._chp = SitePower(self._formulas, "the CHPs", chp_formula)
        # Protects the number of pools.
        self._lock = threading.Lock()
        self._pools = 0

    def __repr__(self) -> str:
        """Name the server, and count what there is."""
        return f"<Microgrid at {self._client.server_url}: {self.topology.summary()}>"

    def _repr_html_(self) -> str:
        from microgrid_sync.notebook.html import html_of  # noqa: PLC0415 - only notebooks need it

        return html_of(self)

    def draw(self, *, live: bool = False, timeout: float = _DRAWING_TIMEOUT) -> "Drawing":
        """Draw the site from the grid down.

        Args:
            live: Whether to write into each component what it measures now.
            timeout: Seconds to wait for that; who has sent nothing by then is "not heard".

        Returns:
            The picture, which Jupyter shows; ``save("site.svg")`` of it writes a file.

        Raises:
            TypeError: If the timeout is no number.
            ValueError: If it is not positive.
            ApiClientError: If the microgrid cannot be asked.
        """
        from microgrid_sync.notebook.drawing import draw  # noqa: PLC0415 - only notebooks need it

        check_timeout(timeout)
        topology = self.topology
        if not live:
            return draw(topology)
        asked = [c for c in topology.components() if has_data(c, self._client.api)]
        found = snapshot(self._client, asked, timeout)
        texts = {c.component_id: "not heard" for c in asked}
        texts |= {number: in_words(value) for number, value in found.items()}
        return draw(topology, texts)

    @property
    def client(self) -> MicrogridApiClient:
        """The client."""
        return self._client

    @property
    def topology(self) -> Topology:
        """Which components there are, and who feeds whom, as the server has said it last.

        It is asked again every ten minutes, and after each reconnect.
        """
        return self._watch.topology

    @property
    def topology_changes(self) -> ReceiverFetcher[str]:
        """What has changed at the site, in words, whenever it does."""
        return _Changes(self._watch, self._sum_loop, self._threads)

    def refresh(self) -> None:
        """Ask for the site's components and connections now, instead of within ten minutes.

        When it returns, `topology`, formulas and pools of every charger are up to date.

        Raises:
            ApiClientError: If the microgrid cannot be asked; everything stays as it was.
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off after the client had connected.
        """
        self._watch.refresh()
        for loop in (self._sum_loop, self._control_loop):
            loop.worker.wait_for_messages()

    @property
    def grid(self) -> Grid:
        """What is drawn from the public grid, its voltage and frequency, and the fuse."""
        return self._grid

    @property
    def consumer(self) -> SitePower:
        """What is taken at the site by all that is neither producer, battery nor EV charger."""
        return self._consumer

    @property
    def producer(self) -> SitePower:
        """What solar inverters and combined heat and power plants give; negative."""
        return self._producer

    @property
    def pv(self) -> SitePower:
        """What solar inverters give; negative."""
        return self._pv

    @property
    def battery(self) -> Batteries:
        """What batteries take at their inverters, and how full they are."""
        return self._battery

    @property
    def chp(self) -> SitePower:
        """What combined heat and power plants give; negative."""
        return self._chp

    def formula(
        self,
        text: str,
        metric: ComponentMetricId = ComponentMetricId.ACTIVE_POWER,
        *,
        name: str | None = None,
    ) -> Formula[Any]:
        """Make a formula of what somebody has written.

        Args:
            text: ``#`` and a component's ID, numbers, ``+ - * /``, parentheses, and ``COALESCE``,
                ``MIN`` and ``MAX``, such as ``#2 - COALESCE(#7, 0.0)``.
            metric: What of the components is meant; the values have its unit, and numbers are in
                the base unit: W, VAr, A, V, Hz, %, Wh or degrees Celsius.
            name: What receivers and log lines call it; the text unless given.

        Returns:
            The formula. It stays as it is written when the site changes.

        Raises:
            TypeError: If the text is no string, or the metric no `ComponentMetricId`.
            ValueError: If it cannot be read, or names a component that is not there or does not
                measure that; the message shows the place.
        """
        if not isinstance(text, str):
            raise TypeError(f"the formula must be a string, not {text!r}")
        if not isinstance(metric, ComponentMetricId):
            raise TypeError(f"metric must be a ComponentMetricId, not {metric!r}")
        expression, places = parse(text, metric)
        for component_id, place in places.items():
            self._check_measures(component_id, metric, text, place)
        return Formula([expression], unit_of(metric), self._formulas, name or text)

    def _check_measures(
        self, component_id: int, metric: ComponentMetricId, text: str, place: int
    ) -> None:
        if component_id not in self.topology:
            ids = [str(c.component_id) for c in self.topology.components()]
            known = ", ".join(ids[:_MOST_LISTED]) + (", ..." if len(ids) > _MOST_LISTED else "")
            raise mistake(text, place, f"there is no component {component_id}; there are {known}")
        component = self.topology.component(component_id)
        name = describe(component)
        if component.category not in HAS_DATA and self._client.api == "v0.15":
            raise mistake(text, place, f"there is no data of {name}")
        metrics = metrics_of(component.category)
        if metric not in metrics:
            raise mistake(text, place, f"{name} has no {metric}; it has {', '.join(metrics)}")

    def new_ev_charger_pool(
        self, *, priority: int, component_ids: Iterable[int] | None = None, name: str | None = None
    ) -> EVChargerPool:
        """Make a pool of EV chargers.

        Args:
            priority: How important its proposals are; a higher number is more important.
            component_ids: The IDs of the chargers. Unless given, every charger of the microgrid,
                also those that come later.
            name: What receivers and log lines call it.

        Returns:
            The pool.

        Raises:
            TypeError: If the priority is not an integer.
            ValueError: If an ID is not that of a charger, or there are none.
        """
        if not isinstance(priority, int) or isinstance(priority, bool):
            raise TypeError(f"priority must be an integer, not {priority!r}")
        known = self._control_loop.every
        chargers = None if component_ids is None else frozenset(component_ids)
        if not (known if chargers is None else chargers):
            raise ValueError("a pool needs at least one EV charger; there is none")
        if chargers is not None and chargers - known:
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
            formulas=self._formulas,
            control_loop=self._control_loop,
        )

    def limit(
        self,
        where: Where,
        *,
        max_current: Current | FuseCurve | None = None,
        max_power: Power | None = None,
    ) -> Limit:
        """Limit what flows in a circuit, by commanding the EV chargers in it.

        From this call on every charger behind the meter is commanded, whether a pool proposes
        something for it or not; those that none does get what the limits leave. Several limits may
        be nested as circuits are; of those that a charger is behind the tightest binds, and no
        proposal, whatever its priority, loosens any. docs/fuses.rst has the rules. At the end of a
        limit nothing is sent: the set-points stay as long as the server keeps them.

        Args:
            where: The ID of a meter, or ``"grid"`` for the grid connection.
            max_current: What may flow on each phase; with a `FuseCurve`, as long as the fuse bears
                it. For ``"grid"`` the fuse of its metadata unless given.
            max_power: What all phases together may carry. It never takes the place of a limit of
                the current: a fuse is on each phase.

        Returns:
            The limit; it holds whether somebody keeps it or not.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If there is no such meter, no charger is behind it, there is nothing to be
                limited to or that is not finite and positive, or the current of the grid cannot be
                known for each phase.
            ReceiverStoppedError: If the microgrid has been closed.
            RuntimeError: In a child that was forked off after the client had connected.
        """
        if where != "grid" and (isinstance(where, bool) or not isinstance(where, int)):
            raise TypeError(f"a limit is for the ID of a meter or 'grid', not {where!r}")
        check_limits(max_current, max_power)
        wiring = wiring_of(self.topology, where)
        fuse = self.topology.fuse() if where == "grid" else None
        if max_current is None and fuse is not None and 0 < fuse.max_current < math.inf:
            max_current = Current.from_amperes(fuse.max_current)
        if max_current is None and max_power is None:
            missing = "; the grid's fuse is not known" if where == "grid" else ""
            raise ValueError(f"a limit needs max_current, max_power or both{missing}")
        limit = CircuitLimit(max_current, max_power)
        key = LimitKey(limit_name(where, limit))
        self._control_loop.open_limit(key, where, limit)
        return Limit(
            where,
            limit,
            wiring.chargers,
            key=key,
            control_loop=self._control_loop,
            keeps=self._threads,
            find_timezone=self._find_timezone,
        )

    def close(self) -> None:
        """End all threads and all receivers; a client that was made here, too.

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


class _Changes:
    """A `ReceiverFetcher` of what has changed at a site."""

    def __init__(self, watch: SiteWatch, loop: SumLoop, keeps: object) -> None:
        self._watch = watch
        self._loop = loop
        self._keeps = keeps

    def __repr__(self) -> str:
        """Say what to do with it."""
        return "<changes of the site; new_receiver() receives them>"

    def new_receiver(self, *, maxsize: int = RECEIVER_MAX_SIZE) -> Receiver[str]:
        """See `ReceiverFetcher.new_receiver`."""
        check_maxsize(maxsize)
        receiver = self._watch.changes.subscribe(maxsize, keeps=self._keeps)
        if receiver is None:
            raise ReceiverStoppedError("the microgrid has been closed")
        # It looks every ten minutes, formulas or not.
        self._loop.run()
        return receiver


def subscriber(microgrid: Microgrid) -> SubscribeInBackground:
    """Give a function that subscribes to the data of any component, for the rooms above."""
    return _subscriber(microgrid.client, microgrid._watch)


def _subscriber(client: MicrogridApiClient, watch: SiteWatch) -> SubscribeInBackground:
    """Give a function that subscribes to the data of any component that has some."""

    def subscribe(component_id: int, deliver: Callable[[Receiver[Any] | Exception], None]) -> None:
        topology = watch.topology
        if component_id not in topology:
            deliver(ValueError(f"there is no component {component_id} any more"))
            return
        component = topology.component(component_id)
        if component.category in HAS_DATA:
            metrics = None
        elif component.provides_telemetry is False:
            deliver(ValueError(f"component {component_id} sends no data, the server says"))
            return
        else:
            metrics = TELEMETRY_METRICS
        subscribe_in_background(
            client, component_id, component.category, _WINDOW_SIZE, deliver, metrics=metrics
        )

    return subscribe
