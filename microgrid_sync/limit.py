"""Offers the limit of a circuit: what may flow behind a meter, or at the grid connection."""

import math
import threading
from collections.abc import Callable, Mapping, Set
from datetime import tzinfo
from typing import TYPE_CHECKING, Self

from frequenz.quantities import Current, Power

from microgrid_sync.model import ComponentId
from microgrid_sync.power.circuits import CircuitLimit, Where
from microgrid_sync.power.control_loop import ControlLoop, LimitKey
from microgrid_sync.power.fuse_curve import FuseCurve
from microgrid_sync.power.limit_report import Currents, LimitReport
from microgrid_sync.receiver import (
    RECEIVER_MAX_SIZE,
    Receiver,
    ReceiverStoppedError,
    check_maxsize,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FUSES: dict[str, Callable[[float], Current | FuseCurve]] = {
    "gG": FuseCurve.gG,
    "B": lambda rating: FuseCurve.mcb("B", rating),
    "C": lambda rating: FuseCurve.mcb("C", rating),
    "D": lambda rating: FuseCurve.mcb("D", rating),
    "SLS": FuseCurve.sls,
    "none": Current.from_amperes,
}
"""Kinds of fuses by the names that people write, each made of its rating in A; ``none`` holds the
amperes themselves."""


class Limit:
    """A limit of what may flow in a circuit, held by commanding the EV chargers in it.

    Made by `Microgrid.limit`, and in force from that call until `close`, or until the microgrid is
    closed; whether somebody keeps this object does not matter. Phases are those of the circuit's
    meter. Import is limited alone: what is fed in is not. May be used from any thread.
    """

    def __init__(
        self,
        where: Where,
        limit: CircuitLimit,
        chargers: frozenset[int],
        *,
        key: LimitKey,
        control_loop: ControlLoop,
        keeps: object,
        find_timezone: Callable[[], tzinfo | None],
    ) -> None:
        """Make a handle; see `Microgrid.limit`.

        Args:
            where: The meter's ID, or ``"grid"``.
            limit: What may flow.
            chargers: The chargers in the circuit, as of now.
            key: What the control loop knows the limit by.
            control_loop: What commands the chargers.
            keeps: What must stay alive as long as somebody reads.
            find_timezone: Asks for the zone of the site, for pictures.
        """
        self._find_timezone = find_timezone
        self._where = where
        # Serializes updates, each of which keeps what the one before has set. The loop's thread,
        # whose answer is waited for meanwhile, never takes it; a signal handler may, in the thread
        # that has it.
        self._updating = threading.RLock()
        self._limit = limit
        self._is_closed = False
        self._chargers = chargers
        self._key = key
        self._control_loop = control_loop
        self._keeps = keeps

    def __repr__(self) -> str:
        """Name it."""
        closed = ", closed" if self._is_closed or self._control_loop.worker.is_closing else ""
        return f"<Limit of {_place(self._where)}: {_in_words(self._limit)}{closed}>"

    @property
    def where(self) -> Where:
        """The ID of the meter, or ``"grid"``."""
        return self._where

    @property
    def max_current(self) -> Current | FuseCurve | None:
        """What may flow on each phase; ``None`` if only the power is limited."""
        return self._limit.max_current

    @property
    def max_power(self) -> Power | None:
        """What all phases together may carry; ``None`` if only the current is limited."""
        return self._limit.max_power

    @property
    def chargers(self) -> Set[ComponentId]:
        """The IDs of the chargers that it commands; new ones are added when they come."""
        state = self._key.state
        chargers = self._chargers if state is None else state.chargers
        return frozenset(ComponentId(charger) for charger in chargers)

    @property
    def report(self) -> LimitReport | None:
        """How the limit stands now; ``None`` if nothing is known yet."""
        state = self._key.state
        return None if state is None else state.report

    @property
    def house(self) -> Currents | None:
        """What flows on each phase beside the chargers, which may be negative.

        The highest of a while if the meter is silent; ``None`` if nothing is known yet.
        """
        report = self.report
        return None if report is None else report.house

    @property
    def headroom(self) -> Currents | None:
        """What is left on each phase to all chargers together; below zero if there is too little.

        ``None`` if nothing is known yet, or the current is not limited.
        """
        report = self.report
        return None if report is None else report.headroom

    @property
    def thermal_state(self) -> tuple[float, float, float] | None:
        """The thermal state of the fuse on each phase; 1 is the steady rated load.

        ``None`` without a `FuseCurve`, or if nothing is known yet.
        """
        report = self.report
        return None if report is None else report.thermal_state

    @property
    def is_exceeded(self) -> bool:
        """Whether more flows than the limit."""
        report = self.report
        return report is not None and report.is_exceeded

    @property
    def rotations(self) -> Mapping[ComponentId, str]:
        """How chargers are connected, by ID, as far as it is given or has been found for certain.

        ``"L2L3L1"``: the first phase of the charger is L2 of the circuit's meter, and so on.
        """
        state = self._key.state
        found = {} if state is None else state.rotations
        return {ComponentId(number): text for number, text in found.items()}

    def new_receiver(self, *, maxsize: int = RECEIVER_MAX_SIZE) -> Receiver[LimitReport]:
        """Receive how the limit stands, whenever that changes.

        Args:
            maxsize: How many reports the receiver holds.

        Raises:
            ReceiverStoppedError: If the limit or the microgrid has been closed.
            RuntimeError: In a child that was forked off after the client had connected.
        """
        check_maxsize(maxsize)
        receiver = self._control_loop.subscribe_limit(self._key, maxsize, self._keeps)
        receiver.find_timezone = self._find_timezone
        return receiver

    def plot(self, *, duration: float | None = None, samples: int | None = None) -> "Figure":
        """Draw what the house takes on each phase, below the limit, from now on.

        Args:
            duration: For how many seconds; 30 unless this or ``samples`` is given.
            samples: For how many reports.

        Returns:
            A picture as that of `Receiver.plot`.

        Raises:
            ImportError: If matplotlib, of the extra ``notebook``, is not installed.
            TypeError: If an argument is of the wrong type.
            ValueError: If both amounts are given, or one is not more than 0.
            ReceiverStoppedError: If the limit or the microgrid has been closed.
        """
        from microgrid_sync.notebook.plots import Line, Look, plot_new  # noqa: PLC0415 - an extra

        current = self._limit.max_current
        rating = current.rating if isinstance(current, FuseCurve) else current
        level = None if rating is None else Line(rating.as_amperes(), f"limit, {rating}")
        columns = [f"house_phase_{phase}_a" for phase in (1, 2, 3)]
        look = Look(f"the house behind {_place(self._where)}", columns, level)
        return plot_new(self.new_receiver, look, self._find_timezone(), duration, samples)

    def _repr_html_(self) -> str:
        from microgrid_sync.notebook.html import html_of  # noqa: PLC0415 - only notebooks need it

        return html_of(self)

    def update(
        self,
        *,
        max_current: Current | FuseCurve | None = None,
        max_power: Power | None = None,
    ) -> None:
        """Limit the circuit otherwise, without a gap.

        Args:
            max_current: What may flow on each phase. Unless given, it stays as it is.
            max_power: What all phases together may carry. Unless given, it stays as it is.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If neither is given, or one is not finite and positive.
            ReceiverStoppedError: If the limit or the microgrid has been closed.
            RuntimeError: In a child that was forked off after the client had connected.
        """
        if max_current is None and max_power is None:
            raise ValueError("update() needs max_current, max_power or both")
        check_limits(max_current, max_power)
        with self._updating:
            limit = CircuitLimit(
                self._limit.max_current if max_current is None else max_current,
                self._limit.max_power if max_power is None else max_power,
            )
            name = limit_name(self._where, limit)
            self._control_loop.update_limit(self._key, limit, name)
            self._limit = limit

    def close(self) -> None:
        """End the limit. Nothing is sent, and nothing is sent again.

        The set-points stay as long as the server keeps them: with version v1alpha18 of the API for
        60 s at most, with v0.15 nobody knows. A warning is logged if no other limit covers the
        chargers. After the first time, or when the microgrid has been closed, nothing happens.

        Raises:
            RuntimeError: In a child that was forked off after the client had connected.
        """
        self._is_closed = True
        try:
            self._control_loop.close_limit(self._key)
        except ReceiverStoppedError:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def check_limits(max_current: object, max_power: object) -> None:
    """Check what may flow; ``None`` is no limit.

    Raises:
        TypeError: If one of them is of the wrong type.
        ValueError: If one of them is not finite and positive.
    """
    if max_current is not None and not isinstance(max_current, Current | FuseCurve):
        raise TypeError(
            "max_current must be a Current, such as Current.from_amperes(63), or a FuseCurve, "
            f"such as FuseCurve.gG(63), not {max_current!r}"
        )
    if isinstance(max_current, Current) and not 0 < max_current.as_amperes() < math.inf:
        raise ValueError(f"max_current must be finite and more than 0 A, not {max_current}")
    if max_power is not None and not isinstance(max_power, Power):
        raise TypeError(
            f"max_power must be a Power, such as Power.from_kilowatts(20), not {max_power!r}"
        )
    if isinstance(max_power, Power) and not 0 < max_power.as_watts() < math.inf:
        raise ValueError(f"max_power must be finite and more than 0 W, not {max_power}")


def _place(where: Where) -> str:
    return "the grid" if where == "grid" else f"meter {where}"


def limit_name(where: Where, limit: CircuitLimit) -> str:
    """Say what a limit is, for receivers and log lines."""
    return f"the limit of {_place(where)} ({_in_words(limit)})"


def _in_words(limit: CircuitLimit) -> str:
    current, power = limit.max_current, limit.max_power
    words = [current.name if isinstance(current, FuseCurve) else str(current)] if current else []
    return " and ".join([*words, *([str(power)] if power else [])])
