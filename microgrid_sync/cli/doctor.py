"""Finds out what is wrong between here and a site: ``microgrid-sync doctor``."""

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from microgrid_sync.cli import options
from microgrid_sync.cli.output import console, say, write_json
from microgrid_sync.cli.site import SiteCommand, site_timeout, site_url
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.exceptions import (
    ApiClientError,
    GrpcError,
    OperationNotImplemented,
    OperationTimedOut,
    OperationUnauthenticated,
    PermissionDenied,
)
from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.model.shown import number
from microgrid_sync.notebook.columns import error_words
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.snapshot import has_data, open_all
from microgrid_sync.topology import Topology, describe
from microgrid_sync.transport.channel import Target, parse_url

_CONNECT_TIMEOUT = 5.0
"""Seconds for a connection without gRPC, which tells more of what is in its way."""

_FAR_OFF = 2.0
"""Seconds that the clock of a component may be off; what is older is late or of another clock."""

_SLOW = 0.2
"""Seconds: a round trip that takes longer slows whatever depends on the site down."""

_PROBLEM, _NOTE, _GOOD = "problem", "note", "good"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: str
    """``good``, ``note`` or ``problem``."""

    what: str
    """What was found."""

    advice: str = ""
    """What to do about it."""


@click.command(
    cls=SiteCommand, many="each", examples=("doctor grpc://127.0.0.1:8800", "doctor --json")
)
@click.option(
    "--listen",
    default=5.0,
    show_default=True,
    type=options.Finite(0.5, 3600.0),
    metavar="SECONDS",
    help="For so long components are listened to.",
)
@options.json_object
@click.pass_context
def doctor(ctx: click.Context, *, listen: float, as_json: bool) -> None:
    """Find out what is wrong between here and a site, and what to do about it.

    Is it reachable, over TLS, with which API; which components are silent, whose clocks are off,
    what is odd about its topology? Nothing is commanded. The exit code is 1 if the site cannot be
    used.
    """
    url = site_url(ctx)
    findings: list[Finding] = []
    for finding in _look(url, site_timeout(ctx), listen):
        findings.append(finding)
        if not as_json:
            _show(finding)
    usable = all(finding.level != _PROBLEM for finding in findings)
    if as_json:
        found = [{"level": f.level, "what": f.what, "advice": f.advice or None} for f in findings]
        write_json({"url": url, "is_usable": usable, "findings": found})
    elif usable:
        count = sum(finding.level == _NOTE for finding in findings)
        things = "thing" if count == 1 else "things"
        say("All is well." if not count else f"It can be used; {count} {things} to look at.")
    if not usable:
        ctx.exit(1)


def _show(finding: Finding) -> None:
    signs = {_GOOD: ("ok", "green"), _NOTE: ("note", "yellow"), _PROBLEM: ("problem", "bold red")}
    sign, style = signs[finding.level]
    console().print(Text(f"{sign:>7}  ", style=style) + Text(finding.what, style="default"))
    if finding.advice:
        say(f"         {finding.advice}")


def _look(url: str, timeout: float, listen: float) -> Iterator[Finding]:
    """Look at one thing after the other, as far as it makes sense."""
    target = parse_url(url)
    for step in (_name, _port, _encryption):
        finding = step(target)
        yield finding
        if finding.level == _PROBLEM:
            return
    with MicrogridApiClient(url, timeout=timeout) as client:
        for finding in _api(client):
            yield finding
            if finding.level == _PROBLEM:
                return
        yield from _site(client, listen)


def _address(target: Target) -> tuple[str, int]:
    return target.host.strip("[]"), target.options.port


def _name(target: Target) -> Finding:
    host, port = _address(target)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Finding(
            _PROBLEM,
            f"{host!r} is no known host: {why}",
            "Check the name; 'ping' and 'getent hosts' use the same list. An address works, too.",
        )
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    return Finding(_GOOD, f"{host} is {addresses}" if addresses != host else f"address {host}")


def _port(target: Target) -> Finding:
    address = _address(target)
    begun = time.monotonic()
    try:
        socket.create_connection(address, _CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return Finding(
            _PROBLEM,
            f"nothing listens on port {address[1]} of {address[0]}",
            "Is the server running, and is the port right? Without one in the URL it is 9090.",
        )
    except TimeoutError:
        return Finding(
            _PROBLEM,
            f"port {address[1]} of {address[0]} does not answer within {_CONNECT_TIMEOUT:g} s",
            "A firewall may drop what is sent, or the machine is off or elsewhere.",
        )
    except OSError as error:
        return Finding(
            _PROBLEM,
            f"{address[0]} cannot be reached: {error.strerror or error}",
            "Check the network between here and there, such as the route and the VPN.",
        )
    took = (time.monotonic() - begun) * 1000
    return Finding(_GOOD, f"port {address[1]} accepts connections ({took:.1f} ms)")


def _handshake(target: Target, *, verify: bool) -> str:
    """Make a TLS connection; give the protocol that both sides agree on ("" for none).

    Raises:
        ssl.SSLError: If that fails.
        OSError: Likewise.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    root = target.credentials[0]
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif root is not None:
        context.load_verify_locations(cadata=root.decode("ascii"))
    else:
        context.load_default_certs()
    host, port = _address(target)
    with (
        socket.create_connection((host, port), _CONNECT_TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return secure.selected_alpn_protocol() or ""


def _encryption(target: Target) -> Finding:
    if not target.options.ssl.enabled:
        return _no_encryption(target)
    try:
        protocol = _handshake(target, verify=True)
    except ssl.SSLCertVerificationError as error:
        return _certificate(target, error)
    except ssl.SSLError as error:
        return _no_tls(error)
    except OSError as error:
        # Also what a server says that wants a certificate and gets none (TLS 1.2).
        return Finding(
            _PROBLEM,
            f"TLS was broken off: {error.strerror or error}",
            "The server may speak no TLS (leave ?ssl=on out), or want a certificate of yours.",
        )
    if protocol != "h2":
        return Finding(
            _PROBLEM,
            "the server speaks TLS, but not HTTP/2, which gRPC needs",
            "Another service listens there, or a proxy before it does not pass gRPC on.",
        )
    return Finding(_GOOD, "TLS: the certificate is good")


def _no_encryption(target: Target) -> Finding:
    try:
        _handshake(target, verify=False)
    except (OSError, ValueError):
        return Finding(
            _GOOD, "not encrypted, as the URL says; whoever is on the way can read and command"
        )
    return Finding(
        _PROBLEM,
        "the server speaks TLS, and the URL does not",
        "Add ?ssl=on to the URL; with an authority of your own also "
        "&ssl_root_certificates_path=ca.pem.",
    )


def _certificate(target: Target, error: ssl.SSLCertVerificationError) -> Finding:
    host, _ = _address(target)
    why = error.verify_message or str(error)
    words = why.lower()
    if "expired" in words:
        advice = "Have it renewed; if it is new, check this machine's clock."
    elif "not yet valid" in words:
        advice = "Check this machine's clock, and the server's when it was made."
    elif "mismatch" in words or "not valid for" in words:
        advice = f"It is for another name than {host!r}: use its own in the URL."
    elif "self-signed" in words or "self signed" in words or "issuer" in words:
        advice = (
            "Name the authority that signed it: ssl_root_certificates_path=ca.pem; a self-signed "
            "certificate is its own."
        )
    else:
        advice = "openssl s_client -connect shows it."
    return Finding(_PROBLEM, f"the server's certificate is refused: {why}", advice)


def _no_tls(error: ssl.SSLError) -> Finding:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "wrong version" in reason or "record layer" in reason or "packet length" in reason:
        return Finding(
            _PROBLEM,
            "the server does not speak TLS, and the URL asks for it",
            "Leave ssl=on out of the URL, or switch TLS on at the server.",
        )
    if "certificate required" in reason or "handshake failure" in reason:
        return Finding(
            _PROBLEM,
            f"the server wants a certificate of this client: {reason}",
            "Give it: ssl_private_key_path=key.pem&ssl_certificate_chain_path=cert.pem.",
        )
    return Finding(_PROBLEM, f"TLS fails: {reason}", "openssl s_client -connect shows more.")


def _api(client: MicrogridApiClient) -> Iterator[Finding]:
    try:
        client.components()
        begun = time.monotonic()
        client.components()
        took = time.monotonic() - begun
    except OperationNotImplemented as error:
        yield Finding(
            _PROBLEM,
            f"a gRPC server, but none of a microgrid: {error.description}",
            "Is it the right port? A proxy may have to pass unknown paths on.",
        )
    except (PermissionDenied, OperationUnauthenticated) as error:
        yield Finding(
            _PROBLEM,
            f"the server lets nobody in without leave: {error.description}",
            "Give a certificate: ssl_private_key_path and ssl_certificate_chain_path.",
        )
    except OperationTimedOut:
        yield Finding(
            _PROBLEM,
            "the server accepts connections, and does not answer",
            "It hangs, or is overloaded; is it gRPC at all? A longer --timeout waits longer.",
        )
    except ApiClientError as error:
        details = error.grpc_error.details() if isinstance(error, GrpcError) else None
        why = (details or str(error)).rpartition(": ")[2]
        yield Finding(
            _PROBLEM,
            f"gRPC calls fail: {why}",
            "Something else than gRPC listens there: is it the right port?"
            if "HTTP/2" in why
            else "The server may want a certificate of yours; look into its log.",
        )
    else:
        yield Finding(_GOOD, f"it speaks API {client.api}")
        if took > _SLOW:
            yield Finding(
                _NOTE,
                f"an answer takes {took * 1000:.0f} ms",
                "The way is long or the server busy; limits and pools react later.",
            )
        else:
            yield Finding(_GOOD, f"an answer takes {took * 1000:.1f} ms")


def _site(client: MicrogridApiClient, listen: float) -> Iterator[Finding]:
    components = list(client.components())
    topology = Topology(components, client.connections())
    yield Finding(_GOOD, f"the site has {topology.summary()}")
    metadata = client.metadata()
    if metadata.location is None or metadata.location.timezone is None:
        yield Finding(_NOTE, "the site does not say where it is", "Times are shown in UTC.")
    for problem in topology.problems():
        yield Finding(_NOTE, problem, "Formulas and limits follow the connections: correct them.")
    if topology.fuse() is None and topology.components(ComponentCategory.GRID):
        yield Finding(
            _NOTE, "the fuse of the grid connection is not known", "'limit' needs its amperes then."
        )
    yield from _components(client, components, listen)


def _components(
    client: MicrogridApiClient, components: Sequence[Component], listen: float
) -> Iterator[Finding]:
    wanted = {c.component_id: c for c in components if has_data(c, client.api)}
    receiver = open_all(client, wanted.values(), 100)
    if receiver is None:
        yield Finding(_NOTE, "no component sends data")
        return
    offsets: dict[int, float] = {}
    errors: dict[int, str] = {}
    deadline = time.monotonic() + listen
    with receiver:
        while (left := deadline - time.monotonic()) > 0:
            try:
                value = receiver.receive(timeout=left)
            except (TimeoutError, ReceiverStoppedError):
                break
            # The least is what the clock is off; the rest is the way.
            offset = (datetime.now(UTC) - value.timestamp).total_seconds()
            offsets[value.component_id] = min(
                offset, offsets.get(value.component_id, offset), key=abs
            )
            errors[value.component_id] = _error(value)
        reasons = {s.component_id: s.last_error for s in client.stats().streams}
    silent = [c for number_, c in wanted.items() if number_ not in offsets]
    for component in silent:
        reason = reasons.get(component.component_id)
        yield Finding(
            _NOTE,
            f"{describe(component)} is silent" + (f": {reason}" if reason else ""),
            f"Nothing came within {listen:g} s: is it on, and connected to the server? A slow one "
            "is heard with a longer --listen.",
        )
    yield from _clocks(wanted, offsets)
    for component_id, error in errors.items():
        if error:
            yield Finding(
                _NOTE,
                f"{describe(wanted[component_id])} is in error: {error}",
                f"If it is over, 'microgrid-sync ack {component_id}' acknowledges it.",
            )
    if not silent:
        yield Finding(_GOOD, f"all {len(wanted)} components that send data are heard")


def _clocks(wanted: dict[int, Component], offsets: dict[int, float]) -> Iterator[Finding]:
    off = {i: offset for i, offset in offsets.items() if abs(offset) > _FAR_OFF}
    if not off:
        if offsets:
            most = max(offsets.values(), key=abs)
            yield Finding(_GOOD, f"clocks are right, within {number(abs(most), 1)} s")
        return
    advice = (
        "Let the server, its gateways and this machine set their clocks by NTP; a simulated site "
        "may have a clock of its own."
    )
    if len(off) == len(offsets) and max(off.values()) - min(off.values()) < _FAR_OFF:
        yield Finding(_NOTE, f"the clocks of all components are {_off(max(off.values()))}", advice)
        return
    for component_id, offset in off.items():
        name = describe(wanted[component_id])
        yield Finding(_NOTE, f"the clock of {name} is {_off(offset)}", advice)


def _off(offset: float) -> str:
    units = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
    unit, seconds = next(one for one in units if abs(offset) >= 2 * one[1] or one[1] == 1.0)
    direction = "behind" if offset > 0 else "ahead of"
    return f"{abs(offset) / seconds:.1f} {unit} {direction} this machine's"


def _error(value: Any) -> str:
    """Give what a component complains of; nothing if all is well."""
    errors = getattr(value, "errors", ())
    if errors:
        return "; ".join(map(error_words, errors))
    state = getattr(value, "component_state", None)
    return "it says no more" if state is not None and state.name == "ERROR" else ""


COMMANDS = {"doctor": doctor}
