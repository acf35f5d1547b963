"""A site at a real MQTT broker."""

import contextlib
import itertools
import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from microgrid_sync import MicrogridApiClient
from microgrid_sync.gateways import Commands, LiveSite
from microgrid_sync.gateways.config import read_gateways
from microgrid_sync.gateways.mqtt import MqttGateway, _Client
from microgrid_sync.gateways.service import running_gateways
from microgrid_sync.simulator import Fault, Simulator
from tests.gateways.sites import draw, live_site
from tests.integration.broker import Broker, Listener
from tests.support.messages import component
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.1)

POWER = "microgrid/depot/component/7/active_power_w"
GRID = "microgrid/depot/grid/power_w"
COMMAND = "microgrid/depot/command"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once: what is under test is not how long that takes."""
    monkeypatch.setattr("microgrid_sync.gateways.mqtt._RECONNECT_DELAYS", (1, 1))


@contextlib.contextmanager
def publishing(
    url: str, broker: Broker, *, max_age: float = 10.0, commands: bool = False,
    safe: float | None = None, timeout: float = 60.0, **options: Any,
) -> Iterator[tuple[LiveSite, MqttGateway]]:  # fmt: skip
    with live_site(url, max_age=max_age, name="depot") as site, Commands(site) as carrying_out:
        source = None
        if commands:
            source = carrying_out.new_source("mqtt", safe_cap_w=safe, heartbeat_timeout=timeout)
        options = {"interval": 0.2, "port": broker.port, "source": source, **options}
        with MqttGateway(site, commands=carrying_out, **options) as gateway:
            assert eventually(lambda: gateway.is_connected)
            yield site, gateway


@pytest.mark.both_apis
def test_values_are_what_the_client_says(microgrid: Simulator, broker: Broker, api: str) -> None:
    url = f"{microgrid.url}?api={api}"
    with publishing(url, broker) as (site, _), Listener(broker.port) as listener:
        receiver = site.client.ev_charger_data(7, maxsize=1000)
        samples = {}

        def same() -> bool:
            samples.update({sample.timestamp: sample for sample in receiver.drain()})
            told = listener.newest.get(POWER)
            if told is None:
                return False
            said = json.loads(told.payload)
            sample = samples.get(datetime.fromisoformat(said["time"]))
            return sample is not None and said == {
                "value": sample.active_power, "time": said["time"], "valid": True,
            }  # fmt: skip

        assert eventually(same)
        assert eventually(lambda: listener.text("microgrid/depot/status") == "online")
        state = "microgrid/depot/component/7/component_state"
        assert eventually(lambda: listener.value(state) == "charging")
        assert eventually(lambda: isinstance(listener.value(GRID), float))
        assert eventually(lambda: listener.value("microgrid/depot/batteries/soc_percent"))
        assert eventually(lambda: listener.is_valid("microgrid/depot/commands/cap_w"))
        receiver.close()


def test_values_are_retained(microgrid: Simulator, broker: Broker) -> None:
    with Listener(broker.port) as first:
        with publishing(microgrid.url, broker):
            assert eventually(lambda: first.value(POWER))
        # Nothing is on its way any more.
        assert eventually(lambda: first.text("microgrid/depot/status") == "offline")
    with Listener(broker.port) as listener:
        assert eventually(lambda: POWER in listener.newest)
        assert listener.newest[POWER].retained
        # And nobody takes them for new.
        assert eventually(lambda: listener.text("microgrid/depot/status") == "offline")


def test_one_thread_alone_writes_to_the_broker(
    microgrid: Simulator, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once may mix messages up, and what encrypts may be used by one at a time alone."""
    write, threads = Client.loop_write, set()

    def loop_write(client: Client) -> MQTTErrorCode:
        threads.add(threading.current_thread().name)
        return write(client)

    with Listener(broker.port, "nothing") as listener, monkeypatch.context() as patched:
        patched.setattr(Client, "loop_write", loop_write)
        with publishing(microgrid.url, broker, commands=True) as (_, gateway):
            assert eventually(lambda: gateway.published > 100)
            listener.publish(f"{COMMAND}/cap", {"power_w": 5000, "lifetime_s": 3600})
            assert eventually(lambda: draw(microgrid) <= 5001)
    names = {name for name in threads if name.startswith(("microgrid-", "MainThread"))}
    assert len(names) == 1, names


def test_values_come_no_more_often_than_they_are_to(
    microgrid: Simulator, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, sent = MqttGateway._messages, []

    def noting(gateway: MqttGateway, source: str, *rest: Any, **more: Any) -> Any:
        if source == "component:7":
            sent.append(gateway._sent[source].at)
        return messages(gateway, source, *rest, **more)

    monkeypatch.setattr(MqttGateway, "_messages", noting)
    with publishing(microgrid.url, broker, interval=2.0), Listener(broker.port) as listener:
        sent.clear()
        assert eventually(lambda: len(sent) >= 4)
        assert eventually(lambda: sum(one.topic == POWER for one in listener.all) >= 3)
    # All is told when the broker is there, whatever was told before.
    gaps = [later - one for one, later in itertools.pairwise(sent[1:])]
    assert min(gaps) >= 1.8


def test_gateway_that_dies_is_offline(microgrid: Simulator, broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(
        f'[site]\nurl = "{microgrid.url}"\nname = "depot"\n[mqtt]\nport = {broker.port}\n'
    )
    command = ["python", "-m", "microgrid_sync", "gateway", "mqtt", "--config", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    with Listener(broker.port) as listener:
        assert eventually(lambda: listener.value(POWER))
        assert eventually(lambda: listener.text("microgrid/depot/status") == "online")
        process.kill()
        process.wait(PATIENCE)
        assert eventually(lambda: listener.text("microgrid/depot/status") == "offline")


@pytest.mark.both_apis
def test_cap_with_a_lifetime_is_obeyed(microgrid: Simulator, broker: Broker, api: str) -> None:
    url = f"{microgrid.url}?api={api}"
    with publishing(url, broker, commands=True), Listener(broker.port) as listener:
        listener.publish(f"{COMMAND}/cap", {"power_w": 5000, "lifetime_s": 3600, "by": "EMS"})
        assert eventually(lambda: draw(microgrid) <= 5001)
        assert eventually(lambda: listener.value("microgrid/depot/commands/cap_w") == 5000)
        who = "microgrid/depot/commands/cap_by"
        assert eventually(lambda: listener.value(who) == f"MQTT {COMMAND}/cap (EMS)")
        assert eventually(lambda: listener.text("microgrid/depot/result/cap") is not None)
        answer = json.loads(listener.newest["microgrid/depot/result/cap"].payload)
        assert answer["accepted"] is True
        listener.publish(f"{COMMAND}/cap", {"power_w": 4200, "lifetime_s": 1})
        assert eventually(lambda: draw(microgrid) > 12_000)
        assert eventually(lambda: listener.value("microgrid/depot/commands/cap_w") is None)


@pytest.mark.both_apis
def test_heartbeat_that_stops_leaves_the_safe_value(
    microgrid: Simulator, broker: Broker, api: str
) -> None:
    url = f"{microgrid.url}?api={api}"
    stop = threading.Event()
    with (
        publishing(url, broker, commands=True, safe=4200.0, timeout=2.0),
        Listener(broker.port) as listener,
        Listener(broker.port, "nothing") as other,
    ):

        def beat() -> None:
            while not stop.wait(0.1):
                other.publish(f"{COMMAND}/heartbeat", "")

        beating = threading.Thread(target=beat)
        beating.start()
        cap, result = "microgrid/depot/commands/cap_w", "microgrid/depot/result/cap"
        try:
            # It may have been overdue before the first came.
            assert eventually(
                lambda: listener.value("microgrid/depot/commands/is_safe_value") is False
            )
            listener.publish(f"{COMMAND}/cap", {"power_w": 9000, "lifetime_s": 3600})
            assert eventually(lambda: listener.value(cap) == 9000)
            assert eventually(lambda: 4300 < draw(microgrid) <= 9001)
        finally:
            stop.set()
            beating.join(PATIENCE)
        assert eventually(lambda: draw(microgrid) <= 4201)
        assert eventually(lambda: listener.value("microgrid/depot/commands/is_safe_value"))
        # A cap that cannot hold is accepted, and that is said.
        listener.newest.pop(result)
        listener.publish(f"{COMMAND}/cap", {"power_w": 9000, "lifetime_s": 3600})
        assert eventually(lambda: result in listener.newest)
        assert "overdue" in json.loads(listener.newest[result].payload)["warning"]

        def is_back() -> bool:
            listener.publish(f"{COMMAND}/heartbeat", "")
            return bool(listener.value(cap) == 9000)

        assert eventually(is_back)


def test_limit_is_obeyed(microgrid: Simulator, broker: Broker) -> None:
    with publishing(microgrid.url, broker, commands=True), Listener(broker.port) as listener:
        listener.publish(f"{COMMAND}/limit", {"current_a": 20.0, "lifetime_s": 3600})
        topic = "microgrid/depot/limit/grid/headroom_phase_1_a"
        assert eventually(lambda: listener.is_valid(topic))
        listener.publish(f"{COMMAND}/limit", {"current_a": None})
        # What is not there any more is not valid any more.
        assert eventually(lambda: listener.is_valid(topic) is False)


def test_what_is_no_command_is_refused(
    microgrid: Simulator, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(microgrid.url, broker, commands=True), Listener(broker.port) as listener:
        for payload, text in (
            ("[" * 4000, "must be JSON"),
            ("5000", "must be an object"),
            ({"power": 5000}, "'power_w' is missing"),
            ({"power_w": 5000}, "'lifetime_s' is missing"),
            ({"power_w": 5000, "lifetime_s": 60, "x": 1}, "'x' is unknown"),
            ({"power_w": "5000", "lifetime_s": 60}, "finite number in W"),
            ('{"power_w": NaN, "lifetime_s": 60}', "finite number in W"),
            ({"power_w": 11, "lifetime_s": 60}, "less than any car takes"),
            ({"power_w": 5000, "lifetime_s": 0}, "a lifetime must be"),
            ({"power_w": 5000, "lifetime_s": 60, "by": 5}, "'by' must be a string"),
            (json.dumps({"power_w": 5000}) + " " * 5000, "at most 4096 bytes"),
            ('{"power_w": 1' + "0" * 400 + ', "lifetime_s": 60}', "finite number in W"),
            ('{"power_w": 5000, "lifetime_s": 1' + "0" * 400 + "}", "finite number in s"),
        ):
            listener.newest.pop("microgrid/depot/result/cap", None)
            listener.publish(f"{COMMAND}/cap", payload)
            assert eventually(lambda: "microgrid/depot/result/cap" in listener.newest), payload
            answer = json.loads(listener.newest["microgrid/depot/result/cap"].payload)
            assert answer["accepted"] is False
            assert text in answer["error"], payload
        # So a retained message is taken back: it is no command.
        listener.newest.pop("microgrid/depot/result/cap")
        listener.publish(f"{COMMAND}/cap", "")
        listener.publish(f"{COMMAND}/start", {"x": 1})
        assert eventually(lambda: "microgrid/depot/result/start" in listener.newest)
        assert "microgrid/depot/result/cap" not in listener.newest
        assert listener.value("microgrid/depot/commands/cap_w") is None
    # A line a minute, not one each.
    assert caplog.text.count("is refused") == 1


def test_retained_command_is_not_carried_out(microgrid: Simulator, broker: Broker) -> None:
    with Listener(broker.port) as listener:
        listener.publish(f"{COMMAND}/cap", {"power_w": 5000, "lifetime_s": 3600}, retain=True)
        with publishing(microgrid.url, broker, commands=True):
            assert eventually(lambda: "microgrid/depot/result/cap" in listener.newest)
            answer = json.loads(listener.newest["microgrid/depot/result/cap"].payload)
            assert "retained" in answer["error"]


def test_without_commands_nothing_is_commanded(microgrid: Simulator, broker: Broker) -> None:
    with publishing(microgrid.url, broker) as (site, _), Listener(broker.port) as listener:
        listener.publish(f"{COMMAND}/cap", {"power_w": 5000, "lifetime_s": 3600})
        before = listener.value(POWER)
        assert eventually(lambda: listener.value(POWER) not in {before, None})
        assert "microgrid/depot/result/cap" not in listener.newest
        assert site.report is not None
        assert site.report.target_power is None


@pytest.mark.both_apis
def test_broker_that_is_killed_costs_no_message(
    microgrid: Simulator, broker: Broker, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{microgrid.url}?api={api}"
    reader_is_there = threading.Event()
    reader_is_there.set()
    reconnect = _Client.reconnect

    def reconnecting(client: _Client) -> MQTTErrorCode:
        # Else the reader misses what is told before it is back itself.
        if not reader_is_there.is_set():
            raise OSError("not before the reader")
        return reconnect(client)

    monkeypatch.setattr(_Client, "reconnect", reconnecting)
    with publishing(url, broker, commands=True, interval=0.01) as (site, gateway):
        receiver = site.client.ev_charger_data(7, maxsize=10_000)
        with Listener(broker.port, POWER) as listener:
            assert eventually(lambda: len(listener.all) > 5)
            reader_is_there.clear()
            broker.kill()

        def waiting() -> list[str]:
            with gateway._changed:
                return [json.loads(m.payload)["time"] for m in gateway._waiting if m.topic == POWER]

        assert eventually(lambda: gateway.waiting > 500 and len(waiting()) > 5)
        away = waiting()
        broker.start()
        slow_down(gateway)
        with Listener(broker.port, POWER) as listener:
            reader_is_there.set()
            # Reconnects by itself, and tells what has waited.
            assert eventually(lambda: gateway.is_connected and gateway.waiting == 0)
            assert eventually(lambda: listener.all and _is_recent(listener))
            told = [json.loads(one.payload)["time"] for one in listener.all if not one.retained]
        # In order. Some twice: what was on its way, and what is told once more afterwards.
        moments = [datetime.fromisoformat(one) for one in told]
        assert gateway.dropped == 0
        assert {*away} <= {*told}
        # What is told once more is the newest, so that the first time of each is in order.
        assert list(dict.fromkeys(moments)) == sorted(set(moments))
        # Each is of a sample.
        samples = {sample.timestamp for sample in receiver.drain()}
        assert {one for one in moments if one >= min(samples)} <= samples
        receiver.close()


def _is_recent(listener: Listener) -> bool:
    stamp = datetime.fromisoformat(json.loads(listener.all[-1].payload)["time"])
    return abs(time.time() - stamp.timestamp()) < PATIENCE


def slow_down(gateway: MqttGateway) -> None:
    """Publish seldom from now on: as fast as values come, a busy machine may never catch up."""
    gateway._interval = 2.0


def test_messages_wait_in_order_and_the_oldest_are_dropped(
    microgrid: Simulator, broker: Broker
) -> None:
    with publishing(microgrid.url, broker, buffer=2000, interval=0.01) as (_, gateway):
        broker.kill()
        assert eventually(lambda: gateway.dropped > 500)
        with gateway._changed:
            assert gateway.waiting <= 2000
        slow_down(gateway)
        broker.start()
        with Listener(broker.port) as listener:
            assert eventually(lambda: gateway.is_connected and gateway.waiting < 200)
            assert eventually(lambda: listener.value(POWER) is not None)
            assert eventually(lambda: listener.value("microgrid/depot/component/2/active_power_w"))
            # All that is known is told once more, however little was kept.
            assert eventually(lambda: "microgrid/depot/commands/cap_w" in listener.newest)
            assert eventually(lambda: listener.text("microgrid/depot/status") == "online")


def test_what_was_on_its_way_does_not_overtake_what_came_later(
    microgrid: Simulator, broker: Broker
) -> None:
    topic = "microgrid/depot/commands/cap_w"
    options: dict[str, Any] = {"commands": True, "keepalive": 2, "interval": 1.0}
    with publishing(microgrid.url, broker, **options) as (_, gateway):
        source = gateway.source
        assert source is not None
        for number in range(3):
            broker.stop()
            source.set_cap(5000.0 + number, by="me")
            # It has gone out, and nobody answers.
            assert eventually(lambda: not gateway.is_connected)
            broker.kill()
            newest = 6000.0 + number
            source.set_cap(newest, by="me")
            time.sleep(1.5)
            broker.start()
            assert eventually(lambda: gateway.is_connected and gateway.waiting == 0)
            with Listener(broker.port, topic) as listener:
                deadline = time.monotonic() + PATIENCE
                while listener.value(topic) != newest and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(0.5)
                assert listener.value(topic) == newest


def test_retained_rubbish_disturbs_nothing(microgrid: Simulator, broker: Broker) -> None:
    with Listener(broker.port) as listener:
        for number, rubbish in enumerate(("[" * 3000, "[" * 100_000, '{"valid": true}', "\0")):
            listener.publish(f"microgrid/depot/rubbish/{number}", rubbish, retain=True)
        with publishing(microgrid.url, broker) as (_, gateway):
            assert eventually(lambda: listener.value(POWER))
            assert gateway.is_connected


def test_broker_that_hangs_is_left_and_found_again(microgrid: Simulator, broker: Broker) -> None:
    with publishing(microgrid.url, broker, keepalive=1) as (_, gateway):
        broker.stop()
        assert eventually(lambda: not gateway.is_connected)
        slow_down(gateway)
        broker.go_on()
        assert eventually(lambda: gateway.is_connected and gateway.waiting < 100)
        with Listener(broker.port) as listener:
            assert eventually(lambda: listener.text("microgrid/depot/status") == "online")


def test_what_is_silent_is_not_valid(microgrid: Simulator, broker: Broker) -> None:
    with publishing(microgrid.url, broker, max_age=0.5), Listener(broker.port) as listener:
        assert eventually(lambda: listener.is_valid(POWER))
        fault = microgrid.faults.add(Fault(kind="silent", components=[7]))
        assert eventually(
            lambda: listener.is_valid(POWER) is False and listener.value(POWER) is None
        )
        assert eventually(lambda: listener.is_valid("microgrid/depot/charger/7/status") is False)
        microgrid.faults.end(fault)
        assert eventually(lambda: listener.is_valid(POWER))


def test_values_of_a_gateway_before_are_not_valid_when_the_site_is_down(
    microgrid: Simulator, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.gateways.mqtt._SWEEP_AFTER", 3.0)
    with publishing(microgrid.url, broker), Listener(broker.port) as listener:
        assert eventually(lambda: listener.value(POWER) and listener.is_valid(GRID))
    microgrid.stop()
    with (
        MicrogridApiClient(microgrid.url, timeout=1.0) as client,
        LiveSite(client, name="depot") as site,
        MqttGateway(site, port=broker.port),
        Listener(broker.port) as listener,
    ):
        assert eventually(lambda: listener.is_valid(POWER) is False)
        assert listener.value(POWER) is None
        assert eventually(lambda: listener.is_valid(GRID) is False)
        assert eventually(lambda: listener.text("microgrid/depot/status") == "online")


def test_component_that_goes_while_the_broker_is_away_is_not_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.gateways.mqtt._SWEEP_AFTER", 3.0)
    settings = ("allow_anonymous true", "persistence true", f"persistence_location {tmp_path}/",
                "user root", "autosave_interval 1")  # fmt: skip
    topic = "microgrid/depot/component/2/active_power_w"
    with (
        Broker(tmp_path, *settings) as broker,
        ScriptedServer(component(1, "meter"), component(2, "ev_charger")) as server,
        MicrogridApiClient(server.url) as client,
        LiveSite(client, name="depot") as site,
        MqttGateway(site, port=broker.port, buffer=5, home_assistant="homeassistant") as gateway,
    ):
        with Listener(broker.port) as listener:
            assert eventually(lambda: listener.is_valid(topic))
        broker.end()
        assert eventually(lambda: not gateway.is_connected)
        server.components = [component(1, "meter")]
        assert site.microgrid is not None
        site.microgrid.refresh()
        assert eventually(lambda: site.heard("component:2") is None)
        # That it has gone is dropped: the buffer is small.
        dropped = gateway.dropped
        assert eventually(lambda: gateway.dropped > dropped + 100)
        broker.start()
        with Listener(broker.port) as listener:
            assert eventually(lambda: listener.is_valid(topic) is False)


def test_home_assistant_discovers_what_there_is(microgrid: Simulator, broker: Broker) -> None:
    with (
        publishing(microgrid.url, broker, commands=True, home_assistant="homeassistant"),
        Listener(broker.port) as listener,
    ):
        topic = "homeassistant/sensor/microgrid_depot/component_7_active_power_w/config"
        assert eventually(lambda: topic in listener.newest)
        entity = json.loads(listener.newest[topic].payload)
        assert entity["state_topic"] == POWER
        assert (entity["device_class"], entity["unit_of_measurement"]) == ("power", "W")
        assert entity["name"] == "EV charger 7 active power"
        number = "homeassistant/number/microgrid_depot/cap_w/config"
        assert eventually(lambda: number in listener.newest)
        # What it would send is a command.
        template = json.loads(listener.newest[number].payload)["command_template"]
        listener.publish(f"{COMMAND}/cap", template.replace("{{ value }}", "5000"))
        assert eventually(lambda: draw(microgrid) <= 5001)
        # It has been started anew, and may have lost its memory.
        listener.newest.pop(topic)
        listener.publish("homeassistant/status", "online")
        assert eventually(lambda: topic in listener.newest)
        assert all(
            re.fullmatch(r"[A-Za-z0-9_/-]+", one)
            for one in listener.newest
            if one.startswith("homeassistant/")
        )


def test_user_password_and_certificates_come_from_files(
    microgrid: Simulator, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "user").write_text("depot\n")
    (tmp_path / "password").write_text("secret word\n")
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "depot", "secret word"],
        check=True,
    )
    settings = (
        "allow_anonymous false", f"password_file {tmp_path / 'users'}",
        f"cafile {tmp_path / 'ca.pem'}", f"certfile {tmp_path / 'cert.pem'}",
        f"keyfile {tmp_path / 'key.pem'}", "user root",
    )  # fmt: skip
    with Broker(tmp_path, *settings) as broker:
        config = read_gateways(
            {
                "site": {"url": microgrid.url, "name": "depot"},
                "mqtt": {
                    "port": broker.port, "tls": True, "ca_file": "ca.pem",
                    "user_file": "user", "password_file": "password",
                },
            },
            folder=tmp_path,
        )  # fmt: skip
        assert config.site is not None
        with running_gateways(config, config.site, ["mqtt"]) as running:
            assert running.mqtt is not None
            mqtt = running.mqtt
            assert eventually(lambda: mqtt.published > 100)
            assert "secret" not in repr(mqtt)


def test_wrong_password_is_told_and_tried_again(
    microgrid: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "depot", "right"], check=True
    )
    settings = ("allow_anonymous false", f"password_file {tmp_path / 'users'}", "user root")
    with (
        Broker(tmp_path, *settings) as broker,
        MicrogridApiClient(microgrid.url) as client,
        LiveSite(client, name="depot") as site,
        MqttGateway(site, port=broker.port, user="depot", password="wrong") as gateway,
    ):
        assert eventually(lambda: "refuses the connection: Not authorized" in caplog.text)
        assert not gateway.is_connected
    assert "wrong" not in caplog.text


# The MQTT library leaves the socket of a handshake that fails to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_broker_without_the_right_certificate_is_refused(
    microgrid: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right, other = trustme.CA(), trustme.CA()
    certificate = other.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    settings = (
        "allow_anonymous true", f"certfile {tmp_path / 'cert.pem'}",
        f"keyfile {tmp_path / 'key.pem'}", "user root",
    )  # fmt: skip
    context = ssl.create_default_context()
    right.configure_trust(context)
    with (
        Broker(tmp_path, *settings) as broker,
        live_site(microgrid.url) as site,
        MqttGateway(site, port=broker.port, tls=context) as gateway,
    ):
        assert eventually(lambda: "cannot be reached: unable to get local" in caplog.text)
        assert gateway.published == 0
