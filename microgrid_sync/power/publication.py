"""Publishes what the control loop finds, when it changes; new receivers get the newest at once."""

from typing import Any

from microgrid_sync.fan_out import FanOut
from microgrid_sync.receiver import Receiver, ReceiverStoppedError


class Publication:
    """The newest of something, and those who receive it. The control loop's thread uses it."""

    def __init__(self, name: str) -> None:
        """Make a publication without a value.

        Args:
            name: What it publishes, as errors and log lines call it.
        """
        self._receivers: FanOut[Any] = FanOut(name)
        self._newest: tuple[Any, Any] | None = None

    def publish(self, value: Any, compared: Any) -> None:
        """Publish a value, unless it compares equal to the newest."""
        if self._newest is None or self._newest[1] != compared:
            self._newest = (value, compared)
            self._receivers.put(value)

    def subscribe(self, maxsize: int, keeps: object) -> Receiver[Any]:
        """Make a receiver, which gets the newest value at once.

        Args:
            maxsize: How many values it holds.
            keeps: What must stay alive as long as somebody reads.

        Raises:
            ReceiverStoppedError: If nothing more will come.
        """
        first = None if self._newest is None else self._newest[0]
        receiver = self._receivers.subscribe(maxsize, first=first, keeps=keeps)
        if receiver is None:
            raise ReceiverStoppedError("the microgrid has been closed")
        return receiver

    def is_received(self) -> bool:
        """Tell whether somebody receives it."""
        return len(self._receivers) > 0

    def end(self) -> None:
        """Tell all receivers that nothing more will come."""
        self._receivers.end()
