"""A site's numbers and formulas of anything, over a real connection."""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from microgrid_sync import (
    Bounds,
    ComponentMetricId,
    Current,
    Formula,
    Microgrid,
    Power,
    Receiver,
    Resampling,
    Sample3Phase,
    Voltage,
)
from microgrid_sync.simulator import Fault, Simulator
from microgrid_sync.snapshot import has_data
from tests.support.charger_server import METER, ChargerServer
from tests.support.waiting import PATIENCE, eventually

PERIOD = timedelta(seconds=0.1)

pytestmark = [
    pytest.mark.microgrid(site="every_category", sample_interval=0.05),
    pytest.mark.both_apis,
]


@pytest.fixture
def site(microgrid: Simulator) -> Iterator[Microgrid]:
    with Microgrid(microgrid.url, resampling_period=PERIOD) as site:
        yield site


def value(receiver: Receiver[Any], condition: Callable[[Any], bool] = lambda _: True) -> Any:
    """Wait for a sample whose value fulfils a condition."""
    found: list[Any] = []

    def fulfilled() -> bool:
        sample = receiver.receive(PATIENCE)
        if sample.value is not None and condition(sample.value):
            found.append(sample.value)
        return bool(found)

    assert eventually(fulfilled)
    return found[0]


def test_everything_has_a_value(site: Microgrid, caplog: pytest.LogCaptureFixture) -> None:
    """Also a CHP, that sends no data of its own, by the meter before it; nobody minds."""
    formulas: list[Formula[Any]] = [
        site.grid.power, site.grid.reactive_power, site.grid.frequency, site.consumer.power,
        site.producer.power, site.pv.power, site.battery.power, site.battery.soc,
        site.battery.capacity, site.chp.power,
    ]  # fmt: skip
    receivers = [formula.new_receiver(maxsize=10_000) for formula in formulas]
    found = [value(receiver) for receiver in receivers]
    assert 49.0 < found[2].as_hertz() < 51.0
    assert 0.0 < found[7].as_percent() < 100.0
    assert found[8].as_watt_hours() == 55_000.0
    volts = site.grid.voltage_per_phase.new_receiver()
    amperes = site.grid.current_per_phase.new_receiver()
    assert eventually(lambda: None not in list(volts.receive(PATIENCE)))
    assert eventually(lambda: None not in list(amperes.receive(PATIENCE)))
    assert site.grid.fuse is not None
    assert site.grid.fuse.max_current == 250.0
    told = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    # On a busy machine what sends may be late; what never sends is no news.
    never = {c.component_id for c in site.topology.components() if not has_data(c, site.client.api)}
    for message in told:
        late = message.rpartition("goes on without components ")[2].partition(", of which")[0]
        assert never.isdisjoint(int(number) for number in late.split(", ")), message


def test_written_formula_of_any_metric(site: Microgrid) -> None:
    nothing = site.formula("(#2 - #2) * 2 + 5").new_receiver()
    assert value(nothing) == Power.from_watts(5.0)
    volts = site.formula("MAX(#2, 100)", ComponentMetricId.VOLTAGE_PHASE_1).new_receiver()
    assert Voltage.from_volts(150.0) < value(volts) < Voltage.from_volts(300.0)
    soc = site.formula("#22", ComponentMetricId.SOC, name="the old battery")
    assert repr(soc) == "<Formula the old battery: #22>"
    assert 0.0 < value(soc.new_receiver()).as_percent() <= 100.0
    # It can be computed with as any other.
    rest = (site.grid.power - site.formula("#90")).build("rest")
    assert value(rest.new_receiver())


@pytest.mark.parametrize(
    ("text", "metric", "words"),
    [
        ("#2 - #7", ComponentMetricId.ACTIVE_POWER, "there is no component 7; there are 1, 2, 10"),
        ("1 + #22", ComponentMetricId.ACTIVE_POWER, "22: battery has no active_power; it has soc"),
        ("#2", ComponentMetricId.SOC, "2: meter has no soc; it has active_power"),
        ("#2 +", ComponentMetricId.ACTIVE_POWER, "found nothing"),
    ],
)
def test_formula_that_cannot_be_is_refused_where_it_is_wrong(
    site: Microgrid, text: str, metric: ComponentMetricId, words: str
) -> None:
    with pytest.raises(ValueError, match="of the formula") as raised:
        site.formula(text, metric)
    assert words in str(raised.value)


def test_formula_of_another_type_is_refused(site: Microgrid) -> None:
    with pytest.raises(TypeError, match="must be a string, not 5"):
        site.formula(5)  # type: ignore[arg-type] # that is what is tested
    with pytest.raises(TypeError, match="must be a ComponentMetricId, not 'soc'"):
        site.formula("#2", "soc")  # type: ignore[arg-type] # as above
    with pytest.raises(ValueError, match="too large"):
        _ = site.grid.power * 10**400


def test_thousand_formulas_at_once(site: Microgrid) -> None:
    receivers = [
        site.formula(f"COALESCE(#2, #90) - COALESCE(#2, #90) + {number}").new_receiver()
        for number in range(1000)
    ]
    for number, receiver in enumerate(receivers):
        assert value(receiver) == Power.from_watts(float(number))
    # All of them on the same windows.
    stamps = {receiver.receive(PATIENCE).timestamp for receiver in receivers[::100]}
    assert len(stamps) < 30
    for receiver in receivers:
        receiver.close()


def test_constants_for_each_phase(microgrid: Simulator, site: Microgrid) -> None:
    current = site.grid.current_per_phase
    amperes = tuple(Current.from_amperes(float(phase)) for phase in (1, 2, 3))
    replaced = (current - current).build("nothing").max(amperes).build("each")
    receiver = replaced.new_receiver()

    def is_each() -> bool:
        sample: Sample3Phase[Current] = receiver.receive(PATIENCE)
        return tuple(sample) == amperes

    assert eventually(is_each)
    with pytest.raises(TypeError, match="3 of them together"):
        current.coalesce(amperes[:2])
    microgrid.faults.add(Fault(kind="silent", components=(2,)))
    fallback = current.coalesce(amperes).build("fallback").new_receiver()
    assert eventually(lambda: tuple(fallback.receive(PATIENCE)) == amperes)


def test_what_is_silent_has_no_value_until_it_is_back(
    microgrid: Simulator, site: Microgrid
) -> None:
    battery, consumer = site.battery.power.new_receiver(), site.consumer.power.new_receiver()
    value(battery)
    value(consumer)
    number = microgrid.faults.add(Fault(kind="silent", components=(20,)))
    assert eventually(lambda: battery.receive(PATIENCE).value is None)
    assert eventually(lambda: consumer.receive(PATIENCE).value is None)
    microgrid.faults.end(number)
    value(battery)
    value(consumer)


def test_battery_that_is_silent_leaves_the_average(
    microgrid: Simulator,
    site: Microgrid,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microgrid_sync.formulas.sum_loop._LEFT_OUT_INTERVAL", 0.0)
    one, other = (
        value(site.formula(f"#{n}", ComponentMetricId.SOC).new_receiver()).as_percent()
        for n in (22, 32)
    )
    soc = site.battery.soc.new_receiver()
    # On a busy machine either may be late, too.
    both = value(soc, lambda found: other + 0.5 < found.as_percent() < one - 0.5)
    microgrid.faults.add(Fault(kind="silent", components=(32,)))
    assert eventually(lambda: re.search(r"goes on without components (\d+, )*32\b", caplog.text))
    assert value(soc, lambda found: abs(found.as_percent() - one) < 0.5) > both


def test_values_may_be_older_if_that_is_chosen(microgrid: Simulator) -> None:
    resampling = Resampling(max_age_periods=1000, method="last")
    with Microgrid(microgrid.url, resampling_period=PERIOD, resampling=resampling) as site:
        power = site.grid.power.new_receiver()
        value(power)
        microgrid.faults.add(Fault(kind="silent", components=(2,)))
        for _ in range(15):
            assert power.receive(PATIENCE).value is not None


# The voltage at chargers that measure none


def test_charger_without_a_voltage_is_commanded_by_that_of_others() -> None:
    """The meter above it measures none, either; another charger does."""
    with ChargerServer(2) as server:
        server.interval = 0.02
        server.chargers[11].voltages = (0.0, 0.0, 0.0)
        server.meter_voltages = (0.0, 0.0, 0.0)
        with Microgrid(server.url) as site:
            pool = site.new_ev_charger_pool(priority=1, component_ids=[11])
            pool.propose_power(None, Bounds(None, Power.from_watts(20_000.0)))
            assert METER in site.topology
            assert eventually(lambda: (server.chargers[11].held or 0.0) >= 4140.0)
