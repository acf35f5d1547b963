"""Says where a microgrid is, and which one it is; looks its timezone up."""

import functools
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from microgrid_sync.model.shown import Shown, Tabular

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_logger = logging.getLogger(__name__)

# Serializes the look-ups: the finder is not made for several threads at once.
_finder_lock = threading.Lock()


class _Finder(Protocol):
    """What is used of timezonefinder."""

    def timezone_at(self, *, lng: float, lat: float) -> str | None:
        """Give the name of the timezone at a place."""


@functools.cache
def _finder() -> _Finder:
    # Not at import: it brings numpy and the whole world's borders with it.
    from timezonefinder import TimezoneFinder  # noqa: PLC0415 - see above

    return TimezoneFinder()


def _timezone_at(latitude: float, longitude: float) -> "ZoneInfo | None":
    """Look the timezone of a place up; a place without one is logged and gives ``None``."""
    # Not at import either: it reads the system's configuration.
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - see above

    try:
        with _finder_lock:
            name = _finder().timezone_at(lat=latitude, lng=longitude)
        return None if name is None else ZoneInfo(name)
    # A package that cannot be imported, coordinates out of range, a name that the system's timezone
    # database does not have, an unreadable data file: a site without a timezone is worth more than
    # no site at all.
    except (ValueError, KeyError, OSError, ImportError) as error:
        _logger.warning(
            "No timezone found at latitude %r, longitude %r: %s", latitude, longitude, error
        )
        return None


@dataclass(frozen=True, kw_only=True, repr=False)
class Location(Shown):
    """A place on earth."""

    latitude: float | None = None
    """Degrees north of the equator, -90 to 90."""

    longitude: float | None = None
    """Degrees east of Greenwich, -180 to 180."""

    timezone: "ZoneInfo | None" = None
    """The timezone. If it is not given it is looked up from the coordinates; it stays ``None``
    without coordinates, and where none is found."""

    def __post_init__(self) -> None:
        """Look up the timezone if it is not given."""
        if self.timezone is None and self.latitude is not None and self.longitude is not None:
            timezone = _timezone_at(self.latitude, self.longitude)
            object.__setattr__(self, "timezone", timezone)


@dataclass(frozen=True, kw_only=True, repr=False)
class Metadata(Tabular):
    """What is known of a microgrid as a whole."""

    microgrid_id: int | None = None
    """The number of the microgrid."""

    location: Location | None = None
    """Where it is."""
