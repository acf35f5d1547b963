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
receiver = client.meter_data(1, 10_000)
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


def test_receiver_that_is_read_in_a_later_cell_warns_once(notebook: Notebook) -> None:
    notebook.run(
        "import time\n"
        "from microgrid_sync import MicrogridApiClient\n"
        "from microgrid_sync.simulator import Simulator\n"
        "from microgrid_sync import receiver as module\n"
        # As if ten seconds were over each time.
        "module._LOG_INTERVAL = 0.1\n"
        "site = Simulator(sample_interval=0.05).start()\n"
        "client = MicrogridApiClient(site.url)\n"
        "receiver = client.meter_data(2, maxsize=2)\n"
    )
    output = "".join(notebook.run("time.sleep(0.5)\nvalue = receiver.receive()") for _ in range(4))
    assert output.count("nobody reads fast enough") <= 1
    assert output.count("latest() gives the one of now") == output.count("nobody reads")
    assert eventually(lambda: notebook.run("print(receiver.dropped > 10)").endswith("True\n"))
    notebook.run("client.disconnect()\nsite.stop()")


def test_live_picture_is_shown_once_and_replaced(notebook: Notebook) -> None:
    pytest.importorskip("matplotlib")
    notebook.run(
        "from microgrid_sync import MicrogridApiClient\n"
        "from microgrid_sync.simulator import Simulator\n"
        "site = Simulator(sample_interval=0.1).start()\n"
        "client = MicrogridApiClient(site.url)\n"
    )
    shown: list[tuple[str, set[str]]] = []

    def note(message: dict[str, Any]) -> None:
        kind = message["header"]["msg_type"]
        shown.append((kind, set(message["content"].get("data", {}))))

    code = "client.meter_data(2).plot(samples=15)"
    notebook.client.execute_interactive(code, timeout=60, output_hook=note)
    pictures = [kind for kind, data in shown if "image/png" in data]
    assert pictures.count("display_data") == 1
    assert "update_display_data" in pictures
    # Not a second time, as the value of the cell.
    assert "execute_result" not in pictures
    # A table shows how far it is.
    shown.clear()
    code = "client.meter_data(2).to_dataframe(samples=5)"
    notebook.client.execute_interactive(code, timeout=60, output_hook=note)
    assert ("execute_result", {"text/plain", "text/html"}) in shown
    assert any(kind == "display_data" for kind, _ in shown)
    notebook.run("client.disconnect()\nsite.stop()")
