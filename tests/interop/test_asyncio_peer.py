"""The published asyncio client and ours, at the same simulator.

Runs in an environment of its own, which has that client: ``tox -e interop``.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from microgrid_sync import ComponentCategory, MicrogridApiClient, Receiver
from microgrid_sync.simulator import Simulator
from tests.simulator.descriptions import NOON
from tests.support.waiting import PATIENCE

pytest.importorskip(
    "frequenz.client.microgrid",
    reason="the asyncio client is installed in the environment 'interop' only",
    exc_type=ImportError,
)

if version("frequenz-client-microgrid").startswith("0.18"):
    pytest.skip("another client, of another API", allow_module_level=True)

# After the lines above: it needs the asyncio client, as the other process does.
from tests.interop.asyncio_peer import fields

SAMPLES = 20
"""Of components that sample each second; one that does so twice as often keeps 50 in its queue."""


@pytest.fixture
def peer(microgrid: Simulator) -> "Iterator[subprocess.Popen[str]]":
    script = Path(__file__).with_name("asyncio_peer.py")
    process = subprocess.Popen(
        [sys.executable, str(script), microgrid.url, str(SAMPLES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate(timeout=PATIENCE)


def line(peer: "subprocess.Popen[str]") -> Any:
    assert peer.stdout is not None
    return json.loads(peer.stdout.readline())


@pytest.mark.parametrize(
    "site",
    [
        pytest.param(name, marks=pytest.mark.microgrid(name, speed=0, start=NOON))
        for name in ("demo", "depot", "every_category")
    ],
)
def test_both_clients_read_the_same(
    site: str, microgrid: Simulator, peer: "subprocess.Popen[str]"
) -> None:
    del site
    with MicrogridApiClient(microgrid.url) as client:
        subscribe: dict[ComponentCategory, Callable[[int, int], Receiver[Any]]] = {
            ComponentCategory.METER: client.meter_data,
            ComponentCategory.BATTERY: client.battery_data,
            ComponentCategory.INVERTER: client.inverter_data,
            ComponentCategory.EV_CHARGER: client.ev_charger_data,
        }
        components = sorted(client.components(), key=lambda c: c.component_id)
        receivers: dict[int, Receiver[Any]] = {
            c.component_id: subscribe[c.category](c.component_id, 1000)
            for c in components
            if c.category in subscribe
        }
        ours = {i: [fields(r.receive(PATIENCE))] for i, r in receivers.items()}
        listed = line(peer)
        assert listed["components"] == [
            [c.component_id, c.category.value, None if c.type is None else c.type.value]
            for c in components
        ]
        assert listed["connections"] == sorted([c.start, c.end] for c in client.connections())
        metadata = client.metadata()
        assert metadata.location is not None
        assert listed["microgrid_id"] == metadata.microgrid_id
        assert listed["latitude"] == metadata.location.latitude

        microgrid.step(SAMPLES - 1.0)
        for component_id, receiver in receivers.items():
            while len(ours[component_id]) < SAMPLES:
                ours[component_id].append(fields(receiver.receive(PATIENCE)))
    assert peer.stdin is not None
    peer.stdin.write("go on\n")
    peer.stdin.flush()
    result = line(peer)
    theirs = {int(component_id): seen for component_id, seen in result["seen"].items()}
    assert set(theirs) == set(ours)
    for component_id, samples in ours.items():
        by_time = {sample["timestamp"]: sample for sample in theirs[component_id]}
        assert len(by_time) == SAMPLES
        for sample in samples:
            assert by_time[sample["timestamp"]] == sample
    # What it has commanded is what the site does.
    chargers = [c.component_id for c in components if c.category is ComponentCategory.EV_CHARGER]
    first, last = chargers[0], chargers[-1]
    assert microgrid.change(lambda s: s.charger(first).active.set_point) == 5000.0
    assert microgrid.change(lambda s: s.charger(last).active.inclusion_bounds()[1]) == 7000.0
    assert result["refused"] == "OperationOutOfRange"
