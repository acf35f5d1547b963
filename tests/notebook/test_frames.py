"""Tables of pandas, and pictures."""

import io
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from microgrid_sync import Microgrid, MicrogridApiClient, Power, Sample, to_dataframe
from microgrid_sync.notebook import jupyter
from microgrid_sync.receiver import Receiver, Writer
from microgrid_sync.simulator import Simulator
from tests.notebook.test_rows import NOW, charger, meter
from tests.support.receivers import FedReceiver
from tests.support.waiting import PATIENCE, eventually

pytestmark = [
    pytest.mark.microgrid(sample_interval=0.1),
    # What those packages warn of is not what this is about.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def client(microgrid: Simulator) -> Any:
    with MicrogridApiClient(microgrid.url) as client:
        yield client


def test_table_has_the_times_as_its_index() -> None:
    frame = to_dataframe([meter(), charger()])
    assert frame.index.name == "timestamp"
    assert str(frame.index.tz) == "UTC"
    assert frame["component_id"].tolist() == [2, 7]
    assert frame["active_power_w"].tolist() == [600.0, 1.0]
    assert frame["cable_state"].tolist()[1] == "ev_locked"
    assert to_dataframe([]).empty
    # One is enough.
    assert len(to_dataframe(meter())) == 1
    with pytest.raises(TypeError, match="not None"):
        to_dataframe(None)  # type: ignore[arg-type] # on purpose


def test_components_have_their_ids_as_index(client: MicrogridApiClient) -> None:
    frame = to_dataframe(client.components())
    assert frame.index.name == "component_id"
    assert frame.loc[7, "category"] == "ev_charger"
    assert to_dataframe(client.connections()).columns.tolist() == ["start", "end"]


def test_receiver_is_no_list(client: MicrogridApiClient) -> None:
    with client.meter_data(2) as receiver, pytest.raises(TypeError, match="may go on for ever"):
        to_dataframe(receiver)


def test_receiver_gives_so_many_samples(client: MicrogridApiClient) -> None:
    with client.ev_charger_data(7) as receiver:
        frame = receiver.to_dataframe(samples=3)
        assert len(frame) == 3
        assert frame.index.is_monotonic_increasing
        assert eventually(lambda: not receiver.to_dataframe(duration=0.5).empty)
        assert not receiver.is_closed


def test_receiver_that_ends_gives_what_has_come(caplog: pytest.LogCaptureFixture) -> None:
    receiver: FedReceiver[Any] = FedReceiver()
    for _ in range(2):
        receiver.put(charger())
    receiver.receive(PATIENCE)
    receiver.close()
    # Long before its time is over.
    assert len(receiver.to_dataframe(duration=1e6)) == 1
    assert "has ended" in caplog.text


@pytest.mark.parametrize(
    ("amount", "error", "words"),
    [
        ({}, ValueError, "duration= in seconds, or samples="),
        ({"duration": 1, "samples": 1}, ValueError, "duration= in seconds, or samples="),
        ({"samples": 0}, ValueError, "samples must be 1 or more"),
        ({"samples": 1.5}, TypeError, "samples must be an integer"),
        ({"samples": True}, TypeError, "samples must be an integer"),
        ({"duration": 0}, ValueError, "more than 0 seconds"),
        ({"duration": float("inf")}, ValueError, "more than 0 seconds"),
        ({"duration": "5"}, TypeError, "number of seconds"),
    ],
)
def test_amounts_that_make_no_sense_are_refused(
    amount: dict[str, Any], error: type[Exception], words: str
) -> None:
    receiver: Receiver[Any] = Receiver(Writer(1, "the meter"))
    with pytest.raises(error, match=words):
        receiver.to_dataframe(**amount)
    if amount:
        with pytest.raises(error, match=words):
            receiver.plot(**amount)


def test_picture_has_units_and_the_time_of_the_site(client: MicrogridApiClient) -> None:
    with client.ev_charger_data(7) as receiver:
        (axes,) = receiver.plot(samples=5).axes
        assert axes.get_ylabel() == "active power (kW)"
        assert axes.get_xlabel() == "time (Europe/Berlin)"
        values: Any = axes.lines[0].get_xdata()
        assert len(values) == 5
        (axes,) = receiver.plot("current_phase_1_a", "current_phase_2_a", samples=2).axes
        assert axes.get_ylabel() == "current (A)"
        assert len(axes.lines) == 2
        # A row of axes for each unit.
        first, second = receiver.plot("active_power_w", "frequency_hz", samples=2).axes
        assert (first.get_ylabel(), second.get_ylabel()) == ("active power (kW)", "frequency (Hz)")
        for wrong in ("active_power", "nope", "cable_state", "timestamp"):
            with pytest.raises(ValueError, match="there are active_power_w, "):
                receiver.plot(wrong, duration=60)
        with pytest.raises(TypeError, match="a column is named by a string"):
            receiver.plot(1)  # type: ignore[arg-type] # on purpose


def test_pictures_of_formulas_pools_and_limits(microgrid: Simulator, tmp_path: Path) -> None:
    with Microgrid(microgrid.url) as site, site.grid.power.new_receiver() as grid:
        assert eventually(lambda: grid.receive(PATIENCE).value is not None)
        figure = site.grid.power.plot(samples=2)
        figure.savefig(tmp_path / "grid.png")
        assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
        (axes,) = figure.axes
        assert axes.get_ylabel() == "power (kW)"
        assert "grid" in axes.get_title(loc="left")
        with site.grid.current_per_phase.new_receiver() as currents:
            # The first may be too early to tell.
            assert eventually(lambda: None not in list(currents.receive(PATIENCE)))
            (axes,) = site.grid.current_per_phase.plot(samples=2).axes
        assert len(axes.lines) == 3
        pool = site.new_ev_charger_pool(priority=0)
        with pool.power.new_receiver() as power:
            assert eventually(lambda: power.receive(PATIENCE).value is not None)
            assert pool.plot(samples=1).axes[0].get_ylabel() == "power (kW)"
        (axes,) = site.limit("grid").plot(samples=3).axes
        assert axes.get_ylabel() == "house (A)"
        assert "limit, 100 A" in [line.get_label() for line in axes.lines]


@pytest.mark.parametrize("seconds", [0.0, 0.4, 5.0, 60.0, 3600.0, 90_000.0])
@pytest.mark.parametrize("value", [None, 5.0], ids=["unknown", "known"])
def test_times_of_any_length_are_drawn(seconds: float, value: float | None) -> None:
    power = None if value is None else Power.from_watts(value)
    writer: Writer[Any] = Writer(10, "the meter")
    for part in (0.0, 1.0):
        writer.put(Sample(NOW + timedelta(seconds=part * seconds), power))
    figure = Receiver(writer).plot(samples=2)
    (axes,) = figure.axes
    figure.savefig(io.BytesIO())
    assert len(axes.get_xticks()) < 20


def test_picture_of_nothing_says_so(client: MicrogridApiClient) -> None:
    receiver = client.meter_data(2)
    receiver.close()
    receiver.drain()
    (axes,) = receiver.plot(duration=0.2).axes
    assert [text.get_text() for text in axes.texts] == ["nothing has come"]


def test_progress_is_shown_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal:
        """A standard error stream that somebody looks at."""

        def __init__(self) -> None:
            self.text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            """Nothing is held back."""

    terminal = Terminal()
    shown = jupyter.Progress("the meter", terminal)  # type: ignore[arg-type] # all that it needs
    shown.update(0.5, "5 samples")
    shown.end("10 samples")
    assert "the meter [###############...............] 5 samples" in terminal.text
    assert terminal.text.endswith("\n")
    # Not where nobody looks.
    with jupyter.progress("the meter") as bar:
        bar.update(0.5, "5 samples")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("module", "call"), [("pandas", "to_dataframe([])"), ("matplotlib", "receiver.plot(samples=1)")]
)
def test_extra_that_is_missing_is_named(module: str, call: str) -> None:
    script = (
        f"import sys\nsys.modules[{module!r}] = None\n"
        f"sys.modules['{module}.figure'] = None\n"
        "from microgrid_sync import to_dataframe\n"
        "from microgrid_sync.receiver import Receiver, Writer\n"
        "receiver = Receiver(Writer(1, 'x'))\n"
        f"try:\n    {call}\nexcept ImportError as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'microgrid_sync[notebook]'" in result.stdout
