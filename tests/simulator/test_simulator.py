"""The simulator as a whole: its clocks, its start and its end."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.experimental
import pytest

from microgrid_sync import (
    ApiClientError,
    ComponentCategory,
    EntityNotFound,
    MicrogridApiClient,
    OperationNotImplemented,
    Receiver,
)
from microgrid_sync.simulator import Fault, Simulator, load_site
from microgrid_sync.simulator.physics.readings import Reading
from microgrid_sync.simulator.serving import v0_15
from microgrid_sync.simulator.serving.v0_15_messages import encode
from microgrid_sync.wire import v0_15_schema as schema
from tests.simulator.descriptions import CHARGER, NOON, description
from tests.support.stub import Stub
from tests.support.waiting import PATIENCE, eventually

NAN = float("nan")


def test_clock_runs_by_itself_and_timestamps_are_the_time_of_day() -> None:
    with (
        Simulator(sample_interval=0.02) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        receiver = client.inverter_data(3)
        values = [receiver.receive(PATIENCE) for _ in range(20)]
        stamps = [value.timestamp for value in values]
        assert stamps == sorted(set(stamps))
        assert abs((stamps[-1] - datetime.now(UTC)).total_seconds()) < 60


def test_clock_runs_faster_than_the_wall_s() -> None:
    with (
        Simulator("every_category", speed=600) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        receiver = client.meter_data(2, maxsize=100_000)
        first, began = receiver.receive(PATIENCE).timestamp, time.monotonic()
        stamps = [first]
        while stamps[-1] < first + timedelta(minutes=10):
            stamps.append(receiver.receive(PATIENCE).timestamp)
        # Nothing is left out, and ten minutes do not take ten minutes.
        assert stamps == [first + timedelta(seconds=n) for n in range(len(stamps))]
        assert time.monotonic() - began < 120


@pytest.mark.computes
def test_clock_stands_until_it_is_stepped() -> None:
    with (
        Simulator("depot", speed=0) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        receiver = client.meter_data(2, maxsize=10_000)
        first = receiver.receive(PATIENCE).timestamp
        with pytest.raises(TimeoutError):
            receiver.receive(timeout=0.1)
        simulator.step(0.5)
        with pytest.raises(TimeoutError):
            receiver.receive(timeout=0.1)
        simulator.step(0.5)
        assert receiver.receive(PATIENCE).timestamp == first + timedelta(seconds=1)
        simulator.step(3600.0)
        stamps = [receiver.receive(PATIENCE).timestamp for _ in range(3600)]
        assert stamps == [first + timedelta(seconds=n) for n in range(2, 3602)]
        assert simulator.time == stamps[-1]


@pytest.mark.computes
def test_client_that_is_stuck_does_not_hold_up_the_clock_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microgrid_sync.simulator.life.running_site._PATIENCE", 0.2)
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
    with (
        Simulator("depot", speed=0) as simulator,
        grpc.insecure_channel(f"127.0.0.1:{simulator.port}", options=[option]) as channel,
    ):
        stub = Stub(channel)
        call = stub.StreamComponentData(schema.ComponentIdParam(id=2))
        next(call)
        # Nobody reads on: after the windows of the connection, the samples wait.
        simulator.step(3000.0)
        assert simulator.time == load_site("depot").time + timedelta(seconds=3000)
        call.cancel()


def test_steps_are_refused_where_they_make_no_sense() -> None:
    simulator = Simulator(speed=0)
    with pytest.raises(RuntimeError, match="has not been started"):
        simulator.step(1.0)
    with simulator:
        for seconds in (-1.0, NAN, float("inf")):
            with pytest.raises(ValueError, match="seconds must be"):
                simulator.step(seconds)
    with (
        Simulator(description(CHARGER), speed=2.0) as running,
        pytest.raises(RuntimeError, match="runs by itself, at speed 2"),
    ):
        running.step(1.0)


def test_steps_of_many_threads_add_up() -> None:
    with Simulator("depot", speed=0) as simulator:
        begin = simulator.time
        threads = [threading.Thread(target=simulator.step, args=(10.0,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert simulator.time - begin == timedelta(seconds=80)


def test_simulator_can_be_stopped_and_started_on_the_same_port() -> None:
    simulator = Simulator(sample_interval=0.02)
    assert simulator.port == 0
    for _ in range(3):
        with simulator, MicrogridApiClient(simulator.url) as client:
            port = simulator.port
            client.meter_data(2).receive(PATIENCE)
        assert simulator.port == port != 0
    simulator.stop()


def test_port_in_use_is_an_error() -> None:
    with Simulator() as simulator:
        with pytest.raises(OSError, match=f"cannot serve on 127.0.0.1:{simulator.port}"):
            Simulator(port=simulator.port).start()
        with pytest.raises(RuntimeError, match="being served already"):
            simulator.start()


@pytest.mark.parametrize(
    "options",
    [
        {"port": -1},
        {"port": 65536},
        {"sample_interval": 0},
        {"sample_interval": NAN},
        {"sample_interval": 0.0001},
        {"speed": -1},
        {"speed": NAN},
        {"speed": 1e9},
        {"start": datetime(2026, 1, 1)},
        {"seed": 0.5},
    ],
)
def test_impossible_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options)))):
        Simulator(**options)


def test_site_that_has_been_made_can_be_served() -> None:
    with Simulator(load_site(description(CHARGER))) as simulator:
        assert simulator.change(lambda site: sorted(site.components)) == [1, 2, 7]
    with pytest.raises(ValueError, match="has been made"):
        Simulator(load_site(), seed=4)


def test_site_of_a_file_can_be_served(tmp_path: Any) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text('connections = []\n[[component]]\nid = 1\ncategory = "grid"\n')
    with Simulator(file) as simulator, MicrogridApiClient(simulator.url) as client:
        assert [c.category for c in client.components()] == [ComponentCategory.GRID]


def test_simulator_serves_ipv6() -> None:
    with (
        Simulator(host="::1", sample_interval=0.02) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        assert simulator.url.startswith("grpc://[::1]:")
        assert client.meter_data(2).receive(PATIENCE)


def test_error_tells_the_reason() -> None:
    with Simulator() as simulator, MicrogridApiClient(simulator.url) as client:
        with pytest.raises(EntityNotFound, match="there is no component 99"):
            client.set_power(99, 1.0)
        with pytest.raises(OperationNotImplemented, match="BATTERY"):
            client.set_power(5, 1.0)


def test_many_readers_share_the_site() -> None:
    found: list[datetime] = []

    def read(url: str) -> None:
        with MicrogridApiClient(url) as client:
            found.append(client.meter_data(2).receive(PATIENCE).timestamp)

    with Simulator("depot", speed=0) as simulator:
        threads = [threading.Thread(target=read, args=(simulator.url,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(found) == 10
    assert len(set(found)) == 1


def test_meters_read_the_sum_of_what_is_behind_them() -> None:
    behind = {2: [3, 4, 6, 9], 6: [7, 8]}
    with (
        Simulator(load_site("demo", start=NOON), speed=0) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        receivers: dict[int, Receiver[Any]] = {
            i: client.meter_data(i, maxsize=500) for i in (2, 6, 9)
        }
        receivers |= {i: client.inverter_data(i, maxsize=500) for i in (3, 4)}
        receivers |= {i: client.ev_charger_data(i, maxsize=500) for i in (7, 8)}
        for receiver in receivers.values():
            receiver.receive(PATIENCE)
        simulator.step(300.0)
        for _ in range(300):
            values = {i: receiver.receive(PATIENCE) for i, receiver in receivers.items()}
            assert len({value.timestamp for value in values.values()}) == 1
            power = {i: value.active_power for i, value in values.items()}
            for meter, parts in behind.items():
                assert power[meter] == pytest.approx(sum(power[p] for p in parts), abs=0.1)
            for value in values.values():
                total = sum(value.active_power_per_phase)
                assert total == pytest.approx(value.active_power, abs=0.1)


def test_set_points_survive_a_restart(port: int) -> None:
    simulator = Simulator("depot", speed=0, port=port)
    with simulator, MicrogridApiClient(simulator.url) as client:
        client.set_power(101, 5000.0)
    with simulator:
        assert simulator.change(lambda site: site.charger(101).active.set_point) == 5000.0


def test_server_that_finds_its_port_taken_tries_again(port: int) -> None:
    with Simulator(speed=0, port=port) as simulator:
        simulator.faults.add(Fault(kind="restart", seconds=1.0))
        simulator.step(0.5)
        with Simulator(port=port):
            simulator.step(3.0)
        simulator.step(3.0)
        with MicrogridApiClient(simulator.url) as client:
            assert eventually(lambda: list(client.components()))


def test_step_that_is_cut_short_is_an_error_and_skips_nothing(port: int) -> None:
    simulator = Simulator("depot", speed=0, port=port).start()
    begin = simulator.time
    stopped = threading.Event()

    def step() -> None:
        with pytest.raises(RuntimeError, match="stopped during a step"):
            simulator.step(1e7)
        stopped.set()

    thread = threading.Thread(target=step)
    thread.start()
    assert eventually(lambda: simulator.time > begin)
    simulator.stop()
    assert stopped.wait(PATIENCE)
    thread.join()
    cut = simulator.time
    with simulator:
        simulator.step(2.0)
        assert simulator.time - cut <= timedelta(seconds=2)


def test_simulator_is_not_stopped_from_within_a_change() -> None:
    with Simulator() as simulator, pytest.raises(RuntimeError, match="change"):
        simulator.change(lambda _: simulator.stop())


@pytest.mark.parametrize("speed", [0, 1, 1000])
def test_simulator_is_started_and_stopped_by_many_threads(speed: float, port: int) -> None:
    simulator = Simulator("depot", speed=speed, port=port)
    problems: list[Exception] = []

    def work() -> None:
        for _ in range(10):
            try:
                simulator.start()
            except RuntimeError:
                # Another thread was faster.
                pass
            except OSError as error:
                problems.append(error)
            simulator.stop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_site_that_has_lived_lives_on() -> None:
    site = load_site("depot")
    begin = site.time
    site.advance(3600.0)
    with Simulator(site, speed=0) as simulator, MicrogridApiClient(simulator.url) as client:
        receiver = client.meter_data(2)
        assert receiver.receive(PATIENCE).timestamp == begin + timedelta(hours=1)
        simulator.step(1.0)
        assert receiver.receive(PATIENCE).timestamp == begin + timedelta(hours=1, seconds=1)
        simulator.change(lambda s: s.advance(100.5))
        simulator.step(2.0)
        assert receiver.receive(PATIENCE).timestamp == begin + timedelta(hours=1, seconds=102)


def test_small_steps_add_up() -> None:
    with Simulator("depot", speed=0) as simulator:
        begin = simulator.time
        for _ in range(10):
            simulator.step(0.1)
        assert simulator.time == begin + timedelta(seconds=1)


@pytest.mark.parametrize("speed", [3600, 100_000])
def test_bounds_last_as_long_as_they_should_however_fast_the_clock(speed: float) -> None:
    with Simulator("depot", speed=speed) as simulator, MicrogridApiClient(simulator.url) as c:
        for _ in range(5):
            request = schema.SetBoundsParam(component_id=101, target_metric=1)  # active power
            request.bounds.upper = 5000.0
            before = simulator.time
            until = (
                Stub(c.channel).AddInclusionBounds(request, timeout=PATIENCE).ToDatetime(tzinfo=UTC)
            )
            after = simulator.time
            # The clock goes on meanwhile.
            assert before <= until - timedelta(seconds=5) <= after + timedelta(seconds=1)


def test_clock_that_cannot_go_on_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def break_it(site: Any) -> None:
        site.devices[101].advance = None

    with (
        Simulator("depot", speed=50) as simulator,
        grpc.insecure_channel(f"127.0.0.1:{simulator.port}") as channel,
    ):
        stub = Stub(channel)
        request = schema.ComponentIdParam(id=2)
        call = stub.StreamComponentData(request, timeout=PATIENCE)
        next(call)
        simulator.change(break_it)
        with pytest.raises(grpc.RpcError):
            list(call)
        assert call.code() is grpc.StatusCode.INTERNAL
    assert "cannot go on" in caplog.text


def test_faults_do_not_set_the_clock_back() -> None:
    with Simulator("depot", speed=20) as simulator:
        begin = simulator.time
        began = time.monotonic()
        while simulator.time - begin <= timedelta(seconds=10):
            number = simulator.faults.add(Fault(kind="late", components=[101]))
            simulator.faults.end(number)
            assert time.monotonic() - began < PATIENCE


def test_step_may_wait_until_all_has_been_sent() -> None:
    with (
        Simulator("depot", speed=0) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        receivers = [client.ev_charger_data(number) for number in range(101, 107)]
        for receiver in receivers:
            receiver.receive(PATIENCE)
        streams = simulator._running_site._streams_of
        for _ in range(20):
            simulator.step(3.0, until_sent=PATIENCE)
            assert all(s.wait_until_at_most(0, 0.0) for of in streams.values() for s in of.open)
        assert eventually(lambda: all(receiver.latest() for receiver in receivers))
        assert eventually(lambda: [s.messages for s in client.stats().streams] == [61] * 6)
        with pytest.raises(ValueError, match="until_sent must be"):
            simulator.step(1.0, until_sent=-1.0)


def test_step_does_not_wait_for_ever_until_all_has_been_sent() -> None:
    with Simulator("depot", speed=0) as simulator:
        # A call that sends nothing.
        with simulator._running_site.stream(2, encode):
            simulator.step(1.0)
            with pytest.raises(TimeoutError, match=r"could be sent within 0\.1 s"):
                simulator.step(1.0, until_sent=0.1)
        simulator.step(1.0, until_sent=PATIENCE)


def test_step_waits_also_for_streams_that_are_to_end() -> None:
    with Simulator("depot", speed=0) as simulator:
        with simulator._running_site.stream(2, encode):
            simulator.step(1.0)
            simulator.faults.add(Fault(kind="stream-end"))
            with pytest.raises(TimeoutError):
                simulator.step(1.0, until_sent=0.1)
        simulator.step(1.0, until_sent=PATIENCE)


def test_only_what_somebody_listens_to_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    def counting(encode: Callable[[Reading], bytes]) -> Callable[[Reading], bytes]:
        def count(reading: Reading) -> bytes:
            encoded.append(reading.component_id)
            return encode(reading)

        return count

    monkeypatch.setattr(v0_15, "encode", counting(encode))
    with Simulator("depot", speed=0, sample_interval=1.0) as simulator:
        simulator.step(60.0)
        assert encoded == []
        url = f"{simulator.url}?api=v0.15"
        with MicrogridApiClient(url) as one, MicrogridApiClient(url) as other:
            receivers = [client.ev_charger_data(101) for client in (one, other)]
            for receiver in receivers:
                receiver.receive(PATIENCE)
            for _ in range(10):
                simulator.step(1.0, until_sent=PATIENCE)
            for receiver in receivers:
                for _ in range(10):
                    receiver.receive(PATIENCE)
    # Once for both.
    assert encoded == [101] * 11


def test_log_says_who_connects_and_what_is_commanded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="microgrid_sync.simulator")
    with (
        Simulator(speed=0) as simulator,
        MicrogridApiClient(simulator.url) as client,
    ):
        client.set_power(7, 5000.0)
        client.set_reactive_power(8, 100.0)
        client.set_bounds(7, 0.0, 9000.0)
        with pytest.raises(ApiClientError):
            client.set_power(7, 1e6)
    text = caplog.text
    assert "connected, speaks v1alpha18" in text
    assert "component 7: set-point of 5000 W" in text
    assert "component 8: set-point of -100 VAr" in text
    assert "component 7: bounds of 0 to 9000" in text
    assert "answered with FAILED_PRECONDITION: component 7: 1000000.0 is not between" in text
