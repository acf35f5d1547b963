"""A site for other systems: their own protocols read and command it.

`LiveSite` follows a site, `Commands` carries out what others command, and each gateway has a module
of its own, which needs its extra.
"""

from microgrid_sync.gateways.commands import CommandError, Commands, CommandSource
from microgrid_sync.gateways.config import GatewayConfig, load_gateways, read_gateways
from microgrid_sync.gateways.live_site import Heard, LiveSite

__all__ = [
    "CommandError",
    "CommandSource",
    "Commands",
    "GatewayConfig",
    "Heard",
    "LiveSite",
    "load_gateways",
    "read_gateways",
]
