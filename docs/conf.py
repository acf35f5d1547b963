"""How Sphinx builds the documentation."""

import dataclasses
import importlib.metadata
from typing import Any

from msgspec import Meta
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from microgrid_sync.simulator.tables import fields_of, taken_apart
from microgrid_sync.simulator.trouble.fault import KINDS, Fault, summary

project = "microgrid_sync"
author = "the microgrid_sync authors"
copyright = "2026, the microgrid_sync authors"
release = importlib.metadata.version("microgrid_sync")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_title = f"microgrid_sync {release}"
exclude_patterns = ["_build"]
# Single backquotes in docstrings name Python objects.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
# Objects of other packages, and type variables: not documented here.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(grpc|tenacity|threading|zoneinfo|datetime|collections|os|pathlib|typing|frequenz)\..*",
    ),
    (r"py:.*", r"(.*\.)?(T|D|Q|S|F|Any|Self|ZoneInfo|PerPhase|Strategy)"),
    (r"py:.*", r"(.*\.)?(GrpcStatus|Session|WireEnum|_StatusError|Line|Flow|Device)"),
    (r"py:.*", r"(.*\.)?(DescribedSite|optional|Iterable|Protocol|Generic|ComponentId)"),
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


def setup(app: Sphinx) -> None:
    """Make the table known."""
    app.add_directive("fault-kinds", FaultKinds)
