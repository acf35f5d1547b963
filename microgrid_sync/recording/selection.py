"""Decides which rows are made of what a site sends."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from microgrid_sync.arguments import check_timeout
from microgrid_sync.gateways.live_site import LiveSite, is_of_site
from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.recording.rows import (
    Sequences,
    interval_of,
    report_rows,
    sample_row,
    set_point_row,
    total_row,
)
from microgrid_sync.recording.schema import (
    SAMPLE_TABLES,
    TABLES,
    TOTAL_COLUMNS,
    WHAT,
    Row,
    What,
    is_of_metric,
    micros,
)
from microgrid_sync.tables import none_of

_SHORTEST = 0.001
"""Seconds of an interval that has one sample."""

_REPORT_INTERVAL = 60.0
"""Seconds after which a report is recorded that has not changed."""


class Only:
    """Says which samples are recorded."""

    def __init__(self, components: Iterable[int | str] = (), metrics: Iterable[str] = ()) -> None:
        """Name them.

        Args:
            components: IDs and categories, such as ``7`` and ``"ev-charger"``; none for all.
            metrics: Such as ``"active_power"`` and ``"current"``; none for all. Of telemetry all
                is recorded.

        Raises:
            ValueError: If no component has such a metric, or there is no such category.
        """
        words = [str(one).strip().lower().replace("-", "_") for one in components]
        self._numbers = {int(word) for word in words if word.isdecimal()}
        self._categories = {word for word in words if not word.isdecimal()}
        known = {category.name.lower() for category in ComponentCategory}
        for word in self._categories - known:
            raise ValueError(none_of(word.replace("_", "-"), sorted(known)))
        wanted = [*metrics]
        self._places: dict[str, list[bool]] = {}
        for name in SAMPLE_TABLES if wanted else ():
            columns = TABLES[name].values
            self._places[name] = [
                name == "telemetry" or any(is_of_metric(column, one) for one in wanted)
                for column in columns
            ]
        for one in wanted:
            columns_of_all = [c for name in SAMPLE_TABLES for c in TABLES[name].values]
            if not any(is_of_metric(column, one) for column in columns_of_all):
                raise ValueError(f"no component has a metric {one!r}; active_power is one")

    def takes(self, component: Component | None) -> bool:
        """Tell whether a component is recorded."""
        if not self._numbers and not self._categories:
            return True
        if component is None:
            return False
        return (
            component.component_id in self._numbers
            or component.category.name.lower() in self._categories
        )

    def missing(self, components: Iterable[Component]) -> list[int]:
        """Give the IDs that are to be recorded and that are not of these components."""
        return sorted(self._numbers - {component.component_id for component in components})

    def cut(self, row: Row) -> Row:
        """Leave the metrics out of a row that are not recorded."""
        places = self._places.get(row.table)
        if places is None:
            return row
        cells = [cell if is_in else None for cell, is_in in zip(row.values, places, strict=True)]
        return row._replace(values=cells)


class Selection:
    """What of all that comes is recorded. It remembers what was last: one thread uses it."""

    def __init__(self, what: Iterable[What], every: float | None, only: Only | None) -> None:
        """Choose; see `Recorder`.

        Raises:
            ValueError: If an argument cannot be.
        """
        self.what = _checked(what)
        self._every = None if every is None else check_timeout(every, "every")
        if self._every is not None and self._every < _SHORTEST:
            raise ValueError(f"every must be at least {_SHORTEST:g} s, not {every!r}")
        self._only = only or Only()
        self._sequences = Sequences()
        self._buckets: dict[tuple[str, int], int] = {}
        self._reported: dict[tuple[str, str, int], tuple[float, Any]] = {}

    def rows(
        self,
        site: LiveSite,
        source: str,
        values: Sequence[Any],
        *,
        at: datetime,
        now: float,
    ) -> Iterable[Row]:
        """Give the rows of what has come.

        Args:
            site: The site that sent it.
            source: What the values are of; see `LiveSite.tap`. Or ``set-point``: each value is what
                was told of one.
            values: Them.
            at: When they came.
            now: The time on the monotonic clock, in seconds.
        """
        name = site.name
        if source == "set-point":
            for told in values:
                row = self._sequences.next(set_point_row(name, *told, now=at))
                if row is not None:
                    yield row
        elif is_of_site(source):
            if "samples" in self.what:
                yield from self._samples(site, values)
        elif source in TOTAL_COLUMNS:
            if "totals" in self.what:
                yield from filter(None, (total_row(name, source, one) for one in values))
        elif source == "chargers:report" and "results" in self.what:
            for report in values:
                yield from self._changed(report_rows(name, report, at), now)

    def missing(self, components: Iterable[Component]) -> list[int]:
        """Give the IDs that are to be recorded, and that a site of these components has not."""
        return self._only.missing(components)

    def _samples(self, site: LiveSite, values: Sequence[Any]) -> Iterable[Row]:
        for value in values:
            if not self._only.takes(site.components.get(value.component_id)):
                continue
            if self._every is not None:
                key = site.name, int(value.component_id)
                number = interval_of(micros(value.timestamp), self._every)
                if self._buckets.get(key) == number:
                    continue
                self._buckets[key] = number
            row = self._sequences.next(self._only.cut(sample_row(site.name, value)))
            if row is not None:
                yield row

    def _changed(self, rows: Iterable[Row], now: float) -> Iterable[Row]:
        """Give those that say something new, and others now and then."""
        for row in rows:
            key = row.table, row.site, row.component_id
            at, before = self._reported.get(key, (-math.inf, None))
            if before != row.values or now - at >= _REPORT_INTERVAL:
                self._reported[key] = now, row.values
                numbered = self._sequences.next(row)
                if numbered is not None:
                    yield numbered


def _checked(what: Iterable[What]) -> frozenset[What]:
    wanted = frozenset[Any]({what} if isinstance(what, str) else what)
    if not wanted or not wanted <= set(WHAT):
        wrong = ", ".join(sorted(map(repr, wanted - set(WHAT)))) or "nothing"
        raise ValueError(f"what is recorded may be {', '.join(WHAT)}, not {wrong}")
    return wanted
