"""Site files with many mistakes: all of them are named at once, each with its place."""

from pathlib import Path
from typing import Any

import pytest

from microgrid_sync.simulator import SiteError, load_site

RIGHT = """
name = "garage"
seed = 3
sample_interval = 1.0
start = 2026-06-21T04:00:00Z
set_point_lifetime = 60
bounds_lifetime = "00:00:05"
connections = [[1, 2], [2, 3], [2, 4], [4, 5], [2, 7], [2, 8], [2, 9]]

[location]
latitude = 52.5
longitude = 13.4
timezone = "Europe/Berlin"

[weather]
cloudiness = 0.4
temperature = 12.0

[supply]
voltage = 230.0
frequency = 50.0
resistance = 0.02

[[component]]
id = 1
category = "grid"
fuse = 100.0

[[component]]
id = 2
category = "meter"

[[component]]
id = 3
category = "inverter"
type = "solar"
peak = 8000.0

[[component]]
id = 4
category = "inverter"
type = "battery"
rating = 9000.0
mode = "idle"

[[component]]
id = 5
category = "battery"
capacity = 20_000.0
soc = 50.0
soc_upper = 90.0

[[component]]
id = 7
category = "ev_charger"
rated_current = 32.0
phases = [1, 2, 3]

[[component]]
id = 8
category = "chp"
rating = 5000.0
starts = "06:00"
stops = "22:00"

[[component]]
id = 9
category = "meter"
load = "household"
load_power = 2500.0

[[car]]
chargers = [7]
power = 11_000.0
soc = [20, 40]
arrives = "18:00"
leaves = "07:00"

[[fault]]
kind = "late"
components = [7]
at = 10
seconds = 5.0

[[fault]]
kind = "refused"
components = [7]
status = "INTERNAL"
"""

# What stands there, what stands there instead, and what is said of it.
MISTAKES = [
    ("seed = 3", "seed = 3.5", "seed: must be a whole number"),
    ("seed = 3", "sead = 3", "sead: is unknown here; known are"),
    ("sample_interval = 1.0", "sample_interval = 0.0001", "sample_interval: must be whole"),
    ("04:00:00Z", "04:00:00", "start: must be a date and time with a UTC offset"),
    ("lifetime = 60", "lifetime = -1", "set_point_lifetime: must be seconds, 0 or more"),
    ('"00:00:05"', '"5 s"', "bounds_lifetime: must be seconds, 0 or more"),
    ("[2, 9]]", "[2, 9], [2, 99]]", "connections: [2, 99] (number 8): there is no component 99"),
    ("latitude = 52.5", "latitude = 152.5", "location: latitude: must be from -90 to 90"),
    ("longitude = 13.4", 'longitude = "east"', "location: longitude: must be a number"),
    ("Europe/Berlin", "Europe/Berlim", "timezone: 'Europe/Berlim' is no time zone"),
    ("cloudiness", "cloudyness", "cloudyness: is unknown here; known are cloudiness"),
    ("temperature = 12.0", "temperature = 90", "weather: temperature: must be from -60 to 60"),
    ("voltage = 230.0", "voltage = true", "supply: voltage: must be a number, not True"),
    ("frequency = 50.0", "frequency = 5", "supply: frequency: must be from 10 to 400"),
    ("fuse = 100.0", "fuse = 0", "component 1 (grid): fuse: must be from 1 to"),
    ("peak = 8000.0", "peek = 8000.0", "component 3 (inverter): peak: is missing"),
    ("rating = 9000.0", "rating = 0", "component 4 (inverter): rating: must be more than 0"),
    ('mode = "idle"', 'mode = "idel"', "mode: 'idel' is none of idle, self-consumption; did you"),
    ("capacity = 20_000.0", "capacity = nan", "component 5 (battery): capacity: must be more"),
    ("soc = 50.0", "soc = 150.0", "component 5 (battery): soc: must be from 0 to 100"),
    ("soc_upper = 90.0", "soc_uper = 90.0", "soc_uper: is unknown here; known are"),
    ("rated_current = 32.0", "rated_current = 5", "rated_current: must be from 6 to 1000"),
    ("phases = [1, 2, 3]", "phases = [0]", "component 7 (ev_charger): phases: must be some of"),
    ('starts = "06:00"', 'starts = "6 am"', "component 8 (chp): starts: must be a time"),
    ('"household"', '"houshold"', "'houshold' is none of constant, household, workplace; did"),
    ("load_power = 2500.0", "", "component 9 (meter): load_power: is missing"),
    ("chargers = [7]", "chargers = [2, 7]", "car 1: chargers: component 2 is of category METER"),
    ("power = 11_000.0", "power = inf", "car 1: power: must be more than 0"),
    ("soc = [20, 40]", "soc = [40, 20]", "car 1: soc: must begin with the lower number"),
    ('leaves = "07:00"', "", "car 1: leaves: is missing"),
    ('kind = "late"', 'kind = "latte"', "fault 1: kind: 'latte' is none of"),
    ("seconds = 5.0", "secons = 5.0", "fault 1: secons: is unknown here; known are"),
    ('"INTERNAL"', '"BROKEN"', "fault 2: status: 'BROKEN' is no gRPC status"),
]
DEEP = [
    # Named only once the whole can be read: what is wrong with the whole.
    ("[2, 7]", "[5, 7]", "[5, 7] (number 5): an EV charger cannot be behind a battery"),
    ("[2, 8]", "[3, 8]", "[3, 8] (number 6): a CHP cannot be behind an inverter"),
    ("[2, 3]", "[2, 2]", "[2, 2] (number 2): component 2 cannot feed itself"),
    ("[2, 9]", "[2, 8]", "[2, 8] (number 7): stands there twice"),
    ("soc_upper = 90.0", "soc_upper = 5", "component 5 (battery): soc_upper: must be more than"),
    ('stops = "22:00"', 'stops = "06:00"', "stops: must differ from 'starts'"),
]


def files() -> list[list[tuple[str, str, str]]]:
    """Sixty files: one mistake each, two far apart, and nearly all at once."""
    single = [[mistake] for mistake in MISTAKES + DEEP]
    pairs = [[MISTAKES[i], MISTAKES[(i * 7 + 11) % len(MISTAKES)]] for i in range(20)]
    return [*single, *([p[0]] if p[0][0] == p[1][0] else p for p in pairs), several()]


def several() -> list[tuple[str, str, str]]:
    """One of the mistakes for each place."""
    by_place = {place: (place, wrong, words) for place, wrong, words in MISTAKES}
    # A fault of no kind has no fields that could be wrong.
    return [m for m in by_place.values() if "fault 1: secons" not in m[2]]


def test_file_without_a_mistake_is_right(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(RIGHT)
    assert load_site(file).name == "garage"


def test_there_are_sixty_files() -> None:
    assert len(files()) >= 60


@pytest.mark.parametrize("mistakes", files(), ids=lambda mistakes: mistakes[0][2][:30])
def test_every_mistake_is_named_with_its_place(
    mistakes: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    text = RIGHT
    for place, wrong, _ in mistakes:
        assert place in text
        text = text.replace(place, wrong, 1)
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(SiteError) as caught:
        load_site(file)
    lines = str(caught.value).splitlines()
    for _, _, words in mistakes:
        assert any(words in line for line in lines), f"{words!r} is not in {lines}"
    assert all(line.startswith(f"{file}: ") for line in lines)
    # No mistake follows from another one: a misspelt key is missing, too, at the most.
    assert len(lines) <= 2 * len(mistakes)


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**5000), {10**5000: 1}, nested(100_000), Unshowable(), b"x", None, {"a": {}}],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "place",
    ["location", "component", "connections", "car", "fault", "type", "kind", "status", "code",
     "fields", "methods", "key", "category", "id"],
)  # fmt: skip
def test_whatever_a_program_hands_over_is_a_mistake(place: str, value: object) -> None:
    site: dict[Any, Any] = {"component": [{"id": 1, "category": "grid"}]}
    if place in {"location", "component", "connections", "car", "fault"}:
        site[place] = value
    elif place == "key":
        if isinstance(value, dict | list):
            pytest.skip("cannot be a key")
        site[value] = 1
    elif place == "type":
        site["component"].append({"id": 2, "category": "inverter", "type": value})
    elif place in {"category", "id"}:
        site["component"].append({"id": 2, "category": "meter"} | {place: value})
    else:
        kinds = {"status": "refused", "code": "error", "fields": "nan", "methods": "unanswered"}
        site["fault"] = [{"kind": kinds.get(place, "")} | {place: value}]
    if value is None and place in {"status", "code", "fields", "methods"}:
        assert load_site(site).scheduled_faults
        return
    with pytest.raises(SiteError):
        load_site(site)


GRID = {"id": 1, "category": "grid"}
METER = {"id": 2, "category": "meter"}
CHARGER = {"id": 7, "category": "ev_charger"}
PARTS = [GRID, METER, CHARGER]
PAIRS = [[1, 2], [2, 7]]
SOLAR = {"id": 3, "category": "inverter", "type": "Solar", "peak": 9}
WITHOUT_TYPE = {"id": 3, "category": "inverter", "rating": 9}


@pytest.mark.parametrize(
    ("site", "words"),
    [
        # One mistake, and nothing that follows from it.
        ({"component": GRID, "connections": [[1, 2]]}, ["component: must be a list of tables"]),
        ({"component": PARTS, "connections": [[1, "2"]]}, ["number 1 is [1, '2']"]),
        ({"component": PARTS, "connections": {"a": 1}}, ["connections: must be a list of pairs"]),
        (
            {"component": [*PARTS, SOLAR], "connections": [*PAIRS, [2, 3]]},
            ["'Solar' is none of solar, battery, hybrid; did you mean 'solar'?"],
        ),
        (
            {"component": [*PARTS, WITHOUT_TYPE], "connections": [*PAIRS, [2, 3]]},
            ["component 3 (inverter): type: is missing"],
        ),
        (
            {
                "component": [GRID, METER, CHARGER | {"resolution": 3e4}],
                "connections": PAIRS,
                "supply": {"voltge": 1000},
            },
            ["voltge: is unknown here"],
        ),
        # Mistakes that hide no others.
        (
            {"component": [GRID, METER | {"category": "metr", "name": 5, "sample_interval": -1}]},
            ["'metr' is none of", "name: must be a string", "sample_interval: must be"],
        ),
        (
            {
                "component": PARTS,
                "connections": PAIRS,
                "fault": [{"kind": "lat", "at": -1, "lasts": "x", "components": [99]}],
            },
            ["kind: 'lat' is none of", "at: must be seconds", "lasts: must be seconds"],
        ),
        (
            {
                "component": PARTS,
                "connections": PAIRS,
                "car": [{"chargers": [7], "power": -1}, {"chargers": [7]}],
            },
            ["car 1: power: must be", "car 2: chargers: at charger 7 there is a car that never"],
        ),
        (
            {
                "component": PARTS,
                "connections": PAIRS,
                "nope": 1,
                "car": [{"chargers": [10**5000]}],
                "fault": [{"kind": "late", "components": [16**5000]}],
            },
            ["nope: is unknown", "car 1: chargers: must be", "fault 1: components: must be IDs"],
        ),
        (
            {
                "component": PARTS,
                "connections": PAIRS,
                "fault": [{"kind": "nan", "components": [7], "fields": ["\ud800"], "zzz": None}],
            },
            ["zzz: is unknown here", "is not in a EvCharger message"],
        ),
    ],
    ids=range(11),
)
def test_mistakes_neither_hide_nor_make_others(site: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SiteError) as caught:
        load_site(site)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(words), lines
    for text in words:
        assert any(text in line for line in lines), f"{text!r} is not in {lines}"
