"""What is logged: nothing above INFO on a healthy site, and nothing for each message."""

import logging
from datetime import timedelta

import pytest

from microgrid_sync import Bounds, Microgrid, Power
from microgrid_sync.simulator import Simulator
from tests.support.waiting import PATIENCE, eventually


@pytest.mark.microgrid("depot", sample_interval=0.1)
def test_healthy_site_is_a_quiet_one(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="microgrid_sync")
    with Microgrid(microgrid.url, resampling_period=timedelta(seconds=0.5)) as site:
        pool = site.new_ev_charger_pool(priority=1)
        total = pool.power.new_receiver()
        status = pool.power_status.new_receiver()
        pool.propose_power(None, bounds=Bounds(None, Power.from_kilowatts(100.0)))
        for _ in range(8):
            total.receive(PATIENCE)
        assert status.latest() is not None
        assert eventually(lambda: sum(s.messages for s in site.client.stats().streams) > 500)
    # The simulator has a line for each set-point.
    records = [
        r
        for r in caplog.records
        if r.name.startswith("microgrid_sync") and ".simulator" not in r.name
    ]
    warnings = [r.getMessage() for r in records if r.levelno > logging.INFO]
    # On a busy machine what sends may be late.
    assert [text for text in warnings if "goes on without components" not in text] == []
    assert len(records) < 50


def test_outage_names_the_component(microgrid: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    with Microgrid(microgrid.url) as site:
        receiver = site.client.ev_charger_data(7)
        receiver.receive(PATIENCE)
        microgrid.stop()
        assert eventually(lambda: "Stream(id=7)" in caplog.text)
    assert all(r.name.startswith("microgrid_sync.") for r in caplog.records if r.levelno > 20)
