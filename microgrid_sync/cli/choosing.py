"""Finds the components and metrics that somebody has named on the command line."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.model.data import HAS_DATA
from microgrid_sync.model.telemetry_codes import Metric
from microgrid_sync.notebook.columns import columns_of
from microgrid_sync.notebook.rows import telemetry_key
from microgrid_sync.topology import kind_of

_ALIASES = {
    "charger": "ev-charger",
    "pv": "solar-inverter",
    "solar": "solar-inverter",
    "grid-connection-point": "grid",
}
_KNOWN = [c.name.lower().replace("_", "-") for c in ComponentCategory if c.value]


def _word(text: str) -> str:
    return text.strip().lower().replace("_", "-").replace(" ", "-")


def _words_of(component: Component) -> set[str]:
    found = {_word(component.category.name), _word(kind_of(component))}
    if component.category_name is not None:
        found.add(_word(component.category_name))
    return found


def of_category(components: Sequence[Component], text: str) -> list[Component]:
    """Give the components of a category, or of a kind of it, such as ``solar-inverter``.

    Raises:
        click.UsageError: If there is no such category.
    """
    word = _word(text)
    singular = word.removesuffix("ies") + "y" if word.endswith("ies") else word.removesuffix("s")
    for name in (word, singular, _ALIASES.get(word), _ALIASES.get(singular)):
        found = [c for c in components if name in _words_of(c)]
        if found:
            return found
        if name in _KNOWN:
            return []
    here = sorted({w for c in components for w in _words_of(c)})
    near = difflib.get_close_matches(word, [*here, *_KNOWN], n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(here)}"
    raise click.UsageError(f"{text!r} is neither an ID nor a category; {hint}")


def chosen(components: Sequence[Component], texts: Iterable[str]) -> list[Component]:
    """Give the components of IDs and categories, each once, in the order of their IDs.

    Raises:
        click.UsageError: If there is no such component or category.
    """
    by_id = {c.component_id: c for c in components}
    found: dict[int, Component] = {}
    for text in ",".join(texts).split(","):
        if not text.strip():
            continue
        if text.lstrip("-").isdecimal():
            number = int(text)
            if number not in by_id:
                ids = ", ".join(str(i) for i in sorted(by_id)[:20])
                more = ", ..." if len(by_id) > 20 else ""
                raise click.UsageError(f"there is no component {number}; there are {ids}{more}")
            found[number] = by_id[number]
        else:
            some = of_category(components, text)
            if not some:
                raise click.UsageError(f"the site has no {_word(text)}")
            found |= {c.component_id: c for c in some}
    return [found[number] for number in sorted(found)]


@dataclass(frozen=True)
class Wanted:
    """Which metrics somebody wants to see."""

    columns: tuple[str, ...] | None
    """The columns; ``None`` for all that there are."""

    metrics: frozenset[int] | None = None
    """The metrics of telemetry that they are made of; ``None`` for the data of categories."""


def wanted_metrics(components: Sequence[Component], names: Sequence[str]) -> Wanted:
    """Find metrics: of the data of the components' categories, else of telemetry.

    Raises:
        click.UsageError: If there is no such metric.
    """
    if not names:
        return Wanted(None)
    known: dict[str, None] = {}
    for component in components:
        if component.category in HAS_DATA:
            known |= dict.fromkeys(columns_of(HAS_DATA[component.category])[2:])
    columns: dict[str, None] = {}
    metrics: dict[Metric, None] = {}
    for name in names:
        found = _columns(name, known)
        metric = Metric.__members__.get(_telemetry_name(name))
        if found:
            columns |= dict.fromkeys(found)
        elif metric is not None:
            metrics[metric] = None
        else:
            raise click.UsageError(_unknown(name, known))
    if columns and metrics:
        raise click.UsageError(
            f"{names[0]!r} and others are of two kinds: data of categories, and telemetry; ask for "
            "one of them at a time"
        )
    if metrics:
        return Wanted(tuple(telemetry_key(m) for m in metrics), frozenset(int(m) for m in metrics))
    return Wanted(tuple(columns))


def _telemetry_name(name: str) -> str:
    return name.strip().upper().replace("-", "_").removeprefix("METRIC_")


def _columns(name: str, known: Iterable[str]) -> list[str]:
    """Give the columns of a name: exactly that, that with a unit, or those of its phases."""
    word = name.strip().lower().replace("-", "_").removesuffix("_per_phase")
    exact = [c for c in known if c == word or c.rpartition("_")[0] == word]
    if exact and not name.endswith("per_phase"):
        return exact[:1]
    return [c for c in known if c.startswith(f"{word}_phase_")]


def _unknown(name: str, known: Iterable[str]) -> str:
    names = [*known, *(m.name.lower() for m in Metric if m)]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    return f"there is no metric {name!r}; {hint}"
