"""The spool: what is in it survives whatever ends the program."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from microgrid_sync.recording.schema import Row
from microgrid_sync.recording.spool import Spool, SpoolError, rows_in


def row(number: int) -> Row:
    """Make a row."""
    return Row("allocation", "site", number, 10**15, 0, [float(number), "working", "why"])


def test_rows_come_back_in_order_as_they_were(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.sqlite") as spool:
        spool.add({"b": [row(1), row(2)], "a": [row(3)]})
        spool.add({"b": [row(4)]})
        batches = spool.oldest(100)
        assert [(one.place, one.rows) for one in batches] == [
            ("b", [row(1), row(2)]),
            ("a", [row(3)]),
            ("b", [row(4)]),
        ]
        assert spool.waiting() == 4
        assert spool.newest() == {"b": batches[2].number, "a": batches[1].number}
        assert [one.rows for one in spool.oldest(1)] == [[row(1), row(2)]]
        assert [one.rows for one in spool.oldest(100, "b", batches[0].number)] == [[row(4)]]


def test_what_is_removed_is_gone_and_no_other(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool.sqlite") as spool:
        for number in range(4):
            spool.add({"a" if number % 2 else "b": [row(number)]})
        last = spool.newest()["b"]
        spool.remove(last, "b")
        assert [one.rows for one in spool.oldest(100)] == [[row(1)], [row(3)]]
        spool.remove(last)
        assert [one.rows for one in spool.oldest(100)] == [[row(3)]]


def test_it_is_there_when_it_is_opened_again_and_numbers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with Spool(path) as spool:
        spool.add({"a": [row(1)]})
        number, name = spool.newest()["a"], spool.name
        spool.remove(number)
    with Spool(path) as spool:
        spool.add({"a": [row(2)]})
        # Files of Parquet have the numbers in their names.
        assert spool.newest()["a"] > number
        assert spool.name == name
        assert rows_in(path) == [row(2)]


def test_another_process_cannot_use_it_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.recording.spool._BUSY_TIMEOUT", 0.2)
    with (
        Spool(tmp_path / "spool.sqlite"),
        pytest.raises(SpoolError, match="another process uses it"),
    ):
        Spool(tmp_path / "spool.sqlite")


def test_a_file_that_is_no_spool_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_text("something else" * 100)
    with pytest.raises(SpoolError, match="file is not a database"):
        Spool(path)
    assert path.read_text() == "something else" * 100
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(SpoolError, match="is no spool, but another database"):
        Spool(other)


def test_a_spool_whose_making_was_broken_off_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool.sqlite"

    def fail(_: int) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("microgrid_sync.recording.spool.os.urandom", fail)
        with pytest.raises(KeyboardInterrupt):
            Spool(path)
    with Spool(path) as spool:
        spool.add({"a": [row(1)]})
        assert spool.name
        assert spool.waiting() == 1


def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite")
    spool.close()
    spool.close()
    with pytest.raises(SpoolError, match="is closed"):
        spool.add({"a": [row(1)]})
    with pytest.raises(SpoolError, match="is closed"):
        spool.oldest(1)


_WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from microgrid_sync.recording.schema import Row
    from microgrid_sync.recording.spool import Spool

    first = int(sys.argv[2])
    with Spool(Path(sys.argv[1])) as spool:
        for number in range(first, first + 100_000):
            rows = [Row("allocation", "s", number, n, 0, [1.0, "x" * 50, "y"]) for n in range(20)]
            spool.add({"allocation": rows})
            print(number, flush=True)
    """
)


def test_what_was_written_when_it_was_killed_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    told: list[int] = []
    for kill in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(kill * 100_000)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        told += [int(process.stdout.readline()) for _ in range(20 + 7 * kill)]
        os.kill(process.pid, signal.SIGKILL)
        told += map(int, process.stdout.read().split())
        process.stdout.close()
        process.wait()
    with Spool(path) as spool:
        batches = spool.oldest(10**9)
    numbers = [batch.rows[0].component_id for batch in batches]
    assert len(numbers) == len(set(numbers))
    assert set(told) <= set(numbers)
    # What was being written is there whole, or not at all.
    assert all(len(batch.rows) == 20 for batch in batches)
    assert len(set(numbers) - set(told)) <= 3


def test_one_thread_adds_while_another_takes(tmp_path: Path) -> None:
    taken: list[int] = []
    with Spool(tmp_path / "spool.sqlite") as spool:

        def take() -> None:
            while len(taken) < 200:
                batches = spool.oldest(30)
                if batches:
                    taken.extend(one.component_id for batch in batches for one in batch.rows)
                    spool.remove(batches[-1].number)

        thread = threading.Thread(target=take)
        thread.start()
        for number in range(200):
            spool.add({"a": [row(number)]})
        thread.join()
        assert taken == list(range(200))
        assert spool.waiting() == 0


def test_a_spool_that_is_just_being_made_is_empty(tmp_path: Path) -> None:
    """Who reads a recording at that moment reads what is elsewhere."""
    path = tmp_path / "spool.sqlite"
    path.touch()
    assert rows_in(path) == []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert rows_in(path) == []
