"""Leaves these tests out where a tool of Debian's is missing, but not in their own environment."""

import os
import shutil

import pytest

TOOLS = ("mosquitto", "mosquitto_passwd", "mbpoll", "promtool")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip them, if need be."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not missing or os.environ.get("INTEGRATION"):
        return
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.skip(f"needs {', '.join(missing)} (Debian packages)"))
