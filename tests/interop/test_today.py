"""Today's asyncio client and today's SDK at our simulator, which speaks v1alpha18.

Runs in an environment of its own: ``tox -e interop-v1alpha18``.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from microgrid_sync import ComponentCategory, MicrogridApiClient
from microgrid_sync.simulator import Simulator
from tests.support.waiting import PATIENCE

HERE = Path(__file__).parent
CHARGER = 7


def _is_there() -> bool:
    try:
        return version("frequenz-client-microgrid").startswith("0.18")
    except PackageNotFoundError:
        return False


pytestmark = [
    pytest.mark.skipif(not _is_there(), reason="in the environment 'interop-v1alpha18' only"),
    pytest.mark.timeout(300),
]


def test_asyncio_client_lists_streams_and_commands() -> None:
    with Simulator("demo") as simulator, MicrogridApiClient(simulator.url) as client:
        result = subprocess.run(
            [sys.executable, str(HERE / "v1alpha18_peer.py"), simulator.url, str(CHARGER)],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        # At once: bounds of a client that says no lifetime soon lapse.
        limits = simulator.change(lambda site: site.charger(CHARGER))
        bounds = limits.active.inclusion_bounds()
        seen = json.loads(result.stdout.splitlines()[-1])
        assert seen["microgrid"] == client.metadata().microgrid_id
        assert {int(i) for i in seen["components"]} == {c.component_id for c in client.components()}
        connections = sorted((c.start, c.end) for c in client.connections())
        assert [tuple(pair) for pair in seen["connections"]] == connections
        assert seen["sensors"] == [s.sensor_id for s in client.sensors()]
        assert set(seen["metrics"]) == {"26", "10"}
        assert seen["metrics"]["10"] == pytest.approx(50, abs=1)
        assert {21, 22} <= set(seen["states"]) or {23, 24} <= set(seen["states"])
        assert seen["expires"]
        assert seen["bounds"]
        # What it has commanded is in force, although it hangs up after the first answer; its sign
        # of reactive power is the other one.
        assert limits.active.set_point == 5000.0
        assert limits.reactive.set_point == -100.0
        assert bounds == (0.0, 9000.0)


@pytest.fixture
def sdk() -> Iterator[Any]:
    pytest.importorskip("frequenz.sdk", reason="the SDK is not here", exc_type=ImportError)
    with Simulator("demo") as simulator:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "sdk_peer.py"), simulator.url, "9000"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        yield simulator, process
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_pool_of_the_sdk_gets_bounds_and_a_result_and_its_chargers_follow(sdk: Any) -> None:
    simulator, process = sdk
    told: list[dict[str, Any]] = []

    def said(name: str) -> Any:
        for line in process.stdout:
            told.append(json.loads(line))
            if name in told[-1]:
                return told[-1][name]
        raise AssertionError(f"it has ended after {told}")

    with MicrogridApiClient(simulator.url) as client:
        chargers = [
            c.component_id
            for c in client.components()
            if c.category is ComponentCategory.EV_CHARGER
        ]
    assert said("ids") == chargers
    assert said("upper") > 20_000
    assert said("result") == "Success"
    powers = [said("power") for _ in range(8)]
    assert powers[-1] > 1000
    assert powers[-1] <= 9000 * 1.05
    set_points = simulator.change(
        lambda site: [site.charger(number).active.set_point for number in chargers]
    )
    assert any(set_points)
