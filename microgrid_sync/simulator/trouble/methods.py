"""Knows the calls of the Microgrid service, and which are the same in all generations."""

_OLD_NAMES = {
    "GetMicrogrid": {"GetMicrogridMetadata"},
    "ListElectricalComponents": {"ListComponents"},
    "ListSensors": {"ListComponents"},
    "ListElectricalComponentConnections": {"ListConnections"},
    "ReceiveElectricalComponentTelemetryStream": {"StreamComponentData"},
    "ReceiveSensorTelemetryStream": {"StreamComponentData"},
    "SetElectricalComponentPower": {"SetPowerActive", "SetPowerReactive"},
    "AugmentElectricalComponentBounds": {"AddInclusionBounds", "AddExclusionBounds"},
    "ClearElectricalComponentBounds": set[str](),
    "StartElectricalComponent": {"Start"},
    "PutElectricalComponentInStandby": {"ColdStandby"},
    "StopElectricalComponent": {"Stop"},
    "AckElectricalComponentError": {"ErrorAck"},
}
"""What calls of v1alpha18 are called in v0.15."""

METHODS = (
    *_OLD_NAMES,
    "GetMicrogridMetadata", "ListComponents", "ListConnections", "CanStreamData",
    "StreamComponentData", "AddExclusionBounds", "AddInclusionBounds", "SetPowerActive",
    "SetPowerReactive", "Start", "HotStandby", "ColdStandby", "Stop", "ErrorAck",
)  # fmt: skip
"""The calls of the Microgrid service: those of v1alpha18 and later, then those of v0.15."""


def same_methods(name: str) -> set[str]:
    """Give the names that a call has in all generations, its own among them."""
    newer = {new for new, old in _OLD_NAMES.items() if name in old}
    return {name, *_OLD_NAMES.get(name, ()), *newer}
