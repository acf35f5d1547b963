"""A server that answers everything but its list of components, after a reconnect, at 24 chargers.

Prints how late the samples of a total come, and how long a decrease takes to be held by the server:
both are to be less than 0.1 s late on a quiet machine. The simulator is in the same process.
"""

import time

from microgrid_sync import Bounds, Microgrid, MicrogridApiClient, Power
from microgrid_sync.simulator import Fault, Simulator, Site

SECONDS = 10


def held(site: Site) -> float:
    """Add up the set-points that the site's chargers hold."""
    chargers = [site.charger(number) for number in site.components if _is_charger(site, number)]
    return sum(charger.active.set_point or 0.0 for charger in chargers)


def _is_charger(site: Site, number: int) -> bool:
    return site.components[number].category.name == "EV_CHARGER"


def main() -> None:
    """Measure and print."""
    with (
        Simulator("depot") as simulator,
        MicrogridApiClient(simulator.url) as client,
        Microgrid(client) as microgrid,
    ):
        pool = microgrid.new_ev_charger_pool(priority=1)
        total = pool.power.new_receiver()
        pool.propose_power(None, bounds=Bounds(None, Power.from_kilowatts(120.0)))
        deadline = time.monotonic() + 60
        while simulator.change(held) < 20_000 and time.monotonic() < deadline:
            time.sleep(0.1)
        before = simulator.change(held)
        simulator.faults.add(Fault(kind="unanswered", methods=["ListComponents"]))
        client.disconnect()
        client.connect()
        total.drain()
        late = []
        for _ in range(SECONDS):
            sample = total.receive(30)
            late.append(time.time() - sample.timestamp.timestamp())
        started = time.monotonic()
        pool.propose_power(None, bounds=Bounds(None, Power.zero()))
        while simulator.change(held) > 0 and time.monotonic() < started + 120:
            time.sleep(0.001)
        taken = time.monotonic() - started
        print(f"{len(pool.component_ids)} chargers, {before / 1000:.0f} kW held before")
        print(f"samples of the total: at most {max(late) * 1000:.0f} ms late")
        print(f"the decrease was held after {taken * 1000:.0f} ms")


if __name__ == "__main__":
    main()
