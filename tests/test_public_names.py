"""Every public name, with its fields, members and signature: one row each."""

import dataclasses
import enum
import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import microgrid_sync
from microgrid_sync import (
    DEFAULT_CALL_RETRY,
    DEFAULT_CHANNEL_OPTIONS,
    ApiClientError,
    ChannelOptions,
    ClientNotConnected,
    ComponentData,
    EVChargerData,
    GrpcError,
    KeepAliveOptions,
    MicrogridApiClient,
    Receiver,
    SslOptions,
)

REQUIRED = inspect.Parameter.empty

ENUMS: dict[str, dict[str, Any]] = {
    "ComponentCategory": {
        "NONE": 0, "GRID": 1, "METER": 2, "INVERTER": 3, "BATTERY": 5, "EV_CHARGER": 6, "CHP": 10,
    },
    "ComponentType": {},
    "InverterType": {"NONE": 0, "BATTERY": 1, "SOLAR": 2, "HYBRID": 3},
    "ErrorLevel": {"UNSPECIFIED": 0, "WARN": 1, "CRITICAL": 2},
    "BatteryErrorCode": {
        "UNSPECIFIED": 0, "HIGH_CURRENT_CHARGE": 1, "HIGH_CURRENT_DISCHARGE": 2,
        "HIGH_VOLTAGE": 3, "LOW_VOLTAGE": 4, "HIGH_TEMPERATURE": 5, "LOW_TEMPERATURE": 6,
        "HIGH_HUMIDITY": 7, "EXCEEDED_SOP_CHARGE": 8, "EXCEEDED_SOP_DISCHARGE": 9,
        "SYSTEM_IMBALANCE": 10, "LOW_SOH": 11, "BLOCK_ERROR": 12, "CONTROLLER_ERROR": 13,
        "RELAY_ERROR": 14, "RELAY_CYCLE_LIMIT_REACHED": 15, "FUSE_ERROR": 16,
        "EXTERNAL_POWER_SWITCH_ERROR": 17, "PRECHARGE_ERROR": 18,
        "SYSTEM_PLAUSIBILITY_ERROR": 19, "SYSTEM_UNDERVOLTAGE_SHUTDOWN": 20,
        "CALIBRATION_NEEDED": 21,
    },
    "InverterErrorCode": {"UNSPECIFIED": 0},
    "BatteryComponentState": {
        "UNSPECIFIED": 0, "OFF": 1, "IDLE": 2, "CHARGING": 3, "DISCHARGING": 4, "ERROR": 5,
        "LOCKED": 6, "SWITCHING_ON": 7, "SWITCHING_OFF": 8, "UNKNOWN": 9,
    },
    "BatteryRelayState": {
        "UNSPECIFIED": 0, "OPENED": 1, "PRECHARGING": 2, "CLOSED": 3, "ERROR": 4, "LOCKED": 5,
    },
    "EVChargerCableState": {
        "UNSPECIFIED": 0, "UNPLUGGED": 1, "CHARGING_STATION_PLUGGED": 2,
        "CHARGING_STATION_LOCKED": 3, "EV_PLUGGED": 4, "EV_LOCKED": 5,
    },
    "EVChargerComponentState": {
        "UNSPECIFIED": 0, "STARTING": 1, "NOT_READY": 2, "READY": 3, "CHARGING": 4,
        "DISCHARGING": 5, "ERROR": 6, "AUTHORIZATION_REJECTED": 7, "INTERRUPTED": 8, "UNKNOWN": 9,
    },
    "InverterComponentState": {
        "UNSPECIFIED": 0, "OFF": 1, "SWITCHING_ON": 2, "SWITCHING_OFF": 3, "STANDBY": 4,
        "IDLE": 5, "CHARGING": 10, "DISCHARGING": 11, "ERROR": 14, "UNAVAILABLE": 15,
        "UNKNOWN": 16,
    },
    "ClientState": {
        name: name.lower()
        for name in ("DISCONNECTED", "IDLE", "CONNECTING", "READY", "FAILING")
    },
    "ComponentMetricId": {
        name: name.lower()
        for name in (
            "ACTIVE_POWER", "ACTIVE_POWER_PHASE_1", "ACTIVE_POWER_PHASE_2",
            "ACTIVE_POWER_PHASE_3", "REACTIVE_POWER", "REACTIVE_POWER_PHASE_1",
            "REACTIVE_POWER_PHASE_2", "REACTIVE_POWER_PHASE_3", "CURRENT_PHASE_1",
            "CURRENT_PHASE_2", "CURRENT_PHASE_3", "VOLTAGE_PHASE_1", "VOLTAGE_PHASE_2",
            "VOLTAGE_PHASE_3", "FREQUENCY", "SOC", "SOC_LOWER_BOUND", "SOC_UPPER_BOUND",
            "CAPACITY", "POWER_INCLUSION_LOWER_BOUND", "POWER_EXCLUSION_LOWER_BOUND",
            "POWER_EXCLUSION_UPPER_BOUND", "POWER_INCLUSION_UPPER_BOUND",
            "ACTIVE_POWER_INCLUSION_LOWER_BOUND", "ACTIVE_POWER_EXCLUSION_LOWER_BOUND",
            "ACTIVE_POWER_INCLUSION_UPPER_BOUND", "ACTIVE_POWER_EXCLUSION_UPPER_BOUND",
            "TEMPERATURE",
        )
    },
}  # fmt: skip

_DATA = ["component_id", "timestamp", "raw"]
_AC = [
    "active_power", "active_power_per_phase", "reactive_power", "reactive_power_per_phase",
    "current_per_phase", "voltage_per_phase",
]  # fmt: skip
_BOUNDS = [
    "active_power_inclusion_lower_bound", "active_power_exclusion_lower_bound",
    "active_power_inclusion_upper_bound", "active_power_exclusion_upper_bound",
]  # fmt: skip

CODES = ["Metric", "StateCode", "DiagnosticCode", "SensorStateCode", "SensorDiagnosticCode"]
"""Their members are compared with the official ones; see tests/conformance."""

STATES = [
    name for name in ENUMS if name.endswith(("State", "Code", "Level")) and name != "ClientState"
]
"""Those that come from the server."""

FIELDS: dict[str, list[str]] = {
    "Component": [
        "component_id", "category", "type", "metadata", "name", "model", "category_name",
        "rated_bounds", "provides_telemetry", "accepts_control",
    ],
    "Telemetry": [
        "component_id", "timestamp", "metrics", "states", "warnings", "errors", "raw",
    ],
    "MetricSample": ["value", "minimum", "maximum", "bounds"],
    "Diagnostic": ["code", "vendor_code", "message"],
    "Sensor": ["sensor_id", "name", "model"],
    "ComponentMetadata": ["fuse"],
    "GridMetadata": ["fuse"],
    "Fuse": ["max_current"],
    "Connection": ["start", "end"],
    "Location": ["latitude", "longitude", "timezone"],
    "Metadata": ["microgrid_id", "location"],
    "ComponentData": _DATA,
    "MeterData": [*_DATA, *_AC, "frequency"],
    "BatteryData": [
        *_DATA, "soc", "soc_lower_bound", "soc_upper_bound", "capacity",
        "power_inclusion_lower_bound", "power_exclusion_lower_bound",
        "power_inclusion_upper_bound", "power_exclusion_upper_bound", "temperature",
        "relay_state", "component_state", "errors",
    ],
    "InverterData": [*_DATA, *_AC, *_BOUNDS, "frequency", "component_state", "errors"],
    "EVChargerData": [
        *_DATA, "active_power", "active_power_per_phase", "current_per_phase", "reactive_power",
        "reactive_power_per_phase", "voltage_per_phase", *_BOUNDS, "frequency", "cable_state",
        "component_state",
    ],
    "BatteryError": ["code", "level", "message"],
    "InverterError": ["code", "level", "message"],
    "ChannelOptions": ["port", "ssl", "keep_alive"],
    "SslOptions": ["enabled", "root_certificates", "private_key", "certificate_chain"],
    "KeepAliveOptions": ["enabled", "timeout", "interval"],
    "Sample": ["timestamp", "value"],
    "Sample3Phase": ["timestamp", "value_p1", "value_p2", "value_p3"],
    "Bounds": ["lower", "upper"],
    "SystemBounds": ["timestamp", "inclusion_bounds", "exclusion_bounds"],
    "ChargingConfig": [
        "distribution", "minimum_current", "initial_current", "raise_interval",
        "minimum_on_time", "fallback_power", "proposal_lifetime", "max_data_age", "obey_time",
        "rest", "weights", "phase_rotation",
    ],
    "FuseCurve": ["name", "rating", "bound", "time_constant", "largest_step"],
    "LimitReport": [
        "timestamp", "house", "headroom", "thermal_state", "is_exceeded", "reason",
    ],
    "ChargerReport": ["allocation", "draw", "status", "reason", "obey_time"],
    "Request": ["power", "component_ids", "adjust_power"],
    "Success": ["request", "succeeded_power", "succeeded_components", "excess_power"],
    "PartialFailure": [
        "request", "succeeded_power", "succeeded_components", "excess_power", "failed_power",
        "failed_components",
    ],
    "Error": ["request", "msg"],
    "OutOfBounds": ["request", "bounds"],
    "PowerBounds": ["inclusion_lower", "exclusion_lower", "exclusion_upper", "inclusion_upper"],
    "ClientStats": [
        "streams", "calls", "retries", "failures", "resent", "failing_since", "call_times",
    ],
    "CallTimes": ["buckets", "total_s"],
    "StreamStats": [
        "component_id", "messages", "dropped", "undecodable", "reconnects", "age_s",
        "state", "last_error",
    ],
}  # fmt: skip

# Parameter names with their defaults; those after "*" are keywords only.
_ERROR = {"*": None, "server_url": REQUIRED, "operation": REQUIRED}
_GRPC_ERROR = {**_ERROR, "grpc_error": REQUIRED}
_SUBSCRIBE = {"component_id": REQUIRED, "maxsize": 50}
SIGNATURES: dict[str, dict[str, Any]] = {
    "MicrogridApiClient": {
        "server_url": REQUIRED, "*": None, "channel_defaults": DEFAULT_CHANNEL_OPTIONS,
        "connect": True, "retry_strategy": None, "timeout": 60.0,
        "call_retry": DEFAULT_CALL_RETRY, "api": "auto",
    },
    "MicrogridApiClient.connect": {"server_url": None},
    "MicrogridApiClient.disconnect": {},
    "MicrogridApiClient.components": {"*": None, "timeout": None},
    "MicrogridApiClient.connections": {
        "starts": frozenset(), "ends": frozenset(), "*": None, "timeout": None,
    },
    "MicrogridApiClient.metadata": {"*": None, "timeout": None},
    "MicrogridApiClient.meter_data": _SUBSCRIBE,
    "MicrogridApiClient.battery_data": _SUBSCRIBE,
    "MicrogridApiClient.inverter_data": _SUBSCRIBE,
    "MicrogridApiClient.ev_charger_data": _SUBSCRIBE,
    "MicrogridApiClient.set_power": {
        "component_id": REQUIRED, "power_w": REQUIRED, "*": None, "lifetime": None,
        "timeout": None,
    },
    "MicrogridApiClient.set_reactive_power": {
        "component_id": REQUIRED, "reactive_power_var": REQUIRED, "*": None, "lifetime": None,
        "timeout": None,
    },
    "MicrogridApiClient.set_bounds": {
        "component_id": REQUIRED, "lower": REQUIRED, "upper": REQUIRED, "*": None,
        "lifetime": None, "token": None, "timeout": None,
    },
    "MicrogridApiClient.set_exclusion_bounds": {
        "component_id": REQUIRED, "lower": REQUIRED, "upper": REQUIRED, "*": None,
        "timeout": None,
    },
    "MicrogridApiClient.clear_bounds": {
        "component_id": REQUIRED, "token": REQUIRED, "*": None, "timeout": None,
    },
    "MicrogridApiClient.start": {"component_id": REQUIRED, "*": None, "timeout": None},
    "MicrogridApiClient.stop": {"component_id": REQUIRED, "*": None, "timeout": None},
    "MicrogridApiClient.standby": {
        "component_id": REQUIRED, "*": None, "hot": False, "timeout": None,
    },
    "MicrogridApiClient.acknowledge_error": {
        "component_id": REQUIRED, "*": None, "timeout": None,
    },
    "MicrogridApiClient.sensors": {"*": None, "timeout": None},
    "MicrogridApiClient.telemetry": {"component_id": REQUIRED, "metrics": None, "maxsize": 50},
    "MicrogridApiClient.sensor_data": {"sensor_id": REQUIRED, "metrics": None, "maxsize": 50},
    "MicrogridApiClient.stats": {},
    "MicrogridApiClient.latest": {
        "component_id": REQUIRED, "*": None, "max_age": 10.0, "timeout": None,
    },
    "MicrogridApiClient.subscribe": {"component_ids": REQUIRED, "callback": REQUIRED},
    "Subscription.close": {},
    "to_dataframe": {"samples": REQUIRED},
    "Receiver.to_dataframe": {"*": None, "duration": None, "samples": None},
    "Formula.plot": {"*": None, "duration": None, "samples": None},
    "EVChargerPool.plot": {"*": None, "duration": None, "samples": None},
    "Limit.plot": {"*": None, "duration": None, "samples": None},
    "Microgrid.draw": {"*": None, "live": False, "timeout": 5.0},
    "Sample.to_dict": {},
    "MeterData.to_dict": {},
    "Microgrid": {
        "server_url_or_client": REQUIRED, "*": None, "resampling_period": timedelta(seconds=1),
        "charging": microgrid_sync.ChargingConfig(),
        "resampling": microgrid_sync.Resampling(),
    },
    "Microgrid.refresh": {},
    "Microgrid.formula": {
        "text": REQUIRED, "metric": microgrid_sync.ComponentMetricId.ACTIVE_POWER,
        "*": None, "name": None,
    },
    "Resampling": {"max_age_periods": 3, "method": "mean"},
    "Microgrid.new_ev_charger_pool": {
        "*": None, "priority": REQUIRED, "component_ids": None, "name": None,
    },
    "Microgrid.limit": {"where": REQUIRED, "*": None, "max_current": None, "max_power": None},
    "Limit.update": {"*": None, "max_current": None, "max_power": None},
    "Limit.new_receiver": {"*": None, "maxsize": 50},
    "Limit.close": {},
    "FuseCurve.gG": {"amperes": REQUIRED, "*": None, "largest_step": None},
    "FuseCurve.mcb": {"type": REQUIRED, "amperes": REQUIRED, "*": None, "largest_step": None},
    "FuseCurve.sls": {"amperes": REQUIRED, "*": None, "largest_step": None},
    "Microgrid.close": {},
    "EVChargerPool.propose_power": {
        "power": REQUIRED, "bounds": microgrid_sync.Bounds(None, None),
    },
    "EVChargerPool.stop": {},
    "Formula.new_receiver": {"*": None, "maxsize": 50},
    "Formula3Phase.new_receiver": {"*": None, "maxsize": 50},
    "Request": {"power": REQUIRED, "component_ids": REQUIRED, "adjust_power": True},
    "Sample": {"timestamp": REQUIRED, "value": None},
    "Receiver.receive": {"timeout": None},
    "Receiver.latest": {},
    "Receiver.drain": {},
    "Receiver.close": {},
    "ReceiverFetcher.new_receiver": {"*": None, "maxsize": 50},
    "LinearBackoff": {"interval": 3.0, "jitter": 1.0, "limit": None},
    "ExponentialBackoff": {
        "initial_interval": 3.0, "max_interval": 60.0, "multiplier": 2.0, "jitter": 1.0,
        "limit": None,
    },
    "LinearBackoff.next_interval": {},
    "LinearBackoff.get_progress": {},
    "LinearBackoff.reset": {},
    "LinearBackoff.copy": {},
    "ExponentialBackoff.next_interval": {},
    "ExponentialBackoff.get_progress": {},
    "ExponentialBackoff.reset": {},
    "ExponentialBackoff.copy": {},
    "Location": {"*": None, "latitude": None, "longitude": None, "timezone": None},
    "Metadata": {"*": None, "microgrid_id": None, "location": None},
    "Component": {
        "component_id": REQUIRED, "category": REQUIRED, "type": None, "metadata": None,
        "name": None, "model": None, "category_name": None, "rated_bounds": None,
        "provides_telemetry": None, "accepts_control": None,
    },
    "Component.is_valid": {},
    "Connection": {"start": REQUIRED, "end": REQUIRED},
    "Connection.is_valid": {},
    "ComponentMetadata": {"fuse": None},
    "GridMetadata": {"fuse": None},
    "Fuse": {"max_current": REQUIRED},
    "ComponentData.from_proto": {"raw": REQUIRED},
    "MeterData.from_proto": {"raw": REQUIRED},
    "BatteryData.from_proto": {"raw": REQUIRED},
    "InverterData.from_proto": {"raw": REQUIRED},
    "EVChargerData.from_proto": {"raw": REQUIRED},
    "EVChargerData.is_ev_connected": {},
    "BatteryError": {
        "*": None, "code": microgrid_sync.BatteryErrorCode.UNSPECIFIED,
        "level": microgrid_sync.ErrorLevel.UNSPECIFIED, "message": "",
    },
    "InverterError": {
        "*": None, "code": microgrid_sync.InverterErrorCode.UNSPECIFIED,
        "level": microgrid_sync.ErrorLevel.UNSPECIFIED, "message": "",
    },
    "BatteryError.from_pb": {"raw": REQUIRED},
    "InverterError.from_pb": {"raw": REQUIRED},
    "ApiClientError": {**_ERROR, "description": REQUIRED, "retryable": REQUIRED},
    "ApiClientError.from_grpc_error": _GRPC_ERROR,
    "ClientNotConnected": _ERROR,
    "SetPointSuperseded": _ERROR,
    "SetPointRejected": _ERROR,
    "SetPointFailed": _ERROR,
    "GrpcError": {
        **_ERROR, "description": REQUIRED, "grpc_error": REQUIRED, "retryable": REQUIRED,
    },
}  # fmt: skip

GRPC_ERRORS = [
    "OperationCancelled", "UnknownError", "InvalidArgument", "OperationTimedOut",
    "EntityNotFound", "EntityAlreadyExists", "PermissionDenied", "ResourceExhausted",
    "OperationPreconditionFailed", "OperationAborted", "OperationOutOfRange",
    "OperationNotImplemented", "InternalError", "ServiceUnavailable", "DataLoss",
    "OperationUnauthenticated", "UnrecognizedGrpcStatus",
]  # fmt: skip
SIGNATURES.update(dict.fromkeys(GRPC_ERRORS, _GRPC_ERROR))

PROPERTIES = [
    (MicrogridApiClient, "server_url"),
    (MicrogridApiClient, "channel"),
    (MicrogridApiClient, "channel_defaults"),
    (MicrogridApiClient, "is_connected"),
    (MicrogridApiClient, "stub"),
    (microgrid_sync.Microgrid, "client"),
    (microgrid_sync.Microgrid, "topology"),
    (microgrid_sync.EVChargerPool, "component_ids"),
    (microgrid_sync.EVChargerPool, "power"),
    (microgrid_sync.EVChargerPool, "current_per_phase"),
    (microgrid_sync.EVChargerPool, "system_power_bounds"),
    (microgrid_sync.EVChargerPool, "power_status"),
    (microgrid_sync.EVChargerPool, "power_distribution_results"),
    (microgrid_sync.EVChargerPoolReport, "target_power"),
    (microgrid_sync.EVChargerPoolReport, "bounds"),
    (microgrid_sync.EVChargerPoolReport, "distribution_result"),
    (microgrid_sync.EVChargerPoolReport, "chargers"),
    (microgrid_sync.Formula, "expression"),
    (microgrid_sync.Formula3Phase, "expression"),
    (Receiver, "dropped"),
    (Receiver, "maxsize"),
]

OTHER_NAMES = {
    "ComponentId", "DEFAULT_CALL_RETRY", "DEFAULT_CHANNEL_OPTIONS", "RECEIVER_MAX_SIZE",
    "ChargerStatus", "Current", "EVChargerPool", "EVChargerPoolError", "EVChargerPoolReport",
    "Formula", "Formula3Phase", "Limit", "Subscription", "Power", "Result", "Topology", "Voltage",
    "Receiver", "ReceiverFetcher", "ReceiverStoppedError", "__version__", "merge",
}  # fmt: skip


def _resolve(path: str) -> Any:
    value: Any = microgrid_sync
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_the_package_exports_these_names_and_no_others() -> None:
    classes = {name for name in SIGNATURES if "." not in name}
    assert set(microgrid_sync.__all__) == {*ENUMS, *CODES, *FIELDS, *classes, *OTHER_NAMES}


@pytest.mark.parametrize("name", microgrid_sync.__all__)
def test_name_is_importable(name: str) -> None:
    assert getattr(microgrid_sync, name) is not None


@pytest.mark.parametrize("name", ENUMS)
def test_enum_has_exactly_these_members(name: str) -> None:
    assert {member.name: member.value for member in _resolve(name)} == ENUMS[name]


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("number", [-1, 99, 2**31])
def test_unknown_number_gives_the_member_for_it(name: str, number: int) -> None:
    enum_class = _resolve(name)
    expected = "UNKNOWN" if name.endswith("ComponentState") else "UNSPECIFIED"
    assert enum_class.from_pb(number) is enum_class[expected]


@pytest.mark.parametrize("name", STATES)
def test_known_number_gives_its_member(name: str) -> None:
    enum_class = _resolve(name)
    for member in enum_class:
        assert enum_class.from_pb(member.value) is member


@pytest.mark.parametrize("name", FIELDS)
def test_value_has_exactly_these_fields_in_this_order(name: str) -> None:
    assert [field.name for field in dataclasses.fields(_resolve(name))] == FIELDS[name]


@pytest.mark.parametrize("name", FIELDS)
def test_value_is_frozen(name: str) -> None:
    assert _resolve(name).__dataclass_params__.frozen


@pytest.mark.parametrize("path", SIGNATURES)
def test_signature(path: str) -> None:
    parameters = [
        p for p in inspect.signature(_resolve(path)).parameters.values() if p.name != "self"
    ]
    found: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in found:
            found["*"] = None
        found[parameter.name] = parameter.default
    assert list(found.items()) == list(SIGNATURES[path].items())


@pytest.mark.parametrize(("owner", "name"), PROPERTIES, ids=str)
def test_property_cannot_be_set(owner: type, name: str) -> None:
    found = inspect.getattr_static(owner, name)
    assert isinstance(found, property)
    assert found.fset is None


@pytest.mark.parametrize("name", GRPC_ERRORS)
def test_error_is_a_grpc_error(name: str) -> None:
    assert issubclass(_resolve(name), GrpcError)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("ApiClientError", Exception),
        ("ClientNotConnected", ApiClientError),
        ("GrpcError", ApiClientError),
        ("InvalidArgument", ValueError),
        ("SetPointSuperseded", ApiClientError),
        ("SetPointRejected", ApiClientError),
        ("SetPointFailed", ApiClientError),
        ("Metric", enum.IntEnum),
        ("StateCode", enum.IntEnum),
        ("DiagnosticCode", enum.IntEnum),
        ("SensorStateCode", enum.IntEnum),
        ("SensorDiagnosticCode", enum.IntEnum),
        ("InverterType", microgrid_sync.ComponentType),
        ("ComponentType", enum.Enum),
        ("ComponentMetricId", str),
        ("GridMetadata", microgrid_sync.ComponentMetadata),
        ("MeterData", ComponentData),
        ("BatteryData", ComponentData),
        ("InverterData", ComponentData),
        ("EVChargerData", ComponentData),
    ],
)
def test_base_class(name: str, base: type) -> None:
    assert issubclass(_resolve(name), base)


def test_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nonsense'"):
        _resolve("nonsense")
    assert set(microgrid_sync.__all__) <= set(dir(microgrid_sync))


def test_defaults_of_charging() -> None:
    config = microgrid_sync.ChargingConfig()
    assert config.distribution == "first-come"
    assert config.minimum_current == microgrid_sync.Current.from_amperes(6)
    assert config.initial_current == microgrid_sync.Current.from_amperes(10)
    assert config.raise_interval == timedelta(seconds=60)
    assert config.minimum_on_time == timedelta(minutes=15)
    assert config.fallback_power is None
    assert config.proposal_lifetime == timedelta(seconds=60)
    assert config.max_data_age == timedelta(seconds=10)
    assert config.obey_time == timedelta(seconds=5)
    assert config.rest == timedelta(minutes=15)
    assert config.weights == {}


def test_channel_defaults() -> None:
    assert ChannelOptions() == ChannelOptions(
        port=9090,
        ssl=SslOptions(
            enabled=True, root_certificates=None, private_key=None, certificate_chain=None
        ),
        keep_alive=KeepAliveOptions(
            enabled=True, timeout=timedelta(seconds=20), interval=timedelta(seconds=60)
        ),
    )
    assert ChannelOptions(ssl=SslOptions(enabled=False)) == DEFAULT_CHANNEL_OPTIONS


def test_receiver_size() -> None:
    assert microgrid_sync.RECEIVER_MAX_SIZE == 50


def test_component_data_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        ComponentData(1, datetime.now(UTC))  # type: ignore[abstract] # that is what is tested


def test_raw_is_neither_given_nor_compared() -> None:
    assert "raw" not in inspect.signature(EVChargerData).parameters
    raw = next(field for field in dataclasses.fields(EVChargerData) if field.name == "raw")
    assert not raw.compare


def test_errors_are_not_connected_is_retryable() -> None:
    assert ClientNotConnected(server_url="u", operation="o").is_retryable
