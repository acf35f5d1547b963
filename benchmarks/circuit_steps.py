"""A million steps of the distribution of power under circuits, with meters that fall silent.

All that distribution_steps.py lets happen to chargers, cars and the server happens here, too, and
the nine rules are checked as there. Houses jump and export, meters fall silent, freeze and come
late. With what could be known, no raise may bring a phase over its limit; and what is sent with a
sample of a phase that is over its limit must fit.

Usage: python circuit_steps.py [STEPS [SEED]]
"""

import random
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from distribution_steps import disturb

from microgrid_sync.power.config import ChargingConfig
from microgrid_sync.power.rotation import rotation_name
from tests.support.circuit_model import ORDERS, CircuitSite, nested
from tests.support.site_model import RATING

STEPS_OF_A_SITE = 300


def new_site(choice: random.Random) -> CircuitSite:
    """Make a site of one to six chargers behind one to three meters."""
    count = choice.randint(1, 6)
    rotations = {n: rotation_name(choice.choice(ORDERS)) for n in range(1, count + 1)}
    config = ChargingConfig(
        distribution=choice.choice(["first-come", "equal"]),
        minimum_on_time=timedelta(seconds=60),
        rest=timedelta(seconds=choice.choice([0, 60, 900])),
        raise_interval=timedelta(seconds=20),
        phase_rotation=rotations if choice.random() < 0.6 else {},
    )
    return CircuitSite(count, config, seed=choice.randrange(2**32), main=nested(count, choice))


def disturb_meters(site: CircuitSite, choice: random.Random) -> None:
    """Let something happen at a meter."""
    meter = choice.choice(site.main.walk())
    match choice.randint(0, 11):
        case 0 | 1 | 2 | 3:
            # A kettle, or something on three phases; sometimes the sun.
            phase = choice.randrange(3)
            meter.house[phase] = choice.uniform(-10.0, 0.8 * meter.limit)
        case 4:
            level = choice.uniform(-15.0, 0.6 * meter.limit)
            meter.house = [level, level, level]
        case 5 | 6:
            meter.house = [choice.uniform(0.0, 3.0) for _ in range(3)]
        case 7:
            meter.is_silent = choice.random() < 0.3
        case 8:
            meter.frozen = None
            if choice.random() < 0.15:
                meter.frozen = site.meter_data(meter), meter.all_houses()
        case 9:
            meter.late = choice.choice([0.0, 0.0, 1.0, 3.0])


def come_right(site: CircuitSite) -> None:
    """Without faults and with small houses, cars that can be served charge in the end."""
    for meter in site.main.walk():
        meter.is_silent, meter.frozen, meter.late = False, None, 0.0
        meter.house = [1.0, 1.0, 1.0]
    for charger in site.chargers.values():
        charger.silent = charger.is_nan = charger.cheats = False
        charger.fault, charger.upper = "none", RATING
    site.proposals = []
    site.run(site.config.rest.total_seconds() + 1500.0)
    wants = [c for c in site.chargers.values() if c.connected and c.car_limit > 4500.0]
    tightest = min(meter.limit for meter in site.main.walk())
    if wants and tightest >= 25.0:
        assert any(charger.draw for charger in site.chargers.values()), "nobody charges"


def main() -> None:
    """Run the steps, and print how many there were."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    choice = random.Random(sys.argv[2] if len(sys.argv) > 2 else 1)  # noqa: S311 - no secret
    done = commands = sites = raises = reductions = 0
    while done < steps:
        site = new_site(choice)
        try:
            for _ in range(min(STEPS_OF_A_SITE, steps - done)):
                (disturb if choice.random() < 0.5 else disturb_meters)(site, choice)
                site.run(choice.choice([0.5, 1.0, 1.0, 3.0, 3.0 if choice.random() < 0.95 else 90]))
                done += 1
            come_right(site)
        except AssertionError as broken:
            sys.exit(f"step {done}, site {sites + 1}: a rule was broken: {broken}")
        commands += site.commands
        raises += site.raises
        reductions += site.reductions
        sites += 1
    print(
        f"{done} steps on {sites} sites, {commands} set-points sent, {raises} raises and "
        f"{reductions} reductions: no rule was broken"
    )


if __name__ == "__main__":
    main()
