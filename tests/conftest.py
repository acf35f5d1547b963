"""What all tests share: nothing may be left behind by any of them."""

import threading
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.process import open_sockets
from tests.support.server import ScriptedServer
from tests.support.waiting import eventually

pytest_plugins = ["pytester"]

# A busy machine may take its time over an example, and over making one.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def _our_threads() -> list[str]:
    prefixes = ("microgrid-", "simulator-")
    return [t.name for t in threading.enumerate() if t.name.startswith(prefixes)]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After each test: none of our threads, no other thread more, no socket more than before."""
    threads, sockets = threading.active_count(), open_sockets()
    yield
    assert eventually(lambda: not _our_threads()), _our_threads()
    assert eventually(lambda: threading.active_count() <= threads), threading.enumerate()
    assert eventually(lambda: open_sockets() <= sockets)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server with a meter, 1."""
    with ScriptedServer() as server:
        yield server
