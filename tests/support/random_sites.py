"""Random sites that make sense, and what their components would measure."""

import random

from microgrid_sync import ComponentCategory, InverterType
from microgrid_sync.topology import Topology
from tests.support.formulas import topology


class RandomSite:
    """A site, the true powers behind it, and what is measured of them."""

    def __init__(self, seed: int, *, hybrids: bool = True) -> None:
        self.random = random.Random(seed)
        self._devices = "ccccssvvhy" if hybrids else "ccccssvvh"
        self._words: list[str] = []
        self._last = 1
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            if self.random.random() < 0.8:
                self._meter("g1", 0)
            else:
                self._device("g1")
        self.text = " ".join(self._words)
        self.topology: Topology = topology(self.text)
        self.measured: dict[int, float] = {}
        self.loads = 0.0
        for component in self.topology.components():
            if component.category is ComponentCategory.CHP or component.type is InverterType.SOLAR:
                self.measured[component.component_id] = -float(self.random.randint(0, 20_000))
            elif component.category is ComponentCategory.INVERTER:
                power = self.random.randint(-20_000, 20_000)
                self.measured[component.component_id] = float(power)
            elif component.category is ComponentCategory.EV_CHARGER:
                self.measured[component.component_id] = float(self.random.randint(0, 22_000))
        self.grid = sum(self._read(c.component_id) for c in self.topology.reads(1))

    def _new(self, kind: str) -> str:
        self._last += 1
        return f"{kind}{self._last}"

    def _link(self, parent: str, child: str) -> None:
        if self.random.random() < 0.1:
            wire = self._new(self.random.choice("rp"))
            self._words.append(f"{parent}>{wire}")
            parent = wire
        self._words.append(f"{parent}>{child}")

    def _device(self, parent: str) -> None:
        device = self._new(self.random.choice(self._devices))
        self._link(parent, device)
        if device[0] in "vy":
            for _ in range(self.random.choice([1, 1, 1, 2])):
                self._link(device, self._new("b"))

    def _meter(self, parent: str, depth: int) -> None:
        meter = self._new("m")
        self._link(parent, meter)
        if depth and self.random.random() < 0.3:
            return
        for _ in range(self.random.choice([1, 1, 2, 2, 3, 4])):
            if depth < 3 and self.random.random() < 0.4:
                self._meter(meter, depth + 1)
            else:
                self._device(meter)

    def _read(self, number: int) -> float:
        if self.topology.component(number).category is not ComponentCategory.METER:
            return self.measured[number]
        below = [c.component_id for c in self.topology.reads(number)]
        power = sum(self._read(i) for i in below)
        if not below or (self._is_main(number) and len(below) > 1):
            load = float(self.random.randint(100, 9000))
            self.loads += load
            power += load
        self.measured[number] = power
        return power

    def _is_main(self, number: int) -> bool:
        """Tell whether a meter may have a load of its own that is not listed."""
        kinds = {(c.category, c.type) for c in self.topology.reads(number)}
        of_batteries = all(
            self.topology.is_battery_inverter(c.component_id) for c in self.topology.reads(number)
        )
        return self.topology.is_main_meter(number) and len(kinds) > 1 and not of_batteries

    def total(self, *kinds: ComponentCategory | InverterType) -> float:
        """Add up the true powers of devices of some categories or types."""
        return sum(
            power
            for number, power in self.measured.items()
            if self.topology.component(number).category in kinds
            or self.topology.component(number).type in kinds
        )
