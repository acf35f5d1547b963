"""Follows a whole site: its numbers, chargers and fuse, for the commands that show it."""

import math
import shutil
from collections.abc import Set
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from microgrid_sync.cli.output import is_terminal, new_table, state
from microgrid_sync.ev_charger_pool import EVChargerPool, EVChargerPoolReport
from microgrid_sync.microgrid import Microgrid
from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.model.shown import amperes, kilowatts, number, words
from microgrid_sync.receiver import Receiver, newest_of
from microgrid_sync.timeseries import Sample3Phase
from microgrid_sync.topology import describe

_NARROW = 80
"""Columns: a narrower terminal has room for less."""

_LEAST = 4
"""So many chargers are shown at the least."""

_LINES_OF_A_REASON = 2
"""So many lines a reason takes, usually, where it is not cut."""

_OTHER_LINES = 18
"""Lines of a screen that are not of chargers."""

_GREEN, _YELLOW = 0.8, 1.0
"""Shares of a fuse's rating up to which a current is shown in these colours."""


class Chargers:
    """Some chargers, and the states that they are in. One thread uses it."""

    def __init__(self, microgrid: Microgrid, component_ids: Set[int]) -> None:
        """Begin to follow them.

        Args:
            microgrid: The site.
            component_ids: Their IDs.
        """
        self.components = [microgrid.topology.component(i) for i in sorted(component_ids)]
        self._data = {
            i: newest_of(microgrid.client.ev_charger_data(i, maxsize=1)) for i in component_ids
        }

    def states(self, charger: int) -> tuple[str, str]:
        """Give the state of a charger and of its cable in words; nothing before it is heard."""
        receiver = self._data.get(charger)
        data = None if receiver is None else receiver.latest()
        if data is None:
            return "", ""
        return words(data.component_state.name), words(data.cable_state.name)

    def rows(self, report: EVChargerPoolReport | None) -> list[dict[str, Any]]:
        """Give what each of them has, with units in the names."""
        if report is None:
            return []
        rows = []
        commanded = _is_commanded(report)
        for charger, one in sorted(report.chargers.items()):
            state_, cable = self.states(charger)
            rows.append(
                {
                    "component_id": int(charger),
                    "component_state": state_.replace(" ", "_") or None,
                    "cable_state": cable.replace(" ", "_") or None,
                    # Without a set-point of ours nobody knows what it may draw.
                    "allocation_w": one.allocation.as_watts() + 0.0 if commanded else None,
                    "draw_w": None if one.draw is None else one.draw.as_watts() + 0.0,
                    "status": one.status.value,
                    "reason": one.reason,
                }
            )
        return rows

    def table(self, report: EVChargerPoolReport) -> RenderableType:
        """Draw what each of them has."""
        names = {c.component_id: _name(c) for c in self.components}
        commanded = _is_commanded(report)
        width, height = shutil.get_terminal_size()
        is_narrow = is_terminal() and width < _NARROW
        numbers = ["draws"] if is_narrow or not commanded else ["draws", "may draw"]
        table = new_table("charger", "state", *numbers, "why", right=[*numbers])
        # Of many each has one line, so that most of them are seen; those that charge come first.
        chargers = sorted(report.chargers.items())
        has_room = _LINES_OF_A_REASON * len(chargers) <= height - _OTHER_LINES
        is_one_line = is_narrow or (is_terminal() and not has_room)
        for column in table.columns[:-1]:
            # Who is meant is never cut; a reason may be.
            column.no_wrap = True
        most = max(_LEAST, height - _OTHER_LINES) if is_terminal() else len(chargers)
        if len(chargers) > most:
            chargers.sort(key=lambda one: one[1].draw is None or one[1].draw.as_watts() < _DRAWS)
        for charger, one in chargers[:most]:
            state_, cable = self.states(charger)
            table.add_row(
                names.get(charger, str(charger)),
                state(_state_in_words(state_, cable)),
                kilowatts(None if one.draw is None else one.draw.as_watts()),
                *([kilowatts(one.allocation.as_watts())] if len(numbers) > 1 else []),
                Text(one.reason, no_wrap=is_one_line, overflow="ellipsis"),
            )
        if len(chargers) > most:
            table.add_row("", "", *("" for _ in numbers), f"and {len(chargers) - most} more")
        return table


def _state_in_words(charger: str, cable: str) -> str:
    """Say what a charger is doing; where the server does not, whether there is a car."""
    if cable == "unplugged":
        return "no car"
    return cable if charger == "unspecified" else charger


def _name(component: Component) -> str:
    """Name a charger in a column of chargers: by what it is called, if that says more."""
    said = describe(component).partition(" '")[2].rstrip("'")
    return f"{component.component_id} {said}".rstrip()


def _is_commanded(report: EVChargerPoolReport) -> bool:
    """Tell whether chargers have set-points of this program's."""
    return report.target_power is not None or any(
        one.allocation.as_watts() for one in report.chargers.values()
    )


class SiteNumbers:
    """The newest numbers of a site. One thread uses it."""

    def __init__(self, microgrid: Microgrid) -> None:
        """Begin to receive them.

        Args:
            microgrid: The site.
        """
        self.microgrid = microgrid
        topology = microgrid.topology
        self.chargers = Chargers(microgrid, topology.ids(ComponentCategory.EV_CHARGER))
        self.batteries: list[Component] = topology.components(ComponentCategory.BATTERY)
        self.pool: EVChargerPool | None = None
        self._newest: dict[str, Any] = {}
        found: dict[str, Receiver[Any]] = {
            "grid": microgrid.grid.power.new_receiver(),
            "currents": microgrid.grid.current_per_phase.new_receiver(),
            "consumers": microgrid.consumer.power.new_receiver(),
        }
        if any(topology.is_pv_inverter(c.component_id) for c in topology.components()):
            found["pv"] = microgrid.pv.power.new_receiver()
        if topology.components(ComponentCategory.CHP):
            found["chp"] = microgrid.chp.power.new_receiver()
        if self.batteries:
            found["battery"] = microgrid.battery.power.new_receiver()
            found["soc"] = microgrid.battery.soc.new_receiver()
        if self.chargers.components:
            self.pool = microgrid.new_ev_charger_pool(priority=0, name="the chargers")
            found["cars"] = self.pool.power.new_receiver()
            found["report"] = self.pool.power_status.new_receiver()
        # However seldom somebody looks, nothing is dropped that is worth a line in the log.
        self._receivers = {name: newest_of(receiver) for name, receiver in found.items()}

    def look(self) -> None:
        """Take what has come."""
        for name, receiver in self._receivers.items():
            values = receiver.drain()
            if values:
                self._newest[name] = values[-1]

    def watts(self, name: str) -> float | None:
        """Give the newest value of a formula in its base unit; ``None`` if it is not known."""
        sample = self._newest.get(name)
        value = None if sample is None else sample.value
        return None if value is None else value.base_value + 0.0

    def has(self, name: str) -> bool:
        """Tell whether the site has it."""
        return name in self._receivers

    @property
    def report(self) -> EVChargerPoolReport | None:
        """The newest report of the chargers."""
        found: EVChargerPoolReport | None = self._newest.get("report")
        return found

    def currents(self) -> list[float | None]:
        """Give the currents of the grid connection in A; ``None`` for what is not known."""
        sample = self._newest.get("currents")
        if sample is None:
            return [None, None, None]
        return [None if value is None else value.as_amperes() for value in sample]

    def is_known(self) -> bool:
        """Tell whether something has come of all of them."""
        values = [sample for name, sample in self._newest.items() if name != "report"]
        report = self.report
        if report is not None and any(one.draw is None for one in report.chargers.values()):
            return False
        return self._newest.keys() == self._receivers.keys() and all(
            value is not None
            for sample in values
            for value in (sample if isinstance(sample, Sample3Phase) else [sample.value])
        )

    def row(self) -> dict[str, Any]:
        """Give all of it, with units in the names."""
        fuse = self.microgrid.grid.fuse
        row: dict[str, Any] = {
            "grid_w": self.watts("grid"),
            "consumers_w": self.watts("consumers"),
            "pv_w": self.watts("pv"),
            "chp_w": self.watts("chp"),
            "batteries_w": self.watts("battery"),
            "soc_percent": self.watts("soc"),
            "chargers_w": self.watts("cars"),
            "fuse_a": None if fuse is None else fuse.max_current,
        }
        for phase, current in enumerate(self.currents(), start=1):
            row[f"grid_current_phase_{phase}_a"] = current
        row["chargers"] = self.chargers.rows(self.report)
        return row

    def line(self) -> str:
        """Give all of it in one line."""
        parts = [f"grid {kilowatts(self.watts('grid'))}"]
        names = {"consumers": "house", "pv": "PV", "chp": "CHP", "battery": "battery"}
        parts += [
            f"{text} {kilowatts(self.watts(name))}"
            for name, text in names.items()
            if self.has(name)
        ]
        if self.has("soc"):
            parts.append(_percent(self.watts("soc")))
        if self.report is not None:
            charging = sum(
                one.draw is not None and one.draw.as_watts() > _DRAWS
                for one in self.report.chargers.values()
            )
            cars = f"cars {kilowatts(self.watts('cars'))}"
            parts.append(f"{cars} ({charging} of {len(self.chargers.components)})")
        highest = max((c for c in self.currents() if c is not None), default=math.nan)
        fuse = self.microgrid.grid.fuse
        if fuse is not None:
            parts.append(f"fuse {amperes(highest)} of {fuse.max_current:g} A")
        streams = self.microgrid.client.stats().streams
        heard = sum(s.age_s is not None and s.age_s < _HEARD for s in streams)
        parts.append(f"heard {heard}/{len(streams)}")
        return "  ".join(parts)

    def screen(self) -> RenderableType:
        """Give all of it as tables."""
        numbers = new_table("", "power", "", right=["power"])
        for name, text in (
            ("grid", "grid"),
            ("consumers", "consumers"),
            ("pv", "PV"),
            ("chp", "CHP"),
            ("battery", "batteries"),
            ("cars", "EV chargers"),
        ):
            if self.has(name):
                beside = _percent(self.watts("soc")) if name == "battery" else ""
                beside = _direction(self.watts(name)) if name == "grid" else beside
                numbers.add_row(text, kilowatts(self.watts(name)), beside)
        parts: list[RenderableType] = [numbers, self._fuse()]
        if self.report is not None:
            parts.append(self.chargers.table(self.report))
        return Group(*parts)

    def _fuse(self) -> RenderableType:
        fuse = self.microgrid.grid.fuse
        text = Text("grid connection  ")
        for phase, current in enumerate(self.currents(), start=1):
            share = 0.0 if current is None or fuse is None else abs(current) / fuse.max_current
            colour = "green" if share <= _GREEN else "yellow" if share <= _YELLOW else "bold red"
            text.append(f"L{phase} ")
            text.append(f"{amperes(current):>8}", style=colour if fuse is not None else "")
            text.append("   ")
        text.append("" if fuse is None else f"fuse {fuse.max_current:g} A")
        return text


_HEARD = 10.0
"""Seconds: what was heard longer ago is silent."""

_DRAWS = 100.0
"""W: who draws more is charging."""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{number(value, 1)} %"


def _direction(watts: float | None) -> str:
    if watts is None or round(watts / 1000, 2) == 0:
        return ""
    return "drawn" if watts > 0 else "fed in"
