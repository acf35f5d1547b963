"""Eight threads that do anything at any time, with the interpreter switching all the time."""

import random
import sys
import threading
import time
from collections.abc import Callable

import pytest

from microgrid_sync import (
    ApiClientError,
    MicrogridApiClient,
    ReceiverStoppedError,
    merge,
)
from microgrid_sync.simulator import Simulator
from tests.support.waiting import PATIENCE

SECONDS = 30.0


@pytest.mark.timeout(300)
@pytest.mark.microgrid("depot", sample_interval=0.02)
def test_anything_at_any_time(microgrid: Simulator) -> None:
    client = MicrogridApiClient(microgrid.url, timeout=PATIENCE)
    chargers = [101, 102, 103, 201, 202]
    unexpected: list[BaseException] = []
    done = {"actions": 0}
    end = time.monotonic() + SECONDS

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

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
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
        client.disconnect()
    assert unexpected == []
    assert done["actions"] > 100
