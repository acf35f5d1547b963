"""A site for Prometheus: /metrics, and /healthz."""

import http.server
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "the gateway needs prometheus-client: pip install 'microgrid_sync[prometheus]'"
    ) from error

from microgrid_sync.client import ClientStats
from microgrid_sync.gateways.commands import Commands
from microgrid_sync.gateways.listening import Listener, Served
from microgrid_sync.gateways.live_site import Heard, LiveSite
from microgrid_sync.model.shown import words
from microgrid_sync.transport.reachability import ClientState

if TYPE_CHECKING:
    from microgrid_sync.gateways.modbus import ModbusGateway
    from microgrid_sync.gateways.mqtt import MqttGateway

_MOST_SCRAPERS = 16

_REQUEST_TIMEOUT = 10.0
"""Seconds for a request to come, and for its answer to be taken."""

_NAME = re.compile(
    r"(?P<quantity>.+?)(_phase_(?P<phase>[123]))?"
    r"_(?P<unit>w|var|va|a|v|hz|percent|wh|celsius)"
)
_PHASE = re.compile(r"(?P<quantity>.+?)_phase_(?P<phase>[123])")


class _Unit(NamedTuple):
    """How Prometheus writes a unit, and what a value is multiplied with."""

    name: str
    factor: float = 1.0


_UNITS = {
    "w": _Unit("watts"),
    "var": _Unit("vars"),
    "va": _Unit("volt_amperes"),
    "a": _Unit("amperes"),
    "v": _Unit("volts"),
    "hz": _Unit("hertz"),
    "percent": _Unit("ratio", 0.01),
    "wh": _Unit("joules", 3600.0),
    "celsius": _Unit("celsius"),
}

_STATES = {"component_state", "cable_state", "relay_state", "status"}
"""Values that are words, of which there are few."""


class PrometheusGateway(Served):
    """Serves the numbers of a site over HTTP until it is closed.

    ``/metrics`` has what is valid; ``/healthz`` answers 200 while the site is heard, else 503.
    """

    def __init__(
        self,
        site: LiveSite | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 9798,
        commands: Commands | None = None,
        modbus: "ModbusGateway | None" = None,
        mqtt: "MqttGateway | None" = None,
    ) -> None:
        """Listen for Prometheus.

        Args:
            site: What is served; ``None`` for nothing as yet, see `add`.
            host: The address to listen on.
            port: The port; 0 for any that is free.
            commands: What is shown as commanded.
            modbus: Another gateway, whose counters are served, too.
            mqtt: Likewise.

        Raises:
            OSError: If that place cannot be listened on.
        """
        # Replaced as a whole.
        self._served: tuple[_Site, ...] = ()
        self._figures: Callable[[], Iterable[Figure]] = tuple
        if site is not None:
            self.add(site, commands=commands, modbus=modbus, mqtt=mqtt)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(lambda: (self._served, self._figures())))
        super().__init__(
            Listener(host, port, _handler(self), "microgrid-prometheus", most=_MOST_SCRAPERS)
        )

    def __repr__(self) -> str:
        """Say where it listens."""
        names = ", ".join(one.site.name for one in self._served) or "nothing"
        return f"<PrometheusGateway of {names} on port {self.port}>"

    def add(
        self,
        site: LiveSite,
        *,
        commands: Commands | None = None,
        modbus: "ModbusGateway | None" = None,
        mqtt: "MqttGateway | None" = None,
    ) -> None:
        """Serve a site, too. One thread adds; see `PrometheusGateway` for the arguments."""
        self._served = (*self._served, _Site(site, commands, modbus, mqtt))

    def show(self, figures: Callable[[], Iterable["Figure"]]) -> None:
        """Serve figures of the process, too, that are of no site.

        Args:
            figures: Gives them; called at each request, in any thread.
        """
        self._figures = figures

    # In the threads of requests

    def metrics(self, accepted: str) -> tuple[bytes, str]:
        """Give the text of /metrics, and its type.

        Args:
            accepted: Which types the client can read.
        """
        try:
            encode, kind = choose_encoder(accepted)
        except ValueError:
            # A version that is none.
            encode, kind = choose_encoder("")
        return encode(self._registry), kind

    def health(self) -> tuple[bool, str]:
        """Tell whether the site, or any of several, is heard, and say more."""
        found = [_health_of(one.site) for one in self._served]
        is_heard = any(one["ok"] for one in found)
        # One site has it all at the top; of several, those that are not heard are named.
        said: dict[str, Any] = {"ok": is_heard, "sites": len(found)}
        said["not_heard"] = [one["site"] for one in found if not one["ok"]]
        if len(found) == 1:
            said = found[0]
        return is_heard, json.dumps(said) + "\n"


class Figure(NamedTuple):
    """Something that a process counts or measures of itself."""

    name: str
    text: str
    value: float
    counts: bool = False
    """Whether it never goes down."""


class _Site(NamedTuple):
    """A site that is served."""

    site: LiveSite
    commands: Commands | None
    modbus: "ModbusGateway | None"
    mqtt: "MqttGateway | None"


def _health_of(site: LiveSite) -> dict[str, Any]:
    now = time.monotonic()
    is_heard = site.is_heard(now)
    stats = site.client.stats()
    silent = [
        int(source.partition(":")[2])
        for source, heard in site.sources().items()
        if source.startswith("component:") and not heard.is_fresh(now)
    ]
    since = stats.failing_since
    return {
        "ok": is_heard,
        "site": site.name,
        "state": site.client.state.value,
        "failing_since": None if since is None else since.isoformat(timespec="seconds"),
        "silent_components": sorted(silent),
    }


class _Collector(Collector):
    """Gives what is known at the moment of a request."""

    def __init__(self, look: Callable[[], tuple[Sequence[_Site], Iterable[Figure]]]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Name no metric beforehand: which there are depends on the site."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Give all metrics."""
        families = _Families()
        now = time.monotonic()
        served, figures = self._look()
        for one in served:
            families.site = one.site.name
            _add_served(families, one, now)
        families.site = ""
        for figure in figures:
            add = families.count if figure.counts else families.gauge
            add(figure.name, figure.text, figure.value)
        return families.all()


class _Families:
    """The metrics of one answer, each with its samples."""

    def __init__(self) -> None:
        self.site = ""
        """The site that what is added is of."""

        self._found: dict[str, Metric] = {}

    def all(self) -> Iterator[Metric]:
        """Give them, in the order of their names."""
        for name in sorted(self._found):
            yield self._found[name]

    def gauge(self, name: str, text: str, value: float, **labels: str) -> None:
        """Add a value that goes up and down."""
        self._add(GaugeMetricFamily, name, text, value, labels)

    def count(self, name: str, text: str, value: float, **labels: str) -> None:
        """Add a counter."""
        self._add(CounterMetricFamily, name, text, value, labels)

    def _add(
        self,
        kind: type[GaugeMetricFamily | CounterMetricFamily],
        name: str,
        text: str,
        value: float,
        labels: dict[str, str],
    ) -> None:
        family = self._found.get(name)
        if family is None:
            # Each sample brings its labels itself: not all of a metric have the same.
            family = self._found[name] = kind(f"microgrid_{name}", text)
        suffix = "_total" if kind is CounterMetricFamily else ""
        family.add_sample(f"microgrid_{name}{suffix}", {"site": self.site, **labels}, float(value))

    def histogram(
        self,
        name: str,
        text: str,
        buckets: Iterable[tuple[float, int]],
        total: float,
        **labels: str,
    ) -> None:
        """Add a histogram."""
        family = self._found.get(name)
        if family is None:
            family = HistogramMetricFamily(f"microgrid_{name}", text, labels=["site", *labels])
            self._found[name] = family
        found = [("+Inf" if math.isinf(le) else f"{le:g}", float(n)) for le, n in buckets]
        # It has been made above, by this name.
        assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - for the type alone
        family.add_metric([self.site, *labels.values()], found, total)


def _add_served(families: _Families, served: _Site, now: float) -> None:
    site, commands, modbus, mqtt = served
    _add_site(families, site, now)
    is_up = site.client.state is ClientState.READY and site.is_heard(now)
    families.gauge("up", "1 if the site's server answers, and is heard.", is_up)
    _add_client(families, site.client.stats())
    if commands is not None:
        _add_commands(families, commands, now)
    if modbus is not None:
        families.gauge("modbus_masters", "Masters connected.", modbus.masters)
        families.count("modbus_requests", "Requests answered.", modbus.requests)
        families.count("modbus_exceptions", "Requests answered by an exception.", modbus.exceptions)
    if mqtt is not None:
        families.gauge("mqtt_connected", "1 if the broker is there.", mqtt.is_connected)
        families.gauge("mqtt_waiting_messages", "Messages that wait.", mqtt.waiting)
        families.count("mqtt_published_messages", "Messages acknowledged.", mqtt.published)
        families.count("mqtt_dropped_messages", "Messages dropped.", mqtt.dropped)


def _add_site(families: _Families, site: LiveSite, now: float) -> None:
    components = site.components
    for source, heard in site.sources().items():
        labels = {"subject": heard.subject}
        number = heard.subject.partition("/")[2]
        if heard.subject.startswith(("component/", "charger/")):
            component = components.get(int(number))
            labels["component_id"] = number
            labels["category"] = "" if component is None else words(component.category.name)
        is_fresh = heard.is_fresh(now)
        what = {"source": source, **labels}
        families.gauge("valid", "1 if the source is heard, else 0.", is_fresh, **what)
        if not math.isinf(heard.heard_at):
            families.gauge(
                "age_seconds", "Seconds since the source was heard.", heard.age(now), **what
            )
        if is_fresh:
            _add_values(families, heard, labels)


def _add_values(families: _Families, heard: Heard, labels: dict[str, str]) -> None:
    """Add what is valid: what is not is absent, so that no graph draws it on."""
    for name, value in heard.values.items():
        if value is None:
            continue
        if name in _STATES:
            families.gauge(name, f"1 for the {name.replace('_', ' ')} that holds.", 1.0,
                           state=value, **labels)  # fmt: skip
            continue
        if isinstance(value, str):
            continue
        found = _NAME.fullmatch(name) or _PHASE.fullmatch(name)
        unit = _UNITS.get(found.groupdict().get("unit", ""), _Unit("")) if found else _Unit("")
        quantity = found["quantity"] if found else name
        phase = {"phase": found["phase"]} if found and found["phase"] else {}
        # A sum of all phases and the phases have names of their own: sum() must not count twice.
        of_phase = "phase_" if phase else ""
        full = "_".join(part for part in (of_phase + quantity, unit.name) if part)
        text = f"{quantity.replace('_', ' ').capitalize()}{' of a phase' if phase else ''}."
        families.gauge(full, text, float(value) * unit.factor, **labels, **phase)


def _add_client(families: _Families, stats: ClientStats) -> None:
    families.count("calls", "Calls that have ended.", stats.calls)
    families.count("call_retries", "Attempts beyond the first ones.", stats.retries)
    families.count("call_failures", "Calls that ended by an error.", stats.failures)
    families.count("set_points_resent", "Set-points sent once more.", stats.resent)
    for method, times in sorted(stats.call_times.items()):
        families.histogram(
            "call_duration_seconds", "How long calls take, their retries included.",
            times.buckets, times.total_s, method=method,
        )  # fmt: skip
    for stream in stats.streams:
        label = {"component_id": str(stream.component_id)}
        families.gauge("stream_up", "1 if a stream has data.",
                       stream.state is ClientState.READY, **label)  # fmt: skip
        families.count("stream_messages", "Messages of a stream.", stream.messages, **label)
        families.count(
            "stream_dropped_values", "Values that readers lost.", stream.dropped, **label
        )
        families.count(
            "stream_undecodable_messages", "Messages skipped.", stream.undecodable, **label
        )
        families.count(
            "stream_reconnects", "Times it was opened again.", stream.reconnects, **label
        )


def _add_commands(families: _Families, commands: Commands, now: float) -> None:
    state = commands.state()
    if state.cap_w is not None:
        families.gauge("cap_watts", "The cap of all chargers.", state.cap_w)
    if state.max_current_a is not None:
        families.gauge("commanded_amperes", "The limit of the current.", state.max_current_a)
    families.gauge("cap_is_safe_value", "1 if a heartbeat has stayed away.", state.is_safe_value)
    families.gauge(
        "commands_failing", "1 if what is commanded is not done.", state.error is not None
    )
    for source in commands.sources:
        age = source.heartbeat_age(now)
        if not math.isinf(age):
            text = "Seconds since the last heartbeat."
            families.gauge("heartbeat_age_seconds", text, age, source=source.name)


def _handler(gateway: PrometheusGateway) -> type[http.server.BaseHTTPRequestHandler]:
    class Request(http.server.BaseHTTPRequestHandler):
        """Answers one request."""

        timeout = _REQUEST_TIMEOUT
        server_version = "microgrid_sync"
        sys_version = ""

        def do_GET(self) -> None:
            """Answer."""
            path = self.path.partition("?")[0]
            if path == "/metrics":
                body, kind = gateway.metrics(self.headers.get("Accept") or "")
                self._answer(200, body, kind)
            elif path == "/healthz":
                is_heard, text = gateway.health()
                self._answer(200 if is_heard else 503, text.encode(), "application/json")
            else:
                self._answer(404, b"there are /metrics and /healthz\n", "text/plain")

        def do_HEAD(self) -> None:
            """Answer without the text."""
            self.do_GET()

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Be quiet: Prometheus asks all day long."""

    return Request
