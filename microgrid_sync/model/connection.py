"""Defines how components are connected."""

from dataclasses import dataclass

from microgrid_sync.model.shown import Tabular


@dataclass(frozen=True, repr=False)
class Connection(Tabular):
    """A connection between two components; it points away from the grid."""

    start: int
    """The number of the component nearer to the grid."""

    end: int
    """The number of the component farther from the grid."""

    def is_valid(self) -> bool:
        """Tell whether the numbers make sense.

        Returns:
            True if the start is 0 or more, the end is more than 0, and they differ.
        """
        return self.start >= 0 and self.end > 0 and self.start != self.end
