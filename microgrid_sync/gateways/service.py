"""Runs the gateways of a site together, as a configuration says."""

import contextlib
import importlib
import ssl
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.gateways.commands import Commands, CommandSource
from microgrid_sync.gateways.config import (
    GatewayConfig,
    ModbusTable,
    MqttTable,
    PrometheusTable,
    SiteTable,
)
from microgrid_sync.gateways.live_site import LiveSite

# Each gateway's module needs its extra, and is loaded where that gateway is wanted.
if TYPE_CHECKING:
    from microgrid_sync.gateways.modbus import ModbusGateway
    from microgrid_sync.gateways.mqtt import MqttGateway
    from microgrid_sync.gateways.prometheus import PrometheusGateway

KINDS = ("modbus", "mqtt", "prometheus")


@dataclass(frozen=True)
class RunningGateways:
    """What runs."""

    site: LiveSite
    commands: Commands
    modbus: "ModbusGateway | None"
    mqtt: "MqttGateway | None"
    prometheus: "PrometheusGateway | None"


@contextlib.contextmanager
def running_gateways(
    config: GatewayConfig, site_table: SiteTable, kinds: Collection[str]
) -> Iterator[RunningGateways]:
    """Run the gateways of a site until the block ends.

    Args:
        config: What they are to do; what it says nothing of has its defaults.
        site_table: The site.
        kinds: Which ones: of ``modbus``, ``mqtt`` and ``prometheus``.

    Raises:
        ImportError: If an extra is not installed; the text names it.
        OSError: If a port cannot be listened on, or a file cannot be read.
        ValueError: If a certificate or key is none, or the URL is wrong.
    """
    for kind in kinds:
        # What is missing is known before anything is connected.
        importlib.import_module(f"microgrid_sync.gateways.{kind}")
    mqtt_table = config.mqtt or MqttTable()
    login = _login(mqtt_table, config) if "mqtt" in kinds else _MqttLogin(None, None, None)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(MicrogridApiClient(site_table.url, timeout=site_table.timeout))
        site = stack.enter_context(
            LiveSite(client, name=site_table.name, max_age=site_table.max_age)
        )
        limit = config.limit
        commands = stack.enter_context(
            Commands(site, where=limit.where, fuse=limit.fuse, max_current_a=limit.max_current_a)
        )
        # Before the commands end: then nothing is sent any more, not even what a limit leaves free.
        stack.callback(site.close)
        modbus = mqtt = prometheus = None
        if "modbus" in kinds:
            modbus = stack.enter_context(
                _modbus(config.modbus or ModbusTable(), site, commands, config)
            )
        if "mqtt" in kinds:
            mqtt = stack.enter_context(_mqtt(mqtt_table, login, site, commands))
        if "prometheus" in kinds:
            prometheus = stack.enter_context(
                _prometheus(config.prometheus or PrometheusTable(), site, commands, modbus, mqtt)
            )
        yield RunningGateways(site, commands, modbus, mqtt, prometheus)


def _source(name: str, table: ModbusTable | MqttTable, commands: Commands) -> CommandSource | None:
    if not table.commands:
        return None
    return commands.new_source(
        name, safe_cap_w=table.safe_cap_w, heartbeat_timeout=table.heartbeat_timeout
    )


def _modbus(
    table: ModbusTable, site: LiveSite, commands: Commands, config: GatewayConfig
) -> "ModbusGateway":
    from microgrid_sync.gateways.modbus import ModbusGateway  # noqa: PLC0415 - an extra

    return ModbusGateway(
        site,
        host=table.host,
        port=table.port,
        unit_id=table.unit_id,
        word_order=table.word_order,
        watts_per_count=table.watts_per_count,
        chargers=table.chargers,
        limited=config.limit.where,
        source=_source("modbus", table, commands),
        commands=commands,
    )


class _MqttLogin(NamedTuple):
    """What is read from files: known to be wrong before anything is connected."""

    user: str | None
    password: str | None
    tls: ssl.SSLContext | None


def _login(table: MqttTable, config: GatewayConfig) -> _MqttLogin:
    return _MqttLogin(
        _line_of("user_file", config.path(table.user_file)),
        _line_of("password_file", config.path(table.password_file)),
        _tls(table, config) if table.tls else None,
    )


def _mqtt(table: MqttTable, login: _MqttLogin, site: LiveSite, commands: Commands) -> "MqttGateway":
    from microgrid_sync.gateways.mqtt import MqttGateway  # noqa: PLC0415 - an extra

    return MqttGateway(
        site,
        host=table.host,
        port=table.port or (8883 if table.tls else 1883),
        prefix=table.prefix,
        client_id=table.client_id,
        interval=table.interval,
        buffer=table.buffer,
        keepalive=table.keepalive,
        user=login.user,
        password=login.password,
        tls=login.tls,
        home_assistant=table.discovery_prefix if table.home_assistant else None,
        layout=table.layout,
        source=_source("mqtt", table, commands),
        commands=commands,
    )


def _prometheus(
    table: PrometheusTable,
    site: LiveSite,
    commands: Commands,
    modbus: "ModbusGateway | None",
    mqtt: "MqttGateway | None",
) -> "PrometheusGateway":
    from microgrid_sync.gateways.prometheus import PrometheusGateway  # noqa: PLC0415 - an extra

    return PrometheusGateway(
        site, host=table.host, port=table.port, commands=commands, modbus=modbus, mqtt=mqtt
    )


def _line_of(name: str, path: str | None) -> str | None:
    """Read a secret's only line. It is never shown."""
    if path is None:
        return None
    try:
        line = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise OSError(f"mqtt: {name}: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"mqtt: {name}: {path} is no text in UTF-8") from None
    if not line or "\n" in line:
        raise ValueError(f"mqtt: {name}: {path} must have one line with something in it")
    return line


def _tls(table: MqttTable, config: GatewayConfig) -> ssl.SSLContext:
    for name in ("ca_file", "certificate_file", "key_file"):
        path = config.path(getattr(table, name))
        if path is not None:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise OSError(f"mqtt: {name}: {path} cannot be read: {error.strerror}") from error
    try:
        context = ssl.create_default_context(cafile=config.path(table.ca_file))
        certificate = config.path(table.certificate_file)
        if certificate is not None:
            # An encrypted key asks for a password: none, instead of a question on the terminal.
            context.load_cert_chain(certificate, config.path(table.key_file), password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ValueError(
            f"mqtt: ca_file, certificate_file or key_file cannot be read as PEM: {reason}"
        ) from None
    return context
