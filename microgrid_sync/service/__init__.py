"""Many sites in one process: what is done with them, and each on its own.

`load_sites` reads which there are, `running_sites` serves and records them.
"""

from microgrid_sync.service.running import RunningSites, running_sites
from microgrid_sync.service.sites import (
    RecordTable,
    Share,
    SiteConfig,
    SitesConfig,
    load_sites,
    read_sites,
    share_of,
)

__all__ = [
    "RecordTable",
    "RunningSites",
    "Share",
    "SiteConfig",
    "SitesConfig",
    "load_sites",
    "read_sites",
    "running_sites",
    "share_of",
]
