"""What other systems command, and what holds of it."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from microgrid_sync import MicrogridApiClient
from microgrid_sync.gateways import CommandError, Commands, CommandSource, LiveSite
from microgrid_sync.gateways.commands import check_cap, check_lifetime
from microgrid_sync.simulator import Fault, Simulator
from tests.gateways.sites import draw, live_site
from tests.support.waiting import eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.1)


class _Nothing:
    """What a source reports to."""

    def told(self, *_: object) -> None:
        pass

    def wake(self) -> None:
        pass


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("microgrid_sync.gateways.commands.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def source_of(clock: Clock) -> Callable[..., CommandSource]:
    def make(safe: float | None = None, timeout: float = 60.0) -> CommandSource:
        nothing: Any = _Nothing()
        return CommandSource("test", safe, timeout, nothing, clock.now)

    return make


def cap(source: CommandSource, clock: Clock) -> float | None:
    found, _, _ = source.commanded(clock.now)
    return None if found is None else found.value


def test_cap_holds_until_it_is_taken_back(
    source_of: Callable[..., CommandSource], clock: Clock
) -> None:
    source = source_of()
    source.set_cap(11000.0, by="me")
    clock.now += 1e6
    assert cap(source, clock) == source.cap_w == 11000.0
    source.set_cap(None, by="me")
    assert cap(source, clock) is None


def test_cap_with_a_lifetime_lapses(source_of: Callable[..., CommandSource], clock: Clock) -> None:
    source = source_of()
    source.set_cap(11000.0, by="me", lifetime=30.0)
    _, _, due = source.commanded(clock.now)
    assert due == clock.now + 30.0
    clock.now += 29.9
    assert cap(source, clock) == 11000.0
    clock.now += 0.2
    assert cap(source, clock) is source.cap_w is None


def test_safe_value_holds_without_a_heartbeat_and_no_longer(
    source_of: Callable[..., CommandSource], clock: Clock
) -> None:
    source = source_of(4200.0, 60.0)
    source.heartbeat()
    source.set_cap(11000.0, by="me")
    clock.now += 59.0
    assert cap(source, clock) == 11000.0
    clock.now += 1.0
    # A cap that is written is no heartbeat.
    source.set_cap(12000.0, by="me")
    assert cap(source, clock) == 4200.0
    assert source.is_overdue(clock.now)
    # What was commanded is still there.
    assert source.cap_w == 12000.0
    source.heartbeat()
    assert cap(source, clock) == 12000.0
    clock.now += 61.0
    assert cap(source, clock) == 4200.0


def test_without_a_safe_value_no_heartbeat_is_awaited(
    source_of: Callable[..., CommandSource], clock: Clock
) -> None:
    source = source_of()
    clock.now += 1e6
    assert not source.is_overdue(clock.now)
    assert cap(source, clock) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1.0, "from 0 to"),
        (float("nan"), "finite number in W"),
        (float("inf"), "finite number in W"),
        (10**400, "finite number in W"),
        (11.0, "less than any car takes; is it in W"),
        (1e12, "from 0 to"),
        (True, "finite number"),
        ("11000", "finite number in W, not '11000'"),
    ],
)
def test_caps_that_are_none(value: Any, text: str) -> None:
    with pytest.raises(CommandError, match=text):
        check_cap(value)


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e9, float("nan"), None, "60", 10**400])
def test_lifetimes_that_are_none(value: Any) -> None:
    with pytest.raises(CommandError, match="a lifetime must be"):
        check_lifetime(value)


@pytest.mark.both_apis
def test_cap_is_obeyed_and_let_go_of(microgrid: Simulator, api: str) -> None:
    with live_site(f"{microgrid.url}?api={api}") as site, Commands(site) as commands:
        assert eventually(lambda: draw(microgrid) > 12_000)
        source = commands.new_source("test")
        source.set_cap(5000.0, by="a test")
        assert eventually(lambda: draw(microgrid) <= 5001)
        state = commands.state()
        assert (state.cap_w, state.cap_by, state.cap_source) == (5000.0, "a test", "test")
        source.set_cap(None, by="a test")
        assert eventually(lambda: draw(microgrid) > 12_000)
        assert commands.state().cap_w is None


def test_lowest_cap_of_all_sources_holds(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site, Commands(site) as commands:
        one, other = commands.new_source("one"), commands.new_source("other")
        one.set_cap(9000.0, by="one")
        other.set_cap(5000.0, by="other")
        assert eventually(lambda: draw(microgrid) <= 5001)
        assert commands.state().cap_source == "other"
        other.set_cap(None, by="other")
        assert commands.state().cap_source == "one"


def test_heartbeat_that_stays_away_lowers_the_chargers(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with live_site(microgrid.url) as site, Commands(site) as commands:
        source = commands.new_source("test", safe_cap_w=4200.0, heartbeat_timeout=0.5)
        assert eventually(lambda: draw(microgrid) <= 4201)
        assert commands.state().is_safe_value

        def is_there() -> bool:
            source.heartbeat()
            return "the heartbeat of test is there" in caplog.text

        # Again and again: of one alone the thread that looks may see nothing in its time.
        assert eventually(is_there)
    assert "no heartbeat of test: its cap falls back to the safe value, 4200 W" in caplog.text
    assert "the heartbeat of test is there: it has no cap" in caplog.text


def test_who_has_commanded_what_is_logged_once(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with live_site(microgrid.url, name="depot") as site, Commands(site) as commands:
        source = commands.new_source("test")
        for _ in range(5):
            source.set_cap(11000.0, by="Modbus master 10.0.0.5", lifetime=60.0)
        source.set_cap(11000.0, by="Modbus master 10.0.0.6", lifetime=60.0)
        source.set_max_current(32.0, by="me", lifetime=60.0)
        # One that has lapsed before it was looked at would not be missed.
        assert eventually(lambda: site.limits)
        source.set_max_current(32.0, by="me", lifetime=1.0)
        assert eventually(lambda: "the limit of test has lapsed" in caplog.text)
        # It is new again.
        source.set_max_current(32.0, by="me", lifetime=60.0)
    assert [r.message for r in caplog.records if r.name.endswith("commands")] == [
        "depot: Modbus master 10.0.0.5 caps the chargers at 11000 W for 60 s",
        "depot: Modbus master 10.0.0.6 caps the chargers at 11000 W for 60 s",
        "depot: me limits to 32 A for 60 s",
        "depot: me limits to 32 A for 1 s",
        "depot: the limit of test has lapsed",
        "depot: me limits to 32 A for 60 s",
    ]


def test_who_commands_without_end_does_not_fill_the_log(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with live_site(microgrid.url, name="depot") as site, Commands(site) as commands:
        source = commands.new_source("test")
        for number in range(2000):
            source.set_cap(5000.0 + number, by="me")
        assert commands.state().cap_w == 6999.0
        # The last one is carried out.
        assert eventually(lambda: site.report is not None and site.report.target_power is not None)
        assert eventually(
            lambda: (
                site.report is not None
                and site.report.target_power is not None
                and site.report.target_power.as_watts() == 6999.0
            )
        )
    assert sum("caps the chargers" in record.message for record in caplog.records) == 20


def test_cap_is_obeyed_though_the_limit_cannot_be(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site, Commands(site, where=9, max_current_a=20.0) as commands:
        commands.new_source("test").set_cap(5000.0, by="me")
        assert eventually(lambda: draw(microgrid) <= 5001)
        assert eventually(lambda: commands.state().error is not None)


def test_limit_above_the_fuse_that_was_not_known_is_not_held(
    monkeypatch: pytest.MonkeyPatch,
    port: int,
) -> None:
    monkeypatch.setattr("microgrid_sync.gateways.live_site._RETRY_INTERVAL", 0.1)
    with (
        MicrogridApiClient(f"grpc://127.0.0.1:{port}", timeout=1.0) as client,
        LiveSite(client) as site,
        Commands(site) as commands,
    ):
        commands.new_source("test").set_max_current(5000.0, by="me")
        with Simulator(sample_interval=0.1, port=port):
            assert eventually(lambda: "more than the fuse is for" in str(commands.state().error))
            assert site.limits == ()


def test_limit_that_always_holds_does_so_beside_a_wrong_one(
    microgrid: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_site(microgrid.url) as site, Commands(site, max_current_a=50.0) as commands:
        source = commands.new_source("test")
        with monkeypatch.context() as patched:
            # As it is before the site is known.
            patched.setattr(commands, "check_max_current", float)
            source.set_max_current(5000.0, by="me")
        assert eventually(lambda: commands.state().error is not None)
        assert [str(limit.max_current) for limit in site.limits] == ["50 A"]


def test_fuse_of_the_site_is_never_exceeded_by_what_always_holds(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with live_site(microgrid.url) as site, Commands(site, max_current_a=5000.0):
        assert eventually(lambda: len(site.limits) == 1)
        assert site.microgrid is not None
        fuse = site.microgrid.grid.fuse
        assert fuse is not None
        assert str(site.limits[0].max_current) == f"{fuse.max_current:g} A"
    assert "as is the fuse, not 5000 A" in caplog.text


def test_set_points_that_fail_are_told(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site, Commands(site) as commands:
        source = commands.new_source("test")
        source.set_cap(9000.0, by="me")
        assert eventually(lambda: draw(microgrid) <= 9001)
        assert commands.state().error is None
        fault = microgrid.faults.add(Fault(kind="refused", components=[7, 8]))
        source.set_cap(5000.0, by="me")
        assert eventually(lambda: "do not take or keep" in str(commands.state().error))
        microgrid.faults.end(fault)
        assert eventually(lambda: commands.state().error is None)


def test_first_heartbeat_is_not_awaited_for_longer_than_set_points_hold(
    source_of: Callable[..., CommandSource], clock: Clock
) -> None:
    source = source_of(4200.0, 300.0)
    clock.now += 29.0
    assert not source.is_overdue(clock.now)
    clock.now += 1.0
    assert source.is_overdue(clock.now)
    source.heartbeat()
    clock.now += 299.0
    assert not source.is_overdue(clock.now)


def test_current_is_limited_and_let_go_of(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site, Commands(site) as commands:
        source = commands.new_source("test")
        source.set_max_current(20.0, by="me")
        assert eventually(lambda: len(site.limits) == 1)
        assert eventually(lambda: site.heard("limit:grid") is not None)
        heard = site.heard("limit:grid")
        assert heard is not None
        assert heard.values["max_current_a"] == 20.0
        source.set_max_current(25.0, by="me")

        def shown() -> Any:
            newest = site.heard("limit:grid")
            return None if newest is None else newest.values["max_current_a"]

        assert eventually(lambda: shown() == 25.0)
        source.set_max_current(None, by="me")
        assert eventually(lambda: site.heard("limit:grid") is None)
        # Nothing of it is left.
        assert site.limits == ()


def test_limit_that_always_holds_can_only_be_lowered(microgrid: Simulator) -> None:
    with (
        live_site(microgrid.url) as site,
        Commands(site, max_current_a=50.0, fuse="gG") as commands,
    ):
        source = commands.new_source("test")
        assert eventually(lambda: site.heard("limit:grid") is not None)
        with pytest.raises(CommandError, match="60 A is more than the fuse is for, 50 A"):
            source.set_max_current(60.0, by="me")
        source.set_max_current(32.0, by="me")
        assert eventually(lambda: site.limits[0].max_current is not None)
        assert eventually(lambda: "32" in str(site.limits[0].max_current))
        source.set_max_current(None, by="me")
        assert eventually(lambda: "50" in str(site.limits[0].max_current))


def test_no_limit_above_the_fuse_of_the_site(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site, Commands(site) as commands:
        assert site.microgrid is not None
        fuse = site.microgrid.grid.fuse
        assert fuse is not None
        with pytest.raises(CommandError, match="more than the fuse is for"):
            commands.new_source("test").set_max_current(fuse.max_current + 1, by="me")


def test_what_cannot_be_carried_out_is_told_and_tried_again(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with live_site(microgrid.url) as site, Commands(site, where=9) as commands:
        source = commands.new_source("test")
        source.set_max_current(20.0, by="me")
        assert eventually(lambda: commands.state().error is not None)
        assert "what is commanded cannot be done" in caplog.text
        source.set_max_current(None, by="me")
        assert eventually(lambda: commands.state().error is None)


def test_commands_wait_for_a_site_that_is_down(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr("microgrid_sync.gateways.live_site._RETRY_INTERVAL", 0.1)
    with (
        MicrogridApiClient(f"grpc://127.0.0.1:{port}", timeout=1.0) as client,
        LiveSite(client) as site,
        Commands(site) as commands,
    ):
        commands.new_source("test").set_cap(5000.0, by="me")
        with Simulator(sample_interval=0.1, port=port) as simulator:
            running = simulator
            assert eventually(lambda: 0 < draw(running) <= 5001)


def test_at_the_end_nothing_is_released(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site:
        with Commands(site) as commands:
            commands.new_source("test").set_cap(5000.0, by="me")
            assert eventually(lambda: draw(microgrid) <= 5001)
        commands.new_source("late").set_cap(9000.0, by="me")
        time.sleep(1.0)
        assert draw(microgrid) <= 5001
