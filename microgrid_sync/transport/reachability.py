"""Knows whether a server answers, from what calls and streams have met. Pure but for its lock."""

import enum
import threading

import grpc


class ClientState(enum.Enum):
    """What is known of a connection."""

    DISCONNECTED = "disconnected"
    """`MicrogridApiClient.connect` has not been called since the last ``disconnect()``."""

    IDLE = "idle"
    """Nothing has been asked of the server yet."""

    CONNECTING = "connecting"
    """Something has been asked, and nothing has come back yet."""

    READY = "ready"
    """It has answered, with a value or an error of its own, and nothing has failed since."""

    FAILING = "failing"
    """The last attempt did not reach the server, or it did not answer in time."""


class Reachability:
    """The state of one connection. Any thread may note and read."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        # Protects the two below together.
        self._lock = threading.Lock()
        self._state = ClientState.IDLE
        self._failing_since: float | None = None

    @property
    def state(self) -> ClientState:
        """The state."""
        return self._state

    @property
    def failing_since(self) -> float | None:
        """Since when nothing has reached the server, on the monotonic clock."""
        return self._failing_since

    def asked(self) -> None:
        """Note that something is being asked."""
        if self._state is ClientState.IDLE:
            with self._lock:
                if self._state is ClientState.IDLE:
                    self._state = ClientState.CONNECTING

    def answered(self) -> None:
        """Note that the server has said something."""
        if self._state is not ClientState.READY:
            with self._lock:
                self._state, self._failing_since = ClientState.READY, None

    def ended(self, code: grpc.StatusCode | None, now: float) -> None:
        """Note how a call has ended that has failed; one that was cancelled says nothing."""
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            self.failed(now)
        elif code is not grpc.StatusCode.CANCELLED:
            self.answered()

    def failed(self, now: float) -> None:
        """Note that nothing came back."""
        with self._lock:
            if self._state is not ClientState.FAILING:
                self._state, self._failing_since = ClientState.FAILING, now
