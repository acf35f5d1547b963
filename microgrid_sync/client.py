"""Makes every call of the API, blocking."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

import grpc
import tenacity

from microgrid_sync.arguments import check_component_id, check_finite, check_timeout
from microgrid_sync.deadline import Deadline
from microgrid_sync.exceptions import (
    ApiClientError,
    ClientNotConnected,
    OperationNotImplemented,
    OperationTimedOut,
    ServiceUnavailable,
)
from microgrid_sync.model import (
    BatteryData,
    Component,
    ComponentCategory,
    Connection,
    EVChargerData,
    InverterData,
    Metadata,
    MeterData,
)
from microgrid_sync.program_end import check_not_forked, interrupts_us
from microgrid_sync.receiver import RECEIVER_MAX_SIZE, Receiver, check_maxsize
from microgrid_sync.transport.calls import CallCounters, CallOptions, StartedCall
from microgrid_sync.transport.channel import (
    DEFAULT_CHANNEL_OPTIONS,
    ChannelOptions,
    parse_url,
)
from microgrid_sync.transport.reachability import ClientState
from microgrid_sync.transport.retry import DEFAULT_CALL_RETRY, LinearBackoff, Strategy
from microgrid_sync.transport.session import Session
from microgrid_sync.transport.streams import StreamStats
from microgrid_sync.wire import GENERATION, UnaryRequest

T = TypeVar("T")

_READY_SLICE = 2.0
"""Seconds for one attempt to reach a server that is waited for."""

_LEAST_WAIT = 0.2
"""Seconds for it at the least, and between two answers that say "not yet"."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientStats:
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
    ) -> None:
        """Make a client.

        Args:
            server_url: ``grpc://host[:port][?parameter=value...]``, with port 9090 unless given.
                Parameters: ``ssl``, ``ssl_root_certificates_path``, ``ssl_private_key_path``,
                ``ssl_certificate_chain_path``, ``keep_alive``, ``keep_alive_interval_s``,
                ``keep_alive_timeout_s``.
            channel_defaults: How to connect where the URL does not say it.
            connect: Whether to connect at once. Nothing is sent before the first call, so that
                a server that is down is no error here.
            retry_strategy: How streams reconnect; every 3 to 4 s without end unless given. Each
                stream gets a copy.
            timeout: Seconds for a whole unary call, its retries included.
            call_retry: When unary calls are tried again; ``None`` for a single attempt.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If the URL or the timeout is wrong.
            RuntimeError: In a process forked off one in which a client had been connected.
        """
        if not isinstance(channel_defaults, ChannelOptions):
            raise TypeError(f"channel_defaults must be ChannelOptions, not {channel_defaults!r}")
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
        # Serializes connecting: protects the URL and the session. Disconnecting needs it not.
        self._lock = threading.Lock()
        self._session: Session | None = None
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

        Raises:
            ClientNotConnected: If the client is not connected.
        """
        return self._require_session("stub").stub

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
                generation=GENERATION,
                strategy=self._strategy,
                call_options=self._options(None),
                counters=self._counters,
            )

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
                self._call(GENERATION.get_metadata(), options)
            except (ServiceUnavailable, OperationTimedOut) as error:
                if deadline.has_passed():
                    raise TimeoutError(
                        f"{self._server_url} has not answered within {timeout} s"
                    ) from error
                if isinstance(error, ServiceUnavailable):
                    # The server is there, and says that it is not ready yet.
                    time.sleep(min(_LEAST_WAIT, deadline.remaining()))
            except OperationNotImplemented:
                # An answer all the same.
                return
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
        return self._require_session("ListComponents()").components(options)

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
        request = GENERATION.list_connections(
            {check_component_id(start) for start in starts},
            {check_component_id(end) for end in ends},
        )
        options = self._options(timeout)
        return self._require_session(request.operation).connections(request, options)

    def metadata(self, *, timeout: float | None = None) -> Metadata:
        """Ask for the microgrid's number and place.

        Args:
            timeout: Seconds for the whole call; the client's unless given.

        Returns:
            The metadata; empty after an error of the API, which is logged.
        """
        options = self._options(timeout)
        try:
            return self._call(GENERATION.get_metadata(), options)
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
        session = self._require_session(f"StreamComponentData(id={component_id})")
        return session.subscribe(component_id, category, maxsize)

    # Commands

    def set_power(self, component_id: int, power_w: float, *, timeout: float | None = None) -> None:
        """Set the active power of a component.

        A newer call for the same component ends an older one that is still waiting.

        Args:
            component_id: The component: an inverter or an EV charger, usually.
            power_w: The power in W: positive charges, negative discharges, 0 stops.
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If the ID cannot be one, or the power is not finite, or too large.
            SetPointSuperseded: If a newer call has taken this one's place.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        request = GENERATION.set_power(component_id, check_finite("power_w", power_w))
        self._call(request, self._options(timeout), ("active power", component_id))

    def set_reactive_power(
        self, component_id: int, reactive_power_var: float, *, timeout: float | None = None
    ) -> None:
        """Set the reactive power of a component.

        A newer call for the same component ends an older one that is still waiting.

        Args:
            component_id: The component.
            reactive_power_var: The reactive power in VAr: negative is inductive (lagging),
                positive capacitive (leading).
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If the ID cannot be one, or the power is not finite, or too large.
            SetPointSuperseded: If a newer call has taken this one's place.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        value = check_finite("reactive_power_var", reactive_power_var)
        request = GENERATION.set_reactive_power(component_id, value)
        self._call(request, self._options(timeout), ("reactive power", component_id))

    def set_bounds(
        self, component_id: int, lower: float, upper: float, *, timeout: float | None = None
    ) -> None:
        """Narrow the active power that a component may be set to.

        The server adds these inclusion bounds to those it has, and drops them after a time of
        its own choice.

        Args:
            component_id: The component.
            lower: The lowest power in W, 0 or less.
            upper: The highest power in W, 0 or more.
            timeout: Seconds for the whole call; the client's unless given.

        Raises:
            TypeError: If an argument is not a number.
            ValueError: If the ID cannot be one, a bound is not finite or too large, the lower
                one is above 0 or the upper one below 0.
            ApiClientError: If it fails.
        """
        component_id = check_component_id(component_id)
        lower, upper = check_finite("lower", lower), check_finite("upper", upper)
        if lower > 0:
            raise ValueError(f"lower must be 0 W or less, not {lower}")
        if upper < 0:
            raise ValueError(f"upper must be 0 W or more, not {upper}")
        request = GENERATION.add_inclusion_bounds(component_id, lower, upper)
        self._call(request, self._options(timeout))

    def _call(
        self,
        request: UnaryRequest[T],
        options: CallOptions,
        order_by: tuple[str, int] | None = None,
    ) -> T:
        return self._require_session(request.operation).call(request, options, order_by)

    def _require_session(self, operation: str) -> Session:
        session = self._session
        if session is None or session.is_closed:
            raise ClientNotConnected(server_url=self._server_url, operation=operation)
        return session

    def _options(self, timeout: float | None) -> CallOptions:
        return CallOptions(
            self._timeout if timeout is None else check_timeout(timeout), self._call_retry
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
    timeout: float,
    on_done: Callable[[StartedCall], None],
) -> None:
    """Set the active power of a component without waiting for the answer.

    One attempt, in order with `MicrogridApiClient.set_power`. For loops that command many
    components at once.

    Args:
        client: The client.
        component_id: The component.
        power_w: The power in W: positive charges, negative discharges, 0 stops.
        timeout: Seconds for the answer.
        on_done: Called once when it has ended, in any thread; it must neither wait nor take a lock.

    Raises:
        ClientNotConnected: If the client is not connected; `on_done` is not called then.
    """
    request = GENERATION.set_power(component_id, check_finite("power_w", power_w))
    client._require_session(request.operation).start(
        request, timeout, order_by=("active power", component_id), on_done=on_done
    )


def subscribe_in_background(
    client: MicrogridApiClient,
    component_id: int,
    category: ComponentCategory,
    maxsize: int,
    deliver: Callable[[Receiver[Any] | Exception], None],
) -> None:
    """Receive a component's data, without waiting for anything.

    Args:
        client: The client.
        component_id: The component.
        category: What it is.
        maxsize: How many values the receiver holds.
        deliver: Called once, in any thread, with the receiver or with the reason why there is none.
    """
    try:
        session = client._require_session(f"StreamComponentData(id={component_id})")
        session.subscribe_in_background(component_id, category, maxsize, deliver)
    except (ApiClientError, RuntimeError) as error:
        deliver(error)


def reconnects(client: MicrogridApiClient, component_id: int) -> tuple[int, int] | None:
    """Tell a component's stream from earlier ones: see `Streams.reconnects`; cheap."""
    session = client._session
    return None if session is None else session.streams.reconnects(component_id)
