"""The commands for the terminal, one file each. They need the extra ``cli``."""

import click

from microgrid_sync._version import __version__
from microgrid_sync.cli.demo import demo
from microgrid_sync.cli.simulate import simulate
from microgrid_sync.cli.trouble import trouble


@click.group()
@click.version_option(__version__)
def cli() -> None:
    """Read, command and simulate microgrids over the Frequenz Microgrid API."""


cli.add_command(demo)
cli.add_command(simulate)
cli.add_command(trouble)

__all__ = ["cli"]
