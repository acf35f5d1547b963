"""Defines the kinds of faults, one class each: its fields, its check, its effect."""

import copy
import enum
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar

import grpc
from msgspec import Meta

from microgrid_sync.simulator.physics.components import (
    ERROR_CODES,
    STREAMING,
    ComponentError,
    SiteCategory,
    SiteComponent,
)
from microgrid_sync.simulator.physics.readings import Reading, Values
from microgrid_sync.simulator.trouble.fault import ASKED_FOR, KINDS, Fate, Fault, names_from
from microgrid_sync.simulator.trouble.methods import METHODS, same_methods
from microgrid_sync.simulator.trouble.paths import is_number, is_state, path_problem
from microgrid_sync.tables import ReadBy, Seconds, did_you_mean, none_of, shown

UNKNOWN_NUMBER = 99
"""A number that no state of the API has."""

_COMMANDED = {SiteCategory.INVERTER, SiteCategory.EV_CHARGER}

_WORDS = ("code", "level", "sensor_metric", "msg", "component_state", "relay_state", "cable_state")
"""What stands for a word among the values of a reading, and is always there."""


def _numbers(value: object) -> frozenset[int]:
    return frozenset(names_from(value, int, "whole numbers"))


def _paths(value: object) -> tuple[str, ...]:
    return names_from(value, str, "strings")


def _methods(value: object) -> frozenset[str]:
    names = names_from(value, str, "strings")
    for name in names:
        if name not in METHODS:
            raise ValueError(none_of(name, METHODS))
    return frozenset(names)


def _status(value: object) -> str:
    status = value.upper() if isinstance(value, str) else ""
    if status not in grpc.StatusCode.__members__:
        hint = did_you_mean(status, grpc.StatusCode.__members__)
        raise ValueError(f"{shown(value)} is no gRPC status such as INTERNAL{hint}")
    return status


def _code(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {shown(value)}")  # noqa: TRY004 - as all others
    return value.upper()


_Paths = Annotated[tuple[str, ...], ReadBy(_paths)]
_Status = Annotated[str, ReadBy(_status)]

# What a field is for stands in its type: the command's options and the documentation are made of
# it.


# What several kinds have in common


@dataclass(frozen=True, init=False)
class _OfComponents(Fault):
    components: Annotated[
        frozenset[int] | None,
        ReadBy(_numbers),
        Meta(description="the IDs of the components that it is about; all unless given"),
    ] = None

    def concerns(self, component_id: int) -> bool:
        """See `Fault.concerns`."""
        return self.components is None or component_id in self.components

    def problems_at(self, components: Mapping[int, SiteComponent | None]) -> Iterator[str]:
        """See `Fault.problems_at`."""
        for component_id in sorted(self.components or ()):
            component = components.get(component_id)
            if component is not None:
                yield from self.problems_with(component)
            elif component_id not in components:
                yield f"components: there is no component {component_id}"

    def problems_with(self, component: SiteComponent) -> Iterator[str]:
        """Say why a component cannot have it."""
        if component.category not in STREAMING:
            yield f"components: {_name(component)} has no data that could show it"


@dataclass(frozen=True, init=False)
class _OfSetPoints(_OfComponents):
    def problems_with(self, component: SiteComponent) -> Iterator[str]:
        """See `_OfComponents.problems_with`."""
        if component.category not in _COMMANDED:
            yield f"components: {_name(component)} takes no set-points"


@dataclass(frozen=True, init=False)
class _OfReadings(_OfComponents):
    unless_given: ClassVar[tuple[str, ...]] = ("data",)

    fields: Annotated[
        _Paths | None,
        Meta(description="paths such as data.ac.power_active; all data unless given"),
    ] = None

    def change(self, reading: Reading) -> None:
        """See `Fault.change`."""
        for path in self.fields or self.unless_given:
            is_new = self.may_be_new(reading.category, path)
            *outer, name = path.split(".")
            values = reading.values
            for part in outer:
                # What is made up on the way is kept only if something comes into it.
                values = values.setdefault(part, {}) if is_new else values.get(part, {})
            if is_new or name in values:
                self.change_value(values, name)

    def may_be_new(self, category: SiteCategory, path: str) -> bool:
        """Tell whether a value is also changed where there is none."""
        del category, path
        return False

    def change_value(self, values: Values, name: str) -> None:
        """Change one value among others."""
        raise NotImplementedError

    def problems_at(self, components: Mapping[int, SiteComponent | None]) -> Iterator[str]:
        """See `Fault.problems_at`."""
        if self.components is None and self.fields is not None:
            yield "components: must be named when fields or a code are"
        yield from super().problems_at(components)

    def problems_with(self, component: SiteComponent) -> Iterator[str]:
        """See `_OfComponents.problems_with`."""
        yield from super().problems_with(component)
        if component.category not in STREAMING:
            return
        for path in self.fields or ():
            problem = path_problem(component.category, path) or self.problem_of(
                component.category, path
            )
            if problem is not None:
                yield f"fields: {path!r} {problem}"

    def problem_of(self, category: SiteCategory, path: str) -> str | None:
        """Say why what a path leads to cannot have it."""
        del category, path
        return None


def _name(component: SiteComponent) -> str:
    return f"component {component.component_id} of category {component.category.name}"


# The kinds


@dataclass(frozen=True, init=False)
class ErrorFault(_OfComponents):
    """A component is in error: it has no power and refuses set-points."""

    kind = "error"

    code: Annotated[
        str, ReadBy(_code), Meta(description="what it reports, such as HIGH_TEMPERATURE")
    ] = "UNSPECIFIED"
    recoverable: Annotated[bool, Meta(description="whether it can be acknowledged")] = True

    def problems_at(self, components: Mapping[int, SiteComponent | None]) -> Iterator[str]:
        """See `Fault.problems_at`."""
        if self.components is None and self.code != "UNSPECIFIED":
            yield "components: must be named when fields or a code are"
        yield from super().problems_at(components)

    def problems_with(self, component: SiteComponent) -> Iterator[str]:
        """See `_OfComponents.problems_with`."""
        yield from super().problems_with(component)
        known = ERROR_CODES.get(component.category, (self.code,))
        if self.code not in known:
            yield f"code: {none_of(self.code, known)}"

    def error(self) -> ComponentError | None:
        """See `Fault.error`."""
        return ComponentError(self.code, ASKED_FOR, self.recoverable)


@dataclass(frozen=True, init=False)
class SilentFault(_OfComponents):
    """A component's streams stay open and send nothing."""

    kind = "silent"

    def is_silent(self) -> bool:
        """See `Fault.is_silent`."""
        return True


@dataclass(frozen=True, init=False)
class LateFault(_OfComponents):
    """The timestamps of a component's samples lie back."""

    kind = "late"

    seconds: Annotated[Seconds, Meta(description="how far they lie back")] = 30.0

    def change(self, reading: Reading) -> None:
        """See `Fault.change`."""
        reading.time -= timedelta(seconds=self.seconds)


@dataclass(frozen=True, init=False)
class DisorderedFault(_OfComponents):
    """Of every two samples of a component, the newer one is sent first."""

    kind = "disordered"

    def is_disordered(self) -> bool:
        """See `Fault.is_disordered`."""
        return True


@dataclass(frozen=True, init=False)
class WrongEnumFault(_OfReadings):
    """A state in a component's samples has another number, wrong or even unknown."""

    kind = "wrong-enum"
    unless_given = ("state.component_state",)

    fields: Annotated[
        _Paths | None, Meta(description="paths of states; state.component_state unless given")
    ] = None
    number: Annotated[
        int,
        Meta(ge=-(2**31), le=2**31 - 1, description="the number instead of the state"),
    ] = UNKNOWN_NUMBER

    def may_be_new(self, category: SiteCategory, path: str) -> bool:
        """See `_OfReadings.may_be_new`."""
        return True

    def change_value(self, values: Values, name: str) -> None:
        """See `_OfReadings.change_value`."""
        values[name] = self.number

    def problem_of(self, category: SiteCategory, path: str) -> str | None:
        """See `_OfReadings.problem_of`."""
        return None if is_state(category, path) else "is no state"


@dataclass(frozen=True, init=False)
class MissingFault(_OfReadings):
    """Parts of a component's samples are left out."""

    kind = "missing"
    comes_last = True

    def change_value(self, values: Values, name: str) -> None:
        """See `_OfReadings.change_value`."""
        del values[name]


@dataclass(frozen=True, init=False)
class FrozenFault(_OfComponents):
    """A component's samples go on coming, and say the same each time."""

    kind = "frozen"

    @functools.cached_property
    def _kept(self) -> dict[int, Values]:
        """What each component said first."""
        return {}

    def change(self, reading: Reading) -> None:
        """See `Fault.change`."""
        values = reading.values
        values["data"] = copy.deepcopy(
            self._kept.setdefault(reading.component_id, copy.deepcopy(values["data"]))
        )


@dataclass(frozen=True, init=False)
class NanFault(_OfReadings):
    """Numbers in a component's samples are not numbers."""

    kind = "nan"

    def may_be_new(self, category: SiteCategory, path: str) -> bool:
        """See `_OfReadings.may_be_new`."""
        return is_number(category, path)

    def change_value(self, values: Values, name: str) -> None:
        """See `_OfReadings.change_value`."""
        inner = values.get(name)
        is_number = not isinstance(inner, dict | list)
        values[name] = math.nan if is_number else _made_nan(name, inner)

    def problem_of(self, category: SiteCategory, path: str) -> str | None:
        """See `_OfReadings.problem_of`."""
        return "is a state, which is always a number" if is_state(category, path) else None


def _made_nan(name: str, value: Any) -> Any:
    """Give a value in which all numbers besides zeros are none; what is absent stays absent."""
    if isinstance(value, dict):
        return {inner: _made_nan(inner, each) for inner, each in value.items()}
    if isinstance(value, list):
        return [_made_nan(name, each) for each in value]
    # A message says nothing of a zero, so that it is as good as absent.
    return math.nan if value and name not in _WORDS else value


@dataclass(frozen=True, init=False)
class RefusedFault(_OfSetPoints):
    """A component's set-points fail with a status."""

    kind = "refused"

    status: Annotated[_Status, Meta(description="the gRPC status")] = "INTERNAL"

    def problems(self) -> Iterator[str]:
        """See `Fault.problems`."""
        if self.status == "OK":
            yield "status: 'OK' refuses nothing; use the kind 'lost'"

    def fate(self) -> Fate | None:
        """See `Fault.fate`."""
        return Fate(refused_with=self.status)


@dataclass(frozen=True, init=False)
class DelayedFault(_OfSetPoints):
    """A component's set-points take effect, and are answered, later, whoever still waits."""

    kind = "delayed"

    seconds: Annotated[Seconds, Meta(description="how much later")] = 5.0

    def fate(self) -> Fate | None:
        """See `Fault.fate`."""
        return Fate(seconds=self.seconds)


@dataclass(frozen=True, init=False)
class LostFault(_OfSetPoints):
    """A component's set-points are answered with success and have no effect."""

    kind = "lost"

    def fate(self) -> Fate | None:
        """See `Fault.fate`."""
        return Fate(is_lost=True)


@dataclass(frozen=True, init=False)
class RejectedFault(_OfSetPoints):
    """A component's set-points are rejected."""

    kind = "rejected"

    def fate(self) -> Fate | None:
        """See `Fault.fate`."""
        return Fate(said="rejected")


@dataclass(frozen=True, init=False)
class FailedFault(_OfSetPoints):
    """A component's set-points are accepted, and fail."""

    kind = "failed"

    def fate(self) -> Fate | None:
        """See `Fault.fate`."""
        return Fate(said="failed")


@dataclass(frozen=True, init=False)
class OverriddenFault(_OfSetPoints):
    """A component's set-points are accepted, and overridden, by nobody in sight."""

    kind = "overridden"

    def fate(self) -> Fate | None:
        """See `Fault.fate`."""
        return Fate(said="overridden")


@dataclass(frozen=True, init=False)
class UnansweredFault(Fault):
    """Calls are never answered."""

    kind = "unanswered"

    methods: Annotated[
        frozenset[str] | None,
        ReadBy(_methods),
        Meta(
            description="the calls, by their names in any generation of the API, such as "
            "SetPowerActive; all unless given"
        ),
    ] = None

    def is_never_answered(self, method: str) -> bool:
        """See `Fault.is_never_answered`."""
        return self.methods is None or not same_methods(method).isdisjoint(self.methods)


@dataclass(frozen=True, init=False)
class StreamEndFault(_OfComponents):
    """A component's streams end, once unless it lasts."""

    kind = "stream-end"
    happens_once = True

    status: Annotated[_Status, Meta(description="the gRPC status; OK is an end in good order")] = (
        "OK"
    )

    def end_of_streams(self) -> str | None:
        """See `Fault.end_of_streams`."""
        return self.status


@dataclass(frozen=True, init=False)
class RestartFault(Fault):
    """The server cuts all calls off and is gone for a while."""

    kind = "restart"
    happens_once = True

    seconds: Annotated[Seconds, Meta(description="how long it is gone")] = 2.0

    def problems(self) -> Iterator[str]:
        """See `Fault.problems`."""
        if self.lasts is not None:
            yield "lasts: a fault 'restart' has none; 'seconds' says how long it takes"

    def gap(self) -> float | None:
        """See `Fault.gap`."""
        return self.seconds


def _fault_kinds() -> Any:
    return enum.StrEnum("FaultKind", {kind.upper().replace("-", "_"): kind for kind in KINDS})


# Made of the classes, so that a new kind is a class and nothing else; type checkers take it for
# anything.
FaultKind: Any = _fault_kinds()
"""The words for the kinds."""


def fate_of(faults: Mapping[int, Fault]) -> Fate:
    """Tell what becomes of a set-point that several faults are about; the hardest decides."""
    fates = [fate for fault in faults.values() if (fate := fault.fate()) is not None]
    said = {fate.said for fate in fates}
    return Fate(
        refused_with=next((fate.refused_with for fate in fates if fate.refused_with), None),
        said=next((word for word in ("rejected", "failed", "overridden") if word in said), None),
        is_lost=any(fate.is_lost for fate in fates),
        seconds=max((f.seconds for f in fates if f.seconds is not None), default=None),
    )
