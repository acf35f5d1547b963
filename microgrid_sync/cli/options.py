"""The options that several commands have."""

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A number in a range, which neither NaN nor infinity is."""

    unit = ""
    """What may stand behind it."""

    example = ""
    """What is said of it to who has given no number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number."""
        if isinstance(value, str) and self.unit and value.lower().endswith(self.unit.lower()):
            value = value[: -len(self.unit)].strip()
        try:
            float(value)
        except ValueError:
            self.fail(f"{value!r} is no number{self.example}", param, ctx)
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


class Amperes(Finite):
    """A current in A; the unit may stand behind it."""

    unit = "A"


class Seconds(Finite):
    """A time in s; the unit may stand behind it."""

    unit = "s"
    example = " of seconds, such as 60"


SECONDS = Seconds(0.0, 1e8, min_open=True)

json_object = click.option("--json", "as_json", is_flag=True, help="One JSON object.")

json_looks = click.option("--json", "as_json", is_flag=True, help="JSON: an object a look.")

interval = click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=Seconds(0.1, 3600.0),
    metavar="SECONDS",
    help="Between two looks.",
)

hold_for = click.option(
    "--for", "duration", type=SECONDS, metavar="SECONDS", help="End by itself after so long."
)

samples = click.option(
    "--samples", "-n", type=click.IntRange(1), metavar="N", help="End after N in all."
)

duration = click.option(
    "--duration", "-d", type=SECONDS, metavar="SECONDS", help="End after so many seconds."
)

metrics = click.option(
    "--metric",
    "-m",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="What of them, such as active_power, current_phase_1, soc; or a metric of telemetry, such "
    "as dc_power (API v1alpha18); repeatable.",
)

chargers = click.option(
    "--charger",
    "chargers",
    type=int,
    multiple=True,
    metavar="ID",
    help="Those alone; every charger unless given; repeatable.",
)

yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
