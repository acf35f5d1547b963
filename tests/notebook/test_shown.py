"""What values look like in a terminal and in a notebook."""

import dataclasses
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

import microgrid_sync
from microgrid_sync import (
    Bounds,
    ChargingConfig,
    ClientState,
    ClientStats,
    Component,
    ComponentCategory,
    Connection,
    FuseCurve,
    Metric,
    MetricSample,
    Microgrid,
    MicrogridApiClient,
    Power,
    Request,
    Sample,
    StreamStats,
    Success,
    SystemBounds,
    Topology,
)
from microgrid_sync.model.shown import amperes, kilowatts, moment, number, quantity, short
from microgrid_sync.notebook.drawing import draw
from microgrid_sync.notebook.html import html_of, html_of_list
from microgrid_sync.simulator import Simulator
from tests.notebook.test_rows import NOW, battery, charger, meter
from tests.support.waiting import PATIENCE

VALUES = [
    meter(),
    charger(),
    battery(),
    Component(1, ComponentCategory.METER, name="<main>"),
    Connection(1, 2),
    Sample(NOW, Power.from_watts(-0.0001)),
    SystemBounds(NOW, Bounds(Power.from_watts(0.0), Power.from_watts(7.0)), None),
    ChargingConfig(),
    FuseCurve.gG(35),
    ClientStats((), 1, 2, 3),
    StreamStats(7, 1, 0, 0, 0, 0.123456, ClientState.READY, None),
    MetricSample(1.23456789),
]


class Checker(HTMLParser):
    """Sees that every element that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"br", "meta"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """Opened and closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(html: str) -> str:
    """Check that HTML is well-formed; give its text."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker.text


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_texts_are_short(value: object) -> None:
    text = repr(value)
    assert text.startswith(type(value).__name__)
    assert "datetime.datetime" not in text
    assert ".250" not in text
    assert "0001" not in text
    assert "=-0," not in text
    # What is as it is unless given is left out.
    assert "None" not in text or isinstance(value, SystemBounds)


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_html_is_well_formed_and_escaped(value: object) -> None:
    text = checked(html_of(value))
    assert "<main>" in text or not isinstance(value, Component)
    assert "nan" not in text


def test_all_public_dataclasses_have_short_texts() -> None:
    for name in microgrid_sync.__all__:
        kind = getattr(microgrid_sync, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            assert kind.__repr__.__qualname__.startswith("Shown"), name


def test_numbers_are_written_without_tails() -> None:
    assert [number(v) for v in (1.0, 1.23456, -0.0, -0.0004, 1e6, float("nan"))] == [
        "1", "1.235", "0", "0", "1000000", "nan",
    ]  # fmt: skip
    assert kilowatts(-3.0) == "0.00 kW"
    assert kilowatts(None) == "-"
    assert kilowatts(-5000.0) == "-5.00 kW"
    assert amperes(-0.04) == "0.0 A"
    assert quantity(Power.from_watts(999.0)) == "999 W"
    assert quantity(Power.from_watts(-1500.0)) == "-1.5 kW"
    assert moment(NOW) == "2026-06-21 12:00:05 UTC"
    assert moment(datetime(2026, 1, 1)) == "2026-01-01 00:00:00"
    assert short(timedelta(seconds=90)) == "90 s"
    assert short([1.0, (2.0,), {3}, {"a": Metric.DC_POWER}]) == "[1, (2,), {3}, {'a': DC_POWER}]"


def test_list_is_a_table_of_what_somebody_has() -> None:
    with Simulator() as simulator, MicrogridApiClient(simulator.url) as client:
        components = client.components()
        text = checked(components._repr_html_())  # type: ignore[attr-defined] # Jupyter asks
        assert "ev_charger" in text
        assert "model" not in text
        assert "start" in checked(client.connections()._repr_html_())  # type: ignore[attr-defined] # as above
    assert checked(html_of_list([])) == ""
    many = [Component(i, ComponentCategory.METER) for i in range(1, 300)]
    assert "99 more are not shown" in checked(html_of_list(many))


def test_result_is_a_table() -> None:
    request = Request(Power.from_watts(5.0), frozenset({7}))
    success = Success(request, Power.from_watts(5.0), frozenset({7}), Power.from_watts(0.0))
    assert "succeeded power" in checked(html_of(success))
    assert repr(success).startswith("Success(request=Request(")


def test_stats_are_tables() -> None:
    with Simulator(sample_interval=0.1) as simulator, MicrogridApiClient(simulator.url) as client:
        client.latest(7)
        text = checked(client.stats()._repr_html_())
    assert "ready" in text
    assert "undecodable" in text


def test_site_is_drawn_from_the_grid_down() -> None:
    with Simulator("depot") as simulator, Microgrid(simulator.url) as microgrid:
        text = checked(microgrid._repr_html_())
        for component in microgrid.topology.components():
            assert f"{component.component_id} " in text
        assert "kW" not in text
        live = microgrid.draw(live=True, timeout=PATIENCE)
        assert "not heard" not in live.svg
        assert "kW" in checked(live.svg)
        assert "%" in checked(live._repr_html_())
        assert repr(microgrid).startswith("<Microgrid at grpc://")


def test_drawing_is_saved(tmp_path: Path) -> None:
    site = Topology(
        [Component(i, ComponentCategory.METER) for i in range(1, 15)],
        [Connection(1, i) for i in range(2, 15)],
    )
    drawing = draw(site)
    path = tmp_path / "site.svg"
    drawing.save(path)
    assert path.read_text(encoding="utf-8") == drawing.svg
    # Many with nothing behind them are stacked.
    assert "12 meter" in checked(drawing.svg)
    assert draw(Topology([], [])).svg.startswith("<svg")


def test_boxes_do_not_overlap() -> None:
    with Simulator("depot") as simulator, Microgrid(simulator.url) as microgrid:
        svg = microgrid.draw().svg
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="(\d+)" height="(\d+)"', svg)
    boxes = [tuple(map(float, one)) for one in found]
    assert len(boxes) > 10
    for number_, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, _, _ in boxes[:number_]:
            assert abs(x - other_x) >= width or abs(y - other_y) >= height


def test_pool_and_limit_say_what_each_charger_has(monkeypatch: pytest.MonkeyPatch) -> None:
    # However late the chargers are heard.
    monkeypatch.setattr("microgrid_sync.notebook.html._REPORT_TIMEOUT", PATIENCE)
    with Simulator(sample_interval=0.1) as simulator, Microgrid(simulator.url) as microgrid:
        pool = microgrid.new_ev_charger_pool(priority=1)
        text = checked(pool._repr_html_())
        assert "not commanded" in text
        assert "kW" in text
        limit = microgrid.limit("grid")
        assert "Limit of the grid" in checked(limit._repr_html_())
        assert repr(microgrid.grid).startswith("<Grid, power #")
    # Nothing holds the fuse then, and it does not look so.
    text = checked(limit._repr_html_())
    assert "closed" in text
    assert "holds" not in text
    assert limit.report is None
    assert "closed" in checked(pool._repr_html_())
