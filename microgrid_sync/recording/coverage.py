"""Notes when a site was recorded, was silent, or lost something. Pure: times are passed in."""

import math
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta

from microgrid_sync.recording.rows import coverage_row
from microgrid_sync.recording.schema import Row

_INTERVAL = 1.0
"""Seconds between two notes."""

_CLOCK_STEP = timedelta(seconds=5)
"""By so much the machine's clock is off the time that has gone by: it was set, or it slept."""

_HOUR = timedelta(hours=1)
"""So long a note is at the most."""


class CoverageNotes:
    """What one recorder notes of one site. Seconds are those of the monotonic clock."""

    def __init__(self, site: str, run: int, since: datetime) -> None:
        """Begin.

        Args:
            site: The site.
            run: Which recorder says so: a number of its own.
            since: Since when it is recorded.
        """
        self._site = site
        self._run = run
        self._since = since
        self._silent_since: datetime | None = None
        self._lost_since: datetime | None = None
        self._noted: datetime | None = None
        self._noted_at = -math.inf

    @property
    def has_begun(self) -> bool:
        """Whether anything has been noted."""
        return self._noted is not None

    def is_due(self, now: float) -> bool:
        """Tell whether something is to be noted again."""
        return now - self._noted_at >= _INTERVAL

    def note(
        self, moment: datetime, now: float, *, silence: float | None, lost: str | None,
        ended: str | None,
    ) -> Iterator[Row]:  # fmt: skip
        """Note how it is.

        Args:
            moment: The time.
            now: The same on the monotonic clock.
            silence: For how many seconds the site has been silent; ``None`` if it is heard.
            lost: What has been lost since the last note, and why; ``None`` for nothing.
            ended: Why it is recorded no more; ``None`` if it is.
        """
        if self._noted is not None:
            gone = timedelta(seconds=now - self._noted_at)
            if abs(moment - self._noted - gone) > _CLOCK_STEP:
                # In between nothing was recorded, whatever the clock says.
                self._since = moment
                self._silent_since = self._silent_since and moment
        self._noted, self._noted_at = moment, now
        self._since = yield from self._pieces("recorded", self._since, moment, ended)
        if silence is None:
            self._silent_since = None
        else:
            self._silent_since = yield from self._pieces(
                "silent",
                self._silent_since or moment - timedelta(seconds=silence),
                moment,
                "the site was not heard",
            )
        if lost is None:
            self._lost_since = None
        else:
            self._lost_since = yield from self._pieces(
                "lost", self._lost_since or moment, moment, lost
            )

    def _pieces(
        self, state: str, since: datetime, until: datetime, reason: str | None
    ) -> Generator[Row, None, datetime]:
        """Note a state in pieces of the clock's hours; give when the one that goes on began."""
        while (end := since.replace(minute=0, second=0, microsecond=0) + _HOUR) <= until:
            why = None if state == "recorded" else reason
            yield coverage_row(self._site, self._run, state, since, end, reason=why)
            since = end
        yield coverage_row(self._site, self._run, state, since, until, reason=reason)
        return since
