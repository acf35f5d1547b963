"""Bytes that a fuzzer finds by looking at what the decoder does with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.messages import data

pytest.importorskip("atheris", reason="atheris is not made for this Python or system")


def test_fuzzer_finds_nothing(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for category in ("meter", "inverter", "battery", "ev_charger"):
        (corpus / category).write_bytes(data(1, category, 7).SerializeToString())
    script = Path(__file__).with_name("fuzz.py")
    result = subprocess.run(
        [sys.executable, str(script), "-atheris_runs=30000", "-seed=1", str(corpus)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Done 30000" in result.stderr
