"""Collects what a receiver gives, for some time or some samples."""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from microgrid_sync.notebook.jupyter import is_jupyter, progress
from microgrid_sync.receiver import Receiver, ReceiverStoppedError

T = TypeVar("T")

_SLICE = 0.2
"""Seconds of one wait, so that time is shown to pass."""

_logger = logging.getLogger(__name__)


def check_amount(duration: float | None, samples: int | None) -> None:
    """Check how much is to be collected.

    Raises:
        TypeError: If the number of samples is no integer, or the duration no number.
        ValueError: If not exactly one of them is given, or it is not more than 0.
    """
    if (duration is None) == (samples is None):
        raise ValueError("say how much: duration= in seconds, or samples=")
    if samples is not None and (not isinstance(samples, int) or isinstance(samples, bool)):
        raise TypeError(f"samples must be an integer, not {samples!r}")
    if duration is not None and (
        not isinstance(duration, int | float) or isinstance(duration, bool)
    ):
        raise TypeError(f"duration must be a number of seconds, not {duration!r}")
    if samples is not None and samples < 1:
        raise ValueError(f"samples must be 1 or more, not {samples}")
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"duration must be more than 0 seconds, not {duration!r}")


def collect(
    receiver: Receiver[T],
    duration: float | None,
    samples: int | None,
    each: Callable[[list[T]], Any] = len,
) -> list[T]:
    """Collect what comes from now on, and show how far that is.

    Args:
        receiver: Where it comes from; what is waiting there counts.
        duration: For how many seconds.
        samples: Or how many samples.
        each: Called with all that has come, now and then, in this thread.

    Returns:
        The samples, fewer than asked for if the receiver ends before.
    """
    check_amount(duration, samples)
    found: list[T] = []
    begun = time.monotonic()
    end = math.inf if duration is None else begun + duration
    most = math.inf if samples is None else samples
    # A kernel that is interrupted has seen enough; a script's Ctrl-C is its end.
    enough = [KeyboardInterrupt] if is_jupyter() else []
    with progress(receiver.name) as bar, contextlib.suppress(*enough):
        while (now := time.monotonic()) < end and len(found) < most:
            try:
                found.append(receiver.receive(timeout=min(_SLICE, end - now)))
            except TimeoutError:
                # Time is shown to pass, whether something comes or not.
                pass
            except ReceiverStoppedError as stopped:
                _logger.warning("%s, after %d samples", stopped, len(found))
                break
            each(found)
            share = len(found) / most if duration is None else (now - begun) / duration
            bar.update(min(1.0, share), f"{len(found)} samples")
    bar.end(f"{len(found)} samples in {time.monotonic() - begun:.0f} s")
    return found
