"""Follows a site for as long as it is asked to, and holds the newest of all that it says."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from microgrid_sync.arguments import check_timeout
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.ev_charger_pool import EVChargerPool, EVChargerPoolReport
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.limit import Limit
from microgrid_sync.listeners import Listeners
from microgrid_sync.microgrid import Microgrid, subscriber
from microgrid_sync.model import Component, ComponentCategory, Metadata
from microgrid_sync.notebook.columns import Row
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.power.fuse_curve import FuseCurve
from microgrid_sync.power.limit_report import LimitReport
from microgrid_sync.receiver import (
    Receiver,
    ReceiverFetcher,
    ReceiverStoppedError,
    close_receiver,
    waking,
)
from microgrid_sync.snapshot import has_data
from microgrid_sync.tables import shown
from microgrid_sync.timeseries import Sample, Sample3Phase
from microgrid_sync.topology import Topology
from microgrid_sync.transport.channel import site_of
from microgrid_sync.worker import SAMPLED, ComponentReceivers, Subscribed, Worker

MAX_AGE = 10.0
"""Seconds: what came longer ago is not what is measured now."""

_TAKE_INTERVAL = 0.2
"""Seconds between two looks at all components: what comes meanwhile is taken together."""

_LOOK_INTERVAL = 1.0
"""Seconds between two looks at what tells nobody when it changes."""

_RETRY_INTERVAL = 5.0
"""Seconds between two attempts to learn what the site is made of."""

_LOG_INTERVAL = 60.0
"""Seconds between two lines that say the same of a site that cannot be reached."""

_WHAT_ROWS_HAVE_BESIDES = ("component_id", "timestamp")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heard:
    """The newest of one source of a site, such as ``grid:power`` or ``component:7``."""

    subject: str
    """What it is about, such as ``grid``, ``component/7``, ``charger/7`` or ``limit/grid``."""

    timestamp: datetime | None
    """When the site says that this was so, or since when it is, in UTC."""

    heard_at: float
    """When it has come, on the monotonic clock."""

    max_age: float
    """How many seconds after that it is still what is so now."""

    _values: Callable[[], Row] = field(repr=False)

    _kept: list[Mapping[str, Any]] = field(default_factory=list, repr=False, compare=False)

    @property
    def values(self) -> Mapping[str, Any]:
        """The values by name, with units in the names; one that is not known is ``None``."""
        # Most of what comes is never asked for, so it is made when it is. Not by a cached_property:
        # up to Python 3.11 those of all sites have one lock.
        if not self._kept:
            self._kept.append(dict(_plain(self._values())))
        return self._kept[0]

    def age(self, now: float) -> float:
        """Give how many seconds ago it has come.

        Args:
            now: The time on the monotonic clock.
        """
        return max(0.0, now - self.heard_at)

    def is_fresh(self, now: float) -> bool:
        """Tell whether it is what is so now."""
        return self.age(now) <= self.max_age

    def valid(self, name: str, now: float) -> Any:
        """Give a value that is known, and so now; ``None`` if it is not."""
        return self.values.get(name) if self.is_fresh(now) else None


def _plain(row: Row) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name in _WHAT_ROWS_HAVE_BESIDES:
            continue
        is_missing = isinstance(value, float) and not math.isfinite(value)
        # What is absent in a message is no number, and a state that nobody names is none.
        known = None if is_missing or value == "unspecified" else value
        # No -0.0.
        yield name, known + 0.0 if isinstance(known, float) else known


LONGEST_NAME = 200
"""Letters of a site's name: a topic has 65535 bytes at the most."""


def check_site_name(name: object) -> str:
    """Check the name of a site, which stands in topics.

    Raises:
        ValueError: If it cannot be one.
    """
    is_text = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()
    if isinstance(name, str) and is_text and not set(name) & set("/+#"):
        return name
    raise ValueError(
        f"must be a name of up to {LONGEST_NAME} letters without '/', '+' and '#', "
        f"not {shown(name)}"
    )


class _Opened(NamedTuple):
    """A message: what the site is made of is known."""

    microgrid: Microgrid
    owned: bool

    def discard(self) -> None:
        """Close it: nobody takes this message any more."""
        if self.owned:
            self.microgrid.close()


class _More(NamedTuple):
    """A message: totals are received that the site did not have before."""

    pool: EVChargerPool | None
    receivers: dict[str, Receiver[Any]]

    def discard(self) -> None:
        """Close them: nobody takes this message any more."""
        for receiver in self.receivers.values():
            close_receiver(receiver)


Tap = Callable[[str, list[Any]], None]
"""Is given all that comes of a source."""


class _Changed(NamedTuple):
    """A message: something else is to be looked at."""


class LiveSite:
    """Follows all of a site: totals, components, EV chargers and limits.

    One thread owns what is received; any thread may ask for the newest, which waits for nothing. A
    site that is not there yet, or goes away, is waited for; meanwhile what was heard of it is too
    old, and nothing is valid.
    """

    def __init__(
        self,
        client_or_microgrid: MicrogridApiClient | Microgrid,
        *,
        name: str | None = None,
        max_age: float = MAX_AGE,
    ) -> None:
        """Begin to follow a site.

        Args:
            client_or_microgrid: A client, connected, whose site may be down as yet; or a site. It
                stays open at the end.
            name: What the site is called; the server's host and port unless given.
            max_age: How many seconds after it came a value is still what is measured now.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If the age is not positive, or the name cannot be one.
        """
        given = client_or_microgrid
        if not isinstance(given, MicrogridApiClient | Microgrid):
            raise TypeError(f"a LiveSite needs a MicrogridApiClient or a Microgrid, not {given!r}")
        client = given.client if isinstance(given, Microgrid) else given
        self.max_age = check_timeout(max_age, "max_age")
        self._client = client
        self._given = given if isinstance(given, Microgrid) else None
        self._name = site_of(client.server_url) if name is None else check_site_name(name)
        self._microgrid: Microgrid | None = None
        self._metadata: Metadata | None = None
        self._pool: EVChargerPool | None = None
        # Replaced as a whole, under the lock; read by the thread.
        self._limits: tuple[Limit, ...] = ()
        # Written by the thread alone; each entry is replaced as a whole.
        self._heard: dict[str, Heard] = {}
        self._stamps: dict[str, datetime] = {}
        self._components: dict[int, Component] = {}
        self._listeners = Listeners[Callable[[], None]]()
        self._taps = Listeners[Tap]()
        self._dropped = 0
        # Protects the limits, which are few.
        self._lock = threading.Lock()
        self._totals: dict[str, Receiver[Any]] = {}
        self._changes: Receiver[str] | None = None
        self._feeds: ComponentReceivers | None = None
        self._report: EVChargerPoolReport | None = None
        self._reported_at: datetime | None = None
        self._next_take = self._next_look = self._open_at = 0.0
        self._is_opening = False
        self._is_known_heard = self._has_been_silent = False
        self._back_at = -math.inf
        self._stopped = threading.Event()
        site = site_of(client.server_url)
        self._worker = Worker(f"microgrid-live-site {site}", work=self._work, end=self._end)
        self._opener = threading.Thread(
            target=self._open, name=f"microgrid-open-site {site}", daemon=True
        )
        self._worker.post(_Changed())
        self._opener.start()

    def __repr__(self) -> str:
        """Name the site."""
        state = "closed" if self._stopped.is_set() else "open"
        return f"<LiveSite {self._name}, {state}, {len(self._heard)} sources>"

    @property
    def name(self) -> str:
        """What the site is called."""
        return self._name

    @property
    def client(self) -> MicrogridApiClient:
        """The client."""
        return self._client

    @property
    def microgrid(self) -> Microgrid | None:
        """The site; ``None`` until it has answered for the first time."""
        return self._microgrid

    @property
    def metadata(self) -> Metadata | None:
        """Where the site is; ``None`` until it has said so."""
        return self._metadata

    @property
    def pool(self) -> EVChargerPool | None:
        """A pool of all EV chargers, which proposes nothing; ``None`` if there are none."""
        return self._pool

    @property
    def report(self) -> EVChargerPoolReport | None:
        """The newest report of all EV chargers."""
        return self._report

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that are shown."""
        return self._limits

    @property
    def components(self) -> Mapping[int, Component]:
        """The components that send data, by ID, in the order in which they were first seen."""
        return self._components

    def show_limit(self, limit: Limit) -> None:
        """Show how a limit stands, too, until it is closed."""
        with self._lock:
            self._limits = (*self._limits, limit)
        self._worker.post(_Changed())

    def hide_limit(self, limit: Limit) -> None:
        """Show a limit no more."""
        with self._lock:
            self._limits = tuple(one for one in self._limits if one is not limit)
        self._worker.deliver(_Changed())

    def heard(self, source: str) -> Heard | None:
        """Give the newest of a source; ``None`` if nothing has come of it yet."""
        return self._heard.get(source)

    def sources(self) -> dict[str, Heard]:
        """Give the newest of all sources."""
        return dict(self._heard)

    def is_heard(self, now: float) -> bool:
        """Tell whether the site says something now."""
        return any(
            heard.is_fresh(now) for source, heard in self.sources().items() if is_of_site(source)
        )

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have somebody told, in the site's thread, that something has come.

        Args:
            listener: Called; must neither wait nor raise.

        Returns:
            What ends it.
        """
        return self._listeners.add(listener)

    def tap(self, tap: Tap) -> Callable[[], None]:
        """Have somebody given all that comes, in the site's thread, and not the newest alone.

        Args:
            tap: Called with a source, such as ``component:7`` or ``grid:power``, and the values
                that have come of it; must neither wait nor raise.

        Returns:
            What ends it.
        """
        return self._taps.add(tap)

    @property
    def dropped(self) -> int:
        """How many values of components came faster than they were taken, and were dropped."""
        return self._dropped

    def close(self) -> None:
        """Follow it no more. Any number of times."""
        self._stopped.set()
        self._worker.close()
        if self._opener is not threading.current_thread():
            # It may be in a call, and then closes itself what it has opened.
            self._opener.join(_LOOK_INTERVAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # In a thread of its own, which may wait for calls

    def _open(self) -> None:
        told, told_at = "", -math.inf
        while not self._stopped.is_set():
            try:
                microgrid = self._given or Microgrid(self._client)
            except Exception as error:
                now = time.monotonic()
                is_new = type(error).__name__ != told or now - told_at >= _LOG_INTERVAL
                if is_new and not self._stopped.is_set():
                    told, told_at = type(error).__name__, now
                    is_known = isinstance(error, ApiClientError | RuntimeError)
                    _logger.warning(
                        "%s: waiting for the site: %s", self._name, error, exc_info=not is_known
                    )
                self._stopped.wait(_RETRY_INTERVAL)
                continue
            if told:
                _logger.warning("%s: the site is there", self._name)
            self._worker.deliver(_Opened(microgrid, owned=self._given is None))
            self._ask_where()
            return

    def _ask_where(self) -> None:
        """Ask where the site is; that may take longer than its values do to come."""
        while not self._stopped.is_set():
            try:
                self._metadata = self._client.metadata()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is asked again
                _logger.debug("%s: where it is is not known yet: %s", self._name, error)
                self._stopped.wait(_RETRY_INTERVAL)
            else:
                return

    def _open_totals(
        self, microgrid: Microgrid, pool: EVChargerPool | None, wanted: frozenset[str]
    ) -> None:
        """Receive totals of a site, as far as it has them."""
        receivers: dict[str, Receiver[Any]] = {}
        try:
            for source in sorted(wanted - _OF_CHARGERS):
                receivers[source] = _OF_SITE[source](microgrid).new_receiver()
            if wanted & _OF_CHARGERS and pool is None:
                pool = microgrid.new_ev_charger_pool(priority=0, name="all chargers")
            if pool is not None:
                for source in sorted(wanted & _OF_CHARGERS):
                    receivers[source] = _OF_POOL[source](pool).new_receiver()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            # The site is being closed, the charger has gone again, there is no thread to be had:
            # what is missing is asked for again after a while.
            level = logging.DEBUG if isinstance(error, ReceiverStoppedError) else logging.WARNING
            _logger.log(level, "%s: not all totals are received yet: %s", self._name, error)
        self._worker.deliver(_More(pool, receivers))

    # The thread

    def _work(self, messages: list[Any], now: float) -> float:
        for message in messages:
            if isinstance(message, _Opened):
                self._begin(message.microgrid, now)
            elif isinstance(message, _More):
                self._take_totals(message)
            elif isinstance(message, Subscribed) and self._feeds is not None:
                self._feeds.arrived(message)
        feeds, microgrid = self._feeds, self._microgrid
        if feeds is None or microgrid is None:
            return now + _LOOK_INTERVAL
        if now < self._next_take:
            # Not in the inbox: each sample would wake this thread, and there are many sites.
            time.sleep(self._next_take - now)
            now = time.monotonic()
        self._next_take = now + _TAKE_INTERVAL
        self._take(feeds, now)
        if now >= self._next_look:
            self._next_look = now + _LOOK_INTERVAL
            self._look(feeds, microgrid, now)
        for listener in self._listeners:
            listener()
        return self._next_look

    def _take_totals(self, message: _More) -> None:
        self._is_opening = False
        self._pool = message.pool or self._pool
        for source, receiver in message.receivers.items():
            if source in self._totals:
                close_receiver(receiver)
            else:
                self._totals[source] = waking(receiver, self._wake)

    def _begin(self, microgrid: Microgrid, now: float) -> None:
        try:
            self._changes = microgrid.topology_changes.new_receiver(maxsize=1000)
        except ReceiverStoppedError as error:
            _logger.warning("%s: nothing can be followed: %s", self._name, error)
            if self._given is None:
                microgrid.close()
            return
        self._feeds = ComponentReceivers(subscriber(microgrid), self._worker.deliver)
        self._follow(self._feeds, microgrid.topology, now)
        # Last: who sees it may use all of it.
        self._microgrid = microgrid

    def _wake(self) -> None:
        self._worker.deliver(SAMPLED)

    def _follow(self, feeds: ComponentReceivers, topology: Topology, now: float) -> None:
        found = {
            component.component_id: component
            for component in topology.components()
            if has_data(component, self._client.api)
        }
        gone = feeds.followed() - found.keys()
        feeds.drop(gone)
        for number in gone:
            # A component that is not there any more has no newest value.
            self._heard.pop(f"component:{number}", None)
            self._heard.pop(f"charger:{number}", None)
        feeds.follow(found, now)
        feeds.wake_for(found)
        # In the order in which they were first seen, so that no place of a register map moves.
        known = {number: found[number] for number in self._components if number in found}
        self._components = known | {number: found[number] for number in sorted(found)}

    def _take(self, feeds: ComponentReceivers, now: float) -> None:
        for number in feeds.followed():
            values = feeds.take(number, now)
            if values:
                self._tell(f"component:{number}", values)
                self._note(f"component:{number}", f"component/{number}", values[-1], now, row_of)
        for source, receiver in self._totals.items():
            values = receiver.drain()
            if not values:
                continue
            is_report = source == "chargers:report"
            is_partial = source in _OF_CHARGERS and not is_report and self._is_coming_back(now)
            if not is_partial:
                self._tell(source, values)
            if is_report:
                self._report = values[-1]
                self._reported_at = datetime.now(UTC)
                self._note_report(now)
            else:
                self._note_total(source, values[-1], now, is_partial=is_partial)

    def _tell(self, source: str, values: list[Any]) -> None:
        for tap in self._taps:
            tap(source, values)

    def _note(
        self, source: str, subject: str, value: Any, now: float, read: Callable[[Any], Row]
    ) -> None:
        stamp: datetime = value.timestamp
        before = self._stamps.get(source)
        self._stamps[source] = stamp
        if before is not None and stamp <= before:
            # It is old, or its sender's clock stands still: nothing new is known.
            return
        self._heard[source] = Heard(subject, stamp, now, self.max_age, lambda: read(value))

    def _note_total(
        self, source: str, sample: Sample[Any] | Sample3Phase[Any], now: float, *, is_partial: bool
    ) -> None:
        values = _named(TOTALS[source], sample)
        subject = source.partition(":")[0]
        if any(value is not None for value in values.values()) and not is_partial:
            self._note(source, subject, sample, now, lambda _: values)
            return
        # It is not known now. That comes each second, too, and is no news of the site: the total is
        # as old as what was known of it last.
        values = dict.fromkeys(values)
        before = self._heard.get(source)
        stamp, heard_at = (
            (None, -math.inf) if before is None else (before.timestamp, before.heard_at)
        )
        self._heard[source] = _made(subject, stamp, heard_at, self.max_age, values)

    def _look(self, feeds: ComponentReceivers, microgrid: Microgrid, now: float) -> None:
        """Look at what tells nobody when it changes."""
        topology = microgrid.topology
        if self._changes is not None and self._changes.drain():
            self._follow(feeds, topology, now)
        self._dropped = feeds.dropped
        self._follow_totals(microgrid, topology, now)
        self._tell_silence(now)
        self._note_report(now)
        shown = {f"limit:{limit.where}": limit for limit in self._limits}
        for source in [one for one in self._heard if one.startswith("limit:")]:
            if source not in shown or shown[source].report is None:
                del self._heard[source]
        for source, limit in shown.items():
            report = limit.report
            if report is not None:
                self._note_limit(source, limit, report, now)

    def _follow_totals(self, microgrid: Microgrid, topology: Topology, now: float) -> None:
        wanted = _totals_of(topology)
        for source in self._totals.keys() - wanted:
            # The last of what it is the total of has gone.
            close_receiver(self._totals.pop(source))
            self._heard.pop(source, None)
        missing = wanted - self._totals.keys()
        if missing and not self._is_opening and now >= self._open_at:
            self._is_opening, self._open_at = True, now + _RETRY_INTERVAL
            # Asked for aside, by one thread at a time: this one waits for no other.
            threading.Thread(
                target=self._open_totals,
                args=(microgrid, self._pool, missing),
                name=self._opener.name,
                daemon=True,
            ).start()

    def _tell_silence(self, now: float) -> None:
        """Note whether the site is heard; log it if that has changed."""
        is_heard = self.is_heard(now)
        if is_heard == self._is_known_heard:
            return
        self._is_known_heard = is_heard
        if is_heard:
            self._back_at = now
        if is_heard and self._has_been_silent:
            _logger.warning("%s: the site is heard again", self._name)
        elif not is_heard:
            self._has_been_silent = True
            _logger.warning("%s: the site is not heard any more; nothing is valid", self._name)

    def _is_coming_back(self, now: float) -> bool:
        """Tell whether the site was silent a moment ago, and some chargers still are.

        A charger that stays silent does not count in the total; those that will be heard in a
        moment are not to be missing in it.
        """
        if now - self._back_at >= self.max_age and self._is_known_heard:
            return False
        return any(
            (heard := self._heard.get(f"component:{number}")) is None or not heard.is_fresh(now)
            for number, component in self._components.items()
            if component.category is ComponentCategory.EV_CHARGER
        )

    def _note_report(self, now: float) -> None:
        """Note what chargers may draw: our own decision, which holds as long as they are heard."""
        report = self._report
        if report is None:
            return
        newest = -math.inf
        for number, one in report.chargers.items():
            data = self._heard.get(f"component:{number}")
            if data is None:
                continue
            newest = max(newest, data.heard_at)
            is_commanded = report.target_power is not None or one.allocation.as_watts() > 0
            values = {
                "allocation_w": one.allocation.as_watts() + 0.0 if is_commanded else None,
                "status": one.status.value,
                "reason": one.reason,
            }
            self._note_made(f"charger:{number}", f"charger/{number}", data.heard_at, values)
        target = report.target_power
        values = {"target_power_w": None if target is None else target.as_watts() + 0.0}
        self._note_made("chargers:target", "chargers", newest, values)

    def _note_made(self, source: str, subject: str, heard_at: float, values: Row) -> None:
        """Note what is made of reports: since when it is so."""
        before = self._heard.get(source)
        same = before is not None and before.values == values
        stamp = before.timestamp if same and before is not None else self._reported_at
        self._heard[source] = _made(subject, stamp, heard_at, self.max_age, values)

    def _note_limit(self, source: str, limit: Limit, report: LimitReport, now: float) -> None:
        measured = "grid:current" if limit.where == "grid" else f"component:{limit.where}"
        data = self._heard.get(measured)
        # A silent meter's house is the highest of a while, which chargers are planned with: no
        # measurement.
        heard_at = -math.inf if data is None or report.house is None else data.heard_at
        row = row_of(report)
        rating = limit.max_current
        if rating is not None:
            current = rating.rating if isinstance(rating, FuseCurve) else rating
            row["max_current_a"] = current.as_amperes()
        if limit.max_power is not None:
            row["max_power_w"] = limit.max_power.as_watts()
        self._heard[source] = Heard(
            f"limit/{limit.where}", report.timestamp, heard_at, self.max_age, lambda: row
        )

    def _end(self) -> None:
        self._stopped.set()
        if self._feeds is not None:
            self._feeds.close()
        for receiver in self._totals.values():
            close_receiver(receiver)
        if self._changes is not None:
            close_receiver(self._changes)
        if self._microgrid is not None and self._given is None:
            self._microgrid.close()


def _made(
    subject: str, timestamp: datetime | None, heard_at: float, max_age: float, values: Row
) -> Heard:
    return Heard(subject, timestamp, heard_at, max_age, lambda: values)


def is_of_site(source: str) -> bool:
    """Tell whether a source is what components send, not what is made of it."""
    return source.startswith("component:")


_CURRENTS = tuple(f"current_phase_{phase}_a" for phase in (1, 2, 3))

_OF_SITE: dict[str, Callable[[Microgrid], ReceiverFetcher[Any]]] = {
    "grid:power": lambda site: site.grid.power,
    "grid:current": lambda site: site.grid.current_per_phase,
    "grid:frequency": lambda site: site.grid.frequency,
    "consumers:power": lambda site: site.consumer.power,
    "pv:power": lambda site: site.pv.power,
    "chp:power": lambda site: site.chp.power,
    "batteries:power": lambda site: site.battery.power,
    "batteries:soc": lambda site: site.battery.soc,
}
_OF_POOL: dict[str, Callable[[EVChargerPool], ReceiverFetcher[Any]]] = {
    "chargers:power": lambda pool: pool.power,
    "chargers:current": lambda pool: pool.current_per_phase,
    "chargers:report": lambda pool: pool.power_status,
}
"""What receives each total, and the reports of the chargers."""

_OF_CHARGERS = frozenset(_OF_POOL)

TOTALS: dict[str, tuple[str, ...]] = {
    "grid:power": ("power_w",),
    "grid:current": _CURRENTS,
    "grid:frequency": ("frequency_hz",),
    "consumers:power": ("power_w",),
    "pv:power": ("power_w",),
    "chp:power": ("power_w",),
    "batteries:power": ("power_w",),
    "batteries:soc": ("soc_percent",),
    "chargers:power": ("power_w",),
    "chargers:current": _CURRENTS,
}
"""The sources of the totals of a site, and what their values are called."""


def _named(names: tuple[str, ...], sample: Sample[Any] | Sample3Phase[Any]) -> Row:
    values = [*sample] if isinstance(sample, Sample3Phase) else [sample.value]
    return {
        name: None if value is None else value.base_value + 0.0
        for name, value in zip(names, values, strict=True)
    }


def _totals_of(topology: Topology) -> frozenset[str]:
    """Name the totals that a site has."""
    found = {"grid:power", "grid:current", "grid:frequency", "consumers:power"}
    if any(topology.is_pv_inverter(c.component_id) for c in topology.components()):
        found.add("pv:power")
    if topology.components(ComponentCategory.CHP):
        found.add("chp:power")
    if topology.components(ComponentCategory.BATTERY):
        found |= {"batteries:power", "batteries:soc"}
    if topology.ids(ComponentCategory.EV_CHARGER):
        found |= _OF_CHARGERS
    return frozenset(found)
