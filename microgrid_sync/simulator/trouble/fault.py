"""Defines what all kinds of faults have in common: their fields, their checks, what they may do."""

import dataclasses
import functools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

from msgspec import Meta

from microgrid_sync.simulator.physics.components import ComponentError, SiteComponent
from microgrid_sync.simulator.physics.readings import Reading
from microgrid_sync.tables import (
    LARGEST_ID,
    Mistakes,
    Seconds,
    SiteError,
    did_you_mean,
    fields_of,
    none_of,
    read_fields,
    shown,
    shown_key,
)

ASKED_FOR = "a fault was asked for"
"""What calls, streams and components say that fail because of one."""


class Fate(NamedTuple):
    """What becomes of set-points."""

    refused_with: str | None = None
    """The status that they fail with."""

    said: str | None = None
    """What is said of them in the end, instead of success: ``rejected``, ``failed`` or
    ``overridden``."""

    is_lost: bool = False
    """Whether they are answered with success and have no effect."""

    seconds: float | None = None
    """How much later they take effect, and are answered, if they do."""


@dataclass(frozen=True, init=False)
class Fault:
    """One thing that goes wrong for a while. Times are in seconds of the site's clock.

    ``Fault(kind="late", components=[7], seconds=77.0)`` makes one of the class of that kind. Each
    kind is a small class: its fields, what it checks, and its effect, which is what it overrides
    of the methods below. The first line of its docstring is its line in the documentation.
    """

    kind: ClassVar[str] = ""
    """What goes wrong, in a word."""

    happens_once: ClassVar[bool] = False
    """Whether it is over at once, unless told to last."""

    comes_last: ClassVar[bool] = False
    """Whether, of several that change a reading, it does so after the others."""

    at: Annotated[
        Seconds,
        Meta(description="when it begins, from when it was added (in a site's file: second 0)"),
    ] = 0.0
    lasts: Annotated[
        Seconds | None, Meta(description="how long it lasts; until it is ended unless given")
    ] = None

    def __init_subclass__(cls) -> None:
        """Make the kind known."""
        super().__init_subclass__()
        if "kind" in vars(cls):
            KINDS[cls.kind] = cls

    def __new__(cls, *, kind: str | None = None, **fields: Any) -> "Fault":
        """Make a fault of a kind; see `__init__`."""
        del fields
        if cls.kind and kind in {None, cls.kind}:
            return object.__new__(cls)
        found = _class_of(kind)
        if not issubclass(found, cls):
            # Python would not initialize an object of a class that is none of this one.
            raise SiteError(f"kind: a {cls.__name__} is {cls.kind!r}, not {kind!r}")
        return object.__new__(found)

    def __init__(self, *, kind: str | None = None, **fields: Any) -> None:
        """Make a fault.

        Args:
            kind: Its kind, such as ``late``; not needed where the class says it.
            **fields: Its fields; ``None`` leaves one as it is.

        Raises:
            ValueError: If something is out of range, or not for this kind: all that is wrong.
        """
        del kind
        mistakes = Mistakes()
        self._take(fields, "", mistakes)
        mistakes.raise_any()

    def _take(self, fields: Mapping[str, Any], where: str, mistakes: Mistakes) -> set[str]:
        """Take the fields that are right, and add what is wrong; give the names of those."""
        given = {name: value for name, value in fields.items() if value is not None}
        known = fields_of(type(self))
        elsewhere = field_names()
        for name in fields:
            if name in known or (name in elsewhere and name not in given):
                continue
            mistakes.add(where, shown_key(name), self._refusal(name))
        found = read_fields(type(self), given, where, mistakes)
        for name, value in found.items():
            # The others are what they are in the class. Frozen for everybody else.
            object.__setattr__(self, name, value)
        for problem in self.problems():
            mistakes.add(where, problem)
        return given.keys() & known.keys() - found.keys()

    def _refusal(self, name: str) -> str:
        if name in field_names():
            return f"a fault {self.kind!r} has none"
        known = sorted({*fields_of(type(self)), "kind"})
        return f"is unknown here; known are {', '.join(known)}{did_you_mean(name, known)}"

    # What a kind checks

    def problems(self) -> Iterator[str]:
        """Say what is wrong with it, whatever the site."""
        yield from ()

    def problems_at(self, components: Mapping[int, SiteComponent | None]) -> Iterator[str]:
        """Say why a site cannot have it.

        Args:
            components: The site's components, by ID; ``None`` for one of which nothing is known.
        """
        del components
        yield from ()

    # What a kind does

    def change(self, reading: Reading) -> None:
        """Change what a component says."""

    def is_silent(self) -> bool:
        """Tell whether streams send nothing."""
        return False

    def is_disordered(self) -> bool:
        """Tell whether, of every two samples, the newer one is sent first."""
        return False

    def error(self) -> ComponentError | None:
        """Give the error that components have."""
        return None

    def fate(self) -> Fate | None:
        """Tell what becomes of set-points."""
        return None

    def is_never_answered(self, method: str) -> bool:
        """Tell whether a call is never answered, by its name in any generation of the API."""
        del method
        return False

    def end_of_streams(self) -> str | None:
        """Give the status that streams end with."""
        return None

    def gap(self) -> float | None:
        """Tell for how many seconds the server is gone."""
        return None

    # For those who plan it

    def concerns(self, component_id: int) -> bool:
        """Tell whether it is about a component."""
        del component_id
        return True

    @property
    def ends_after(self) -> float:
        """Seconds from its beginning to its end; infinite if somebody must end it."""
        if self.lasts is not None:
            return self.lasts
        return 0.0 if self.happens_once else math.inf

    def describe(self) -> dict[str, object]:
        """Give its kind, and the fields that are not what they are unless given."""
        values: dict[str, object] = {"kind": self.kind}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                values[field.name] = (
                    sorted(value) if isinstance(value, tuple | frozenset) else value
                )
        return values


KINDS: dict[str, type[Fault]] = {}
"""The class of each kind."""


def _class_of(kind: object) -> type[Fault]:
    if kind is None:
        raise SiteError("kind: is missing")
    found = KINDS.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise SiteError(f"kind: {none_of(kind, [*KINDS])}")
    return found


def summary(kind: type[Fault]) -> str:
    """Give a kind's line in the documentation, without the full stop."""
    return (kind.__doc__ or kind.kind).splitlines()[0].removesuffix(".")


@functools.cache
def field_names() -> tuple[str, ...]:
    """Give the names of all fields that some kind has."""
    return tuple(dict.fromkeys(name for kind in KINDS.values() for name in fields_of(kind)))


def read_fault(
    values: object,
    where: str,
    mistakes: Mistakes,
    components: Mapping[int, SiteComponent] | None = None,
    unread: Collection[int] | None = (),
) -> Fault | None:
    """Read a fault of a table as it stands in a site's file, such as ``{"kind": "silent"}``.

    Args:
        values: The table.
        where: What to call it in errors.
        mistakes: Where to add what is wrong.
        components: The site's components, to check it against them.
        unread: Those of which nothing is known, because of other mistakes; ``None`` if not even
            their IDs are.

    Returns:
        The fault; ``None`` if something is wrong.
    """
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        mistakes.add(where, f"must be a table, not {shown(values)}")
        return None
    fields = {key: value for key, value in values.items() if key != "kind"}
    before = len(mistakes)
    try:
        fault = object.__new__(_class_of(values.get("kind")))
    except SiteError as error:
        mistakes.add(where, str(error))
        # What all kinds have can be checked without one.
        read_fields(Fault, fields, where, mistakes)
        return None
    wrong = fault._take(fields, where, mistakes)
    if components is not None and "components" not in wrong:
        named: Collection[int] = getattr(fault, "components", None) or ()
        unknown = dict.fromkeys(named if unread is None else unread)
        for problem in fault.problems_at({**unknown, **components}):
            mistakes.add(where, problem)
    return fault if len(mistakes) == before else None


def fault_from(values: Mapping[str, Any]) -> Fault:
    """Make a fault of a table as it stands in a site's file, such as ``{"kind": "silent"}``.

    Raises:
        SiteError: If it is wrong.
    """
    mistakes = Mistakes()
    fault = read_fault(values, "fault", mistakes)
    if fault is None:
        raise mistakes.error()
    return fault


def names_from(value: object, kind: type, what: str) -> tuple[Any, ...]:
    """Read a collection of words or numbers, which must not be empty.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping):
        raise ValueError(f"must be a list of {what}, not {shown(value)}")  # noqa: TRY004 - as all others
    names = tuple(value)
    if not all(type(name) is kind for name in names):
        raise ValueError(f"must be a list of {what}, not {shown(value)}")
    if not names:
        raise ValueError("is empty; leave it out for all")
    if kind is int and not all(1 <= name <= LARGEST_ID for name in names):
        raise ValueError(f"must be IDs from 1 to {LARGEST_ID}, not {shown(value)}")
    return names
