"""What is known of a site, and for how long."""

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from microgrid_sync import Microgrid, MicrogridApiClient
from microgrid_sync.gateways import LiveSite
from microgrid_sync.simulator import Fault, Simulator
from tests.gateways.sites import is_known, live_site
from tests.support.messages import component, data
from tests.support.proxy import Proxy
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.1)


@pytest.mark.both_apis
def test_all_of_a_site_is_known(microgrid: Simulator, api: str) -> None:
    with live_site(f"{microgrid.url}?api={api}") as site:
        sources = {"component:2", "component:5", "component:7"}
        totals = {"pv:power", "batteries:soc", "consumers:power"}
        assert eventually(lambda: sources | totals <= site.sources().keys())
        charger = site.heard("component:7")
        assert charger is not None
        assert charger.subject == "component/7"
        assert charger.values["component_state"] == "charging"
        now = time.monotonic()
        assert charger.is_fresh(now)
        assert charger.valid("active_power_w", now) > 1000
        assert site.is_heard(now)
        assert site.report is not None
        assert site.heard("component:99") is None


def test_what_is_not_sent_is_none() -> None:
    with (
        Simulator("every_category", sample_interval=0.1) as simulator,
        MicrogridApiClient(simulator.url) as client,
        LiveSite(client) as site,
    ):
        assert eventually(lambda: site.heard("component:2") is not None)
        heard = site.heard("component:2")
        assert heard is not None
        assert not any(isinstance(v, float) and math.isnan(v) for v in heard.values.values())
        assert "unspecified" not in heard.values.values()


def test_what_is_silent_is_not_valid_and_comes_back(microgrid: Simulator) -> None:
    with live_site(microgrid.url, max_age=0.5) as site:
        fault = microgrid.faults.add(Fault(kind="silent", components=[7]))

        def is_valid(source: str, name: str) -> bool:
            heard = site.heard(source)
            return heard is not None and heard.valid(name, time.monotonic()) is not None

        # What he may draw is our own, and no better than what is heard of him.
        assert eventually(
            lambda: (
                not is_valid("component:7", "active_power_w")
                and not is_valid("charger:7", "status")
                and is_valid("component:2", "active_power_w")
            )
        )
        microgrid.faults.end(fault)
        assert eventually(lambda: is_valid("component:7", "active_power_w"))
        assert eventually(lambda: is_valid("charger:7", "status"))


def test_clock_that_stands_still_says_nothing_new() -> None:
    def same(number: int, context: grpc.ServicerContext) -> Iterator[bytes]:
        while context.is_active() and not server.released.wait(0.02):
            yield data(number, "meter", 1).SerializeToString()

    with ScriptedServer() as server, MicrogridApiClient(server.url) as client:
        server.stream = same
        with LiveSite(client, max_age=0.5) as site:
            assert eventually(lambda: site.heard("component:1") is not None)
            assert eventually(lambda: not site.is_heard(time.monotonic()))


def test_site_that_goes_away_is_not_heard_and_comes_back(microgrid: Simulator) -> None:
    with Proxy(microgrid.port) as proxy, live_site(proxy.url, max_age=0.5) as site:
        proxy.stalled.set()
        assert eventually(lambda: not site.is_heard(time.monotonic()))
        old = site.sources()["component:7"].heard_at
        proxy.cut()
        proxy.stalled.clear()
        assert eventually(lambda: site.sources()["component:7"].heard_at > old)
        assert eventually(lambda: site.is_heard(time.monotonic()))


def test_total_that_is_not_known_grows_old(microgrid: Simulator) -> None:
    with live_site(microgrid.url, max_age=60.0) as site:
        fault = microgrid.faults.add(Fault(kind="silent"))

        def power() -> object:
            return site.sources()["grid:power"].valid("power_w", time.monotonic())

        assert eventually(lambda: power() is None)
        one = site.sources()["grid:power"]
        time.sleep(1.5)
        # That it is not known comes each second, and is no news.
        other = site.sources()["grid:power"]
        assert other.age(time.monotonic()) >= 1.5
        assert (other.timestamp, other.heard_at) == (one.timestamp, one.heard_at)
        microgrid.faults.end(fault)
        assert eventually(lambda: power() is not None)


def test_total_of_chargers_waits_for_all_of_them_when_the_site_comes_back(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with live_site(microgrid.url, max_age=4.0) as site:
        everything = microgrid.faults.add(Fault(kind="silent"))
        assert eventually(lambda: "the site is not heard any more" in caplog.text)

        def power() -> object:
            return site.sources()["chargers:power"].valid("power_w", time.monotonic())

        assert eventually(lambda: power() is None)
        heard: list[float] = []
        known: list[float] = []

        def tap(source: str, values: list[Any]) -> None:
            if source == "component:8":
                heard.append(time.monotonic())
            elif source == "chargers:power" and any(one.value is not None for one in values):
                known.append(time.monotonic())

        site.tap(tap)
        microgrid.faults.add(Fault(kind="silent", components=[7]))
        microgrid.faults.end(everything)
        # One that stays silent does not count after a while, as elsewhere.
        assert eventually(lambda: power() is not None)
        # Before, half of it is not what the chargers draw. The first may have been on its way when
        # all fell silent.
        assert known[0] - heard[min(1, len(heard) - 1)] >= 2.0
    assert "the site is not heard any more; nothing is valid" in caplog.text
    assert "the site is heard again" in caplog.text


def test_site_that_is_closed_already_is_told(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Microgrid(microgrid.url)
    mine.close()
    with LiveSite(mine):
        assert eventually(lambda: "nothing can be followed" in caplog.text)


def test_site_that_is_down_at_first_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setattr("microgrid_sync.gateways.live_site._RETRY_INTERVAL", 0.1)
    with (
        MicrogridApiClient(f"grpc://127.0.0.1:{port}", timeout=1.0) as client,
        LiveSite(client) as site,
    ):
        assert site.microgrid is None
        assert not site.is_heard(time.monotonic())
        with Simulator(sample_interval=0.1, port=port):
            assert eventually(lambda: is_known(site))
            assert site.microgrid is not None


def test_microgrid_of_a_program_is_followed_and_stays_open(microgrid: Simulator) -> None:
    with Microgrid(microgrid.url) as mine:
        with LiveSite(mine, name="mine") as site:
            assert eventually(lambda: is_known(site))
            assert site.microgrid is mine
        with mine.grid.power.new_receiver() as receiver:
            assert eventually(lambda: receiver.receive(timeout=20).value is not None)


def test_new_components_are_followed_and_old_ones_go() -> None:
    with ScriptedServer() as server, MicrogridApiClient(server.url) as client:
        server.components = [component(1, "meter"), component(2, "ev_charger")]
        with LiveSite(client) as site:
            assert eventually(lambda: site.heard("component:2") is not None)
            server.components = [component(1, "meter"), component(3, "ev_charger")]
            assert site.microgrid is not None
            site.microgrid.refresh()
            assert eventually(lambda: site.heard("component:3") is not None)
            assert eventually(lambda: site.heard("component:2") is None)
            assert 2 not in site.components


def test_totals_of_what_comes_later_are_followed() -> None:
    with (
        ScriptedServer() as server,
        MicrogridApiClient(server.url) as client,
        LiveSite(client) as site,
    ):
        assert eventually(lambda: site.microgrid is not None and site.sources())
        assert site.pool is None
        server.components = [component(1, "meter"), component(2, "ev_charger")]
        assert site.microgrid is not None
        site.microgrid.refresh()
        assert eventually(lambda: "chargers:power" in site.sources())
        assert site.pool is not None


def test_listeners_are_told(microgrid: Simulator) -> None:
    told = threading.Event()
    with live_site(microgrid.url) as site:
        stop = site.listen(told.set)
        assert told.wait(PATIENCE)
        stop()
        # They are called one after the other: what is under way may still come.
        later = threading.Event()
        site.listen(later.set)
        assert later.wait(PATIENCE)
        told.clear()
        later.clear()
        assert later.wait(PATIENCE)
        assert not told.is_set()


def test_close_from_anywhere_any_number_of_times(microgrid: Simulator) -> None:
    with MicrogridApiClient(microgrid.url) as client:
        site = LiveSite(client)
        closer = threading.Thread(target=site.close)
        closer.start()
        site.close()
        site.close()
        closer.join(20)
        assert "closed" in repr(site)


def test_what_makes_no_sense_is_refused(microgrid: Simulator) -> None:
    with pytest.raises(TypeError, match="MicrogridApiClient or a Microgrid"):
        LiveSite(microgrid.url)  # type: ignore[arg-type] # on purpose
    with (
        MicrogridApiClient(microgrid.url) as client,
        pytest.raises(ValueError, match="max_age must be a positive number"),
    ):
        LiveSite(client, max_age=0.0)
