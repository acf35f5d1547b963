"""Defines what a site is made of, as it is listed, and what can be wrong with it."""

import enum
from dataclasses import dataclass

from microgrid_sync.model import BatteryErrorCode


class SiteCategory(enum.IntEnum):
    """Every category that the API has a number for."""

    UNSPECIFIED = 0
    GRID = 1
    METER = 2
    INVERTER = 3
    CONVERTER = 4
    BATTERY = 5
    EV_CHARGER = 6
    SENSOR = 7
    CRYPTO_MINER = 8
    ELECTROLYZER = 9
    CHP = 10
    RELAY = 11
    PRECHARGE_MODULE = 12


STREAMING = frozenset(
    {
        SiteCategory.METER,
        SiteCategory.INVERTER,
        SiteCategory.BATTERY,
        SiteCategory.EV_CHARGER,
        SiteCategory.SENSOR,
    }
)
"""The categories that the API has data of."""


@dataclass(frozen=True)
class SiteComponent:
    """A component as it is listed."""

    component_id: int
    category: SiteCategory
    name: str
    type: str | None = None
    """The API's word for its type, such as ``solar``; ``None`` if it has none."""

    fuse: float | None = None
    """A: a grid connection's rated fuse current."""

    sample_interval: float = 1.0
    """Seconds between two samples of its data."""


@dataclass(frozen=True)
class ComponentError:
    """An error that a component reports."""

    code: str = "UNSPECIFIED"
    """The API's name of the code, without its prefix."""

    message: str = ""
    recoverable: bool = True
    """Whether it ends when it is acknowledged."""


_UNSPECIFIED_ALONE = ("UNSPECIFIED",)

ERROR_CODES: dict[SiteCategory, tuple[str, ...]] = {
    SiteCategory.BATTERY: tuple(code.name for code in BatteryErrorCode),
    SiteCategory.EV_CHARGER: (
        "UNSPECIFIED", "SWITCH_ON_FAULT", "UNDERVOLTAGE", "OVERVOLTAGE", "OVERCURRENT",
        "OVERTEMPERATURE", "UNEXPECTED_PILOT_FAILURE", "FAULT_CURRENT", "SHORT_CIRCUIT",
        "CONFIG_ERROR", "ILLEGAL_COMPONENT_STATE_REQUESTED", "HARDWARE_INACCESSIBLE", "INTERNAL",
        "CABLE_LOST", "CABLE_LOCK_FAILED", "CABLE_INVALID", "PLUG_UNKNOWN",
        "CONSUMER_NON_STANDARD",
    ),
    SiteCategory.INVERTER: _UNSPECIFIED_ALONE,
    SiteCategory.METER: _UNSPECIFIED_ALONE,
    SiteCategory.SENSOR: _UNSPECIFIED_ALONE,
}  # fmt: skip
"""The words for errors of each category, in the order of their numbers in version 0.15."""

OK, IN_ERROR = 1, 2
"""The states of meters and sensors."""
