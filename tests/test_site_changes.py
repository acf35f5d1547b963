"""Sites that change while a program runs, and sites that make no sense."""

import gc
import logging
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from microgrid_sync import (
    ApiClientError,
    Bounds,
    Component,
    ComponentCategory,
    LinearBackoff,
    Microgrid,
    MicrogridApiClient,
    Power,
    Receiver,
    ReceiverStoppedError,
    Topology,
)
from microgrid_sync.wire import v0_15_schema as schema
from tests.support.charger_server import METER, RATING, ChargerServer, ServedCharger
from tests.support.messages import component
from tests.support.server import ScriptedServer
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
    with Microgrid(client, resampling_period=timedelta(seconds=0.1)) as microgrid:
        yield microgrid


def add_charger(site: ChargerServer, number: int) -> None:
    site.chargers[number] = ServedCharger()
    site.components.append(component(number, "ev_charger"))


def remove(site: ChargerServer, number: int) -> None:
    site.components = [c for c in site.components if c.id != number]
    site.chargers.pop(number, None)


def cut_streams(site: ChargerServer) -> None:
    """End all streams, as a server does that restarts."""
    site.released.set()
    site.released.clear()


def _forget(receivers: list[Receiver[Any]]) -> None:
    receivers.clear()
    gc.collect()


def test_refresh_shows_what_there_is_now(
    site: ChargerServer, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    changes = microgrid.topology_changes.new_receiver()
    before = microgrid.topology
    microgrid.refresh()
    assert microgrid.topology is before
    add_charger(site, 13)
    remove(site, 12)
    with caplog.at_level(logging.WARNING):
        microgrid.refresh()
    said = "EV charger 13 is new; EV charger 12 is gone"
    assert changes.receive(PATIENCE) == said
    assert caplog.text.count(said) == 1
    assert 13 in microgrid.topology
    assert 12 not in microgrid.topology
    microgrid.close()
    changes.drain()
    with pytest.raises(ReceiverStoppedError):
        changes.receive(PATIENCE)


def test_receivers_go_on_with_new_formulas(site: ChargerServer, microgrid: Microgrid) -> None:
    for charger in site.chargers.values():
        charger.draw = 1000.0
    pool = microgrid.new_ev_charger_pool(priority=1)
    both = (pool.power + pool.power).build("twice")
    one, two = pool.power.new_receiver(), both.new_receiver()
    current = pool.current_per_phase.new_receiver()
    while one.receive(PATIENCE).value != Power.from_watts(2000.0):
        pass
    add_charger(site, 13)
    site.chargers[13].draw = 500.0
    microgrid.refresh()
    assert pool.component_ids == {11, 12, 13}
    assert "#13" in pool.power.expression
    while one.receive(PATIENCE).value != Power.from_watts(2500.0):
        pass
    while two.receive(PATIENCE).value != Power.from_watts(5000.0):
        pass
    while (value := current.receive(PATIENCE).value_p1) is None or not value.isclose(
        type(value).from_amperes(2500.0 / 690.0), abs_tol=0.01
    ):
        pass


def test_pool_of_every_charger_takes_a_new_one_and_stays_within_its_limit(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    """The new one draws what it can, until it is commanded; nothing is raised meanwhile."""
    pool = microgrid.new_ev_charger_pool(priority=1)
    some = microgrid.new_ev_charger_pool(priority=1, component_ids=[11])
    results = pool.power_distribution_results.new_receiver()
    pool.propose_power(None, Bounds(None, Power.from_watts(12_000.0)))
    assert eventually(lambda: site.total() > 8000.0)
    results.drain()
    add_charger(site, 13)
    microgrid.refresh()
    assert eventually(lambda: site.chargers[13].held is not None)
    assert max(sum(held.values()) for held in site.holds) <= 12_000.0
    assert some.component_ids == {11}
    # The same receiver tells of all three.
    while results.receive(PATIENCE).request.component_ids != {11, 12, 13}:
        pass
    # And the pool goes on as before.
    pool.propose_power(Power.from_watts(0.0))
    assert eventually(lambda: site.total() == 0.0)
    pool.stop()
    assert eventually(lambda: min(site.held()) > 20_000.0)


def test_charger_that_is_gone_is_a_silent_one(site: ChargerServer, microgrid: Microgrid) -> None:
    pool = microgrid.new_ev_charger_pool(priority=1)
    bounds = pool.system_power_bounds.new_receiver()
    pool.propose_power(None, Bounds(None, Power.from_watts(12_000.0)))
    assert eventually(lambda: site.total() > 8000.0)
    held = site.chargers[12].held
    remove(site, 12)
    microgrid.refresh()
    assert pool.component_ids == {11, 12}
    assert bounds.receive(PATIENCE)
    add_charger(site, 12)
    site.chargers[12].held = held
    microgrid.refresh()
    pool.propose_power(Power.from_watts(0.0))
    assert eventually(lambda: site.total() == 0.0)


def test_site_is_asked_again_after_a_reconnect(site: ChargerServer, microgrid: Microgrid) -> None:
    pool = microgrid.new_ev_charger_pool(priority=1)
    power = pool.power.new_receiver()
    power.receive(PATIENCE)
    assert eventually(lambda: any(s.messages for s in microgrid.client.stats().streams))
    add_charger(site, 13)
    changes = microgrid.topology_changes.new_receiver()
    site.stop()
    site.start()
    assert changes.receive(PATIENCE) == "EV charger 13 is new"
    assert pool.component_ids == {11, 12, 13}


def test_site_is_asked_again_now_and_then(
    site: ChargerServer, client: MicrogridApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.site_watch._INTERVAL", 0.2)
    with Microgrid(client, resampling_period=timedelta(seconds=0.1)) as microgrid:
        changes = microgrid.topology_changes.new_receiver()
        add_charger(site, 13)
        assert changes.receive(PATIENCE) == "EV charger 13 is new"


def test_list_that_cannot_be_had_is_asked_for_again(
    site: ChargerServer,
    client: MicrogridApiClient,
    microgrid: Microgrid,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("microgrid_sync.site_watch._AFTER_FAILURE", 0.1)
    monkeypatch.setattr("microgrid_sync.site_watch._TIMEOUT", 0.2)
    changes = microgrid.topology_changes.new_receiver()
    add_charger(site, 13)
    site.answers["ListConnections"] = site.never
    client.disconnect()
    client.connect()
    assert eventually(lambda: "cannot be listed again" in caplog.text)
    calls = site.count("ListConnections")
    assert eventually(lambda: site.count("ListConnections") > calls + 2)
    assert caplog.text.count("cannot be listed again") == 1
    with pytest.raises(ApiClientError):
        client.connections(timeout=0.2)
    del site.answers["ListConnections"]
    site.released.set()
    assert changes.receive(PATIENCE).startswith("EV charger 13 is new")


def test_empty_list_is_not_believed(
    site: ChargerServer, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    site.answers["ListComponents"] = lambda *_: schema.ComponentList()
    microgrid.refresh()
    assert "lists no components now" in caplog.text
    assert 11 in microgrid.topology


def test_close_does_not_wait_for_a_list(
    site: ChargerServer, microgrid: Microgrid, client: MicrogridApiClient
) -> None:
    site.answers["ListConnections"] = site.never
    client.disconnect()
    client.connect()
    assert eventually(lambda: any("site-list" in t.name for t in threading.enumerate()))
    microgrid.close()
    with pytest.raises(ReceiverStoppedError):
        microgrid.refresh()
    with pytest.raises(ReceiverStoppedError):
        microgrid.topology_changes.new_receiver()
    client.disconnect()
    assert eventually(lambda: not any("site-list" in t.name for t in threading.enumerate()))


def test_microgrid_that_nobody_has_is_forgotten_by_its_client(client: MicrogridApiClient) -> None:
    microgrid = Microgrid(client)
    grid = weakref.ref(microgrid)
    power = microgrid.grid.power.new_receiver()
    del microgrid
    gc.collect()
    assert grid() is None
    assert power.receive(PATIENCE)
    receivers = [power]
    del power
    with pytest.warns(ResourceWarning, match="was not closed"):
        _forget(receivers)
    assert eventually(lambda: not any("sum-loop" in t.name for t in threading.enumerate()))
    assert eventually(lambda: not [*client._on_reconnect])


def test_many_refreshes_at_once_end_with_the_newest(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    pool = microgrid.new_ev_charger_pool(priority=1)
    pool.propose_power(Power.from_watts(5000.0))
    threads = [threading.Thread(target=microgrid.refresh) for _ in range(8)]
    for number, thread in enumerate(threads):
        add_charger(site, 20 + number)
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    microgrid.refresh()
    assert pool.component_ids == {11, 12, *range(20, 28)}


def test_charger_that_is_something_else_now_holds_nothing_up(
    site: ChargerServer, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    add_charger(site, 13)
    microgrid.refresh()
    every = microgrid.new_ev_charger_pool(priority=1)
    bounds = every.system_power_bounds.new_receiver()
    one = microgrid.new_ev_charger_pool(priority=1, component_ids=[11])
    one.propose_power(Power.from_watts(9000.0))
    assert bounds.receive(PATIENCE)
    assert eventually(lambda: site.chargers[11].held == 9000.0)
    site.components = [c for c in site.components if c.id != 13] + [component(13, "meter")]
    site.stop()
    site.stream = lambda component_id, context: (
        site.count_up(13, context) if component_id == 13 else site.measure(component_id, context)
    )
    site.start()
    microgrid.refresh()
    one.propose_power(Power.from_watts(0.0))
    assert eventually(lambda: site.chargers[11].held == 0.0)
    assert "failed; it goes on" not in caplog.text


def test_pool_of_all_that_there_were_goes_on_with_those_of_every_one(
    site: ChargerServer, microgrid: Microgrid
) -> None:
    """Its limit holds for the new charger, too, and withdrawing it releases that one."""
    named = microgrid.new_ev_charger_pool(priority=5, component_ids=[11, 12])
    every = microgrid.new_ev_charger_pool(priority=1)
    # As long as somebody receives it, they are followed for the pool of every one.
    status = every.power_status.new_receiver()
    named.propose_power(None, Bounds(None, Power.from_watts(12_000.0)))
    assert eventually(lambda: site.total() > 8000.0)
    add_charger(site, 13)
    microgrid.refresh()
    assert status.receive(PATIENCE)
    assert eventually(lambda: site.chargers[13].held is not None)
    named.propose_power(None, Bounds(None, Power.from_watts(13_000.0)))
    assert max(sum(held.values()) for held in site.holds) <= 13_000.0
    named.stop()
    assert eventually(lambda: min(site.held()) > 20_000.0)
    # From now on it is what it was made for.
    named.propose_power(Power.from_watts(0.0))
    assert eventually(lambda: site.chargers[11].held == site.chargers[12].held == 0.0)
    assert site.chargers[13].held == RATING


def test_close_after_a_thread_that_was_not_to_be_had(
    client: MicrogridApiClient, microgrid: Microgrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "site-list" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        client.disconnect()
        client.connect()
    microgrid.close()


def test_list_that_was_asked_for_before_a_newer_one_came_does_not_count(
    microgrid: Microgrid,
) -> None:
    watch = microgrid._watch
    newer, older = watch.topology, Topology([Component(1, ComponentCategory.GRID)], [])
    started = time.monotonic()
    assert watch._take(time.monotonic(), newer)
    assert not watch._take(started, older)
    assert watch.topology == newer


def test_connection_that_comes_a_moment_later_is_waited_for(
    site: ChargerServer, microgrid: Microgrid, caplog: pytest.LogCaptureFixture
) -> None:
    lists = site.count("ListConnections")
    answer = site.answers["ListConnections"]

    def late(request: Any, context: grpc.ServicerContext) -> Any:
        if site.count("ListConnections") == lists + 1:
            return schema.ConnectionList(connections=[schema.Connection(start=1, end=METER)])
        return answer(request, context)

    site.answers["ListConnections"] = late
    add_charger(site, 13)
    microgrid.refresh()
    assert "EV charger 13 is new" in caplog.text
    assert "not connected" not in caplog.text


# Sites that make no sense

ODD = [
    ("no grid", [(METER, 2), (11, 6)], [(METER, 11)], "no grid connection"),
    ("two grids", [(1, 1), (3, 1), (METER, 2)], [(1, METER)], "2 grid connections"),
    ("an orphan", [(1, 1), (METER, 2), (11, 6)], [(1, METER)], "not connected to the grid"),
    ("a circle", [(1, 1), (METER, 2), (3, 2)], [(1, 2), (2, 3), (3, 2)], "in a circle"),
    ("the same ID twice", [(1, 1), (METER, 2), (METER, 6)], [(1, METER)], "listed 2 times"),
    ("a connection to nowhere", [(1, 1), (METER, 2)], [(1, 2), (2, 8)], "leads nowhere"),
    ("to itself", [(1, 1), (METER, 2)], [(1, 2), (2, 2)], "connected to itself"),
    ("no battery", [(1, 1), (METER, 2), (3, 3)], [(1, 2), (2, 3)], "does not say what it is for"),
    ("nothing", [(1, 1)], [], "feeds nothing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("components", "connections", "words"), [row[1:] for row in ODD], ids=[row[0] for row in ODD]
)
def test_odd_site_starts_and_is_told_once(
    components: list[tuple[int, int]],
    connections: list[tuple[int, int]],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed = [schema.Component(id=number, category=kind) for number, kind in components]
    with ScriptedServer(*listed) as server:
        server.answers["ListConnections"] = lambda *_: schema.ConnectionList(
            connections=[schema.Connection(start=one, end=two) for one, two in connections]
        )
        with Microgrid(server.url, resampling_period=timedelta(seconds=0.1)) as microgrid:
            problems = microgrid.topology.problems()
            assert any(words in problem for problem in problems)
            told = [r.message for r in caplog.records if r.levelno == logging.WARNING]
            for problem in problems:
                assert sum(line.endswith(problem) for line in told) == 1
            receivers = [
                formula.new_receiver()
                for formula in (
                    microgrid.grid.power, microgrid.consumer.power, microgrid.producer.power,
                    microgrid.battery.power, microgrid.chp.power,
                )
            ]  # fmt: skip
            for receiver in receivers:
                for _ in range(5):
                    receiver.receive(PATIENCE)
