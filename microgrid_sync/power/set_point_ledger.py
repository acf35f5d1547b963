"""Remembers what the server may hold as one charger's set-point. Pure: the time is passed in.

Power is distributed by nine rules; docs/pools.rst has the same wording.

1. A charger gets zero or at least its minimum. What is allocated never exceeds the target.
2. Decreases go first, together, under one timeout, and skip every timer; an increase waits for the
   confirmation of what it depends on.
3. A limit has changed when the server confirmed it; until then, and after a failure, the most that
   may be held or drawn is reserved. Decreases go to silent chargers, too, and are tried again every
   second.
4. A silent charger keeps its last limit reserved (its rating, if none is known); NaN counts as
   silent; nobody is raised on the strength of it.
5. The first round commands every charger; nothing is raised before all were heard of or 10 s have
   passed.
6. A failed set-point is a `PartialFailure` with IDs and watts, and is tried again.
7. A charger over its limit by more than 10 % for 10 s is reported, and what is drawn is reserved,
   reported or not.
8. Without any proposal or limit nothing is commanded; `close()` and the end of the program send
   nothing of their own.
9. A set-point never overtakes a newer one.

**Why the target is not exceeded by anything sent from here.** Each charger has one ledger.

- What the server may hold (`may_hold`) is the largest of the value confirmed last, the newest value
  sent, and the values of all open attempts. Before the first confirmation it is unknown, and the
  charger's rating stands for it.
- An attempt is open from its sending until the server's last word on it, or, if it was cut off
  (cancelled, timed out, connection lost), until a set-point that was sent more than `LANDING_TIME`
  after that has been confirmed. A server that carries out what was cut off does so within that
  time; the confirmed one came after it. So at every moment the server holds nothing that is not
  counted.
- A raise is paid from the target less the sum of `may_hold` over all chargers, and of what is drawn
  beyond that; and `may_hold` counts the raise itself from its sending. So when a raise is sent, the
  sum over all chargers of all that the server may come to hold is within the target.
- A decrease frees what it gives up only when it is confirmed, and no higher value is open.
- So only a target that falls leaves more held, or landing later, than it allows. The decreases are
  on the wire at once. What lands after them was sent under an older, higher target; it is counted
  here until it can no longer land, so nobody is raised on top of it; and while it may land, the
  newest value is sent again every second, so it stands for a second and an answer's time.
- An open attempt of the newest value changes nothing when it lands. It counts for nothing: that a
  set-point is sent again extends no reservation.
"""

import enum
import math
from dataclasses import dataclass, replace

LANDING_TIME = 10.0
"""Seconds for which a server may still carry out a set-point that was cut off."""

RESEND_AFTER = 1.0
"""Seconds after which a set-point is sent again that has failed, or that an older may replace."""

REFRESH_AFTER = 10.0
"""Seconds after which a set-point is sent again as it is: servers forget them."""

ACCEPTED_REFRESH = 30.0
"""Seconds after which it is sent again if the server has accepted it, and not said more: a server
that begins anew with each set-point must have the time to come to an end."""

TIMEOUTS = (5.0, 5.0, 10.0, 20.0)
"""Seconds for an answer, by how many timeouts there were in a row; the last one for all more."""


_OVERDUE_AFTER = 2.0
"""Seconds after its time-out when an attempt counts as timed out, whoever fails to say so."""


class Answer(enum.Enum):
    """What came of an attempt."""

    CONFIRMED = "confirmed"
    """The server has taken it."""

    REFUSED = "refused"
    """The server has not taken it, and will not; or it was never sent."""

    CUT_OFF = "cut off"
    """The server has not said; it may still take it."""

    TIMED_OUT = "timed out"
    """Likewise, because its answer took too long."""

    UNDECIDED = "undecided"
    """The server has accepted it, and has not said what became of it: neither a failure nor a
    confirmation."""


@dataclass(frozen=True)
class _Attempt:
    """A set-point that was sent and may still be taken."""

    number: int
    watts: float
    sent_at: float
    answer_by: float
    """When its time for an answer is over."""

    is_accepted: bool = False
    """Whether the server has accepted it, and its last word is to come."""

    cut_off_at: float | None = None
    """When it was cut off; ``None`` while its answer may come."""

    def may_land(self, now: float) -> bool:
        """Tell whether the server may still carry it out."""
        return self.cut_off_at is None or now <= self.cut_off_at + LANDING_TIME


class SetPointLedger:
    """The set-points of one charger in one campaign: since somebody proposed after nobody did."""

    def __init__(self, earlier: "SetPointLedger | None" = None) -> None:
        """Begin a campaign: nothing is certain of what the server holds.

        Args:
            earlier: The ledger of the campaign before: what was confirmed in it may have been
                forgotten, what is still open in it may still land.
        """
        self.newest: float | None = None
        """The value sent last, in W; ``None`` before the first."""

        self.confirmed: float | None = None
        """The value confirmed last, in W; ``None`` before the first."""

        self.confirmed_at = -math.inf
        self.is_confirmed = False
        """Whether the newest value has been confirmed, and nothing since says otherwise."""

        self.earlier_limit = math.inf
        """The lowest value that the server may hold of an earlier campaign; infinite if none."""

        self.sent_at = -math.inf
        self._open: tuple[_Attempt, ...] = ()
        self._number = 0
        self._first_of_value = 0
        """The first of the attempts in a row that have the newest value."""

        self._confirmed_number = 0
        self._timeouts = 0
        self._may_be_forgotten = False
        if earlier is not None:
            self._open, self._number = earlier._open, earlier._number
            known = (earlier.newest, earlier.confirmed, *(a.watts for a in earlier._open))
            if earlier.newest is None:
                # A campaign that has sent nothing leaves what there was.
                known = (*known, earlier.earlier_limit)
            self.earlier_limit = min((w for w in known if w is not None), default=math.inf)

    @property
    def was_commanded(self) -> bool:
        """Whether a value was sent, in this campaign or an earlier one."""
        return self.newest is not None or self.earlier_limit < math.inf

    # What the server may hold

    def may_hold(self) -> float | None:
        """Give the most that the server may hold, now or later; ``None`` if that is unknown."""
        if self.confirmed is None or self.newest is None:
            return None
        return max(self.confirmed, self.newest, *(a.watts for a in self._others()), 0.0)

    def _others(self) -> list[_Attempt]:
        """Give the open attempts of other values than the newest."""
        return [attempt for attempt in self._open if attempt.watts != self.newest]

    @property
    def has_other_open(self) -> bool:
        """Whether an attempt of another value than the newest may still be taken, or has been."""
        return bool(self._others())

    @property
    def has_open(self) -> bool:
        """Whether any attempt may still be taken, or has been."""
        return bool(self._open)

    @property
    def has_unanswered(self) -> bool:
        """Whether an attempt has been cut off, and nothing has settled it since."""
        return any(attempt.cut_off_at is not None for attempt in self._open)

    def may_land(self, now: float) -> bool:
        """Tell whether any attempt may still be taken."""
        return any(attempt.may_land(now) for attempt in self._open)

    @property
    def is_under_way(self) -> bool:
        """Whether the newest value has been sent and its answer may come."""
        return self._under_way() is not None

    def _under_way(self) -> _Attempt | None:
        """Give the newest attempt, if its answer may come."""
        for attempt in self._open:
            if attempt.number == self._number and attempt.cut_off_at is None:
                return attempt
        return None

    @property
    def is_waited_for(self) -> bool:
        """Whether a further set-point would cancel the newest one; what is accepted goes on."""
        attempt = self._under_way()
        return attempt is not None and not attempt.is_accepted

    # Sending

    @property
    def timeout(self) -> float:
        """How many seconds the next attempt has for its answer."""
        return TIMEOUTS[min(self._timeouts, len(TIMEOUTS) - 1)]

    def is_due(self, watts: float, now: float) -> bool:
        """Tell whether a value should be sent now."""
        if watts != self.newest:
            return True
        if self.is_waited_for:
            # Never cancel an equal one.
            return False
        if self._may_be_forgotten:
            return True
        return now >= self.due_at()

    def due_at(self) -> float:
        """Give when the newest value is due again; infinite while its answer may come."""
        if self.newest is None or self.is_waited_for:
            return math.inf
        if self.is_under_way:
            # Accepted. Sooner if one that was cut off may land after it.
            cut_off = any(attempt.cut_off_at is not None for attempt in self._others())
            return self.sent_at + (LANDING_TIME if cut_off else ACCEPTED_REFRESH)
        soon = not self.is_confirmed or self.has_other_open
        return self.sent_at + (RESEND_AFTER if soon else REFRESH_AFTER)

    def send(self, watts: float, now: float) -> int:
        """Note that a value is being sent; give the number of the attempt.

        An older attempt that is under way is cancelled by that, unless the server has accepted it.
        """
        self._number += 1
        if watts != self.newest:
            self._first_of_value = self._number
        self.newest, self.sent_at = watts, now
        self.is_confirmed &= watts == self.confirmed and not self._may_be_forgotten
        self._may_be_forgotten = False
        attempts = [
            a if a.cut_off_at is not None or a.is_accepted else replace(a, cut_off_at=now)
            for a in self._open
        ]
        self._open = (
            *_merged(attempts, now),
            _Attempt(self._number, watts, now, now + self.timeout),
        )
        return self._number

    # Answers

    def accepted(self, number: int, watts: float, now: float) -> None:
        """Note that the server has accepted an attempt, and will say more of it.

        It was not cancelled then, even if a newer value was sent before this was known here.
        """
        attempt = next((a for a in self._open if a.number == number), None)
        if attempt is None:
            # It was merged with another one; its last word is still to come.
            attempt = _Attempt(number, watts, now, now)
        others = (a for a in self._open if a.number != number)
        self._open = (*others, replace(attempt, is_accepted=True, cut_off_at=None))

    def was_accepted(self, number: int) -> bool:
        """Tell whether the server has accepted an attempt whose last word is to come."""
        return any(a.number == number and a.is_accepted for a in self._open)

    def answered(self, number: int, answer: Answer, now: float) -> bool:
        """Note what came of an attempt.

        Returns:
            Whether it was the newest one, or confirms the newest value all the same.
        """
        attempt = next((a for a in self._open if a.number == number), None)
        if attempt is None:
            # It has been merged with a later one of the same value, or closed by a confirmation.
            return False
        is_newest = number == self._number
        if answer in (Answer.CUT_OFF, Answer.TIMED_OUT, Answer.UNDECIDED):
            others = [a for a in self._open if a is not attempt]
            self._open = tuple(_merged([*others, replace(attempt, cut_off_at=now)], now))
            if is_newest and answer is Answer.TIMED_OUT:
                self._timeouts += 1
            if is_newest:
                self.is_confirmed = False
            return is_newest
        self._open = tuple(a for a in self._open if a is not attempt)
        if answer is Answer.CONFIRMED:
            # One of the same value, with nothing else sent since, says the same as the newest.
            is_newest = attempt.number >= self._first_of_value
            self._confirm(attempt, now, is_newest=is_newest)
        elif is_newest:
            self._timeouts = 0
            self.is_confirmed = False
        return is_newest

    def _confirm(self, attempt: _Attempt, now: float, *, is_newest: bool) -> None:
        if attempt.number < self._confirmed_number:
            # Said late: what was confirmed after it may hold as well.
            self.confirmed = max(self.confirmed or 0.0, attempt.watts)
        else:
            self.confirmed, self._confirmed_number = attempt.watts, attempt.number
        self.confirmed_at = now
        # An older one that is confirmed late says what the server holds, not that the newest is.
        self.is_confirmed = is_newest
        if not is_newest:
            return
        if now - attempt.sent_at < TIMEOUTS[0]:
            # A server that always takes longer keeps the time that it needs.
            self._timeouts = 0
        self._open = tuple(
            a
            for a in self._open
            if a.cut_off_at is None or attempt.sent_at <= a.cut_off_at + LANDING_TIME
        )

    def overdue(self, now: float) -> int | None:
        """Give the number of the newest attempt if its answer should have come long ago."""
        attempt = self._under_way()
        if attempt is None or attempt.is_accepted or now <= attempt.answer_by + _OVERDUE_AFTER:
            return None
        return attempt.number

    def answer_by(self) -> tuple[int, float] | None:
        """Give the newest attempt that nothing has been heard of, and when its time is over."""
        attempt = self._under_way()
        if attempt is None or attempt.is_accepted:
            return None
        return attempt.number, attempt.answer_by

    def doubt(self) -> None:
        """Note that the server may have forgotten the set-point: send it again at once."""
        self._may_be_forgotten = self.newest is not None

    @property
    def is_settled(self) -> bool:
        """Whether the newest value is confirmed, and not in doubt."""
        return self.is_confirmed and not self._may_be_forgotten


def _merged(attempts: list[_Attempt], now: float) -> list[_Attempt]:
    """Keep no more attempts than say something.

    Of those that were cut off with the same value the last one says all; of those that can no
    longer land but may be held, the highest.
    """
    kept: dict[float, _Attempt] = {}
    held: _Attempt | None = None
    under_way = []
    for attempt in attempts:
        if attempt.cut_off_at is None:
            under_way.append(attempt)
        elif attempt.may_land(now):
            before = kept.get(attempt.watts)
            if before is None or (before.cut_off_at or 0.0) < attempt.cut_off_at:
                kept[attempt.watts] = attempt
        elif held is None:
            held = attempt
        else:
            latest = max(held.cut_off_at or 0.0, attempt.cut_off_at)
            held = replace(max(held, attempt, key=lambda a: a.watts), cut_off_at=latest)
    return [*([] if held is None else [held]), *kept.values(), *under_way]
