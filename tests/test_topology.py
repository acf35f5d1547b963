"""Who feeds whom."""

import pytest

from microgrid_sync import Component, ComponentCategory, Connection
from microgrid_sync.topology import Topology

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
