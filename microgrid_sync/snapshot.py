"""Takes one value of each of several components: what a site measures now."""

import math
import time
from collections.abc import Iterable
from typing import Any

from microgrid_sync.client import MicrogridApiClient, receive_any
from microgrid_sync.exceptions import ApiClientError
from microgrid_sync.model import BatteryData, Component, ComponentCategory
from microgrid_sync.model.data import HAS_DATA
from microgrid_sync.model.shown import kilowatts, number, words
from microgrid_sync.model.telemetry import Telemetry
from microgrid_sync.model.telemetry_codes import Metric
from microgrid_sync.receiver import Receiver, ReceiverStoppedError, merge

_MOST_OF_A_SECOND = 4
"""Values of a component that may come before the first of another."""


def has_data(component: Component, api: str | None) -> bool:
    """Tell whether a component may send something."""
    if component.category in HAS_DATA:
        return True
    if component.category is ComponentCategory.GRID or component.provides_telemetry is False:
        return False
    return api != "v0.15"


def open_all(
    client: MicrogridApiClient, components: Iterable[Component], maxsize: int
) -> Receiver[Any] | None:
    """Receive what components send, as one; ``None`` if none of them sends anything.

    Args:
        client: The client.
        components: The components; those that send nothing are left out.
        maxsize: How many values of each are held.
    """
    receivers: list[Receiver[Any]] = []
    try:
        for component in components:
            if has_data(component, client.api):
                receivers.append(receive_any(client, component.component_id, maxsize))  # noqa: PERF401 - those before one that fails are closed
    except BaseException:
        for receiver in receivers:
            receiver.close()
        raise
    return merge(*receivers) if receivers else None


def snapshot(
    client: MicrogridApiClient, components: Iterable[Component], timeout: float
) -> dict[int, Any]:
    """Wait for a value of each component.

    Args:
        client: The client.
        components: The components; those that send nothing are left out.
        timeout: Seconds; who has sent nothing by then is left out.

    Returns:
        The values, by ID.
    """
    wanted = [c for c in components if has_data(c, client.api)]
    found: dict[int, Any] = {}
    receiver = open_all(client, wanted, _MOST_OF_A_SECOND)
    if receiver is None:
        return found
    deadline = time.monotonic() + timeout
    with receiver:
        while len(found) < len(wanted) and (left := deadline - time.monotonic()) > 0:
            try:
                value = receiver.receive(timeout=left)
            except (TimeoutError, ReceiverStoppedError, ApiClientError):
                break
            found[value.component_id] = value
    return found


def active_power(value: Any) -> float:
    """Give the active power of a value in W; NaN if there is none."""
    if isinstance(value, Telemetry):
        for metric in (Metric.AC_POWER_ACTIVE, Metric.DC_POWER):
            sample = value.metrics.get(metric)
            if sample is not None:
                return sample.value
        return math.nan
    return float(getattr(value, "active_power", math.nan))


def in_words(value: Any) -> str:
    """Say what a component measures, in a few letters: its power, or how full a battery is."""
    if isinstance(value, BatteryData):
        return "-" if math.isnan(value.soc) else f"{number(value.soc, 1)} %"
    return kilowatts(active_power(value))


def state_of(value: Any) -> str:
    """Give the state of a component in words; for chargers that of the cable, too."""
    states = [getattr(value, name, None) for name in ("component_state", "cable_state")]
    # What a server does not say is nothing to show.
    said = (state.name for state in states if state is not None and state.name != "UNSPECIFIED")
    return ", ".join(map(words, said))
