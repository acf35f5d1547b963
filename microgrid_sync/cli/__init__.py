"""Offers the commands for the terminal. They need the extra ``cli``."""

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from microgrid_sync._version import __version__
from microgrid_sync.cli.examples import write_examples

_SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Look": {
        "info": ("info", "Say what a site is, where, and how far away."),
        "list": ("list_", "List the components."),
        "connections": ("connections", "List the connections between components."),
        "tree": ("tree", "Draw the site as a tree, with what it measures now."),
        "stream": ("stream", "Show what components send."),
        "watch": ("watch", "Watch a whole site on one screen."),
        "record": ("record", "Record sites into files or a database."),
        "report": ("report", "Sum up a day of a recording."),
        "gaps": ("report", "Show when a recording has nothing, and why."),
        "doctor": ("doctor", "Find out what is wrong between here and a site."),
    },
    "Command": {
        "set-power": ("set_power", "Set the active power of a component."),
        "set-reactive-power": ("set_power", "Set the reactive power of a component."),
        "set-bounds": ("set_bounds", "Narrow the power that a component may be set to."),
        "start": ("states", "Start a component."),
        "stop": ("states", "Stop a component."),
        "standby": ("states", "Bring a component to standby."),
        "ack": ("states", "Acknowledge a component's error."),
        "pool": ("pool", "Show the EV chargers as one, or cap their power."),
        "limit": ("limit", "Hold EV chargers under a fuse."),
    },
    "Serve": {
        "gateway": ("gateway", "Serve a site to Modbus, MQTT or Prometheus."),
    },
    "Simulate": {
        "demo": ("demo", "List a microgrid, follow its data, and command it."),
        "simulate": ("simulate", "Serve a simulated microgrid until Ctrl-C."),
        "trouble": ("trouble", "Make something go wrong at a running simulator."),
    },
}
"""The commands: the module of each, and what ``--help`` says of it."""

_COMMANDS = {name: told for commands in _SECTIONS.values() for name, told in commands.items()}

_INTERRUPTED = 130
"""The exit code of what Ctrl-C has ended before it was done, as shells have it."""


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
        module = importlib.import_module(f"microgrid_sync.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.COMMANDS[cmd_name]
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; a site that is named before the command belongs behind it."""
        number = next((n for n, arg in enumerate(args) if arg in _COMMANDS), 0)
        before = args[:number]
        if any("://" in arg for arg in before) or "--url" in before:
            args = [args[number], *args[number + 1 :], *before]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without loading them."""
        del ctx
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what to begin with."""
        del ctx
        write_examples(
            formatter,
            "microgrid-sync demo",
            "microgrid-sync simulate &",
            "microgrid-sync watch grpc://127.0.0.1:8800",
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest one that is spelled nearly so."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only who mistypes waits for it

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; end quietly if nobody reads its output any more."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _to_nowhere(sys.stdout)
            return None
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; say in one line what is wrong, and end with the exit code of it."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        # Before gRPC is loaded: its core writes notes of its own beside ours.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Whoever starts a command may have closed them.
        sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until the end
        sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - likewise
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # Where the terminal has no letter for something: better than nothing.
                stream.reconfigure(errors="replace")
        sys.exit(self._run(args, prog_name, complete_var, extra))

    def _run(self, *arguments: Any) -> int:
        try:
            code = self._outcome(*arguments)
        except OSError as error:
            code = 1
            _say_error(f"the output cannot be written: {error}")
        try:
            sys.stdout.flush()
        except OSError as error:
            # It has been said; Python would say it once more at its end.
            _to_nowhere(sys.stdout)
            code = code or int(not isinstance(error, BrokenPipeError))
        return code

    def _outcome(
        self,
        args: Sequence[str] | None,
        prog_name: str | None,
        complete_var: str | None,
        extra: dict[str, Any],
    ) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return 2
        except click.ClickException as error:
            text = error.format_message()
            if isinstance(error, click.UsageError):
                help_of = None if error.ctx is None else error.ctx.command_path
                more = f" ({help_of} --help tells more)" if help_of else ""
                text = " ".join(text.split()) + more
            _say_error(text)
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return _INTERRUPTED
        return code if isinstance(code, int) else 0


def _to_nowhere(stream: Any) -> None:
    """Let what Python still wants to write go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say_error(text: str) -> None:
    try:
        click.echo(f"Error: {text}", err=True)
    except OSError:
        _to_nowhere(sys.stderr)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Read, command and simulate microgrids over the Frequenz Microgrid API.

    A site is given by its URL, such as grpc://microgrid.example:9090, as an argument, with --url,
    or in the environment variable MICROGRID_URL. Without a site, "simulate" serves one to try.
    """


__all__ = ["cli"]
