"""Faults: which go on when, and what they do to samples."""

import math
import threading
from typing import Any

import grpc
import pytest

from microgrid_sync.simulator import Fault, FaultKind, Faults, Site, load_site
from microgrid_sync.simulator.message_faults import apply_fault, apply_faults
from microgrid_sync.simulator.messages import data_message
from microgrid_sync.wire import v0_15_schema as schema
from tests.simulator.descriptions import CHARGER, small_site


class Book(Faults):
    """Faults on a clock of the test's own."""

    def __init__(self, *scheduled: Fault) -> None:
        self.now = 0.0
        self.changes = 0
        super().__init__(
            scheduled, check=lambda _: None, clock=lambda: self.now, changed=self._note
        )
        self.advance(0.0)

    def _note(self) -> None:
        self.changes += 1
        self.advance(self.now)

    def go_to(self, now: float) -> list[str]:
        """Go on, and name what has begun."""
        self.now = now
        return [str(fault.kind) for fault in self.advance(now)]

    def kinds(self) -> list[str]:
        return sorted(kind for kind in FaultKind if self.active(kind))


def test_fault_begins_and_ends_by_the_clock() -> None:
    faults = Book(Fault(kind="silent", at=10.0, lasts=5.0))
    assert faults.kinds() == []
    assert faults.next_change() == 10.0
    assert faults.go_to(9.9) == []
    assert faults.go_to(10.0) == ["silent"]
    assert faults.kinds() == ["silent"]
    assert faults.next_change() == 15.0
    assert faults.go_to(15.0) == []
    assert faults.kinds() == []
    assert faults.next_change() == math.inf
    assert faults.planned() == {}


def test_fault_without_an_end_goes_on_until_it_is_ended() -> None:
    faults = Book()
    number = faults.add(Fault(kind="silent"))
    assert faults.kinds() == ["silent"]
    faults.go_to(1e9)
    assert faults.kinds() == ["silent"]
    faults.end(number)
    assert faults.kinds() == []
    with pytest.raises(KeyError):
        faults.end(number)


def test_time_of_a_fault_counts_from_when_it_is_added() -> None:
    faults = Book()
    faults.now = 100.0
    faults.add(Fault(kind="silent", at=10.0, lasts=20.0))
    assert faults.next_change() == 110.0
    faults.go_to(129.0)
    assert faults.kinds() == ["silent"]
    faults.go_to(130.0)
    assert faults.kinds() == []


def test_event_begins_once() -> None:
    faults = Book(Fault(kind="restart", at=5.0), Fault(kind="stream-end", at=5.0, lasts=3.0))
    assert faults.go_to(5.0) == ["restart", "stream-end"]
    assert faults.kinds() == ["stream-end"]
    assert faults.go_to(8.0) == []
    assert faults.kinds() == []


def test_clear_ends_and_drops_everything() -> None:
    faults = Book(Fault(kind="silent"), Fault(kind="lost", at=50.0))
    assert faults.kinds() == ["silent"]
    faults.clear()
    assert faults.kinds() == []
    assert faults.go_to(60.0) == []
    assert faults.planned() == {}


def test_fault_is_about_its_components() -> None:
    faults = Book(Fault(kind="silent", components=[7, 8]), Fault(kind="nan"))
    assert len(faults.active(FaultKind.SILENT, 7)) == 1
    assert faults.active(FaultKind.SILENT, 9) == {}
    assert [fault.kind for fault in faults.concerning(9)] == ["nan"]


def test_owner_hears_of_every_change() -> None:
    faults = Book()
    number = faults.add(Fault(kind="silent"))
    faults.end(number)
    faults.clear()
    assert faults.changes == 3


def test_faults_may_be_changed_from_many_threads() -> None:
    faults = Book()
    numbers: list[int] = []

    def work() -> None:
        for _ in range(200):
            number = faults.add(Fault(kind="silent", components=[7]))
            numbers.append(number)
            faults.active(FaultKind.SILENT, 7)
            faults.end(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(numbers)) == 800
    assert faults.planned() == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "sad"}, "'sad' is none of error"),
        ({"kind": "silent", "at": -1.0}, "at: must be 0 or more seconds"),
        ({"kind": "silent", "lasts": math.nan}, "lasts: must be 0 or more"),
        ({"kind": "late", "seconds": math.inf}, "seconds: must be 0 or more"),
        ({"kind": "late", "seconds": 1e12}, "less than ten years"),
        ({"kind": "late", "seconds": "5"}, "seconds: must be 0 or more"),
        ({"kind": "restart", "lasts": 5.0}, "'restart' has none; 'seconds' says"),
        ({"kind": "silent", "components": 7}, "components: must be a list"),
        ({"kind": "silent", "status": "INTERNAL"}, "status: a fault 'silent' has none"),
        ({"kind": "silent", "components": "7"}, "components: must be a list"),
        ({"kind": "refused", "status": "internal"}, "no gRPC status"),
    ],
)
def test_impossible_fault_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault(**options)


def test_fault_tells_what_was_set() -> None:
    fault = Fault(kind=FaultKind.LATE, components={8, 7}, lasts=5.0)
    assert fault.describe() == {"kind": "late", "components": [7, 8], "lasts": 5.0}
    assert fault.delay == 30.0
    assert Fault(kind="refused").status_code is grpc.StatusCode.INTERNAL
    assert Fault(kind="stream-end").status_code is grpc.StatusCode.OK


# Samples


@pytest.fixture
def site() -> Site:
    site = small_site(CHARGER, car=[{"chargers": [7], "ramp": 1e6}])
    site.advance(60.0)
    return site


def before_and_after(
    site: Site, component_id: int = 7, **options: Any
) -> tuple[schema.ComponentData, schema.ComponentData]:
    """A sample before and after."""
    component = site.components[component_id]
    message = data_message(site, component)
    before = schema.ComponentData()
    before.CopyFrom(message)
    apply_fault(message, component, Fault(**options))
    return before, message


def test_late_timestamps(site: Site) -> None:
    before, after = before_and_after(site, kind="late", seconds=12.5)
    assert before.ts.ToNanoseconds() - after.ts.ToNanoseconds() == 12_500_000_000
    assert after.ev_charger == before.ev_charger


def test_unknown_and_wrong_states(site: Site) -> None:
    before, after = before_and_after(site, kind="wrong-enum")
    assert before.ev_charger.state.component_state == 4
    assert after.ev_charger.state.component_state == 99
    _, after = before_and_after(site, kind="wrong-enum", number=8, fields=["state.cable_state"])
    assert (after.ev_charger.state.component_state, after.ev_charger.state.cable_state) == (4, 8)


def test_missing_fields(site: Site) -> None:
    before, after = before_and_after(site, kind="missing")
    assert before.ev_charger.HasField("data")
    assert not after.ev_charger.HasField("data")
    _, after = before_and_after(
        site, kind="missing", fields=["data.ac.power_active", "state.component_state"]
    )
    assert not after.ev_charger.data.ac.HasField("power_active")
    assert after.ev_charger.data.ac.HasField("phase_1")
    assert after.ev_charger.state.component_state == 0


def test_numbers_that_are_none(site: Site) -> None:
    before, after = before_and_after(site, kind="nan", fields=["data.ac.power_active.value"])
    ac = after.ev_charger.data.ac
    assert math.isnan(ac.power_active.value)
    assert ac.phase_1 == before.ev_charger.data.ac.phase_1
    _, after = before_and_after(site, kind="nan")
    ac = after.ev_charger.data.ac
    assert math.isnan(ac.power_active.value)
    assert math.isnan(ac.phase_3.voltage.value)
    assert math.isnan(ac.power_active.system_inclusion_bounds.upper)
    assert not ac.HasField("power_apparent")
    assert after.ev_charger.state == before.ev_charger.state


def test_sensors_can_be_spoilt_too() -> None:
    _, after = before_and_after(load_site("every_category"), 101, kind="nan")
    assert math.isnan(after.sensor.data.sensor_data[0].value)


@pytest.mark.parametrize("kind", ["silent", "refused", "restart"])
def test_other_faults_leave_samples_alone(site: Site, kind: str) -> None:
    before, after = before_and_after(site, kind=kind)
    assert after == before


@pytest.mark.parametrize("turn", [1, -1])
def test_what_is_missing_stays_missing_whatever_else_goes_wrong(site: Site, turn: int) -> None:
    faults = [
        Fault(kind="missing", components=[7]),
        Fault(kind="nan", components=[7], fields=["data.ac.frequency.value"]),
    ]
    message = data_message(site, site.components[7])
    apply_faults(message, site.components[7], faults[::turn])
    assert not message.ev_charger.HasField("data")
