"""Speaks version v1alpha18 of the API, and those with the same messages under another path.

Numbers are 32-bit floats on the wire. A metric that a message does not have is NaN. Reactive power
has the opposite sign of version 0.15 on the wire (there positive is capacitive, here inductive); it
is negated here, both ways, so that it has one sign for users.
"""

import functools
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from microgrid_sync.model import (
    BatteryComponentState,
    BatteryData,
    BatteryError,
    BatteryErrorCode,
    BatteryRelayState,
    Component,
    ComponentCategory,
    ComponentData,
    Connection,
    ErrorLevel,
    EVChargerCableState,
    EVChargerComponentState,
    EVChargerData,
    Fuse,
    GridMetadata,
    InverterComponentState,
    InverterData,
    InverterError,
    InverterErrorCode,
    InverterType,
    Location,
    Metadata,
    MeterData,
)
from microgrid_sync.model.bounds import Bounds
from microgrid_sync.model.decoders import register_decoder
from microgrid_sync.model.telemetry import Diagnostic, MetricSample, Sensor, Telemetry
from microgrid_sync.model.telemetry_codes import (
    DiagnosticCode,
    Metric,
    SensorDiagnosticCode,
    SensorStateCode,
    StateCode,
)
from microgrid_sync.wire import v1alpha18_schema as schema
from microgrid_sync.wire.requests import (
    ApiGeneration,
    ComponentListing,
    SetPointAnswer,
    SetPointRequest,
    SetPointState,
    StreamRequest,
    UnaryRequest,
    UndecodableMessage,
    nothing,
    official_stub,
)
from microgrid_sync.wire.values import MOST_ERRORS, check_time, joined, time_in, time_of, value_of

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_NAN = math.nan

_NEXT_TO_NOTHING = 10.0
"""W"""

_ACTIVE, _REACTIVE = 1, 2
"""The types of power that can be set."""

_STATES = (
    SetPointState.UNKNOWN,
    SetPointState.ACCEPTED,
    SetPointState.REJECTED,
    SetPointState.FAILED,
    SetPointState.SUCCESS,
    SetPointState.OVERRIDDEN,
)
"""What a server says of a set-point, by number."""

_CATEGORIES = {
    1: ComponentCategory.GRID,
    2: ComponentCategory.METER,
    3: ComponentCategory.INVERTER,
    5: ComponentCategory.BATTERY,
    6: ComponentCategory.EV_CHARGER,
    9: ComponentCategory.CHP,
}
"""Not the numbers of version 0.15, where 10 is a CHP and 7 a sensor. All others are ``NONE``."""

_CATEGORY_NAMES = (
    "UNSPECIFIED", "GRID_CONNECTION_POINT", "METER", "INVERTER", "CONVERTER", "BATTERY",
    "EV_CHARGER", "BREAKER", "PRECHARGER", "CHP", "ELECTROLYZER", "POWER_TRANSFORMER", "HVAC",
    "PLC", "CRYPTO_MINER", "STATIC_TRANSFER_SWITCH", "UNINTERRUPTIBLE_POWER_SUPPLY",
    "CAPACITOR_BANK", "WIND_TURBINE", "STEAM_BOILER",
)  # fmt: skip
"""The API's words for the categories, by number."""

_MODES = {1: (False, False), 2: (True, False), 3: (False, True), 4: (True, True)}
"""Whether a component sends data, and whether it takes commands, by its operational mode."""

_OF_ALTERNATING_CURRENT = (
    Metric.AC_FREQUENCY,
    Metric.AC_VOLTAGE_PHASE_1_N,
    Metric.AC_VOLTAGE_PHASE_2_N,
    Metric.AC_VOLTAGE_PHASE_3_N,
    Metric.AC_CURRENT_PHASE_1,
    Metric.AC_CURRENT_PHASE_2,
    Metric.AC_CURRENT_PHASE_3,
    Metric.AC_POWER_ACTIVE,
    Metric.AC_POWER_ACTIVE_PHASE_1,
    Metric.AC_POWER_ACTIVE_PHASE_2,
    Metric.AC_POWER_ACTIVE_PHASE_3,
    Metric.AC_POWER_REACTIVE,
    Metric.AC_POWER_REACTIVE_PHASE_1,
    Metric.AC_POWER_REACTIVE_PHASE_2,
    Metric.AC_POWER_REACTIVE_PHASE_3,
)
_OF_BATTERIES = (
    Metric.DC_POWER,
    Metric.BATTERY_CAPACITY,
    Metric.BATTERY_SOC_PCT,
    Metric.BATTERY_TEMPERATURE,
)

_REACTIVE_POWERS = frozenset(range(Metric.AC_POWER_REACTIVE, Metric.AC_POWER_REACTIVE_PHASE_3 + 1))


# Requests


class Generation(ApiGeneration):
    """Makes the requests of one version of the family."""

    def __init__(self, name: str) -> None:
        """See `ApiGeneration`."""
        super().__init__(name)
        self._service = f"/frequenz.api.microgrid.{name}.Microgrid/"

    def make_stub(self, channel: grpc.Channel) -> Any:
        """See `ApiGeneration.make_stub`."""
        module = f"frequenz.api.microgrid.{self.name}.microgrid_pb2_grpc"
        least = ">=0.18.2" if self.name == "v1alpha18" else ">=0.19.1"
        return official_stub(channel, module, self.name, least)

    def _unary(
        self, operation: str, method: str, message: Any, answer: Any, decode: Callable[[Any], T]
    ) -> UnaryRequest[T]:
        return UnaryRequest(operation, self._service + method, message, answer.FromString, decode)

    def list_components(self) -> UnaryRequest[ComponentListing]:
        """See `ApiGeneration.list_components`."""
        return self._unary(
            "ListElectricalComponents()",
            "ListElectricalComponents",
            schema.ListElectricalComponentsRequest(),
            schema.ListElectricalComponentsResponse,
            _components,
        )

    def list_connections(
        self, starts: Iterable[int], ends: Iterable[int]
    ) -> UnaryRequest[list[Connection]]:
        """See `ApiGeneration.list_connections`."""
        sources, destinations = sorted(starts), sorted(ends)
        return self._unary(
            f"ListElectricalComponentConnections(starts={sources}, ends={destinations})",
            "ListElectricalComponentConnections",
            schema.ListElectricalComponentConnectionsRequest(
                source_electrical_component_ids=sources,
                destination_electrical_component_ids=destinations,
            ),
            schema.ListElectricalComponentConnectionsResponse,
            _connections,
        )

    def get_metadata(self) -> UnaryRequest[Metadata]:
        """See `ApiGeneration.get_metadata`."""
        answer = schema.GetMicrogridResponse
        return self._unary("GetMicrogrid()", "GetMicrogrid", Empty(), answer, _metadata)

    def list_sensors(self) -> UnaryRequest[list[Sensor]]:
        """See `ApiGeneration.list_sensors`."""
        return self._unary(
            "ListSensors()",
            "ListSensors",
            schema.ListSensorRequest(),
            schema.ListSensorsResponse,
            _sensors,
        )

    def set_power(
        self, component_id: int, power_w: float, lifetime: int | None = None
    ) -> SetPointRequest:
        """See `ApiGeneration.set_power`."""
        return self._set_point(_ACTIVE, component_id, power_w, f"power_w={power_w}", lifetime)

    def set_reactive_power(
        self, component_id: int, reactive_power_var: float, lifetime: int | None = None
    ) -> SetPointRequest:
        """See `ApiGeneration.set_reactive_power`."""
        # Subtracted, so that zero has no sign.
        power = 0.0 - reactive_power_var
        what = f"reactive_power_var={reactive_power_var}"
        return self._set_point(_REACTIVE, component_id, power, what, lifetime)

    def _set_point(
        self, power_type: int, component_id: int, power: float, what: str, lifetime: int | None
    ) -> SetPointRequest:
        message = schema.SetElectricalComponentPowerRequest(
            electrical_component_id=component_id,
            power_type=power_type,
            power=power,
            request_lifetime=lifetime,
        )
        method = "SetElectricalComponentPower"
        operation = f"{method}(component_id={component_id}, {what}{_lasting(lifetime)})"
        return SetPointRequest(operation, self._service + method, message, _set, True)

    def add_inclusion_bounds(
        self,
        component_id: int,
        lower: float,
        upper: float,
        lifetime: int | None = None,
        token: str | None = None,
    ) -> UnaryRequest[datetime | None]:
        """See `ApiGeneration.add_inclusion_bounds`."""
        message = schema.AugmentElectricalComponentBoundsRequest(
            electrical_component_id=component_id,
            target_metric=Metric.AC_POWER_ACTIVE,
            bounds=[schema.Bounds(lower=lower, upper=upper)],
            request_lifetime=lifetime,
            bounds_token=token,
        )
        method = "AugmentElectricalComponentBounds"
        what = f"component_id={component_id}, lower={lower}, upper={upper}{_lasting(lifetime)}"
        what += "" if token is None else f", token={token!r}"
        answer = schema.AugmentElectricalComponentBoundsResponse
        return self._unary(f"{method}({what})", method, message, answer, _expiry)

    def clear_bounds(self, component_id: int, token: str) -> UnaryRequest[None]:
        """See `ApiGeneration.clear_bounds`."""
        message = schema.ClearElectricalComponentBoundsRequest(
            electrical_component_id=component_id,
            target_metric=Metric.AC_POWER_ACTIVE,
            bounds_token=token,
        )
        method = "ClearElectricalComponentBounds"
        operation = f"{method}(component_id={component_id}, token={token!r})"
        return self._unary(operation, method, message, Empty, nothing)

    def start(self, component_id: int) -> UnaryRequest[None]:
        """See `ApiGeneration.start`."""
        return self._switch("StartElectricalComponent", component_id)

    def standby(self, component_id: int, *, hot: bool) -> UnaryRequest[None]:
        """See `ApiGeneration.standby`."""
        if hot:
            self.lacks("no hot standby")
        return self._switch("PutElectricalComponentInStandby", component_id)

    def stop(self, component_id: int) -> UnaryRequest[None]:
        """See `ApiGeneration.stop`."""
        return self._switch("StopElectricalComponent", component_id)

    def acknowledge_error(self, component_id: int) -> UnaryRequest[None]:
        """See `ApiGeneration.acknowledge_error`."""
        return self._switch("AckElectricalComponentError", component_id)

    def _switch(self, method: str, component_id: int) -> UnaryRequest[None]:
        message = getattr(schema, f"{method}Request")(electrical_component_id=component_id)
        operation = f"{method}(component_id={component_id})"
        return self._unary(operation, method, message, Empty, nothing)

    def stream_data(
        self, component_id: int, category: ComponentCategory
    ) -> StreamRequest[ComponentData]:
        """See `ApiGeneration.stream_data`."""
        metrics, make = _DATA_OF_CATEGORY[category]
        return self._stream_component(component_id, metrics, make)

    def stream_telemetry(
        self, component_id: int, metrics: frozenset[int]
    ) -> StreamRequest[Telemetry]:
        """See `ApiGeneration.stream_telemetry`."""
        return self._stream_component(component_id, sorted(metrics), _telemetry)

    def _stream_component(
        self, component_id: int, metrics: Sequence[int], make: Callable[[Any], T]
    ) -> StreamRequest[T]:
        parse = schema.ReceiveElectricalComponentTelemetryStreamResponse.FromString
        wanted = _set_of(tuple(metrics))

        def read(payload: bytes) -> Any:
            try:
                telemetry = parse(payload).telemetry
                if telemetry.electrical_component_id == component_id and _says_something(
                    telemetry, wanted
                ):
                    return telemetry
            except (DecodeError, ValueError) as error:
                raise UndecodableMessage(f"it cannot be decoded: {error}") from error
            raise UndecodableMessage(_what_is_wrong(telemetry.electrical_component_id, telemetry))

        method = "ReceiveElectricalComponentTelemetryStream"
        request = schema.ReceiveElectricalComponentTelemetryStreamRequest(
            electrical_component_id=component_id, filter=_filter(metrics)
        )
        return StreamRequest(
            operation=f"{method}(id={component_id})",
            path=self._service + method,
            payload=request.SerializeToString(),
            read=read,
            make=make,
        )

    def stream_sensor_telemetry(
        self, sensor_id: int, metrics: frozenset[int]
    ) -> StreamRequest[Telemetry]:
        """See `ApiGeneration.stream_sensor_telemetry`."""
        parse = schema.ReceiveSensorTelemetryStreamResponse.FromString

        def read(payload: bytes) -> Any:
            try:
                telemetry = parse(payload).telemetry
                if telemetry.sensor_id == sensor_id and (
                    telemetry.metric_samples or telemetry.state_snapshots
                ):
                    check_time(_stamp(telemetry))
                    return telemetry
            except (DecodeError, ValueError) as error:
                raise UndecodableMessage(f"it cannot be decoded: {error}") from error
            raise UndecodableMessage(_what_is_wrong(telemetry.sensor_id, telemetry))

        method = "ReceiveSensorTelemetryStream"
        request = schema.ReceiveSensorTelemetryStreamRequest(
            sensor_id=sensor_id, filter=_filter(sorted(metrics))
        )
        return StreamRequest(
            operation=f"{method}(id={sensor_id})",
            path=self._service + method,
            payload=request.SerializeToString(),
            read=read,
            make=_sensor_telemetry,
        )


@functools.cache
def _set_of(metrics: tuple[int, ...]) -> frozenset[int]:
    """Give one set to all streams of a category."""
    return frozenset(metrics)


def _says_something(telemetry: Any, wanted: frozenset[int]) -> bool:
    """Tell whether a message has a metric that was asked for, or a state; and check its time.

    Raises:
        ValueError: If the time is no time.
    """
    samples = telemetry.metric_samples
    if not samples:
        # A message of a state alone is one: a component in error may have no values.
        snapshots = telemetry.state_snapshots
        if snapshots:
            check_time(snapshots[-1].origin_time)
        return bool(snapshots)
    newest = samples[-1]
    check_time(newest.sample_time)
    # The newest one is looked at first: it is at hand.
    return (
        not wanted
        or newest.metric in wanted
        or bool(telemetry.state_snapshots)
        or any(sample.metric in wanted for sample in samples)
    )


def _lasting(lifetime: int | None) -> str:
    return "" if lifetime is None else f", lifetime={lifetime}"


def _filter(metrics: Sequence[int]) -> Any:
    """Make a filter; none at all for all metrics, because servers refuse an empty one."""
    return schema.TelemetryStreamFilter(metrics=metrics) if metrics else None


def _what_is_wrong(sender: int, telemetry: Any) -> str:
    metrics = sorted({sample.metric for sample in telemetry.metric_samples})
    return f"it carries {f'metrics {metrics}' if metrics else 'no data'} of component {sender}"


# Answers


def _set(payload: bytes) -> SetPointAnswer:
    """Read one answer to a set-point."""
    message = schema.SetElectricalComponentPowerResponse.FromString(payload)
    number = message.status
    state = _STATES[number] if 0 <= number < len(_STATES) else SetPointState.UNKNOWN
    return SetPointAnswer(state, time_in(message, "valid_until_time"))


def _expiry(message: Any) -> datetime | None:
    return time_in(message, "valid_until_time")


def _metadata(message: Any) -> Metadata:
    microgrid = message.microgrid
    location = None
    if microgrid.HasField("location"):
        location = Location(
            latitude=microgrid.location.latitude, longitude=microgrid.location.longitude
        )
    return Metadata(microgrid_id=microgrid.id, location=location)


def _is_operational(lifetime: Any, now: datetime) -> bool:
    """Tell whether something is there now; without a begin it has always been, and so on."""
    start, end = time_in(lifetime, "start_timestamp"), time_in(lifetime, "end_timestamp")
    return (start is None or start <= now) and (end is None or now < end)


def _components(message: Any) -> ComponentListing:
    now = datetime.now(UTC)
    listed = message.electrical_components
    components = [c for c in listed if _is_operational(c.operational_lifetime, now)]
    in_operation = {component.id for component in components}
    others = frozenset(component.id for component in listed) - in_operation
    return ComponentListing([_component(component) for component in components], others)


def _component(message: Any) -> Component:
    number = message.category
    category = _CATEGORIES.get(number, ComponentCategory.NONE)
    info = message.category_specific_info
    # Servers send an empty message of another kind, too.
    kind = info.WhichOneof("kind")
    inverter = metadata = None
    if category is ComponentCategory.INVERTER:
        inverter = _inverter_type(info.inverter.type if kind == "inverter" else 0)
    if category is ComponentCategory.GRID:
        metadata = GridMetadata()
        if kind == "grid_connection_point":
            rated = info.grid_connection_point.rated_fuse_current
            metadata = GridMetadata(fuse=Fuse(max_current=float(rated)))
    provides, accepts = _MODES.get(message.operational_mode, (None, None))
    return Component(
        message.id,
        category,
        inverter,
        metadata,
        name=message.name or None,
        model=message.model or joined(message.manufacturer, message.model_name),
        category_name=_CATEGORY_NAMES[number] if 0 <= number < len(_CATEGORY_NAMES) else None,
        rated_bounds=_rated_bounds(message, category),
        provides_telemetry=provides,
        accepts_control=accepts,
    )


def _inverter_type(number: int) -> InverterType | None:
    try:
        return InverterType(number)
    except ValueError:
        return None


def _rated_bounds(message: Any, category: ComponentCategory) -> Bounds[float | None] | None:
    is_battery = category is ComponentCategory.BATTERY
    metric = Metric.DC_POWER if is_battery else Metric.AC_POWER_ACTIVE
    for rated in message.metric_config_bounds:
        if rated.metric == metric and rated.HasField("config_bounds"):
            return _range(rated.config_bounds)
    return None


def _range(bounds: Any) -> Bounds[float | None]:
    return Bounds(
        bounds.lower if bounds.HasField("lower") else None,
        bounds.upper if bounds.HasField("upper") else None,
    )


def _connections(message: Any) -> list[Connection]:
    now = datetime.now(UTC)
    return [
        Connection(
            connection.source_electrical_component_id,
            connection.destination_electrical_component_id,
        )
        for connection in message.electrical_component_connections
        if _is_operational(connection.operational_lifetime, now)
    ]


def _sensors(message: Any) -> list[Sensor]:
    now = datetime.now(UTC)
    return [
        Sensor(
            sensor.id,
            sensor.name or None,
            sensor.model or joined(sensor.manufacturer, sensor.model_name),
        )
        for sensor in message.sensors
        if _is_operational(sensor.operational_lifetime, now)
    ]


# Data of four categories. Written for speed, as in version 0.15: see there.


def _values(telemetry: Any) -> tuple[dict[int, float], datetime]:
    """Read the value of each metric of a message, and its time.

    Raises:
        ValueError: If the time is no time.
    """
    samples = telemetry.metric_samples
    if not samples:
        return {}, time_of(_stamp(telemetry))
    # A comprehension takes half the time of a loop; a number that is not zero is there.
    values = {
        sample.metric: sample.value.simple_metric.value or _value_of_sample(sample)
        for sample in samples
    }
    if len(values) != len(samples):
        values = {
            metric: _value_of_sample(sample) for metric, sample in _by_metric(samples).items()
        }
    return values, time_of(samples[-1].sample_time)


def _stamp(telemetry: Any) -> Any:
    """Give the time of a message that has samples or states."""
    samples = telemetry.metric_samples
    return samples[-1].sample_time if samples else telemetry.state_snapshots[-1].origin_time


def _value_of_sample(sample: Any) -> float:
    variant = sample.value
    if variant.HasField("simple_metric"):
        return float(variant.simple_metric.value)
    return variant.aggregated_metric.avg_value if variant.HasField("aggregated_metric") else _NAN


def _by_metric(samples: Any) -> dict[int, Any]:
    """Find the sample that counts of each metric.

    A hybrid inverter may measure the same at several connections. The first sample without the name
    of one counts, else the first of all.
    """
    found: dict[int, Any] = {}
    for sample in samples:
        before = found.get(sample.metric)
        if before is None or (before.connection.name and not sample.connection.name):
            found[sample.metric] = sample
    return found


def _sample_of(telemetry: Any, values: dict[int, float], metric: int) -> Any:
    """Give the sample of a metric; ``None`` if there is none."""
    if metric not in values:
        return None
    samples = telemetry.metric_samples
    if len(values) != len(samples):
        return _by_metric(samples)[metric]
    return samples[list(values).index(metric)]


def _bounds(sample: Any) -> tuple[float, float, float, float]:
    """Turn the allowed ranges of a sample into inclusion and exclusion bounds.

    Returns:
        Inclusion lower and upper, exclusion lower and upper; NaN without a sample or ranges.
    """
    if sample is None:
        return _NAN, _NAN, _NAN, _NAN
    ranges = [
        (
            bounds.lower if bounds.HasField("lower") else -math.inf,
            bounds.upper if bounds.HasField("upper") else math.inf,
        )
        for bounds in sample.bounds
    ]
    if not ranges:
        return _NAN, _NAN, _NAN, _NAN
    if len(ranges) == 1:
        return (*ranges[0], 0.0, 0.0)
    ranges.sort()
    if ranges[0] < (0.0, 0.0) < ranges[-1]:
        # Zero is always allowed; it is no end of what is not.
        ranges = [each for each in ranges if each != (0.0, 0.0)]
    lowest, highest = ranges[0][0], max(upper for _, upper in ranges)
    gaps = []
    reached = ranges[0][1]
    for lower, upper in ranges[1:]:
        if lower > reached:
            gaps.append((reached, lower))
        reached = max(reached, upper)
    around_zero = [gap for gap in gaps if gap[0] <= 0.0 <= gap[1]]
    if len(gaps) > 1:
        _log_lost_gaps(len(gaps))
    if len(gaps) == 1:
        around_zero = gaps
    excluded = around_zero[0] if around_zero else (0.0, 0.0)
    return (lowest, highest, *excluded)


@functools.cache
def _log_lost_gaps(count: int) -> None:
    """Tell the log, once for each number, that some of what is not allowed is not shown."""
    _logger.warning(
        "A component has %d gaps in what it may be set to; only the one around 0 W is shown", count
    )


def _of_alternating_current(
    kind: type[T],
    telemetry: Any,
    **fields: Any,
) -> T:
    """Read what meters, inverters and chargers have in common; only meters have no bounds."""
    is_meter = kind is MeterData
    values, timestamp = _values(telemetry)
    get = values.get
    active = get(26, _NAN)
    # What draws next to nothing in all draws nothing on a phase of which it says nothing.
    missing = 0.0 if not is_meter and abs(active) < _NEXT_TO_NOTHING else _NAN
    fields["component_id"] = telemetry.electrical_component_id
    fields["timestamp"] = timestamp
    fields["active_power"] = active
    fields["active_power_per_phase"] = get(27, missing), get(28, missing), get(29, missing)
    fields["reactive_power"] = 0.0 - get(30, _NAN)
    fields["reactive_power_per_phase"] = (
        0.0 - get(31, missing),
        0.0 - get(32, missing),
        0.0 - get(33, missing),
    )
    fields["current_per_phase"] = get(19, missing), get(20, missing), get(21, missing)
    fields["voltage_per_phase"] = get(12, _NAN), get(13, _NAN), get(14, _NAN)
    fields["frequency"] = get(10, _NAN)
    fields["raw"] = telemetry
    if not is_meter:
        (
            fields["active_power_inclusion_lower_bound"],
            fields["active_power_inclusion_upper_bound"],
            fields["active_power_exclusion_lower_bound"],
            fields["active_power_exclusion_upper_bound"],
        ) = _bounds(_sample_of(telemetry, values, 26))
    return value_of(kind, fields)


def _last_snapshot(telemetry: Any) -> Any:
    """Give the newest state; an empty one if there is none."""
    snapshots = telemetry.state_snapshots
    return snapshots[-1] if snapshots else _NO_SNAPSHOT


_NO_SNAPSHOT = schema.ElectricalComponentStateSnapshot()


def _meter_data(telemetry: Any) -> MeterData:
    return _of_alternating_current(MeterData, telemetry)


def _inverter_data(telemetry: Any) -> InverterData:
    snapshot = _last_snapshot(telemetry)
    return _of_alternating_current(
        InverterData,
        telemetry,
        component_state=_inverter_state(tuple(snapshot.states)),
        errors=[
            InverterError(level=level, message=_told(diagnostic))
            for diagnostic, level in _diagnostics(snapshot)
        ],
    )


def _ev_charger_data(telemetry: Any) -> EVChargerData:
    snapshot = _last_snapshot(telemetry)
    cable, state = _ev_charger_states(tuple(snapshot.states))
    if snapshot.errors or snapshot.warnings:
        state = _with_diagnostics(state, snapshot)
    return _of_alternating_current(
        EVChargerData, telemetry, cable_state=cable, component_state=state
    )


def _with_diagnostics(state: EVChargerComponentState, snapshot: Any) -> EVChargerComponentState:
    """Find what a charger is doing that complains of something."""
    if state is EVChargerComponentState.ERROR:
        return state
    codes = {diagnostic.diagnostic_code for diagnostic, _ in _diagnostics(snapshot)}
    if DiagnosticCode.UNAUTHORIZED in codes:
        return EVChargerComponentState.AUTHORIZATION_REJECTED
    if state is EVChargerComponentState.UNSPECIFIED and snapshot.errors:
        # It says what is wrong, but not what it is doing: nothing, as far as is known.
        return EVChargerComponentState.ERROR
    return state


def _battery_data(telemetry: Any) -> BatteryData:
    values, timestamp = _values(telemetry)
    snapshot = _last_snapshot(telemetry)
    states = tuple(snapshot.states)
    soc = _sample_of(telemetry, values, 101)
    charge = _range(soc.bounds[0]) if soc is not None and soc.bounds else None
    power = _sample_of(telemetry, values, 3)
    lower, upper, excluded_lower, excluded_upper = _bounds(power)
    get = values.get
    relay_state = _relay_state(states)
    errors = [
        BatteryError(
            code=_BATTERY_ERRORS.get(diagnostic.diagnostic_code, BatteryErrorCode.UNSPECIFIED),
            level=level,
            message=_told(diagnostic),
        )
        for diagnostic, level in _diagnostics(snapshot)
    ]
    if any(error.code is BatteryErrorCode.RELAY_ERROR for error in errors):
        relay_state = BatteryRelayState.ERROR
    fields = {
        "component_id": telemetry.electrical_component_id,
        "timestamp": timestamp,
        "soc": get(101, _NAN),
        "soc_lower_bound": _NAN if charge is None or charge.lower is None else charge.lower,
        "soc_upper_bound": _NAN if charge is None or charge.upper is None else charge.upper,
        "capacity": get(100, _NAN),
        "power_inclusion_lower_bound": lower,
        "power_exclusion_lower_bound": excluded_lower,
        "power_inclusion_upper_bound": upper,
        "power_exclusion_upper_bound": excluded_upper,
        "temperature": get(102, _NAN),
        "relay_state": relay_state,
        "component_state": _battery_state(states),
        "errors": errors,
        "raw": telemetry,
    }
    return value_of(BatteryData, fields)


_DATA_OF_CATEGORY: dict[ComponentCategory, tuple[Sequence[int], Callable[[Any], ComponentData]]] = {
    ComponentCategory.METER: (_OF_ALTERNATING_CURRENT, _meter_data),
    ComponentCategory.BATTERY: (_OF_BATTERIES, _battery_data),
    ComponentCategory.INVERTER: (_OF_ALTERNATING_CURRENT, _inverter_data),
    ComponentCategory.EV_CHARGER: (_OF_ALTERNATING_CURRENT, _ev_charger_data),
}
"""Which metrics to ask for, and how to read them."""


# States. A component is in several at once; those that say most come first.


_CABLE_STATES = (
    (StateCode.EV_CHARGING_CABLE_LOCKED_AT_EV, EVChargerCableState.EV_LOCKED),
    (StateCode.EV_CHARGING_CABLE_PLUGGED_AT_EV, EVChargerCableState.EV_PLUGGED),
    (
        StateCode.EV_CHARGING_CABLE_LOCKED_AT_STATION,
        EVChargerCableState.CHARGING_STATION_LOCKED,
    ),
    (
        StateCode.EV_CHARGING_CABLE_PLUGGED_AT_STATION,
        EVChargerCableState.CHARGING_STATION_PLUGGED,
    ),
    (StateCode.EV_CHARGING_CABLE_UNPLUGGED, EVChargerCableState.UNPLUGGED),
)
_CHARGER_STATES = (
    (StateCode.ERROR, EVChargerComponentState.ERROR),
    (StateCode.CHARGING, EVChargerComponentState.CHARGING),
    (StateCode.DISCHARGING, EVChargerComponentState.DISCHARGING),
    (StateCode.READY, EVChargerComponentState.READY),
    (StateCode.SWITCHING_ON, EVChargerComponentState.STARTING),
    (StateCode.UNAVAILABLE, EVChargerComponentState.NOT_READY),
    (StateCode.SWITCHING_OFF, EVChargerComponentState.NOT_READY),
    (StateCode.OFF, EVChargerComponentState.NOT_READY),
    (StateCode.STANDBY, EVChargerComponentState.NOT_READY),
)
_INVERTER_STATES = (
    (StateCode.ERROR, InverterComponentState.ERROR),
    (StateCode.CHARGING, InverterComponentState.CHARGING),
    (StateCode.DISCHARGING, InverterComponentState.DISCHARGING),
    (StateCode.READY, InverterComponentState.IDLE),
    (StateCode.STANDBY, InverterComponentState.STANDBY),
    (StateCode.SWITCHING_ON, InverterComponentState.SWITCHING_ON),
    (StateCode.SWITCHING_OFF, InverterComponentState.SWITCHING_OFF),
    (StateCode.OFF, InverterComponentState.OFF),
    (StateCode.UNAVAILABLE, InverterComponentState.UNAVAILABLE),
)
_BATTERY_STATES = (
    (StateCode.ERROR, BatteryComponentState.ERROR),
    (StateCode.CHARGING, BatteryComponentState.CHARGING),
    (StateCode.DISCHARGING, BatteryComponentState.DISCHARGING),
    (StateCode.READY, BatteryComponentState.IDLE),
    (StateCode.SWITCHING_ON, BatteryComponentState.SWITCHING_ON),
    (StateCode.SWITCHING_OFF, BatteryComponentState.SWITCHING_OFF),
    (StateCode.OFF, BatteryComponentState.OFF),
    (StateCode.STANDBY, BatteryComponentState.OFF),
    (StateCode.UNAVAILABLE, BatteryComponentState.LOCKED),
)
_RELAY_STATES = (
    (StateCode.PRECHARGER_PRECHARGING, BatteryRelayState.PRECHARGING),
    (StateCode.RELAY_CLOSED, BatteryRelayState.CLOSED),
    (StateCode.RELAY_OPEN, BatteryRelayState.OPENED),
)

_FIRST_NON_OPERATING = StateCode.EV_CHARGING_CABLE_UNPLUGGED
"""Numbers below are of what a component does; those from here on of its cable, relays and so on."""

_KNOWN_STATES = frozenset(StateCode)

# What is in these caches are a few combinations; a server that makes up numbers fills no more.
_cached = functools.lru_cache(maxsize=1000)


def _first(
    states: tuple[int, ...], table: Sequence[tuple[StateCode, T]], unknown: T, unspecified: T
) -> T:
    """Find the first state of a table that a component is in."""
    for code, value in table:
        if code in states:
            return value
    # Also numbers that a newer server may send.
    told = any((0 < code < _FIRST_NON_OPERATING) or code not in _KNOWN_STATES for code in states)
    return unknown if told else unspecified


@_cached
def _ev_charger_states(
    states: tuple[int, ...],
) -> tuple[EVChargerCableState, EVChargerComponentState]:
    unspecified = EVChargerCableState.UNSPECIFIED
    cable = _first(states, _CABLE_STATES, unspecified, unspecified)
    unknown = EVChargerComponentState.UNKNOWN
    return cable, _first(states, _CHARGER_STATES, unknown, EVChargerComponentState.UNSPECIFIED)


@_cached
def _inverter_state(states: tuple[int, ...]) -> InverterComponentState:
    unknown = InverterComponentState.UNKNOWN
    return _first(states, _INVERTER_STATES, unknown, InverterComponentState.UNSPECIFIED)


@_cached
def _battery_state(states: tuple[int, ...]) -> BatteryComponentState:
    unknown = BatteryComponentState.UNKNOWN
    return _first(states, _BATTERY_STATES, unknown, BatteryComponentState.UNSPECIFIED)


@_cached
def _relay_state(states: tuple[int, ...]) -> BatteryRelayState:
    unspecified = BatteryRelayState.UNSPECIFIED
    return _first(states, _RELAY_STATES, unspecified, unspecified)


# Diagnostics


_BATTERY_ERRORS = {
    DiagnosticCode.UNDERVOLTAGE: BatteryErrorCode.LOW_VOLTAGE,
    DiagnosticCode.OVERVOLTAGE: BatteryErrorCode.HIGH_VOLTAGE,
    DiagnosticCode.OVERCURRENT_CHARGING: BatteryErrorCode.HIGH_CURRENT_CHARGE,
    DiagnosticCode.OVERCURRENT_DISCHARGING: BatteryErrorCode.HIGH_CURRENT_DISCHARGE,
    DiagnosticCode.OVERTEMPERATURE: BatteryErrorCode.HIGH_TEMPERATURE,
    DiagnosticCode.UNDERTEMPERATURE: BatteryErrorCode.LOW_TEMPERATURE,
    DiagnosticCode.HIGH_HUMIDITY: BatteryErrorCode.HIGH_HUMIDITY,
    DiagnosticCode.FUSE_ERROR: BatteryErrorCode.FUSE_ERROR,
    DiagnosticCode.PRECHARGE_ERROR: BatteryErrorCode.PRECHARGE_ERROR,
    DiagnosticCode.PLAUSIBILITY_ERROR: BatteryErrorCode.SYSTEM_PLAUSIBILITY_ERROR,
    DiagnosticCode.BATTERY_IMBALANCE: BatteryErrorCode.SYSTEM_IMBALANCE,
    DiagnosticCode.BATTERY_LOW_SOH: BatteryErrorCode.LOW_SOH,
    DiagnosticCode.BATTERY_BLOCK_ERROR: BatteryErrorCode.BLOCK_ERROR,
    DiagnosticCode.BATTERY_CONTROLLER_ERROR: BatteryErrorCode.CONTROLLER_ERROR,
    DiagnosticCode.BATTERY_RELAY_ERROR: BatteryErrorCode.RELAY_ERROR,
    DiagnosticCode.BATTERY_CALIBRATION_NEEDED: BatteryErrorCode.CALIBRATION_NEEDED,
    DiagnosticCode.RELAY_CYCLE_LIMIT_REACHED: BatteryErrorCode.RELAY_CYCLE_LIMIT_REACHED,
}


def _diagnostics(snapshot: Any) -> list[tuple[Any, ErrorLevel]]:
    """List what a component complains of, the worst first."""
    found = [(diagnostic, ErrorLevel.CRITICAL) for diagnostic in snapshot.errors[:MOST_ERRORS]]
    found += [(diagnostic, ErrorLevel.WARN) for diagnostic in snapshot.warnings[:MOST_ERRORS]]
    return found


def _told(diagnostic: Any) -> str:
    """Give all that a component says, in one text."""
    code = _named(DiagnosticCode, diagnostic.diagnostic_code)
    name = code.name if isinstance(code, DiagnosticCode) else f"code {code}"
    vendor = diagnostic.vendor_diagnostic_code
    text = f"{name} (vendor {vendor})" if vendor else name
    return f"{text}: {diagnostic.message}" if diagnostic.message else text


def _battery_error(diagnostic: Any) -> BatteryError:
    code = _BATTERY_ERRORS.get(diagnostic.diagnostic_code, BatteryErrorCode.UNSPECIFIED)
    return BatteryError(code=code, message=_told(diagnostic))


def _inverter_error(diagnostic: Any) -> InverterError:
    return InverterError(code=InverterErrorCode.UNSPECIFIED, message=_told(diagnostic))


# Telemetry as it comes


def _telemetry(message: Any) -> Telemetry:
    return _any_telemetry(message, message.electrical_component_id, StateCode, DiagnosticCode)


def _sensor_telemetry(message: Any) -> Telemetry:
    return _any_telemetry(message, message.sensor_id, SensorStateCode, SensorDiagnosticCode)


def _any_telemetry(
    message: Any,
    sender: int,
    state_codes: type[StateCode | SensorStateCode],
    diagnostic_codes: type[DiagnosticCode | SensorDiagnosticCode],
) -> Telemetry:
    values, timestamp = _values(message)
    samples = _by_metric(message.metric_samples)
    snapshot = _last_snapshot(message)

    def diagnostics(found: Any) -> tuple[Diagnostic, ...]:
        return tuple(
            Diagnostic(
                _named(diagnostic_codes, diagnostic.diagnostic_code),
                diagnostic.vendor_diagnostic_code
                if diagnostic.HasField("vendor_diagnostic_code")
                else None,
                diagnostic.message,
            )
            for diagnostic in found[:MOST_ERRORS]
        )

    telemetry = Telemetry(
        component_id=sender,
        timestamp=timestamp,
        metrics={
            _named(Metric, metric): _metric_sample(sample, values[metric])
            for metric, sample in samples.items()
        },
        states=frozenset(_named(state_codes, state) for state in snapshot.states),
        warnings=diagnostics(snapshot.warnings),
        errors=diagnostics(snapshot.errors),
    )
    object.__setattr__(telemetry, "raw", message)
    return telemetry


def _metric_sample(sample: Any, value: float) -> MetricSample:
    aggregated = sample.value.aggregated_metric
    minimum = aggregated.min_value if aggregated.HasField("min_value") else None
    maximum = aggregated.max_value if aggregated.HasField("max_value") else None
    bounds = tuple(_range(bounds) for bounds in sample.bounds)
    if sample.metric not in _REACTIVE_POWERS:
        return MetricSample(value, minimum, maximum, bounds)
    bounds = tuple(Bounds(_negated(b.upper), _negated(b.lower)) for b in reversed(bounds))
    return MetricSample(0.0 - value, _negated(maximum), _negated(minimum), bounds)


def _negated(value: float | None) -> float | None:
    return None if value is None else 0.0 - value


def _named(codes: Callable[[int], int], number: int) -> int:
    """Give the member of a number; the number itself if it has none."""
    try:
        return codes(number)
    except ValueError:
        return number


# What `from_proto` and `from_pb` take: our own messages, and the official ones.


def _register(value_type: type[T], message: Any, decode: Callable[[Any], T]) -> None:
    register_decoder(value_type, message.DESCRIPTOR.full_name, decode)
    official = f"frequenz.api.common.v1alpha8.microgrid.electrical_components.{message.__name__}"
    register_decoder(value_type, official, decode)


_register(MeterData, schema.ElectricalComponentTelemetry, _meter_data)
_register(BatteryData, schema.ElectricalComponentTelemetry, _battery_data)
_register(InverterData, schema.ElectricalComponentTelemetry, _inverter_data)
_register(EVChargerData, schema.ElectricalComponentTelemetry, _ev_charger_data)
_register(BatteryError, schema.ElectricalComponentDiagnostic, _battery_error)
_register(InverterError, schema.ElectricalComponentDiagnostic, _inverter_error)
