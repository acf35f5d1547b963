"""Starts and stops components: ``microgrid-sync start``, ``stop``, ``standby`` and ``ack``."""

import time
from collections.abc import Callable

import click

from microgrid_sync.cli import options
from microgrid_sync.cli.commanding import component_of, confirm, open_data, place
from microgrid_sync.cli.output import say, write_json
from microgrid_sync.cli.site import SiteCommand, connected
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.snapshot import in_words, state_of

_REACTION = 3.0
"""Seconds after which it is told what the component does."""

_Call = Callable[[MicrogridApiClient, int], None]


def _command(name: str, does: str, call: _Call, *, hot: bool = False) -> click.Command:
    """Make a command for one component."""

    @click.command(
        name,
        cls=SiteCommand,
        help=f"{does} a component, and say what state it is in then.",
        examples=(f"{name} 4 grpc://127.0.0.1:8800", f"{name} 4 --yes --json"),
    )
    @click.argument("component_id", type=int, metavar="ID")
    @options.yes
    @options.json_object
    @click.pass_context
    def command(
        ctx: click.Context, *, component_id: int, yes: bool, as_json: bool, hot: bool = False
    ) -> None:
        with connected(ctx) as client:
            component = component_of(client, component_id)
            confirm(f"{does}: {place(client, component)}?", yes=yes)
            receiver = open_data(client, component)
            if hot:
                client.standby(component_id, hot=True)
            else:
                call(client, component_id)
            value = None
            deadline = time.monotonic() + _REACTION
            while receiver is not None and (left := deadline - time.monotonic()) > 0:
                try:
                    value = receiver.receive(timeout=left)
                except (TimeoutError, ReceiverStoppedError):
                    break
        state = "" if value is None else state_of(value)
        if as_json:
            states = {
                key: None if (one := getattr(value, key, None)) is None else one.name.lower()
                for key in ("component_state", "cable_state")
            }
            write_json({"component_id": component_id, "command": name, **states})
            return
        now = f"; {_REACTION:g} s later: {state}, {in_words(value)}" if state else ""
        say(f"Done{now}")

    if hot:
        command.params.append(
            click.Option(["--hot"], is_flag=True, help="Ready to start at once (API v0.15).")
        )
    return command


COMMANDS = {
    "start": _command("start", "Start", MicrogridApiClient.start),
    "stop": _command("stop", "Stop", MicrogridApiClient.stop),
    "standby": _command("standby", "Bring to standby", MicrogridApiClient.standby, hot=True),
    "ack": _command("ack", "Acknowledge the error of", MicrogridApiClient.acknowledge_error),
}
