"""What a microgrid is made of and says: plain, frozen, typed values."""

from microgrid_sync.model.component import (
    Component,
    ComponentCategory,
    ComponentId,
    ComponentMetadata,
    ComponentType,
    Fuse,
    GridMetadata,
    InverterType,
)
from microgrid_sync.model.component_errors import (
    BatteryError,
    BatteryErrorCode,
    ErrorLevel,
    InverterError,
    InverterErrorCode,
)
from microgrid_sync.model.connection import Connection
from microgrid_sync.model.data import (
    BatteryData,
    ComponentData,
    EVChargerData,
    InverterData,
    MeterData,
)
from microgrid_sync.model.metadata import Location, Metadata
from microgrid_sync.model.metrics import ComponentMetricId
from microgrid_sync.model.states import (
    BatteryComponentState,
    BatteryRelayState,
    EVChargerCableState,
    EVChargerComponentState,
    InverterComponentState,
)

__all__ = [
    "BatteryComponentState",
    "BatteryData",
    "BatteryError",
    "BatteryErrorCode",
    "BatteryRelayState",
    "Component",
    "ComponentCategory",
    "ComponentData",
    "ComponentId",
    "ComponentMetadata",
    "ComponentMetricId",
    "ComponentType",
    "Connection",
    "EVChargerCableState",
    "EVChargerComponentState",
    "EVChargerData",
    "ErrorLevel",
    "Fuse",
    "GridMetadata",
    "InverterComponentState",
    "InverterData",
    "InverterError",
    "InverterErrorCode",
    "InverterType",
    "Location",
    "Metadata",
    "MeterData",
]
