"""How Sphinx builds the documentation."""

import dataclasses
import importlib.metadata
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import click
from docutils import nodes
from msgspec import Meta
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from microgrid_sync import Formula, FuseCurve, Microgrid
from microgrid_sync.cli import cli
from microgrid_sync.formulas.window import Resampling, Window
from microgrid_sync.gateways import config as gateway_config
from microgrid_sync.gateways import register_map
from microgrid_sync.model import ComponentMetricId, MeterData
from microgrid_sync.power.circuits import CircuitLimit
from microgrid_sync.service import RecordTable
from microgrid_sync.simulator import Simulator, shipped_sites
from microgrid_sync.simulator.trouble.fault import KINDS, Fault, summary
from microgrid_sync.tables import fields_of, taken_apart

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.house import House

project = "microgrid_sync"
author = "the microgrid_sync authors"
copyright = "2026, the microgrid_sync authors"
release = importlib.metadata.version("microgrid_sync")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["notebooks.css"]
html_title = f"microgrid_sync {release}"
exclude_patterns = ["_build", "jupyter_execute"]
autosummary_generate = False
# The notebooks run from nothing, in each build that shows them; what fails there fails here.
nb_execution_mode = "off" if "doctest" in sys.argv else "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]
# Single backquotes in docstrings name Python objects.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# A default as it is written, not the object that it is.
autodoc_preserve_defaults = True
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
# Objects of other packages, and type variables: not documented here.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(grpc|tenacity|threading|zoneinfo|datetime|collections|os|pathlib|typing|frequenz)\..*",
    ),
    (r"py:.*", r"(.*\.)?(T|D|Q|S|F|Any|Self|ZoneInfo|PerPhase|Strategy)"),
    (r"py:.*", r"(.*\.)?(GrpcStatus|Session|WireEnum|_Operand|_StatusError|Line|Flow|Device)"),
    (r"py:.*", r"(pd\.)?(DataFrame|Figure)|build|microgrid_sync\.model\.shown\.(Tabular|Shown)"),
    (r"py:.*", r"(.*\.)?(DescribedSite|optional|Iterable|Protocol|Generic|ComponentId)"),
    (r"py:.*", r"(.*\.)?GatewayConfig"),
]


class FaultKinds(SphinxDirective):
    """The table of the simulator's faults, made of their classes."""

    def run(self) -> list[Any]:
        """Write the table."""
        lines = [
            ".. list-table::",
            "   :header-rows: 1",
            "   :widths: 16 42 42",
            "",
            "   * - kind",
            "     - what happens",
            "     - its own keys (default)",
        ]
        for kind, cls in KINDS.items():
            lines += [f"   * - ``{kind}``", f"     - {summary(cls)}", f"     - {_own_keys(cls)}"]
        return self.parse_text_to_nodes("\n".join(lines))


def _own_keys(kind: type[Fault]) -> str:
    common = {"at", "lasts", "components"}
    own = [field for field in dataclasses.fields(kind) if field.name not in common]
    return "; ".join(_key(kind, field) for field in own)


def _key(kind: type[Fault], field: "dataclasses.Field[object]") -> str:
    _, extras = taken_apart(fields_of(kind)[field.name][0])
    text = next((e.description for e in extras if isinstance(e, Meta) and e.description), "")
    default = "" if field.default is None else f" ({str(field.default).lower()})"
    if isinstance(field.default, str):
        default = f" ({field.default})"
    return f"``{field.name}``: {text}{default}"


class SiteFormulas(SphinxDirective):
    """The formulas of the shipped sites, as a microgrid finds them at their simulators."""

    def run(self) -> list[Any]:
        """Write a table for each site."""
        lines: list[str] = []
        for name in shipped_sites():
            with Simulator(name) as simulator, Microgrid(simulator.url) as microgrid:
                formulas: dict[str, Formula[Any]] = {
                    "grid.power": microgrid.grid.power,
                    "consumer.power": microgrid.consumer.power,
                    "producer.power": microgrid.producer.power,
                    "battery.power": microgrid.battery.power,
                    "battery.soc": microgrid.battery.soc,
                    "grid.frequency": microgrid.grid.frequency,
                }
                lines += [f"**{name}**", "", ".. list-table::", "   :widths: 20 80", ""]
                for what, formula in formulas.items():
                    lines += [f"   * - ``{what}``", f"     - ``{formula.expression}``"]
                lines.append("")
        return self.parse_text_to_nodes("\n".join(lines))


class ResamplingPicture(SphinxDirective):
    """What one method of resampling makes of some samples: computed, and drawn as an SVG."""

    required_arguments = 1
    _SAMPLES: ClassVar[dict[float, float]] = {
        0.1: 40.0, 0.5: 60.0, 0.9: 50.0, 1.2: 70.0, 1.6: 30.0, 2.3: 80.0, 2.5: 90.0, 2.8: 40.0,
    }  # fmt: skip
    _PERIODS = 7

    def run(self) -> list[Any]:
        """Draw it."""
        method = cast('Literal["mean", "last", "min", "max"]', self.arguments[0])
        window = Window(0.0, Resampling(method=method))
        parts = []
        for period in range(1, self._PERIODS + 1):
            window.add(
                _meter_data(at, power)
                for at, power in self._SAMPLES.items()
                if period - 1 < at <= period
            )
            window.close(float(period), 1.0)
            value = window.value(ComponentMetricId.ACTIVE_POWER)
            left = 10 + 70 * (period - 1)
            parts.append(f'<line x1="{left}" y1="0" x2="{left}" y2="110" stroke="#bbb"/>')
            if value is None:
                parts.append(f'<text x="{left + 15}" y="60" fill="#888">None</text>')
            else:
                height = 105 - value
                parts.append(
                    f'<line x1="{left}" y1="{height}" x2="{left + 70}" y2="{height}" '
                    'stroke="#c60" stroke-width="3"/>'
                )
        parts += [
            f'<circle cx="{10 + 70 * at:.0f}" cy="{105 - power:.0f}" r="4" fill="#069"/>'
            for at, power in self._SAMPLES.items()
        ]
        title = f"samples as dots, the {method} of each period as a line"
        svg = (
            f'<svg viewBox="0 0 510 112" width="510" role="img" font-size="13">'
            f"<title>{title}</title>{''.join(parts)}</svg>"
        )
        return [nodes.raw("", svg, format="html")]


def _meter_data(at: float, power: float) -> MeterData:
    zero = (0.0, 0.0, 0.0)
    stamp = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    return MeterData(1, stamp, power, zero, 0.0, zero, zero, zero, 50.0)


class CommandHelp(SphinxDirective):
    """What each command says of itself, asked of the commands."""

    def run(self) -> list[Any]:
        """Ask them."""
        context = click.Context(cli, info_name="microgrid-sync")
        sections: list[nodes.Node] = []
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            if command is None:
                raise ValueError(f"there is no command {name}")
            found = [(name, command)]
            if isinstance(command, click.Group):
                found += [(f"{name} {n}", one) for n, one in sorted(command.commands.items())]
            for full, one in found:
                section = nodes.section(ids=[nodes.make_id(f"command {full}")])
                section += nodes.title(text=full)
                asked = click.Context(one, info_name=full, parent=context, max_content_width=90)
                section += nodes.literal_block(text=one.get_help(asked), language="none")
                sections.append(section)
        return sections


class RegisterMap(SphinxDirective):
    """The map of Modbus registers, made of what the gateway serves."""

    def run(self) -> list[Any]:
        """Write its tables."""
        inputs, holding = register_map.rows(register_map.Encoding())
        fields = [(f"``+ {f.offset}``", f.length, f.kind, f.text) for f in register_map.FIELDS]
        tables: dict[str, list[tuple[object, ...]]] = {
            "of a record": [*fields],
            "input register": [_map_row(row) for row in inputs],
            "holding register": [_map_row(row) for row in holding],
        }
        lines: list[str] = []
        for title, rows in tables.items():
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 24 11 22 43", ""]
            head = (title, "registers", "type", "meaning")
            for row in (head, *rows):
                lines += [f"   {'*' if not n else ' '} - {cell}" for n, cell in enumerate(row)]
            lines.append("")
        return self.parse_text_to_nodes("\n".join(lines))


def _map_row(row: register_map.Row) -> tuple[object, ...]:
    return row.place(), row.length, row.type_in_words(), row.text


class GatewayKeys(SphinxDirective):
    """The keys of a configuration, made of the classes that read it."""

    optional_arguments = 1

    def run(self) -> list[Any]:
        """Write a table for each."""
        lines: list[str] = []
        tables = {**gateway_config.TABLES, "record": RecordTable}
        # One page has those of gateways, another one that of recorders.
        wanted = self.arguments or list(gateway_config.TABLES)
        for name in wanted:
            table = tables[name]
            told = ModuleAnalyzer.for_module(table.__module__).find_attr_docs()
            lines += [f"``[{name}]``", "", ".. list-table::", "   :header-rows: 1"]
            lines += [
                "   :widths: 22 18 60",
                "",
                "   * - key",
                "     - unless given",
                "     - meaning",
            ]
            for field in dataclasses.fields(table):
                is_missing = field.default is dataclasses.MISSING
                default = "must be given" if is_missing else _default(field.default)
                text = " ".join(told[table.__name__, field.name]).strip()
                lines += [f"   * - ``{field.name}``", f"     - {default}", f"     - {text}"]
            lines.append("")
        return self.parse_text_to_nodes("\n".join(lines))


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    return f"``{str(value).lower() if isinstance(value, bool) else value}``"


class HouseDay(SphinxDirective):
    """A day of the shipped house under its fuse: lived through, and drawn as an SVG."""

    _SECONDS = 86_400
    _STEP = 2.0
    _EVERY = 300
    _LEFT, _WIDTH, _HEIGHT, _MOST = 40, 720, 220, 55.0

    def run(self) -> list[Any]:
        """Draw it; where nobody looks at pictures, live through nothing."""
        if self.env.app.builder.name == "doctest":
            return []
        house = House("house", {"grid": CircuitLimit(FuseCurve.gG(35), None)}, seed=1)
        house.step = self._STEP
        highest: list[float] = []
        alone: list[float] = []
        points: list[tuple[float, float, float]] = []

        def note() -> None:
            grid = house.site.flows[1].current(house.site.line)
            cars = [house.site.charger(n).flow.current(house.site.line) for n in house.known]
            rest = [grid[phase] - sum(car[phase] for car in cars) for phase in range(3)]
            phase = max(range(3), key=lambda p: grid[p])
            highest.append(grid[phase])
            alone.append(rest[phase])
            if len(highest) * self._STEP >= self._EVERY:
                hour = (house.now - 10_000) / 3600
                points.append((hour, max(highest), sum(alone) / len(alone)))
                highest.clear()
                alone.clear()

        house.run(self._SECONDS, note)
        parts = [self._line(0.0, 24.0, 35.0, "35 A", "#c00")]
        parts += [self._line(0.0, 24.0, level, f"{level:g}", "#ccc") for level in (0.0, 20.0, 50.0)]
        parts += [
            f'<text x="{self._x(hour)}" y="{self._HEIGHT + 16}" fill="#666">{hour:g} h</text>'
            for hour in (0, 6, 12, 18)
        ]
        for place, colour, width in ((2, "#888", 1), (1, "#069", 2)):
            line = " ".join(f"{self._x(p[0])},{self._y(p[place])}" for p in points)
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
            )
        title = "a day: the phase that carries most (blue, its peaks), the house on it (grey)"
        svg = (
            f'<svg viewBox="0 0 {self._LEFT + self._WIDTH + 10} {self._HEIGHT + 24}" role="img" '
            f'width="100%" font-size="12"><title>{title}</title>{"".join(parts)}</svg>'
        )
        caption = nodes.paragraph("", f"Blue: {title.removeprefix('a day: ')}.")
        return [nodes.raw("", svg, format="html"), caption]

    def _x(self, hour: float) -> float:
        return round(self._LEFT + hour * self._WIDTH / 24, 1)

    def _y(self, ampere: float) -> float:
        return round(self._HEIGHT * (1 - (ampere + 10) / (self._MOST + 10)), 1)

    def _line(self, begin: float, end: float, ampere: float, text: str, colour: str) -> str:
        y = self._y(ampere)
        return (
            f'<line x1="{self._x(begin)}" y1="{y}" x2="{self._x(end)}" y2="{y}" '
            f'stroke="{colour}"/><text x="0" y="{y + 4}" fill="#666">{text}</text>'
        )


def setup(app: Sphinx) -> None:
    """Make the tables and the pictures known."""
    app.add_directive("command-help", CommandHelp)
    app.add_directive("gateway-keys", GatewayKeys)
    app.add_directive("house-day", HouseDay)
    app.add_directive("register-map", RegisterMap)
    app.add_directive("site-formulas", SiteFormulas)
    app.add_directive("resampling-picture", ResamplingPicture)
    app.add_directive("fault-kinds", FaultKinds)
