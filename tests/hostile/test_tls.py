"""Encrypted connections: they work, or the error says what is wrong and no secret."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import trustme

from microgrid_sync import (
    ChannelOptions,
    LinearBackoff,
    MicrogridApiClient,
    ServiceUnavailable,
    SslOptions,
)
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE


class Secrets(NamedTuple):
    """Certificates of an authority that the server has, and of a stranger's."""

    authority: trustme.CA
    stranger: trustme.CA
    folder: Path


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    return Secrets(trustme.CA(), trustme.CA(), tmp_path_factory.mktemp("certificates"))


class TlsServer(ScriptedServer):
    """A scripted server that speaks TLS."""

    def __init__(self, certificate: trustme.LeafCert, client_authority: trustme.CA | None) -> None:
        super().__init__()
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        self._credentials = grpc.ssl_server_credentials(
            [(certificate.private_key_pem.bytes(), chain)],
            root_certificates=client_authority.cert_pem.bytes() if client_authority else None,
            require_client_auth=client_authority is not None,
        )

    def start(self) -> "TlsServer":
        self.released = threading.Event()
        self._pool = futures.ThreadPoolExecutor(20)
        self._server = grpc.server(self._pool, handlers=[self])
        self.port = self._server.add_secure_port("127.0.0.1:0", self._credentials)
        self._server.start()
        return self


Serve = Callable[..., TlsServer]


@pytest.fixture
def serve(secrets: Secrets) -> Iterator[Serve]:
    running: list[TlsServer] = []

    def start(*, mutual: bool = False, **options: object) -> TlsServer:
        certificate = secrets.authority.issue_cert("127.0.0.1", **options)  # type: ignore[arg-type] # trustme's own
        server = TlsServer(certificate, secrets.authority if mutual else None)
        running.append(server.start())
        return server

    yield start
    for server in running:
        server.stop()


def client_of(
    server: ScriptedServer,
    authority: trustme.CA,
    certificate: trustme.LeafCert | None = None,
) -> MicrogridApiClient:
    ssl = SslOptions(
        enabled=True,
        root_certificates=authority.cert_pem.bytes(),
        private_key=certificate.private_key_pem.bytes() if certificate else None,
        certificate_chain=certificate.cert_chain_pems[0].bytes() if certificate else None,
    )
    return MicrogridApiClient(
        server.url,
        channel_defaults=ChannelOptions(ssl=ssl),
        call_retry=None,
        retry_strategy=LinearBackoff(interval=0.1, jitter=0.0, limit=1),
        timeout=PATIENCE,
    )


def works(client: MicrogridApiClient) -> bool:
    with client:
        client.set_power(1, 1.0)
        return client.meter_data(1).receive(PATIENCE).component_id == 1


def fails(client: MicrogridApiClient, words: str) -> None:
    with client:
        with pytest.raises(ServiceUnavailable, match=words):
            client.set_power(1, 1.0)
        with pytest.raises(ServiceUnavailable, match=words):
            client.meter_data(1)


def test_encrypted(serve: Serve, secrets: Secrets) -> None:
    assert works(client_of(serve(), secrets.authority))


def test_certificates_in_files(serve: Serve, secrets: Secrets) -> None:
    server = serve(mutual=True)
    certificate = secrets.authority.issue_cert("me@example.org")
    paths = {name: secrets.folder / name for name in ("root", "key", "chain")}
    secrets.authority.cert_pem.write_to_path(paths["root"])
    certificate.private_key_pem.write_to_path(paths["key"])
    certificate.cert_chain_pems[0].write_to_path(paths["chain"])
    url = (
        f"{server.url}&ssl=true&ssl_root_certificates_path={paths['root']}"
        f"&ssl_private_key_path={paths['key']}&ssl_certificate_chain_path={paths['chain']}"
    )
    assert works(MicrogridApiClient(url, call_retry=None))


def test_both_sides_show_a_certificate(serve: Serve, secrets: Secrets) -> None:
    server = serve(mutual=True)
    assert works(client_of(server, secrets.authority, secrets.authority.issue_cert("me@x.org")))


def test_client_without_a_certificate(serve: Serve, secrets: Secrets) -> None:
    fails(client_of(serve(mutual=True), secrets.authority), "(?i)certificate|handshake|closed")


def test_client_of_a_stranger(serve: Serve, secrets: Secrets) -> None:
    server = serve(mutual=True)
    certificate = secrets.stranger.issue_cert("me@example.org")
    fails(client_of(server, secrets.authority, certificate), "(?i)certificate|handshake|closed")


def test_server_of_a_stranger(serve: Serve, secrets: Secrets) -> None:
    fails(client_of(serve(), secrets.stranger), "(?i)certificate.verify.failed")


def test_certificate_that_has_expired(serve: Serve, secrets: Secrets) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    server = serve(not_before=yesterday - timedelta(days=9), not_after=yesterday)
    fails(client_of(server, secrets.authority), "(?i)certificate.has.expired|verify.failed")


def test_plain_text_to_a_server_that_speaks_tls(serve: Serve) -> None:
    server = serve()
    with MicrogridApiClient(server.url, call_retry=None, timeout=PATIENCE) as client:
        with pytest.raises(ServiceUnavailable) as raised:
            client.set_power(1, 1.0)
        assert server.url in str(raised.value)
        assert "ssl" in str(raised.value)


def test_tls_to_a_server_that_speaks_plain_text(server: ScriptedServer, secrets: Secrets) -> None:
    fails(client_of(server, secrets.authority), "(?i)ssl|tls|handshake|wrong.version")


def test_no_secret_is_written_anywhere(
    serve: Serve, secrets: Secrets, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    certificate = secrets.stranger.issue_cert("me@example.org")
    client = client_of(serve(mutual=True), secrets.stranger, certificate)
    written = [repr(client), repr(client.channel_defaults)]
    with client, pytest.raises(ServiceUnavailable) as raised:
        client.set_power(1, 1.0)
    written += [str(raised.value), repr(raised.value), caplog.text]
    key = certificate.private_key_pem.bytes().decode()
    for text in written:
        assert "PRIVATE KEY" not in text
        assert "BEGIN CERTIFICATE" not in text
        assert key.splitlines()[1] not in text
