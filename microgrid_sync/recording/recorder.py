"""Records sites for as long as it is asked to: what they say is on disk within a second."""

import logging
import math
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

from microgrid_sync.client import MicrogridApiClient, on_set_point
from microgrid_sync.gateways.live_site import LiveSite, is_of_site
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.model import Metadata
from microgrid_sync.program_end import ends_with_program
from microgrid_sync.recording.coverage import CoverageNotes
from microgrid_sync.recording.destination import destination_of
from microgrid_sync.recording.rows import site_row
from microgrid_sync.recording.schema import TABLES, WHAT, Row, What, merged
from microgrid_sync.recording.selection import Only, Selection
from microgrid_sync.recording.sinks import opened
from microgrid_sync.topology import Topology

_BATCH_INTERVAL = 0.5
"""Seconds between two batches: what is lost when the program is killed came after the last one."""

_LOG_INTERVAL = 60.0
"""Seconds between two lines that say the same."""

_CLOSE_TIMEOUT = 10.0
"""Seconds at the end for what is still to be delivered; the spool keeps the rest."""

_MOST_WAITING = 200_000
"""Rows that may be in memory while the spool cannot be written, of all sites together; then the
oldest of those are lost that have more than their share."""

_MOST_OF_A_SITE = 20_000
"""Values of a site between two batches: who sends more delays no other."""

_FULL_INTERVAL = 5.0
"""Seconds between two attempts to write what could not be written."""

_DAY = 86_400.0
"""Seconds."""

_SITE_INTERVAL = 7 * _DAY
"""Seconds after which it is recorded again what a site is made of: old rows may be deleted."""

_ALWAYS_KEPT = frozenset({"site", "coverage"})
"""Tables whose rows are few, and without which the others say little."""

_OTHER_CLOCK = timedelta(minutes=1)
"""So far samples are stamped from this machine's time before the log says so, once a day."""

_TOO_FAST = "they came faster than they were taken"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecorderStats:
    """What a recorder has done so far."""

    recorded: int
    """Rows that are safe, in the spool or in a file."""

    delivered: int
    """Rows of these that are in the database, or in whole files; without a spool all."""

    lost: int
    """Values that could not be written, or came faster than they could be taken."""

    error: str | None
    """Why nothing is delivered now; ``None`` if something is."""

    waiting: int
    """Rows in the spool."""


class _Given(NamedTuple):
    """What has come of a source."""

    site: "_Recorded"
    source: str
    values: list[Any]
    at: datetime


@dataclass(eq=False)
class _Recorded:
    """A site that is recorded. The recorder's thread owns what changes in it."""

    site: LiveSite
    notes: CoverageNotes
    began_at: float
    """On the monotonic clock."""

    ends: list[Callable[[], object]] = field(default_factory=list)
    given: int = 0
    """How many values have come since the last batch."""

    dropped: int = 0
    lost: int = 0
    why_lost: str = ""
    made_of: tuple[Topology | None, Metadata | None] = None, None
    """What was recorded last of what it is made of."""

    made_of_at: float = -math.inf

    told_of_clock_at: float = -math.inf
    """When the log was told that its clock is another one."""

    ended: str | None = None
    """Why it is recorded no more."""


class Recorder:
    """Records sites into a file, a folder of Parquet files, or a PostgreSQL database.

    What a site has sent is in the spool, on disk, within a second, and is there until the
    destination has it: once, whatever is killed or goes away meanwhile. A file of CSV or JSON Lines
    is written at once, without a spool. Any thread may use it.
    """

    def __init__(
        self,
        destination: str | Path,
        *,
        what: Iterable[What] = WHAT,
        every: float | None = None,
        spool: str | Path | None = None,
        period: str = "hour",
        share: str = "",
        only: Only | None = None,
        replace: bool = False,
    ) -> None:
        """Open the destination. A database that is away is waited for.

        Args:
            destination: See `destination_of`.
            what: What is recorded: ``samples`` of components as they come, resampled ``totals`` of
                the site, ``results`` of distributing power to EV chargers, and ``set-points`` that
                this program's clients have sent.
            every: Seconds; the first sample of each component in each such interval is recorded,
                and no other. Totals are recorded as they come. All samples unless given.
            spool: Its file; see `default_spool`. One process at a time can use it.
            period: How much a Parquet file holds: an ``hour`` or a ``day``.
            share: Which one of several processes this is; part of the spool's name.
            only: Which samples are recorded; all unless given.
            replace: Whether a file that is there is replaced.

        Raises:
            ValueError: If an argument is none of these.
            OSError: If the destination or the spool cannot be used.
            ImportError: If an extra is not installed; the text names it.
        """
        self._selection = selection = Selection(what, every, only)
        if period not in {"hour", "day"}:
            raise ValueError(f"period must be 'hour' or 'day', not {period!r}")
        self._name, self._sink, self._delivery = opened(
            destination_of(destination), selection.what, spool, period, share=share, replace=replace
        )
        self._run = secrets.randbits(31)
        self._given: deque[_Given] = deque()
        # Protects the two below, and what each site has lost, which other threads change; nothing
        # is called under it.
        self._lock = threading.Lock()
        self._sites: tuple[_Recorded, ...] = ()
        self._is_closing = False
        # The recorder's thread's own.
        self._waiting: list[Row] = []
        self._recorded = self._lost = 0
        self._write_at = -math.inf
        self._why_kept = ""
        self._told: dict[str, float] = {}
        self._error: str | None = None
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="microgrid-recorder", daemon=True)
        ends_with_program(self)
        self._thread.start()
        if self._delivery is not None:
            try:
                self._delivery.start()
            except BaseException:
                self.close()
                raise

    def __repr__(self) -> str:
        """Say where it records to."""
        return f"<Recorder to {self._name}, {len(self._sites)} sites>"

    @property
    def destination(self) -> str:
        """Where it records to, without secrets."""
        return self._name

    @property
    def spool(self) -> Path | None:
        """The file that has what is not yet there; ``None`` if it is written there at once."""
        return None if self._delivery is None else self._delivery.spool

    @property
    def stats(self) -> RecorderStats:
        """What it has done so far."""
        recorded, lost, delivery = self._recorded, self._lost, self._delivery
        if delivery is None:
            return RecorderStats(recorded, recorded, lost, self._error, waiting=0)
        return RecorderStats(
            recorded, delivery.delivered, lost, delivery.error, delivery.count_waiting()
        )

    def record(
        self, site: LiveSite | Microgrid | MicrogridApiClient, *, name: str | None = None
    ) -> None:
        """Record a site, too, until the end.

        Args:
            site: The site, which may be down as yet.
            name: What it is called; the server's host and port unless given, or what the
                `~microgrid_sync.gateways.LiveSite` is called.

        Raises:
            ValueError: If a site of that name is recorded already, or the name cannot be one.
            RuntimeError: If the recorder is closed.
        """
        owns_site = not isinstance(site, LiveSite)
        live = site if isinstance(site, LiveSite) else LiveSite(site, name=name)
        notes = CoverageNotes(live.name, self._run, datetime.now(UTC))
        one = _Recorded(live, notes, time.monotonic())
        one.ends.append(live.tap(lambda source, values: self._take(one, source, values)))
        if "set-points" in self._selection.what:
            one.ends.append(
                on_set_point(live.client, lambda *told: self._take(one, "set-point", [told]))
            )
        if owns_site:
            one.ends.append(live.close)
        with self._lock:
            is_closed = self._is_closing
            is_known = any(known.site.name == live.name for known in self._sites)
            if not is_closed and not is_known:
                self._sites = (*self._sites, one)
                return
        for end in one.ends:
            end()
        if is_closed:
            raise RuntimeError(f"the recorder to {self._name} is closed")
        raise ValueError(f"a site {live.name!r} is recorded already; give each a name of its own")

    def close(self, reason: str = "the recorder was closed") -> None:
        """Write down what is there, and deliver it. Any number of times.

        Args:
            reason: Why nobody records from now on: what ``gaps`` says.
        """
        with self._lock:
            is_first, sites = not self._is_closing, self._sites
            if is_first:
                for one in sites:
                    one.ended = reason
            self._is_closing = True
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        is_one_of_ours = threading.current_thread() is self._thread or (
            self._delivery is not None and self._delivery.is_own_thread
        )
        if not is_first or is_one_of_ours:
            # Somebody else sees to it.
            if not is_one_of_ours:
                self._closed.wait(_CLOSE_TIMEOUT)
            return
        try:
            self._end(sites, deadline)
        finally:
            # Also when it was interrupted: a second time nobody waits.
            if self._delivery is not None:
                self._delivery.give_up()
            self._closed.set()

    def _end(self, sites: Iterable[_Recorded], deadline: float) -> None:
        """Take no more, and see what there is to where it belongs."""
        for one in sites:
            for end in one.ends:
                end()
        self._wake.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._delivery is not None:
            self._delivery.end(deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.close("it was interrupted" if interrupted else "the recorder was closed")

    def at_main_thread_end(self) -> None:
        """Nobody waits for a recorder."""

    def at_exit(self) -> None:
        """Write down what is there: the program ends."""
        self.close("the program ended")

    # Threads of sites and clients

    def _take(self, one: _Recorded, source: str, values: list[Any]) -> None:
        # Without a lock, for which the threads of many sites would wait: each of these is one step,
        # and how much a site has given need not be exact.
        if one.given < _MOST_OF_A_SITE:
            one.given += len(values)
            self._given.append(_Given(one, source, values, datetime.now(UTC)))
            return
        with self._lock:
            one.lost += len(values)
            one.why_lost = "more came than could be written"

    # The recorder's thread

    def _work(self) -> None:
        while True:
            self._wake.wait(_BATCH_INTERVAL)
            with self._lock:
                is_closing = self._is_closing
            for one in self._sites:
                one.given = 0
            given = [self._given.popleft() for _ in range(len(self._given))]
            now = time.monotonic()
            for what in given:
                self._note(what.site, self._rows(what, now))
            for one in self._sites:
                self._note(one, self._about(one, now, is_last=is_closing))
            self._write(now, is_last=is_closing)
            if self._delivery is not None:
                self._delivery.watch(time.monotonic())
            if is_closing:
                self._end_sink()
                return

    def _note(self, one: _Recorded, rows: Iterable[Row]) -> None:
        """Add rows to those that are to be written; what is wrong with one site is its own."""
        try:
            self._waiting += rows
        except Exception as error:
            # A defect of ours, or a value that nobody has thought of, must not end everything.
            one.lost += 1
            one.why_lost = f"it cannot be recorded: {error}"
            if self._is_due("defect", time.monotonic()):
                _logger.exception("%s: something cannot be recorded; it goes on", one.site.name)

    def _write(self, now: float, *, is_last: bool) -> None:
        if now < self._write_at and not is_last:
            self._drop_some()
            return
        # Totals of the same second are one row.
        self._waiting = _merged(self._waiting)
        if not self._waiting:
            return
        try:
            self._sink.add(self._waiting)
        except OSError as error:
            self._keep(str(error), now)
            return
        except Exception:
            _logger.exception("%s: rows cannot be written together; each is tried", self._name)
            self._write_each()
        else:
            self._recorded += len(self._waiting)
        self._waiting = []
        if self._told.pop("sink", None) is not None:
            _logger.warning("%s: rows can be written again", self._name)

    def _write_each(self) -> None:
        """Write what can be written of rows of which one cannot."""
        for row in self._waiting:
            try:
                self._sink.add([row])
            except Exception as error:  # noqa: BLE001 - it is told as lost
                self._note_lost(row.site, 1, str(error))
            else:
                self._recorded += 1

    def _note_lost(self, name: str, count: int, why: str) -> None:
        for one in self._sites:
            if one.site.name == name:
                one.lost += count
                one.why_lost = why

    def _end_sink(self) -> None:
        try:
            self._sink.close()
        except OSError as error:
            self._error = str(error)
            _logger.error("%s cannot be finished: %s", self._name, error)

    def _is_due(self, what: str, now: float) -> bool:
        """Tell whether a line is due that says the same as one before."""
        is_due = now - self._told.get(what, -math.inf) >= _LOG_INTERVAL
        if is_due:
            self._told[what] = now
        return is_due

    def _keep(self, why: str, now: float) -> None:
        """Keep what could not be written, as much as there is room for."""
        self._write_at = now + _FULL_INTERVAL
        self._why_kept = why
        self._drop_some()
        if self._is_due("sink", now):
            _logger.error("%s; %d rows wait in memory", why, len(self._waiting))

    def _drop_some(self) -> None:
        """Drop the oldest rows of those sites that have more than their share of the memory."""
        if len(self._waiting) <= _MOST_WAITING:
            return
        # Some more than must be: it is not done again for each row that comes.
        share = int(_MOST_WAITING * 0.9) // max(1, len(self._sites))
        self._waiting, dropped = shortened(self._waiting, share)
        for site, count in dropped.items():
            self._note_lost(site, count, self._why_kept)

    def _rows(self, given: _Given, now: float) -> Iterable[Row]:
        if is_of_site(given.source) and given.values:
            _tell_of_clock(given, now)
        return self._selection.rows(
            given.site.site, given.source, given.values, at=given.at, now=now
        )

    def _about(self, one: _Recorded, now: float, *, is_last: bool) -> Iterable[Row]:
        """Say that a site is recorded, is silent, has lost something, and what it is made of."""
        if not is_last and not one.notes.is_due(now):
            return
        # That of the given one, though this thread may have stood still since.
        moment = datetime.now(UTC) - timedelta(seconds=time.monotonic() - now)
        url = one.site.client.server_url
        if not one.notes.has_begun:
            # That it is recorded is known, though it may never be heard.
            yield site_row(one.site.name, url, None, None, fuse_a=None, now=moment)
        yield from one.notes.note(
            moment, now, silence=_silence(one, now), lost=self._what_is_lost(one), ended=one.ended
        )
        microgrid = one.site.microgrid
        if microgrid is None:
            return
        made_of = microgrid.topology, one.site.metadata
        is_known = one.made_of[0] is made_of[0] and one.made_of[1] is made_of[1]
        if is_known and now - one.made_of_at < _SITE_INTERVAL:
            return
        components = made_of[0].components()
        is_new = one.made_of[0] is not made_of[0]
        if is_new and (missing := self._selection.missing(components)):
            there = ", ".join(map(str, sorted(component.component_id for component in components)))
            _logger.warning(
                "%s: there is no component %s to record; there are %s",
                one.site.name,
                ", ".join(map(str, missing)),
                there,
            )
        one.made_of, one.made_of_at = made_of, now
        fuse = made_of[0].fuse()
        yield site_row(
            one.site.name,
            url,
            made_of[1],
            components,
            fuse_a=None if fuse is None else fuse.max_current,
            now=moment,
        )

    def _what_is_lost(self, one: _Recorded) -> str | None:
        """Tell what of a site has been lost since it was asked last; ``None`` for nothing."""
        with self._lock:
            lost, why, one.lost, one.why_lost = one.lost, one.why_lost, 0, ""
        dropped = one.site.dropped
        lost, one.dropped = lost + dropped - one.dropped, dropped
        self._lost += lost
        return f"{lost} values and more: {why or _TOO_FAST}" if lost else None


def _tell_of_clock(given: _Given, now: float) -> None:
    """Tell the log once a day of a site whose clock is another one than this machine's."""
    ahead = given.values[-1].timestamp - given.at
    if abs(ahead) > _OTHER_CLOCK and now - given.site.told_of_clock_at >= _DAY:
        given.site.told_of_clock_at = now
        _logger.warning(
            "%s: its samples are stamped %s %s this machine's clock; totals go by that one, and a "
            "day's report has them of another time",
            given.site.site.name,
            timedelta(seconds=round(abs(ahead.total_seconds()))),
            "ahead of" if ahead > timedelta(0) else "behind",
        )


def _silence(one: _Recorded, now: float) -> float | None:
    """Give for how many seconds a site has been silent; ``None`` if it is heard."""
    ages = [
        heard.age(now)
        for source, heard in one.site.sources().items()
        if is_of_site(source) and heard.heard_at >= one.began_at
    ]
    silence = min([now - one.began_at, *ages])
    return silence if silence > one.site.max_age else None


def shortened(rows: Iterable[Row], share: int) -> tuple[list[Row], Counter[str]]:
    """Leave out the oldest rows of sites that have more than their share.

    Returns:
        The other rows, and how many were left out, by site.
    """
    rows = list(rows)
    left = Counter(row.site for row in rows)
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        if left[row.site] > share and row.table not in _ALWAYS_KEPT:
            left[row.site] -= 1
            dropped[row.site] += 1
        else:
            kept.append(row)
    return kept, dropped


def _merged(rows: list[Row]) -> list[Row]:
    """Make one row of totals of the same second, and of notes of the same time."""
    some = [row for row in rows if TABLES[row.table].merge != "none"]
    if not some:
        return rows
    return [row for row in rows if TABLES[row.table].merge == "none"] + merged(some)
