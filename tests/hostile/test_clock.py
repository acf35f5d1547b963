"""The wall clock is set forward and back: everything keeps its pace."""

import itertools
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from microgrid_sync import (
    LinearBackoff,
    Microgrid,
    MicrogridApiClient,
    OperationTimedOut,
)
from microgrid_sync.simulator import Simulator
from tests.support.server import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

HOUR = 3600.0

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Set the wall clock off by some seconds, for all that asks Python for the time.

    Except for grpcio: it names deadlines by the wall clock to its core, which at once turns them
    into those of a monotonic one, by the true wall clock.
    """
    true_time = time.time

    def set_off(seconds: float) -> None:
        def false_time() -> float:
            asks = sys._getframe(1).f_globals.get("__name__", "")
            return true_time() + (0.0 if asks.startswith("grpc") else seconds)

        monkeypatch.setattr(time, "time", false_time)

    return set_off


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_deadline_of_a_call_keeps_its_pace(
    server: ScriptedServer, set_clock: SetClock, jump: float
) -> None:
    server.answers["SetPowerActive"] = server.never
    with MicrogridApiClient(server.url) as client:
        set_clock(jump)
        began = time.monotonic()
        with pytest.raises(OperationTimedOut):
            client.set_power(1, 1.0, timeout=0.5)
        assert 0.4 < time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_waiting_reader_keeps_its_pace(
    server: ScriptedServer, set_clock: SetClock, jump: float
) -> None:
    server.stream = server.silent_stream
    with MicrogridApiClient(server.url) as client:
        receiver = client.meter_data(1)
        set_clock(jump)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            receiver.receive(timeout=0.5)
        assert 0.4 < time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_back_off_keeps_its_pace(server: ScriptedServer, set_clock: SetClock, jump: float) -> None:
    strategy = LinearBackoff(interval=0.3, jitter=0.0)
    with MicrogridApiClient(server.url, retry_strategy=strategy) as client:
        receiver = client.meter_data(1)
        receiver.receive(PATIENCE)
        set_clock(jump)
        server.stop()
        receiver.drain()
        server.start()
        receiver.receive(PATIENCE)
        assert eventually(lambda: client.stats().streams[0].reconnects >= 1)


@pytest.mark.microgrid("depot", sample_interval=0.05)
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_sum_loop_keeps_its_pace(microgrid: Simulator, set_clock: SetClock, jump: float) -> None:
    period = timedelta(seconds=0.2)
    with Microgrid(microgrid.url, resampling_period=period) as site:
        power = site.new_ev_charger_pool(priority=1).power.new_receiver()
        assert eventually(lambda: power.receive(PATIENCE).value is not None)
        set_clock(jump)
        power.drain()
        stamps = [power.receive(PATIENCE).timestamp for _ in range(10)]
        gaps = {b - a for a, b in itertools.pairwise(stamps)}
        # Of whole periods, never of an hour; a busy machine may leave one out.
        assert all(timedelta(0) < gap < timedelta(seconds=PATIENCE) for gap in gaps)
        assert all(gap % period == timedelta(0) for gap in gaps)
