"""How much of the power reaches the cars: a depot of 24 chargers, 20 mixed cars, 60 kW, two hours.

On the simulator's physics, with a clock of its own. The ideal is the least of the target and what
the cars can take, at each second; a charger of which nothing is known keeps its rating from it.

Usage: python depot_energy.py [MIX ...]; a mix is a string of 1, 2, 3 and L: one-, two- and three-
phase cars of 3.7, 7.4 and 11 kW, and those of 22 kW, in the order of their arrival.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from microgrid_sync.power.config import ChargingConfig
from tests.support.depot import FIRST, Depot, Trouble, plugged

MIXES = {
    "one-phase first": "11111222223333LLLLLL",
    "large first": "LLLLLL33332222211111",
    "in turn": "123L" * 5,
    "most one-phase": "1" * 16 + "2233",
    "one-phase alone": "1" * 20,
    "most three-phase": "3L" * 10,
}
HOURS = 2.0


def troubles() -> Iterator[tuple[str, Trouble]]:
    """Give what is wrong, one after the other."""
    for seconds in (0.05, 1.0, 3.0):
        yield f"answers after {seconds} s", Trouble(seconds)
    last = FIRST + 21
    dead = (last, last + 1, last + 2)
    yield "3 refuse, in error", Trouble(refusing=dead)
    yield "3 silent", Trouble(silent=dead)
    yield "1 refuses, 1 silent, 1 dead", Trouble(refusing=dead[:1], silent=dead[1:2], dead=dead[2:])
    yield "target wobbles by 2 %", Trouble(wobble=0.02)


def main() -> None:
    """Print a table."""
    given = sys.argv[1:]
    mixes = {mix: mix for mix in given} if given else MIXES
    print("mix | trouble | distribution | of the ideal | never charged | starts | set-points")
    for (name, mix), (what, trouble) in itertools.product(mixes.items(), troubles()):
        for distribution in ("first-come", "equal"):
            config = ChargingConfig(distribution=distribution)
            depot = Depot(24, config, 60_000.0, trouble)
            for number, kind in enumerate(mix):
                depot.plug_in(FIRST + number, plugged(kind, number))
                depot.run(5.0)
            depot.run(HOURS * 3600 - 5.0 * len(mix))
            never = sum(depot.received[FIRST + n] < 3600 * 100 for n in range(len(mix)))
            most = max(depot.starts().values())
            print(
                f"{name} | {what} | {distribution} | {depot.energy / depot.wanted:.1%} | {never} | "
                f"{most} at most | {depot.commands}",
                flush=True,
            )


if __name__ == "__main__":
    main()
