"""Says in one line what goes wrong, where no site is asked."""

import contextlib
from collections.abc import Iterator

import click

from microgrid_sync.model.shown import escaped


@contextlib.contextmanager
def plain_failures(ctx: click.Context) -> Iterator[None]:
    """Turn what the system or a file refuses, or wrong usage, into one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (TimeoutError, ImportError, OSError) as error:
        raise click.ClickException(_line(error)) from error
    except (ValueError, TypeError) as error:
        # What the package refuses, such as the ID of a component that is not there.
        raise click.UsageError(_line(error), ctx) from error


def _line(error: Exception) -> str:
    return escaped(str(error) or type(error).__name__)
