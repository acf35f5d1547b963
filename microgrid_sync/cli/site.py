"""What all commands have in common that speak to a site: its URL, its errors, its log."""

import contextlib
import ipaddress
import logging
import math
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import click

from microgrid_sync.cli import options
from microgrid_sync.cli.examples import ExampleCommand, ExampleGroup
from microgrid_sync.cli.failures import plain_failures
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.exceptions import (
    ApiClientError,
    GrpcError,
    OperationTimedOut,
    ServiceUnavailable,
)
from microgrid_sync.model.shown import escaped
from microgrid_sync.receiver import ReceiverStoppedError
from microgrid_sync.tables import SiteError
from microgrid_sync.transport.channel import parse_url

if TYPE_CHECKING:
    from microgrid_sync.service.sites import SiteConfig, SitesConfig

Many = Literal["one", "each", "own"]
"""What a command does with a list of sites: it is for one of them, it is run for each, or it has a
way of its own."""

_NO_URL = (
    "no site is given: name its URL, such as grpc://127.0.0.1:8800, as an argument, with --url or "
    "in MICROGRID_URL; 'microgrid-sync simulate' serves one to try"
)
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}")
_NEGATIVE = re.compile(r"-[\d.]")

_SLICE = 1.0
"""Seconds of one wait: as late may a signal be seen."""

_SAME_SIGNAL = 1.0
"""Seconds within which a second signal means what the first one did."""

DEFAULT_TIMEOUT = 10.0
"""Seconds for a call unless told otherwise."""


class _AtSite(click.Command):
    """Has the options for a site, whose URL may stand anywhere among the arguments."""

    logs = False
    """Whether what the client logs is shown: for commands that run for long."""

    def __init__(self, *args: Any, many: Many | None = "one", **keywords: Any) -> None:
        """Make a command, with the options for the site.

        Args:
            *args: As click has them.
            many: What it does with a list of sites; ``None`` if it takes none.
            **keywords: As click has them.
        """
        super().__init__(*args, **keywords)
        self._many = many
        self.params += _site_options()
        if many is not None:
            self.params += _list_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, among them a URL and negative numbers."""
        try:
            return super().parse_args(ctx, _prepared(ctx, args))
        except click.UsageError as error:
            extra = re.match(r"Got unexpected extra arguments? \((\S+)\)", error.message)
            if extra is None:
                raise
            raise click.UsageError(f"{error.message}{_hint(extra[1])}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; say in words what goes wrong."""
        with _log(shown=self.logs), failures_in_words(ctx):
            config = _listed_sites(ctx)
            if config is None or self._many == "own":
                return super().invoke(ctx)
            if self._many == "each" and len(config.sites) != 1:
                return self._for_each(ctx, config)
            if len(config.sites) != 1:
                raise click.UsageError(
                    f"it is for one site, and the list has {len(config.sites)}: name it with "
                    "--site",
                    ctx,
                )
            go_to(ctx, config.sites[0])
            return super().invoke(ctx)

    def _for_each(self, ctx: click.Context, config: "SitesConfig") -> None:
        """Run it for one site after the other; what fails at one is said, and is the exit code."""
        if ctx.params.get("watch"):
            raise click.UsageError("--watch shows one site: name it with --site", ctx)
        failed = False
        for number, site in enumerate(config.sites):
            go_to(ctx, site)
            if not ctx.params.get("as_json"):
                click.echo(f"{'' if number == 0 else chr(10)}{site.name}: {site.table.url}")
            try:
                with failures_in_words(ctx):
                    super().invoke(ctx)
            except click.exceptions.Exit as end:
                failed = failed or end.exit_code != 0
            except click.ClickException as error:
                failed = True
                click.echo(f"Error: {site.name}: {error.format_message()}", err=True)
        if failed:
            ctx.exit(1)


class SiteCommand(_AtSite, ExampleCommand):
    """A command that speaks to a site."""


class LongCommand(SiteCommand):
    """One that runs until somebody ends it, and shows what the client logs meanwhile."""

    logs = True


class SiteGroup(_AtSite, ExampleGroup):
    """Commands that speak to one site; the URL may stand before or behind their names."""

    logs = True


def go_to(ctx: click.Context, site: "SiteConfig") -> None:
    """Make a site of the list the one that is meant."""
    ctx.meta["url"], ctx.meta["site name"] = site.table.url, site.name
    if "typed timeout" not in ctx.meta:
        ctx.meta["timeout"] = site.table.timeout


def _listed_sites(ctx: click.Context) -> "SitesConfig | None":
    """Read the list of sites; ``None`` if none is given.

    Raises:
        click.UsageError: If something is wrong with it, or it has none of the sites asked for.
    """
    path = ctx.meta.get("sites file")
    if path is None:
        for name in ("site names", "share"):
            if name in ctx.meta:
                option = "--share" if name == "share" else "--site"
                raise click.UsageError(f"{option} is a part of a list: give it with --sites", ctx)
        return None
    if "typed URL" in ctx.meta:
        raise click.UsageError("--sites and a URL: one of them", ctx)
    # Reading it takes the gateways, which few commands need.
    from microgrid_sync.service.sites import load_sites, share_of  # noqa: PLC0415

    known: SitesConfig | None = ctx.meta.get("sites")
    if known is None:
        try:
            known = load_sites(path)
        except SiteError as error:
            # All that is wrong, in one line.
            raise click.UsageError(escaped("; ".join(str(error).splitlines())), ctx) from error
        if "share" in ctx.meta:
            known = known.shared(share_of(ctx.meta["share"]))
        if "site names" in ctx.meta:
            known = known.chosen(ctx.meta["site names"])
        ctx.meta["sites"] = known
    return known


def sites_of(ctx: click.Context) -> "SitesConfig | None":
    """Give the list of sites that a command which serves many is for; ``None`` for one site."""
    found: SitesConfig | None = ctx.meta.get("sites")
    return found


def _list_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--sites"],
            metavar="FILE",
            type=click.Path(dir_okay=False),
            expose_value=False,
            callback=_keep("sites file"),
            help="A list of sites, TOML, in place of a URL.",
        ),
        click.Option(
            ["--site"],
            metavar="NAME",
            multiple=True,
            expose_value=False,
            callback=_keep("site names"),
            help="Of the list; repeatable.",
        ),
        click.Option(
            ["--share"],
            metavar="K/N",
            expose_value=False,
            callback=_keep("share"),
            help="The K-th of N parts of the list, such as 3/8.",
        ),
    ]


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        del parameter
        # A group and its command have the options both.
        if value:
            ctx.meta[name] = value

    return keep


def _site_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--url"],
            envvar="MICROGRID_URL",
            show_envvar=True,
            metavar="URL",
            expose_value=False,
            callback=_keep_url,
            help="The site, such as grpc://host:9090; may also be given as an argument.",
        ),
        click.Option(
            ["--timeout"],
            type=options.Finite(0.0, 3600.0, min_open=True),
            metavar="SECONDS",
            expose_value=False,
            callback=_keep_timeout,
            help=f"For each call to the site ({DEFAULT_TIMEOUT:g}).",
        ),
    ]


def _keep_url(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    from_environment = ctx.get_parameter_source(parameter.name or "") is (
        click.core.ParameterSource.ENVIRONMENT
    )
    # One that was typed, before a command's name or behind it, is meant.
    if value is None or (from_environment and "url" in ctx.meta):
        return
    if not from_environment:
        before = ctx.meta.setdefault("typed URL", value)
        if before != value:
            raise click.UsageError(f"two sites are given: {before} and {value}", ctx)
    ctx.meta["url"] = value


def _keep_timeout(ctx: click.Context, parameter: click.Parameter, value: float | None) -> None:
    del parameter
    if value is not None:
        ctx.meta["timeout"] = ctx.meta["typed timeout"] = value


def _prepared(ctx: click.Context, args: list[str]) -> list[str]:
    """Make options of URLs among the arguments, and let negative numbers be arguments."""
    ctx.ignore_unknown_options = any(_NEGATIVE.match(arg) for arg in args)
    rest: list[str] = []
    urls: list[str] = []
    for number, arg in enumerate(args):
        is_value = bool({*args[number - 1 : number]} & {"--url", "--to"})
        is_url = "://" in arg and not arg.startswith(("-", "postgres"))
        if is_url and not is_value:
            urls.append(arg)
        elif _HOST_AND_PORT.fullmatch(arg) and not is_value:
            raise click.UsageError(f"{arg!r} is no URL; did you mean grpc://{arg}?", ctx)
        else:
            rest.append(arg)
    named = [rest[n + 1] for n, arg in enumerate(rest[:-1]) if arg == "--url"]
    named += [arg.removeprefix("--url=") for arg in rest if arg.startswith("--url=")]
    given = list(dict.fromkeys([*urls, *named]))
    if len(given) > 1:
        raise click.UsageError(f"two sites are given: {given[0]} and {given[1]}", ctx)
    return [part for url in urls for part in ("--url", url)] + rest


def site_url(ctx: click.Context) -> str:
    """Give the URL of the site, checked.

    Raises:
        click.UsageError: If there is none, or it is none.
    """
    url = ctx.meta.get("url")
    if not url:
        raise click.UsageError(_NO_URL, ctx)
    try:
        parse_url(url)
    except ValueError as error:
        raise click.UsageError(f"{error}{_hint(url)}", ctx) from error
    return str(url)


def _hint(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if separator and scheme in {"http", "https", "grpcs", "tcp", "dns"} and rest:
        place, _, more = rest.partition("/")
        secure = "?ssl=on" if scheme in {"https", "grpcs"} and "?" not in rest else ""
        query = f"?{more.partition('?')[2]}" if "?" in more else ""
        return f"; did you mean grpc://{place}{query or secure}?"
    if not separator and _is_host(url):
        return f"; did you mean grpc://{url}?"
    return ""


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", text) is not None
    return True


def site_timeout(ctx: click.Context) -> float:
    """Give the seconds for each call."""
    return float(ctx.meta.get("timeout", DEFAULT_TIMEOUT))


@contextlib.contextmanager
def connected(ctx: click.Context) -> Iterator[MicrogridApiClient]:
    """Give a client of the site, which is disconnected in the end."""
    url = site_url(ctx)
    with MicrogridApiClient(url, timeout=site_timeout(ctx)) as client:
        yield client


@contextlib.contextmanager
def failures_in_words(ctx: click.Context) -> Iterator[None]:
    """Turn what goes wrong into one line: a server's or network's failure, or wrong usage."""
    with plain_failures(ctx):
        try:
            yield
        except (ServiceUnavailable, OperationTimedOut) as error:
            raise click.ClickException(_unreachable(ctx, error)) from error
        except (ApiClientError, ReceiverStoppedError) as error:
            raise click.ClickException(escaped(str(error) or type(error).__name__)) from error


def _unreachable(ctx: click.Context, error: GrpcError) -> str:
    """Say that nothing has come back, and why, without gRPC's own way to it."""
    if isinstance(error, OperationTimedOut):
        why = f"no answer within {site_timeout(ctx):g} s"
    else:
        # The last of gRPC's reasons is the operating system's.
        details = error.grpc_error.details() or ""
        parts = ["TLS fails"] if "handshake" in details.lower() else details.split(": ")
        why = next((p for p in reversed(parts) if p not in {"", "OK"}), "it says no more").strip(
            "]"
        )
        code = error.grpc_error.code()
        why += "" if code is None else f" ({code.name})"
    url = ctx.meta.get("url", error.server_url)
    return escaped(f"{url} cannot be reached: {why}; 'microgrid-sync doctor' finds out more")


@contextlib.contextmanager
def _log(*, shown: bool) -> Iterator[None]:
    """Write what the client logs to the error output; or not: the error's own line says it."""
    logger = logging.getLogger("microgrid_sync")
    before = logger.level, logger.handlers[:], logger.propagate
    handler: logging.Handler = _ToErrorOutput() if shown else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    try:
        yield
    finally:
        level, logger.handlers[:], logger.propagate = before
        logger.setLevel(level)


class _ToErrorOutput(logging.StreamHandler[Any]):
    """Writes where the standard error output goes now: a live table takes it over for a while."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Go on until Ctrl-C, or a signal that ends services, which are the ordinary end here.

    What comes within a second after the first is the same one: shells and supervisors signal a
    process and its group. Later ones end the command at once.
    """
    first = math.inf

    def interrupt(*_: object) -> None:
        nonlocal first
        now = time.monotonic()
        if first < now <= first + _SAME_SIGNAL:
            return
        first = min(first, now)
        raise KeyboardInterrupt

    known = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {number: signal.signal(number, interrupt) for number in known if number is not None}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    # Not before the command has ended in good order.
    click.get_current_context().call_on_close(restore)
    with contextlib.suppress(KeyboardInterrupt):
        yield


def wait_out(seconds: float | None = None) -> None:
    """Wait until a signal ends it, or for so long; for services that work in other threads."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        # A signal that comes a moment before a wait, or to another thread, does not end that one.
        threading.Event().wait(min(left, _SLICE))


@contextlib.contextmanager
def until_written(ctx: click.Context) -> Iterator[None]:
    """Go on until the output cannot be written: what follows is done then, too.

    Where it is full, and not closed by who has seen enough, that is said, and is the exit code.
    """
    try:
        yield
    except BrokenPipeError:
        return
    except OSError as error:
        click.echo(f"the output cannot be written: {error}", err=True)
        ctx.meta["exit code"] = 1
