"""Serves a site to other systems: ``microgrid-sync gateway``."""

import json
from dataclasses import replace
from pathlib import Path

import click
from rich.text import Text

from microgrid_sync.cli.output import new_table, say, show
from microgrid_sync.cli.site import (
    LongCommand,
    site_timeout,
    site_url,
    sites_of,
    until_interrupted,
    wait_out,
)
from microgrid_sync.gateways import register_map
from microgrid_sync.gateways.commands import FIRST_HEARTBEAT
from microgrid_sync.gateways.config import (
    GatewayConfig,
    LimitTable,
    ModbusTable,
    MqttTable,
    SiteTable,
    load_gateways,
)
from microgrid_sync.gateways.listening import place_of
from microgrid_sync.gateways.register_map import Encoding
from microgrid_sync.gateways.service import KINDS, RunningGateways, running_gateways
from microgrid_sync.model.shown import escaped
from microgrid_sync.service import RunningSites, SitesConfig, running_sites
from microgrid_sync.tables import SiteError


@click.command(
    cls=LongCommand,
    many="own",
    examples=(
        "gateway all --config site.toml",
        "gateway prometheus grpc://127.0.0.1:8800",
        "gateway all --sites sites.toml --share 3/8",
        "gateway modbus --map",
    ),
)
@click.argument("kind", type=click.Choice([*KINDS, "all"]), metavar="modbus|mqtt|prometheus|all")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What is to be served, where, and who may command: a TOML file.",
)
@click.option("--map", "shows_map", is_flag=True, help="Print the map of Modbus registers.")
@click.option("--json", "as_json", is_flag=True, help="The map as JSON.")
@click.pass_context
def gateway(
    ctx: click.Context, *, kind: str, path: Path | None, shows_map: bool, as_json: bool
) -> None:
    """Serve a site to Modbus masters, an MQTT broker or Prometheus until Ctrl-C.

    "all" serves what FILE has tables for. Nothing is commanded unless FILE has commands = true.
    With --sites many are served, each for itself; "all" records them, too, if the list has a table
    [record].
    """
    sites = sites_of(ctx)
    if sites is not None and path is not None:
        raise click.UsageError("--sites and --config: a list of sites has it all", ctx)
    config = GatewayConfig(None, LimitTable(), None, None, None, Path())
    if path is not None:
        try:
            config = load_gateways(path)
        except SiteError as error:
            # All that is wrong, in one line.
            text = "; ".join(str(error).splitlines())
            raise click.UsageError(escaped(text), ctx) from error
    if shows_map:
        if kind not in {"modbus", "all"}:
            raise click.UsageError(f"--map is of modbus, not of {kind}", ctx)
        _show_map(config.modbus or ModbusTable(), as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json goes with --map", ctx)
    if sites is not None:
        _serve_many(ctx, sites, kind)
        return
    kinds = [kind] if kind != "all" else [one for one in KINDS if getattr(config, one) is not None]
    if not kinds:
        raise click.UsageError(
            "all of nothing: FILE needs a table [modbus], [mqtt] or [prometheus]", ctx
        )
    site = _site(ctx, config, path)
    with until_interrupted(), running_gateways(config, site, kinds) as running:
        for line in _lines(running, config):
            say(line, err=True)
        wait_out()
    kept = "; set-points stay as long as the server keeps them" if _commands(config, kinds) else ""
    say(f"Ended{kept}.", err=True)


def _serve_many(ctx: click.Context, config: SitesConfig, kind: str) -> None:
    """Serve a list of sites until Ctrl-C."""
    kinds = [kind]
    if kind == "all":
        tables = {
            "modbus": any(site.gateways.modbus for site in config.sites),
            "mqtt": any(site.gateways.mqtt for site in config.sites),
            "prometheus": config.prometheus,
            "record": config.record,
        }
        kinds = [one for one in tables if tables[one]]
        if not kinds and config.sites:
            raise click.UsageError(
                "all of nothing: the list needs a table [modbus], [mqtt], [prometheus] or [record]",
                ctx,
            )
    with until_interrupted(), running_sites(config, kinds) as running:
        for line in _lines_of_many(running, config):
            say(line, err=True)
        wait_out()
    say("Ended.", err=True)


def _lines_of_many(running: RunningSites, config: SitesConfig) -> list[str]:
    """Say what runs."""
    share = f", share {config.share}" if config.share else ""
    lines = [f"{len(config.sites)} sites{share}"]
    for name, one in running.gateways.items():
        site = next(site for site in config.sites if site.name == name)
        if one.modbus is not None:
            table = site.gateways.modbus or ModbusTable()
            place = place_of(table.host, one.modbus.port)
            lines.append(f"{name}: Modbus TCP {place}; {_may_command(table)}")
        if one.mqtt is not None:
            mqtt = site.gateways.mqtt or MqttTable()
            lines.append(f"{name}: MQTT broker {one.mqtt.place}; {_may_command(mqtt)}")
    if running.prometheus is not None:
        host = "127.0.0.1" if config.prometheus is None else config.prometheus.host
        place = place_of(host, running.prometheus.port)
        lines.append(f"Prometheus: http://{place}/metrics and /healthz, of all sites")
    if running.recorder is not None:
        lines.append(f"recording to {running.recorder.destination}")
    return [*lines, "Ctrl-C ends it."]


def _site(ctx: click.Context, config: GatewayConfig, path: Path | None) -> SiteTable:
    """Give the site: the one that was typed, or that of the configuration."""
    table = config.site
    if table is None:
        if path is not None and not ctx.meta.get("url"):
            raise click.UsageError(
                f"no site is given: {path} needs a table [site] with its url, or name the URL as "
                "an argument, with --url or in MICROGRID_URL",
                ctx,
            )
        return SiteTable(site_url(ctx), timeout=site_timeout(ctx))
    if ctx.meta.get("typed URL"):
        url = site_url(ctx)
        # Another site is not called what this one is.
        table = replace(table, url=url, name=table.name if url == table.url else None)
    return replace(table, timeout=site_timeout(ctx)) if "timeout" in ctx.meta else table


def _lines(running: RunningGateways, config: GatewayConfig) -> list[str]:
    """Say what runs."""
    url = running.site.client.server_url
    lines = [url if running.site.name in url else f"{running.site.name}: {url}"]
    if running.modbus is not None:
        table = config.modbus or ModbusTable()
        place = place_of(table.host, running.modbus.port)
        words = _may_command(table)
        lines.append(f"Modbus TCP: {place}, unit {table.unit_id}; {words}")
    if running.mqtt is not None:
        words = _may_command(config.mqtt or MqttTable())
        lines.append(f"MQTT: broker {running.mqtt.place}; {words}")
    if running.prometheus is not None:
        host = "127.0.0.1" if config.prometheus is None else config.prometheus.host
        place = place_of(host, running.prometheus.port)
        lines.append(f"Prometheus: http://{place}/metrics and /healthz")
    return [*lines, "Ctrl-C ends it."]


def _may_command(table: ModbusTable | MqttTable) -> str:
    if not table.commands:
        return "commands are refused"
    if table.safe_cap_w is None:
        return "commands are accepted"
    first = min(table.heartbeat_timeout, FIRST_HEARTBEAT)
    return (
        f"commands are accepted; without a heartbeat within {first:g} s, and every "
        f"{table.heartbeat_timeout:g} s, the chargers are capped at {table.safe_cap_w:g} W"
    )


def _commands(config: GatewayConfig, kinds: list[str]) -> bool:
    """Tell whether somebody may command."""
    tables = [table for table in (config.modbus, config.mqtt) if table is not None]
    is_limited = config.limit.max_current_a is not None
    return is_limited or any(table.commands for table in tables if table.kind in kinds)


def _show_map(table: ModbusTable, *, as_json: bool) -> None:
    encoding = Encoding(table.word_order, table.watts_per_count)
    inputs, holding = register_map.rows(encoding)
    if as_json:
        found = {
            "unit_id": table.unit_id,
            "word_order": table.word_order,
            "registers_of_a_charger": register_map.CHARGER_SIZE,
            "record": [field._asdict() for field in register_map.FIELDS],
            "input_registers": [row._asdict() for row in inputs],
            "holding_registers": [row._asdict() for row in holding],
        }
        click.echo(json.dumps(found, indent=1))
        return
    order = "the higher half first" if table.word_order == "big" else "the lower half first"
    show(Text(f"Unit {table.unit_id}; numbers of 32 bits: {order}; addresses count from 0.\n"))
    fields = new_table("of a record", "registers", "type", "meaning", right=["registers"])
    for field in register_map.FIELDS:
        fields.add_row(f"+ {field.offset}", str(field.length), field.kind, field.text)
    show(fields)
    for title, rows in (("input register", inputs), ("holding register", holding)):
        found_rows = new_table(title, "registers", "type", "meaning", right=["registers"])
        for row in rows:
            found_rows.add_row(row.place(), str(row.length), row.type_in_words(), row.text)
        show(Text(""))
        show(found_rows)
        for row in rows:
            if row.codes is not None:
                codes = ", ".join(f"{number} {name}" for name, number in row.codes.items())
                show(Text(f"{row.text.removeprefix('charger n: ')}: {codes}".replace("_", " ")))


COMMANDS = {"gateway": gateway}
