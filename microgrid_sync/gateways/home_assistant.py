"""Says to Home Assistant what the topics of a site are: its MQTT discovery messages. Pure."""

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from microgrid_sync._version import __version__
from microgrid_sync.gateways.live_site import Heard

_UNITS: tuple[tuple[str, dict[str, str]], ...] = (
    ("_w", {"device_class": "power", "unit_of_measurement": "W"}),
    ("_a", {"device_class": "current", "unit_of_measurement": "A"}),
    ("_hz", {"device_class": "frequency", "unit_of_measurement": "Hz"}),
    ("_celsius", {"device_class": "temperature", "unit_of_measurement": "°C"}),
)
_SHOWN = re.compile(
    r"(active_)?power_w|current_phase_\d_a|soc_percent|temperature_celsius|frequency_hz"
    r"|(component|cable)_state|allocation_w|target_power_w|status|(house|headroom)_phase_\d_a"
)
"""What is worth an entity: a site of a hundred components has thousands of values."""

_CAP_LIFETIME = 3600
"""Seconds that a cap of the slider's holds."""

Discovery = tuple[str, str]
"""Topic and payload of a message."""


@dataclass(frozen=True)
class Entities:
    """What all entities of a site have in common."""

    prefix: str
    """What the topics of discovery begin with."""

    base: str
    """What the topics of the site begin with."""

    site: str
    """What it is called."""

    @property
    def node(self) -> str:
        """Its name as far as it may stand in an ID."""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self.site)
        # Names that differ in other letters alone must not be the same.
        more = "" if name == self.site else f"_{zlib.crc32(self.site.encode()):08x}"
        return f"microgrid_{name}{more}"

    @property
    def birth_topic(self) -> str:
        """Where Home Assistant says that it has been started."""
        return f"{self.prefix}/status"

    def message(self, kind: str, name: str, entity: dict[str, Any]) -> Discovery:
        """Give the message that makes an entity."""
        unique = f"{self.node}_{name}"
        device = {
            "identifiers": [self.node],
            "name": self.site,
            "manufacturer": "microgrid_sync",
            "sw_version": __version__,
        }
        own = {"unique_id": unique, "default_entity_id": f"{kind}.{unique}".lower()}
        payload = {**own, "device": device, **entity}
        return f"{self.prefix}/{kind}/{self.node}/{name}/config", json.dumps(payload)


def discovery(entities: Entities, heard: Heard, called: str) -> Iterator[Discovery]:
    """Give the messages that make an entity of each value that is worth one.

    Args:
        entities: The site.
        heard: What it says of something.
        called: What that is called.
    """
    subject = heard.subject.replace("/", "_")
    for name in heard.values:
        if not _SHOWN.fullmatch(name):
            continue
        topic = f"{entities.base}/{heard.subject}/{name}"
        entity: dict[str, Any] = {
            "name": f"{called} {_words(name)}",
            "state_topic": topic,
            "value_template": "{{ value_json.value }}",
            "availability_mode": "all",
            "availability": [
                {"topic": f"{entities.base}/status"},
                {
                    "topic": topic,
                    "value_template": "{{ 'online' if value_json.valid else 'offline' }}",
                },
            ],
        }
        if name == "soc_percent":
            entity |= {"device_class": "battery", "unit_of_measurement": "%"}
        for end, unit in _UNITS:
            if name.endswith(end):
                entity |= unit
        if "unit_of_measurement" in entity:
            entity["state_class"] = "measurement"
        yield entities.message("sensor", f"{subject}_{name}", entity)


def cap_entities(entities: Entities) -> Iterator[Discovery]:
    """Give the messages that make a number of the cap, and a button that takes it back."""
    button = {
        "name": "take the cap back",
        "command_topic": f"{entities.base}/command/cap",
        "payload_press": '{"power_w": null, "by": "Home Assistant"}',
        "availability": [{"topic": f"{entities.base}/status"}],
    }
    yield entities.message("button", "cap_back", button)
    entity = {
        "name": "cap of all chargers",
        "state_topic": f"{entities.base}/commands/cap_w",
        "value_template": "{{ value_json.value }}",
        "command_topic": f"{entities.base}/command/cap",
        "command_template": (
            f'{{"power_w": {{{{ value }}}}, "lifetime_s": {_CAP_LIFETIME}, "by": "Home Assistant"}}'
        ),
        "availability": [{"topic": f"{entities.base}/status"}],
        "device_class": "power",
        "unit_of_measurement": "W",
        "min": 0,
        "max": 1_000_000,
        "step": 100,
        "mode": "box",
    }
    yield entities.message("number", "cap_w", entity)


def _words(name: str) -> str:
    if name == "soc_percent":
        return "state of charge"
    if name == "component_state":
        return "state"
    return re.sub(r"_(w|a|hz|percent|celsius)$", "", name).replace("_", " ")
