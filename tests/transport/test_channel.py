"""Servers' URLs: what is understood, and what is refused in which words."""

import os
import ssl
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync import (
    DEFAULT_CHANNEL_OPTIONS,
    ChannelOptions,
    KeepAliveOptions,
    MicrogridApiClient,
    SslOptions,
)
from microgrid_sync.transport.channel import open_channel, parse_url
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("grpc://host", "host:9090"),
        ("grpc://host:1234", "host:1234"),
        ("GRPC://Host.Example:80", "host.example:80"),
        ("grpc://127.0.0.1", "127.0.0.1:9090"),
        ("grpc://[::1]", "[::1]:9090"),
        ("grpc://[2001:db8::7]:1", "[2001:db8::7]:1"),
        ("grpc://host?keep_alive=on", "host:9090"),
    ],
)
def test_address(url: str, address: str) -> None:
    assert parse_url(url).address == address


def test_port_of_the_defaults_holds_unless_the_url_has_one() -> None:
    defaults = ChannelOptions(port=7, ssl=SslOptions(enabled=False))
    assert parse_url("grpc://host", defaults).address == "host:7"
    assert parse_url("grpc://host:8", defaults).address == "host:8"


@pytest.mark.parametrize("text", ["true", "1", "on", "TRUE", "On"])
def test_true(text: str) -> None:
    assert parse_url(f"grpc://host?ssl={text}").options.ssl.enabled


@pytest.mark.parametrize("text", ["false", "0", "off", "FALSE", "Off"])
def test_false(text: str) -> None:
    assert not parse_url(f"grpc://host?keep_alive={text}").options.keep_alive.enabled


def test_parameters_change_the_defaults() -> None:
    url = "grpc://host?keep_alive_interval_s=1.5&keep_alive_timeout_s=2"
    assert parse_url(url).options == ChannelOptions(
        ssl=SslOptions(enabled=False),
        keep_alive=KeepAliveOptions(interval=timedelta(seconds=1.5), timeout=timedelta(seconds=2)),
    )
    assert parse_url("grpc://host").options == DEFAULT_CHANNEL_OPTIONS


def test_last_one_wins_when_repeated() -> None:
    assert not parse_url("grpc://host?ssl=on&ssl=off").options.ssl.enabled
    assert parse_url("grpc://host?ssl=off&ssl=on").options.ssl.enabled


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def identity(authority: trustme.CA) -> tuple[bytes, bytes]:
    certificate = authority.issue_cert("me@example.org")
    return certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()


def test_certificates_are_read(tmp_path: Path, authority: trustme.CA) -> None:
    key, chain = identity(authority)
    root = authority.cert_pem.bytes()
    for name, text in (("root", root), ("key", key), ("chain", chain)):
        (tmp_path / name).write_bytes(text)
    url = (
        f"grpc://host?ssl=on&ssl_root_certificates_path={tmp_path}/root"
        f"&ssl_private_key_path={tmp_path}/key&ssl_certificate_chain_path={tmp_path}/chain"
    )
    assert parse_url(url).credentials == (root, key, chain)


def test_certificates_may_be_bytes_or_paths_in_the_defaults(
    tmp_path: Path, authority: trustme.CA
) -> None:
    root = authority.cert_pem.bytes()
    (tmp_path / "root").write_bytes(root)
    as_path = SslOptions(root_certificates=tmp_path / "root")
    as_bytes = SslOptions(root_certificates=root)
    assert parse_url("grpc://host", ChannelOptions(ssl=as_path)).credentials[0] == root
    assert parse_url("grpc://host", ChannelOptions(ssl=as_bytes)).credentials[0] == root
    assert parse_url("grpc://host?ssl=off", ChannelOptions(ssl=as_path)).credentials[0] is None


def _der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize(
    ("which", "change", "words"),
    [
        ("root", lambda root, key, chain: b"", "empty"),
        ("root", lambda root, key, chain: b" \n", "empty"),
        ("root", lambda root, key, chain: _der(root), "DER"),
        ("root", lambda root, key, chain: b"\xef\xbb\xbf" + root, "byte-order mark"),
        ("root", lambda root, key, chain: root.decode().encode("utf-16"), "byte-order mark"),
        ("root", lambda root, key, chain: key, "no certificates in PEM form"),
        ("root", lambda root, key, chain: root[:200], "no certificates"),
        ("root", lambda root, key, chain: b"nonsense", "no certificates in PEM form"),
        ("key", lambda root, key, chain: b"", "empty"),
        ("key", lambda root, key, chain: chain, "swapped"),
        ("key", lambda root, key, chain: b"\x30\x82\x01", "DER"),
        ("key", lambda root, key, chain: key[:150], "no private key|cannot be read"),
        (
            "key",
            lambda root, key, chain: key.replace(
                b"BEGIN EC PRIVATE", b"BEGIN ENCRYPTED PRIVATE"
            ).replace(b"BEGIN PRIVATE", b"BEGIN ENCRYPTED PRIVATE"),
            "encrypted",
        ),
        ("key", lambda root, key, chain: identity(trustme.CA())[0], "does not belong"),
        ("chain", lambda root, key, chain: b"", "empty"),
        ("chain", lambda root, key, chain: key, "swapped"),
        ("chain", lambda root, key, chain: _der(chain), "DER"),
        ("chain", lambda root, key, chain: identity(trustme.CA())[1], "does not belong"),
    ],
)
def test_certificates_that_cannot_work_are_refused_by_name(  # noqa: PLR0917 - one for each column
    tmp_path: Path,
    authority: trustme.CA,
    which: str,
    change: Callable[[bytes, bytes, bytes], bytes],
    words: str,
    as_file: bool,
) -> None:
    root, (key, chain) = authority.cert_pem.bytes(), identity(authority)
    texts = {"root": root, "key": key, "chain": chain}
    texts[which] = change(root, key, chain)
    sources: dict[str, Any] = {}
    for name, text in texts.items():
        path = tmp_path / name
        path.write_bytes(text)
        sources[name] = path if as_file else text
    options = SslOptions(
        root_certificates=sources["root"],
        private_key=sources["key"],
        certificate_chain=sources["chain"],
    )
    names = {
        "root": "ssl.root_certificates", "key": "ssl.private_key", "chain": "ssl.certificate_chain",
    }  # fmt: skip
    with pytest.raises(ValueError, match=words) as raised:
        parse_url("grpc://host", ChannelOptions(ssl=options))
    said = str(raised.value)
    assert names[which] in said
    assert key.decode().splitlines()[1] not in said


@pytest.mark.parametrize("field", ["root_certificates", "private_key", "certificate_chain"])
def test_text_where_a_path_was_meant_is_never_shown(authority: trustme.CA, field: str) -> None:
    key, chain = identity(authority)
    texts: dict[str, Any] = {"private_key": key, "certificate_chain": chain}
    secret = key.decode()
    texts[field] = secret
    with pytest.raises(ValueError, match="a path or bytes are needed") as raised:
        MicrogridApiClient("grpc://host", channel_defaults=ChannelOptions(ssl=SslOptions(**texts)))
    shown = "".join(traceback.format_exception(raised.value)) + repr(SslOptions(**texts))
    assert secret.splitlines()[1] not in shown


@pytest.mark.parametrize(
    "url",
    [
        "grpc://user:secret@host",
        "grpc://user:secret@host:99999",
        "http://user:secret@host",
        "grpc://user:secret@ho st",
        b"grpc://user:secret@host",
    ],
)
def test_password_in_a_url_is_never_shown(url: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        parse_url(url)
    assert "secret" not in "".join(traceback.format_exception_only(raised.value))


def test_proxy_is_used_only_if_the_url_says_so() -> None:
    assert not parse_url("grpc://host").uses_proxy
    assert parse_url("grpc://host?http_proxy=on").uses_proxy
    with pytest.raises(ValueError, match="http_proxy='maybe'"):
        parse_url("grpc://host?http_proxy=maybe")


def test_local_site_is_reached_whatever_proxy_there_is(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with MicrogridApiClient(server.url, call_retry=None) as client:
        client.set_power(1, 1.0)
        client.meter_data(1).receive(PATIENCE)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://host", "scheme 'http'"),
        ("host:9090", "scheme 'host'"),
        ("", "scheme ''"),
        ("grpc://", "no host"),
        ("grpc://:9090", "no host"),
        ("grpc://host/", "path '/'"),
        ("grpc://host/a/b", "path '/a/b'"),
        ("grpc://host#", "fragment ''"),
        ("grpc://host#part", "fragment 'part'"),
        ("grpc://user@host", "a user"),
        ("grpc://user:secret@host", "a user"),
        ("grpc://host:0", "port 0"),
        ("grpc://host:65536", "65536"),
        ("grpc://host:-1", "-1"),
        ("grpc://host:abc", "abc"),
        ("grpc://[::1", "cannot be read"),
        ("grpc://ho st", "white space"),
        ("grpc://host\n", "white space"),
        ("grpc://h%ost!", "host 'h%ost!'"),
        ("grpc://host?tls=on", "unknown parameter 'tls'"),
        ("grpc://host?SSL=on", "unknown parameter 'SSL'"),
        ("grpc://host?ssl", "ssl=''"),
        ("grpc://host?ssl=yes", "ssl='yes'"),
        ("grpc://host?ssl=2", "ssl='2'"),
        ("grpc://host?keep_alive=maybe", "keep_alive='maybe'"),
        ("grpc://host?keep_alive_interval_s=soon", "keep_alive_interval_s='soon'"),
        ("grpc://host?keep_alive_interval_s=nan", "keep_alive_interval_s='nan'"),
        ("grpc://host?keep_alive_interval_s=inf", "keep_alive_interval_s='inf'"),
        ("grpc://host?keep_alive_interval_s=0", "keep-alive interval of 0.0 s"),
        ("grpc://host?keep_alive_timeout_s=-1", "keep-alive timeout of -1.0 s"),
        ("grpc://host?keep_alive_timeout_s=9e9", "keep-alive timeout of"),
        ("grpc://host?keep_alive=off&keep_alive_timeout_s=1", "keep_alive_timeout_s='1'"),
        ("grpc://host?ssl_root_certificates_path=/x", "ssl_root_certificates_path='/x'"),
        ("grpc://host?ssl=off&ssl_private_key_path=/x", "ssl_private_key_path='/x'"),
        ("grpc://host?ssl=on&ssl_root_certificates_path=/no/such", "/no/such"),
        ("grpc://host?ssl=on&ssl_root_certificates_path=%00", "ssl_root_certificates_path"),
        ("grpc://host?ssl=on&ssl_private_key_path=/x", "without a certificate chain"),
        ("grpc://host?ssl=on&ssl_certificate_chain_path=/x", "without a private key"),
    ],
)
def test_wrong_url_is_refused_by_name(url: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_url(url)
    assert part in str(raised.value)


@pytest.mark.parametrize("url", [None, 5, b"grpc://host"])
def test_url_that_is_no_string_is_refused(url: object) -> None:
    with pytest.raises(TypeError, match="must be a string"):
        parse_url(url)  # type: ignore[arg-type] # that is what is tested


@pytest.mark.parametrize("port", [0, 65536, "9090"])
def test_wrong_port_in_the_defaults_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port!r}"):
        parse_url("grpc://host", ChannelOptions(port=port, ssl=SslOptions(enabled=False)))


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        target = parse_url(f"grpc://{text}")
    except ValueError:
        return
    assert target.host
    assert 1 <= target.options.port <= 65535


def test_secure_channel_can_be_opened() -> None:
    target = parse_url("grpc://127.0.0.1:1?ssl=on&keep_alive=off")
    open_channel(target).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_forked_child_is_told_to_be_spawned() -> None:
    script = """
import os, sys
import microgrid_sync
client = microgrid_sync.MicrogridApiClient("grpc://127.0.0.1:1", timeout=0.2)
pid = os.fork()
if pid == 0:
    said = []
    for use in (
        client.components,
        lambda: client.meter_data(1),
        lambda: client.set_power(1, 1.0),
        lambda: microgrid_sync.MicrogridApiClient("grpc://127.0.0.1:2"),
        lambda: client.connect("grpc://127.0.0.1:2"),
    ):
        try:
            use()
        except RuntimeError as error:
            said.append("spawn" in str(error))
    client.disconnect()
    os._exit(0 if said == [True] * 5 else 1)
_, status = os.waitpid(pid, 0)
client.disconnect()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_child_forked_before_the_first_channel_works() -> None:
    script = """
import os, sys
import microgrid_sync
pid = os.fork()
if pid == 0:
    with microgrid_sync.MicrogridApiClient("grpc://127.0.0.1:1", timeout=5.0) as client:
        try:
            client.components()
        except microgrid_sync.ServiceUnavailable:
            os._exit(0)
    os._exit(1)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
