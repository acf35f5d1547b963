"""Servers' URLs: what is understood, and what is refused in which words."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgrid_sync import DEFAULT_CHANNEL_OPTIONS, ChannelOptions, KeepAliveOptions, SslOptions
from microgrid_sync.transport.channel import open_channel, parse_url


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


def test_certificates_are_read(tmp_path: Path) -> None:
    for name in ("root", "key", "chain"):
        (tmp_path / name).write_text(name)
    url = (
        f"grpc://host?ssl=on&ssl_root_certificates_path={tmp_path}/root"
        f"&ssl_private_key_path={tmp_path}/key&ssl_certificate_chain_path={tmp_path}/chain"
    )
    assert parse_url(url).credentials == (b"root", b"key", b"chain")


def test_certificates_may_be_bytes_or_paths_in_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("from a file")
    as_path = SslOptions(root_certificates=tmp_path / "root")
    as_bytes = SslOptions(root_certificates=b"as it is")
    assert parse_url("grpc://host", ChannelOptions(ssl=as_path)).credentials[0] == b"from a file"
    assert parse_url("grpc://host", ChannelOptions(ssl=as_bytes)).credentials[0] == b"as it is"
    assert parse_url("grpc://host?ssl=off", ChannelOptions(ssl=as_path)).credentials[0] is None


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
