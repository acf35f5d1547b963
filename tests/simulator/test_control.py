"""Trouble made over the wire."""

from collections.abc import Iterator

import grpc
import pytest

from microgrid_sync.simulator import Fault, Simulator, TroubleMaker
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.microgrid(speed=0)


@pytest.fixture
def maker(microgrid: Simulator) -> Iterator[TroubleMaker]:
    with grpc.insecure_channel(f"127.0.0.1:{microgrid.port}") as channel:
        yield TroubleMaker(channel, timeout=PATIENCE)


def test_fault_is_added_listed_and_ended(microgrid: Simulator, maker: TroubleMaker) -> None:
    table = {"kind": "late", "components": [7, 8], "at": "00:01:00", "seconds": 2.5}
    number = maker.add(table)
    second = maker.add({"kind": "silent"})
    assert maker.planned() == {number: table | {"at": 60}, second: {"kind": "silent"}}
    planned = microgrid.faults.planned()
    assert planned[number] == Fault(kind="late", components=[7, 8], at=60.0, seconds=2.5)
    maker.end(number)
    assert set(maker.planned()) == {second}
    maker.clear()
    assert maker.planned() == {}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "kind: is missing"),
        ({"kind": "silent", "components": [1.5]}, "list of whole numbers"),
        ({"kind": "silent", "components": [99]}, "there is no component 99"),
        ({"kind": "silent", "colour": "red"}, "colour: is unknown"),
    ],
)
def test_impossible_fault_is_refused(
    microgrid: Simulator, maker: TroubleMaker, table: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        maker.add(table)
    assert microgrid.faults.planned() == {}


def test_text_that_is_too_long_is_cut(maker: TroubleMaker) -> None:
    with pytest.raises(ValueError, match=r"there is no component 1001[\s\S]* \.\.\.$"):
        maker.add({"kind": "refused", "components": [*range(1001, 1401)]})


@pytest.mark.parametrize("number", [True, "1", None, 1.0])
def test_number_that_is_none_ends_nothing(
    microgrid: Simulator, maker: TroubleMaker, number: object
) -> None:
    maker.add({"kind": "silent"})
    with pytest.raises(ValueError, match="number: must be a whole number"):
        maker._call("End", {"number": number})
    assert len(microgrid.faults.planned()) == 1


def test_fault_that_is_not_there_cannot_be_ended(maker: TroubleMaker) -> None:
    with pytest.raises(ValueError, match="there is no fault 7"):
        maker.end(7)


def test_simulator_that_is_gone_is_an_error(microgrid: Simulator, maker: TroubleMaker) -> None:
    microgrid.stop()
    with pytest.raises(grpc.RpcError):
        maker.planned()
