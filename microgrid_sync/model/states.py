"""Names the states that components report, with the numbers that the API gives them."""

import enum
from typing import Self


class WireEnum(enum.Enum):
    """An enumeration whose values are the numbers of the API."""

    @classmethod
    def from_pb(cls, number: int) -> Self:
        """Give the member of a protobuf number.

        Args:
            number: The number as it came in a message.

        Returns:
            The member with that number. A number that is not known gives ``UNKNOWN`` where
                the enumeration has such a member, ``UNSPECIFIED`` elsewhere: a newer server
                may send more than this package knows.
        """
        try:
            return cls(number)
        except ValueError:
            members = cls.__members__
            return members["UNKNOWN"] if "UNKNOWN" in members else members["UNSPECIFIED"]


class BatteryComponentState(WireEnum):
    """What a battery is doing."""

    UNSPECIFIED = 0
    """The server named no state."""

    OFF = 1
    """Switched off."""

    IDLE = 2
    """On, and neither charging nor discharging."""

    CHARGING = 3
    """Taking up energy."""

    DISCHARGING = 4
    """Giving energy."""

    ERROR = 5
    """Out of order until the error is dealt with."""

    LOCKED = 6
    """Reachable but not to be used for now, because of maintenance for instance."""

    SWITCHING_ON = 7
    """On its way to being operational."""

    SWITCHING_OFF = 8
    """On its way to being off."""

    UNKNOWN = 9
    """A state that the API, or this package, has no name for."""


class BatteryRelayState(WireEnum):
    """Whether a battery is connected to the DC line of its inverter."""

    UNSPECIFIED = 0
    """The server named no state."""

    OPENED = 1
    """The battery is disconnected."""

    PRECHARGING = 2
    """About to close; the DC line is being brought to the battery's voltage."""

    CLOSED = 3
    """The battery is connected."""

    ERROR = 4
    """The relays are out of order."""

    LOCKED = 5
    """Not switchable at the moment."""


class EVChargerCableState(WireEnum):
    """How far the cable of an EV charger is plugged in."""

    UNSPECIFIED = 0
    """The server named no state."""

    UNPLUGGED = 1
    """No cable at the charger."""

    CHARGING_STATION_PLUGGED = 2
    """Plugged into the charger, without a car."""

    CHARGING_STATION_LOCKED = 3
    """Plugged into the charger and locked there, without a car."""

    EV_PLUGGED = 4
    """Plugged into a car."""

    EV_LOCKED = 5
    """Plugged into a car and locked there."""


class EVChargerComponentState(WireEnum):
    """What an EV charger is doing."""

    UNSPECIFIED = 0
    """The server named no state."""

    STARTING = 1
    """Booting or preparing."""

    NOT_READY = 2
    """Unable to charge for now."""

    READY = 3
    """Able to charge, and not charging."""

    CHARGING = 4
    """A car takes energy."""

    DISCHARGING = 5
    """A car gives energy."""

    ERROR = 6
    """Out of order until the error is dealt with."""

    AUTHORIZATION_REJECTED = 7
    """The car or its driver may not charge here."""

    INTERRUPTED = 8
    """A charging session is paused."""

    UNKNOWN = 9
    """A state that the API, or this package, has no name for."""


class InverterComponentState(WireEnum):
    """What an inverter is doing."""

    UNSPECIFIED = 0
    """The server named no state."""

    OFF = 1
    """Switched off."""

    SWITCHING_ON = 2
    """On its way to being operational."""

    SWITCHING_OFF = 3
    """On its way to being off."""

    STANDBY = 4
    """Disconnected from the AC side, ready to be started."""

    IDLE = 5
    """On, without any power flowing."""

    CHARGING = 10
    """Taking power from the AC side to charge a battery (battery and hybrid inverters)."""

    DISCHARGING = 11
    """Giving power to the AC side."""

    ERROR = 14
    """Out of order until the error is dealt with."""

    UNAVAILABLE = 15
    """Reachable but not to be used for now, because of maintenance for instance."""

    UNKNOWN = 16
    """A state that the API, or this package, has no name for."""
