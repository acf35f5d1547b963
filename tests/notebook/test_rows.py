"""Rows of values: flat, with units in their names."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from frequenz.quantities import Percentage, ReactivePower

from microgrid_sync import (
    BatteryComponentState,
    BatteryData,
    BatteryError,
    BatteryErrorCode,
    BatteryRelayState,
    Bounds,
    ChargerReport,
    ChargerStatus,
    Component,
    ComponentCategory,
    Connection,
    Current,
    Diagnostic,
    DiagnosticCode,
    EVChargerCableState,
    EVChargerComponentState,
    EVChargerData,
    Fuse,
    GridMetadata,
    InverterType,
    LimitReport,
    Location,
    Metadata,
    MeterData,
    Metric,
    MetricSample,
    Power,
    Sample,
    Sample3Phase,
    Sensor,
    StateCode,
    SystemBounds,
    Telemetry,
    Voltage,
)
from microgrid_sync.notebook.columns import COLUMNS, jsonable
from microgrid_sync.notebook.rows import row_of, rows_of, telemetry_key
from microgrid_sync.power.charger_set import PowerReport

NOW = datetime(2026, 6, 21, 12, 0, 5, 250_000, tzinfo=UTC)
ONE = (1.0, 2.0, 3.0)
NAN = math.nan


def meter(**changes: Any) -> MeterData:
    values: dict[str, Any] = {
        "component_id": 2, "timestamp": NOW, "active_power": 600.0, "active_power_per_phase": ONE,
        "reactive_power": -5.0, "reactive_power_per_phase": ONE, "current_per_phase": ONE,
        "voltage_per_phase": (230.0, 231.0, NAN), "frequency": 50.01,
    }  # fmt: skip
    return MeterData(**(values | changes))


def charger() -> EVChargerData:
    return EVChargerData(
        7, NOW, 1.0, ONE, ONE, 0.0, ONE, ONE, 0.0, 0.0, 22_000.0, 0.0, 50.0,
        EVChargerCableState.EV_LOCKED, EVChargerComponentState.CHARGING,
    )  # fmt: skip


def battery() -> BatteryData:
    errors = [BatteryError(code=BatteryErrorCode.FUSE_ERROR, message="blown")]
    return BatteryData(
        5, NOW, 55.0, 10.0, 90.0, 1e4, -5e3, 0.0, 5e3, 0.0, 21.5,
        BatteryRelayState.CLOSED, BatteryComponentState.IDLE, errors,
    )  # fmt: skip


def test_row_of_a_meter_has_units_in_its_names() -> None:
    row = meter().to_dict()
    assert list(row)[:3] == ["component_id", "timestamp", "active_power_w"]
    assert row["timestamp"] == NOW
    assert row["active_power_phase_3_w"] == 3.0
    assert row["reactive_power_var"] == -5.0
    assert row["current_phase_2_a"] == 2.0
    assert row["voltage_phase_1_v"] == 230.0
    assert math.isnan(row["voltage_phase_3_v"])
    assert row["frequency_hz"] == 50.01
    assert "raw" not in row


@pytest.mark.parametrize("value", [meter(), charger(), battery()], ids=lambda v: type(v).__name__)
def test_every_column_has_a_unit_or_is_a_word(value: Any) -> None:
    row = value.to_dict()
    assert list(row)[2:] == [name for name, _ in COLUMNS[type(value)]]
    for name, content in row.items():
        if isinstance(content, float):
            assert name.rpartition("_")[2] in {
                "w",
                "var",
                "a",
                "v",
                "hz",
                "percent",
                "wh",
                "celsius",
            }
        else:
            assert isinstance(content, str | int | datetime)


def test_enums_are_words() -> None:
    row = charger().to_dict()
    assert (row["cable_state"], row["component_state"]) == ("ev_locked", "charging")
    row = battery().to_dict()
    assert (row["relay_state"], row["component_state"]) == ("closed", "idle")
    assert row["errors"] == "fuse error: blown"
    assert row["soc_percent"] == 55.0


def test_times_are_in_utc() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=2)))
    assert meter(timestamp=there).to_dict()["timestamp"].utcoffset() == timedelta(0)


def test_rows_of_samples_have_their_quantity() -> None:
    assert Sample(NOW, Power.from_watts(5.0)).to_dict() == {"timestamp": NOW, "power_w": 5.0}
    assert "share_percent" in Sample(NOW, Percentage.from_percent(5.0)).to_dict()
    one = Sample(NOW, ReactivePower.from_volt_amperes_reactive(-0.0)).to_dict()
    assert math.copysign(1.0, one["reactive_power_var"]) == 1.0
    phases = Sample3Phase(NOW, None, Current.from_amperes(2.0), None).to_dict()
    assert phases == {
        "timestamp": NOW, "current_phase_1_a": None, "current_phase_2_a": 2.0,
        "current_phase_3_a": None,
    }  # fmt: skip


def test_values_that_are_not_known_take_the_name_of_their_column() -> None:
    rows = rows_of([Sample(NOW), Sample(NOW, Voltage.from_volts(230.0)), Sample(NOW)])
    assert [row["voltage_v"] for row in rows] == [None, 230.0, None]
    assert rows_of([Sample(NOW)]) == [{"timestamp": NOW, "value": None}]
    three = [Sample3Phase(NOW), Sample3Phase(NOW, *map(Power.from_watts, ONE))]
    assert rows_of(three)[0].keys() == rows_of(three)[1].keys()


def test_rows_of_telemetry() -> None:
    metrics = {
        Metric.AC_POWER_ACTIVE: MetricSample(1.0, minimum=0.5, maximum=2.0),
        Metric.BATTERY_SOC_PCT: MetricSample(55.0),
        4711: MetricSample(7.0),
    }
    states = frozenset({StateCode.CHARGING, 999})
    warning = Diagnostic(DiagnosticCode.UNKNOWN, None, "odd")
    row = Telemetry(9, NOW, metrics, states, (warning,), (Diagnostic(998, None, ""),)).to_dict()
    assert row["ac_power_active_w"] == 1.0
    assert (row["ac_power_active_w_min"], row["ac_power_active_w_max"]) == (0.5, 2.0)
    assert row["battery_soc_percent"] == 55.0
    assert row["metric_4711"] == 7.0
    assert row["states"] == "999, charging"
    assert row["warnings"] == "unknown: odd"
    assert row["errors"] == "998"


def test_every_metric_of_telemetry_has_a_name_of_its_own() -> None:
    names = [telemetry_key(metric) for metric in Metric]
    assert len(names) == len(set(names))
    without = {m.name for m in Metric if telemetry_key(m) == m.name.lower()}
    assert all("FACTOR" in n or "HARMONIC" in n or n == "UNSPECIFIED" for n in without), without


def test_rows_of_a_site() -> None:
    grid = Component(
        1, ComponentCategory.GRID, None, GridMetadata(Fuse(63.0)),
        rated_bounds=Bounds(None, 5e3), accepts_control=False,
    )  # fmt: skip
    assert grid.to_dict()["fuse_a"] == 63.0
    assert grid.to_dict()["category"] == "grid"
    assert grid.to_dict()["rated_upper_w"] == 5e3
    inverter = Component(3, ComponentCategory.INVERTER, InverterType.SOLAR)
    assert (inverter.to_dict()["type"], grid.to_dict()["type"]) == ("solar", None)
    assert Connection(1, 2).to_dict() == {"start": 1, "end": 2}
    assert Sensor(4, "roof").to_dict() == {"sensor_id": 4, "name": "roof", "model": None}
    place = Location(latitude=1.0, longitude=2.0, timezone=ZoneInfo("Europe/Berlin"))
    assert Metadata(microgrid_id=5, location=place).to_dict()["timezone"] == "Europe/Berlin"
    assert Metadata().to_dict()["latitude_degrees"] is None


def test_rows_of_reports() -> None:
    watts = Power.from_watts
    bounds = SystemBounds(NOW, Bounds(watts(0.0), watts(7.0)), None)
    row = bounds.to_dict()
    assert (row["inclusion_upper_w"], row["exclusion_lower_w"]) == (7.0, None)
    amperes = (Current.from_amperes(1.0),) * 3
    row = LimitReport(
        NOW, amperes, None, (0.1, 0.2, 0.3), is_exceeded=False, reason="holds"
    ).to_dict()
    assert (row["house_phase_1_a"], row["headroom_phase_1_a"]) == (1.0, None)
    assert row["thermal_state_phase_3"] == 0.3
    one = ChargerReport(watts(5.0), None, ChargerStatus.WORKING, "it may", None)
    row = PowerReport(None, None, None, {7: one, 8: one}).to_dict()
    assert (row["target_power_w"], row["allocated_w"], row["result"]) == (None, 10.0, None)


def test_what_has_no_rows_is_refused() -> None:
    with pytest.raises(TypeError, match="int has no rows"):
        row_of(5)


def test_rows_as_json_have_neither_nan_nor_minus_zero() -> None:
    row = jsonable(meter(active_power=-0.0, reactive_power=math.inf).to_dict())
    text = json.dumps(row, allow_nan=False)
    assert '"timestamp": "2026-06-21T12:00:05.250Z"' in text
    assert '"active_power_w": 0.0' in text
    assert row["reactive_power_var"] is None
    assert row["voltage_phase_3_v"] is None
