"""A site for other systems: their own protocols read and command it.

`LiveSite` follows a site, `Commands` carries out what others command, and each gateway has a module
of its own, which needs its extra.
"""

from microgrid_sync.gateways.commands import CommandError, Commands, CommandSource
from microgrid_sync.gateways.live_site import Heard, LiveSite

__all__ = [
    "CommandError",
    "CommandSource",
    "Commands",
    "Heard",
    "LiveSite",
]
