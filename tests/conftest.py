"""What all tests share: nothing may be left behind by any of them."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from microgrid_sync.simulator.serving.ports import reserved_port
from tests.support.process import open_sockets
from tests.support.server import ScriptedServer
from tests.support.waiting import eventually

pytest_plugins = ["pytester"]

# A busy machine may take its time over an example, and over making one.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


# A background job of a script starts with SIGINT ignored, and so would all that the tests start:
# those that are to be interrupted would go on for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _children() -> set[int]:
    """Give the processes that this one has started and that have not ended, where that is told."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(number) for number in path.read_text(encoding="ascii").split()}
    return found


def _our_threads() -> list[str]:
    prefixes = ("microgrid-", "simulator-")
    return [t.name for t in threading.enumerate() if t.name.startswith(prefixes)]


API_OF_ALL = "v1alpha18"
"""What the servers of all tests speak."""

API_OF_SOME = "v0.15"
"""What they speak besides, in those marked ``both_apis``; simulators always do, for stubs."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that are marked so with each family of the API."""
    if "api" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_apis"):
        names = (API_OF_ALL, API_OF_SOME)
        metafunc.parametrize(
            "api",
            [
                pytest.param(name, marks=pytest.mark.microgrid(api=[name, API_OF_SOME]))
                for name in names
            ],
            indirect=True,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set no limit to how long computing takes."""
    for item in items:
        if item.get_closest_marker("computes"):
            item.add_marker(pytest.mark.timeout(0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Count no lines of what only computes: that takes four times as long."""
    tracer = sys.gettrace()
    if item.get_closest_marker("computes"):
        sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def lines_of_programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the lines of programs that a test starts where commands are tested, and nowhere else.

    It makes their start three times as long.
    """
    if request.path.parent.name != "cli":
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The API that the servers of a test speak."""
    name: str = getattr(request, "param", API_OF_ALL)
    monkeypatch.setattr(ScriptedServer, "default_api", name)
    return name


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After each test: none of our threads, no other thread more, no socket more than before."""
    threads, sockets = threading.active_count(), open_sockets()
    children = _children()
    yield
    for child in _children() - children:
        # A test that has failed must not leave a process behind that holds a port, or a core.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    assert eventually(lambda: not _our_threads()), _our_threads()
    assert eventually(lambda: threading.active_count() <= threads), threading.enumerate()
    assert eventually(lambda: open_sockets() <= sockets)


@pytest.fixture
def port() -> Iterator[int]:
    """A port that stays a test's own while nobody serves on it."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server with a meter, 1."""
    with ScriptedServer() as server:
        yield server
