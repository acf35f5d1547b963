"""Defines what components and sensors send beyond the data of four categories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from microgrid_sync.model.bounds import Bounds
from microgrid_sync.model.shown import Shown, Tabular


@dataclass(frozen=True, repr=False)
class MetricSample(Shown):
    """One metric at one time.

    Signs follow the passive convention. Reactive power has one sign whatever the API: positive is
    capacitive, negative inductive.
    """

    value: float
    """The value, or the average of an aggregate; NaN if the server sends none."""

    minimum: float | None = None
    """The least of what was aggregated; ``None`` if there is none."""

    maximum: float | None = None
    """The most of what was aggregated; ``None`` if there is none."""

    bounds: tuple[Bounds[float | None], ...] = ()
    """The ranges within which the value may be set; ``None`` for a side without a bound."""


@dataclass(frozen=True, repr=False)
class Diagnostic(Shown):
    """What a component or a sensor complains of."""

    code: int
    """A `DiagnosticCode`, or a `SensorDiagnosticCode`; a plain number if it has no name."""

    vendor_code: str | None
    """The manufacturer's own code."""

    message: str
    """The component's own words."""


@dataclass(frozen=True, repr=False)
class Telemetry(Tabular):
    """All that one message of a component or a sensor says."""

    component_id: int
    """The number of the component, or of the sensor."""

    timestamp: datetime
    """When it was measured, in UTC."""

    metrics: Mapping[int, MetricSample] = field(hash=False)
    """The metrics in the message, by `Metric`; a plain number if it has no name."""

    states: frozenset[int]
    """The states, each a `StateCode` or a `SensorStateCode`; a plain number if it has no name."""

    warnings: tuple[Diagnostic, ...]
    """What may become an error."""

    errors: tuple[Diagnostic, ...]
    """What is wrong."""

    raw: Any = field(default=None, init=False, compare=False, repr=False)
    """The protobuf message this value was made of; ``None`` if it was made otherwise."""


@dataclass(frozen=True, repr=False)
class Sensor(Tabular):
    """One sensor of a microgrid."""

    sensor_id: int
    """The number that the microgrid knows it by."""

    name: str | None = None
    """Its name; ``None`` if the server names none."""

    model: str | None = None
    """Manufacturer and model; ``None`` if the server names none."""
