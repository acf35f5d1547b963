"""The options that several commands have."""

import click

_SECONDS = click.FloatRange(0.0, min_open=True)

json_object = click.option("--json", "as_json", is_flag=True, help="One JSON object.")

json_looks = click.option("--json", "as_json", is_flag=True, help="JSON: an object a look.")

interval = click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600.0),
    metavar="SECONDS",
    help="Between two looks.",
)

hold_for = click.option(
    "--for", "duration", type=_SECONDS, metavar="SECONDS", help="End by itself after so long."
)

samples = click.option(
    "--samples", "-n", type=click.IntRange(1), metavar="N", help="End after N in all."
)

duration = click.option(
    "--duration", "-d", type=_SECONDS, metavar="SECONDS", help="End after so many seconds."
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
