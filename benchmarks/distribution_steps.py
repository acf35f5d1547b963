"""A million steps of the distribution of power, with random cars, targets, faults and silences.

Every rule is checked at every step, on the set-points that the simulated server holds. A random
site is kept for some hundred steps; then its faults go, and all must come right.

Usage: python distribution_steps.py [STEPS [SEED]]
"""

import random
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from microgrid_sync.power.config import ChargingConfig
from tests.power.site_model import FAULTS, RATING, Site

STEPS_OF_A_SITE = 500


def new_site(choice: random.Random) -> Site:
    """Make a site of one to six chargers that somebody has proposed power for."""
    config = ChargingConfig(
        distribution=choice.choice(["first-come", "equal"]),
        minimum_on_time=timedelta(seconds=60),
        raise_interval=timedelta(seconds=20),
    )
    site = Site(choice.randint(1, 6), config)
    site.propose(choice.randint(0, 60_000))
    return site


def disturb(site: Site, choice: random.Random) -> None:
    """Let something happen."""
    charger = choice.choice(list(site.chargers.values()))
    match choice.randint(0, 7):
        case 0:
            site.propose(choice.randint(0, 60_000))
        case 1:
            charger.connected = not charger.connected
            charger.car_limit = choice.choice([0.0, 3600.0, 7400.0, 11_000.0, 22_000.0])
        case 2:
            charger.fault = choice.choice(FAULTS)
        case 3:
            charger.silent = choice.random() < 0.3
        case 4:
            charger.is_nan = choice.random() < 0.2
        case 5 if charger.held is not None and not charger.silent and not charger.is_nan:
            charger.upper = choice.choice([3000.0, 8000.0, 11_040.0, RATING])
        case 6:
            charger.cheats = choice.random() < 0.2
        case 7 if choice.random() < 0.2:
            site.withdraw()


def come_right(site: Site) -> None:
    """Without faults, everything is confirmed and within the target after a while."""
    for charger in site.chargers.values():
        charger.silent = charger.is_nan = charger.cheats = False
        charger.fault, charger.upper = "none", RATING
    site.propose(20_000)
    site.run(120)
    assert site.total_held() <= 20_000
    assert all(book.confirmed_limit == book.limit for book in site.books.values())


def main() -> None:
    """Run the steps, and print how many there were."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    choice = random.Random(sys.argv[2] if len(sys.argv) > 2 else 1)  # noqa: S311 - no secret
    done = commands = sites = 0
    while done < steps:
        site = new_site(choice)
        for _ in range(min(STEPS_OF_A_SITE, steps - done)):
            disturb(site, choice)
            site.run(choice.choice([0.01, 0.5, 1.0, 3.0]))
            done += 1
        come_right(site)
        commands += site.commands
        sites += 1
    print(f"{done} steps on {sites} sites, {commands} set-points sent: no rule was broken")


if __name__ == "__main__":
    main()
