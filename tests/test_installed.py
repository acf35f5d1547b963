"""What came with the package, in environments that ask for a version of something."""

import os
import re
import subprocess
import sys
from importlib.metadata import requires, version

import pytest


@pytest.mark.parametrize("expected", os.environ.get("EXPECT", "").split())
def test_what_was_asked_for_is_there(expected: str) -> None:
    name, _, wanted = expected.partition("==")
    found = version(name)
    assert found == wanted or found.startswith(f"{wanted}.")


def test_plain_install_brings_no_extras() -> None:
    plain = [text for text in requires("microgrid_sync") or () if "extra ==" not in text]
    names = {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower() for text in plain}
    assert "grpcio" in names
    assert names.isdisjoint({"click", "rich", "pandas", "matplotlib", "trustme"})


def test_no_official_bindings_are_imported() -> None:
    script = (
        "import sys\n"
        "from microgrid_sync import MicrogridApiClient, Microgrid\n"
        "from microgrid_sync.simulator import Simulator\n"
        "for api in ('v0.15', 'v1alpha18', 'v1alpha19'):\n"
        "    with Simulator(api=[api]) as simulator, MicrogridApiClient(simulator.url) as client:\n"
        "        ids = [c.component_id for c in client.components() if c.category.value == 6]\n"
        "        client.ev_charger_data(ids[0]).receive(20)\n"
        "        client.set_power(ids[0], 5000.0)\n"
        "        assert client.api == api\n"
        "bad = [name for name in sys.modules if name.startswith('frequenz.api')]\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
