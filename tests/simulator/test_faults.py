"""Faults: which go on when, and what they do to samples."""

import math
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
from msgspec import Meta

from microgrid_sync import MicrogridApiClient
from microgrid_sync.cli.trouble import fault_options
from microgrid_sync.simulator import Fault, FaultKind, Simulator, Site, SiteError, load_site
from microgrid_sync.simulator.physics.readings import Reading, read
from microgrid_sync.simulator.serving.v0_15_messages import encode
from microgrid_sync.simulator.trouble.fault import KINDS, Fate, field_names
from microgrid_sync.simulator.trouble.kinds import LateFault, fate_of
from microgrid_sync.simulator.trouble.plan import Plan
from microgrid_sync.wire import v0_15_schema as schema
from tests.simulator.descriptions import CHARGER, description, small_site
from tests.support.waiting import PATIENCE


class Book(Plan):
    """Faults on a clock of the test's own."""

    def __init__(self, *scheduled: Fault) -> None:
        self.now = 0.0
        self.site = small_site(CHARGER, CHARGER | {"id": 8}, CHARGER | {"id": 9})
        super().__init__(self.site.components, scheduled)
        self.advance(0.0)

    def begin(self, fault: Fault) -> int:
        number = self.add(fault, self.now)
        self.advance(self.now)
        return number

    def go_to(self, now: float) -> list[str]:
        """Go on, and name what has begun."""
        self.now = now
        return [fault.kind for fault in self.advance(now)]

    def kinds(self) -> list[str]:
        return sorted({fault.kind for fault in self.active().values()})


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
    number = faults.begin(Fault(kind="silent"))
    assert faults.kinds() == ["silent"]
    faults.go_to(1e9)
    assert faults.kinds() == ["silent"]
    faults.end(number)
    faults.go_to(1e9)
    assert faults.kinds() == []
    with pytest.raises(KeyError):
        faults.end(number)


def test_time_of_a_fault_counts_from_when_it_is_added() -> None:
    faults = Book()
    faults.now = 100.0
    faults.begin(Fault(kind="silent", at=10.0, lasts=20.0))
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
    assert faults.go_to(60.0) == []
    assert faults.kinds() == []
    assert faults.planned() == {}


def test_fault_is_about_its_components() -> None:
    faults = Book(Fault(kind="silent", components=[7, 8]), Fault(kind="nan"))
    assert [fault.kind for fault in faults.active(7).values()] == ["silent", "nan"]
    assert [fault.kind for fault in faults.active(9).values()] == ["nan"]


def test_faults_may_be_changed_from_many_threads() -> None:
    numbers: list[int] = []
    with Simulator(speed=0) as simulator:
        faults = simulator.faults

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
        assert faults.planned() == {}
        assert faults.active(FaultKind.SILENT) == {}
    assert len(set(numbers)) == 800


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "sad"}, "'sad' is none of error"),
        ({"kind": "silent", "at": -1.0}, "at: must be seconds, 0 or more"),
        ({"kind": "silent", "lasts": math.nan}, "lasts: must be seconds, 0 or more"),
        ({"kind": "late", "seconds": math.inf}, "seconds: must be seconds, 0 or more"),
        ({"kind": "late", "seconds": 1e12}, "less than ten years"),
        ({"kind": "late", "seconds": "5"}, "seconds: must be seconds, 0 or more"),
        ({"kind": "restart", "lasts": 5.0}, "'restart' has none; 'seconds' says"),
        ({"kind": "silent", "components": 7}, "components: must be a list"),
        ({"kind": "silent", "status": "INTERNAL"}, "status: a fault 'silent' has none"),
        ({"kind": "silent", "components": "7"}, "components: must be a list"),
        ({"kind": "refused", "status": "internally"}, "no gRPC status"),
        ({"kind": "silent", "component": [7]}, "component: is unknown.*did you mean 'components'"),
        ({}, "kind: is missing"),
    ],
)
def test_impossible_fault_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault(**options)


def test_fault_tells_what_was_set() -> None:
    fault = Fault(kind=FaultKind.LATE, components={8, 7}, lasts=5.0)
    assert fault.describe() == {"kind": "late", "components": [7, 8], "lasts": 5.0}
    assert fault == Fault(kind="late", components=[7, 8], lasts=5.0, seconds=30.0)
    assert pickle.loads(pickle.dumps(fault)) == fault
    assert replace(fault, lasts=6.0).lasts == 6.0
    with pytest.raises(AttributeError):
        setattr(fault, "lasts", 7.0)  # noqa: B010 - an assignment is refused by mypy already


def test_all_that_is_wrong_with_a_fault_is_told() -> None:
    with pytest.raises(ValueError, match="wrong") as caught:
        Fault(kind="late", seconds=-1, at="soon", components=[], wrong=1)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["wrong", "at", "components", "seconds"]


def test_class_of_a_kind_is_of_no_other() -> None:
    assert LateFault(kind="late", seconds=3.0) == LateFault(seconds=3.0)
    with pytest.raises(ValueError, match="a LateFault is 'late', not 'silent'"):
        LateFault(kind="silent")
    late: Any = LateFault(components=[7])
    with pytest.raises(ValueError, match="a LateFault is 'late', not 'silent'"):
        replace(late, kind="silent")


@pytest.mark.parametrize(
    ("kinds", "fate"),
    [
        ((), Fate()),
        (("delayed", "delayed"), Fate(seconds=5.0)),
        (("overridden", "rejected"), Fate(said="rejected")),
        (("lost", "refused"), Fate(refused_with="INTERNAL", is_lost=True)),
    ],
)
def test_hardest_fault_decides_on_a_set_point(kinds: tuple[str, ...], fate: Fate) -> None:
    assert fate_of({number: Fault(kind=kind) for number, kind in enumerate(kinds)}) == fate


# A new kind is one class. It is known wherever kinds are: in site files, to the command, in docs.


@pytest.fixture
def stuck() -> Iterator[type[Fault]]:
    @dataclass(frozen=True, init=False)
    class StuckFault(Fault):
        """All active power that is measured is the same."""

        kind = "stuck"

        power: Annotated[float, Meta(ge=-1e9, le=1e9)] = 0.0
        """What is measured, in W."""

        def change(self, reading: Reading) -> None:
            reading.values["data"]["ac"]["power_active"]["value"] = self.power

    field_names.cache_clear()
    yield StuckFault
    del KINDS["stuck"]
    field_names.cache_clear()


def test_new_kind_is_one_class(stuck: type[Fault]) -> None:
    values = description(CHARGER, fault=[{"kind": "stuck", "at": 1.0, "power": 1234.0}])
    with Simulator(values, speed=0) as simulator, MicrogridApiClient(simulator.url) as client:
        receiver = client.ev_charger_data(7)
        assert receiver.receive(PATIENCE).active_power == 0.0
        simulator.step(2.0)
        assert receiver.receive(PATIENCE).active_power == 1234.0
        assert [*simulator.faults.planned().values()] == [stuck(at=1.0, power=1234.0)]
    with pytest.raises(SiteError, match="power: must be from -1e\\+09 to 1e\\+09, not 10000000000"):
        load_site(description(CHARGER, fault=[{"kind": "stuck", "power": 1e10}]))
    assert "--power" in [option for parameter in fault_options() for option in parameter.opts]


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
    reading = read(site, component)
    Fault(**options).change(reading)
    return (
        schema.ComponentData.FromString(encode(read(site, component))),
        schema.ComponentData.FromString(encode(reading)),
    )


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
def test_what_is_missing_stays_missing_whatever_else_goes_wrong(turn: int) -> None:
    faults = [
        {"kind": "missing", "components": [7]},
        {"kind": "nan", "components": [7], "fields": ["data.ac.frequency.value"]},
    ]
    values = description(CHARGER, fault=faults[::turn])
    with Simulator(values, speed=0) as simulator, MicrogridApiClient(simulator.url) as client:
        raw = client.ev_charger_data(7).receive(PATIENCE).raw
    assert not raw.ListFields() or not getattr(raw, "metric_samples", ())
