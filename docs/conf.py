"""How Sphinx builds the documentation."""

import importlib.metadata

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
    (r"py:.*", r"(.*\.)?(optional|Iterable|Protocol|Generic|ComponentId)"),
]
