"""Serves a simulated microgrid until Ctrl-C: ``microgrid-sync simulate``."""

import logging
import math
import shlex
import signal
import threading
from datetime import UTC, datetime

import click

from microgrid_sync.cli.examples import ExampleCommand
from microgrid_sync.simulator import Simulator, shipped_sites
from microgrid_sync.wire import API_NAMES


@click.command(
    cls=ExampleCommand,
    examples=(
        "simulate",
        "simulate --site house --speed 10 --start 2026-11-02T16:00:00Z",
        "simulate --site my_site.toml --port 0 --api v0.15",
    ),
)
@click.option(
    "--site",
    default="demo",
    show_default=True,
    help=f"A site that is shipped ({', '.join(shipped_sites())}), or the path of a TOML file.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
@click.option(
    "--port",
    default=8800,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The TCP port; 0 takes a free one.",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.0, 1e6, min_open=True),
    help="Seconds of the site's clock for each second.",
)
@click.option(
    "--start",
    help="When the site's clock begins, such as 2026-06-21T04:00:00Z, or now; in place of the "
    "site's own.",
)
@click.option("--seed", type=int, help="Takes the place of the site's own.")
@click.option(
    "--sample-interval",
    type=float,
    help="Seconds of the site's clock between two samples of every component.",
)
@click.option(
    "--api",
    default=",".join(API_NAMES),
    show_default=True,
    help="The generations of the API to speak, with commas between them.",
)
@click.option("--tls", is_flag=True, help="Encrypt, with a certificate that is made on the spot.")
@click.option("--verbose", "-v", is_flag=True, help="Say who connects, and which set-points come.")
def simulate(
    *,
    site: str,
    host: str,
    port: int,
    speed: float,
    start: str | None,
    seed: int | None,
    sample_interval: float | None,
    api: str,
    tls: bool,
    verbose: bool,
) -> None:
    """Serve a simulated microgrid until Ctrl-C.

    The first line of the output is the URL for clients; it comes once the server is ready.
    """
    if not math.isfinite(speed):
        raise click.BadParameter(f"{speed} is no speed", param_hint="--speed")
    if verbose:
        _log_calls()
    try:
        simulator = Simulator(
            site,
            host=host,
            port=port,
            speed=speed,
            start=None if start is None else _time(start),
            seed=seed,
            sample_interval=sample_interval,
            api=[name.strip() for name in api.split(",")],
            tls=tls,
        )
    except ValueError as error:
        if len(str(error).splitlines()) > 1:
            # A site with several mistakes: a line each.
            raise click.ClickException(str(error)) from error
        raise click.UsageError(str(error)) from error
    except (OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    try:
        # As process 1 of a container it has no default action for the signal that ends containers.
        signal.signal(signal.SIGTERM, _interrupt)
        with simulator:
            click.echo(simulator.url)
            hint = f"microgrid-sync trouble --url {shlex.quote(simulator.url)} --help"
            click.echo(f"Ctrl-C ends it; trouble is made with: {hint}", err=True)
            forever = threading.Event()
            # In slices: some platforms deliver Ctrl-C only between two waits.
            while not forever.wait(1.0):
                pass
    except OSError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)


def _log_calls() -> None:
    """Write what the simulator tells the log to the standard error output."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("microgrid_sync.simulator")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _time(text: str) -> datetime:
    if text == "now":
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        problem = f"{text!r} is neither 'now' nor a date and time with a UTC offset"
        raise click.BadParameter(problem, param_hint="--start")
    return time


COMMANDS = {"simulate": simulate}
