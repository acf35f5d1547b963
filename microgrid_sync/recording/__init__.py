"""Records sites into files and databases, and reads that back.

`Recorder` records, `open` reads back as pandas DataFrames, `day_report` sums up a day. Names are
loaded when they are first asked for: who reads needs no gRPC.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microgrid_sync.recording.destination import destination_of
    from microgrid_sync.recording.gaps import Gap
    from microgrid_sync.recording.reading import Recording, open  # noqa: A004 - its name
    from microgrid_sync.recording.recorder import Recorder, RecorderStats
    from microgrid_sync.recording.report import DayReport, day_report
    from microgrid_sync.recording.report_page import page
    from microgrid_sync.recording.selection import Only
else:
    _MODULES = {
        "DayReport": "report",
        "Gap": "gaps",
        "Only": "selection",
        "Recorder": "recorder",
        "RecorderStats": "recorder",
        "Recording": "reading",
        "day_report": "report",
        "destination_of": "destination",
        "open": "reading",
        "page": "report_page",
    }

    def __getattr__(name: str) -> Any:
        """Load a name when it is first asked for."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
        value = globals()[name] = getattr(module, name)
        return value

    def __dir__() -> list[str]:
        """Name what there is."""
        return sorted([*globals(), *_MODULES])


__all__ = [
    "DayReport",
    "Gap",
    "Only",
    "Recorder",
    "RecorderStats",
    "Recording",
    "day_report",
    "destination_of",
    "open",
    "page",
]
