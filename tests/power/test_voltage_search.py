"""Who says the voltage at chargers that measure none."""

from microgrid_sync.power.voltage import VoltageSearch
from tests.support.formulas import topology

VOLTS = (231.0, 230.0, 229.0)
SITE = topology("g1>m2 g1>m3 m2>m4 m4>c5 m2>c6 m3>s7 g1>r8 r8>m9 m9>c10")


def _until_waited(
    search: VoltageSearch, charger: int, start: float
) -> tuple[frozenset[int], float]:
    """Ask for a voltage once a second until nobody new is asked; give who is, and the time."""
    now = start
    asked = frozenset[int]()
    while True:
        assert search.find(charger, now) is None
        wanted = search.wanted(now)
        if wanted == asked and now > start + 8.0:
            return asked, now
        asked = wanted
        now += 1.0


def test_nearest_meter_above_is_asked_first() -> None:
    search = VoltageSearch(SITE, 10.0)
    assert search.find(5, 0.0) is None
    assert search.wanted(0.0) == {2, 4}
    search.update(2, VOLTS, 0.5)
    assert search.find(5, 1.0) == VOLTS
    search.update(4, (220.0, 0.0, 0.0), 1.5)
    assert search.find(5, 2.0) == (220.0, 0.0, 0.0)


def test_anybody_is_asked_if_no_meter_above_has_a_voltage() -> None:
    search = VoltageSearch(SITE, 10.0)
    asked, now = _until_waited(search, 5, 0.0)
    assert asked == {2, 3, 4, 5, 6, 7, 9, 10}
    search.update(7, VOLTS, now)
    assert search.find(5, now + 1.0) == VOLTS
    # A meter is better than an inverter.
    search.update(3, (240.0, 240.0, 240.0), now + 1.0)
    assert search.find(5, now + 2.0) == (240.0, 240.0, 240.0)


def test_old_and_impossible_voltages_are_none() -> None:
    search = VoltageSearch(SITE, 10.0)
    search.find(5, 0.0)
    search.update(4, VOLTS, 0.0)
    search.update(2, (2300.0, 0.0, float("nan")), 5.0)
    assert search.find(5, 9.9) == VOLTS
    assert search.find(5, 10.0) is None


def test_who_is_not_needed_is_not_asked_any_more() -> None:
    search = VoltageSearch(SITE, 10.0)
    search.find(5, 0.0)
    assert search.wanted(60.0) == {2, 4}
    assert search.wanted(60.1) == frozenset()


def test_meter_behind_a_relay_or_without_grid_is_above() -> None:
    search = VoltageSearch(SITE, 10.0)
    search.find(10, 0.0)
    assert search.wanted(0.0) == {9}
    lonely = VoltageSearch(topology("m2>c3"), 10.0)
    lonely.find(3, 0.0)
    assert lonely.wanted(0.0) == {2}


def test_site_may_change() -> None:
    search = VoltageSearch(SITE, 10.0)
    search.find(5, 0.0)
    search.change_topology(topology("g1>m2 m2>c5"))
    search.find(5, 1.0)
    assert search.wanted(1.0) == {2}
