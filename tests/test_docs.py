"""What the pages say is so: their commands run, their messages are those of the package."""

import contextlib
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click.testing
import grpc
import pytest

import microgrid_sync
from microgrid_sync import ApiClientError, GrpcError
from microgrid_sync.cli import cli
from microgrid_sync.transport.channel import parse_url
from tests.support.waiting import PATIENCE, eventually
from tests.test_exceptions import RpcError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.rst"))
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}

ENDLESS = ("simulate", "watch", "pool cap", "limit", "record day.csv")
"""What goes on until Ctrl-C, or for a day."""

FOREIGN = {
    "Connection refused", "Name or service not known", "DNS resolution failed",
    "Failed parsing HTTP/2", "WRONG_VERSION_NUMBER", "CERTIFICATE_VERIFY_FAILED",
    "unable to get local issuer certificate", "certificate has expired", "Hostname mismatch",
    "IP address mismatch",
}  # fmt: skip
"""Messages of the operating system, of gRPC and of OpenSSL."""


def console_lines(page: Path) -> list[str]:
    """The commands of a page."""
    blocks = re.findall(r"\.\. code-block:: console\n\n((?:   .*\n|\n)+)", TEXT[page])
    return [line[5:] for block in blocks for line in block.splitlines() if line[3:5] == "$ "]


COMMANDS = sorted(
    {
        line
        for page in PAGES
        for line in console_lines(page)
        if not line.startswith(("openssl", "printf", "export"))
    }
)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "microgrid_sync", "simulate", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate(timeout=PATIENCE)


def test_there_are_commands_to_try() -> None:
    assert len(COMMANDS) > 15
    assert all(line.startswith("microgrid-sync ") for line in COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_command_of_a_page_runs(
    line: str, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROGRID_URL", site)
    monkeypatch.chdir(tmp_path)
    command = line.replace("grpc://127.0.0.1:8800", site)
    words = command.removeprefix("microgrid-sync ")
    if words.startswith(ENDLESS):
        free = " --port 0" if words.startswith("simulate") else ""
        said = tmp_path / "said.txt"
        with said.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "microgrid_sync", *shlex.split(words + free)],
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        # It says something as soon as it has begun; what records makes a file or a folder.
        assert eventually(lambda: said.stat().st_size or len([*tmp_path.iterdir()]) > 1)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        output = said.read_text()
        assert process.returncode in ({0, 1, 130} if words.startswith("record") else {0}), output
        assert "Traceback" not in output
        return
    if words == "trouble end 1":
        # Another worker's site may have got the one that the line before adds.
        click.testing.CliRunner().invoke(cli, ["trouble", "add", "silent"])
    if set(command) & set("|>"):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], env={**os.environ, "PATH": path},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return
    outcome = click.testing.CliRunner().invoke(cli, shlex.split(words))
    assert outcome.exit_code == 0, outcome.output


def test_certificates_of_the_page_work(tmp_path: Path) -> None:
    page = DOCS / "howto" / "certificates.rst"
    script = "set -e\n" + "\n".join(console_lines(page))
    subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server.load_verify_locations(tmp_path / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found: list[object] = []

        def answer() -> None:
            plain, _ = listening.accept()
            with plain, server.wrap_socket(plain, server_side=True) as secure:
                found.append(secure.getpeercert())
                secure.sendall(b"x")

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            socket.create_connection(listening.getsockname()) as plain,
            client.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            assert secure.recv(1) == b"x"
        thread.join(PATIENCE)
    assert "control room" in str(found)
    # The URL that the page gives is read with them.
    (url,) = re.findall(r"    (grpc://127\.0\.0\.1:9090\?ssl=on\n(?: +&.*\n)+)", TEXT[page])
    with contextlib.chdir(tmp_path):
        assert parse_url("".join(url.split())).credentials[0] is not None


def test_python_of_the_pages_is_tested_by_their_build() -> None:
    for page, text in TEXT.items():
        assert "code-block:: python" not in text, page
        for included in re.findall(r"literalinclude:: (\S+)", text):
            path = (page.parent / included).resolve()
            assert ROOT / "examples" in path.parents
            assert path.exists()


def test_errors_are_explained_and_told_right() -> None:
    text = TEXT[DOCS / "errors.rst"]
    rows = re.findall(r"\* - (.+)\n     - `*(\w+)`*.*\n     - (yes|no|--)\n", text)
    told = {name: (status.strip("`"), retried) for status, name, retried in rows}
    for name in microgrid_sync.__all__:
        kind = getattr(microgrid_sync, name)
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            continue
        if name not in {"ApiClientError", "GrpcError"}:
            assert name in told, name
        if not issubclass(kind, GrpcError) or kind is GrpcError:
            continue
        status, retried = told[name]
        if status in grpc.StatusCode.__members__:
            code = grpc.StatusCode[status]
            error = ApiClientError.from_grpc_error(
                server_url="", operation="", grpc_error=RpcError(code)
            )
            assert type(error) is kind
            assert error.is_retryable == (retried == "yes"), name


def test_messages_are_those_of_the_package() -> None:
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "microgrid_sync").rglob("*.py")
    )
    # As Python joins strings that stand beside each other.
    joined = re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*f?"', "", source))
    text = TEXT[DOCS / "troubleshooting.rst"]
    cells = re.findall(r"\* - (``.+)\n", text)
    messages = [m for cell in cells for m in re.findall(r"``(.+?)``", cell)]
    assert len(messages) > 30
    for message in messages:
        if message in FOREIGN:
            continue
        # What stands in for a value is left open.
        pattern = re.escape(message).replace("'http'", ".+").replace("click\\ and\\ rich", ".+")
        assert re.search(pattern, joined), message


@pytest.mark.parametrize(
    "word",
    [
        "migration", "asyncio", "csv", "jupyter", "pandas", "systemd", "sigterm", "health",
        "prometheus", "modbus", "callback", "troubleshooting", "certificate", "windows",
    ],
)  # fmt: skip
def test_word_that_newcomers_look_for_is_found(word: str) -> None:
    pages = [page for page, text in TEXT.items() if re.search(rf"(?i)\b{word}", text)]
    # On a page of its own, or in a heading: that is what a search shows first.
    titles = re.findall(r"(?m)^(.+)\n[=\-]{4,}$", "\n".join(TEXT.values()))
    in_title = any(re.search(rf"(?i)\b{word}", title) for title in titles)
    assert pages
    assert in_title or len(pages) >= 2
