"""A blocking, thread-based client for the Frequenz Microgrid API.

`MicrogridApiClient` reads and commands a microgrid from programs without asyncio: scripts,
notebooks, threaded control systems. `Microgrid` and its EV charger pools stand on top of it. Every
name is loaded when it is first asked for, so that nobody waits for what he does not use.
"""

import importlib
from typing import TYPE_CHECKING

from microgrid_sync._version import __version__

if TYPE_CHECKING:
    from frequenz.quantities import (
        Current,
        Power,
        Voltage,
    )

    from microgrid_sync.client import (
        ClientStats,
        MicrogridApiClient,
    )
    from microgrid_sync.ev_charger_pool import (
        EVChargerPool,
        EVChargerPoolError,
        EVChargerPoolReport,
    )
    from microgrid_sync.exceptions import (
        ApiClientError,
        ClientNotConnected,
        DataLoss,
        EntityAlreadyExists,
        EntityNotFound,
        GrpcError,
        InternalError,
        InvalidArgument,
        OperationAborted,
        OperationCancelled,
        OperationNotImplemented,
        OperationOutOfRange,
        OperationPreconditionFailed,
        OperationTimedOut,
        OperationUnauthenticated,
        PermissionDenied,
        ResourceExhausted,
        ServiceUnavailable,
        SetPointFailed,
        SetPointRejected,
        SetPointSuperseded,
        UnknownError,
        UnrecognizedGrpcStatus,
    )
    from microgrid_sync.formulas.formula import (
        Formula,
        Formula3Phase,
    )
    from microgrid_sync.formulas.window import (
        Resampling,
    )
    from microgrid_sync.limit import (
        Limit,
    )
    from microgrid_sync.microgrid import (
        Microgrid,
    )
    from microgrid_sync.model import (
        BatteryComponentState,
        BatteryData,
        BatteryError,
        BatteryErrorCode,
        BatteryRelayState,
        Component,
        ComponentCategory,
        ComponentData,
        ComponentId,
        ComponentMetadata,
        ComponentMetricId,
        ComponentType,
        Connection,
        ErrorLevel,
        EVChargerCableState,
        EVChargerComponentState,
        EVChargerData,
        Fuse,
        GridMetadata,
        InverterComponentState,
        InverterData,
        InverterError,
        InverterErrorCode,
        InverterType,
        Location,
        Metadata,
        MeterData,
    )
    from microgrid_sync.model.bounds import (
        Bounds,
    )
    from microgrid_sync.model.telemetry import (
        Diagnostic,
        MetricSample,
        Sensor,
        Telemetry,
    )
    from microgrid_sync.model.telemetry_codes import (
        DiagnosticCode,
        Metric,
        SensorDiagnosticCode,
        SensorStateCode,
        StateCode,
    )
    from microgrid_sync.notebook.frames import (
        to_dataframe,
    )
    from microgrid_sync.power.config import (
        ChargingConfig,
    )
    from microgrid_sync.power.fuse_curve import (
        FuseCurve,
    )
    from microgrid_sync.power.limit_report import (
        LimitReport,
    )
    from microgrid_sync.power.results import (
        Error,
        OutOfBounds,
        PartialFailure,
        PowerBounds,
        Request,
        Result,
        Success,
    )
    from microgrid_sync.power.status import (
        ChargerReport,
        ChargerStatus,
    )
    from microgrid_sync.receiver import (
        RECEIVER_MAX_SIZE,
        Receiver,
        ReceiverFetcher,
        ReceiverStoppedError,
        merge,
    )
    from microgrid_sync.subscription import (
        Subscription,
    )
    from microgrid_sync.timeseries import (
        Sample,
        Sample3Phase,
        SystemBounds,
    )
    from microgrid_sync.topology import (
        Topology,
    )
    from microgrid_sync.transport.calls import (
        CallTimes,
    )
    from microgrid_sync.transport.channel import (
        DEFAULT_CHANNEL_OPTIONS,
        ChannelOptions,
        KeepAliveOptions,
        SslOptions,
    )
    from microgrid_sync.transport.reachability import (
        ClientState,
    )
    from microgrid_sync.transport.retry import (
        DEFAULT_CALL_RETRY,
        ExponentialBackoff,
        LinearBackoff,
    )
    from microgrid_sync.transport.streams import (
        StreamStats,
    )
else:
    # Not for type checkers, which would believe that any name is there.
    def __getattr__(name):
        """Load a name when it is first asked for (PEP 562)."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
        return value

    def __dir__():
        """List what is loaded already and what is not."""
        return sorted({*globals(), *__all__})


_NAMES = {
    "frequenz.quantities": (
        "Current",
        "Power",
        "Voltage",
    ),
    "microgrid_sync.client": (
        "ClientStats",
        "MicrogridApiClient",
    ),
    "microgrid_sync.ev_charger_pool": (
        "EVChargerPool",
        "EVChargerPoolError",
        "EVChargerPoolReport",
    ),
    "microgrid_sync.exceptions": (
        "ApiClientError",
        "ClientNotConnected",
        "DataLoss",
        "EntityAlreadyExists",
        "EntityNotFound",
        "GrpcError",
        "InternalError",
        "InvalidArgument",
        "OperationAborted",
        "OperationCancelled",
        "OperationNotImplemented",
        "OperationOutOfRange",
        "OperationPreconditionFailed",
        "OperationTimedOut",
        "OperationUnauthenticated",
        "PermissionDenied",
        "ResourceExhausted",
        "ServiceUnavailable",
        "SetPointFailed",
        "SetPointRejected",
        "SetPointSuperseded",
        "UnknownError",
        "UnrecognizedGrpcStatus",
    ),
    "microgrid_sync.formulas.formula": (
        "Formula",
        "Formula3Phase",
    ),
    "microgrid_sync.formulas.window": ("Resampling",),
    "microgrid_sync.limit": ("Limit",),
    "microgrid_sync.microgrid": ("Microgrid",),
    "microgrid_sync.model": (
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
    ),
    "microgrid_sync.model.bounds": ("Bounds",),
    "microgrid_sync.model.telemetry": (
        "Diagnostic",
        "MetricSample",
        "Sensor",
        "Telemetry",
    ),
    "microgrid_sync.model.telemetry_codes": (
        "DiagnosticCode",
        "Metric",
        "SensorDiagnosticCode",
        "SensorStateCode",
        "StateCode",
    ),
    "microgrid_sync.notebook.frames": ("to_dataframe",),
    "microgrid_sync.power.config": ("ChargingConfig",),
    "microgrid_sync.power.fuse_curve": ("FuseCurve",),
    "microgrid_sync.power.limit_report": ("LimitReport",),
    "microgrid_sync.power.results": (
        "Error",
        "OutOfBounds",
        "PartialFailure",
        "PowerBounds",
        "Request",
        "Result",
        "Success",
    ),
    "microgrid_sync.power.status": ("ChargerReport", "ChargerStatus"),
    "microgrid_sync.receiver": (
        "RECEIVER_MAX_SIZE",
        "Receiver",
        "ReceiverFetcher",
        "ReceiverStoppedError",
        "merge",
    ),
    "microgrid_sync.subscription": ("Subscription",),
    "microgrid_sync.timeseries": (
        "Sample",
        "Sample3Phase",
        "SystemBounds",
    ),
    "microgrid_sync.topology": ("Topology",),
    "microgrid_sync.transport.channel": (
        "ChannelOptions",
        "DEFAULT_CHANNEL_OPTIONS",
        "KeepAliveOptions",
        "SslOptions",
    ),
    "microgrid_sync.transport.reachability": ("ClientState",),
    "microgrid_sync.transport.retry": (
        "DEFAULT_CALL_RETRY",
        "ExponentialBackoff",
        "LinearBackoff",
    ),
    "microgrid_sync.transport.calls": ("CallTimes",),
    "microgrid_sync.transport.streams": ("StreamStats",),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "DEFAULT_CALL_RETRY",
    "DEFAULT_CHANNEL_OPTIONS",
    "RECEIVER_MAX_SIZE",
    "ApiClientError",
    "BatteryComponentState",
    "BatteryData",
    "BatteryError",
    "BatteryErrorCode",
    "BatteryRelayState",
    "Bounds",
    "CallTimes",
    "ChannelOptions",
    "ChargerReport",
    "ChargerStatus",
    "ChargingConfig",
    "ClientNotConnected",
    "ClientState",
    "ClientStats",
    "Component",
    "ComponentCategory",
    "ComponentData",
    "ComponentId",
    "ComponentMetadata",
    "ComponentMetricId",
    "ComponentType",
    "Connection",
    "Current",
    "DataLoss",
    "Diagnostic",
    "DiagnosticCode",
    "EVChargerCableState",
    "EVChargerComponentState",
    "EVChargerData",
    "EVChargerPool",
    "EVChargerPoolError",
    "EVChargerPoolReport",
    "EntityAlreadyExists",
    "EntityNotFound",
    "Error",
    "ErrorLevel",
    "ExponentialBackoff",
    "Formula",
    "Formula3Phase",
    "Fuse",
    "FuseCurve",
    "GridMetadata",
    "GrpcError",
    "InternalError",
    "InvalidArgument",
    "InverterComponentState",
    "InverterData",
    "InverterError",
    "InverterErrorCode",
    "InverterType",
    "KeepAliveOptions",
    "Limit",
    "LimitReport",
    "LinearBackoff",
    "Location",
    "Metadata",
    "MeterData",
    "Metric",
    "MetricSample",
    "Microgrid",
    "MicrogridApiClient",
    "OperationAborted",
    "OperationCancelled",
    "OperationNotImplemented",
    "OperationOutOfRange",
    "OperationPreconditionFailed",
    "OperationTimedOut",
    "OperationUnauthenticated",
    "OutOfBounds",
    "PartialFailure",
    "PermissionDenied",
    "Power",
    "PowerBounds",
    "Receiver",
    "ReceiverFetcher",
    "ReceiverStoppedError",
    "Request",
    "Resampling",
    "ResourceExhausted",
    "Result",
    "Sample",
    "Sample3Phase",
    "Sensor",
    "SensorDiagnosticCode",
    "SensorStateCode",
    "ServiceUnavailable",
    "SetPointFailed",
    "SetPointRejected",
    "SetPointSuperseded",
    "SslOptions",
    "StateCode",
    "StreamStats",
    "Subscription",
    "Success",
    "SystemBounds",
    "Telemetry",
    "Topology",
    "UnknownError",
    "UnrecognizedGrpcStatus",
    "Voltage",
    "__version__",
    "merge",
    "to_dataframe",
]
