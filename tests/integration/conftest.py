"""Leaves these tests out where a tool of Debian's is missing, but not in their own environment."""

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.database import postgresql_folder

TOOLS = ("mosquitto", "mosquitto_passwd", "mbpoll", "promtool")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip them, if need be."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if postgresql_folder() is None:
        missing.append("postgresql")
    if not missing or os.environ.get("INTEGRATION"):
        return
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.skip(f"needs {', '.join(missing)} (Debian packages)"))


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep spools in the test's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
