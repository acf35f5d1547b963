"""Remembers set-points that were cut off, and when a newer one must be sent once more.

A set-point whose client gave up, or was cancelled, can still be carried out by the server: later
than a newer one that has been confirmed. No client can prevent that. So the newer one is sent once
more, when the older one can no longer come.
"""

from collections.abc import Callable
from typing import NamedTuple

from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.worker import Worker

LANDING_TIME = 10.0
"""Seconds for which a server may still carry out a set-point that was cut off."""

_LOOK_AGAIN = 1.0
"""Seconds after which it is looked again whether a call that is under way has ended."""

_NOTHING_DUE = 3600.0


class CutOff(NamedTuple):
    """A call that has ended without the server's answer."""

    order_by: tuple[str, int]
    """What it set."""

    number: int
    """Its number among the calls that set the same."""

    payload: bytes
    """The value, as it was sent."""

    at: float
    """When it ended, on the monotonic clock."""


class ResendDone(NamedTuple):
    """A set-point that was sent once more has ended."""

    cut_off: CutOff
    """Why it was sent."""

    number: int
    payload: bytes
    error: ApiClientError | None = None
    """Why it has failed, if it has."""


class Resends:
    """The set-points of one connection that were cut off; its worker thread owns them."""

    def __init__(
        self,
        resend: Callable[[CutOff], bool],
        finish: Callable[[ResendDone], list[CutOff]],
        site: str,
    ) -> None:
        """Wait for nothing yet.

        Args:
            resend: Sends the newest value of a kind once more, if there is need; tells whether that
                is settled. It must not wait.
            finish: Notes that one has ended; gives what may still land because of how it did.
            site: What the thread's name calls the site.
        """
        self._resend = resend
        self._finish = finish
        self._open: list[CutOff] = []
        self.worker = Worker(f"microgrid-resend {site}", work=self._work, end=self._open.clear)

    def add(self, cut_off: CutOff) -> None:
        """Note that a call was cut off; nothing after the end of the connection."""
        try:
            self.worker.post(cut_off)
        except ReceiverStoppedError:
            return
        except RuntimeError:
            # No thread to be had now: it is looked at with the next one.
            self.worker.deliver(cut_off)

    def _work(self, messages: list[CutOff | ResendDone], now: float) -> float:
        for message in messages:
            self._open += [message] if isinstance(message, CutOff) else self._finish(message)
        self._open = _merged(self._open)
        self._open = [
            cut_off
            for cut_off in self._open
            if now < cut_off.at + LANDING_TIME or not self._resend(cut_off)
        ]
        due = min((cut_off.at + LANDING_TIME for cut_off in self._open), default=now + _NOTHING_DUE)
        return due if due > now else now + _LOOK_AGAIN


def _merged(cut_offs: list[CutOff]) -> list[CutOff]:
    """Keep one of those with the same value: the last one that may land says all."""
    kept: dict[tuple[tuple[str, int], bytes], CutOff] = {}
    for cut_off in cut_offs:
        key = cut_off.order_by, cut_off.payload
        before = kept.get(key, cut_off)
        kept[key] = cut_off._replace(
            number=min(cut_off.number, before.number), at=max(cut_off.at, before.at)
        )
    return list(kept.values())
