"""Descriptions of sites: what is taken, and what is refused with the reason."""

import copy
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from microgrid_sync.simulator import SiteError, load_site, shipped_sites
from microgrid_sync.simulator.physics.components import SiteCategory
from tests.simulator.descriptions import (
    BATTERY,
    BATTERY_INVERTER,
    CHARGER,
    METER,
    SOLAR,
    description,
    small_site,
)

GRID = {"id": 1, "category": "grid"}
PLANT = {"id": 8, "category": "chp", "rating": 10.0, "starts": "06:00", "stops": "22:00"}
MAIN = {"id": 2, "category": "meter"}
FAULT = {"kind": "silent", "components": [7]}


def test_three_sites_are_shipped() -> None:
    assert shipped_sites() == ["demo", "depot", "every_category", "house"]
    for name in shipped_sites():
        assert load_site(name).components


def test_toml_file_and_mapping_make_the_same_site(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """
        microgrid_id = 7
        seed = 3
        sample_interval = 0.5
        start = 2026-06-21T10:00:00Z
        connections = [[1, 2], [2, 7]]
        location = { latitude = 40.0, longitude = -3.0, timezone = "Europe/Madrid" }

        [[component]]
        id = 1
        category = "grid"
        fuse = 80.0

        [[component]]
        id = 2
        category = "meter"
        name = "house"
        sample_interval = 2

        [[component]]
        id = 7
        category = "ev_charger"

        [[car]]
        chargers = [7]

        [[fault]]
        kind = "silent"
        at = "00:02:30"
        components = [7]
        """
    )
    site = load_site(file)
    assert (site.name, site.microgrid_id, site.seed) == ("mine", 7, 3)
    assert (site.latitude, site.longitude) == (40.0, -3.0)
    assert site.time == datetime(2026, 6, 21, 10, tzinfo=UTC)
    assert site.components[1].fuse == 80.0
    assert site.components[2].name == "house"
    assert [c.sample_interval for c in site.components.values()] == [0.5, 2.0, 0.5]
    assert site.successors(2) == [7]
    assert site.scheduled_faults[0].at == 150.0
    same = load_site(str(file), seed=4, sample_interval=0.25)
    assert same.seed == 4
    assert same.components[2].sample_interval == 0.25


def test_site_without_a_start_follows_the_time_of_day() -> None:
    values = description(CHARGER)
    del values["start"]
    site = load_site(values)
    assert site.follows_wall_clock
    assert abs((site.time - datetime.now(UTC)).total_seconds()) < 60
    assert not load_site(values, start=datetime(2026, 1, 1, tzinfo=UTC)).follows_wall_clock


def test_description_is_not_changed() -> None:
    values = description(CHARGER, car=[{"chargers": [7]}])
    before = copy.deepcopy(values)
    load_site(values, seed=5, sample_interval=2.0)
    assert values == before


def test_all_that_a_grid_can_feed() -> None:
    values = description(
        {"id": 11, "category": "relay"},
        {"id": 12, "category": "electrolyzer", "rating": 10.0, "behind": 11},
        {"id": 13, "category": "crypto_miner", "rating": 10.0, "behind": 11},
        {"id": 14, "category": "unspecified", "behind": 11},
    )
    values["component"].append({"id": 15, "category": "sensor", "type": "thermometer"})
    site = load_site(values)
    assert site.components[15].category is SiteCategory.SENSOR
    site.advance(1.0)
    assert site.flows[2].power == pytest.approx(20.0, abs=3)


def with_pair(*pair: int) -> dict[str, Any]:
    values = description(METER, CHARGER, BATTERY_INVERTER, BATTERY, SOLAR)
    values["connections"].append(list(pair))
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        # What is connected to what.
        (with_pair(9, 2), "component 2 is fed by 1 already"),
        (with_pair(7, 99), "[7, 99] (number 7): there is no component 99"),
        (with_pair(98, 7), "there is no component 98"),
        (with_pair(9, 9), "component 9 cannot feed itself"),
        (with_pair(2, 9), "stands there twice"),
        (
            description(CHARGER | {"behind": 5}, BATTERY_INVERTER, BATTERY),
            "connections: [5, 7] (number 2): an EV charger cannot be behind a battery",
        ),
        (description(BATTERY | {"behind": 2}), "a battery cannot be behind a meter"),
        (description(CHARGER, METER | {"behind": 7}), "a meter cannot be behind an EV charger"),
        (
            description(SOLAR, BATTERY | {"behind": 3}),
            "a battery cannot be behind a solar inverter",
        ),
        (description(BATTERY_INVERTER), "the battery inverter 4 has no battery"),
        (
            {
                "component": [GRID, MAIN, METER, {"id": 8, "category": "meter"}],
                "connections": [[1, 2], [8, 9], [9, 8]],
            },
            "a cycle: 9 -> 8 -> 9",
        ),
        ({"component": [GRID, MAIN]}, "nothing feeds component 2 (a meter)"),
        ({"component": [MAIN]}, "there must be one grid connection, not 0"),
        ({"component": [GRID, {"id": 3, "category": "grid"}]}, "one grid connection, not 2"),
        ({}, "one grid connection, not 0"),
        (
            description(METER | {"load": "household", "load_power": 1.0}, CHARGER | {"behind": 9}),
            "component 9 (meter): load: only a meter that feeds no component",
        ),
        ({"component": [GRID], "connections": 7}, "connections: must be a list of pairs"),
        ({"component": [GRID], "connections": [[1, 2, 3]]}, "number 1 is [1, 2, 3]"),
        ({"component": [GRID], "connections": [["a", "b"]]}, "number 1 is ['a', 'b']"),
        # Components.
        (description(CHARGER, CHARGER), "component 4: id: there is a component 7 already"),
        ({"component": [{"category": "grid"}]}, "component 1: id: is missing"),
        ({"component": [{"id": 1}]}, "category: is missing"),
        ({"component": [{"id": 0, "category": "grid"}]}, "id: must be a whole number from 1"),
        ({"component": [{"id": True, "category": "grid"}]}, "not True"),
        ({"component": [{"id": 1, "category": "windmill"}]}, "'windmill' is none of unspecified"),
        ({"component": {"id": 1}}, "component: must be a list of tables"),
        ({"component": [7]}, "component 1: must be a table, not 7"),
        (
            description(CHARGER | {"colour": "red"}),
            "component 7 (ev_charger): colour: is unknown here; known are category, id",
        ),
        (
            description(CHARGER | {"rated_current": 5}),
            "rated_current: must be from 6 to 1000, not 5",
        ),
        (description(CHARGER | {"rated_current": "much"}), "must be a number, not 'much'"),
        (description(CHARGER | {"phases": [1, 4]}), "phases: must be some of 1, 2 and 3"),
        (description(CHARGER | {"phases": [1, 1]}), "phases: names something twice"),
        (description(CHARGER | {"phases": []}), "phases: must be some of"),
        (description(CHARGER | {"phases": "all"}), "phases: must be a list of whole numbers"),
        (description(CHARGER | {"sample_interval": 0}), "sample_interval: must be whole milli"),
        (description(CHARGER | {"sample_interval": 0.0005}), "at least 0.01 s, not 0.0005"),
        (description(CHARGER | {"sample_interval": "1"}), "'HH:MM:SS', not '1'"),
        (description({"id": 3, "category": "inverter"}), "type: is missing"),
        (description({"id": 3, "category": "inverter", "type": "wind"}), "'wind' is none of solar"),
        (description({"id": 3, "category": "inverter", "type": "solar"}), "peak: is missing"),
        (description(SOLAR | {"mode": "idle"}), "mode: is unknown here"),
        (description(SOLAR | {"peak": float("nan")}), "peak: must be more than 0"),
        (description(SOLAR | {"efficiency": 1.1}), "efficiency: must be more than 0 and at most 1"),
        (
            description(BATTERY_INVERTER, BATTERY | {"soc_lower": 60, "soc_upper": 50}),
            "component 5 (battery): soc_upper: must be more than 60",
        ),
        (
            description(METER | {"load": "factory", "load_power": 1}),
            "'factory' is none of constant",
        ),
        (description(METER | {"load": "household"}), "load_power: is missing"),
        (
            description(
                {"id": 8, "category": "chp", "rating": 1, "starts": "25:00", "stops": "1:00"}
            ),
            "starts: must be a time such as '17:30'",
        ),
        # The site.
        (description(CHARGER, seed="x"), "site: seed: must be a whole number"),
        (description(CHARGER, location={"latitude": 91}), "location: latitude: must be from -90"),
        (
            description(CHARGER, location={"timezone": "Mars/Crater"}),
            "'Mars/Crater' is no time zone",
        ),
        (description(CHARGER, location={"timezone": "../etc"}), "is no time zone"),
        (description(CHARGER, location=7), "location: must be a table"),
        (
            description(CHARGER, weather={"cloudiness": 2}),
            "weather: cloudiness: must be from 0 to 1",
        ),
        (description(CHARGER, supply={"voltage": 0}), "supply: voltage: must be from 50 to 1000"),
        (description(CHARGER, set_point_lifetime=-1), "set_point_lifetime: must be seconds, 0"),
        (description(CHARGER, start="today"), "start: must be a date and time with a UTC offset"),
        (description(CHARGER, start=datetime(2026, 1, 1)), "with a UTC offset"),
        (description(CHARGER, flavour=1), "site: flavour: is unknown here"),
        (description(CHARGER, seed=10**400), "seed: must be a whole number"),
        (description(CHARGER, supply={"voltage": 10**5000}), "thousands of digits"),
        (description(CHARGER, supply={"voltage": 10**400}), "must be from 50 to 1000"),
        (description(CHARGER, set_point_lifetime=1e12), "less than ten years"),
        (description(CHARGER, bounds_lifetime="1" * 400 + ":00:00"), "bounds_lifetime: must be"),
        (description(CHARGER, sample_interval="05:00"), "or 'HH:MM:SS', not '05:00'"),
        (description(CHARGER, sample_interval=1e308), "less than ten years"),
        (description(CHARGER, start=datetime(9999, 12, 31, tzinfo=UTC)), "years 1970 to 2199"),
        (description(CHARGER, name="\ud800"), "name: must be printable"),
        (description(CHARGER | {"phases": b"\x01"}), "phases: must be a list"),
        (description(CHARGER, connections=[b"\x01\x02"]), "must be a list of pairs"),
        (description(PLANT | {"starts": ["06:00", "08:00"]}), "starts: must be one time"),
        (description(PLANT | {"stops": "06:00"}), "stops: must differ from 'starts'"),
        (description(PLANT | {"starts": "06:00Z"}), "starts: must be a time such as"),
        # Cars.
        (description(CHARGER, car=[{"chargers": []}]), "chargers: names none"),
        (description(CHARGER, car=[{"chargers": [7]}] * 2), "a car that never leaves"),
        (
            description(CHARGER, car=[{"chargers": [7], "soc": 90, "target_soc": 80}]),
            "below the 80",
        ),
        (description(CHARGER, car=[{}]), "site: car 1: chargers: is missing"),
        (
            description(CHARGER, car=[{"chargers": [99]}]),
            "car 1: chargers: there is no component 99",
        ),
        (description(CHARGER, car=[{"chargers": [2]}]), "component 2 is of category METER"),
        (
            description(CHARGER, car=[{"chargers": [7], "phases": 4}]),
            "phases: must be a whole number",
        ),
        (description(CHARGER, car=[{"chargers": [7], "soc": [60, 20]}]), "begin with the lower"),
        (description(CHARGER, car=[{"chargers": [7], "soc": [1, 2, 3]}]), "or a list of two"),
        (description(CHARGER, car=[{"chargers": [7], "arrives": "08:00"}]), "leaves: is missing"),
        (
            description(
                CHARGER, car=[{"chargers": [7], "arrives": ["9:00", "8:00"], "leaves": "17:00"}]
            ),
            "arrives: must be a time such as '17:30'",
        ),
        (
            description(
                CHARGER, car=[{"chargers": [7], "arrives": ["09:00", "08:00"], "leaves": "17:00"}]
            ),
            "begin with the earlier",
        ),
        (
            description(
                CHARGER,
                car=[
                    {"chargers": [7], "arrives": ["08:00", "10:00"], "leaves": ["09:00", "11:00"]}
                ],
            ),
            "could leave before it comes",
        ),
        (
            description(CHARGER, car=[{"chargers": [7], "stays": 0, "away": 1}]),
            "stays: must be more",
        ),
        (
            description(
                CHARGER, car=[{"chargers": [7], "arrives": "08:00", "leaves": "09:00", "stays": 1}]
            ),
            "stays: cannot be used together with 'arrives'",
        ),
        # Faults.
        (description(CHARGER, fault=[{}]), "fault 1: kind: is missing"),
        (description(CHARGER, fault=[{"kind": "sad"}]), "kind: 'sad' is none of error, silent"),
        (description(CHARGER, fault=[FAULT | {"components": [99]}]), "there is no component 99"),
        (description(CHARGER, fault=[FAULT | {"components": [1]}]), "GRID has no data"),
        (description(CHARGER, fault=[FAULT | {"components": []}]), "components: is empty"),
        (
            description(CHARGER, fault=[FAULT | {"seconds": 5}]),
            "seconds: a fault 'silent' has none",
        ),
        (description(CHARGER, fault=[FAULT | {"at": "soon"}]), "fault 1: at: must be seconds"),
        (description(CHARGER, fault=[FAULT | {"lasts": -1}]), "lasts: must be seconds, 0"),
        (
            description(CHARGER, fault=[FAULT | {"until": 5}]),
            "until: is unknown here; known are at, components, kind, lasts",
        ),
        (
            description(CHARGER, fault=[{"kind": "refused", "components": [2]}]),
            "METER takes no set-points",
        ),
        (
            description(CHARGER, fault=[{"kind": "refused", "status": "BAD"}]),
            "'BAD' is no gRPC status",
        ),
        (description(CHARGER, fault=[{"kind": "refused", "status": "OK"}]), "use the kind 'lost'"),
        (
            description(CHARGER, fault=[{"kind": "error", "components": [7], "code": "COLD"}]),
            "code: 'COLD' is none of UNSPECIFIED, SWITCH_ON_FAULT",
        ),
        (
            description(CHARGER, fault=[{"kind": "error", "code": "COLD"}]),
            "components: must be named",
        ),
        (
            description(
                CHARGER, fault=[{"kind": "nan", "components": [7], "fields": ["data.dc.x"]}]
            ),
            "fields: 'data.dc.x' is not in a EvCharger message",
        ),
        (
            description(CHARGER, fault=[{"kind": "nan", "components": [7], "fields": "data"}]),
            "fields: must be a list of strings",
        ),
        (
            description(
                CHARGER, fault=[{"kind": "nan", "components": [7], "fields": ["state.cable_state"]}]
            ),
            "is a state",
        ),
        (
            description(
                CHARGER, fault=[{"kind": "wrong-enum", "components": [7], "fields": ["data"]}]
            ),
            "'data' is no state",
        ),
        (
            description(CHARGER, fault=[{"kind": "wrong-enum", "number": 2**40}]),
            "number: must be a",
        ),
        (
            description(CHARGER, fault=[{"kind": "unanswered", "methods": ["Dance"]}]),
            "methods: 'Dance' is none of GetMicrogrid",
        ),
    ],
)
def test_broken_description_is_refused_with_the_reason(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SiteError) as raised:
        load_site(values)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed = \n", "line 1"),
        ("a = 1\nb = [1\nc = 2", "line 3"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("[[component]]\nid = 1\ncategory = 'grids'", "component 1: category: 'grids'"),
    ],
)
def test_broken_file_is_refused_with_its_name_and_line_or_key(
    text: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(SiteError) as raised:
        load_site(file)
    assert str(file) in str(raised.value)
    assert words in str(raised.value)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SiteError, match="no UTF-8"):
        load_site(file)


def test_site_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SiteError, match="shipped: demo, depot, every_category"):
        load_site("villa")
    with pytest.raises(FileNotFoundError):
        load_site("villa.toml")


def test_times_may_be_seconds_or_clock_times() -> None:
    for at in (150, 150.0, "00:02:30", "0:02:30.0"):
        site = small_site(CHARGER, fault=[FAULT | {"at": at}])
        assert site.scheduled_faults[0].at == 150.0


def test_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes(
        b"\xef\xbb\xbf" + b"connections = []\n[[component]]\nid = 1\ncategory = 'grid'"
    )
    assert load_site(file).components


@pytest.mark.parametrize("source", ["", "a\0b.toml", "\ud800.toml"])
def test_path_that_cannot_be_one_is_refused(source: str) -> None:
    with pytest.raises(SiteError):
        load_site(source)
    with pytest.raises(TypeError, match="a name, a path or a mapping"):
        load_site(5)  # type: ignore[arg-type] # on purpose


def test_times_are_utc_whatever_the_start_is_given_in() -> None:
    site = load_site(
        description(CHARGER),
        start=datetime(2026, 3, 29, 1, 59, 58, tzinfo=ZoneInfo("Europe/Berlin")),
    )
    stamps = []
    for _ in range(5):
        stamps.append(site.time)
        site.advance(1.0)
    assert all(stamp.tzinfo is UTC for stamp in stamps)
    assert [(b - a).total_seconds() for a, b in itertools.pairwise(stamps)] == [1.0] * 4


def test_long_chain_is_checked_in_no_time() -> None:
    meters = [{"id": n, "category": "meter", "behind": n - 1} for n in range(3, 3000)]
    assert len(load_site(description(*meters)).components) == 2999
