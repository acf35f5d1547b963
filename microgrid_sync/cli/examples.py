"""Writes examples below the help of commands."""

from typing import Any

import click


def write_examples(formatter: click.HelpFormatter, *lines: str) -> None:
    """Write lines that can be copied."""
    if not lines:
        return
    with formatter.section("Examples" if len(lines) > 1 else "Example"):
        for line in lines:
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class ExampleCommand(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **keywords: Any) -> None:
        """Make a command.

        Args:
            *args: As click has them.
            examples: What is typed behind ``microgrid-sync``.
            **keywords: As click has them.
        """
        super().__init__(*args, **keywords)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        del ctx
        write_examples(formatter, *(f"microgrid-sync {line}" for line in self._examples))


class ExampleGroup(click.Group):
    """Commands whose common help ends with examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **keywords: Any) -> None:
        """Make a group: see `ExampleCommand`."""
        super().__init__(*args, **keywords)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        del ctx
        write_examples(formatter, *(f"microgrid-sync {line}" for line in self._examples))
