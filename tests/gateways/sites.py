"""Sites for gateways, and what their tests ask of them."""

import contextlib
from collections.abc import Iterator
from typing import Any

from microgrid_sync import MicrogridApiClient
from microgrid_sync.gateways import LiveSite
from microgrid_sync.simulator import Simulator
from tests.support.waiting import eventually

CHARGERS = (7, 8)
"""Of the site ``demo``."""


@contextlib.contextmanager
def live_site(url: str, **options: Any) -> Iterator[LiveSite]:
    """Follow a site, of which something has come already."""
    with MicrogridApiClient(url) as client, LiveSite(client, **options) as site:
        assert eventually(lambda: is_known(site)), site.sources()
        yield site


def is_known(site: LiveSite) -> bool:
    """Tell whether all that the site ``demo`` has is known."""
    wanted = {"grid:power", "grid:current", "chargers:power", "chargers:target", "charger:7"}
    sources = site.sources()
    return wanted <= sources.keys() and all(
        sources[source].values.get(name) is not None
        for source, name in (("grid:power", "power_w"), ("chargers:power", "power_w"))
    )


def draw(simulator: Simulator) -> float:
    """Give what all chargers draw, in W."""
    return simulator.change(lambda site: sum(site.flows[number].power for number in CHARGERS))
