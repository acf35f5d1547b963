"""Files that have their names only when they are whole."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from microgrid_sync.recording.files import FileRecording, check_suffix

ROW = {"component_id": 2, "timestamp": datetime(2026, 1, 1, tzinfo=UTC), "active_power_w": 1.25}


def test_csv_has_its_columns_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with FileRecording(path, ["timestamp", "active_power_w", "soc_percent"]) as recording:
        recording.write(ROW)
        assert not path.exists()
        recording.finish()
    assert path.read_bytes() == (
        b"timestamp,active_power_w,soc_percent\r\n2026-01-01T00:00:00.000Z,1.25,\r\n"
    )


def test_json_lines_have_all(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with FileRecording(path, []) as recording:
        recording.write(ROW)
        recording.finish()
    assert path.read_text(encoding="utf-8") == (
        '{"component_id": 2, "timestamp": "2026-01-01T00:00:00.000Z", "active_power_w": 1.25}\n'
    )


def test_what_is_not_finished_keeps_the_name_of_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with FileRecording(path, ["active_power_w"]) as recording:
        recording.write(ROW)
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv.part"]
    # Nor is that written over by chance.
    with pytest.raises(FileExistsError, match=r"a\.csv\.part exists"):
        FileRecording(path, [])
    with FileRecording(path, [], replace=True) as recording:
        recording.finish()
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]
    with pytest.raises(FileExistsError, match=r"a\.csv exists"):
        FileRecording(path, [])


@pytest.mark.parametrize("name", ["a.txt", "a", "a.csv.gz"])
def test_other_kinds_of_files_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must end in \.csv, \.jsonl or \.ndjson"):
        check_suffix(Path(name))
