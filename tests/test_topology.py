"""Who feeds whom."""

import pytest

from microgrid_sync import Component, ComponentCategory, Connection, InverterType
from microgrid_sync.formulas.charger import charger_formula
from microgrid_sync.formulas.site import (
    battery_formula,
    consumer_formula,
    grid_formula,
    producer_formula,
    soc_formula,
)
from microgrid_sync.topology import Topology, changed_components, changes
from tests.support.formulas import evaluate
from tests.support.formulas import topology as read

GRID, METER, CHARGER = ComponentCategory.GRID, ComponentCategory.METER, ComponentCategory.EV_CHARGER


def _topology(kinds: dict[int, ComponentCategory], *pairs: tuple[int, int]) -> Topology:
    return Topology(
        [Component(component_id, category) for component_id, category in kinds.items()],
        [Connection(start, end) for start, end in pairs],
    )


def _ids(components: list[Component]) -> list[int]:
    return [component.component_id for component in components]


SITE = _topology(
    {1: GRID, 2: METER, 3: METER, 5: CHARGER, 4: CHARGER, 6: METER},
    (1, 2), (2, 3), (3, 4), (3, 5), (2, 6), (9, 2), (2, 9),
)  # fmt: skip


def test_neighbours() -> None:
    assert _ids(SITE.successors(3)) == [4, 5]
    assert _ids(SITE.predecessors(3)) == [2]
    assert _ids(SITE.predecessors(1)) == []
    assert SITE.component(4) == Component(4, CHARGER)
    with pytest.raises(KeyError):
        SITE.component(9)


def test_components_by_category() -> None:
    assert _ids(SITE.components()) == [1, 2, 3, 4, 5, 6]
    assert _ids(SITE.components(CHARGER)) == [4, 5]
    assert _ids(SITE.roots()) == [1]


def test_tree_goes_from_the_grid_outwards() -> None:
    lines = [
        (line.component.component_id, line.depth, line.parent and line.parent.component_id)
        for line in SITE.tree()
    ]
    assert lines == [(1, 0, None), (2, 1, 1), (3, 2, 2), (4, 3, 3), (5, 3, 3), (6, 2, 2)]


def test_tree_shows_each_component_once_even_in_a_circle() -> None:
    circle = _topology({1: METER, 2: METER, 3: METER}, (1, 2), (2, 1), (1, 3), (2, 3))
    assert sorted(line.component.component_id for line in circle.tree()) == [1, 2, 3]
    diamond = _topology({1: GRID, 2: METER, 3: METER, 4: CHARGER}, (1, 2), (1, 3), (2, 4), (3, 4))
    assert [line.component.component_id for line in diamond.tree()] == [1, 2, 4, 3]


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (SITE, 2),
        (_topology({1: GRID, 2: METER, 3: METER}, (1, 2), (1, 3)), None),
        (_topology({1: GRID, 4: CHARGER}, (1, 4)), None),
        (_topology({2: METER}), None),
    ],
)
def test_main_meter(topology: Topology, expected: int | None) -> None:
    meter = topology.main_meter()
    assert (meter and meter.component_id) == expected


# What is wrong with a site

GOOD = "g1>m2 m2>m9 m2>s3 m2>v4 v4>b5 m2>m6 m6>c7"

# The site, and what is said of it.
ODD: list[tuple[str, list[str]]] = [
    (GOOD, []),
    ("", ["the site has no components"]),
    ("m2>c3", ["the site has no grid connection"]),
    ("c3", ["the site has no grid connection"]),
    ("g1", ["grid 1 feeds nothing"]),
    ("g1>m2 g3>m4", ["the site has 2 grid connections: 1, 3; their powers are added"]),
    ("g1>m2 g3", [
        "the site has 2 grid connections: 1, 3; their powers are added", "grid 3 feeds nothing",
    ]),
    ("g1>m2 m2>g3", [
        "the site has 2 grid connections: 1, 3; their powers are added", "grid 3 feeds nothing",
        "grid 3 is fed by meter 2; nothing can be before it",
    ]),
    ("g1>m2 c3", ["EV charger 3 is not connected to the grid"]),
    ("g1>m2 m3>c4", [
        "meter 3 is not connected to the grid", "EV charger 4 is not connected to the grid",
    ]),
    ("g1>m2 m2>m3 m3>m2", ["components feed each other in a circle: 2 > 3 > 2"]),
    ("g1>m2 m3>m4 m4>m3", [
        "components feed each other in a circle: 3 > 4 > 3",
        "meter 3 is not connected to the grid", "meter 4 is not connected to the grid",
    ]),
    ("m2>m3 m3>m2", [
        "components feed each other in a circle: 2 > 3 > 2", "the site has no grid connection",
    ]),
    ("g1>m2 m2>g1", [
        "components feed each other in a circle: 1 > 2 > 1",
        "grid 1 is fed by meter 2; nothing can be before it",
    ]),
    ("g1>m2 m2>m2", ["component 2 is connected to itself"]),
    ("g1>m2 g1>m3 m2>c4 m3>c4", ["EV charger 4 is fed by meter 2 and meter 3; one was expected"]),
    ("g1>m2 g1>m3 m2>m4 m3>m4", ["meter 4 is fed by meter 2 and meter 3; one was expected"]),
    ("g1>m2 m2>v3 v3>b4 m2>v5 v5>b4", []),
    ("g1>m2 m2>v3 v3>b4 v3>b5", []),
    ("g1>m2 m2>b3", [
        "battery 3 has no inverter",
    ]),
    ("g1>b3", ["battery 3 has no inverter"]),
    ("g1>m2 m2>v3", ["battery inverter 3 has no battery"]),
    ("g1>m2 m2>y3", ["hybrid inverter 3 has no battery"]),
    ("g1>m2 m2>s3 s3>b4", [
        "solar inverter 3 feeds battery 4; it counts as one of solar panels alone",
    ]),
    ("g1>m2 m2>i3", [
        "inverter 3 does not say what it is for; it counts as one of solar panels",
    ]),
    ("g1>m2 m2>i3 i3>b4", [
        "inverter 3 does not say what it is for; it counts as one of batteries",
    ]),
    ("g1>m2 m2>v3 v3>b4 v3>c5", [
        "battery inverter 3 feeds EV charger 5; only batteries can be behind it",
    ]),
    ("g1>m2 m2>s3 s3>m4", ["solar inverter 3 feeds meter 4; only batteries can be behind it"]),
    ("g1>m2 m2>v3 v3>b4 b4>c5", ["battery 4 feeds EV charger 5; nothing can be behind it"]),
    ("g1>m2 m2>v3 v3>b4 m2>b4", ["battery 4 is fed by meter 2; only an inverter can feed it"]),
    ("g1>m2 m2>c3 c3>m4", ["EV charger 3 feeds meter 4; nothing can be behind it"]),
    ("g1>m2 m2>c3 c3>c4", ["EV charger 3 feeds EV charger 4; nothing can be behind it"]),
    ("g1>m2 m2>h3 h3>m4", ["CHP 3 feeds meter 4; nothing can be behind it"]),
    ("g1>m2 m2>n3", ["component 3 is of no known category; it counts as a consumer"]),
    ("g1>m2 m2>n3 n3>c4", ["component 3 is of no known category; it counts as a wire"]),
    ("g1>m2 m2>e3", []),
    ("g1>r2 r2>m3 m3>p4 p4>c5", []),
    ("g1>m2 m2>r3", []),
    ("g1>r2 r2>r3 r3>r2", ["components feed each other in a circle: 2 > 3 > 2"]),
    ("g1>c0", ["0 is no ID of an EV charger"]),
    ("g0>m2 m2>c3", []),
]  # fmt: skip


@pytest.mark.parametrize(("site", "problems"), ODD)
def test_problems(site: str, problems: list[str]) -> None:
    assert list(read(site).problems()) == problems


def test_problems_of_lists_that_no_topology_can_hold() -> None:
    grid, meter = Component(1, GRID), Component(2, METER)
    twice = Topology([grid, meter, Component(2, CHARGER)], [Connection(1, 2)])
    assert twice.problems() == (
        "component 2 is listed 2 times; it counts as the first of them, a meter",
    )
    assert twice.component(2) is meter
    nowhere = Topology([grid, meter], [Connection(1, 2), Connection(2, 8), Connection(8, 9)])
    assert nowhere.problems() == (
        "the connection from 2 to 8 leads nowhere: 8 is not a component",
        "the connection from 8 to 9 leads nowhere: 8 and 9 are not components",
    )
    sensor = Topology([grid, meter], [Connection(1, 2), Connection(2, 8)], left_out=[8])
    assert sensor.problems() == ()


@pytest.mark.parametrize("site", [site for site, _ in ODD])
def test_odd_site_has_formulas_all_the_same(site: str) -> None:
    odd = read(site)
    numbers = {c.component_id: 1.0 for c in odd.components()}
    for rule in (grid_formula, consumer_formula, producer_formula, battery_formula, soc_formula):
        assert evaluate(rule(odd), {}) in {None, 0.0}
        evaluate(rule(odd), numbers)
    chargers = {c.component_id for c in odd.components(CHARGER)}
    if chargers:
        evaluate(charger_formula(odd, chargers), numbers)
    assert str(odd).count("\n") == max(0, len(odd.components()) - 1)
    for component in odd.components():
        path = odd.path_to_grid(component.component_id)
        assert not path or path[-1].category is GRID


# What users ask of it


def test_wires_are_looked_through() -> None:
    site = read("g1>r8 r8>m2 m2>p3 p3>r4 r4>c5 m2>r9")
    assert _ids(site.reads(1)) == [2]
    assert _ids(site.reads(2)) == [5]
    assert _ids(site.read_by(5)) == [2]
    assert _ids(site.path_to_grid(5)) == [5, 4, 3, 2, 8, 1]
    assert _ids(site.successors(2)) == [3, 9]
    main = site.main_meter()
    assert main is not None
    assert main.component_id == 2


def test_find() -> None:
    site = read(GOOD)
    assert _ids(site.find(category=ComponentCategory.INVERTER)) == [3, 4]
    assert _ids(site.find(type=InverterType.SOLAR)) == [3]
    assert _ids(site.find(category=CHARGER, type=InverterType.SOLAR)) == []
    named = Topology([Component(1, METER, name="roof"), Component(2, METER)], [])
    assert _ids(named.find(name="roof")) == [1]
    assert 2 in named
    assert 3 not in named


def test_what_a_meter_reads() -> None:
    site = read(
        "g1>m2 m2>m3 m3>s4 m2>m5 m5>v6 v6>b7 m2>m8 m8>c9 m2>m10 m10>h11 m2>m12 m12>c13 m12>s14"
    )
    assert [site.is_pv_meter(i) for i in (2, 3, 5, 12)] == [False, True, False, False]
    assert [site.is_battery_meter(i) for i in (3, 5)] == [False, True]
    assert [site.is_ev_charger_meter(i) for i in (8, 12, 9)] == [True, False, False]
    assert [site.is_chp_meter(i) for i in (8, 10)] == [False, True]
    assert [site.is_main_meter(i) for i in (2, 3)] == [True, False]
    assert site.behind(5) == {6, 7}


def test_text_tree() -> None:
    assert str(read("g1>m2 m2>v4 v4>b5 m2>c7")) == (
        "1: grid\n  2: meter\n    4: battery inverter\n      5: battery\n    7: EV charger"
    )


def test_changes_in_words() -> None:
    before = read("g1>m2 m2>c3 m2>c4 m2>m6 m6>c5")
    after = Topology(
        [*(c for c in before.components() if c.component_id not in {3, 4}),
         Component(4, METER), Component(7, CHARGER)],
        [Connection(1, 2), Connection(2, 4), Connection(2, 6), Connection(2, 5)],
    )  # fmt: skip
    assert changes(before, after) == [
        "EV charger 7 is new", "EV charger 3 is gone",
        "component 4 was '4: EV charger', is '4: meter'",
        "meter 2 feeds EV charger 5", "meter 6 feeds EV charger 5 no more",
    ]  # fmt: skip
    assert changed_components(before, after) == {3, 4}
    assert before != after
    assert before == read("m6>c5 g1>m2 m2>c4 m2>c3 m2>m6")


def test_circles_of_many_are_found_in_time() -> None:
    ids = range(1, 81)
    dense = Topology(
        [Component(i, METER) for i in ids],
        [Connection(i, j) for i in ids for j in ids if i != j],
    )
    assert any("in a circle" in problem for problem in dense.problems())
    assert evaluate(consumer_formula(dense), {}) in {None, 0.0}
