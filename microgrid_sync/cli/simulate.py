"""``microgrid-sync simulate``: serve a simulated microgrid until Ctrl-C."""

import threading

import click

from microgrid_sync.simulator import Simulator


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
@click.option(
    "--port",
    default=8800,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The TCP port; 0 takes a free one.",
)
def simulate(host: str, port: int) -> None:
    """Serve a simulated microgrid until Ctrl-C.

    The first line of the output is the URL for clients; it comes once the server is ready.
    """
    try:
        with Simulator(host=host, port=port) as simulator:
            click.echo(simulator.url)
            click.echo("Ctrl-C ends it.", err=True)
            forever = threading.Event()
            # In slices: some platforms deliver Ctrl-C only between two waits.
            while not forever.wait(1.0):
                pass
    except OSError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
