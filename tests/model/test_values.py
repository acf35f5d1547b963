"""Components, connections and places."""

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from microgrid_sync import (
    Component,
    ComponentCategory,
    ComponentMetricId,
    Connection,
    EVChargerCableState,
    EVChargerComponentState,
    EVChargerData,
    Fuse,
    GridMetadata,
    InverterType,
    Location,
    Metadata,
)
from tests.support.messages import START

ZERO = (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("component", "valid"),
    [
        (Component(1, ComponentCategory.METER), True),
        (Component(1, ComponentCategory.GRID), True),
        (Component(0, ComponentCategory.GRID), True),
        (Component(0, ComponentCategory.METER), False),
        (Component(1, ComponentCategory.NONE), False),
        (Component(0, ComponentCategory.NONE), False),
        (Component(-1, ComponentCategory.GRID), False),
    ],
)
def test_component_is_valid(component: Component, valid: bool) -> None:
    assert component.is_valid() is valid


@pytest.mark.parametrize(
    ("connection", "valid"),
    [
        (Connection(0, 1), True),
        (Connection(1, 2), True),
        (Connection(-1, 2), False),
        (Connection(1, 0), False),
        (Connection(2, 2), False),
        (Connection(0, -1), False),
    ],
)
def test_connection_is_valid(connection: Connection, valid: bool) -> None:
    assert connection.is_valid() is valid


def test_component_hashes_by_its_id_alone() -> None:
    one = Component(7, ComponentCategory.INVERTER, InverterType.SOLAR)
    other = Component(7, ComponentCategory.GRID, None, GridMetadata(Fuse(32.0)))
    assert hash(one) == hash(other) == hash(7)
    assert one != other


def test_metric_is_its_text() -> None:
    assert f"{ComponentMetricId.SOC}" == "soc"


def _charger(cable: EVChargerCableState, state: EVChargerComponentState) -> EVChargerData:
    return EVChargerData(
        1, START, 0.0, ZERO, ZERO, 0.0, ZERO, ZERO, 0.0, 0.0, 0.0, 0.0, 50.0, cable, state
    )


@pytest.mark.parametrize("cable", EVChargerCableState)
@pytest.mark.parametrize("state", EVChargerComponentState)
def test_car_is_connected(cable: EVChargerCableState, state: EVChargerComponentState) -> None:
    expected = cable.name.startswith("EV_") and state.name not in {
        "ERROR",
        "AUTHORIZATION_REJECTED",
    }
    assert _charger(cable, state).is_ev_connected() is expected


def test_location_finds_its_timezone() -> None:
    assert Location(latitude=-33.87, longitude=151.21).timezone == ZoneInfo("Australia/Sydney")


def test_location_keeps_a_given_timezone() -> None:
    zone = ZoneInfo("Asia/Tokyo")
    assert Location(latitude=52.5, longitude=13.4, timezone=zone).timezone is zone


@pytest.mark.parametrize(
    "coordinates",
    [{}, {"latitude": 1.0}, {"longitude": 1.0}],
)
def test_location_without_both_coordinates_has_no_timezone(coordinates: dict[str, Any]) -> None:
    assert Location(**coordinates).timezone is None


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(91.0, 0.0), (0.0, 181.0), (float("nan"), 0.0)]
)
def test_place_that_does_not_exist_has_no_timezone_and_is_logged(
    latitude: float, longitude: float, caplog: pytest.LogCaptureFixture
) -> None:
    assert Location(latitude=latitude, longitude=longitude).timezone is None
    assert "No timezone found" in caplog.text


def test_locations_may_be_made_in_many_threads_at_once() -> None:
    found: list[object] = []
    barrier = threading.Barrier(8)

    def look_up() -> None:
        barrier.wait(10)
        found.append(Location(latitude=48.14, longitude=11.58).timezone)

    threads = [threading.Thread(target=look_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [ZoneInfo("Europe/Berlin")] * 8


@pytest.mark.parametrize(
    "value",
    [
        Component(7, ComponentCategory.GRID, None, GridMetadata(Fuse(32.0))),
        Connection(1, 2),
        Metadata(microgrid_id=3, location=Location(latitude=1.0, longitude=2.0)),
        _charger(EVChargerCableState.EV_LOCKED, EVChargerComponentState.CHARGING),
    ],
)
def test_values_can_be_copied_and_pickled(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value


def test_import_loads_no_timezones_no_numpy_and_no_asyncio_of_its_own() -> None:
    script = (
        "import sys, grpc\n"
        "import google.protobuf.message, google.protobuf.timestamp_pb2\n"
        "before = set(sys.modules)\n"
        "import microgrid_sync\n"
        "microgrid_sync.MicrogridApiClient\n"
        "new = set(sys.modules) - before\n"
        "bad = {n for n in new if n.split('.')[0] in ('timezonefinder', 'numpy', 'asyncio', 'h3',"
        " 'click', 'rich')}\n"
        "assert 'microgrid_sync.client' in new\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_model_imports_neither_grpc_nor_protobuf() -> None:
    script = (
        "import sys, types, pathlib, importlib.util\n"
        "root = pathlib.Path(importlib.util.find_spec('microgrid_sync').origin).parent\n"
        "package = types.ModuleType('microgrid_sync')\n"
        "package.__path__ = [str(root)]\n"
        "sys.modules['microgrid_sync'] = package\n"
        "import microgrid_sync.model\n"
        "bad = {n for n in sys.modules if n == 'grpc' or n.startswith(('google.', 'frequenz.'))}\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("missing", ["numpy", "timezonefinder"])
def test_without_a_package_for_timezones_there_is_none_and_one_warning(missing: str) -> None:
    script = (
        "import sys, logging\n"
        f"sys.modules[{missing!r}] = None\n"
        "logging.basicConfig(format='%(levelname)s')\n"
        "from microgrid_sync import Location\n"
        "print(Location(latitude=52.52, longitude=13.4).timezone)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == "None\n"
    assert result.stderr == "WARNING\n"
