"""Simulates a microgrid: a site that behaves, and misbehaves on request, served over gRPC.

Its rooms, from the ground up: ``physics``, ``trouble``, ``description``, ``life``, ``serving``.
"""

from microgrid_sync.simulator.description.load import load_site, shipped_sites
from microgrid_sync.simulator.physics.cars import Car
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.simulator.serving.faults import Faults
from microgrid_sync.simulator.serving.server import Simulator
from microgrid_sync.simulator.serving.trouble_service import TroubleMaker
from microgrid_sync.simulator.trouble.fault import Fault, fault_from
from microgrid_sync.simulator.trouble.kinds import FaultKind
from microgrid_sync.tables import SiteError

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
