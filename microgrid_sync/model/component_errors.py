"""Defines the errors that batteries and inverters report about themselves."""

from dataclasses import dataclass
from typing import Any, Self

from microgrid_sync.model.decoders import decode
from microgrid_sync.model.shown import Shown
from microgrid_sync.model.states import WireEnum


class ErrorLevel(WireEnum):
    """How serious a component's error is."""

    UNSPECIFIED = 0
    """The server named no level."""

    WARN = 1
    """Something has to be done before it becomes critical."""

    CRITICAL = 2
    """The component fails because of it."""


class BatteryErrorCode(WireEnum):
    """What is wrong with a battery."""

    UNSPECIFIED = 0
    """The server named no code, or one that this package does not know."""

    HIGH_CURRENT_CHARGE = 1
    """The charge current is too high."""

    HIGH_CURRENT_DISCHARGE = 2
    """The discharge current is too high."""

    HIGH_VOLTAGE = 3
    """The voltage is too high."""

    LOW_VOLTAGE = 4
    """The voltage is too low."""

    HIGH_TEMPERATURE = 5
    """It is too hot."""

    LOW_TEMPERATURE = 6
    """It is too cold."""

    HIGH_HUMIDITY = 7
    """It is too humid."""

    EXCEEDED_SOP_CHARGE = 8
    """The charge power is beyond what the state of power allows."""

    EXCEEDED_SOP_DISCHARGE = 9
    """The discharge power is beyond what the state of power allows."""

    SYSTEM_IMBALANCE = 10
    """The battery's parts differ too much from each other."""

    LOW_SOH = 11
    """The state of health is too low."""

    BLOCK_ERROR = 12
    """One of the battery's blocks has failed."""

    CONTROLLER_ERROR = 13
    """The battery's controller has failed."""

    RELAY_ERROR = 14
    """The relays have failed."""

    RELAY_CYCLE_LIMIT_REACHED = 15
    """The relays have switched as often as they are made for."""

    FUSE_ERROR = 16
    """A fuse has failed."""

    EXTERNAL_POWER_SWITCH_ERROR = 17
    """The external power switch has failed."""

    PRECHARGE_ERROR = 18
    """Pre-charging has failed."""

    SYSTEM_PLAUSIBILITY_ERROR = 19
    """The battery's own measurements contradict each other."""

    SYSTEM_UNDERVOLTAGE_SHUTDOWN = 20
    """Shut down because the voltage fell far too low."""

    CALIBRATION_NEEDED = 21
    """The battery has to be calibrated."""


class InverterErrorCode(WireEnum):
    """What is wrong with an inverter: the API knows no codes yet."""

    UNSPECIFIED = 0
    """The server named no code, or one that this package does not know."""


@dataclass(frozen=True, kw_only=True, repr=False)
class BatteryError(Shown):
    """An error that a battery reports."""

    code: BatteryErrorCode = BatteryErrorCode.UNSPECIFIED
    """What is wrong."""

    level: ErrorLevel = ErrorLevel.UNSPECIFIED
    """How serious it is."""

    message: str = ""
    """The component's own words."""

    @classmethod
    def from_pb(cls, raw: Any) -> Self:
        """Make an error of its protobuf message.

        Args:
            raw: The message, for instance a ``frequenz.api.microgrid.battery.Error``.

        Returns:
            The error; numbers that are not known become ``UNSPECIFIED``.

        Raises:
            TypeError: If the message is of another kind.
        """
        return decode(cls, raw)


@dataclass(frozen=True, kw_only=True, repr=False)
class InverterError(Shown):
    """An error that an inverter reports."""

    code: InverterErrorCode = InverterErrorCode.UNSPECIFIED
    """What is wrong."""

    level: ErrorLevel = ErrorLevel.UNSPECIFIED
    """How serious it is."""

    message: str = ""
    """The component's own words."""

    @classmethod
    def from_pb(cls, raw: Any) -> Self:
        """Make an error of its protobuf message.

        Args:
            raw: The message, for instance a ``frequenz.api.microgrid.inverter.Error``.

        Returns:
            The error; numbers that are not known become ``UNSPECIFIED``.

        Raises:
            TypeError: If the message is of another kind.
        """
        return decode(cls, raw)
