"""Names everything that a component can be asked for."""

import enum


class ComponentMetricId(enum.StrEnum):
    """A metric of a component; the values are the lower-case names."""

    ACTIVE_POWER = "active_power"
    """Active power of all phases, in W."""

    ACTIVE_POWER_PHASE_1 = "active_power_phase_1"
    """Active power of phase 1, in W."""
    ACTIVE_POWER_PHASE_2 = "active_power_phase_2"
    """Active power of phase 2, in W."""
    ACTIVE_POWER_PHASE_3 = "active_power_phase_3"
    """Active power of phase 3, in W."""

    REACTIVE_POWER = "reactive_power"
    """Reactive power of all phases, in VAr."""

    REACTIVE_POWER_PHASE_1 = "reactive_power_phase_1"
    """Reactive power of phase 1, in VAr."""
    REACTIVE_POWER_PHASE_2 = "reactive_power_phase_2"
    """Reactive power of phase 2, in VAr."""
    REACTIVE_POWER_PHASE_3 = "reactive_power_phase_3"
    """Reactive power of phase 3, in VAr."""

    CURRENT_PHASE_1 = "current_phase_1"
    """Current of phase 1, in A."""
    CURRENT_PHASE_2 = "current_phase_2"
    """Current of phase 2, in A."""
    CURRENT_PHASE_3 = "current_phase_3"
    """Current of phase 3, in A."""

    VOLTAGE_PHASE_1 = "voltage_phase_1"
    """Voltage between phase 1 and neutral, in V."""
    VOLTAGE_PHASE_2 = "voltage_phase_2"
    """Voltage between phase 2 and neutral, in V."""
    VOLTAGE_PHASE_3 = "voltage_phase_3"
    """Voltage between phase 3 and neutral, in V."""

    FREQUENCY = "frequency"
    """Frequency of the AC voltage, in Hz."""

    SOC = "soc"
    """State of charge, in %."""
    SOC_LOWER_BOUND = "soc_lower_bound"
    """State of charge below which the battery will not be discharged, in %."""
    SOC_UPPER_BOUND = "soc_upper_bound"
    """State of charge above which the battery will not be charged, in %."""
    CAPACITY = "capacity"
    """Capacity of a battery, in Wh."""

    POWER_INCLUSION_LOWER_BOUND = "power_inclusion_lower_bound"
    """Lowest power allowed for a battery, in W."""
    POWER_EXCLUSION_LOWER_BOUND = "power_exclusion_lower_bound"
    """Lower end of the range not allowed for a battery, in W."""
    POWER_EXCLUSION_UPPER_BOUND = "power_exclusion_upper_bound"
    """Upper end of the range not allowed for a battery, in W."""
    POWER_INCLUSION_UPPER_BOUND = "power_inclusion_upper_bound"
    """Highest power allowed for a battery, in W."""

    ACTIVE_POWER_INCLUSION_LOWER_BOUND = "active_power_inclusion_lower_bound"
    """Lowest active power allowed, in W."""
    ACTIVE_POWER_EXCLUSION_LOWER_BOUND = "active_power_exclusion_lower_bound"
    """Lower end of the range of active power not allowed, in W."""
    ACTIVE_POWER_EXCLUSION_UPPER_BOUND = "active_power_exclusion_upper_bound"
    """Upper end of the range of active power not allowed, in W."""
    ACTIVE_POWER_INCLUSION_UPPER_BOUND = "active_power_inclusion_upper_bound"
    """Highest active power allowed, in W."""

    TEMPERATURE = "temperature"
    """Temperature of a battery, in °C."""
