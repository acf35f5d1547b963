"""How a program of yours is tested against a site that misbehaves."""

from collections.abc import Iterator

import pytest

from microgrid_sync import MicrogridApiClient, OperationAborted, OperationPreconditionFailed
from microgrid_sync.simulator import Fault, Simulator

pytestmark = pytest.mark.microgrid("demo", sample_interval=0.1)


@pytest.fixture
def client(microgrid: Simulator) -> Iterator[MicrogridApiClient]:
    """A client of the fixture's site; a call is tried once."""
    with MicrogridApiClient(microgrid.url, call_retry=None) as connected:
        yield connected


def test_car_draws_what_it_is_told(client: MicrogridApiClient) -> None:
    client.set_power(7, 5000.0)
    with client.ev_charger_data(7) as data:
        assert any(abs(data.receive(10.0).active_power - 5000.0) < 100.0 for _ in range(100))


def test_refused_set_point_is_an_error(microgrid: Simulator, client: MicrogridApiClient) -> None:
    microgrid.faults.add(Fault(kind="refused", components=[7], status="ABORTED"))
    with pytest.raises(OperationAborted):
        client.set_power(7, 5000.0)


@pytest.mark.microgrid(
    "depot",
    speed=0,
    faults=[{"kind": "error", "components": [101], "at": "00:02:30"}],
)
def test_charger_dies(microgrid: Simulator) -> None:
    with MicrogridApiClient(microgrid.url, call_retry=None) as client:
        client.set_power(101, 5000.0)
        microgrid.step(150)
        with pytest.raises(OperationPreconditionFailed):
            client.set_power(101, 5000.0)
