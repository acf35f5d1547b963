"""Tests the shipped house: loads that jump, rotated wallboxes, slow cars, and a fuse that blows."""

import itertools
import math
from typing import Any

import pytest

from microgrid_sync import MicrogridApiClient
from microgrid_sync.simulator import Car, Fault, Simulator, SiteError, load_site
from microgrid_sync.simulator.physics.fuses import PhaseFuse, melting_time


def site_with(*components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "component": [
            {"id": 1, "category": "grid", "fuse": 35.0, "fuse_type": "gG"},
            {"id": 2, "category": "meter"},
            {"id": 3, "category": "meter", "load": "constant", "load_power": 100.0},
            *components,
        ],
        "connections": [[1, 2], [2, 3], *([2, component["id"]] for component in components)],
        "supply": {"resistance": 0.0},
        **more,
    }


CHARGER = {"id": 5, "category": "ev_charger"}


# Fuses


def test_melting_times_are_those_of_the_library_and_grow_beyond_limits_at_what_is_held() -> None:
    assert melting_time(63.0, 1.6) == pytest.approx(3830.0)
    assert melting_time(63.0, 5.0) == pytest.approx(7.6)
    assert melting_time(63.0, 20.0) == pytest.approx(0.29 / 4)
    assert melting_time(63.0, 1.25) == math.inf
    assert melting_time(63.0, 1.26) > 100_000
    # Between 25 and 50 A, and between 2 and 3 times the rating.
    assert 1000.0 < melting_time(35.0, 2.0) < 1760.0
    assert melting_time(35.0, 3.0) < melting_time(35.0, 2.5) < melting_time(35.0, 2.0)


def test_fuse_blows_after_its_time_and_not_within_the_gate() -> None:
    fuse = PhaseFuse(63.0, "gG", 1, "x")
    seconds = 0
    while not fuse.is_blown:
        fuse.carry(63.0 * 2, 1.0)
        seconds += 1
    # Fuses scatter by a tenth in current.
    assert 600 < seconds < 2200
    fuse = PhaseFuse(63.0, "gG", 1, "x")
    for _ in range(9):
        fuse.carry(159.0, 1.0)
    assert not fuse.is_blown
    rested = PhaseFuse(63.0, "gG", 1, "x")
    for _ in range(20):
        for _ in range(300):
            rested.carry(63.0 * 2, 1.0)
        for _ in range(3600):
            rested.carry(30.0, 1.0)
    assert not rested.is_blown


@pytest.mark.parametrize(("kind", "multiple"), [("B", 5.0), ("C", 10.0), ("D", 20.0)])
def test_breaker_trips_at_once_at_its_multiple_and_holds_what_it_must(
    kind: str, multiple: float
) -> None:
    breaker = PhaseFuse(16.0, kind, 1)
    for _ in range(7200):
        breaker.carry(16.0 * 1.13, 1.0)
    assert not breaker.is_blown
    breaker.carry(16.0 * multiple, 0.01)
    assert breaker.is_blown
    slow = PhaseFuse(16.0, kind, 1)
    for _ in range(3600):
        slow.carry(16.0 * 1.45, 1.0)
    assert slow.is_blown


def test_blown_fuse_leaves_all_behind_it_dark_until_it_is_replaced() -> None:
    site = load_site(site_with(CHARGER))
    site.charger(5).plug_in(Car(power=60_000.0, capacity=1e6, cable_current=100.0))
    site.charger(5).rated_current = 100.0
    site.charger(5).active.upper = 60_000.0
    for _ in range(20):
        site.advance(1.0)
    assert site.flows[1].power > 50_000
    for _ in range(7200):
        site.advance(1.0)
        if site.is_dark:
            break
    assert site.is_dark
    assert site.line.voltage == (0.0, 0.0, 0.0)
    assert {flow.power for flow in site.flows.values()} == {0.0}
    site.charger(5).unplug()
    site.replace_fuses([])
    site.advance(1.0)
    assert site.flows[1].power == pytest.approx(100.0, rel=0.2)


def test_fuse_without_a_type_never_blows_and_other_words_are_refused() -> None:
    site = site_with(CHARGER)
    del site["component"][0]["fuse_type"]
    assert not load_site(site).fuses
    site["component"][0]["fuse_type"] = "slow"
    with pytest.raises(SiteError, match="fuse_type: 'slow' is none of"):
        load_site(site)


# Loads that jump


def appliance(**more: Any) -> dict[str, Any]:
    return {"at": 3, "power": 2000.0, "phases": [2], "times": 24.0, "lasts": 300.0, **more}


@pytest.mark.computes
def test_appliance_is_switched_on_as_often_and_as_long_as_it_says_on_its_phase() -> None:
    site = load_site(site_with(appliance=[appliance()]), seed=3)
    on = []
    for _ in range(4 * 86_400 // 10):
        site.advance(10.0)
        on.append(site.flows[3].active[1] > 1500.0)
        assert site.flows[3].active[0] < 100.0
    runs = [sum(group) for is_on, group in itertools.groupby(on) if is_on]
    assert 60 < len(runs) < 130
    # But for those that are switched on again at once, and the last one.
    assert {run for run in runs[:-1] if run <= 31} <= {29, 30, 31}


@pytest.mark.computes
def test_motor_begins_with_its_inrush_and_only_at_its_hours() -> None:
    pump = appliance(
        phases=[1, 2, 3], inrush=3.0, inrush_lasts=2.0, begins="08:00", ends="10:00", times=6.0
    )
    site = load_site(site_with(appliance=[pump], start=_midnight()), seed=1)
    powers = []
    for _ in range(86_400):
        site.advance(1.0)
        powers.append(site.flows[3].power)
    first = next(i for i, power in enumerate(powers) if power > 1000.0)
    assert 8 * 3600 <= first < 10 * 3600
    assert powers[first] > 5500.0
    assert 1500.0 < powers[first + 5] < 2300.0
    assert max(powers[: 8 * 3600]) < 500.0
    assert max(powers[10 * 3600 + 400 :]) < 500.0


def _midnight() -> Any:
    return load_site("house").time.replace(hour=0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"at": 9}, "at: there is no component 9"),
        ({"at": 2}, "at: component 2 must be a meter with a load, or a consumer"),
        ({"lasts": [300, 100]}, "lasts: must begin with the shorter one"),
        ({"times": 0}, "times: must be more than 0"),
        ({"powr": 1}, "powr: is unknown here"),
        ({"phases": [4]}, "phases: must be some of 1, 2 and 3"),
    ],
)
def test_mistakes_in_appliances_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(SiteError, match=words):
        load_site(site_with(appliance=[{**appliance(), **wrong}]))


# Cars


def test_car_follows_another_offer_after_its_time() -> None:
    site = load_site(site_with(CHARGER))
    charger = site.charger(5)
    charger.active.command(11_000.0, math.inf)
    charger.plug_in(Car(obeys_after=6.0, starts_after=4.0, ramp=1e6))
    site.advance(3.0)
    assert charger.flow.power == 0.0
    site.advance(3.0)
    site.advance(4.0)
    assert charger.flow.power == pytest.approx(11_000.0, rel=0.01)
    charger.active.command(5000.0, math.inf)
    site.advance(1.0)
    site.advance(4.0)
    assert charger.flow.power == pytest.approx(11_000.0, rel=0.01)
    site.advance(2.0)
    assert charger.flow.power == pytest.approx(5000.0, rel=0.01)


def test_car_pauses_by_itself() -> None:
    site = load_site(site_with(CHARGER))
    site.charger(5).plug_in(Car(pauses_every=60.0, pause_lasts=20.0, ramp=1e6, capacity=1e6))
    charging = []
    for _ in range(170):
        site.advance(1.0)
        charging.append(site.charger(5).flow.power > 0)
    pauses = [len(list(group)) for is_on, group in itertools.groupby(charging) if not is_on]
    assert pauses == [20, 20]


# Rotated wiring


@pytest.mark.parametrize("api", ["v0.15", "v1alpha18"])
def test_charger_numbers_its_phases_as_it_is_connected(api: str) -> None:
    rotated = {**CHARGER, "phases": [2, 3, 1], "reports_own_phases": True}
    with Simulator(site_with(rotated), sample_interval=0.1) as simulator:
        simulator.change(lambda site: site.charger(5).plug_in(Car(power=3680.0, phases=1)))
        with (
            MicrogridApiClient(f"{simulator.url}?api={api}") as client,
            client.ev_charger_data(5) as data,
            client.meter_data(2) as meter,
        ):
            while (of_charger := data.receive(10.0)).active_power < 3670:
                pass
            while (of_meter := meter.receive(10.0)).active_power < 3670:
                pass
    assert [round(ampere) for ampere in of_charger.current_per_phase] == [16, 0, 0]
    assert [round(ampere) for ampere in of_meter.current_per_phase] == [0, 16, 0]


# Frozen


def test_frozen_component_says_the_same_with_newer_timestamps() -> None:
    with Simulator(site_with(CHARGER), sample_interval=0.1) as simulator:
        simulator.faults.add(Fault(kind="frozen", components=[3]))
        with (
            MicrogridApiClient(simulator.url) as client,
            client.meter_data(3) as meter,
            client.meter_data(2) as other,
        ):
            # The first may have been measured before it froze.
            samples = [meter.receive(10.0) for _ in range(6)][1:]
            others = [other.receive(10.0) for _ in range(6)]
    assert len({sample.active_power for sample in samples}) == 1
    assert len({sample.timestamp for sample in samples}) == 5
    assert len({sample.active_power for sample in others}) > 1
