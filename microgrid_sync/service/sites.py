"""Reads which sites there are, and what is to be done with them: ``sites.toml``."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from microgrid_sync.gateways.config import (
    TABLES,
    GatewayConfig,
    PrometheusTable,
    SiteTable,
    load_toml,
    read_gateways,
)
from microgrid_sync.recording.destination import destination_of
from microgrid_sync.recording.files import SUFFIXES
from microgrid_sync.recording.schema import WHAT, What
from microgrid_sync.tables import (
    Mistakes,
    PositiveSeconds,
    ReadBy,
    SiteError,
    Text,
    did_you_mean,
    none_of,
    read_table,
    shown,
)

_OF_A_SITE = ("limit", "modbus", "mqtt")
"""The tables that a site may have of its own."""

_SHARE = re.compile(r"\s*(\d{1,6})\s*(?:/|of)\s*(\d{1,6})\s*")


def _destination(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a folder or a database, not {shown(value)}")
    if "://" not in value:
        if Path(value).suffix.lower() in SUFFIXES:
            raise ValueError(f"must be a folder or a database, and no file such as {shown(value)}")
        # Where it is, is known later; that it is a folder is said by the end of its name.
        return f"{value.rstrip('/')}/"
    destination_of(value)
    return value


def _what(value: object) -> tuple[What, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"must be some of {', '.join(WHAT)}, not {shown(value)}")
    for one in given:
        if one not in WHAT:
            raise ValueError(none_of(one, WHAT))
    return tuple(given)


@dataclass(frozen=True)
class RecordTable:
    """``[record]``: where all sites are recorded."""

    kind: ClassVar[str] = "record"

    to: Annotated[str, ReadBy(_destination)]
    """A folder for Parquet files, such as ``"data/"``, or a database such as
    ``"postgresql://user@host/database"``."""

    what: Annotated[tuple[What, ...], ReadBy(_what)] = WHAT
    """Some of ``samples``, ``totals``, ``results`` and ``set-points``; all of it unless given."""

    every: PositiveSeconds | None = None
    """One sample of each component in so many seconds; all of them unless given."""

    spool: Text | None = None
    """The file that keeps what the destination does not have yet."""

    period: Literal["hour", "day"] = "hour"
    """How much a Parquet file holds."""


@dataclass(frozen=True)
class SiteConfig:
    """One of several sites."""

    name: str
    table: SiteTable
    gateways: GatewayConfig
    """What its gateways are to do, by what all have and what it has of its own."""


@dataclass(frozen=True)
class SitesConfig:
    """Several sites, and what is done with them."""

    sites: tuple[SiteConfig, ...]
    prometheus: PrometheusTable | None
    record: RecordTable | None
    folder: Path
    """What the paths of files are relative to."""

    share: "Share | None" = None
    """Which share of a list this is; ``None`` for all of it."""

    def chosen(self, names: Iterable[str]) -> "SitesConfig":
        """Give those of some names.

        Raises:
            ValueError: If there is none of a name.
        """
        known = [site.name for site in self.sites]
        wanted = list(names)
        for name in wanted:
            if name not in known:
                raise ValueError(f"there is no site {shown(name)}{_listed(name, known)}")
        return replace(self, sites=tuple(site for site in self.sites if site.name in wanted))

    def shared(self, share: "Share") -> "SitesConfig":
        """Give a share: of each site's place in the list, counted round."""
        mine = self.sites[share.part - 1 :: share.of]
        return replace(self, sites=mine, share=share)


def _listed(name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known)
    return hint or f"; there are {', '.join(known[:_MOST_NAMES])}" + (
        f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
    )


_MOST_NAMES = 10


class Share(NamedTuple):
    """One of several parts of a list of sites."""

    part: int
    """From 1."""

    of: int

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.part}/{self.of}"


def share_of(text: str) -> Share:
    """Read a share, such as ``3/8``.

    Raises:
        ValueError: If it is none.
    """
    found = _SHARE.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text)} is no share; the third of eight is 3/8")
    part, of = int(found[1]), int(found[2])
    if not 1 <= part <= of:
        raise ValueError(f"{shown(text)} is no share: there are 1/{of} to {of}/{of}")
    return Share(part, of)


def load_sites(path: str | Path) -> SitesConfig:
    """Read a list of sites from a TOML file.

    Raises:
        SiteError: If something is wrong; the text has a line for each mistake.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    return read_sites(load_toml(path), str(path), path.parent)


def read_sites(values: Mapping[str, Any], where: str = "", folder: Path = Path()) -> SitesConfig:
    """Read a list of sites that is a mapping, as of a TOML file.

    Args:
        values: ``site`` is a list of tables, each with a ``name`` and a ``url``, and, if it is to
            differ, with tables ``limit``, ``modbus`` and ``mqtt`` of its own; the tables of those
            names beside ``site`` are for all; ``prometheus`` and ``record`` serve all together.
        where: What to call it in errors.
        folder: What the paths of files are relative to.

    Raises:
        SiteError: If something is wrong; the text has a line for each mistake.
    """
    mistakes = Mistakes()
    before = f"{where}: " if where else ""
    for name in values:
        if name not in {*TABLES, "record"}:
            mistakes.add(
                f"{before}[{name}]",
                f"is unknown; known are [[site]], {', '.join(f'[{one}]' for one in _COMMON)}"
                f"{did_you_mean(name, [*TABLES, 'record'])}",
            )
    listed = values.get("site")
    if not isinstance(listed, list | tuple) or not listed:
        mistakes.add(f"{before}[[site]]", "is missing: a table for each site, with name and url")
        listed = ()
    common = {name: values[name] for name in _OF_A_SITE if isinstance(values.get(name), Mapping)}
    for name in _OF_A_SITE:
        if name in values and name not in common:
            mistakes.add(f"{before}{name}", f"must be a table, not {shown(values[name])}")
    sites = [
        site
        for number, one in enumerate(listed, start=1)
        if (site := _site(one, number, before, common, folder=folder, mistakes=mistakes))
        is not None
    ]
    _check_different(sites, before, mistakes)
    prometheus = record = None
    if "prometheus" in values:
        prometheus = read_table(
            PrometheusTable, values["prometheus"], f"{before}[prometheus]", mistakes
        )
    if "record" in values:
        record = read_table(RecordTable, values["record"], f"{before}[record]", mistakes)
    mistakes.raise_any()
    return SitesConfig(tuple(sites), prometheus, record, folder)


_COMMON = (*_OF_A_SITE, "prometheus", "record")


def _site(
    given: object,
    number: int,
    before: str,
    common: Mapping[str, Mapping[str, Any]],
    *,
    folder: Path,
    mistakes: Mistakes,
) -> SiteConfig | None:
    """Read a site; ``None`` if something is wrong with it."""
    place = f"{before}site {number}"
    if not isinstance(given, Mapping):
        mistakes.add(place, f"must be a table, not {shown(given)}")
        return None
    name = given.get("name")
    if name is None:
        mistakes.add(place, "name", "is missing: what it is called in topics, labels and tables")
        return None
    place = f"{before}site {shown(name)}"
    tables: dict[str, Any] = {key: dict(table) for key, table in common.items()}
    for key in _OF_A_SITE:
        if key in given:
            own = given[key]
            tables[key] = {**tables.get(key, {}), **own} if isinstance(own, Mapping) else own
    tables["site"] = {key: value for key, value in given.items() if key not in _OF_A_SITE}
    try:
        config = read_gateways(tables, place, folder)
    except SiteError as error:
        for line in str(error).splitlines():
            mistakes.add(line)
        return None
    if config.site is None or config.site.name is None:
        return None
    return SiteConfig(config.site.name, config.site, config)


def _check_different(sites: Sequence[SiteConfig], before: str, mistakes: Mistakes) -> None:
    """Note what two sites must not have both."""
    names: dict[str, str] = {}
    urls: dict[str, str] = {}
    places: dict[tuple[str, int], str] = {}
    for site in sites:
        if site.name in names:
            mistakes.add(f"{before}site {shown(site.name)}", "is there twice; names must differ")
        names[site.name] = site.name
        other = urls.setdefault(site.table.url, site.name)
        if other != site.name:
            mistakes.add(
                f"{before}site {shown(site.name)}", "url", f"is that of the site {shown(other)}"
            )
        modbus = site.gateways.modbus
        if modbus is not None and modbus.port:
            other = places.setdefault((modbus.host, modbus.port), site.name)
            if other != site.name:
                mistakes.add(
                    f"{before}site {shown(site.name)}",
                    "modbus",
                    f"port {modbus.port} is that of the site {shown(other)}, too: give each a port "
                    "of its own, such as modbus = { port = 5021 } in its table",
                )
