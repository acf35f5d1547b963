"""Says what a site is: ``microgrid-sync info``."""

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click

from microgrid_sync.cli import options
from microgrid_sync.cli.output import new_table, say, show, write_json
from microgrid_sync.cli.site import SiteCommand, connected, site_timeout, site_url
from microgrid_sync.client import MicrogridApiClient
from microgrid_sync.model import ComponentCategory
from microgrid_sync.notebook.columns import jsonable
from microgrid_sync.notebook.rows import row_of
from microgrid_sync.topology import Topology, counted, kind_of
from microgrid_sync.transport.channel import parse_url

_ROUNDS = 3
"""So many questions tell how far away the site is."""


@click.command(cls=SiteCommand, many="each", examples=("info grpc://127.0.0.1:8800", "info --json"))
@options.json_object
@click.pass_context
def info(ctx: click.Context, *, as_json: bool) -> None:
    """Say what a site is, where, which API it speaks, how far away it is, and what is on it."""
    url = site_url(ctx)
    with connected(ctx) as client:
        # The first answer, with the API found out, is no measure of the way.
        client.components(timeout=site_timeout(ctx))
        found = _found(url, client)
    if as_json:
        write_json(found)
    else:
        _show(found)


def _found(url: str, client: MicrogridApiClient) -> dict[str, Any]:
    took = []
    for _ in range(_ROUNDS):
        begun = time.monotonic()
        metadata = client.metadata()
        took.append(time.monotonic() - begun)
    topology = Topology(client.components(), client.connections())
    zone = None if metadata.location is None else metadata.location.timezone
    fuse = topology.fuse()
    return {
        "url": url,
        **jsonable(row_of(metadata)),
        "local_time": datetime.now(UTC).astimezone(zone or UTC).isoformat(timespec="seconds"),
        "api": client.api,
        "round_trip_ms": round(min(took) * 1000, 2),
        "tls": parse_url(url).options.ssl.enabled,
        "fuse_a": None if fuse is None else fuse.max_current,
        "kinds": dict(sorted(Counter(map(kind_of, topology.components())).items())),
        "components": {
            category.name.lower(): len(topology.components(category))
            for category in ComponentCategory
            if topology.components(category)
        },
        "problems": list(topology.problems()),
    }


def _show(found: dict[str, Any]) -> None:
    place = "not known"
    if found["latitude_degrees"] is not None and found["longitude_degrees"] is not None:
        place = coordinates(found["latitude_degrees"], found["longitude_degrees"])
    number = "not known" if found["microgrid_id"] is None else str(found["microgrid_id"])
    zone = found["timezone"] or "UTC; the site's zone is not known"
    listed = ", ".join(counted(count, kind) for kind, count in found["kinds"].items())
    table = new_table("", "")
    table.show_header = False
    rows = {
        "site": found["url"],
        "microgrid": number,
        "place": place,
        "time there": f"{found['local_time'].replace('T', ' ')[:19]} ({zone})",
        "API": found["api"],
        "round trip": f"{found['round_trip_ms']:.1f} ms",
        "TLS": "yes" if found["tls"] else "no; nothing is encrypted",
        "fuse": "not known" if found["fuse_a"] is None else f"{found['fuse_a']:g} A",
        "components": listed or "none",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    show(table)
    for problem in found["problems"]:
        say(f"problem: {problem}")


def coordinates(latitude: float, longitude: float) -> str:
    """Write a place down."""
    north = "S" if latitude < 0 else "N"
    east = "W" if longitude < 0 else "E"
    return f"{abs(latitude):.4f} {north}, {abs(longitude):.4f} {east}"


COMMANDS = {"info": info}
