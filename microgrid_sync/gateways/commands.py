"""Carries out what other systems command: a cap for the chargers, and a limit of the current."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from frequenz.quantities import Current, Power

from microgrid_sync.arguments import check_timeout
from microgrid_sync.ev_charger_pool import EVChargerPool, EVChargerPoolError
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.gateways.live_site import LiveSite
from microgrid_sync.limit import FUSES, Limit
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.model.bounds import Bounds
from microgrid_sync.power.circuits import Where
from microgrid_sync.power.fuse_curve import FuseCurve
from microgrid_sync.power.results import Error, PartialFailure
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.tables import shown
from microgrid_sync.worker import Worker

MISTAKEN = 100.0
"""W: who caps cars at less, and not at zero, has forgotten a unit."""

_MOST_POWER = 1e9
"""W: no site has so much."""

_MOST_CURRENT = 1e5
"""A: likewise."""

LONGEST_LIFETIME = 31 * 86_400.0
"""Seconds that a command holds at the most."""

FIRST_HEARTBEAT = 30.0
"""Seconds from the start until the first heartbeat, at the most."""

_MOST_LINES = 20
"""Lines a minute about the commands of one source."""

_RENEW_INTERVAL = 15.0
"""Seconds between two proposals, each of which lapses after a minute."""

_PROPOSE_INTERVAL = 0.2
"""Seconds between two caps that are carried out: who writes thousands floods nobody else."""

_RETRY_INTERVAL = 1.0
"""Seconds until what the site could not do yet is tried again."""

_LOG_INTERVAL = 60.0
"""Seconds between two lines that say the same."""

_logger = logging.getLogger(__name__)


class CommandError(ValueError):
    """A command that is not carried out; the text says why, and what would be right."""


class _Command(NamedTuple):
    """What somebody has commanded."""

    value: float
    until: float
    """On the monotonic clock."""

    by: str
    source: str
    is_safe_value: bool = False


class _Lines(NamedTuple):
    """How much has been logged of a source's commands, in one minute."""

    began: float
    told: int
    left_out: int


@dataclass(frozen=True)
class CommandState:
    """What is commanded now."""

    cap_w: float | None
    """What the chargers may draw together, in W; ``None`` without a cap."""

    cap_by: str | None
    """Who has commanded that."""

    cap_source: str | None
    """The name of his `CommandSource`."""

    is_safe_value: bool
    """Whether it is the cap that holds because a heartbeat has stayed away."""

    max_current_a: float | None
    """What may flow at the limited place, in A; ``None`` without a command."""

    max_current_by: str | None
    """Whose limit that is."""

    error: str | None = None
    """Why it is not carried out, if it is not."""


class CommandSource:
    """What one other system commands. Made by `Commands.new_source`; any thread may use it."""

    def __init__(
        self,
        name: str,
        safe_cap_w: float | None,
        heartbeat_timeout: float,
        commands: "Commands",
        now: float,
    ) -> None:
        """Make it; see `Commands.new_source`."""
        self.name = name
        self.safe_cap_w = safe_cap_w
        self.heartbeat_timeout = heartbeat_timeout
        self._commands = commands
        # Protects what follows. No other lock is taken, and nothing logged, under it.
        self._lock = threading.Lock()
        # The first may not be longer in coming than chargers keep set-points of a gateway before.
        self._overdue_at = now + min(heartbeat_timeout, FIRST_HEARTBEAT)
        self._beat_at = -math.inf
        self._cap: _Command | None = None
        self._max_current: _Command | None = None

    def set_cap(self, power_w: float | None, *, by: str, lifetime: float | None = None) -> None:
        """Command what all EV chargers may draw together.

        Args:
            power_w: The power in W; ``None`` takes the cap back.
            by: Who commands it, for the log.
            lifetime: Seconds that it holds; until the next command unless given.

        Raises:
            CommandError: If the power is no finite number, negative, or so low that a unit must
                have been forgotten, or the lifetime is none.
        """
        self._set("_cap", None if power_w is None else check_cap(power_w), lifetime, by)
        words = "takes its cap back" if power_w is None else f"caps the chargers at {power_w:g} W"
        more = ", which waits for its heartbeat" if self.is_overdue(time.monotonic()) else ""
        self._commands.told(self, "cap", f"{by} {words}{_for(power_w, lifetime)}{more}")

    def set_max_current(
        self, current_a: float | None, *, by: str, lifetime: float | None = None
    ) -> None:
        """Command what may flow on each phase at the place that is limited.

        Args:
            current_a: The current in A; ``None`` takes the limit back.
            by: Who commands it, for the log.
            lifetime: Seconds that it holds; until the next command unless given.

        Raises:
            CommandError: If the current is no finite number, not positive, or more than the fuse
                there is for.
        """
        if current_a is not None:
            current_a = self._commands.check_max_current(current_a)
        self._set("_max_current", current_a, lifetime, by)
        words = "takes its limit back" if current_a is None else f"limits to {current_a:g} A"
        self._commands.told(self, "limit", f"{by} {words}{_for(current_a, lifetime)}")

    def _set(self, what: str, value: float | None, lifetime: float | None, by: str) -> None:
        now = time.monotonic()
        until = math.inf if lifetime is None else now + check_lifetime(lifetime)
        with self._lock:
            setattr(self, what, None if value is None else _Command(value, until, by, self.name))

    def heartbeat(self) -> None:
        """Say that the other system is there."""
        with self._lock:
            self._beat_at = time.monotonic()
            self._overdue_at = self._beat_at + self.heartbeat_timeout
        self._commands.wake()

    @property
    def commands(self) -> "Commands":
        """What carries its commands out."""
        return self._commands

    @property
    def cap_w(self) -> float | None:
        """The cap that it has commanded, in W, as long as that holds; without a heartbeat, too."""
        with self._lock:
            return _value(self._cap, time.monotonic())

    @property
    def max_current_a(self) -> float | None:
        """The current that it has commanded, in A, as long as that holds."""
        with self._lock:
            return _value(self._max_current, time.monotonic())

    def heartbeat_age(self, now: float) -> float:
        """Give how many seconds ago the last heartbeat was; infinity before the first."""
        with self._lock:
            return max(0.0, now - self._beat_at)

    def is_overdue(self, now: float) -> bool:
        """Tell whether a heartbeat is awaited, and has not come in time."""
        with self._lock:
            return self.safe_cap_w is not None and now >= self._overdue_at

    def lifetimes(self, now: float) -> Iterator[tuple[str, bool, bool]]:
        """Give of the cap and the limit whether it holds, and whether it has lapsed."""
        with self._lock:
            found = (("cap", self._cap), ("limit", self._max_current))
        for what, command in found:
            is_there = command is not None and now < command.until
            yield what, is_there, command is not None and not is_there

    def commanded(self, now: float) -> tuple[_Command | None, _Command | None, float]:
        """Give the cap and the current that hold, and when that changes by itself."""
        with self._lock:
            cap, current, overdue_at = self._cap, self._max_current, self._overdue_at
        ends = [one.until for one in (cap, current) if one is not None and one.until > now]
        cap = cap if cap is not None and now < cap.until else None
        current = current if current is not None and now < current.until else None
        if self.safe_cap_w is not None:
            if now >= overdue_at:
                cap = _Command(self.safe_cap_w, math.inf, self.name, self.name, is_safe_value=True)
            else:
                ends.append(overdue_at)
        return cap, current, min(ends, default=math.inf)


def _for(value: float | None, lifetime: float | None) -> str:
    return "" if value is None or lifetime is None else f" for {lifetime:g} s"


def _value(command: _Command | None, now: float) -> float | None:
    return command.value if command is not None and now < command.until else None


def check_cap(power_w: object) -> float:
    """Check a cap in W.

    Raises:
        CommandError: If it is none.
    """
    watts = _number("a cap", power_w, "W")
    if watts < 0 or watts > _MOST_POWER:
        raise CommandError(f"a cap must be from 0 to {_MOST_POWER:g} W, not {watts:g}")
    if 0 < watts < MISTAKEN:
        raise CommandError(f"a cap of {watts:g} W is less than any car takes; is it in W?")
    return watts


def check_lifetime(lifetime: object) -> float:
    """Check for how many seconds a command is to hold.

    Raises:
        CommandError: If that cannot be.
    """
    seconds = _number("a lifetime", lifetime, "s")
    if not 1 <= seconds <= LONGEST_LIFETIME:
        raise CommandError(f"a lifetime must be from 1 to {LONGEST_LIFETIME:g} s, not {seconds:g}")
    return seconds


def _number(what: str, value: object, unit: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        # An integer of hundreds of digits.
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise CommandError(f"{what} must be a finite number in {unit}, not {shown(value)}")
    return number


class Commands:
    """What other systems command of a site, carried out until it is closed.

    The lowest cap of all sources holds, and the lowest current. At the end nothing is commanded any
    more: the limit is closed, and the cap lapses within a minute. If the site is closed first,
    nothing is sent at all: the chargers keep their set-points as long as the server keeps them, so
    that a gateway that is started anew leaves no gap.
    """

    def __init__(
        self,
        site: LiveSite,
        *,
        priority: int = 0,
        where: Where = "grid",
        fuse: str = "none",
        max_current_a: float | None = None,
    ) -> None:
        """Command nothing yet, but for a limit that always holds, if there is one.

        Args:
            site: The site.
            priority: That of the cap among the proposals of other pools.
            where: Whose current is limited: the ID of a meter, or ``"grid"``.
            fuse: What a limit is of: ``gG``, ``B``, ``C``, ``D`` or ``SLS``, of which the current
                is the rating; with ``none`` the current itself holds.
            max_current_a: The current that holds always, in A; commands can but lower it.

        Raises:
            ValueError: If there is no such fuse, or the current is none.
        """
        if fuse not in FUSES:
            raise ValueError(f"fuse must be one of {', '.join(FUSES)}, not {fuse!r}")
        self._site = site
        self._priority = priority
        self._where: Where = where
        self._make: Callable[[float], Current | FuseCurve] = FUSES[fuse]
        self._always = None if max_current_a is None else check_current(max_current_a)
        # Replaced as a whole, under the lock; read without it.
        self._sources: tuple[CommandSource, ...] = ()
        # Protects the sources, and what has been told of them. Nothing is logged under it.
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], str] = {}
        self._lines: dict[str, _Lines] = {}
        # The thread's own; of these the error is read by others.
        self._pool: EVChargerPool | None = None
        self._limit: Limit | None = None
        self._held: float | None = None
        self._proposed: float | None = None
        self._propose_at = self._proposed_at = -math.inf
        self._overdue: set[str] = set()
        self._had: set[tuple[str, str]] = set()
        self._error: str | None = None
        self._error_told_at = -math.inf
        self._worker = Worker("microgrid-commands", work=self._work, end=self._end)
        if self._always is not None:
            self.wake()

    def __repr__(self) -> str:
        """Say what is commanded."""
        state = self.state()
        return f"<Commands to {self._site.name}: cap {state.cap_w} W, {state.max_current_a} A>"

    def new_source(
        self, name: str, *, safe_cap_w: float | None = None, heartbeat_timeout: float = 60.0
    ) -> CommandSource:
        """Let one more system command.

        Args:
            name: What it is called in the log.
            safe_cap_w: The cap in W that holds when its heartbeat stays away; ``None`` to await no
                heartbeat.
            heartbeat_timeout: After how many seconds without one; the first may take as long, but
                no longer than 30 s.

        Raises:
            CommandError: If the cap is none.
            TypeError: If the time is no number.
            ValueError: If it is not positive.
        """
        safe = None if safe_cap_w is None else check_cap(safe_cap_w)
        timeout = check_timeout(heartbeat_timeout, "heartbeat_timeout")
        source = CommandSource(name, safe, timeout, self, time.monotonic())
        with self._lock:
            self._sources = (*self._sources, source)
        self.wake()
        return source

    @property
    def sources(self) -> tuple[CommandSource, ...]:
        """Who may command."""
        return self._sources

    def state(self) -> CommandState:
        """Give what is commanded now."""
        now = time.monotonic()
        cap, current, _ = self._wanted(now)
        is_commanded = cap is not None or current is not None
        return CommandState(
            None if cap is None else cap.value,
            None if cap is None else cap.by,
            None if cap is None else cap.source,
            cap is not None and cap.is_safe_value,
            None if current is None else current.value,
            None if current is None else current.by,
            self._error or (self._failure(now) if is_commanded else None),
        )

    def _failure(self, now: float) -> str | None:
        """Say why what is commanded may not be done, though nothing was refused here."""
        if not self._site.is_heard(now):
            return "the site is not heard"
        report = self._site.report
        result = None if report is None else report.distribution_result
        if isinstance(result, Error):
            return result.msg
        if isinstance(result, PartialFailure):
            failed = ", ".join(map(str, sorted(result.failed_components)))
            return f"chargers that do not take or keep their set-points: {failed}"
        return None

    def check_max_current(self, current_a: object) -> float:
        """Check a current in A against the fuse.

        Raises:
            CommandError: If it is none, or more than the fuse is for.
        """
        amperes = check_current(current_a)
        most = min(self._fuse(), math.inf if self._always is None else self._always)
        if amperes > most:
            raise CommandError(f"{amperes:g} A is more than the fuse is for, {most:g} A")
        return amperes

    def _fuse(self) -> float:
        """Give the fuse of the grid connection in A; infinity if it is not known, or elsewhere."""
        microgrid = self._site.microgrid
        fuse = None if microgrid is None or self._where != "grid" else microgrid.grid.fuse
        is_known = fuse is not None and 0 < fuse.max_current < math.inf
        return fuse.max_current if fuse is not None and is_known else math.inf

    def told(self, source: CommandSource, what: str, words: str) -> None:
        """Log who has commanded what, unless he has said the same before; have it done."""
        now = time.monotonic()
        left_out = 0
        with self._lock:
            is_new = self._told.get((source.name, what)) != words
            self._told[source.name, what] = words
            lines = self._lines.get(source.name, _Lines(-math.inf, 0, 0))
            if now - lines.began >= _LOG_INTERVAL:
                left_out, lines = lines.left_out, _Lines(now, 0, 0)
            is_told = is_new and lines.told < _MOST_LINES
            if is_new:
                told, more = lines.told + is_told, lines.left_out + (not is_told)
                lines = _Lines(lines.began, told, more)
            self._lines[source.name] = lines
        if left_out:
            _logger.warning("%s: %d more commands of %s", self._site.name, left_out, source.name)
        _logger.log(logging.WARNING if is_told else logging.DEBUG, "%s: %s", self._site.name, words)
        self.wake()

    def wake(self) -> None:
        """Look at what is commanded; after the end nothing."""
        try:
            self._worker.post(None)
        except ReceiverStoppedError:
            return

    def close(self) -> None:
        """Command nothing any more: the limit is closed, the cap lapses. Any number of times."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _wanted(self, now: float) -> tuple[_Command | None, _Command | None, float]:
        """Give the lowest cap, the lowest current, and when they change by themselves."""
        caps, currents, due = [], [], math.inf
        for source in self._sources:
            cap, current, until = source.commanded(now)
            caps += [cap] if cap is not None else []
            currents += [current] if current is not None else []
            due = min(due, until)
        lowest_cap = min(caps, key=lambda one: one.value, default=None)
        return lowest_cap, min(currents, key=lambda one: one.value, default=None), due

    # The thread

    def _work(self, messages: list[Any], now: float) -> float:
        del messages
        self._tell_overdue(now)
        self._tell_lapsed(now)
        cap, current, due = self._wanted(now)
        microgrid = self._site.microgrid
        if microgrid is None:
            return min(due, now + _RETRY_INTERVAL)
        # Each by itself: a limit that cannot be held must not keep the cap from being obeyed.
        problems = [
            problem
            for problem in (
                _tried(lambda: self._propose(microgrid, cap, now)),
                _tried(lambda: self._hold(microgrid, current)),
            )
            if problem is not None
        ]
        if problems:
            text = "; ".join(problems)
            if text != self._error or now - self._error_told_at >= _LOG_INTERVAL:
                self._error_told_at = now
                _logger.warning("%s: what is commanded cannot be done: %s", self._site.name, text)
            self._error = text
            return min(due, now + _RETRY_INTERVAL, self._propose_at)
        if self._error is not None:
            _logger.warning("%s: what is commanded is done", self._site.name)
            self._error = None
        return min(due, self._propose_at)

    def _end(self) -> None:
        # The cap lapses within a minute, if the site is still followed then.
        if self._limit is not None:
            self._site.hide_limit(self._limit)
            self._limit.close()

    def _tell_overdue(self, now: float) -> None:
        for source in self._sources:
            if source.is_overdue(now) == (source.name in self._overdue):
                continue
            self._overdue ^= {source.name}
            if source.name in self._overdue:
                _logger.warning(
                    "%s: no heartbeat of %s: its cap falls back to the safe value, %g W",
                    self._site.name, source.name, source.safe_cap_w,
                )  # fmt: skip
            else:
                cap = source.cap_w
                _logger.warning(
                    "%s: the heartbeat of %s is there: %s", self._site.name, source.name,
                    "it has no cap" if cap is None else f"its cap of {cap:g} W holds again",
                )  # fmt: skip

    def _tell_lapsed(self, now: float) -> None:
        """Log that commands have lapsed; the same command is new again then."""
        has: set[tuple[str, str]] = set()
        lapsed: list[tuple[str, str]] = []
        for source in self._sources:
            for what, is_there, has_lapsed in source.lifetimes(now):
                if is_there:
                    has.add((source.name, what))
                elif has_lapsed and (source.name, what) in self._had:
                    lapsed.append((source.name, what))
        self._had = has
        for name, what in lapsed:
            with self._lock:
                self._told.pop((name, what), None)
            _logger.warning("%s: the %s of %s has lapsed", self._site.name, what, name)

    def _propose(self, microgrid: Microgrid, cap: _Command | None, now: float) -> None:
        watts = None if cap is None else cap.value
        if watts is None:
            self._propose_at = math.inf
            if self._proposed is not None and self._pool is not None:
                self._pool.stop()
            self._proposed = None
        elif watts != self._proposed and now < self._proposed_at + _PROPOSE_INTERVAL:
            self._propose_at = self._proposed_at + _PROPOSE_INTERVAL
        elif watts != self._proposed or now >= self._propose_at:
            if self._pool is None:
                self._pool = microgrid.new_ev_charger_pool(
                    priority=self._priority, name="the cap of the gateways"
                )
            most = Power.from_watts(watts)
            self._pool.propose_power(most, Bounds(None, most))
            self._proposed, self._propose_at = watts, now + _RENEW_INTERVAL
            self._proposed_at = now

    def _hold(self, microgrid: Microgrid, current: _Command | None) -> None:
        """Have the lowest of all currents hold."""
        amperes = None if current is None else current.value
        # Once more: when it was commanded, the fuse of the site may not have been known.
        problem = None if amperes is None else _tried(lambda: self.check_max_current(amperes))
        if problem is not None:
            amperes = None
        always = self._always
        fuse = self._fuse()
        if always is not None and always > fuse:
            if self._held is None:
                _logger.warning(
                    "%s: the limit is %g A, as is the fuse, not %g A", self._site.name, fuse, always
                )
            always = fuse
        wanted = min((one for one in (amperes, always) if one is not None), default=None)
        if wanted != self._held:
            self._set_limit(microgrid, wanted)
            self._held = wanted
        if problem is not None:
            raise CommandError(problem)

    def _set_limit(self, microgrid: Microgrid, wanted: float | None) -> None:
        if wanted is None:
            if self._limit is not None:
                self._site.hide_limit(self._limit)
                self._limit.close()
            self._limit = None
        elif self._limit is None:
            self._limit = microgrid.limit(self._where, max_current=self._make(wanted))
            self._site.show_limit(self._limit)
        else:
            self._limit.update(max_current=self._make(wanted))


def _tried(do: Callable[[], object]) -> str | None:
    """Do something; give the reason why that cannot be done, if it cannot."""
    try:
        do()
    except (ApiClientError, EVChargerPoolError, ReceiverStoppedError, TimeoutError,
            ValueError) as error:  # fmt: skip
        return str(error)
    return None


def check_current(current_a: object) -> float:
    """Check a current in A, whatever the fuse.

    Raises:
        CommandError: If it is none.
    """
    amperes = _number("a limit", current_a, "A")
    if not 0 < amperes <= _MOST_CURRENT:
        raise CommandError(
            f"a limit must be more than 0 and at most {_MOST_CURRENT:g} A, not {amperes:g}"
        )
    return amperes
