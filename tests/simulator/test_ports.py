"""A port that stays a test's own while nobody serves on it."""

import errno
import socket
import sys

import pytest

from microgrid_sync import MicrogridApiClient
from microgrid_sync.simulator import Simulator
from microgrid_sync.simulator.serving.ports import reserved_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no ports")


def is_free(port: int) -> bool:
    """Whether somebody would be given the port who asks for any free one.

    Linux gives away what can be had without SO_REUSEADDR.
    """
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def test_nobody_is_given_a_port_that_is_kept() -> None:
    with reserved_port() as port:
        assert not is_free(port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_simulator_can_be_started_again_on_a_port_that_is_kept() -> None:
    with reserved_port() as port:
        for _ in range(3):
            with Simulator(port=port) as simulator, MicrogridApiClient(simulator.url) as client:
                assert list(client.components())
                with pytest.raises(OSError, match=f"cannot serve on 127.0.0.1:{port}"):
                    Simulator(port=port).start()
            assert not is_free(port)


def test_fixture_keeps_its_port_while_the_simulator_is_stopped(microgrid: Simulator) -> None:
    microgrid.stop()
    assert not is_free(microgrid.port)
    microgrid.start()
    with MicrogridApiClient(microgrid.url) as client:
        assert list(client.components())
