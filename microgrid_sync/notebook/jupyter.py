"""Knows whether Jupyter shows what is displayed, and shows how far something is."""

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_INTERVAL = 0.25
"""Seconds between two looks at how far something is."""

_WIDTH = 30
"""Characters of a bar in a terminal."""


def is_jupyter() -> bool:
    """Tell whether a notebook's kernel runs this."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class Display:
    """One place below a cell, whose content is replaced."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._handle: Any = None

    def show(self, data: dict[str, str | bytes]) -> None:
        """Show something in place of what was shown before.

        Args:
            data: What is shown, by media type.
        """
        from IPython.display import display  # noqa: PLC0415 - there in a notebook alone

        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


class Progress:
    """How far something is; shown in a notebook and on a terminal, else not at all."""

    def __init__(self, label: str, stream: TextIO) -> None:
        """Show nothing yet.

        Args:
            label: What goes on.
            stream: The terminal, if it is one.
        """
        self._label = label
        self._display = Display() if is_jupyter() else None
        self._stream = stream if self._display is None and stream.isatty() else None
        self._due = 0.0

    def update(self, share: float, text: str) -> None:
        """Show how far it is.

        Args:
            share: 0 to 1.
            text: The same in words.
        """
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _INTERVAL
            self._show(share, text)

    def end(self, text: str) -> None:
        """Show that it is over."""
        self._show(1.0, text)
        if self._stream is not None:
            self._stream.write("\n")

    def _show(self, share: float, text: str) -> None:
        if self._display is not None:
            words = html.escape(f"{self._label}: {text}")
            bar = f'<progress value="{share:.3f}" max="1" style="width:20em"></progress> {words}'
            self._display.show({"text/html": bar, "text/plain": f"{self._label}: {text}"})
        elif self._stream is not None:
            filled = round(share * _WIDTH)
            bar = "#" * filled + "." * (_WIDTH - filled)
            self._stream.write(f"\r{self._label} [{bar}] {text}\x1b[K")
            self._stream.flush()


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show how far something is as long as it goes on; write to the standard error stream."""
    shown = Progress(label, sys.stderr)
    try:
        yield shown
    except BaseException:
        shown.end("broken off")
        raise
