"""Finds the times that a recording has nothing of, and why. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

KILLED = "the recorder was killed, or its machine stopped"

UNKNOWN_END = "nothing is known since: it was killed, its machine stopped, or a spool has the rest"
"""Of a recorder that has not said why it ended, and that no other came after."""

BEFORE = "nothing from before is there"

EARLIER = "nobody recorded; that began earlier"


class Coverage(NamedTuple):
    """A time that a recorder has noted something of."""

    site: str
    state: str
    """``recorded``, ``silent`` or ``lost``."""

    since: datetime
    until: datetime
    reason: str | None


class Gap(NamedTuple):
    """A time that a recording has nothing of, or not all."""

    site: str
    start: datetime
    end: datetime
    what: Literal["not recorded", "silent", "lost"]
    reason: str


_OTHERS: dict[str, Literal["silent", "lost"]] = {"silent": "silent", "lost": "lost"}


def gaps_of(
    coverage: Iterable[Coverage],
    start: datetime | None = None,
    end: datetime | None = None,
    sites: Iterable[str] = (),
) -> list[Gap]:
    """Find the gaps.

    Args:
        coverage: What recorders have noted.
        start: Gaps before are left out, and what is before of others; unless it is ``None``.
        end: Likewise for what is after it. A recording that ends before has a gap up to it.
        sites: Sites that there may be no note of in that time.

    Returns:
        The gaps by their start. Before a site was recorded for the first time there is one if a
            start is given.
    """
    by_site: dict[str, list[Coverage]] = defaultdict(list, {site: [] for site in sites})
    for one in coverage:
        by_site[one.site].append(one)
    found: list[Gap] = []
    for site, ones in by_site.items():
        recorded = [one for one in ones if one.state == "recorded"]
        found += _between(site, recorded, end)
        first = min((one.since for one in recorded), default=end)
        if start is not None and first is not None:
            found.append(Gap(site, start, first, "not recorded", BEFORE))
        found += [
            Gap(site, one.since, one.until, _OTHERS[one.state], one.reason or "")
            for one in ones
            if one.state in _OTHERS
        ]
    cut = [
        gap._replace(
            start=gap.start if start is None else max(gap.start, start),
            end=gap.end if end is None else min(gap.end, end),
        )
        for gap in found
    ]
    return sorted(
        (
            gap
            for gap in cut
            if gap.end > gap.start or (gap.what == "lost" and gap.end == gap.start)
        ),
        key=lambda gap: (gap.start, gap.site),
    )


def _between(site: str, recorded: list[Coverage], end: datetime | None) -> Iterable[Gap]:
    last: Coverage | None = None
    for one in sorted(recorded, key=lambda each: each.since):
        if last is not None and one.since > last.until:
            yield Gap(site, last.until, one.since, "not recorded", last.reason or KILLED)
        if last is None or one.until > last.until:
            last = one
    if last is not None and end is not None and end > last.until:
        yield Gap(site, last.until, end, "not recorded", last.reason or UNKNOWN_END)
