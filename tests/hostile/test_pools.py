"""Pools at servers and chargers that do not do as they should."""

import gc
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    Bounds,
    ChargingConfig,
    EVChargerPool,
    LinearBackoff,
    Microgrid,
    MicrogridApiClient,
    Power,
    Receiver,
    ReceiverFetcher,
    ReceiverStoppedError,
    SystemBounds,
)
from tests.support.charger_server import METER, RATING, ChargerServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis


@pytest.fixture
def site() -> Iterator[ChargerServer]:
    with ChargerServer(2) as site:
        yield site


@pytest.fixture
def client(site: ChargerServer) -> Iterator[MicrogridApiClient]:
    with MicrogridApiClient(site.url, retry_strategy=LinearBackoff(0.05, 0.0)) as client:
        yield client


@pytest.fixture
def microgrid(client: MicrogridApiClient) -> Iterator[Microgrid]:
    with Microgrid(client) as microgrid:
        yield microgrid


def cap(microgrid: Microgrid, watts: float, priority: int = 1) -> None:
    pool = microgrid.new_ev_charger_pool(priority=priority)
    pool.propose_power(None, bounds=Bounds(None, Power.from_watts(watts)))


def wait_until_all_are_heard(pool: EVChargerPool, count: int) -> None:
    """What is proposed before may lapse on a busy machine before it is carried out."""
    bounds = pool.system_power_bounds.new_receiver()
    all_of_them = Bounds(Power.zero(), Power.from_watts(count * RATING))
    assert eventually(lambda: bounds.receive(PATIENCE).inclusion_bounds == all_of_them)
    bounds.close()


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("microgrid-")]


# Set-points that land late


def test_raise_that_lands_late_is_mended_long_before_the_next_refresh(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    site.chargers[11].wanted = site.chargers[12].wanted = 0.0
    timers: list[threading.Timer] = []
    decreased, landed = threading.Event(), threading.Event()

    def handle(charger: int, watts: float, context: grpc.ServicerContext) -> None:
        if charger == 11 and watts and not timers:
            # It goes on whatever the client does, and lands after the decrease.
            def land() -> None:
                decreased.wait(PATIENCE)
                time.sleep(0.3)
                site.hold(11, watts)
                landed.set()

            timers.append(threading.Timer(0.0, land))
            timers[0].start()
            site.silence(context)
            return
        site.hold(charger, watts)
        if charger == 11 and timers and watts == 0.0:
            decreased.set()

    site.handle = handle
    cap(microgrid, 14_000)
    assert eventually(lambda: timers)
    cap(microgrid, 0.0, priority=2)
    assert decreased.wait(PATIENCE)
    # The late one: 6900 W at charger 11.
    assert landed.wait(PATIENCE)
    assert any(held[11] == 6900.0 for held in site.holds)
    sent = len(site.set_points(12))
    assert eventually(lambda: site.total() == 0.0)
    # The ordinary refresh comes every ten seconds, to the other charger, too: it had no part in it.
    assert len(site.set_points(12)) <= sent + 1
    timers[0].join(PATIENCE)


def test_list_of_components_that_never_answers_holds_nothing_up(
    site: ChargerServer, client: MicrogridApiClient, microgrid: Microgrid
) -> None:
    cap(microgrid, 14_000)
    power = microgrid.new_ev_charger_pool(priority=1).power.new_receiver()
    assert eventually(lambda: site.total() > 0)
    power.receive(PATIENCE)
    site.answers["ListComponents"] = site.never
    lists = site.count("ListComponents")
    client.disconnect()
    client.connect()
    cap(microgrid, 0.0)
    assert eventually(lambda: site.total() == 0.0)
    power.drain()
    # The loop of the totals goes on, too, though there is nothing to add up.
    assert eventually(lambda: power.receive(PATIENCE).value is None)
    # One for all streams together; the watch for changes asks a second after reconnecting, too.
    assert site.count("ListComponents") <= lists + 2


def test_decreases_are_sent_to_silent_chargers_and_while_others_hang(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    cap(microgrid, 30_000)
    assert eventually(lambda: min(site.held()) > 4000)
    hanging = threading.Event()

    def handle(charger: int, watts: float, context: grpc.ServicerContext) -> None:
        if charger == 11:
            hanging.set()
            site.silence(context)
        else:
            site.hold(charger, watts)

    site.handle = handle
    cap(microgrid, 0.0, priority=2)
    assert eventually(lambda: site.chargers[12].held == 0.0)
    assert hanging.wait(PATIENCE)


# Messages that say odd things


@pytest.mark.parametrize("odd", ["no data", "2300 V", "no voltage"])
def test_odd_messages_for_a_moment_stop_nobody(
    site: ChargerServer, microgrid: Microgrid, odd: str
) -> None:
    cap(microgrid, 30_000)
    assert eventually(lambda: site.chargers[11].held == 11_000.0)
    site.sent.clear()
    charger = site.chargers[11]
    charger.without_data = odd == "no data"
    charger.voltages = {"2300 V": (2300.0,) * 3, "no voltage": (0.3, 0.2, 230.0)}.get(
        odd, charger.voltages
    )
    time.sleep(1.5)
    charger.without_data = False
    # Something that the loop does after it has seen them.
    cap(microgrid, 29_000, priority=2)
    status = microgrid.new_ev_charger_pool(priority=1).power_status.new_receiver()
    target = Power.from_watts(29_000.0)
    assert eventually(lambda: status.receive(PATIENCE).target_power == target)
    assert set(site.set_points(11)) <= {11_000.0}


def test_meter_that_is_read_for_its_voltage_does_not_complain(
    site: ChargerServer,
    microgrid: Microgrid,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microgrid_sync.power.voltage._KEEP_ASKED", 0.5)
    site.interval = 0.002
    site.chargers[11].voltages = (0.0, 0.0, 0.0)
    bounds = microgrid.new_ev_charger_pool(priority=1).system_power_bounds.new_receiver()
    assert bounds.receive(PATIENCE)
    assert eventually(lambda: METER in _streams(microgrid))
    site.chargers[11].voltages = (230.0, 230.0, 230.0)
    assert eventually(lambda: METER not in _streams(microgrid))
    assert "nobody reads" not in caplog.text


def _streams(microgrid: Microgrid) -> list[int]:
    return [stream.component_id for stream in microgrid.client.stats().streams]


# What nobody has any more


@pytest.mark.slow
def test_pools_that_were_stopped_and_dropped_are_forgotten(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    for number in range(60):
        chargers = [[11], [12], [11, 12]][number % 3]
        pool = microgrid.new_ev_charger_pool(priority=number, component_ids=chargers)
        receiver = pool.power_status.new_receiver()
        pool.propose_power(Power.from_watts(5000.0))
        pool.stop()
        receiver.close()
    del pool, receiver
    assert eventually(lambda: not _streams(microgrid))
    assert microgrid._control_loop._watched == {}
    assert microgrid._control_loop._chargers == {}


def test_lapsed_proposal_can_be_withdrawn_as_long_as_its_pool_is_there(
    site: ChargerServer, client: MicrogridApiClient
) -> None:
    config = ChargingConfig(proposal_lifetime=timedelta(seconds=2))
    with Microgrid(client, charging=config) as microgrid:
        pool = microgrid.new_ev_charger_pool(priority=1)
        wait_until_all_are_heard(pool, 2)
        pool.propose_power(Power.from_watts(5000.0))
        status = pool.power_status.new_receiver()
        assert eventually(lambda: len(site.sent) >= 2)
        assert eventually(lambda: status.receive(PATIENCE).target_power is None)
        pool.stop()
        assert eventually(lambda: site.held() == [RATING, RATING])
        pool.propose_power(Power.from_watts(5000.0))
        assert eventually(lambda: status.receive(PATIENCE).target_power is not None)
        assert eventually(lambda: status.receive(PATIENCE).target_power is None)
        status.close()
        del pool
        gc.collect()
        assert eventually(lambda: not microgrid._control_loop._watched)


def test_microgrid_that_is_forgotten_ends_and_says_so(site: ChargerServer) -> None:
    for _ in range(4):
        microgrid = Microgrid(site.url)
        pool = microgrid.new_ev_charger_pool(priority=1)
        power, status = pool.power.new_receiver(), pool.power_status.new_receiver()
        pool.propose_power(Power.from_watts(5000.0))
        power.receive(PATIENCE)
        status.receive(PATIENCE)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            del microgrid, pool, power, status
            gc.collect()
        assert [w.category for w in told] == [ResourceWarning]
        assert "was not closed" in str(told[0].message)
        assert eventually(lambda: not our_threads()), our_threads()


def test_receiver_alone_keeps_its_microgrid(site: ChargerServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        receiver = Microgrid(site.url).new_ev_charger_pool(priority=1).power.new_receiver()
        gc.collect()
        for _ in range(3):
            receiver.receive(PATIENCE)
        receiver.close()
        del receiver
        gc.collect()
        assert eventually(lambda: not our_threads()), our_threads()


def test_two_microgrids_at_the_same_chargers_are_told(
    site: ChargerServer, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    cap(microgrid, 5000)
    assert eventually(lambda: len(site.sent) >= 2)
    with Microgrid(site.url) as other:
        cap(other, 9000)
        assert eventually(lambda: "Another Microgrid of this program" in caplog.text)
    assert "chargers 11, 12" in caplog.text


# Ends


def test_no_receiver_is_left_without_an_end(site: ChargerServer) -> None:
    for _ in range(30):
        with MicrogridApiClient(site.url) as client:
            microgrid = Microgrid(client)
            pool = microgrid.new_ev_charger_pool(priority=1)
            first = pool.power.new_receiver()
            made: list[Receiver[Any]] = []
            fetchers: list[ReceiverFetcher[Any]] = [
                pool.power,
                pool.current_per_phase,
                pool.power_status,
                pool.system_power_bounds,
                pool.power_distribution_results,
            ]
            thread = threading.Thread(target=_subscribe_until_the_end, args=(fetchers, made))
            thread.start()
            assert eventually(lambda: made)  # noqa: B023 - evaluated at once
            microgrid.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()
            for receiver in [first, *made]:
                _assert_ended(receiver)
            for fetcher in fetchers:
                with pytest.raises(ReceiverStoppedError):
                    fetcher.new_receiver()


def _subscribe_until_the_end(
    fetchers: list[ReceiverFetcher[Any]], made: list[Receiver[Any]]
) -> None:
    try:
        while True:
            made.extend(fetcher.new_receiver() for fetcher in fetchers)
    except ReceiverStoppedError:
        return


def _assert_ended(receiver: Receiver[Any]) -> None:
    # What waits is still read.
    list(receiver)
    with pytest.raises(ReceiverStoppedError):
        receiver.receive(PATIENCE)


def test_bounds_of_several_chargers_exclude_what_is_too_little_for_one(
    site: ChargerServer, microgrid: Microgrid, api: str
) -> None:
    # Where ranges are what is allowed, there is nothing below zero that could be excluded.
    lowest = -4140.0 if api == "v0.15" else 0.0
    for charger in site.chargers.values():
        charger.excluded = 4140.0
        charger.lower = 100.0
    bounds = microgrid.new_ev_charger_pool(priority=1).system_power_bounds.new_receiver()

    def told() -> bool:
        found: SystemBounds = bounds.receive(PATIENCE)
        watts = Power.from_watts
        return found.inclusion_bounds == Bounds(
            watts(0.0), watts(2 * RATING)
        ) and found.exclusion_bounds == Bounds(watts(lowest), watts(4140.0))

    assert eventually(told)


# Campaigns, fallbacks and releases that meet


def test_set_that_falls_back_is_not_released_by_another() -> None:
    with ChargerServer(3) as site:
        config = ChargingConfig(
            fallback_power=Power.from_watts(9000.0), proposal_lifetime=timedelta(seconds=1.5)
        )
        with Microgrid(site.url, charging=config) as microgrid:
            second = microgrid.new_ev_charger_pool(priority=1, component_ids=[12, 13])
            second.propose_power(Power.from_watts(9000.0))
            status = second.power_status.new_receiver()
            assert eventually(lambda: len(site.sent) >= 2)
            lapsed = microgrid._control_loop._watched[frozenset({12, 13})]
            assert eventually(lambda: lapsed.fallback)
            first = microgrid.new_ev_charger_pool(priority=1, component_ids=[11, 12])
            first.propose_power(Power.from_watts(9000.0))
            reports = first.power_status.new_receiver()
            newer = microgrid._control_loop._watched[frozenset({11, 12})]
            assert eventually(lambda: newer.fallback)
            assert not lapsed.fallback
            second.stop()
            site.holds.clear()
            assert eventually(lambda: site.chargers[13].held == RATING)
            time.sleep(1.5)
            assert all(held[11] + held[12] <= 9000.0 for held in site.holds)
            status.close()
            reports.close()


def test_campaign_that_has_sent_nothing_leaves_what_there_was() -> None:
    with ChargerServer(2) as site:
        config = ChargingConfig(proposal_lifetime=timedelta(seconds=2))
        with Microgrid(site.url, charging=config) as microgrid:
            pool = microgrid.new_ev_charger_pool(priority=1)
            wait_until_all_are_heard(pool, 2)
            pool.propose_power(Power.from_watts(9000.0))
            assert eventually(lambda: len(site.sent) >= 2)
            status = pool.power_status.new_receiver()
            assert eventually(lambda: status.receive(PATIENCE).target_power is None)
            # At once: nothing can have been sent for it.
            pool.propose_power(Power.from_watts(8000.0))
            pool.stop()
            assert eventually(lambda: site.held() == [RATING, RATING])


def test_release_waits_for_a_bound_that_comes_back(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    pool = microgrid.new_ev_charger_pool(priority=1)
    pool.propose_power(Power.from_watts(9000.0))
    assert eventually(lambda: len(site.sent) >= 2)
    site.chargers[11].upper = 0.0
    bounds = pool.system_power_bounds.new_receiver()
    expected = Bounds(Power.zero(), Power.from_watts(RATING))
    assert eventually(lambda: bounds.receive(PATIENCE).inclusion_bounds == expected)
    pool.stop()
    assert eventually(lambda: site.held() == [0.0, RATING])
    site.chargers[11].upper = RATING
    assert eventually(lambda: site.held() == [RATING, RATING])


def test_first_round_raises_nobody(site: ChargerServer, microgrid: Microgrid) -> None:
    """A car that draws next to nothing is not charging; another one's decrease hangs."""
    site.chargers[11].held, site.chargers[11].draw = 0.0, 20.0
    site.chargers[12].held, site.chargers[12].draw = 11_000.0, 11_000.0

    def handle(charger: int, watts: float, context: grpc.ServicerContext) -> None:
        if charger == 12:
            site.silence(context)
        else:
            site.hold(charger, watts)

    site.handle = handle
    cap(microgrid, 11_000)
    assert eventually(lambda: len(site.sent) >= 2)
    time.sleep(0.5)
    assert site.total() <= 11_000


def test_new_connection_has_set_points_sent_again_at_once(
    site: ChargerServer, client: MicrogridApiClient, microgrid: Microgrid
) -> None:
    cap(microgrid, 9000)
    assert eventually(lambda: len(site.sent) >= 2 and site.total() <= 9000)
    client.disconnect()
    for charger in site.chargers.values():
        charger.held = None
    client.connect()
    cap(microgrid, 9000)
    assert eventually(lambda: None not in [c.held for c in site.chargers.values()])


def test_closed_stream_is_no_outage(site: ChargerServer, client: MicrogridApiClient) -> None:
    receiver = client.ev_charger_data(11)
    receiver.receive(PATIENCE)
    receiver.close()
    assert eventually(lambda: not client.stats().streams)
    assert client.state.name == "READY"
    assert client.stats().failing_since is None
