"""Days of the shipped site "house" under its fuse: what the cars get, and what the fuse bears.

Physics and rules run in one process on a clock of their own, with answers after 0.2 s and one
set-point of fifty lost. Each day has a seed of its own. Without the limit the same day is lived
once more, to see the fuse blow.

"Used" is what cars draw of the headroom on the tightest phase: what the curve's target leaves
beside the house, as far as those that are there could use it, minimums kept, averaged over the
seconds.

Usage: python house_under_fuse.py [DAYS [FIRST_SEED [first-come|equal]]]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from microgrid_sync import FuseCurve
from microgrid_sync.power.circuits import CircuitLimit, Where
from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.rotation import rotation_name
from tests.support.house import House

RATING = 35.0
MINIMUM = 6.0
DAY = 86_400


class Day:
    """One day, and what is counted in it."""

    def __init__(self, seed: int, distribution: str, *, limited: bool = True) -> None:
        """Make a house in the first second of the day."""
        limits: dict[Where, CircuitLimit] = {}
        if limited:
            limits["grid"] = CircuitLimit(FuseCurve.gG(RATING), None)
        config = ChargingConfig(distribution="equal" if distribution == "equal" else "first-come")
        self.house = House(seed=seed, limits=limits, config=config, lost=0.02)
        self.truth = {
            number: "".join(f"L{phase}" for phase in self.house.site.charger(number).phases)
            for number in self.house.known
        }
        self.seconds_over = self.used = self.headroom = self.energy = 0.0
        self.highest = self.highest_state = 0.0
        self.found: dict[int, float] = {}
        self.wrong = 0

    def live(self) -> None:
        """Live it, until it is over or the fuse has blown."""
        while self.house.now < 10_000 + DAY and not self.house.site.is_dark:
            self.house.run(1, self._count)

    @property
    def hours(self) -> float:
        """How far it has come."""
        return (self.house.now - 10_000) / 3600

    def _count(self) -> None:
        site = self.house.site
        grid = site.flows[1].current(site.line)
        self.seconds_over += max(grid) > RATING
        self.highest = max(self.highest, *grid)
        self.energy += sum(site.charger(n).flow.power for n in self.house.known) / 3.6e6
        circuit = self.house.circuits.circuits.get("grid")
        if circuit is None:
            return
        self.highest_state = max(self.highest_state, *(circuit.thermal or (0.0,)))
        for number, search in circuit.rotations.items():
            name = rotation_name(search.found)
            pairs = zip(name, self.truth[number], strict=True)
            self.wrong += any(a not in {"?", b} for a, b in pairs)
            if "?" not in name:
                self.found.setdefault(number, self.hours)
        self._count_headroom(grid, [circuit.target(phase) for phase in range(3)])

    def _count_headroom(self, grid: tuple[float, ...], target: list[float]) -> None:
        site = self.house.site
        drawn, wanted = [0.0] * 3, [0.0] * 3
        for number in self.house.known:
            charger = site.charger(number)
            for phase, ampere in enumerate(charger.flow.current(site.line)):
                drawn[phase] += ampere
            car = charger.car
            if car is None or car.wanted(0.0) <= 0:
                continue
            used = charger.phases[: car.phases]
            ampere = min(car.wanted(0.0) / len(used) / 230.0, charger.rated_current)
            for phase in used:
                wanted[phase - 1] += ampere
        left = [target[phase] - (grid[phase] - drawn[phase]) for phase in range(3)]
        wanting = [p for p in range(3) if wanted[p] and min(wanted[p], left[p]) >= MINIMUM]
        if wanting:
            tightest = min(wanting, key=lambda p: left[p] - wanted[p])
            could = min(wanted[tightest], left[tightest])
            self.headroom += could
            self.used += min(drawn[tightest], could)


def main() -> None:
    """Live the days, and print."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    distribution = sys.argv[3] if len(sys.argv) > 3 else "first-come"
    used = headroom = over = 0.0
    blown = blown_without = all_found = wrong = 0
    for seed in range(first, first + days):
        day = Day(seed, distribution)
        day.live()
        alone = Day(seed, distribution, limited=False)
        alone.live()
        used, headroom, over = used + day.used, headroom + day.headroom, over + day.seconds_over
        blown += day.house.site.is_dark
        blown_without += alone.house.site.is_dark
        all_found += len(day.found) == len(day.truth)
        wrong += day.wrong
        print(
            f"seed {seed}: {day.energy:.0f} kWh, {100 * day.used / day.headroom:.1f} % used, "
            f"{day.seconds_over:.0f} s over the rating, {day.highest:.1f} A at the most, thermal "
            f"state {day.highest_state:.2f}; rotations found after "
            f"{', '.join(f'{hours:.1f} h' for hours in day.found.values()) or 'none'}; without "
            f"the limit: {'blown after' if alone.house.site.is_dark else 'not blown in'} "
            f"{alone.hours:.1f} h",
            flush=True,
        )
    print(
        f"{days} days, {distribution}: {100 * used / headroom:.1f} % of the headroom used (85 are "
        f"wanted), {over:.0f} s over the rating in all; fuse blown on {blown} days with the limit, "
        f"on {blown_without} without; all rotations found on {all_found} first days, wrong in "
        f"{wrong} seconds"
    )


if __name__ == "__main__":
    main()
