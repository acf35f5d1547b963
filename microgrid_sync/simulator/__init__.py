"""Simulates a microgrid: a site that behaves, and misbehaves on request, served over gRPC."""

from microgrid_sync.simulator.cars import Car
from microgrid_sync.simulator.control import TroubleMaker
from microgrid_sync.simulator.description import load_site, shipped_sites
from microgrid_sync.simulator.fault_tables import fault_from
from microgrid_sync.simulator.faults import Fault, FaultKind, Faults
from microgrid_sync.simulator.server import Simulator
from microgrid_sync.simulator.site import Site
from microgrid_sync.simulator.tables import SiteError

__all__ = [
    "Car",
    "Fault",
    "FaultKind",
    "Faults",
    "Simulator",
    "Site",
    "SiteError",
    "TroubleMaker",
    "fault_from",
    "load_site",
    "shipped_sites",
]
