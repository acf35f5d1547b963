"""Turns a server's URL into a gRPC channel."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

import grpc

from microgrid_sync.model.shown import Shown
from microgrid_sync.program_end import note_use_of_grpc
from microgrid_sync.transport.certificates import read_identity, read_root_certificates
from microgrid_sync.wire import API_NAMES

LARGEST_STREAM_MESSAGE = 128 * 1024
"""Bytes: the largest honest message of a stream has some thousand. A larger one ends the stream
(RESOURCE_EXHAUSTED): decoded, it would take a hundred times as much memory."""

# A name, or an address; that of IPv6 may end with % and the name of an interface.
_HOST = r"[a-z0-9._-]+|[0-9a-f:.]+(%[a-z0-9._~-]+)?"


@dataclass(frozen=True, repr=False)
class SslOptions(Shown):
    """Whether and how the connection is encrypted."""

    enabled: bool = True
    """Whether it is."""

    # What may be a secret, or long, does not show when the options are printed.
    root_certificates: str | os.PathLike[str] | bytes | None = field(default=None, repr=False)
    """The authorities to trust, as a path to a PEM file or its bytes; ``None`` for gRPC's own."""

    private_key: str | os.PathLike[str] | bytes | None = field(default=None, repr=False)
    """The client's key, as a path to a PEM file or its bytes; needs `certificate_chain`."""

    certificate_chain: str | os.PathLike[str] | bytes | None = field(default=None, repr=False)
    """The client's certificates, as a path to a PEM file or its bytes; needs `private_key`."""


@dataclass(frozen=True, repr=False)
class KeepAliveOptions(Shown):
    """Whether and how a silent connection is checked with HTTP/2 pings."""

    enabled: bool = True
    """Whether it is."""

    timeout: timedelta = timedelta(seconds=20)
    """How long the answer to a ping may take before the connection counts as broken."""

    interval: timedelta = timedelta(seconds=60)
    """How long the connection may be silent before a ping is sent."""


@dataclass(frozen=True, repr=False)
class ChannelOptions(Shown):
    """How to connect, where the server's URL does not say it."""

    port: int = 9090
    """The TCP port."""

    ssl: SslOptions = field(default_factory=SslOptions)
    """Encryption."""

    keep_alive: KeepAliveOptions = field(default_factory=KeepAliveOptions)
    """Checks of a silent connection."""


DEFAULT_CHANNEL_OPTIONS = ChannelOptions(ssl=SslOptions(enabled=False))
"""What the client uses unless told otherwise: no encryption."""


AUTO = "auto"
"""Instead of the name of an API: find out which one the server speaks."""


class Target(NamedTuple):
    """Where and how to connect: a URL that has been read and checked."""

    host: str
    """Name or address; an IPv6 address is in brackets."""

    options: ChannelOptions
    """How to connect."""

    credentials: tuple[bytes | None, bytes | None, bytes | None]
    """Root certificates, private key and certificate chain, read from their files."""

    uses_proxy: bool
    """Whether the proxy that the environment names for the web is used for this site, too."""

    api: str
    """Which API the server speaks; `AUTO` to find it out."""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.options.port}"

    @property
    def grpc_target(self) -> str:
        """The same as gRPC takes it, which has other readings of hosts named "unix" or "dns"."""
        return f"dns:///{self.address}"


def parse_url(
    url: str, defaults: ChannelOptions = DEFAULT_CHANNEL_OPTIONS, api: str = AUTO
) -> Target:
    """Read and check a server's URL.

    Args:
        url: ``grpc://host[:port][?parameter=value...]``. The parameters are ``ssl``,
            ``ssl_root_certificates_path``, ``ssl_private_key_path``,
            ``ssl_certificate_chain_path``, ``keep_alive``, ``keep_alive_interval_s``,
            ``keep_alive_timeout_s``, ``http_proxy`` and ``api``.
        defaults: What holds where the URL is silent.
        api: Likewise, which API the server speaks.

    Returns:
        Where and how to connect.

    Raises:
        TypeError: If the URL is not a string.
        ValueError: If something in it is wrong, or a file that it names cannot be read.
    """
    if not isinstance(url, str):
        # Its type alone: bytes may hold a password.
        raise TypeError(
            f"a server's URL must be a string like grpc://host:port, not {type(url).__name__}"
        )
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError(f"white space or an unprintable character in the URL {_shown(url)}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the URL {_shown(url)} cannot be read: {error}") from None
    _refuse_foreign_parts(url, parts)
    if port == 0:
        raise ValueError(f"port 0 in the URL {_shown(url)}; a port is 1 to 65535")
    # The last one wins when one is repeated.
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    options = _apply_parameters(url, given, defaults)
    if port is not None:
        options = replace(options, port=port)
    _check_options(options)
    # urlsplit makes host names lower-case and takes the brackets off IPv6 addresses.
    hostname = parts.hostname or ""
    host = f"[{hostname}]" if ":" in hostname else hostname
    uses_proxy = _boolean("http_proxy", given.get("http_proxy", "off"))
    credentials = _read_credentials(options.ssl, given)
    return Target(host, options, credentials, uses_proxy, check_api(given.get("api", api)))


def check_api(name: str) -> str:
    """Check the name of an API.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in (AUTO, *API_NAMES):
        raise ValueError(f"api={name!r} must be {AUTO}, {', '.join(API_NAMES)}")
    return name


def site_of(url: str) -> str:
    """Give what the names of threads call the server of a URL that has been checked."""
    return urlsplit(url).netloc


def _refuse_foreign_parts(url: str, parts: SplitResult) -> None:
    if parts.scheme != "grpc":
        raise ValueError(f"scheme {parts.scheme!r} in the URL {_shown(url)}; it must be grpc://")
    if "@" in parts.netloc:
        raise ValueError(
            f"a user in the URL {_shown(url)}; gRPC knows none, leave out what is before @"
        )
    if not parts.hostname:
        raise ValueError(f"no host in the URL {_shown(url)}; it must be grpc://host:port")
    if not re.fullmatch(_HOST, parts.hostname):
        raise ValueError(
            f"host {_shown(parts.hostname)} in the URL {_shown(url)}; it must be a name or an IP"
        )
    if parts.path:
        raise ValueError(f"path {parts.path!r} in the URL {_shown(url)}; leave it out")
    if parts.fragment or "#" in url:
        raise ValueError(f"fragment {parts.fragment!r} in the URL {_shown(url)}; leave it out")


def _shown(url: str) -> str:
    """Write a URL down without what may be a secret in it: a user, a password, a key."""
    text = re.sub(r"//[^/?#]*@", "//...@", url)
    text = re.sub(r"-----BEGIN.*", "...", text, flags=re.DOTALL)
    return repr(text)


def _apply_parameters(
    url: str, given: Mapping[str, str], defaults: ChannelOptions
) -> ChannelOptions:
    """Change the defaults as the URL's parameters say."""
    ssl_changes: dict[str, Any] = {}
    keep_alive_changes: dict[str, Any] = {}
    for name, value in given.items():
        match name:
            case "ssl":
                ssl_changes["enabled"] = _boolean(name, value)
            case (
                "ssl_root_certificates_path" | "ssl_private_key_path" | "ssl_certificate_chain_path"
            ):
                ssl_changes[name.removeprefix("ssl_").removesuffix("_path")] = value
            case "http_proxy" | "api":
                # No options of a channel's: see `Target`.
                continue
            case "keep_alive":
                keep_alive_changes["enabled"] = _boolean(name, value)
            case "keep_alive_interval_s" | "keep_alive_timeout_s":
                field_name = name.removeprefix("keep_alive_").removesuffix("_s")
                keep_alive_changes[field_name] = _seconds(name, value)
            case _:
                raise ValueError(f"unknown parameter {name!r} in the URL {_shown(url)}")
    options = ChannelOptions(
        port=defaults.port,
        ssl=replace(defaults.ssl, **ssl_changes),
        keep_alive=replace(defaults.keep_alive, **keep_alive_changes),
    )
    for name, value in given.items():
        if name.startswith("ssl_") and not options.ssl.enabled:
            raise ValueError(
                f"{name}={_shown(value)} in the URL {_shown(url)} while ssl is off; add ssl=on"
            )
        if name.startswith("keep_alive_") and not options.keep_alive.enabled:
            raise ValueError(
                f"{name}={value!r} in the URL {_shown(url)} while keep_alive is off; "
                "add keep_alive=on"
            )
    return options


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("true", "1", "on"):
        return True
    if value.lower() in ("false", "0", "off"):
        return False
    raise ValueError(f"{name}={value!r} must be true, 1, on, false, 0 or off")


def _seconds(name: str, value: str) -> timedelta:
    try:
        return timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        raise ValueError(f"{name}={value!r} must be a number of seconds") from None


def _check_options(options: ChannelOptions) -> None:
    """Check what may come from the defaults as well as from a URL."""
    if not isinstance(options.port, int) or not 1 <= options.port <= 65535:
        raise ValueError(f"port {options.port!r}; a port is 1 to 65535")
    for name, value in (
        ("interval", options.keep_alive.interval),
        ("timeout", options.keep_alive.timeout),
    ):
        # gRPC counts milliseconds in 32 bits.
        if not timedelta(milliseconds=1) <= value <= timedelta(milliseconds=2**31 - 1):
            raise ValueError(
                f"keep-alive {name} of {value.total_seconds()} s; it must be 0.001 s to 24 days"
            )
    if (options.ssl.private_key is None) != (options.ssl.certificate_chain is None):
        present, absent = "private key", "certificate chain"
        if options.ssl.private_key is None:
            present, absent = absent, present
        raise ValueError(f"a {present} without a {absent}: the client's identity needs both")


def _read_credentials(
    ssl: SslOptions, given: Mapping[str, str]
) -> tuple[bytes | None, bytes | None, bytes | None]:
    if not ssl.enabled:
        return None, None, None

    def name(field_name: str) -> str:
        parameter = f"ssl_{field_name}_path"
        return parameter if parameter in given else f"ssl.{field_name}"

    root = read_root_certificates(name("root_certificates"), ssl.root_certificates)
    key, chain = read_identity(
        name("private_key"), ssl.private_key, name("certificate_chain"), ssl.certificate_chain
    )
    return root, key, chain


def open_channel(target: Target, *, for_streams: bool = False) -> grpc.Channel:
    """Make a channel; it connects when it is first used.

    Args:
        target: Where and how to connect.
        for_streams: Whether it is for streams, whose messages are small.

    Returns:
        The channel.

    Raises:
        RuntimeError: In a process forked off one that had a channel.
    """
    note_use_of_grpc()
    arguments = _channel_arguments(target.options.keep_alive)
    # A site is reached directly, whatever proxy the environment names for the web.
    arguments.append(("grpc.enable_http_proxy", int(target.uses_proxy)))
    if for_streams:
        arguments.append(("grpc.max_receive_message_length", LARGEST_STREAM_MESSAGE))
    if not target.options.ssl.enabled:
        return grpc.insecure_channel(target.grpc_target, options=arguments)
    credentials = grpc.ssl_channel_credentials(*target.credentials)
    return grpc.secure_channel(target.grpc_target, credentials, options=arguments)


def _channel_arguments(keep_alive: KeepAliveOptions) -> list[tuple[str, Any]]:
    arguments: list[tuple[str, Any]] = [
        # The thread that reads a stream drives it: a quarter of the CPU of gRPC's default.
        # (grpc.experimental.ChannelOptions names it, and costs more to import than it says.)
        ("SingleThreadedUnaryStream", 1),
        # Streams of small messages have no use for bandwidth estimates.
        ("grpc.http2.bdp_probe", 0),
        # gRPC's own back-off hides a server's return: for a minute by default. Here the strategies
        # say how often it is tried; within this time every call would fail without a try.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 200),
        # How long one attempt to connect may take: on a dead line the next packet that asks
        # for a connection comes with the next attempt, not after TCP's own growing pauses.
        ("grpc.min_reconnect_backoff_ms", 5000),
        # A connection of its own for each channel, gone when the channel is.
        ("grpc.use_local_subchannel_pool", 1),
        # A site that moves to another address, or whose name was unknown for a while, is found
        # within a second or two: by default a name is looked up every 30 s at the most.
        ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ]
    if keep_alive.enabled:
        arguments += [
            ("grpc.keepalive_time_ms", _milliseconds(keep_alive.interval)),
            ("grpc.keepalive_timeout_ms", _milliseconds(keep_alive.timeout)),
            # A check that finds another ping under way, one of the bandwidth estimate say, waits
            # for that one instead: by this time, a minute unless it is set.
            ("grpc.http2.ping_timeout_ms", _milliseconds(keep_alive.timeout)),
            # A stream may be silent for longer than two pings take.
            ("grpc.http2.max_pings_without_data", 0),
        ]
    return arguments


def _milliseconds(interval: timedelta) -> int:
    return max(1, round(interval.total_seconds() * 1000))
