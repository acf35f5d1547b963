"""Processes with a share each of a list of sites, and one of them is killed."""

import contextlib
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from microgrid_sync import recording
from microgrid_sync.simulator import Simulator
from tests.integration.database import Database
from tests.support.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.both_apis, pytest.mark.microgrid(sample_interval=0.2)]

SITES, SHARES = 5, 2


def start(path: Path, share: int) -> "subprocess.Popen[bytes]":
    """Start a process with a share."""
    command = [sys.executable, "-m", "microgrid_sync", "record", "--sites", str(path),
               "--share", f"{share}/{SHARES}"]  # fmt: skip
    with (path.parent / f"log-{share}").open("ab") as log:
        return subprocess.Popen(command, stderr=log)


@pytest.mark.slow
def test_every_site_is_recorded_by_one_process_which_may_be_killed(
    tmp_path: Path, api: str
) -> None:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Database())
        sites = [
            stack.enter_context(
                Simulator("demo", api=[api], sample_interval=0.2, start=datetime.now(UTC))
            )
            for _ in range(SITES)
        ]
        path = tmp_path / "sites.toml"
        path.write_text(
            f'[record]\nto = "{database.url}"\n'
            + "".join(f'[[site]]\nname = "s{n}"\nurl = "{site.url}"\n'
                      for n, site in enumerate(sites))
        )  # fmt: skip
        processes = [start(path, share) for share in range(1, SHARES + 1)]

        def recorded() -> dict[str, int]:
            if database.ask("SELECT to_regclass('microgrid.meter')") == [(None,)]:
                return {}
            rows = database.ask("SELECT site, count(*) FROM microgrid.meter GROUP BY site")
            return {str(name): int(count) for name, count in rows}

        assert eventually(lambda: len(recorded()) == SITES), recorded()
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait(PATIENCE)
        killed = datetime.now(UTC)
        time.sleep(1.0)
        processes[0] = start(path, 1)
        again = datetime.now(UTC)
        since = again.isoformat()
        query = f"SELECT count(DISTINCT site) FROM microgrid.meter WHERE timestamp > '{since}'"
        assert eventually(lambda: database.ask(query) == [(SITES,)])
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(PATIENCE) for process in processes] == [0] * SHARES
        # Each was recorded by one process at a time.
        runs = database.ask(
            "SELECT site, count(DISTINCT sequence) FROM microgrid.coverage"
            " WHERE state = 'recorded' GROUP BY 1"
        )
        assert dict(runs) == {f"s{n}": 2 if n % SHARES == 0 else 1 for n in range(SITES)}
        twice = database.ask(
            "SELECT 1 FROM microgrid.sample GROUP BY site, component_id, metric, timestamp"
            " HAVING count(*) > 1"
        )
        assert twice == []
        with recording.open(database.url) as opened:
            gaps = opened.gaps_between(None, again)
    assert {gap.site for gap in gaps} == {"s0", "s2", "s4"}
    assert all(gap.start <= killed <= gap.end for gap in gaps)
