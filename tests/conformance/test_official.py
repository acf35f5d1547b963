"""Our descriptors beside the official ones: each field has the same number, type and label.

Runs in environments of its own, each with another version of the official bindings:
``tox -e protobuf-7`` and so on.
"""

import enum
import importlib
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from microgrid_sync import (
    BatteryComponentState,
    BatteryErrorCode,
    BatteryRelayState,
    DiagnosticCode,
    ErrorLevel,
    EVChargerCableState,
    EVChargerComponentState,
    EVChargerData,
    InverterComponentState,
    InverterErrorCode,
    MeterData,
    Metric,
    SensorDiagnosticCode,
    SensorStateCode,
    StateCode,
)
from microgrid_sync.model import ComponentCategory
from microgrid_sync.wire import generation, v0_15_schema, v1alpha18_schema
from tests.support.messages import data, decode


def official(name: str) -> Any:
    return pytest.importorskip(
        name, reason=f"{name} is not in this environment", exc_type=ImportError
    )


def is_repeated(field: Any) -> bool:
    # Newer versions of protobuf have no labels any more.
    found = getattr(field, "is_repeated", None)
    return field.label == FieldDescriptor.LABEL_REPEATED if found is None else bool(found)


def compare(ours: Any, theirs: Any, seen: set[str], *, complete: bool = True) -> None:
    """Compare two messages, and all that they have in them."""
    if ours.full_name in seen or ours.full_name.startswith("google."):
        assert ours.full_name == theirs.full_name or not ours.full_name.startswith("google.")
        return
    seen.add(ours.full_name)
    by_number = {field.number: field for field in theirs.fields}
    where = f"{ours.full_name} and {theirs.full_name}"
    ours_by_number = {field.number: field for field in ours.fields}
    if complete:
        assert ours_by_number.keys() == by_number.keys(), where
    for number, field in ours_by_number.items():
        other = by_number.get(number)
        if other is None:
            continue
        assert field.name == other.name, where
        assert is_repeated(field) == is_repeated(other), f"{where}: {field.name}"
        assert field.has_presence == other.has_presence, f"{where}: {field.name}"
        in_oneof = field.containing_oneof, other.containing_oneof
        assert (in_oneof[0] is None) == (in_oneof[1] is None), f"{where}: {field.name}"
        if other.enum_type is not None:
            # The same on the wire, and any number passes.
            assert field.type == FieldDescriptor.TYPE_INT32, f"{where}: {field.name}"
            continue
        assert field.type == other.type, f"{where}: {field.name}"
        if field.message_type is not None:
            compare(field.message_type, other.message_type, seen, complete=complete)


def methods_of(service: Any) -> dict[str, tuple[Any, Any]]:
    return {m.name: (m.input_type, m.output_type) for m in service.methods}


V0_15 = {
    "GetMicrogridMetadata": (None, "MicrogridMetadata"),
    "ListComponents": ("ComponentFilter", "ComponentList"),
    "ListConnections": ("ConnectionFilter", "ConnectionList"),
    "StreamComponentData": ("ComponentIdParam", "ComponentData"),
    "AddInclusionBounds": ("SetBoundsParam", None),
    "AddExclusionBounds": ("SetBoundsParam", None),
    "SetPowerActive": ("SetPowerActiveParam", None),
    "SetPowerReactive": ("SetPowerReactiveParam", None),
    "Start": ("ComponentIdParam", None),
    "HotStandby": ("ComponentIdParam", None),
    "ColdStandby": ("ComponentIdParam", None),
    "Stop": ("ComponentIdParam", None),
    "ErrorAck": ("ComponentIdParam", None),
}

ALPHA = {
    "GetMicrogrid": (None, "GetMicrogridResponse"),
    "ListElectricalComponents": (
        "ListElectricalComponentsRequest", "ListElectricalComponentsResponse"
    ),
    "ListSensors": ("ListSensorRequest", "ListSensorsResponse"),
    "ListElectricalComponentConnections": (
        "ListElectricalComponentConnectionsRequest", "ListElectricalComponentConnectionsResponse"
    ),
    "ReceiveElectricalComponentTelemetryStream": (
        "ReceiveElectricalComponentTelemetryStreamRequest",
        "ReceiveElectricalComponentTelemetryStreamResponse",
    ),
    "ReceiveSensorTelemetryStream": (
        "ReceiveSensorTelemetryStreamRequest", "ReceiveSensorTelemetryStreamResponse"
    ),
    "AugmentElectricalComponentBounds": (
        "AugmentElectricalComponentBoundsRequest", "AugmentElectricalComponentBoundsResponse"
    ),
    "ClearElectricalComponentBounds": ("ClearElectricalComponentBoundsRequest", None),
    "SetElectricalComponentPower": (
        "SetElectricalComponentPowerRequest", "SetElectricalComponentPowerResponse"
    ),
    "StartElectricalComponent": ("StartElectricalComponentRequest", None),
    "PutElectricalComponentInStandby": ("PutElectricalComponentInStandbyRequest", None),
    "StopElectricalComponent": ("StopElectricalComponentRequest", None),
    "AckElectricalComponentError": ("AckElectricalComponentErrorRequest", None),
}  # fmt: skip


def compare_service(module: Any, table: dict[str, Any], schema: Any) -> None:
    theirs = methods_of(module.DESCRIPTOR.services_by_name["Microgrid"])
    seen: set[str] = set()
    for name, kinds in table.items():
        for ours, official_type in zip(kinds, theirs[name], strict=True):
            if ours is not None:
                compare(getattr(schema, ours).DESCRIPTOR, official_type, seen)
    assert len(seen) > 25


def test_v0_15() -> None:
    compare_service(official("frequenz.api.microgrid.microgrid_pb2"), V0_15, v0_15_schema)


@pytest.mark.parametrize("name", ["v1alpha18", "v1alpha19"])
def test_v1alpha(name: str) -> None:
    module = official(f"frequenz.api.microgrid.{name}.microgrid_pb2")
    compare_service(module, ALPHA, v1alpha18_schema)


def compare_enum(ours: type[enum.Enum], theirs: Any, prefix: str) -> None:
    names = {name.removeprefix(prefix): number for name, number in theirs.items()}
    assert {member.name: member.value for member in ours} == names


def test_enums_of_v0_15() -> None:
    package = "frequenz.api.microgrid"
    battery = official(f"{package}.battery_pb2")
    inverter, charger, common = (
        importlib.import_module(f"{package}.{name}_pb2")
        for name in ("inverter", "ev_charger", "common")
    )
    compare_enum(ErrorLevel, common.ErrorLevel, "ERROR_LEVEL_")
    compare_enum(BatteryErrorCode, battery.ErrorCode, "ERROR_CODE_")
    compare_enum(InverterErrorCode, inverter.ErrorCode, "ERROR_CODE_")
    compare_enum(BatteryComponentState, battery.ComponentState, "COMPONENT_STATE_")
    compare_enum(BatteryRelayState, battery.RelayState, "RELAY_STATE_")
    compare_enum(EVChargerCableState, charger.CableState, "CABLE_STATE_")
    compare_enum(EVChargerComponentState, charger.ComponentState, "COMPONENT_STATE_")
    compare_enum(InverterComponentState, inverter.ComponentState, "COMPONENT_STATE_")


def test_enums_of_v1alpha18() -> None:
    official("frequenz.api.microgrid.v1alpha18.microgrid_pb2")
    package = "frequenz.api.common.v1alpha8"
    metrics = importlib.import_module(f"{package}.metrics.metrics_pb2")
    components = importlib.import_module(
        f"{package}.microgrid.electrical_components.electrical_components_pb2"
    )
    sensors = importlib.import_module(f"{package}.microgrid.sensors.sensors_pb2")
    compare_enum(Metric, metrics.Metric, "METRIC_")
    prefix = "ELECTRICAL_COMPONENT_STATE_CODE_"
    compare_enum(StateCode, components.ElectricalComponentStateCode, prefix)
    prefix = "ELECTRICAL_COMPONENT_DIAGNOSTIC_CODE_"
    compare_enum(DiagnosticCode, components.ElectricalComponentDiagnosticCode, prefix)
    compare_enum(SensorStateCode, sensors.SensorStateCode, "SENSOR_STATE_CODE_")
    compare_enum(SensorDiagnosticCode, sensors.SensorDiagnosticCode, "SENSOR_DIAGNOSTIC_CODE_")


def test_from_proto_takes_official_messages_of_v0_15() -> None:
    module = official("frequenz.api.microgrid.microgrid_pb2")
    payload = data(7, "ev_charger", 5).SerializeToString()
    message = module.ComponentData.FromString(payload)
    ours = decode(generation("v0.15").stream_data(7, ComponentCategory.EV_CHARGER), payload)
    assert repr(EVChargerData.from_proto(message)) == repr(ours)
    assert EVChargerData.from_proto(message).raw is message


def test_from_proto_takes_official_messages_of_v1alpha18() -> None:
    official("frequenz.api.microgrid.v1alpha18.microgrid_pb2")
    components = importlib.import_module(
        "frequenz.api.common.v1alpha8.microgrid.electrical_components.electrical_components_pb2"
    )
    message = components.ElectricalComponentTelemetry(electrical_component_id=7)
    sample = message.metric_samples.add(metric=Metric.AC_POWER_ACTIVE)
    sample.value.simple_metric.value = 5.0
    assert MeterData.from_proto(message).active_power == 5.0
