"""Says the version of the package: the only place that does."""

__version__ = "0.2.0"
