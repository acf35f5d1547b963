"""Recorders as processes, with Debian's PostgreSQL, and what is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import psycopg
import pytest

from microgrid_sync import MicrogridApiClient, recording
from microgrid_sync.recording.postgresql import PostgresqlStore
from microgrid_sync.recording.schema import Row
from microgrid_sync.recording.spool import Spool, rows_in
from microgrid_sync.recording.store import StoreError
from microgrid_sync.simulator import Simulator
from microgrid_sync.snapshot import open_all
from tests.integration.database import Database
from tests.support.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.microgrid(sample_interval=0.1)]

KILLS = int(os.environ.get("KILLS", "3"))
"""How often something is killed."""

WITH_POWER = {2, 3, 4, 6, 7, 8, 9}
"""The components of the site ``demo`` that measure an active power."""


class RecorderProcess:
    """``microgrid-sync record`` of a site, which is killed and started again."""

    def __init__(self, folder: Path, url: str, destination: str, *options: str) -> None:
        self.log = folder / "recorder.log"
        self._command = [
            sys.executable, "-m", "microgrid_sync", "record", "--to", destination,
            "--name", "site", "--spool", str(folder / "spool.sqlite"), url, *options,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stderr=log)

    def count_starts(self) -> int:
        """Count how often it has said that it records."""
        return self.log.read_text().count("Recording site to")

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    def run(self) -> tuple[int, str]:
        """Let it run to its end."""
        done = subprocess.run(self._command, capture_output=True, timeout=PATIENCE, check=False)
        return done.returncode, done.stderr.decode()


@pytest.fixture
def database() -> Iterator[Database]:
    """A database."""
    with Database() as database:
        yield database


class Heard:
    """All that the components of a site send, as another client hears it."""

    def __init__(self, url: str) -> None:
        self.samples: dict[tuple[int, datetime], float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(url,))

    def __enter__(self) -> "Heard":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _listen(self, url: str) -> None:
        with MicrogridApiClient(url) as client:
            receiver = open_all(client, client.components(), 10_000)
            assert receiver is not None
            while not self._stopped.is_set():
                for value in receiver.drain():
                    if hasattr(value, "active_power"):
                        key = int(value.component_id), value.timestamp
                        self.samples[key] = value.active_power
                self._stopped.wait(0.1)


def recorded(database: Database) -> dict[tuple[int, datetime], list[float]]:
    """Give the active powers in the database, by component and timestamp."""
    found: dict[tuple[int, datetime], list[float]] = {}
    for number, time_, value in database.ask(
        "SELECT component_id, timestamp, value FROM microgrid.sample"
        " WHERE metric = 'active_power_w' AND component_id IS NOT NULL"
    ):
        found.setdefault((number, time_.astimezone(UTC)), []).append(value)
    return found


@pytest.mark.slow
@pytest.mark.both_apis
def test_nothing_is_lost_or_twice_whatever_is_killed(
    tmp_path: Path, database: Database, api: str
) -> None:
    chance = random.Random(api)
    with (
        Simulator("demo", api=[api], sample_interval=0.1, start=datetime.now(UTC)) as simulator,
        RecorderProcess(tmp_path, simulator.url, database.url) as recorder,
    ):
        assert eventually(lambda: _has_rows(database))
        assert eventually(lambda: {number for number, _ in recorded(database)} == WITH_POWER)
        with Heard(simulator.url) as heard:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.5, 2.5))
                victim = chance.choice(["database", "recorder", "both"])
                if victim != "recorder":
                    database.kill()
                if victim != "database":
                    recorder.end(signal.SIGKILL)
                time.sleep(chance.uniform(0.0, 1.5))
                if victim != "recorder":
                    database.start()
                if victim != "database":
                    begun = recorder.count_starts()
                    recorder.start()
                    # A busy machine may take longer to start it than it is until the next kill.
                    assert eventually(lambda n=begun: recorder.count_starts() > n)  # type: ignore[misc] # mypy cannot infer a lambda's default
            time.sleep(2.0)
        assert max(heard.samples.values()) > 0
        newest = {
            number: max(time_ for of, time_ in heard.samples if of == number)
            for number in WITH_POWER
        }
        # One reader of the recorder may be behind the others.
        assert eventually(lambda: newest.items() <= recorded(database).keys())
        # A busy machine may have put the site's clock back, to which samples belong.
        lag = datetime.now(UTC) - simulator.time
        assert recorder.end() == 0
        rows = recorded(database)
        with recording.open(database.url) as opened:
            gaps = opened.gaps_between(None, None)
    assert [key for key, values in rows.items() if len(values) != 1] == []
    assert not [k for k, value in heard.samples.items() if k in rows and rows[k] != [value]]
    missing = [time_ for key, time_ in ((k, k[1]) for k in heard.samples) if key not in rows]
    # A second of what had come, and was not written; and a clock that may tell 0.1 s otherwise.
    around = timedelta(seconds=1.1) + max(lag, timedelta(0)), timedelta(seconds=3)
    unexplained = [
        time_
        for time_ in missing
        if not any(
            gap.what == "not recorded" and gap.start - around[0] <= time_ <= gap.end + around[1]
            for gap in gaps
        )
    ]
    assert unexplained == []
    assert len(missing) < len(heard.samples) / 2


def _has_rows(database: Database) -> bool:
    found = database.ask("SELECT to_regclass('microgrid.meter')")
    return found[0][0] is not None and bool(database.ask("SELECT 1 FROM microgrid.meter LIMIT 1"))


@pytest.mark.both_apis
def test_what_came_while_the_database_was_away_is_there_in_order(
    tmp_path: Path, database: Database, api: str
) -> None:
    database.kill()
    with (
        Simulator("demo", api=[api], sample_interval=0.1, start=datetime.now(UTC)) as simulator,
        RecorderProcess(tmp_path, simulator.url, database.url) as recorder,
    ):
        assert eventually(lambda: "Recording site to" in recorder.log.read_text())
        assert "is waited for" in recorder.log.read_text()
        with Heard(simulator.url) as heard:
            assert eventually(lambda: len(heard.samples) > 200)
        database.start()
        assert eventually(lambda: _has_rows(database))
        last = max(time_ for _, time_ in heard.samples)

        def expected() -> dict[tuple[int, datetime], list[float]]:
            """Streams are opened one after the other: what came after the first of each."""
            begun: dict[int, datetime] = {}
            for number, time_ in recorded(database):
                begun[number] = min(time_, begun.get(number, time_))
            return {
                key: [value]
                for key, value in heard.samples.items()
                if key[0] in begun and key[1] > begun[key[0]]
            }

        def is_all_there() -> bool:
            numbers = {number for number, _ in recorded(database)}
            return numbers == WITH_POWER and expected().keys() <= recorded(database).keys()

        # One reader of the recorder may be behind the others.
        assert eventually(is_all_there)
        assert recorder.end() == 0
    assert "Traceback" not in recorder.log.read_text()
    rows = recorded(database)
    assert len(expected()) > 100
    assert {key: rows.get(key) for key in expected()} == expected()
    with recording.open(database.url) as opened:
        assert opened.gaps_between(None, last) == []
        frame = opened.samples(7, "active_power_w")
    assert frame.index.is_monotonic_increasing
    assert set(frame["component_id"]) == {7}


def _has_totals(database: Database) -> bool:
    return bool(
        database.ask("SELECT to_regclass('microgrid.total')")[0][0]
        and database.ask(
            "SELECT 1 FROM microgrid.total WHERE grid_power_w IS NOT NULL"
            " AND consumers_power_w IS NOT NULL AND chargers_power_w IS NOT NULL"
        )
    )


@pytest.mark.both_apis
def test_totals_and_set_points_are_recorded(database: Database, api: str) -> None:
    with (
        Simulator("demo", api=[api], sample_interval=0.1, start=datetime.now(UTC)) as simulator,
        MicrogridApiClient(simulator.url) as client,
        recording.Recorder(database.url) as recorder,
    ):
        recorder.record(client, name="site")
        client.set_power(7, 2000.0)
        with pytest.raises(Exception, match="12345"):
            client.set_power(12345, 1.0)
        assert eventually(lambda: _has_totals(database))
        allocations = "SELECT count(*) >= 2 FROM microgrid.allocation"
        assert eventually(lambda: database.ask(allocations) == [(True,)])
    assert recorder.stats.waiting == 0
    assert recorder.stats.lost == 0
    with recording.open(database.url) as opened:
        sent = opened.set_points()
        assert list(sent["is_confirmed"]) == [1.0, 0.0]
        assert list(sent["value"]) == [2000.0, 1.0]
        assert opened.timezone("site") == "Europe/Berlin"
        assert len(opened.allocations()) >= 2
        totals = opened.totals()
        assert not totals.index.has_duplicates


def test_a_schema_that_is_not_ours_is_one_line(
    tmp_path: Path, database: Database, api: str
) -> None:
    database.ask("CREATE SCHEMA microgrid")
    database.ask("CREATE TABLE microgrid.meter (voltage integer)")
    with Simulator("demo", api=[api]) as simulator:
        code, said = RecorderProcess(tmp_path, simulator.url, database.url).run()
    assert code == 1
    assert said.startswith("Error: postgresql://127.0.0.1")
    assert "has a schema 'microgrid' that is not this program's" in said
    assert said.count("\n") == 1
    assert database.ask("SELECT count(*) FROM microgrid.meter") == [(0,)]


@pytest.mark.both_apis
def test_a_table_that_is_changed_meanwhile_loses_nothing(
    tmp_path: Path, database: Database, api: str
) -> None:
    with (
        Simulator("demo", api=[api], sample_interval=0.1, start=datetime.now(UTC)) as simulator,
        RecorderProcess(tmp_path, simulator.url, database.url) as recorder,
    ):
        assert eventually(lambda: _has_rows(database))
        assert eventually(lambda: {number for number, _ in recorded(database)} == WITH_POWER)
        with Heard(simulator.url) as heard:
            database.ask("ALTER TABLE microgrid.ev_charger RENAME TO other")
            assert eventually(lambda: "microgrid" in recorder.log.read_text().partition("\n")[2])
            assert "the spool keeps what comes" in recorder.log.read_text()
            database.ask("ALTER TABLE microgrid.other RENAME TO ev_charger")
            assert eventually(lambda: "takes rows again" in recorder.log.read_text())
            assert eventually(lambda: len(heard.samples) > 100)
        # One reader of the recorder may be behind the others.
        assert eventually(lambda: heard.samples.keys() <= recorded(database).keys())
        assert recorder.end() == 0
    log = recorder.log.read_text()
    assert "Traceback" not in log
    rows = recorded(database)
    assert len(heard.samples) > 100
    assert {key: rows.get(key) for key in heard.samples} == {
        key: [value] for key, value in heard.samples.items()
    }


def test_a_value_that_the_database_refuses_stops_no_other(
    tmp_path: Path, database: Database
) -> None:
    good = [Row("allocation", "site", n, 10**15 + n, 0, [1.0, "working", "why"]) for n in range(9)]
    # The spool can have it, and PostgreSQL cannot.
    bad = Row("allocation", "site", 2**63, 10**15, 0, [1.0, "working", "too large an ID"])
    store = PostgresqlStore(database.url)
    store.check()
    with Spool(tmp_path / "other.sqlite") as spool:
        spool.add({"allocation": [*good[:4], bad, *good[4:]]})
        assert store.deliver(spool, all_of_it=True) == 10
        assert spool.waiting() == 0
    store.close()
    found = database.ask("SELECT component_id FROM microgrid.allocation ORDER BY 1")
    assert [number for (number,) in found] == list(range(9))


def test_commands_read_the_database(database: Database, api: str) -> None:
    with (
        Simulator("demo", api=[api], sample_interval=0.1, start=datetime.now(UTC)) as simulator,
        MicrogridApiClient(simulator.url) as client,
        recording.Recorder(database.url) as recorder,
    ):
        recorder.record(client, name="site")
        assert eventually(lambda: _has_totals(database))
    command = [sys.executable, "-m", "microgrid_sync"]
    day = subprocess.run(
        [*command, "report", database.url, "--day", "today", "--timezone", "UTC", "--json"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    found = json.loads(day.stdout)
    assert found["site"] == "site"
    assert {one["kind"] for one in found["energy"]} >= {"consumers", "EV chargers"}
    gaps = subprocess.run([*command, "gaps", database.url, "--json"], capture_output=True,
                          check=True, text=True)  # fmt: skip
    assert isinstance(json.loads(gaps.stdout)["gaps"], list)


def test_a_database_that_is_not_there_is_an_error_and_one_that_is_locked_is_waited_for(
    tmp_path: Path, database: Database, api: str
) -> None:
    with Simulator("demo", api=[api], sample_interval=0.1, start=datetime.now(UTC)) as simulator:
        code, said = RecorderProcess(tmp_path, simulator.url, f"{database.url}x").run()
        assert code == 1
        assert 'database "postgresx" does not exist' in said
        assert said.count("\n") == 1
        store = PostgresqlStore(database.url)
        store.check()
        store.close()
        with psycopg.connect(database.url) as other:
            # As VACUUM FULL has it.
            other.execute("LOCK TABLE microgrid.meter IN ACCESS EXCLUSIVE MODE")
            with RecorderProcess(tmp_path, simulator.url, database.url) as recorder:
                assert eventually(lambda: "Recording site to" in recorder.log.read_text())
                spool = tmp_path / "spool.sqlite"
                assert eventually(lambda: len(rows_in(spool)) > 200)
                assert recorder.end(signal.SIGINT) == 0
                assert "of these wait in" in recorder.log.read_text()
                assert "Traceback" not in recorder.log.read_text()
        with RecorderProcess(tmp_path, simulator.url, database.url) as recorder:
            assert eventually(lambda: _has_rows(database))
            assert recorder.end() == 0
        assert not rows_in(spool)


def test_rows_without_a_partition_wait_for_one(tmp_path: Path, database: Database) -> None:
    store = PostgresqlStore(database.url)
    store.check()
    database.ask("DROP TABLE microgrid.result CASCADE")
    columns = "site text NOT NULL, timestamp timestamptz NOT NULL, sequence bigint NOT NULL"
    values = "target_power_w float8, allocated_w float8, result text, details jsonb"
    key = "PRIMARY KEY (site, timestamp, sequence)"
    database.ask(
        f"CREATE TABLE microgrid.result ({columns}, {values}, {key}) PARTITION BY RANGE (timestamp)"
    )
    with Spool(tmp_path / "other.sqlite") as spool:
        spool.add({"result": [Row("result", "s", 0, 10**15, 7, [1.0, 1.0, "Success", "{}"])]})
        with pytest.raises(StoreError, match="no partition"):
            store.deliver(spool, all_of_it=True)
        assert spool.waiting() == 1
        database.ask("CREATE TABLE microgrid.all PARTITION OF microgrid.result DEFAULT")
        assert store.deliver(spool, all_of_it=True) == 1
    store.close()
    assert database.ask("SELECT count(*) FROM microgrid.result") == [(1,)]
