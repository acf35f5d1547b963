"""A site for Prometheus."""

import contextlib
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from microgrid_sync import MicrogridApiClient
from microgrid_sync.gateways import Commands, LiveSite
from microgrid_sync.gateways.modbus import ModbusGateway
from microgrid_sync.gateways.prometheus import PrometheusGateway
from microgrid_sync.simulator import Fault, Simulator
from tests.gateways.masters import Master
from tests.gateways.sites import draw, live_site
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.1)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def get(gateway: PrometheusGateway, path: str) -> tuple[int, str]:
    try:
        url = f"http://127.0.0.1:{gateway.port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scraped(gateway: PrometheusGateway) -> Samples:
    status, text = get(gateway, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """Give the one sample that has these labels; ``None`` if there is none."""
    found = [
        number
        for (one, its), number in samples.items()
        if one == name and labels.items() <= dict(its).items()
    ]
    assert len(found) <= 1, (name, labels)
    return found[0] if found else None


@contextlib.contextmanager
def serving(url: str, max_age: float = 10.0) -> Iterator[tuple[LiveSite, PrometheusGateway]]:
    with (
        live_site(url, max_age=max_age, name="depot") as site,
        PrometheusGateway(site, port=0) as gateway,
    ):
        yield site, gateway


@pytest.mark.both_apis
def test_numbers_are_what_the_client_says(microgrid: Simulator, api: str) -> None:
    with serving(f"{microgrid.url}?api={api}") as (site, gateway):
        site.client.latest(7)
        microgrid.faults.add(Fault(kind="silent", components=[7]))

        def is_same() -> bool:
            samples = scraped(gateway)
            latest: Any = site.client.latest(7)
            currents = [
                value(samples, "microgrid_phase_current_amperes", component_id="7", phase=phase)
                for phase in ("1", "2", "3")
            ]
            return (
                value(samples, "microgrid_active_power_watts", component_id="7"),
                currents,
            ) == (latest.active_power, [*latest.current_per_phase])

        # When what was on its way when he fell silent has come.
        assert eventually(is_same)
        assert eventually(
            lambda: value(scraped(gateway), "microgrid_soc_ratio", component_id="5") is not None
        )
        samples = scraped(gateway)
        assert value(samples, "microgrid_component_state", component_id="7", state="charging") == 1
        soc = value(samples, "microgrid_soc_ratio", component_id="5")
        assert soc is not None
        assert 0 < soc < 1
        assert value(samples, "microgrid_power_watts", subject="grid") is not None
        labels = {
            key for _, its in samples for key, text in its if (key, text) == ("site", "depot")
        }
        assert labels == {"site"}


def test_what_the_client_does_is_counted(microgrid: Simulator) -> None:
    with serving(microgrid.url) as (site, gateway):
        for _ in range(3):
            site.client.set_power(7, 5000.0)
        samples = scraped(gateway)
        assert value(samples, "microgrid_up") == 1
        method = {"method": "set_power"}
        assert value(samples, "microgrid_call_duration_seconds_count", **method) == 3
        assert value(samples, "microgrid_call_duration_seconds_bucket", le="+Inf", **method) == 3
        total = value(samples, "microgrid_call_duration_seconds_sum", **method)
        assert total is not None
        assert 0 < total < 60
        # The site's own calls may still be under way.
        assert eventually(
            lambda: value(scraped(gateway), "microgrid_calls_total") == site.client.stats().calls
        )
        assert value(samples, "microgrid_call_failures_total") == 0
        assert value(samples, "microgrid_stream_reconnects_total", component_id="7") == 0
        assert value(samples, "microgrid_stream_up", component_id="7") == 1
        before = value(samples, "microgrid_stream_messages_total", component_id="7")
        assert before is not None
        assert eventually(
            lambda: (
                (value(scraped(gateway), "microgrid_stream_messages_total", component_id="7") or 0)
                > before
            )
        )


def test_failures_and_reconnects_are_counted(microgrid: Simulator) -> None:
    with serving(microgrid.url) as (site, gateway):
        microgrid.faults.add(Fault(kind="refused", components=[7]))
        with contextlib.suppress(Exception):
            site.client.set_power(7, 5000.0, timeout=1.0)
        assert value(scraped(gateway), "microgrid_call_failures_total") == 1
        microgrid.faults.add(Fault(kind="stream-end", components=[2]))
        assert eventually(
            lambda: value(scraped(gateway), "microgrid_stream_reconnects_total", component_id="2")
        )


def test_what_is_not_valid_is_absent(microgrid: Simulator) -> None:
    with serving(microgrid.url, max_age=0.5) as (_, gateway):
        microgrid.faults.add(Fault(kind="silent", components=[7]))

        def is_absent_alone() -> bool:
            samples = scraped(gateway)
            return (
                value(samples, "microgrid_valid", source="component:7") == 0
                and value(samples, "microgrid_active_power_watts", component_id="7") is None
                and value(samples, "microgrid_active_power_watts", component_id="8") is not None
                and (value(samples, "microgrid_age_seconds", source="component:7") or 0.0) >= 0.5
            )

        def is_told_alone() -> bool:
            # The site is heard; which component is not is told.
            status, text = get(gateway, "/healthz")
            return status == 200 and json.loads(text)["silent_components"] == [7]

        assert eventually(is_absent_alone)
        assert eventually(is_told_alone)


def test_health_is_whether_the_site_is_heard(microgrid: Simulator) -> None:
    with serving(microgrid.url, max_age=0.5) as (_, gateway):
        assert eventually(lambda: get(gateway, "/healthz")[0] == 200)
        fault = microgrid.faults.add(Fault(kind="silent"))

        def is_told() -> bool:
            status, text = get(gateway, "/healthz")
            return status == 503 and json.loads(text)["ok"] is False

        assert eventually(is_told)
        microgrid.faults.end(fault)
        assert eventually(lambda: get(gateway, "/healthz")[0] == 200)


def test_pool_limit_commands_and_masters_are_shown(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site, Commands(site, max_current_a=50.0) as commands:
        source = commands.new_source("modbus", safe_cap_w=4200.0, heartbeat_timeout=60.0)
        with (
            ModbusGateway(site, port=0, source=source) as modbus,
            PrometheusGateway(site, port=0, commands=commands, modbus=modbus) as gateway,
        ):
            source.set_cap(6000.0, by="me")
            source.heartbeat()
            assert eventually(lambda: draw(microgrid) <= 6001)
            with Master(modbus.port) as master:
                master.input(0)
                samples = scraped(gateway)
            assert value(samples, "microgrid_modbus_masters") == 1
            assert value(samples, "microgrid_modbus_requests_total") == 1
            assert value(samples, "microgrid_cap_watts") == 6000
            assert value(samples, "microgrid_heartbeat_age_seconds", source="modbus")

            def is_shown() -> bool:
                found = scraped(gateway)
                names = (
                    ("microgrid_target_power_watts", {"subject": "chargers"}),
                    ("microgrid_allocation_watts", {"component_id": "7"}),
                    ("microgrid_phase_headroom_amperes", {"phase": "1"}),
                    ("microgrid_max_current_amperes", {"subject": "limit/grid"}),
                )
                return None not in [value(found, name, **its) for name, its in names]

            assert eventually(is_shown)


def test_site_that_is_down_has_metrics_all_the_same(port: int) -> None:
    with (
        MicrogridApiClient(f"grpc://127.0.0.1:{port}", timeout=1.0) as client,
        LiveSite(client) as site,
        PrometheusGateway(site, port=0) as gateway,
    ):
        assert value(scraped(gateway), "microgrid_up") == 0
        assert get(gateway, "/healthz")[0] == 503


def test_other_paths_are_not_there(microgrid: Simulator) -> None:
    with serving(microgrid.url) as (_, gateway):
        status, text = get(gateway, "/")
        assert status == 404
        assert "/metrics" in text
        assert re.fullmatch(r"<PrometheusGateway of depot on port \d+>", repr(gateway))


def test_who_hangs_or_sends_rubbish_holds_nobody_up(microgrid: Simulator) -> None:
    with serving(microgrid.url) as (_, gateway), contextlib.ExitStack() as stack:
        for number in range(60):
            bad = stack.enter_context(
                socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE)
            )
            with contextlib.suppress(OSError):
                bad.sendall(b"\0\xff GET nothing \r\n" if number % 2 else b"GET /met")
        assert get(gateway, "/metrics")[0] == 200
