"""A Modbus master for tests: reads the map as its page says, with pymodbus' client."""

import struct
from typing import Any, NamedTuple

from pymodbus.client import ModbusTcpClient

from microgrid_sync.gateways import register_map


class Record(NamedTuple):
    """A value as it is read."""

    value: float
    scaled: int
    valid: int
    age: int
    milliseconds: int
    """Of its timestamp, since 1970."""


class Refused(Exception):
    """A Modbus exception."""


def numbers(registers: list[int], order: str, kind: str) -> Any:
    """Read a number of 32 bits."""
    first, second = registers if order == "big" else registers[::-1]
    return struct.unpack(kind, struct.pack(">HH", first, second))[0]


def registers_of(value: float, order: str = "big") -> list[int]:
    """Write a number of 32 bits."""
    pair = [*struct.unpack(">HH", struct.pack(">f", value))]
    return pair if order == "big" else pair[::-1]


def record(registers: list[int], order: str = "big") -> Record:
    """Read a record."""
    (scaled,) = struct.unpack(">h", struct.pack(">H", registers[2]))
    seconds = numbers(registers[5:7], order, ">I")
    value = numbers(registers[:2], order, ">f")
    return Record(value, scaled, registers[3], registers[4], seconds * 1000 + registers[7])


class Master:
    """Reads and writes; an exception of Modbus is an error with its number."""

    def __init__(self, port: int, unit: int = 1) -> None:
        self.unit = unit
        # Half of it has types.
        client: Any = ModbusTcpClient
        self.client = client("127.0.0.1", port=port, timeout=10)
        assert self.client.connect()

    def __enter__(self) -> "Master":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()

    def input(self, address: int, count: int = 1) -> list[int]:
        found: list[int] = self._found(
            self.client.read_input_registers(address, count=count, device_id=self.unit)
        )
        return found

    def holding(self, address: int, count: int = 1) -> list[int]:
        found: list[int] = self._found(
            self.client.read_holding_registers(address, count=count, device_id=self.unit)
        )
        return found

    def write(self, address: int, *values: int) -> None:
        self._found(self.client.write_registers(address, [*values], device_id=self.unit))

    def write_one(self, address: int, value: int) -> None:
        self._found(self.client.write_register(address, value, device_id=self.unit))

    def records(self, start: int, count: int, order: str = "big") -> list[Record]:
        size = register_map.RECORD
        found: list[Record] = []
        # At most 125 registers at once.
        for first in range(0, count, 15):
            some = min(15, count - first)
            registers = self.input(start + size * first, size * some)
            found += (record(registers[size * n :][:size], order) for n in range(some))
        return found

    @staticmethod
    def _found(answer: Any) -> Any:
        if answer.isError():
            raise Refused(answer.exception_code)
        return answer.registers
