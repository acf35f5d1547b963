"""Makes every call of the API, blocking."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self, TypeVar

import grpc
import tenacity

from microgrid_sync.arguments import (
    check_component_id,
    check_float32,
    check_lifetime,
    check_metrics,
    check_timeout,
    check_token,
)
from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import (
    ApiClientError,
    ClientNotConnected,
    OperationNotImplemented,
    OperationTimedOut,
    ServiceUnavailable,
)
from microgrid_sync.listeners import Listeners
from microgrid_sync.model import (
    BatteryData,
    Component,
    ComponentCategory,
    ComponentData,
    Connection,
    EVChargerData,
    InverterData,
    Metadata,
    MeterData,
)
from microgrid_sync.model.shown import Listing, Shown
from microgrid_sync.model.telemetry import Sensor, Telemetry
from microgrid_sync.program_end import check_not_forked, interrupts_us
from microgrid_sync.receiver import RECEIVER_MAX_SIZE, Receiver, check_maxsize
from microgrid_sync.subscription import Callbacks, Subscription, ids_of
from microgrid_sync.transport.attempts import CallOptions, CallPlan
from microgrid_sync.transport.calls import CallCounters, CallTimes
from microgrid_sync.transport.channel import (
    AUTO,
    DEFAULT_CHANNEL_OPTIONS,
    ChannelOptions,
    check_api,
    parse_url,
    site_of,
)
from microgrid_sync.transport.pace import Pace
from microgrid_sync.transport.reachability import ClientState
from microgrid_sync.transport.retry import DEFAULT_CALL_RETRY, LinearBackoff, Strategy
from microgrid_sync.transport.session import Session
from microgrid_sync.transport.set_points import StartedSetPoint
from microgrid_sync.transport.streams import StreamStats
from microgrid_sync.wire import (
    ApiGeneration,
    ComponentListing,
    NotOffered,
    SetPointRequest,
    UnaryRequest,
)

T = TypeVar("T")

ToldOfSetPoint = Callable[[int, str, float, str | None], None]
"""Is told of a set-point that has ended: see `on_set_point`."""

Lifetime = float | timedelta | None
"""How long a command holds: seconds, or a `timedelta`; ``None`` leaves it to the server."""

_GET_METADATA: CallPlan[UnaryRequest[Metadata]] = CallPlan(
    "metadata()", lambda api: api.get_metadata()
)

_SHORTEST_SET_POINT, _SHORTEST_BOUNDS = 10, 5
"""Seconds that a set-point, and bounds, hold at the least (v1alpha18)."""

_TIMEZONE_TIMEOUT = 5.0
"""Seconds for the zone that the times of a picture are in."""

_MAX_AGE = 10.0
"""Seconds: what came longer ago is not what is measured now."""

_READY_SLICE = 2.0
"""Seconds for one attempt to reach a server that is waited for."""

_LEAST_WAIT = 0.2
"""Seconds for it at the least, and between two answers that say "not yet"."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class ClientStats(Shown):
    """What a client has done so far."""

    streams: tuple[StreamStats, ...]
    """The streams that are open now, in the order of their components' IDs."""

    calls: int
    """How many unary calls have ended, over all connections."""

    retries: int
    """How many attempts they made beyond their first ones."""

    failures: int
    """How many of them ended by an error."""

    resent: int = 0
    """How many set-points were sent once more, because an older one might have landed after it."""

    failing_since: datetime | None = None
    """Since when nothing has reached the server (UTC); ``None`` if that is not so."""

    call_times: Mapping[str, CallTimes] = field(default_factory=dict)
    """How long unary calls have taken, by method, over all connections."""


class MicrogridApiClient:
    """Reads and commands a microgrid over the Frequenz Microgrid API.

    Its methods block; any number of threads may use one client at once. In a ``with`` block it is
    connected on entry and disconnected on exit. When the program's main thread ends, a client
    that is still connected is disconnected.
    """

    def __init__(
        self,
        server_url: str,
        *,
        channel_defaults: ChannelOptions = DEFAULT_CHANNEL_OPTIONS,
        connect: bool = True,
        retry_strategy: Strategy | None = None,
        timeout: float = 60.0,
        call_retry: tenacity.Retrying | None = DEFAULT_CALL_RETRY,
        api: str = AUTO,
    ) -> None:
        """Make a client.

        Args:
            server_url: ``grpc://host[:port][?parameter=value...]``, with port 9090 unless given.
                Parameters: ``ssl``, ``ssl_root_certificates_path``, ``ssl_private_key_path``,
                ``ssl_certificate_chain_path``, ``keep_alive``, ``keep_alive_interval_s``,
                ``keep_alive_timeout_s``, ``api``.
            channel_defaults: How to connect where the URL does not say it.
            connect: Whether to connect at once. Nothing is sent before the first call, so that
                a server that is down is no error here.
            retry_strategy: How streams reconnect; every 3 to 4 s without end unless given. Each
                stream gets a copy.
            timeout: Seconds for a whole unary call, its retries included.
            call_retry: When unary calls are tried again; ``None`` for a single attempt.
            api: Which generation of the API the server speaks, where the URL does not say it:
                ``v0.15``, ``v1alpha18`` or ``v1alpha19``; with ``auto`` it is found out with the
                first call of a connection.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If the URL, the timeout or the API is wrong.
            RuntimeError: In a process forked off one in which a client had been connected.
        """
        if not isinstance(channel_defaults, ChannelOptions):
            raise TypeError(f"channel_defaults must be ChannelOptions, not {channel_defaults!r}")
        self._api = check_api(api)
        parse_url(server_url, channel_defaults)
        if call_retry is not None and not isinstance(call_retry, tenacity.Retrying):
            raise TypeError(f"call_retry must be a tenacity.Retrying or None, not {call_retry!r}")
        if retry_strategy is not None and not isinstance(retry_strategy, Strategy):
            raise TypeError(
                "retry_strategy must be a LinearBackoff, an ExponentialBackoff or None, "
                f"not {retry_strategy!r}"
            )
        self._server_url = server_url
        self._channel_defaults = channel_defaults
        self._strategy = (retry_strategy or LinearBackoff()).copy()
        self._timeout = check_timeout(timeout)
        self._call_retry = call_retry
        self._counters = CallCounters()
        self._callbacks = Callbacks(site_of(server_url))
        # Serializes connecting: protects the URL and the session. Disconnecting needs it not.
        self._lock = threading.Lock()
        self._session: Session | None = None
        # Replaced as a whole, under the lock; read without it.
        self._on_reconnect = Listeners[Callable[[], None]]()
        self._on_set_point = Listeners[ToldOfSetPoint]()
        self._pace: Pace | None = None
        if connect:
            self.connect()

    def __repr__(self) -> str:
        """Name the server."""
        return f"<MicrogridApiClient of {self._server_url}, {self.state.value}>"

    # The connection

    @property
    def server_url(self) -> str:
        """The URL of the server."""
        return self._server_url

    @property
    def channel_defaults(self) -> ChannelOptions:
        """How to connect where the URL does not say it."""
        return self._channel_defaults

    @property
    def is_connected(self) -> bool:
        """Whether `connect` was called after the last `disconnect`; the server may be down."""
        session = self._session
        return session is not None and not session.is_closed

    @property
    def channel(self) -> grpc.Channel:
        """The gRPC channel, for what this package does not offer.

        Raises:
            ClientNotConnected: If the client is not connected.
        """
        return self._require_session("channel").channel

    @property
    def stub(self) -> Any:
        """The blocking stub of the Microgrid service, for what this package does not offer.

        It is that of the official bindings of the API that the server speaks, which is asked for if
        it is not known yet.

        Raises:
            ClientNotConnected: If the client is not connected.
            ImportError: If the official bindings of that API are not installed.
            ApiClientError: If it had to be asked for, and that failed.
        """
        return self._require_session("stub").stub()

    @property
    def api(self) -> str | None:
        """The API that the server speaks, ``v0.15``, ``v1alpha18`` or ``v1alpha19``.

        ``None`` as long as that is not known, and when the client is not connected.
        """
        session = self._session
        return None if session is None or session.is_closed else session.api

    def connect(self, server_url: str | None = None) -> None:
        """Connect to a server; nothing is sent before the first call.

        Connected to the same URL already, nothing happens. With another URL, everything of the
        old connection ends first.

        Args:
            server_url: The server's URL; the one used before unless given.

        Raises:
            TypeError: If the URL is not a string.
            ValueError: If the URL is wrong; the old connection stays.
            RuntimeError: In a process forked off one in which a client had been connected.
        """
        check_not_forked()
        if server_url is not None:
            parse_url(server_url, self._channel_defaults)
        with self._lock:
            if server_url is None:
                server_url = self._server_url
            old = self._session
            if old is not None and old.server_url == server_url and not old.is_closed:
                return
            self._server_url = server_url
            self._session = None
            # Under the lock, which closing does not need, so that nobody connects in between.
            if old is not None:
                old.close(interrupts=False)
            self._session = Session(
                server_url,
                channel_defaults=self._channel_defaults,
                api=self._api,
                strategy=self._strategy,
                call_options=self._options(None),
                counters=self._counters,
                on_reconnect=self._note_reconnect,
            )
            self._session.keep_pace(self._pace)
        self._note_reconnect()

    def _note_reconnect(self) -> None:
        for callback in self._on_reconnect:
            callback()

    def disconnect(self) -> None:
        """End every stream and call, and the threads behind them, within about a second.

        A `Receiver.receive` that waits in another thread raises `ReceiverStoppedError`. Not
        connected, nothing happens. May be called from any thread.
        """
        disconnect(self, interrupts=interrupts_us())

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        disconnect(self, interrupts=False)

    def stats(self) -> ClientStats:
        """Give the counters of the client's streams and calls; cheap, from any thread."""
        session = self._session
        calls, retries, failures, resent = self._counters.read()
        since = None if session is None else session.reachability.failing_since
        return ClientStats(
            streams=() if session is None or session.is_closed else session.streams.stats(),
            calls=calls,
            retries=retries,
            failures=failures,
            resent=resent,
            failing_since=None if since is None else _wall_time(since),
            call_times=self._counters.times(),
        )

    @property
    def state(self) -> ClientState:
        """What is known of the connection from what has been asked so far; asks nothing."""
        session = self._session
        if session is None or session.is_closed:
            return ClientState.DISCONNECTED
        return session.reachability.state

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Wait until the server answers: for a program that may start before its server.

        Args:
            timeout: Seconds; ``None`` for as long as it takes.

        Raises:
            TypeError: If the timeout is no number.
            ValueError: If it is not positive.
            TimeoutError: If the server has not answered in time; the last error is its cause.
            ClientNotConnected: If the client is not connected, or is disconnected meanwhile.
            ApiClientError: If it answers with an error that will not go away, such as a refused
                certificate or identity.
        """
        deadline = Deadline(None if timeout is None else check_timeout(timeout))
        while True:
            options = CallOptions(
                max(_LEAST_WAIT, min(deadline.remaining(), _READY_SLICE)), None, wait_for_ready=True
            )
            try:
                self._call(_GET_METADATA, options)
            except (ServiceUnavailable, OperationTimedOut, OperationNotImplemented) as error:
                if isinstance(error, OperationNotImplemented):
                    if self.api is not None:
                        # An answer all the same.
                        return
                    if not error.is_retryable:
                        raise
                if deadline.has_passed():
                    raise TimeoutError(
                        f"{self._server_url} has not answered within {timeout} s"
                    ) from error
                if not isinstance(error, OperationTimedOut):
                    # The server, or what stands before it, says that it is not ready yet.
                    time.sleep(min(_LEAST_WAIT, deadline.remaining()))
            else:
                return

    # What the microgrid is made of

    def components(self, *, timeout: float | None = None) -> Iterable[Component]:
        """Ask for all components of the microgrid but its sensors.

        Args:
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            The components, in the server's order.

        Raises:
            ApiClientError: If it fails.
        """
        options = self._options(timeout)
        return Listing(self._require_session("components()").components(options).components)

    def connections(
        self,
        starts: Set[int] = frozenset(),
        ends: Set[int] = frozenset(),
        *,
        timeout: float | None = None,
    ) -> Iterable[Connection]:
        """Ask for the connections between components.

        Connections with a start or an end that is not among the components, such as those of
        sensors, are left out; number 0 is allowed.

        Args:
            starts: Give only connections that start at one of these; all if empty.
            ends: Give only connections that end at one of these; all if empty.
            timeout: Seconds for everything; the client's unless given.

        Returns:
            The connections, in the server's order.

        Raises:
            ValueError: If an ID cannot be one.
            ApiClientError: If it fails.
        """
        from_these = sorted({check_component_id(start) for start in starts})
        to_these = sorted({check_component_id(end) for end in ends})
        operation = f"connections(starts={from_these}, ends={to_these})"
        plan = CallPlan(operation, lambda api: api.list_connections(from_these, to_these))
        options = self._options(timeout)
        listing, connections = self._require_session(operation).connections(plan, options)
        known = {0, *(component.component_id for component in listing.components)}
        return Listing(c for c in connections if c.start in known and c.end in known)

    def metadata(self, *, timeout: float | None = None) -> Metadata:
        """Ask for the microgrid's number and place.

        Args:
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            The metadata; empty after an error of the API, which is logged.
        """
        options = self._options(timeout)
        try:
            return self._call(_GET_METADATA, options)
        except ApiClientError as error:
            _logger.error("No metadata: %s", error)
            return Metadata()

    # Data

    def meter_data(
        self, component_id: int, maxsize: int = RECEIVER_MAX_SIZE
    ) -> Receiver[MeterData]:
        """Receive what a meter measures.

        All receivers of one component share one stream. It reconnects by itself.

        Args:
            component_id: The meter.
            maxsize: How many values the receiver holds; when full, it drops the oldest.

        Returns:
            A receiver.

        Raises:
            ValueError: If the component is unknown, or no meter.
            ApiClientError: If the list of components had to be asked for, and that failed.
        """
        return self._subscribe(component_id, ComponentCategory.METER, maxsize)

    def battery_data(
        self, component_id: int, maxsize: int = RECEIVER_MAX_SIZE
    ) -> Receiver[BatteryData]:
        """Receive what a battery measures; see `meter_data`."""
        return self._subscribe(component_id, ComponentCategory.BATTERY, maxsize)

    def inverter_data(
        self, component_id: int, maxsize: int = RECEIVER_MAX_SIZE
    ) -> Receiver[InverterData]:
        """Receive what an inverter measures; see `meter_data`."""
        return self._subscribe(component_id, ComponentCategory.INVERTER, maxsize)

    def ev_charger_data(
        self, component_id: int, maxsize: int = RECEIVER_MAX_SIZE
    ) -> Receiver[EVChargerData]:
        """Receive what an EV charger measures; see `meter_data`."""
        return self._subscribe(component_id, ComponentCategory.EV_CHARGER, maxsize)

    def _subscribe(
        self, component_id: int, category: ComponentCategory, maxsize: int
    ) -> Receiver[Any]:
        component_id = check_component_id(component_id)
        check_maxsize(maxsize)
        session = self._require_session(f"data(component_id={component_id})")
        return self._at_site(session.subscribe(component_id, category, maxsize))

    def _at_site(self, receiver: Receiver[T]) -> Receiver[T]:
        receiver.find_timezone = self._timezone
        return receiver

    def _timezone(self) -> tzinfo | None:
        """Ask for the zone of the site; ``None`` if it is not known."""
        location = self.metadata(timeout=_TIMEZONE_TIMEOUT).location
        return None if location is None else location.timezone

    def telemetry(
        self,
        component_id: int,
        metrics: Collection[int] | None = None,
        maxsize: int = RECEIVER_MAX_SIZE,
    ) -> Receiver[Telemetry]:
        """Receive any metrics of any component, as the server sends them.

        All receivers of the same metrics of one component share one stream. API v1alpha18 and
        later.

        Args:
            component_id: The component.
            metrics: Which ones, each a `Metric`; all of them unless given.
            maxsize: How many values the receiver holds; when full, it drops the oldest.

        Returns:
            A receiver.

        Raises:
            TypeError: If a metric is no integer.
            ValueError: If the component is unknown, or no metric is named.
            OperationNotImplemented: If the server speaks an older API.
            ApiClientError: If the server had to be asked for its API or its components, and that
                failed.
        """
        component_id = check_component_id(component_id)
        wanted = check_metrics(metrics)
        check_maxsize(maxsize)
        session = self._require_session(f"telemetry(component_id={component_id})")
        return self._at_site(session.telemetry(component_id, wanted, maxsize))

    def sensors(self, *, timeout: float | None = None) -> list[Sensor]:
        """Ask for all sensors of the microgrid.

        API v1alpha18 and later.

        Args:
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            The sensors, in the server's order.

        Raises:
            OperationNotImplemented: If the server speaks an older API.
            ApiClientError: If it fails.
        """
        return Listing(self._require_session("sensors()").sensors(self._options(timeout)))

    def sensor_data(
        self,
        sensor_id: int,
        metrics: Collection[int] | None = None,
        maxsize: int = RECEIVER_MAX_SIZE,
    ) -> Receiver[Telemetry]:
        """Receive what a sensor measures; see `telemetry`.

        Raises:
            TypeError: If a metric is no integer.
            ValueError: If the sensor is unknown, or no metric is named.
            OperationNotImplemented: If the server speaks an older API.
            ApiClientError: If the sensors could not be asked for.
        """
        sensor_id = check_component_id(sensor_id)
        wanted = check_metrics(metrics)
        check_maxsize(maxsize)
        session = self._require_session(f"sensor_data(sensor_id={sensor_id})")
        return self._at_site(session.sensor_data(sensor_id, wanted, maxsize))

    def latest(
        self, component_id: int, *, max_age: float = _MAX_AGE, timeout: float | None = None
    ) -> ComponentData | Telemetry:
        """Give what a component measures now.

        That is the newest value of its stream, if one is open; else of one that is opened for it,
        and stays open until `disconnect`, so that asking again waits for nothing.

        Args:
            component_id: The component.
            max_age: How many seconds ago it may have come; a newer one is waited for.
            timeout: Seconds for the whole; the client's unless given.

        Returns:
            The data of its category; `Telemetry` for one that has none (API v1alpha18 and later).

        Raises:
            TypeError: If an argument is no number.
            ValueError: If the component is unknown or sends no data, or an argument is not
                positive.
            TimeoutError: If nothing has come in time.
            OperationNotImplemented: If it has no data, and the server's API no telemetry.
            ReceiverStoppedError: If the client is disconnected meanwhile.
            ApiClientError: If the list of components had to be asked for, or its stream ended, by
                an error.
        """
        component_id = check_component_id(component_id)
        age = check_timeout(max_age, "max_age")
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        session = self._require_session(f"latest(component_id={component_id})")
        value: ComponentData | Telemetry = session.latest(component_id, age, seconds)
        return value

    def subscribe(
        self, component_ids: int | Iterable[int], callback: Callable[[Any], object]
    ) -> Subscription:
        """Have a function called with each value that components send.

        Args:
            component_ids: A component, or several of any categories.
            callback: Is given one value at a time: the data of the component's category, or its
                `Telemetry` if that has none. One thread calls all functions of a client, so that
                they need no lock against each other, and one that waits holds up the others. What
                it raises is logged and counted, and ends neither its own calls nor those of others.

        Returns:
            What ends it. It does not have to be kept, the calls go on until it or the client is
                closed.

        Raises:
            TypeError: If the callback cannot be called, or the IDs are no integers.
            ValueError: If there are no components, or one is unknown or sends no data.
            OperationNotImplemented: If one has no data, and the server's API no telemetry.
            ApiClientError: If the list of components had to be asked for, and that failed.
        """
        if not callable(callback):
            raise TypeError(f"callback must be a function, not {callback!r}")
        receivers: list[Receiver[Any]] = []
        try:
            receivers += (
                self._receive_any(one, RECEIVER_MAX_SIZE) for one in ids_of(component_ids)
            )
            return Subscription(receivers, callback, self._callbacks)
        except BaseException:
            for receiver in receivers:
                receiver.close()
            raise

    def _receive_any(self, component_id: int, maxsize: int) -> Receiver[Any]:
        component_id = check_component_id(component_id)
        session = self._require_session(f"data(component_id={component_id})")
        return self._at_site(session.subscribe_to_any(component_id, maxsize))

    # Commands

    def set_power(
        self,
        component_id: int,
        power_w: float,
        *,
        lifetime: Lifetime = None,
        timeout: float | None = None,
    ) -> datetime | None:
        """Set the active power of a component.

        A newer call for the same component ends an older one that is still waiting.

        Args:
            component_id: The component: an inverter or an EV charger, usually.
            power_w: The power in W: positive charges, negative discharges, 0 stops.
            lifetime: How long it holds, 10 to 900 s, rounded up to whole seconds; as long as the
                server likes unless given (60 s, API v1alpha18). API v1alpha18 and later.
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            When it expires, in UTC; ``None`` if the server does not say.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If the ID cannot be one, the power is not finite, or too large, or the
                lifetime is out of range.
            OperationNotImplemented: If there is a lifetime, and the server's API has none.
            SetPointSuperseded: If a newer call, or another controller, has taken this one's place.
            SetPointRejected: If the server will not carry it out.
            SetPointFailed: If it could not carry it out.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        power = check_float32("power_w", power_w)
        seconds = check_lifetime(lifetime, least=_SHORTEST_SET_POINT)
        plan = _set_power(component_id, power, seconds)
        return self._set(plan, timeout, ("active power", component_id), power)

    def set_reactive_power(
        self,
        component_id: int,
        reactive_power_var: float,
        *,
        lifetime: Lifetime = None,
        timeout: float | None = None,
    ) -> datetime | None:
        """Set the reactive power of a component.

        A newer call for the same component ends an older one that is still waiting.

        Args:
            component_id: The component.
            reactive_power_var: The reactive power in VAr: negative is inductive (lagging),
                positive capacitive (leading), whatever the API.
            lifetime: See `set_power`.
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            When it expires, in UTC; ``None`` if the server does not say.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If the ID cannot be one, the power is not finite, or too large, or the
                lifetime is out of range.
            OperationNotImplemented: If there is a lifetime, and the server's API has none.
            SetPointSuperseded: If a newer call, or another controller, has taken this one's place.
            SetPointRejected: If the server will not carry it out.
            SetPointFailed: If it could not carry it out.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        power = check_float32("reactive_power_var", reactive_power_var)
        seconds = check_lifetime(lifetime, least=_SHORTEST_SET_POINT)
        plan = CallPlan(
            f"set_reactive_power(component_id={component_id}, reactive_power_var={power})",
            lambda api: api.set_reactive_power(component_id, power, seconds),
        )
        return self._set(plan, timeout, ("reactive power", component_id), power)

    def set_bounds(
        self,
        component_id: int,
        lower: float,
        upper: float,
        *,
        lifetime: Lifetime = None,
        token: str | None = None,
        timeout: float | None = None,
    ) -> datetime | None:
        """Narrow the active power that a component may be set to.

        The server adds these inclusion bounds to those it has, and drops them after a while.

        Args:
            component_id: The component.
            lower: The lowest power in W, 0 or less.
            upper: The highest power in W, 0 or more.
            lifetime: How long they hold, 5 to 900 s, rounded up to whole seconds; as long as the
                server likes unless given. API v1alpha18 and later.
            token: Replaces bounds that were added with the same token, and takes them back with
                `clear_bounds`. API v1alpha18 and later; servers of before September 2026 ignore it.
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            When they expire, in UTC; ``None`` if the server does not say.

        Raises:
            TypeError: If an argument is not a number, or the token no string.
            ValueError: If the ID cannot be one, a bound is not finite or too large, the lower
                one is above 0 or the upper one below 0, the lifetime is out of range, or the token
                is empty.
            OperationNotImplemented: If there is a lifetime or a token, and the server's API has
                none.
            ApiClientError: If it fails.
        """
        component_id, lower, upper = _check_bounds(component_id, lower, upper)
        seconds = check_lifetime(lifetime, least=_SHORTEST_BOUNDS)
        if token is not None:
            check_token(token)
        plan = CallPlan(
            f"set_bounds(component_id={component_id}, lower={lower}, upper={upper})",
            lambda api: api.add_inclusion_bounds(component_id, lower, upper, seconds, token),
        )
        return self._call(plan, self._options(timeout))

    def set_exclusion_bounds(
        self, component_id: int, lower: float, upper: float, *, timeout: float | None = None
    ) -> datetime | None:
        """Exclude a range of active power from what a component may be set to.

        API v0.15 alone. The server drops them after a time of its own choice. Zero stays allowed.

        Args:
            component_id: The component.
            lower: The lower end of the range in W, 0 or less.
            upper: The upper end of the range in W, 0 or more.
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            When they expire, in UTC; ``None`` if the server does not say.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If the ID cannot be one, a bound is not finite or too large, the lower
                one is above 0 or the upper one below 0.
            OperationNotImplemented: If the server's API has none.
            ApiClientError: If it fails.
        """
        component_id, lower, upper = _check_bounds(component_id, lower, upper)
        plan = CallPlan(
            f"set_exclusion_bounds(component_id={component_id}, lower={lower}, upper={upper})",
            lambda api: api.add_exclusion_bounds(component_id, lower, upper),
        )
        return self._call(plan, self._options(timeout))

    def clear_bounds(self, component_id: int, token: str, *, timeout: float | None = None) -> None:
        """Take bounds back that were added with a token, before they expire.

        API v1alpha18 and later; servers of before September 2026 do not know it.

        Args:
            component_id: The component.
            token: The token.
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If the ID is no integer, or the token no string.
            ValueError: If the ID cannot be one, or the token is empty.
            OperationNotImplemented: If the server cannot do this.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        check_token(token)
        plan = CallPlan(
            f"clear_bounds(component_id={component_id}, token={token!r})",
            lambda api: api.clear_bounds(component_id, token),
        )
        self._call(plan, self._options(timeout))

    def start(self, component_id: int, *, timeout: float | None = None) -> None:
        """Start a component: an inverter, or a battery, whose relays close.

        Args:
            component_id: The component.
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If the ID is no integer.
            ValueError: If the ID cannot be one.
            OperationNotImplemented: If the server, or the component, cannot do this.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        plan = CallPlan(f"start(component_id={component_id})", lambda api: api.start(component_id))
        self._call(plan, self._options(timeout))

    def standby(
        self, component_id: int, *, hot: bool = False, timeout: float | None = None
    ) -> None:
        """Bring a component to standby.

        Args:
            component_id: The component: an inverter, usually.
            hot: Whether it stays ready to start at once. API v0.15 alone.
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If the ID is no integer.
            ValueError: If the ID cannot be one.
            OperationNotImplemented: If the server, or the component, cannot do this.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        plan = CallPlan(
            f"standby(component_id={component_id}, hot={hot})",
            lambda api: api.standby(component_id, hot=hot),
        )
        self._call(plan, self._options(timeout))

    def stop(self, component_id: int, *, timeout: float | None = None) -> None:
        """Stop a component: an inverter, or a battery, whose relays open.

        Args:
            component_id: The component.
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If the ID is no integer.
            ValueError: If the ID cannot be one.
            OperationNotImplemented: If the server, or the component, cannot do this.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        plan = CallPlan(f"stop(component_id={component_id})", lambda api: api.stop(component_id))
        self._call(plan, self._options(timeout))

    def acknowledge_error(self, component_id: int, *, timeout: float | None = None) -> None:
        """Acknowledge a component's error: what can recover from it does.

        Args:
            component_id: The component.
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If the ID is no integer.
            ValueError: If the ID cannot be one.
            OperationNotImplemented: If the server, or the component, cannot do this.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        plan = CallPlan(
            f"acknowledge_error(component_id={component_id})",
            lambda api: api.acknowledge_error(component_id),
        )
        self._call(plan, self._options(timeout))

    def _call(self, plan: CallPlan[UnaryRequest[T]], options: CallOptions) -> T:
        return self._require_session(plan.operation).call(plan, options)

    def _set(
        self,
        plan: CallPlan[SetPointRequest],
        timeout: float | None,
        order_by: tuple[str, int],
        value: float,
    ) -> datetime | None:
        options = self._options(timeout)
        session = self._require_session(plan.operation)
        try:
            expires = session.set(plan, options, order_by)
        except ApiClientError as error:
            self._tell_of_set_point(order_by, value, error)
            raise
        self._tell_of_set_point(order_by, value, None)
        return expires

    def _tell_of_set_point(
        self, order_by: tuple[str, int], value: float, error: ApiClientError | None
    ) -> None:
        kind, component_id = order_by
        for callback in self._on_set_point:
            callback(component_id, kind, value, None if error is None else str(error))

    def _require_session(self, operation: str) -> Session:
        session = self._session
        if session is None or session.is_closed:
            raise ClientNotConnected(server_url=self._server_url, operation=operation)
        return session

    def _options(self, timeout: float | None) -> CallOptions:
        return CallOptions(
            self._timeout if timeout is None else check_timeout(timeout), self._call_retry
        )


def _check_bounds(component_id: int, lower: float, upper: float) -> tuple[int, float, float]:
    """Check bounds; `ValueError` if zero is not within them."""
    component_id = check_component_id(component_id)
    lower, upper = check_float32("lower", lower), check_float32("upper", upper)
    if lower > 0:
        raise ValueError(f"lower must be 0 W or less, not {lower}")
    if upper < 0:
        raise ValueError(f"upper must be 0 W or more, not {upper}")
    return component_id, lower, upper


def _set_power(component_id: int, power: float, lifetime: int | None) -> CallPlan[SetPointRequest]:
    return CallPlan(
        f"set_power(component_id={component_id}, power_w={power})",
        lambda api: api.set_power(component_id, power, lifetime),
    )


def _wall_time(monotonic: float) -> datetime:
    """Turn a moment of the monotonic clock into a date and time."""
    return datetime.now(UTC) - timedelta(seconds=time.monotonic() - monotonic)


# For the rooms above: not among what users see.


def disconnect(client: MicrogridApiClient, *, interrupts: bool) -> None:
    """Do as `MicrogridApiClient.disconnect` does.

    Args:
        client: The client.
        interrupts: Whether the caller has interrupted our code: then it does not wait.
    """
    session = client._session
    if session is not None:
        session.close(interrupts=interrupts)


def start_set_power(
    client: MicrogridApiClient,
    component_id: int,
    power_w: float,
    *,
    lifetime: int,
    timeout: float,
    on_accepted: Callable[[], None],
    on_done: Callable[[ApiClientError | None], None],
) -> StartedSetPoint:
    """Set the active power of a component without waiting for the answer.

    One attempt, in order with `MicrogridApiClient.set_power`. For loops that command many
    components at once.

    Args:
        client: The client.
        component_id: The component.
        power_w: The power in W: positive charges, negative discharges, 0 stops.
        lifetime: How many seconds it holds, where the API lets that be said.
        timeout: Seconds for the first answer: see `SetPoints.start`.
        on_accepted: Called when the server has accepted it, and its last word is to come.
        on_done: Called once when it has ended, with the error if it has failed. Both are called in
            a thread of the connection's.

    Raises:
        ApiClientError: If it cannot be sent at all; `on_done` is not called then.
        RuntimeError: If there is no thread to be had; likewise. It may have been sent.
    """
    power = check_float32("power_w", power_w)

    def make(api: ApiGeneration) -> SetPointRequest:
        try:
            return api.set_power(component_id, power, lifetime)
        except NotOffered:
            return api.set_power(component_id, power)

    plan = CallPlan(f"set_power(component_id={component_id}, power_w={power})", make)
    order_by = ("active power", component_id)

    def tell(error: ApiClientError | None) -> None:
        on_done(error)
        client._tell_of_set_point(order_by, power, error)

    return client._require_session(plan.operation).start_set(
        plan, timeout, order_by=order_by, on_accepted=on_accepted, on_done=tell
    )


def subscribe_in_background(
    client: MicrogridApiClient,
    component_id: int,
    category: ComponentCategory,
    maxsize: int,
    deliver: Callable[[Receiver[Any] | Exception], None],
    *,
    metrics: frozenset[int] | None = None,
) -> None:
    """Receive a component's data, without waiting for anything.

    Args:
        client: The client.
        component_id: The component.
        category: What it is.
        maxsize: How many values the receiver holds.
        metrics: Which telemetry to receive, instead of the data of its category.
        deliver: Called once, in any thread, with the receiver or with the reason why there is none.
    """
    try:
        session = client._require_session(f"data(component_id={component_id})")
        session.subscribe_in_background(component_id, category, maxsize, deliver, metrics=metrics)
    except (ApiClientError, RuntimeError) as error:
        deliver(error)


def receive_any(client: MicrogridApiClient, component_id: int, maxsize: int) -> Receiver[Any]:
    """Receive what a component sends, whatever it is: see `Session.subscribe_to_any`."""
    return client._receive_any(component_id, maxsize)


def fetch_site(
    client: MicrogridApiClient, timeout: float | None
) -> tuple[ComponentListing, list[Connection]]:
    """Ask for all components and connections, as the server lists them.

    Args:
        client: The client.
        timeout: Seconds for both calls; the client's unless given.

    Raises:
        ApiClientError: If it fails.
    """
    plan = CallPlan("connections()", lambda api: api.list_connections([], []))
    return client._require_session(plan.operation).connections(plan, client._options(timeout))


def on_reconnect(client: MicrogridApiClient, callback: Callable[[], None]) -> Callable[[], None]:
    """Be told when a stream that was cut has data again, and when the client connects anew.

    Args:
        client: The client.
        callback: Called in any thread; must not wait, nor take a lock.

    Returns:
        What ends it.
    """
    return client._on_reconnect.add(callback)


def keep_pace(client: MicrogridApiClient, rate: float, of_each: float = 0.0) -> None:
    """Read no more than so many messages a second; the rest waits at the server.

    For programs that follow many sites: one that floods is not to delay the others.

    Args:
        client: The client.
        rate: So many of all streams together.
        of_each: So many of each stream, if that is more.
    """
    client._pace = Pace(rate, of_each)
    session = client._session
    if session is not None:
        session.keep_pace(client._pace)


def on_set_point(client: MicrogridApiClient, callback: ToldOfSetPoint) -> Callable[[], None]:
    """Be told of each set-point that has ended, confirmed or not.

    Args:
        client: The client.
        callback: Called in any thread, with the component, what was set, its value in W or VAr, and
            why it failed; must neither wait nor raise.

    Returns:
        What ends it.
    """
    return client._on_set_point.add(callback)


def timezone_of(client: MicrogridApiClient) -> tzinfo | None:
    """Ask for the zone of a client's site; ``None`` if it is not known."""
    return client._timezone()


def reconnects(client: MicrogridApiClient, component_id: int) -> tuple[int, int] | None:
    """Tell a component's stream from earlier ones: see `Streams.reconnects`; cheap."""
    session = client._session
    return None if session is None else session.streams.reconnects(component_id)
