"""Remembers a car for as long as it stays at a charger: its phases, its use of what it is offered.

Rules, with the time passed in. Powers are W, times are monotonic seconds.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

IDLE = 100.0
"""W: a car that draws less does not charge."""

IDLE_TIME = 600.0
"""Seconds after which a car that does not charge gives way: cars notice an offer within minutes."""

RETRY_IDLE_TIME = 180.0
"""The same for one that has given way before."""

UNUSED_TIME = 180.0
"""Seconds of a draw below `USED_SHARE` after which the rest is free for others."""

USED_SHARE = 0.8
"""A car that draws less than this share of its limit clearly does not use it."""

_ALL_USED_SHARE = 0.97
"""One that draws so much uses all. Between them nobody knows: some chargers offer whole amperes,
and 6 A of 6.9 A are 87 %. A slightly lower limit shows it."""

FOLLOW_TIME = 60.0
"""Seconds in which a car that charges takes at least some of what it is raised by."""

MARGIN, CLOSE_MARGIN = 1.1, 1.03
"""A car that draws less than it may keeps what it draws times this: so much more shows that it
wants more again. The close one is for cars that have shown that they draw the same with less."""

MOST_INTERRUPTIONS = 10
"""So many pauses a car bears. Some makes go into a fault after about ten, until they are unlocked
by hand (evcc #971, #14434)."""

REST_AFTER_STOP = 180.0
"""Seconds, if `ChargingConfig.rest` is not shorter."""

_LONGEST_PAUSE = 7200.0
"""Seconds between two tries of a car that takes nothing, at the most."""

_FIRST_PAUSE = 1800.0
"""Seconds before the second try; doubled with each further one."""

_PHASE_CURRENT = 1.0
"""A: a car uses a phase on which it draws more."""

_PHASE_TIME = 10.0
"""Seconds for which it must do so."""

_STOPPED_BY_LOW_OFFER = 60.0
"""Seconds after a lower set-point in which a car that stops has stopped because of it."""

_OWN_PAUSE = 75.0
"""Seconds for which cars pause to cool their batteries, at the most (ZOE, e-Niro, Kona: 60)."""

_WANTS_MORE = 1.02
"""A car whose draw rises by more than this, and 50 W, wants more than before."""

_AS_BEFORE = 0.97
"""A car that draws at least this share of what it drew draws the same: so well chargers measure."""

_NEEDS_MORE = 1.25
"""A car that stops at some set-point is taken to need so many times as much. Some need 9.2 A."""

_LEAST_RATIO = 0.3
"""Just below a third: one of three phases."""

_PROVEN_TIME = 60.0
_BUCKET, _BUCKETS = 30.0, 6
_ENERGY_BUCKET, _ENERGY_BUCKETS = 300.0, 48
_WINDOW = _ENERGY_BUCKET * _ENERGY_BUCKETS

_SHORTEST = 900.0
"""s: energy by hours connected says nothing of a car that has just come."""


class PhaseUse:
    """Which phases a car uses, from the currents that it draws."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._since: list[float | None] = [None, None, None]
        self._used: frozenset[int] = frozenset()

    def update(self, currents: Iterable[float], now: float) -> None:
        """Take currents in A; NaN is none."""
        for phase, amperes in enumerate(currents):
            if not abs(amperes) > _PHASE_CURRENT:
                self._since[phase] = None
                continue
            since = self._since[phase]
            if since is None:
                self._since[phase] = since = now
            if now - since >= _PHASE_TIME:
                self._used |= {phase}

    def count(self) -> int | None:
        """Give the number of phases; ``None`` as long as it is not known.

        A phase that has just begun to carry a current may be one of them.
        """
        begun = {phase for phase, since in enumerate(self._since) if since is not None}
        return len(self._used) if self._used and begun <= self._used else None

    @property
    def used(self) -> frozenset[int]:
        """Which phases, those that have just begun to carry a current among them."""
        return self._used | {p for p, since in enumerate(self._since) if since is not None}

    def drawing(self) -> int:
        """Give the number of phases that carry a current now."""
        return sum(since is not None for since in self._since)


class Use:
    """How much a car makes of its limit."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.idle_since: float | None = None
        """Since when it has had a limit and does not charge."""

        self.own_limit: float | None = None
        """What it draws at the most of its own accord; ``None`` while it draws what it may."""

        self._charges_since: float | None = None
        self._unused_since: float | None = None
        self._limit = 0.0
        self._peaks: deque[tuple[float, float]] = deque(maxlen=_BUCKETS)
        self._close_since: float | None = None
        self._is_proven = False
        self._bears_close_margin = True
        self._lowered_at = -math.inf
        self._ratio = 1.0
        """The share of its limit that it draws if it draws what it may: some chargers share their
        limit by three phases, however many of them the car uses."""

        self._before = (0.0, 0.0)
        """Its limit, and what it drew, before it was lowered last."""

        self._draw = 0.0
        self._raised: tuple[float, float] | None = None
        """When its limit was raised last, and what it drew then."""

    def update(self, draw: float, limit: float, now: float) -> None:
        """Take what it draws with a limit that has been confirmed.

        Args:
            draw: In W.
            limit: In W; zero for none.
            now: The time.
        """
        before, self._limit = self._limit, limit
        if not limit:
            self.idle_since = self._unused_since = self._charges_since = None
            self._peaks.clear()
            if self.own_limit is not None and self.own_limit < IDLE:
                # The next offer is a new try.
                self.own_limit = None
            return
        self.idle_since = _since(self.idle_since, draw < IDLE, now)
        self._charges_since = _since(self._charges_since, draw >= IDLE, now)
        if limit > before * _WANTS_MORE:
            # It takes its time to follow.
            self._unused_since = None
            self._raised = (now, draw) if before and limit > before * MARGIN else None
        elif limit < before:
            self._lowered_at, self._before = now, (before, self._draw)
        self._draw = draw
        share = _ALL_USED_SHARE if self._bears_close_margin else USED_SHARE
        limit *= self._ratio
        self._unused_since = _since(self._unused_since, draw < share * limit, now)
        self._note_peak(draw, now)
        self._find_own_limit(draw, limit, now)

    def charges_for(self, now: float) -> float:
        """Give for how many seconds it has charged without a pause."""
        return 0.0 if self._charges_since is None else now - self._charges_since

    def _note_peak(self, draw: float, now: float) -> None:
        if not self._peaks or now - self._peaks[-1][0] >= _BUCKET:
            self._peaks.append((now, draw))
        else:
            begun, peak = self._peaks[-1]
            self._peaks[-1] = begun, max(peak, draw)

    def _find_own_limit(self, draw: float, limit: float, now: float) -> None:
        own = self.own_limit
        if own is None:
            if self._unused_since is not None and now - self._unused_since >= UNUSED_TIME:
                self._set_own_limit(max(peak for _, peak in self._peaks))
                self._is_proven = draw >= USED_SHARE * limit
            elif self._ignores_raise(draw, limit, now):
                self._set_own_limit(draw)
                self._is_proven = self._bears_close_margin
            return
        if draw > own * _WANTS_MORE + 50.0:
            self.own_limit = None
            return
        if limit < own * _WANTS_MORE:
            if self._unused_since is None:
                # What it draws now says nothing of what it would draw.
                self._peaks.clear()
            elif now - self._unused_since >= UNUSED_TIME:
                # Not even that: it takes less and less.
                self._set_own_limit(max(peak for _, peak in self._peaks))
                self._is_proven = draw >= USED_SHARE * limit
            return
        lowered = now - self._lowered_at < _PROVEN_TIME
        if lowered and IDLE < draw < _AS_BEFORE * own and self._shares_limit(draw):
            self.disprove_own_limit()
            return
        if self._is_proven and lowered and IDLE < draw < _AS_BEFORE * own:
            # It does not draw the same with less: its charger stays below what it is given.
            self._bears_close_margin = self._is_proven = False
            self.own_limit = self._unused_since = None
            return
        if len(self._peaks) == _BUCKETS:
            # It may take less and less.
            self.own_limit = max(peak for _, peak in self._peaks)
        is_close = limit <= own * MARGIN * 1.02 and draw >= _AS_BEFORE * own
        self._close_since = _since(self._close_since, is_close, now)
        if self._close_since is not None and now - self._close_since >= _PROVEN_TIME:
            self._is_proven = self._bears_close_margin

    def _shares_limit(self, draw: float) -> bool:
        """Tell whether its draw has fallen as its limit has."""
        limit_before, draw_before = self._before
        ratio = draw_before / limit_before
        return ratio < USED_SHARE and math.isclose(draw / self._limit, ratio, rel_tol=0.05)

    def disprove_own_limit(self) -> None:
        """Note that it draws less with less, although it drew less than it might."""
        limit_before, draw_before = self._before
        if limit_before and draw_before < USED_SHARE * limit_before:
            self._ratio = max(draw_before / limit_before, _LEAST_RATIO)
        self.own_limit = self._unused_since = None

    def uses(self, draw: float, limit: float) -> bool:
        """Tell whether it draws what it may, as far as anybody can tell."""
        return draw >= USED_SHARE * limit * self._ratio

    def _ignores_raise(self, draw: float, limit: float, now: float) -> bool:
        """Tell whether it draws no more than before it was raised, a good while ago."""
        if self._raised is None or now - self._raised[0] < FOLLOW_TIME:
            return False
        before, self._raised = self._raised[1], None
        return IDLE < draw <= before * _WANTS_MORE and draw < _ALL_USED_SHARE * limit

    def _set_own_limit(self, watts: float) -> None:
        self.own_limit = watts
        self._close_since = None

    @property
    def wanted(self) -> float:
        """The most that is of use to it; infinite as far as is known."""
        if self.own_limit is None:
            return math.inf
        return self.own_limit / self._ratio * (CLOSE_MARGIN if self._is_proven else MARGIN)


class EnergyWindow:
    """The energy of the last four hours."""

    def __init__(self) -> None:
        """Begin with none."""
        self._buckets: deque[tuple[float, float]] = deque(maxlen=_ENERGY_BUCKETS)

    def add(self, joules: float, now: float) -> None:
        """Add what has just been drawn, in Ws."""
        if not self._buckets or now - self._buckets[-1][0] >= _ENERGY_BUCKET:
            self._buckets.append((now, joules))
        else:
            begun, sum_before = self._buckets[-1]
            self._buckets[-1] = begun, sum_before + joules

    def total(self, now: float) -> float:
        """Give the energy of the window, in Ws."""
        return math.fsum(joules for begun, joules in self._buckets if begun > now - _WINDOW)

    def power(self, since: float, now: float) -> float:
        """Give the average power of the time connected, as far as the window goes back, in W."""
        return self.total(now) / min(max(now - since, _SHORTEST), _WINDOW)


@dataclass
class Stay:
    """A car from being plugged in until it is unplugged. Its charger owns it."""

    since: float
    """When it was plugged in, as far as is known."""

    phases: PhaseUse = field(default_factory=PhaseUse)
    use: Use = field(default_factory=Use)
    energy: EnergyWindow = field(default_factory=EnergyWindow)

    started_at: float = -math.inf
    """When it was last offered power after none; in the future while that may still happen."""

    stopped_at: float = -math.inf
    """When that was last taken from it, likewise."""

    waits_since: float = -math.inf
    """Since when it has been without an offer."""

    interruptions: int = 0
    """How often it was stopped while it charged."""

    tries: int = 0
    """How many offers in a row it has made nothing of."""

    gave_way_at: float = -math.inf
    """When the last of them was taken from it."""

    too_little: float = 0.0
    """A set-point at which it has stopped, in W: it needs more, and all phases of the charger."""

    _before_start: float | None = None
    """When it was started before a start that has not been confirmed."""

    _reduced: tuple[float, float] = (-math.inf, 0.0)

    @property
    def is_asleep(self) -> bool:
        """Whether it makes nothing of an offer: it is full, or asleep."""
        return self.tries > 0

    def may_start_at(self, rest: float) -> float:
        """Give when it may be offered power again, after its last start and its last stop.

        Args:
            rest: See `ChargingConfig.rest`.
        """
        return max(self.started_at + rest, self.stopped_at + min(REST_AFTER_STOP, rest))

    def tried_again_at(self) -> float:
        """Give when a car that makes nothing of an offer gets one even if others want the power."""
        if not self.tries:
            return -math.inf
        pause = min(_FIRST_PAUSE * 2.0 ** min(self.tries - 1, 10), _LONGEST_PAUSE)
        return self.gave_way_at + pause

    def gives_way_at(self) -> float:
        """Give when its power goes to others because it does not charge; infinite if it does."""
        if self.use.idle_since is None:
            return math.inf
        return self.use.idle_since + (RETRY_IDLE_TIME if self.tries else IDLE_TIME)

    def minimum_phases(self, of_charger: int) -> int:
        """Give the number of phases that its minimum is reckoned with.

        Args:
            of_charger: The number of the charger's.
        """
        own = self.phases.count()
        return of_charger if own is None or self.too_little else min(own, of_charger)

    @property
    def needed(self) -> float:
        """The least that it needs, as far as it has shown, in W."""
        return self.too_little * _NEEDS_MORE

    # What happens

    def begin_start(self, now: float, *, is_first: bool) -> None:
        """Note that it is offered power after none; again with each attempt at it."""
        if is_first or self._before_start is None:
            self._before_start = self.started_at
        self.started_at = max(now, self.started_at)

    def confirm_start(self, now: float) -> None:
        """Note that it has been offered power from now on."""
        self.started_at, self._before_start = now, None

    def undo_start(self) -> None:
        """Note that it was not offered any after all, if it was to be."""
        if self._before_start is not None:
            self.started_at, self._before_start = self._before_start, None

    def stop(self, now: float, *, is_charging: bool) -> None:
        """Note that power is taken from it."""
        self.stopped_at = max(now, self.stopped_at)
        self._before_start = None
        self.waits_since = now
        self.interruptions += is_charging
        if now >= self.gives_way_at():
            self.tries += 1
            self.gave_way_at = now

    def forget_use(self) -> None:
        """Know nothing of its phases and its use any more."""
        self.phases, self.use = PhaseUse(), Use()
        self.too_little = 0.0

    def reduce(self, limit: float, now: float) -> None:
        """Note that its limit has been lowered to something above zero."""
        self._reduced = now, limit

    def update(self, draw: float, limit: float, now: float) -> None:
        """Take what it draws.

        Args:
            draw: In W.
            limit: Its confirmed limit, in W; zero for none.
            now: The time.
        """
        self.use.update(draw, limit, now)
        if draw >= IDLE:
            self.tries = 0
            if self.use.charges_for(now) >= _PHASE_TIME and limit <= self.too_little:
                # It paused of its own accord: it charges with that all the same.
                self.too_little = 0.0
        reduced_at, reduced_to = self._reduced
        idle_since = self.use.idle_since
        if (
            idle_since is not None
            and reduced_at < idle_since < reduced_at + _STOPPED_BY_LOW_OFFER
            and now - idle_since >= _OWN_PAUSE
            and limit == reduced_to > self.too_little
        ):
            self.too_little = limit
            self.use.disprove_own_limit()


def _since(since: float | None, holds: bool, now: float) -> float | None:
    """Give since when something holds; ``None`` if it does not."""
    if not holds:
        return None
    return now if since is None else since
