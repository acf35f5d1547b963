"""A notebook's kernel with open streams: interrupted, restarted and shut down as any other."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

# What Jupyter's own packages warn of is not what this is about.
pytestmark = pytest.mark.filterwarnings("ignore")

OPEN = """
from microgrid_sync import MicrogridApiClient
client = MicrogridApiClient({url!r})
receiver = client.meter_data(1)
print(receiver.receive(20).component_id)
"""


class Notebook:
    """A kernel, and a client of it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def run(self, code: str) -> str:
        """Run a cell; give what it prints, or the name of its error."""
        output: list[str] = []

        def note(message: dict[str, Any]) -> None:
            content = message["content"]
            output.append(content.get("text", "") or content.get("ename", ""))

        self.client.execute_interactive(code, timeout=PATIENCE, output_hook=note)
        return "".join(output)


@contextlib.contextmanager
def kernel() -> Iterator[Notebook]:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        client.context.destroy(linger=0)
        manager.context.destroy(linger=0)


@pytest.fixture(scope="module", autouse=True)
def first_kernel() -> None:
    """Start and stop a kernel: Jupyter keeps an event loop with its first one."""
    with kernel() as first:
        assert first.run("print(1)") == "1\n"


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    with kernel() as notebook:
        yield notebook


def test_kernel_with_open_streams_ends_by_itself(
    notebook: Notebook, server: ScriptedServer
) -> None:
    assert notebook.run(OPEN.format(url=server.url)) == "1\n"
    # As a front end asks for it; nothing is killed.
    notebook.client.shutdown()
    assert eventually(lambda: not notebook.manager.is_alive())
    assert eventually(lambda: server.count("StreamComponentData") == 1)


def test_kernel_is_restarted_with_open_streams(notebook: Notebook, server: ScriptedServer) -> None:
    for _ in range(2):
        assert notebook.run(OPEN.format(url=server.url)) == "1\n"
        notebook.manager.restart_kernel()
        notebook.client.wait_for_ready(timeout=PATIENCE)


def test_cell_that_waits_is_interrupted(notebook: Notebook, server: ScriptedServer) -> None:
    notebook.run(OPEN.format(url=server.url))
    server.stream = server.silent_stream
    request = notebook.client.execute(
        "client.set_power(1, 1.0)\nreceiver.drain()\nwhile True: receiver.receive()"
    )
    assert eventually(lambda: server.count("SetPowerActive"))
    notebook.manager.interrupt_kernel()
    reply = notebook.client._recv_reply(request, timeout=PATIENCE)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    # The kernel's output after an interruption may be late; the cell runs all the same.
    assert eventually(lambda: notebook.run("print(client.stats().calls > 0)") == "True\n")
