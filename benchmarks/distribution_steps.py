"""A million steps of the distribution of power, with random cars, targets, faults and silences.

Every rule is checked at every change of what the simulated server holds, and that cancels nothing:
what is cut off is carried out with probability 1/2, up to ten seconds later, in any order. It
answers after 0.05, 3 or 6 s, or never, refuses, and restarts without its set-points. A random site
is kept for some hundred steps; then its faults go, and all must come right: confirmed, and raised
to what the target allows.

Usage: python distribution_steps.py [STEPS [SEED]]
"""

import random
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from microgrid_sync.power.config import ChargingConfig
from tests.support.site_model import FAULTS, RATING, SIX_AMPERES, ModelSite

STEPS_OF_A_SITE = 500
CARS = [(0.0, 3), (3600.0, 1), (3600.0, 3), (7200.0, 1), (7400.0, 2), (11_000.0, 3), (22_000.0, 3)]
"""What cars take at the most, in W, and on how many phases."""


def new_site(choice: random.Random) -> ModelSite:
    """Make a site of one to six chargers that somebody has proposed power for."""
    config = ChargingConfig(
        distribution=choice.choice(["first-come", "equal"]),
        minimum_on_time=timedelta(seconds=60),
        rest=timedelta(seconds=choice.choice([0, 60, 900])),
        raise_interval=timedelta(seconds=20),
    )
    site = ModelSite(
        choice.randint(1, 6),
        config,
        seed=choice.randrange(2**32),
        voltage_noise=choice.choice([0.0, 0.0, 0.02]),
    )
    site.propose(choice.randint(0, 60_000))
    return site


def disturb(site: ModelSite, choice: random.Random) -> None:
    """Let something happen."""
    charger = choice.choice(list(site.chargers.values()))
    match choice.randint(0, 9):
        case 0:
            site.propose(choice.randint(0, 60_000))
        case 9 if site.proposals:
            # A target that wobbles.
            site.propose(round(site.proposals[0].bounds.upper * choice.uniform(0.97, 1.03)))
        case 1:
            limit, phases = choice.choice(CARS)
            charger.plug(connected=not charger.connected, car_limit=limit, phases=phases)
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
        case 8 if choice.random() < 0.2:
            site.restart()


def come_right(site: ModelSite) -> None:
    """Without faults, all is confirmed, within the target and raised to it after two minutes."""
    for charger in site.chargers.values():
        charger.silent = charger.is_nan = charger.cheats = False
        charger.fault, charger.upper = "none", RATING
    target = 20_000
    site.propose(target)
    site.run(120)
    for _ in range(100):
        # A change may just be under way: cars take turns.
        if all(charger.ledger.is_confirmed for charger in site.known.values()):
            break
        site.run(0.1)
    else:
        raise AssertionError("not confirmed")
    for _ in range(120):
        # What is not used is taken back now and then, and goes to others some seconds later.
        assert site.total_held() <= target, "more than the target"
        wrong = unserved(site, target)
        if not wrong:
            return
        site.run(1.0)
    raise AssertionError(wrong)


def unserved(site: ModelSite, target: float) -> str:
    """Tell what somebody does not get although it is there; nothing if all is well."""
    held = site.total_held()
    rest = site.config.rest.total_seconds()
    for number, charger in site.chargers.items():
        stay = site.known[number].stay
        rests = stay is not None and site.now < stay.may_start_at(rest)
        is_low = 0 < (charger.held or 0.0) < RATING and charger.draw < charger.car_limit
        # What is left is what shares of whole watts leave.
        if is_low and target - held >= site.count:
            return "not raised"
        waits = charger.connected and charger.car_limit and not charger.held and not rests
        if waits and target - held >= SIX_AMPERES * 1.03:
            return "not served"
    return ""


def main() -> None:
    """Run the steps, and print how many there were."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    choice = random.Random(sys.argv[2] if len(sys.argv) > 2 else 1)  # noqa: S311 - no secret
    done = commands = sites = late = 0
    while done < steps:
        site = new_site(choice)
        try:
            for _ in range(min(STEPS_OF_A_SITE, steps - done)):
                disturb(site, choice)
                site.run(
                    choice.choice([0.01, 0.5, 1.0, 3.0, 3.0 if choice.random() < 0.9 else 90.0])
                )
                done += 1
            come_right(site)
        except AssertionError as broken:
            sys.exit(f"step {done}, site {sites + 1}: a rule was broken: {broken}")
        commands += site.commands
        late += site.late_landings
        sites += 1
    print(
        f"{done} steps on {sites} sites, {commands} set-points sent, {late} landed late: "
        "no rule was broken"
    )


if __name__ == "__main__":
    main()
