"""Offers the commands for the terminal, one file each. They need the extra ``cli``."""

import importlib

import click

from microgrid_sync._version import __version__

_COMMANDS = {
    "demo": "List a microgrid, follow its data, and command it.",
    "simulate": "Serve a simulated microgrid until Ctrl-C.",
    "trouble": "Make something go wrong at a running simulator.",
}
"""The commands, each in the module of its name; what ``--help`` says of them."""


class _Commands(click.Group):
    """Commands that are loaded when they are run: ``--help`` waits for none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; ``None`` if there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"microgrid_sync.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands)
@click.version_option(__version__)
def cli() -> None:
    """Read, command and simulate microgrids over the Frequenz Microgrid API."""


__all__ = ["cli"]
