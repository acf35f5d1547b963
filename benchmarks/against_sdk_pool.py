"""The published SDK's pool of EV chargers beside ours: energy, cars never charged, set-points.

Two simulators with the same depot of 24 chargers, 20 mixed cars and 60 kW, at the same time, each
with one of the two pools that proposes 60 kW all the time. In real time: the SDK has no clock of
its own. Runs in an environment that has frequenz-sdk: see tox.ini, "interop-v1alpha18".

Usage: python against_sdk_pool.py [MINUTES [MIX]]; for MIX see depot_energy.py.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from frequenz.quantities import Power

from microgrid_sync import ChargingConfig, Microgrid
from microgrid_sync.simulator import Simulator
from microgrid_sync.simulator.physics.site import Site
from tests.support.depot import FIRST, described, plugged

COUNT, TARGET = 24, 60_000.0
SDK_PEER = Path(__file__).parent.parent / "tests" / "interop" / "sdk_peer.py"


@dataclass
class Measured:
    """What one of the two pools has done."""

    name: str
    simulator: Simulator
    joules: dict[int, float] = field(default_factory=dict)
    ideal: float = 0.0
    highest: float = 0.0
    set_points: int = 0
    changes: int = 0

    def begin(self, mix: str) -> None:
        """Let the cars come, and count the set-points from now on."""

        def prepare(site: Site) -> None:
            for number in range(FIRST, FIRST + COUNT):
                limits = site.charger(number).active
                # Beside the method, to count.
                vars(limits)["command"] = self._counted(limits.command)
            for number, kind in enumerate(mix):
                site.charger(FIRST + number).plug_in(plugged(kind, number))

        self.simulator.change(prepare)

    def _counted(self, command: Callable[[float, float], None]) -> Callable[[float, float], None]:
        last: list[float] = []

        def counted(power: float, ends: float) -> None:
            self.set_points += 1
            self.changes += last[-1:] != [power]
            last[:] = [power]
            command(power, ends)

        return counted

    def add(self, seconds: float) -> None:
        """Add what has flowed for some seconds."""

        def flows(site: Site) -> list[tuple[int, float, float]]:
            chargers = [(n, site.charger(n)) for n in range(FIRST, FIRST + COUNT)]
            return [(n, c.flow.power, c.car.wanted(0.0) if c.car else 0.0) for n, c in chargers]

        found = self.simulator.change(flows)
        for number, power, _ in found:
            self.joules[number] = self.joules.get(number, 0.0) + power * seconds
        self.ideal += min(TARGET, sum(wanted for *_, wanted in found)) * seconds
        self.highest = max(self.highest, sum(power for _, power, _ in found))

    def row(self, cars: int) -> str:
        """Give the row of the table."""
        energy = sum(self.joules.values())
        never = sum(self.joules[FIRST + number] < 3600 * 100 for number in range(cars))
        starts = self.simulator.change(
            lambda site: max(site.charger(n).starts for n in range(FIRST, FIRST + COUNT))
        )
        return (
            f"{self.name} | {energy / 3.6e6:.1f} kWh | {energy / self.ideal:.1%} | {never} | "
            f"{self.set_points} | {self.changes} | {starts} | {self.highest / 1000:.1f} kW"
        )


def main() -> None:
    """Run both, and print a table."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    mix = sys.argv[2] if len(sys.argv) > 2 else "11111222223333LLLLLL"
    names = ("frequenz-sdk", "first-come", "equal")
    measured = [Measured(name, Simulator(described(COUNT)).start()) for name in names]
    for one in measured:
        one.begin(mix)
    peer = subprocess.Popen(
        [
            sys.executable, str(SDK_PEER),
            measured[0].simulator.url, str(TARGET), str(minutes * 60 + 60),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    configs = (ChargingConfig(distribution="first-come"), ChargingConfig(distribution="equal"))
    ours = [
        Microgrid(one.simulator.url, charging=config)
        for one, config in zip(measured[1:], configs, strict=True)
    ]
    pools = [microgrid.new_ev_charger_pool(priority=5) for microgrid in ours]
    begin = last = time.monotonic()
    try:
        while time.monotonic() - begin < minutes * 60:
            for pool in pools:
                pool.propose_power(Power.from_watts(TARGET))
            time.sleep(1.0)
            now = time.monotonic()
            for one in measured:
                one.add(now - last)
            last = now
    finally:
        peer.kill()
        for microgrid in ours:
            microgrid.close()
    print("pool | energy | of the ideal | never charged | set-points | changes | starts | highest")
    for one in measured:
        print(one.row(len(mix)))
        one.simulator.stop()


if __name__ == "__main__":
    main()
