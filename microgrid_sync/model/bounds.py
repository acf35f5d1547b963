"""Defines a range."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Bounds(Generic[T]):
    """A range with both of its ends."""

    lower: T
    """The lower end."""

    upper: T
    """The upper end."""
