"""Reads what a site's gateways are to do: ``site.toml``."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from microgrid_sync.gateways.commands import CommandError, check_cap, check_current
from microgrid_sync.gateways.live_site import LONGEST_NAME, MAX_AGE, check_site_name
from microgrid_sync.gateways.register_map import WordOrder
from microgrid_sync.power.circuits import Where
from microgrid_sync.tables import (
    LARGEST_ID,
    DifferentNumbers,
    Mistakes,
    PositiveSeconds,
    ReadBy,
    SiteError,
    Text,
    did_you_mean,
    read_table,
    shown,
)
from microgrid_sync.transport.channel import parse_url

LOOPBACK = "127.0.0.1"


def _is_short(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _topic(value: object) -> str:
    topic = value.strip("/") if isinstance(value, str) else ""
    if not _is_short(topic) or set(topic) & set("+#") or topic.startswith("$"):
        raise ValueError(
            f"must be a topic of up to {LONGEST_NAME} letters without '+' and '#', that does not "
            f"begin with '$', not {shown(value)}"
        )
    return topic


def _host(value: object) -> str:
    if isinstance(value, str) and _is_short(value):
        try:
            value.encode("idna")
        except UnicodeError:
            pass
        else:
            return value
    raise ValueError(f"must be an address or a name, such as '127.0.0.1', not {shown(value)}")


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a URL such as grpc://host:9090, not {shown(value)}")  # noqa: TRY004 - as all others
    parse_url(value)
    return value


def _cap(value: object) -> float:
    try:
        return check_cap(value)
    except CommandError as error:
        raise ValueError(str(error)) from None


def _current(value: object) -> float:
    try:
        return check_current(value)
    except CommandError as error:
        raise ValueError(str(error)) from None


def _where(value: object) -> Where:
    if value == "grid":
        return "grid"
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_ID:
        return value
    raise ValueError(f"must be the ID of a meter or 'grid', not {shown(value)}")


Port = Annotated[int, Meta(ge=0, le=65535)]
_Cap = Annotated[float, ReadBy(_cap)]
_Current = Annotated[float, ReadBy(_current)]
_Where = Annotated[Where, ReadBy(_where)]
_Host = Annotated[str, ReadBy(_host)]
_Topic = Annotated[str, ReadBy(_topic)]


@dataclass(frozen=True)
class SiteTable:
    """``[site]``: the site, and how it is read."""

    url: Annotated[str, ReadBy(_url)]
    """Its URL."""

    name: Annotated[str, ReadBy(check_site_name)] | None = None
    """What it is called in topics and labels; its host and port unless given."""

    max_age: PositiveSeconds = MAX_AGE
    """How many seconds after it came a value is still valid."""

    timeout: PositiveSeconds = 10.0
    """Seconds for each call."""

    max_rate: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    """Samples a second that are read of it at the most, where it is one of several; the others wait
    at its server. Unless given two of each of its components, or its share of 1000."""


@dataclass(frozen=True)
class LimitTable:
    """``[limit]``: where a limit of the current is held, and shown."""

    where: _Where = "grid"
    """The ID of a meter, or ``"grid"``."""

    fuse: Literal["gG", "B", "C", "D", "SLS", "none"] = "none"
    """What the currents are the rating of; ``none``: they hold themselves."""

    max_current_a: _Current | None = None
    """What holds always, in A; commands can but lower it. Without it there is a limit only while
    one is commanded."""


@dataclass(frozen=True)
class ModbusTable:
    """``[modbus]``: Modbus TCP."""

    kind: ClassVar[str] = "modbus"

    host: _Host = LOOPBACK
    """The address to listen on; ``"0.0.0.0"`` for all of the machine's."""

    port: Port = 5020
    """The TCP port; 0 takes a free one. The protocol's own, 502, is usually for root alone."""

    unit_id: Annotated[int, Meta(ge=0, le=255)] = 1
    """The unit that the site is; others get exception 11."""

    word_order: WordOrder = "big"
    """Which half of a 32-bit number comes first: ``big`` the higher one, ``little`` the lower."""

    watts_per_count: Annotated[float, Meta(gt=0, le=1e6)] = 10.0
    """What 1 in a scaled power means, in W."""

    chargers: DifferentNumbers = ()
    """The IDs of the chargers in the order of their registers. Others come behind them."""

    commands: bool = False
    """Whether masters may command."""

    safe_cap_w: _Cap | None = None
    """The cap, in W, without a heartbeat; must be given where masters may command."""

    heartbeat_timeout: PositiveSeconds = 60.0
    """After how many seconds without a heartbeat it holds; the first must come within 30 s."""


@dataclass(frozen=True)
class MqttTable:
    """``[mqtt]``: an MQTT broker."""

    kind: ClassVar[str] = "mqtt"

    host: _Host = LOOPBACK
    """The broker's address or name."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Its TCP port; 1883, and 8883 with TLS, unless given."""

    prefix: _Topic = "microgrid"
    """What all topics begin with, before the site's name."""

    client_id: Text | None = None
    """Whom the broker knows this program as; made of the site's name unless given."""

    interval: PositiveSeconds = 1.0
    """Seconds between two messages of one value at the least."""

    buffer: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    """How many messages wait while the broker is away, at least one for each value; then the oldest
    are dropped."""

    keepalive: Annotated[int, Meta(ge=5, le=3600)] = 20
    """Seconds in which a connection that is dead is noticed, and the half of it."""

    user_file: Text | None = None
    """A file with the user's name."""

    password_file: Text | None = None
    """A file with the password."""

    tls: bool = False
    """Whether to encrypt."""

    ca_file: Text | None = None
    """A file with the authorities to trust, PEM; the system's unless given."""

    certificate_file: Text | None = None
    """A file with this program's certificate, PEM."""

    key_file: Text | None = None
    """A file with its key, PEM."""

    layout: Literal["values", "objects"] = "values"
    """``values``: a topic for each value; ``objects``: one for each component and total, with all
    its values in one message, which is far cheaper."""

    home_assistant: bool = False
    """Whether to send discovery messages for Home Assistant."""

    discovery_prefix: _Topic = "homeassistant"
    """What their topics begin with."""

    commands: bool = False
    """Whether who may publish on the command topics may command."""

    safe_cap_w: _Cap | None = None
    """The cap, in W, without a heartbeat; no heartbeat is awaited unless it is given."""

    heartbeat_timeout: PositiveSeconds = 60.0
    """After how many seconds without a heartbeat it holds; the first must come within 30 s."""


@dataclass(frozen=True)
class PrometheusTable:
    """``[prometheus]``: /metrics and /healthz over HTTP."""

    host: _Host = LOOPBACK
    """The address to listen on; ``"0.0.0.0"`` for all of the machine's."""

    port: Port = 9798
    """The TCP port; 0 takes a free one."""

    each_share_has_its_port: bool = False
    """Whether the second share of a list of sites has the next port, and so on: where several
    run on one machine."""


@dataclass(frozen=True)
class GatewayConfig:
    """What a site's gateways are to do; `None` for those that are not named."""

    site: SiteTable | None
    limit: LimitTable
    modbus: ModbusTable | None
    mqtt: MqttTable | None
    prometheus: PrometheusTable | None
    folder: Path
    """What the paths of files are relative to."""

    def path(self, name: str | None) -> str | None:
        """Give the path of a file that the configuration names."""
        return None if name is None else str(self.folder / Path(name).expanduser())


TABLES: dict[str, type[Any]] = {
    "site": SiteTable,
    "limit": LimitTable,
    "modbus": ModbusTable,
    "mqtt": MqttTable,
    "prometheus": PrometheusTable,
}
"""The tables of a configuration."""


def _check_modbus(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    # One that is wrong is not among the values; its own mistake is enough.
    if values.get("commands") and values.get("safe_cap_w", "wrong") is None:
        yield (
            "safe_cap_w",
            "is missing: the cap in W that holds when the masters' heartbeat stays away",
        )
    yield from _check_safe_cap(values)


def _check_mqtt(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _check_safe_cap(values)
    if not values.get("tls"):
        for name in ("ca_file", "certificate_file", "key_file"):
            if values.get(name) is not None:
                yield name, "needs 'tls = true'"
    if (values.get("certificate_file") is None) != (values.get("key_file") is None):
        yield "key_file", "is needed with certificate_file, and the other way round"
    if values.get("home_assistant") and values.get("layout") == "objects":
        yield "layout", "must be 'values' for Home Assistant"
    if values.get("password_file") is not None and values.get("user_file") is None:
        yield "user_file", "is needed with password_file"


def _check_safe_cap(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not values.get("commands") and values.get("safe_cap_w") is not None:
        yield "safe_cap_w", "needs 'commands = true': without commands nothing is capped"


_CHECKS = {"modbus": _check_modbus, "mqtt": _check_mqtt}


def read_gateways(
    values: Mapping[str, Any], where: str = "", folder: Path = Path()
) -> GatewayConfig:
    """Read a configuration that is a mapping, as of a TOML file.

    Args:
        values: The tables by name.
        where: What to call it in errors.
        folder: What the paths of files are relative to.

    Raises:
        SiteError: If something is wrong; the text has a line for each mistake.
    """
    mistakes = Mistakes()
    found: dict[str, Any] = dict.fromkeys(TABLES)
    for name, table in values.items():
        place = f"{where}: [{name}]" if where else f"[{name}]"
        if name not in TABLES:
            place = place if isinstance(table, Mapping) else f"{where}: {name}" if where else name
            known = ", ".join(f"[{one}]" for one in TABLES)
            mistakes.add(
                place, f"is unknown; known are {known}{did_you_mean(name.lower(), TABLES)}"
            )
        elif name in _CHECKS:
            found[name] = read_table(TABLES[name], table, place, mistakes, check=_CHECKS[name])
        else:
            found[name] = read_table(TABLES[name], table, place, mistakes)
    mistakes.raise_any()
    found["limit"] = found["limit"] or LimitTable()
    return GatewayConfig(**found, folder=folder)


def load_gateways(path: str | Path) -> GatewayConfig:
    """Read a configuration from a TOML file.

    Raises:
        SiteError: If something is wrong; the text has a line for each mistake.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    return read_gateways(load_toml(path), str(path), path.parent)


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        SiteError: If it is none.
        OSError: If it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError:
        raise SiteError(f"{path}: is no text in UTF-8") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise SiteError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise SiteError(f"{path}: {error}") from None
