"""An embedded microgrid: a site that behaves, served over real gRPC."""

from microgrid_sync.simulator.faults import Faults
from microgrid_sync.simulator.server import Simulator
from microgrid_sync.simulator.site import Site, demo_site

__all__ = ["Faults", "Simulator", "Site", "demo_site"]
