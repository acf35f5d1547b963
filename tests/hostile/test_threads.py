"""Eight threads that do anything at any time, with the interpreter switching all the time."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from microgrid_sync import (
    ApiClientError,
    Bounds,
    EVChargerPool,
    Microgrid,
    MicrogridApiClient,
    Power,
    Receiver,
    ReceiverStoppedError,
    merge,
)
from microgrid_sync.simulator import Simulator
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.both_apis

SECONDS = float(os.environ.get("STRESS_SECONDS", "8"))
"""How long each goes on; before a release half a minute."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.microgrid("depot", sample_interval=0.02)
def test_anything_at_any_time(microgrid: Simulator) -> None:
    client = MicrogridApiClient(microgrid.url, timeout=PATIENCE)
    chargers = [101, 102, 103, 201, 202]
    unexpected: list[BaseException] = []
    done = {"actions": 0}

    def subscribe(chance: random.Random) -> None:
        with client.ev_charger_data(chance.choice(chargers)) as receiver:
            for _ in range(chance.randrange(5)):
                receiver.receive(timeout=1.0)
            receiver.latest()
            receiver.drain()

    def read_merged(chance: random.Random) -> None:
        merged = merge(*[client.ev_charger_data(i) for i in chance.sample(chargers, 3)])
        merged.receive(timeout=1.0)
        merged.close()

    def forget(chance: random.Random) -> None:
        client.ev_charger_data(chance.choice(chargers))

    def command(chance: random.Random) -> None:
        client.set_power(chance.choice(chargers), chance.uniform(0.0, 22_000.0))

    actions: list[Callable[[random.Random], object]] = [
        subscribe,
        subscribe,
        read_merged,
        forget,
        command,
        command,
        lambda _: client.components(),
        lambda _: client.stats(),
        lambda _: client.disconnect(),
        lambda _: client.connect(),
        lambda _: client.connect(),
    ]

    run_in_eight_threads(actions, unexpected, done)
    client.disconnect()
    assert unexpected == []
    assert done["actions"] > 100


def run_in_eight_threads(
    actions: list[Callable[[random.Random], object]],
    unexpected: list[BaseException],
    done: dict[str, int],
) -> None:
    end = time.monotonic() + SECONDS

    def work(seed: int) -> None:
        chance = random.Random(seed)
        # Until enough has been done, however busy the machine is.
        while time.monotonic() < end or (
            done["actions"] <= 100 and not unexpected and time.monotonic() < end + 2 * PATIENCE
        ):
            try:
                chance.choice(actions)(chance)
                done["actions"] += 1
            except (ApiClientError, ReceiverStoppedError, TimeoutError):
                # All that the documentation names.
                continue
            except BaseException as error:  # noqa: BLE001 - anything else is what this is for
                unexpected.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS + 5 * PATIENCE)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.microgrid("depot", sample_interval=0.05)
def test_pools_made_proposed_and_closed_at_any_time(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Three pools and two formulas of one microgrid, which is closed and made again."""
    client = MicrogridApiClient(microgrid.url, timeout=PATIENCE)
    period = timedelta(seconds=0.1)
    # Protects replacing the one below, by whoever closes the one before.
    replacing = threading.Lock()
    current = [Microgrid(client, resampling_period=period)]
    receivers: list[Receiver[Any]] = []
    unexpected: list[BaseException] = []
    done = {"actions": 0}
    sets = [None, [101, 102], [101, 103, 201]]

    def pool(chance: random.Random) -> EVChargerPool:
        number = chance.randrange(3)
        return current[0].new_ev_charger_pool(priority=number, component_ids=sets[number])

    def propose(chance: random.Random) -> None:
        watts = Power.from_watts(chance.uniform(0.0, 100_000.0))
        try:
            pool(chance).propose_power(None, bounds=Bounds(None, watts))
        except ValueError as error:
            # The sets overlap.
            assert "equal or apart" in str(error)  # noqa: PT017 - both is right

    def withdraw(chance: random.Random) -> None:
        one = pool(chance)
        try:
            one.propose_power(Power.from_watts(5000.0))
        except ValueError:
            return
        one.stop()

    def receive(chance: random.Random) -> None:
        one = pool(chance)
        fetcher: Any = chance.choice(
            [
                one.power,
                one.current_per_phase,
                one.power_status,
                one.system_power_bounds,
                one.power_distribution_results,
                (one.power * 2).build("double"),
            ]
        )
        receiver = fetcher.new_receiver()
        if chance.random() < 0.2:
            receivers.append(receiver)
            return
        with receiver:
            receiver.receive(timeout=0.2)

    def close(chance: random.Random) -> None:
        if chance.random() < 0.05:
            made = Microgrid(client, resampling_period=period)
            with replacing:
                before, current[0] = current[0], made
            before.close()

    run_in_eight_threads(
        [propose, propose, withdraw, receive, receive, receive, close], unexpected, done
    )
    current[0].close()
    client.disconnect()
    assert unexpected == []
    assert done["actions"] > 100
    for receiver in receivers:
        # What waits is still read.
        list(receiver)
        with pytest.raises(ReceiverStoppedError):
            receiver.receive(PATIENCE)
    assert "failed; it goes on" not in caplog.text
    ours = ("microgrid-control", "microgrid-sum", "microgrid-stream", "microgrid-close")
    assert eventually(
        lambda: not [t.name for t in threading.enumerate() if t.name.startswith(ours)]
    )
