"""Defines what components measure: one value for each message of a component's stream.

Signs follow the passive convention: positive is consumption, negative is production.
"""

import abc
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from microgrid_sync.model.component import ComponentCategory
from microgrid_sync.model.component_errors import BatteryError, InverterError
from microgrid_sync.model.decoders import decode
from microgrid_sync.model.shown import Tabular
from microgrid_sync.model.states import (
    BatteryComponentState,
    BatteryRelayState,
    EVChargerCableState,
    EVChargerComponentState,
    InverterComponentState,
)

PerPhase = tuple[float, float, float]
"""A value for each of phase 1, 2 and 3."""

_CONNECTED_CABLE_STATES = (EVChargerCableState.EV_PLUGGED, EVChargerCableState.EV_LOCKED)
_REFUSING_STATES = (
    EVChargerComponentState.ERROR,
    EVChargerComponentState.AUTHORIZATION_REJECTED,
)


@dataclass(frozen=True, repr=False)
class ComponentData(Tabular, abc.ABC):
    """What all measurements have in common."""

    component_id: int
    """The number of the component that measured."""

    timestamp: datetime
    """When it measured, in UTC."""

    raw: Any = field(default=None, init=False, compare=False, repr=False)
    """The protobuf message this value was made of; ``None`` if it was made otherwise."""

    @classmethod
    @abc.abstractmethod
    def from_proto(cls, raw: Any) -> Self:
        """Make a value of a protobuf message.

        Args:
            raw: The message, for instance a ``frequenz.api.microgrid.ComponentData``.

        Returns:
            The value; its `raw` is the message.

        Raises:
            TypeError: If the message is of another kind.
            ValueError: If the message carries another category's data.
        """


@dataclass(frozen=True, repr=False)
class MeterData(ComponentData):
    """What a meter measures."""

    active_power: float
    """Active power of all phases, in W."""

    active_power_per_phase: PerPhase
    """Active power of each phase, in W."""

    reactive_power: float
    """Reactive power of all phases, in VAr; positive is capacitive, negative inductive."""

    reactive_power_per_phase: PerPhase
    """Reactive power of each phase, in VAr; positive is capacitive, negative inductive."""

    current_per_phase: PerPhase
    """Current of each phase, in A."""

    voltage_per_phase: PerPhase
    """Voltage between each phase and neutral, in V."""

    frequency: float
    """Frequency of the AC voltage, in Hz."""

    @classmethod
    def from_proto(cls, raw: Any) -> Self:
        """See `ComponentData.from_proto`."""
        return decode(cls, raw)


@dataclass(frozen=True, repr=False)
class BatteryData(ComponentData):
    """What a battery measures."""

    soc: float
    """State of charge, in % of the usable capacity."""

    soc_lower_bound: float
    """State of charge below which the system will not discharge the battery, in %."""

    soc_upper_bound: float
    """State of charge above which the system will not charge the battery, in %."""

    capacity: float
    """Capacity, in Wh."""

    power_inclusion_lower_bound: float
    """Lowest DC power allowed, in W; the strongest discharge, so 0 or less."""

    power_exclusion_lower_bound: float
    """Lower end of the range of DC power that is not allowed, in W."""

    power_inclusion_upper_bound: float
    """Highest DC power allowed, in W; the strongest charge, so 0 or more."""

    power_exclusion_upper_bound: float
    """Upper end of the range of DC power that is not allowed, in W."""

    temperature: float
    """Mean temperature, in °C."""

    relay_state: BatteryRelayState
    """Whether the battery is connected to its inverter."""

    component_state: BatteryComponentState
    """What the battery is doing."""

    errors: list[BatteryError] = field(hash=False)
    """What the battery complains of; empty when all is well."""

    @classmethod
    def from_proto(cls, raw: Any) -> Self:
        """See `ComponentData.from_proto`."""
        return decode(cls, raw)


@dataclass(frozen=True, repr=False)
class InverterData(ComponentData):
    """What an inverter measures on its AC side."""

    active_power: float
    """Active power of all phases, in W."""

    active_power_per_phase: PerPhase
    """Active power of each phase, in W."""

    reactive_power: float
    """Reactive power of all phases, in VAr; positive is capacitive, negative inductive."""

    reactive_power_per_phase: PerPhase
    """Reactive power of each phase, in VAr; positive is capacitive, negative inductive."""

    current_per_phase: PerPhase
    """Current of each phase, in A."""

    voltage_per_phase: PerPhase
    """Voltage between each phase and neutral, in V."""

    active_power_inclusion_lower_bound: float
    """Lowest active power allowed, in W."""

    active_power_exclusion_lower_bound: float
    """Lower end of the range of active power that is not allowed, in W."""

    active_power_inclusion_upper_bound: float
    """Highest active power allowed, in W."""

    active_power_exclusion_upper_bound: float
    """Upper end of the range of active power that is not allowed, in W."""

    frequency: float
    """Frequency of the AC voltage, in Hz."""

    component_state: InverterComponentState
    """What the inverter is doing."""

    errors: list[InverterError] = field(hash=False)
    """What the inverter complains of; empty when all is well."""

    @classmethod
    def from_proto(cls, raw: Any) -> Self:
        """See `ComponentData.from_proto`."""
        return decode(cls, raw)


@dataclass(frozen=True, repr=False)
class EVChargerData(ComponentData):
    """What an EV charger measures."""

    active_power: float
    """Active power of all phases, in W."""

    active_power_per_phase: PerPhase
    """Active power of each phase, in W."""

    current_per_phase: PerPhase
    """Current of each phase, in A."""

    reactive_power: float
    """Reactive power of all phases, in VAr; positive is capacitive, negative inductive."""

    reactive_power_per_phase: PerPhase
    """Reactive power of each phase, in VAr; positive is capacitive, negative inductive."""

    voltage_per_phase: PerPhase
    """Voltage between each phase and neutral, in V."""

    active_power_inclusion_lower_bound: float
    """Lowest active power allowed, in W."""

    active_power_exclusion_lower_bound: float
    """Lower end of the range of active power that is not allowed, in W."""

    active_power_inclusion_upper_bound: float
    """Highest active power allowed, in W."""

    active_power_exclusion_upper_bound: float
    """Upper end of the range of active power that is not allowed, in W."""

    frequency: float
    """Frequency of the AC voltage, in Hz."""

    cable_state: EVChargerCableState
    """How far the cable is plugged in."""

    component_state: EVChargerComponentState
    """What the charger is doing."""

    @classmethod
    def from_proto(cls, raw: Any) -> Self:
        """See `ComponentData.from_proto`."""
        return decode(cls, raw)

    def is_ev_connected(self) -> bool:
        """Tell whether there is a car to charge.

        Returns:
            True if the cable is plugged into a car, locked or not, and the charger neither is
                in error nor has refused the car.
        """
        return (
            self.cable_state in _CONNECTED_CABLE_STATES
            and self.component_state not in _REFUSING_STATES
        )


HAS_DATA: dict[ComponentCategory, type[ComponentData]] = {
    ComponentCategory.METER: MeterData,
    ComponentCategory.INVERTER: InverterData,
    ComponentCategory.EV_CHARGER: EVChargerData,
    ComponentCategory.BATTERY: BatteryData,
}
"""The categories that every API has data of."""
