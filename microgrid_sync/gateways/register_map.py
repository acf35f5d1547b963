"""Says which Modbus register holds what, and writes values into registers. Pure."""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from microgrid_sync.gateways.live_site import Heard
from microgrid_sync.model.states import EVChargerCableState, EVChargerComponentState, WireEnum
from microgrid_sync.power.status import ChargerStatus

WordOrder = Literal["big", "little"]

VERSION = 1
"""Of this map; a register that exists keeps its meaning as long as this number stays."""

RECORD = 8
"""Registers of one value: see `FIELDS`."""


class Field(NamedTuple):
    """Some registers that are no record."""

    offset: int
    length: int
    kind: str
    text: str
    unit: str = ""
    """Of the number; a ``uint16`` is scaled as all of that unit are."""


FIELDS = (
    Field(0, 2, "float32", "the value; NaN if it is not valid"),
    Field(2, 1, "int16", "the value, scaled; -32768 if it is not valid or out of range"),
    Field(3, 1, "uint16", "1 if it is valid, else 0"),
    Field(4, 1, "uint16", "its age: 0.1 s since it came; 65534 or more, 65535 never heard"),
    Field(5, 2, "uint32", "its timestamp, seconds since 1970 in UTC; 0 if never heard"),
    Field(7, 1, "uint16", "milliseconds of that"),
)
"""The registers of a record."""

_NOT_VALID_16, _NEVER, _OLDEST = 0x8000, 0xFFFF, 0xFFFE
"""Of an int16; of a uint16 that there is none, and the highest that is one."""

LARGEST_ADDRESS = 0xFFFF


class Value(NamedTuple):
    """A value of the map."""

    text: str
    source: str
    """Where it comes from, of a `LiveSite`; ``{id}`` stands for a charger's ID."""

    name: str
    unit: str
    codes: type[WireEnum] | None = None
    """What the numbers of a state mean."""

    def numbers(self) -> dict[str, int] | None:
        """Give the numbers of states, by name; ``None`` of what is no state."""
        if self.codes is None:
            return None
        return {one.name.lower(): one.value for one in self.codes}

    def topic(self) -> str:
        """Give its subject and name."""
        subject, _, which = self.source.partition(":")
        return "/".join([subject, *([which] if which.startswith("{") else []), self.name])


def _phases(text: str, source: str, name: str, unit: str) -> Iterator[Value]:
    for phase in (1, 2, 3):
        yield Value(f"{text}, phase {phase}", source, name.format(phase=phase), unit)


SITE = (
    Value("grid: power, import positive", "grid:power", "power_w", "W"),
    *_phases("grid: current", "grid:current", "current_phase_{phase}_a", "A"),
    Value("grid: frequency", "grid:frequency", "frequency_hz", "Hz"),
    Value("consumers: power", "consumers:power", "power_w", "W"),
    Value("PV: power, production negative", "pv:power", "power_w", "W"),
    Value("CHP: power, production negative", "chp:power", "power_w", "W"),
    Value("batteries: power, charging positive", "batteries:power", "power_w", "W"),
    Value("batteries: state of charge", "batteries:soc", "soc_percent", "%"),
    Value("chargers: power of all", "chargers:power", "power_w", "W"),
    *_phases("chargers: current of all", "chargers:current", "current_phase_{phase}_a", "A"),
    Value("chargers: power that is distributed to them", "chargers:target", "target_power_w", "W"),
)  # fmt: skip
"""The totals, a record each, from `SITE_START`."""

LIMIT = (
    Value("limit: current that may flow", "limit:{where}", "max_current_a", "A"),
    *_phases("limit: current beside the chargers", "limit:{where}", "house_phase_{phase}_a", "A"),
    *_phases("limit: current left to chargers", "limit:{where}", "headroom_phase_{phase}_a", "A"),
    *_phases("limit: thermal state of fuse", "limit:{where}", "thermal_state_phase_{phase}", ""),
    Value("limit: 1 if more flows than may", "limit:{where}", "is_exceeded", "1"),
)  # fmt: skip
"""How the limit stands, a record each, from `LIMIT_START`."""

CHARGER = (
    Value("power", "component:{id}", "active_power_w", "W"),
    *_phases("current", "component:{id}", "current_phase_{phase}_a", "A"),
    Value("state", "component:{id}", "component_state", "1", EVChargerComponentState),
    Value("cable", "component:{id}", "cable_state", "1", EVChargerCableState),
    Value("allocation: what it may draw", "charger:{id}", "allocation_w", "W"),
)  # fmt: skip
"""What each charger has, a record each, behind its header."""

SITE_START, LIMIT_START, GATEWAY_START, CHARGERS_START = 0, 200, 300, 1000
CHARGER_SIZE = RECORD * (1 + len(CHARGER))
MOST_CHARGERS = (LARGEST_ADDRESS + 1 - CHARGERS_START) // CHARGER_SIZE

GATEWAY = (
    Field(0, 1, "uint16", f"version of this map: {VERSION}"),
    Field(1, 1, "uint16", "1 if the site is heard, else 0"),
    Field(2, 1, "uint16", "number of charger blocks below"),
    Field(3, 1, "uint16", "1 if commands are accepted, else 0"),
    Field(4, 2, "float32", "the cap that is commanded; NaN if there is none", "W"),
    Field(6, 1, "uint16", "the same; 65534 is that or more, 65535 none", "W"),
    Field(7, 1, "uint16", "whose cap: 0 nobody's, 1 Modbus', 2 another gateway's, 3 a safe value"),
    Field(8, 1, "uint16", "0.1 s since the last heartbeat; 65535 before the first"),
    Field(9, 1, "uint16", "1 if the heartbeat is overdue"),
    Field(10, 2, "float32", "the current that is commanded; NaN if there is none", "A"),
    Field(12, 1, "uint16", "the same; 65534 is that or more, 65535 none", "A"),
    Field(13, 1, "uint16", "1 if what is commanded is not carried out; the log says why"),
)
GATEWAY_SIZE = 14

HEADER = (
    Field(0, 2, "uint32", "component ID"),
    Field(2, 1, "uint16", "0 unknown, 1 not working, 2 uncertain, 3 working"),
    Field(3, 1, "uint16", "1 if there is such a charger, 0 if it has gone"),
    Field(4, 4, "uint16", "reserved, 0"),
)

CAP_FLOAT, CURRENT_FLOAT, HEARTBEAT = 0, 2, 4
CAP_SCALED, CURRENT_SCALED, HEARTBEAT_AGAIN = 10, 11, 12

HOLDING = (
    Field(CAP_FLOAT, 2, "float32", "a cap for all chargers together; NaN takes it back", "W"),
    Field(CURRENT_FLOAT, 2, "float32", "a limit of the current on each phase; NaN likewise", "A"),
    Field(HEARTBEAT, 1, "uint16", "the heartbeat: any number"),
    Field(CAP_SCALED, 1, "uint16", "the cap; 65535 takes it back", "W"),
    Field(CURRENT_SCALED, 1, "uint16", "the limit; 65535 takes it back", "A"),
    Field(HEARTBEAT_AGAIN, 1, "uint16", "the heartbeat once more: any number"),
)
"""What masters may write. Reading gives what a master has written and still holds."""

_STATUS = {
    ChargerStatus.NOT_WORKING.value: 1,
    ChargerStatus.UNCERTAIN.value: 2,
    ChargerStatus.WORKING.value: 3,
}


@dataclass(frozen=True)
class Encoding:
    """How numbers stand in registers."""

    word_order: WordOrder = "big"
    """Which half of a 32-bit number comes first: ``big`` the higher one, ``little`` the lower."""

    watts_per_count: float = 10.0
    """What 1 in a scaled power means, in W."""

    def scale(self, unit: str) -> float:
        """Give what 1 in a scaled number of a unit means."""
        if unit == "W":
            return self.watts_per_count
        return {"A": 0.1, "%": 0.1, "Hz": 0.01, "": 0.01}.get(unit, 1.0)

    def two(self, raw: bytes) -> list[int]:
        """Give the two registers of four bytes, the highest first."""
        high, low = struct.unpack(">HH", raw)
        return [high, low] if self.word_order == "big" else [low, high]

    def float32(self, value: float | None) -> list[int]:
        """Give the two registers of a number; NaN of none, and of one that is too large."""
        try:
            return self.two(struct.pack(">f", math.nan if value is None else value))
        except OverflowError:
            return self.two(struct.pack(">f", math.nan))

    def uint32(self, value: int) -> list[int]:
        """Give the two registers of a whole number."""
        return self.two(struct.pack(">I", value & 0xFFFFFFFF))

    def read_float32(self, registers: Sequence[int]) -> float:
        """Read a number from its two registers."""
        first, second = registers
        high, low = (first, second) if self.word_order == "big" else (second, first)
        return float(struct.unpack(">f", struct.pack(">HH", high, low))[0])

    def int16(self, value: float | None, unit: str) -> int:
        """Give a scaled number with a sign, as a register."""
        if value is None:
            return _NOT_VALID_16
        count = round(value / self.scale(unit))
        return count & 0xFFFF if -0x8000 < count <= 0x7FFF else _NOT_VALID_16

    def uint16(self, value: float | None, unit: str) -> int:
        """Give a scaled number without a sign; `_NEVER` of none."""
        return _NEVER if value is None else min(round(value / self.scale(unit)), _OLDEST)

    def read_uint16(self, register: int, unit: str) -> float | None:
        """Read a scaled number without a sign; ``None`` is `_NEVER`."""
        return None if register == _NEVER else register * self.scale(unit)

    def record(self, value: Value, heard: Heard | None, now: float) -> list[int]:
        """Give the registers of one value."""
        number = None if heard is None else as_number(heard.valid(value.name, now), value.codes)
        stamp = None if heard is None else heard.timestamp
        seconds, milliseconds = (0, 0) if stamp is None else _split(stamp)
        return [
            *self.float32(number),
            self.int16(number, value.unit),
            int(number is not None),
            tenths(math.inf if heard is None else heard.age(now)),
            *self.uint32(seconds),
            milliseconds,
        ]


def as_number(value: Any, codes: type[WireEnum] | None = None) -> float | None:
    """Give a value as a number; states by the number that the API has for them."""
    if isinstance(value, str):
        found = None if codes is None else codes.__members__.get(value.upper())
        return None if found is None else float(found.value)
    return None if value is None else float(value)


def _split(stamp: datetime) -> tuple[int, int]:
    milliseconds = round(stamp.timestamp() * 1000)
    return milliseconds // 1000, milliseconds % 1000


def tenths(seconds: float) -> int:
    """Give an age as a register."""
    return _NEVER if math.isinf(seconds) else min(round(seconds * 10), _OLDEST)


def charger_header(
    encoding: Encoding, charger: int, heard: Heard | None, now: float, *, is_there: bool
) -> list[int]:
    """Give the registers before the values of a charger."""
    status = None if heard is None else heard.valid("status", now)
    code = 0 if status is None else _STATUS.get(status, 0)
    return [*encoding.uint32(charger), code, int(is_there), *[0] * (RECORD - 4)]


Find = Callable[[str], Heard | None]
"""Gives the newest of a source."""


def site_registers(
    encoding: Encoding, values: Sequence[Value], find: Find, now: float, names: Mapping[str, object]
) -> list[int]:
    """Give the registers of some values, one record after the other."""
    registers: list[int] = []
    for value in values:
        registers += encoding.record(value, find(value.source.format(**names)), now)
    return registers


class Row(NamedTuple):
    """A line of the printed map."""

    address: int
    """The first register; of a charger's, that of the first charger."""

    is_of_charger: bool
    """Whether each charger has it, `CHARGER_SIZE` registers after that of the one before."""

    length: int
    """How many registers."""

    kind: str
    """``float32``, ``int16``, ``uint16``, ``uint32`` or ``record``."""

    unit: str
    scale: float | None
    """What 1 in the scaled number means, in the unit."""

    text: str

    value: str | None = None
    """What it is called elsewhere, such as ``grid/power_w``, ``component/{id}/active_power_w``: as
    the MQTT gateway's topic ends."""

    codes: dict[str, int] | None = None
    """The numbers of states, by name."""

    def place(self) -> str:
        """Write the address for people."""
        if not self.is_of_charger:
            return str(self.address)
        return f"{CHARGERS_START} + {CHARGER_SIZE} n + {self.address - CHARGERS_START}"

    def type_in_words(self) -> str:
        """Write the type, and the scale, for people."""
        if self.scale is None or (self.scale == 1 and not self.unit):
            return f"{self.kind}, {self.unit}" if self.unit else self.kind
        return f"{self.kind}, 1 = {self.scale:g} {self.unit}".rstrip()


def rows(encoding: Encoding) -> tuple[list[Row], list[Row]]:
    """Give the lines of the printed map: input registers, and holding registers."""

    def records(start: int, values: Sequence[Value], *, of_charger: bool = False) -> Iterator[Row]:
        for number, value in enumerate(values):
            unit = "" if value.unit == "1" else value.unit
            text = f"charger n: {value.text}" if of_charger else value.text
            yield Row(
                start + RECORD * number, of_charger, RECORD, "record", unit,
                encoding.scale(value.unit), text, value.topic(), value.numbers(),
            )  # fmt: skip

    def plain(start: int, fields: Sequence[Field], *, of_charger: bool = False) -> Iterator[Row]:
        for field in fields:
            scale = encoding.scale(field.unit) if field.unit and field.kind == "uint16" else None
            text = f"charger n: {field.text}" if of_charger else field.text
            yield Row(
                start + field.offset, of_charger, field.length, field.kind, field.unit, scale, text
            )

    inputs = [
        *records(SITE_START, SITE),
        *records(LIMIT_START, LIMIT),
        *plain(GATEWAY_START, GATEWAY),
        *plain(CHARGERS_START, HEADER, of_charger=True),
        *records(CHARGERS_START + RECORD, CHARGER, of_charger=True),
    ]
    return inputs, [*plain(0, HOLDING)]
