"""Makes tables of pandas of samples, components and reports."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from microgrid_sync.model.shown import Tabular
from microgrid_sync.notebook.collecting import check_amount, collect
from microgrid_sync.notebook.rows import rows_of
from microgrid_sync.receiver import Receiver

if TYPE_CHECKING:
    import pandas as pd


def _pandas() -> Any:
    try:
        import pandas as pd  # noqa: PLC0415 - an extra that not everybody has
    except ImportError as error:
        raise ImportError(
            "tables need pandas; install it with the extra 'notebook': "
            "pip install 'microgrid_sync[notebook]'"
        ) from error
    return pd


def to_dataframe(samples: Iterable[Any] | Tabular) -> "pd.DataFrame":
    """Make a table of samples, components, connections, sensors or reports.

    Args:
        samples: What has a ``to_dict()``; one or several.

    Returns:
        A table with a row of each, in their order. Columns have their units in their names. Where
            there are times they are the index, in UTC (``frame.tz_convert("Europe/Berlin")`` has
            them in another zone); components have their IDs.

    Raises:
        ImportError: If pandas is not installed.
        TypeError: If there are no rows of one of them, or it is a receiver, which may go on for
            ever.
    """
    if isinstance(samples, Receiver):
        raise TypeError(
            "a receiver may go on for ever; use receiver.to_dataframe(duration=...), or samples=..."
        )
    if isinstance(samples, Tabular):
        samples = [samples]
    if not isinstance(samples, Iterable):
        raise TypeError(f"to_dataframe() takes samples, components or reports, not {samples!r}")
    pandas = _pandas()
    frame = pandas.DataFrame(rows_of(samples))
    for index in ("timestamp", "component_id", "sensor_id"):
        if index in frame.columns:
            return frame.set_index(index)
    return frame


def collected(
    receiver: Receiver[Any], duration: float | None, samples: int | None
) -> "pd.DataFrame":
    """Make a table of what a receiver gives; see `Receiver.to_dataframe`."""
    check_amount(duration, samples)
    # Before anything is waited for.
    _pandas()
    return to_dataframe(collect(receiver, duration, samples))
