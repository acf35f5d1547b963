"""Keeps what goes wrong at a simulated site, and when."""

import enum
import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import grpc

from microgrid_sync.simulator.tables import LONGEST


class FaultKind(enum.StrEnum):
    """What can go wrong."""

    ERROR = "error"
    """A component is in error, has no power, and refuses set-points."""

    SILENT = "silent"
    """A component's streams stay open and send nothing."""

    LATE = "late"
    """The timestamps of a component's samples lie some seconds back."""

    DISORDERED = "disordered"
    """Of every two samples of a component, the newer one is sent first."""

    WRONG_ENUM = "wrong-enum"
    """A state in a component's samples has another number, wrong or even unknown."""

    MISSING = "missing"
    """Parts of a component's samples are left out."""

    NAN = "nan"
    """Numbers in a component's samples are not numbers."""

    REFUSED = "refused"
    """Set-points of a component fail with a status."""

    DELAYED = "delayed"
    """Set-points of a component take effect, and are answered, some seconds later, even if the
    client has given up by then."""

    LOST = "lost"
    """Set-points of a component are answered with success and have no effect."""

    REJECTED = "rejected"
    """Set-points of a component are rejected."""

    FAILED = "failed"
    """Set-points of a component are accepted, and fail."""

    OVERRIDDEN = "overridden"
    """Set-points of a component are accepted, and overridden, by nobody in sight."""

    UNANSWERED = "unanswered"
    """Calls are never answered."""

    STREAM_END = "stream-end"
    """A component's streams end, in good order or with a status."""

    RESTART = "restart"
    """The server cuts all calls off, and is gone for some seconds."""


class Use(NamedTuple):
    """What a kind of fault makes of a `Fault`'s fields."""

    takes: frozenset[str]
    seconds: float = 0.0
    status: str = "INTERNAL"
    event: bool = False
    """Whether it happens once, unless told to last."""


def _use(*takes: str, seconds: float = 0.0, status: str = "INTERNAL", event: bool = False) -> Use:
    return Use(frozenset(takes), seconds, status, event)


ASKED_FOR = "a fault was asked for"
"""What calls, streams and components say that fail because of one."""

USES: dict[FaultKind, Use] = {
    FaultKind.ERROR: _use("components", "code", "recoverable"),
    FaultKind.SILENT: _use("components"),
    FaultKind.LATE: _use("components", "seconds", seconds=30.0),
    FaultKind.DISORDERED: _use("components"),
    FaultKind.WRONG_ENUM: _use("components", "fields", "number"),
    FaultKind.MISSING: _use("components", "fields"),
    FaultKind.NAN: _use("components", "fields"),
    FaultKind.REFUSED: _use("components", "status"),
    FaultKind.DELAYED: _use("components", "seconds", seconds=5.0),
    FaultKind.LOST: _use("components"),
    FaultKind.REJECTED: _use("components"),
    FaultKind.FAILED: _use("components"),
    FaultKind.OVERRIDDEN: _use("components"),
    FaultKind.UNANSWERED: _use("methods"),
    FaultKind.STREAM_END: _use("components", "status", status="OK", event=True),
    FaultKind.RESTART: _use("seconds", seconds=2.0, event=True),
}
"""Which fields each kind looks at besides `at` and `lasts`, and what holds unless they are set."""

_SAME_CALLS = {
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
    *_SAME_CALLS,
    "GetMicrogridMetadata", "ListComponents", "ListConnections", "CanStreamData",
    "StreamComponentData", "AddExclusionBounds", "AddInclusionBounds", "SetPowerActive",
    "SetPowerReactive", "Start", "HotStandby", "ColdStandby", "Stop", "ErrorAck",
)  # fmt: skip
"""The calls of the Microgrid service: those of v1alpha18 and later, then those of v0.15."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong for a while. Times are in seconds of the site's clock.

    A fault that is given a field its kind does not look at is refused.
    """

    kind: FaultKind | str
    """What goes wrong."""

    components: Collection[int] | None = None
    """The IDs of the components that it is about; ``None`` means all that can have it."""

    at: float = 0.0
    """How many seconds after it was added it begins; a site's own are added at second 0."""

    lasts: float | None = None
    """How long it lasts; ``None`` means until it is ended. ``stream-end`` happens once unless this
    is set; ``restart`` has none."""

    seconds: float | None = None
    """How late timestamps are (``late``, 30 s), how much later set-points take effect (``delayed``,
    5 s), how long the server is gone (``restart``, 2 s)."""

    status: str | None = None
    """The status of set-points (``refused``, ``INTERNAL``) or streams (``stream-end``, ``OK``,
    which is an end in good order)."""

    code: str | None = None
    """The error's code in the API's words, without prefix, such as ``HIGH_TEMPERATURE``."""

    recoverable: bool | None = None
    """Whether the error can be acknowledged; it can unless this is false."""

    fields: Collection[str] | None = None
    """Paths into the component's message, such as ``data.ac.power_active``; everything in ``data``
    unless set, and ``state.component_state`` for ``wrong-enum``."""

    number: int | None = None
    """The number that a wrong state has; 99, which the API does not know, unless set."""

    methods: Collection[str] | None = None
    """The calls that are not answered, such as ``SetPowerActive``; all of them unless set. A name
    stands for the same call in all generations of the API."""

    def __post_init__(self) -> None:
        """Check all that can be known without a site.

        Raises:
            ValueError: If something is out of range, or not for this kind.
        """
        try:
            kind = FaultKind(self.kind)
        except ValueError:
            known = ", ".join(FaultKind)
            raise ValueError(f"kind: {str(self.kind)!r} is none of {known}") from None
        self._set("kind", kind)
        use = USES[kind]
        for name in ("components", "seconds", "status", "code", "recoverable", "fields", "number",
                     "methods"):  # fmt: skip
            if getattr(self, name) is not None and name not in use.takes:
                raise ValueError(f"{name}: a fault {kind.value!r} has none")
        for name in ("components", "fields", "methods"):
            self._check_collection(name)
        for name in ("at", "lasts", "seconds"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= LONGEST):
                raise ValueError(
                    f"{name}: must be 0 or more seconds, and less than ten years, not {value!r}"
                )
        if kind is FaultKind.RESTART and self.lasts is not None:
            raise ValueError("lasts: a fault 'restart' has none; 'seconds' says how long it takes")
        if self.status is not None and self.status not in grpc.StatusCode.__members__:
            raise ValueError(f"status: {self.status!r} is no gRPC status such as INTERNAL")
        if self.status == "OK" and kind is FaultKind.REFUSED:
            raise ValueError("status: 'OK' refuses nothing; use the kind 'lost'")
        if self.number is not None and not -(2**31) <= self.number < 2**31:
            raise ValueError(f"number: {self.number} is no 32-bit number")
        for method in self.methods or ():
            if method not in METHODS:
                raise ValueError(f"methods: {method!r} is none of {', '.join(METHODS)}")

    def _check_collection(self, name: str) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, str) or not isinstance(value, Collection):
            raise ValueError(f"{name}: must be a list, not {value!r}")  # noqa: TRY004 - as all others
        kept: object = tuple(value) if name == "fields" else frozenset(value)
        if not kept:
            raise ValueError(f"{name}: is empty; leave it out for all")
        self._set(name, kept)

    def _set(self, name: str, value: object) -> None:
        """Set a field of a value that is frozen for everybody else."""
        object.__setattr__(self, name, value)

    def names_call(self, name: str) -> bool:
        """Tell whether it is about a call, by its name in any generation of the API."""
        if self.methods is None or name in self.methods:
            return True
        same = _SAME_CALLS.get(name, set())
        return not same.isdisjoint(self.methods) or any(
            name in _SAME_CALLS.get(method, ()) for method in self.methods
        )

    def concerns(self, component_id: int) -> bool:
        """Tell whether it is about a component."""
        return self.components is None or component_id in self.components

    @property
    def delay(self) -> float:
        """The seconds of a fault that has some."""
        use = USES[FaultKind(self.kind)]
        return use.seconds if self.seconds is None else self.seconds

    @property
    def status_code(self) -> grpc.StatusCode:
        """The status of a fault that has one."""
        return grpc.StatusCode[self.status or USES[FaultKind(self.kind)].status]

    @property
    def ends_after(self) -> float:
        """Seconds from its beginning to its end; infinite if somebody must end it."""
        if self.lasts is not None:
            return self.lasts
        return 0.0 if USES[FaultKind(self.kind)].event else math.inf

    def describe(self) -> dict[str, object]:
        """Give its kind and the fields that were set, as plain values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["kind"] = FaultKind(self.kind).value
        return {
            name: sorted(value) if isinstance(value, frozenset | tuple) else value
            for name, value in values.items()
            if value is not None and (name, value) != ("at", 0.0)
        }


class _Entry(NamedTuple):
    fault: Fault
    begins: float
    ends: float


class Faults:
    """What goes wrong at a site, now and later. For any thread.

    A fault is known by the number that it was given when it was added.
    """

    def __init__(
        self,
        scheduled: Iterable[Fault] = (),
        *,
        check: Callable[[Fault], None],
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """Begin at second 0 of the site's clock.

        Args:
            scheduled: The faults that are planned.
            check: Raises `ValueError` for a fault that the site cannot have.
            clock: Gives the second of the site's clock.
            changed: Called without a lock when something has been added or ended, to have it take
                effect by way of `advance`.
        """
        self._check = check
        self._clock = clock
        self._changed = changed
        # Protects all below; nothing else is called while it is held.
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._entries: dict[int, _Entry] = {}
        # Replaced, never changed: read without the lock.
        self._active: dict[int, Fault] = {}
        for fault in scheduled:
            self._plan(fault, 0.0)

    def _plan(self, fault: Fault, now: float) -> int:
        self._check(fault)
        begins = now + fault.at
        with self._lock:
            number = next(self._numbers)
            self._entries[number] = _Entry(fault, begins, begins + fault.ends_after)
        return number

    def add(self, fault: Fault) -> int:
        """Plan a fault; it begins its ``at`` seconds of the site's clock from now.

        Returns:
            Its number.

        Raises:
            ValueError: If the site cannot have it: it names an unknown component, for instance.
        """
        number = self._plan(fault, self._clock())
        self._changed()
        return number

    def end(self, number: int) -> None:
        """End a fault, or drop one that has not begun.

        Raises:
            KeyError: If there is none of that number, or no longer.
        """
        with self._lock:
            del self._entries[number]
        self._changed()

    def clear(self) -> None:
        """End all faults and drop those that have not begun."""
        with self._lock:
            self._entries.clear()
        self._changed()

    def planned(self) -> dict[int, Fault]:
        """Give all faults that have not ended, by number."""
        with self._lock:
            return {number: entry.fault for number, entry in self._entries.items()}

    def active(self, kind: FaultKind, component_id: int | None = None) -> dict[int, Fault]:
        """Give the faults of a kind that go on now, by number.

        Args:
            kind: The kind.
            component_id: Only those about this component, if it is given.
        """
        return {
            number: fault
            for number, fault in self._active.items()
            if fault.kind is kind and (component_id is None or fault.concerns(component_id))
        }

    def concerning(self, component_id: int) -> list[Fault]:
        """Give all faults about a component that go on now."""
        return [fault for fault in self._active.values() if fault.concerns(component_id)]

    def next_change(self) -> float:
        """Give the second of the site's clock at which the next fault begins or ends."""
        with self._lock:
            return min(
                (
                    entry.ends if number in self._active else entry.begins
                    for number, entry in self._entries.items()
                ),
                default=math.inf,
            )

    def advance(self, now: float) -> list[Fault]:
        """Go on to a second of the site's clock.

        Returns:
            What has begun since the last time, even if it was over at once.
        """
        with self._lock:
            begun = [
                entry.fault
                for number, entry in self._entries.items()
                if number not in self._active and entry.begins <= now
            ]
            for number in [n for n, entry in self._entries.items() if entry.ends <= now]:
                del self._entries[number]
            self._active = {
                number: entry.fault
                for number, entry in self._entries.items()
                if entry.begins <= now
            }
        return begun
