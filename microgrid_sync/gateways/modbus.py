"""A site for Modbus TCP: masters read its numbers, and cap its chargers."""

import logging
import math
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

try:
    from pymodbus.constants import ExcCodes
    from pymodbus.framer import FramerSocket
    from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
    from pymodbus.pdu.register_message import (
        ReadHoldingRegistersRequest,
        ReadHoldingRegistersResponse,
        ReadInputRegistersRequest,
        ReadInputRegistersResponse,
        WriteMultipleRegistersRequest,
        WriteMultipleRegistersResponse,
        WriteSingleRegisterRequest,
        WriteSingleRegisterResponse,
    )
except ImportError as error:
    raise ImportError("the gateway needs pymodbus: pip install 'microgrid_sync[modbus]'") from error

from microgrid_sync.gateways import register_map as registers
from microgrid_sync.gateways.commands import CommandError, Commands, CommandSource, check_cap
from microgrid_sync.gateways.listening import Listener, Served
from microgrid_sync.gateways.live_site import LiveSite
from microgrid_sync.gateways.register_map import Encoding, WordOrder
from microgrid_sync.model import ComponentCategory
from microgrid_sync.power.circuits import Where

DEFAULT_PORT = 5020
"""The protocol's own, 502, is for root alone on most systems."""

_MOST_MASTERS = 32

_IDLE_TIMEOUT = 300.0
"""Seconds after which a master that asks nothing is hung up on."""

_FRAME_TIMEOUT = 10.0
"""Seconds for the rest of a request that has begun, and for a master to take an answer."""

_REQUESTS_PER_SECOND = 500
"""So many requests of one master are answered at once; further ones wait."""

_HEADER = struct.Struct(">HHHB")
_LONGEST_PDU = 253
_READ, _READ_INPUT, _WRITE_ONE, _WRITE = 3, 4, 6, 16
_KNOWN = (_READ, _READ_INPUT, _WRITE_ONE, _WRITE)

_REFUSAL_LOG_INTERVAL = 60.0

_logger = logging.getLogger(__name__)


class _Refused(Exception):
    """A request that is answered with an exception of Modbus."""

    def __init__(self, code: ExcCodes) -> None:
        super().__init__(code.name)
        self.code = code


class ModbusGateway(Served):
    """Serves a site over Modbus TCP until it is closed.

    A thread for each master, which others do not wait for. Addresses are those of the requests,
    counted from 0.
    """

    def __init__(
        self,
        site: LiveSite,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        unit_id: int = 1,
        word_order: WordOrder = "big",
        watts_per_count: float = 10.0,
        chargers: tuple[int, ...] = (),
        limited: Where = "grid",
        source: CommandSource | None = None,
        commands: Commands | None = None,
    ) -> None:
        """Listen for masters.

        Args:
            site: What they read.
            host: The address to listen on.
            port: The port; 0 for any that is free.
            unit_id: The unit that the site is; others get exception 11.
            word_order: Which half of a 32-bit number comes first: ``big`` the higher one.
            watts_per_count: What 1 in a scaled power means, in W.
            chargers: The IDs of the chargers in the order of their registers; those of the site
                that are not named come behind, in the order of their IDs.
            limited: Whose limit is shown: a meter's ID, or ``"grid"``.
            source: Whose commands those of the masters are; ``None`` to refuse them.
            commands: What is shown as commanded, if not those of the source.

        Raises:
            OSError: If that place cannot be listened on.
        """
        self._site = site
        self._unit_id = unit_id
        self._encoding = Encoding(word_order, watts_per_count)
        self._limited = limited
        self._commands = source.commands if source is not None else commands
        self._source = source
        # Protects the chargers, to which some are added; and the numbers of requests.
        self._lock = threading.Lock()
        self._chargers = [*chargers]
        self._requests = 0
        self._exceptions = 0
        self._heartbeat = 0
        self._refused_at: dict[tuple[str, str], float] = {}
        super().__init__(
            Listener(
                host, port, _handler(self), f"microgrid-modbus {site.name}", most=_MOST_MASTERS
            )
        )

    def __repr__(self) -> str:
        """Say where it listens."""
        return f"<ModbusGateway of {self._site.name} on port {self.port}>"

    @property
    def masters(self) -> int:
        """How many masters are connected."""
        return self._listener.connections()

    @property
    def requests(self) -> int:
        """How many requests it has answered."""
        return self._requests

    @property
    def exceptions(self) -> int:
        """How many of them by an exception of Modbus."""
        return self._exceptions

    # In the masters' threads

    def answer(self, unit_id: int, pdu: bytes, by: str) -> ModbusPDU:
        """Answer a request.

        Args:
            unit_id: Whom it is for.
            pdu: The function code and what belongs to it.
            by: Who asks.
        """
        try:
            answer = self._answer(unit_id, pdu, by)
        except _Refused as refused:
            answer = ExceptionResponse(pdu[0] & 0x7F, refused.code)
        with self._lock:
            self._requests += 1
            self._exceptions += isinstance(answer, ExceptionResponse)
        return answer

    def _answer(self, unit_id: int, pdu: bytes, by: str) -> ModbusPDU:
        if unit_id != self._unit_id:
            raise _Refused(ExcCodes.GATEWAY_NO_RESPONSE)
        if pdu[0] not in _KNOWN:
            raise _Refused(ExcCodes.ILLEGAL_FUNCTION)
        if not _is_well_formed(pdu):
            raise _Refused(ExcCodes.ILLEGAL_VALUE)
        request = DecodePDU(is_server=True).decode(pdu)
        match request:
            case ReadInputRegistersRequest():
                found = self._input(request.address, request.count)
                return ReadInputRegistersResponse(registers=found)
            case ReadHoldingRegistersRequest():
                held = self._holding(request.address, request.count)
                return ReadHoldingRegistersResponse(registers=held)
            case WriteSingleRegisterRequest(address=address, registers=written):
                self._write(address, written, by)
                return WriteSingleRegisterResponse(address=address, registers=written)
            case WriteMultipleRegistersRequest(address=address, registers=written):
                self._write(address, written, by)
                return WriteMultipleRegistersResponse(address=address, count=len(written))
        raise _Refused(ExcCodes.ILLEGAL_VALUE)

    # Reading

    def _known_chargers(self) -> list[int]:
        """Give the chargers in the order of their registers, which none ever leaves."""
        components = self._site.components
        with self._lock:
            known = set(self._chargers)
            self._chargers += [
                number
                for number, component in components.items()
                if component.category is ComponentCategory.EV_CHARGER and number not in known
            ]
            return self._chargers[: registers.MOST_CHARGERS]

    def _input(self, address: int, count: int) -> list[int]:
        now = time.monotonic()
        chargers = self._known_chargers()
        size = registers.CHARGER_SIZE
        blocks = (
            (registers.SITE_START, len(registers.SITE) * registers.RECORD, self._site_registers),
            (registers.LIMIT_START, len(registers.LIMIT) * registers.RECORD, self._limit_registers),
            (registers.GATEWAY_START, registers.GATEWAY_SIZE, self._gateway_registers),
        )
        for start, length, read in blocks:
            if start <= address and address + count <= start + length:
                offset = address - start
                return read(now)[offset : offset + count]
        offset = address - registers.CHARGERS_START
        if offset < 0:
            raise _Refused(ExcCodes.ILLEGAL_ADDRESS)
        if offset + count > len(chargers) * size:
            # Which chargers there are is not known before the site has answered.
            is_known = self._site.microgrid is not None
            raise _Refused(ExcCodes.ILLEGAL_ADDRESS if is_known else ExcCodes.GATEWAY_NO_RESPONSE)
        first, last = offset // size, (offset + count - 1) // size
        found: list[int] = []
        for charger in chargers[first : last + 1]:
            found += self._charger_registers(charger, now)
        offset -= first * size
        return found[offset : offset + count]

    def _site_registers(self, now: float) -> list[int]:
        return registers.site_registers(self._encoding, registers.SITE, self._site.heard, now, {})

    def _limit_registers(self, now: float) -> list[int]:
        return registers.site_registers(
            self._encoding, registers.LIMIT, self._site.heard, now, {"where": self._limited}
        )

    def _charger_registers(self, charger: int, now: float) -> list[int]:
        status = self._site.heard(f"charger:{charger}")
        is_there = charger in self._site.components
        header = registers.charger_header(self._encoding, charger, status, now, is_there=is_there)
        return header + registers.site_registers(
            self._encoding, registers.CHARGER, self._site.heard, now, {"id": charger}
        )

    def _gateway_registers(self, now: float) -> list[int]:
        encoding, source = self._encoding, self._source
        state = None if self._commands is None else self._commands.state()
        cap = None if state is None else state.cap_w
        current = None if state is None else state.max_current_a
        origin = 0
        is_awaited = source is not None and source.safe_cap_w is not None
        if state is not None and state.cap_w is not None:
            is_ours = source is not None and state.cap_source == source.name
            origin = 3 if state.is_safe_value else 1 if is_ours else 2
        age = source.heartbeat_age(now) if source is not None and is_awaited else math.inf
        return [
            registers.VERSION,
            int(self._site.is_heard(now)),
            len(self._known_chargers()),
            int(source is not None),
            *encoding.float32(cap),
            encoding.uint16(cap, "W"),
            origin,
            registers.tenths(age),
            int(source is not None and source.is_overdue(now)),
            *encoding.float32(current),
            encoding.uint16(current, "A"),
            int(state is not None and state.error is not None),
        ]

    def _held(self) -> dict[int, int]:
        """Give the holding registers by address."""
        source, encoding = self._source, self._encoding
        cap = None if source is None else source.cap_w
        current = None if source is None else source.max_current_a
        found = {
            registers.HEARTBEAT: self._heartbeat,
            registers.HEARTBEAT_AGAIN: self._heartbeat,
            registers.CAP_SCALED: encoding.uint16(cap, "W"),
            registers.CURRENT_SCALED: encoding.uint16(current, "A"),
        }
        for address, value in ((registers.CAP_FLOAT, cap), (registers.CURRENT_FLOAT, current)):
            found[address], found[address + 1] = encoding.float32(value)
        return found

    def _holding(self, address: int, count: int) -> list[int]:
        held = self._held()
        wanted = range(address, address + count)
        if {*wanted} - held.keys():
            raise _Refused(ExcCodes.ILLEGAL_ADDRESS)
        return [held[one] for one in wanted]

    # Writing

    def _write(self, address: int, written: Sequence[int], by: str) -> None:
        """Carry out what is written, all of it or nothing."""
        source = self._source
        if source is None:
            self._tell_refused(by, "commands are not accepted: 'commands = true' is not set")
            raise _Refused(ExcCodes.ILLEGAL_FUNCTION)
        given = dict(enumerate(written, address))
        floats = (registers.CAP_FLOAT, registers.CURRENT_FLOAT)
        is_half = any(((one in given) != (one + 1 in given)) for one in floats)
        if is_half or given.keys() - self._held().keys():
            raise _Refused(ExcCodes.ILLEGAL_ADDRESS)
        try:
            self._command(source, given, f"Modbus master {by}")
        except CommandError as error:
            self._tell_refused(by, str(error))
            raise _Refused(ExcCodes.ILLEGAL_VALUE) from None

    def _command(self, source: CommandSource, given: Mapping[int, int], who: str) -> None:
        caps = self._written(given, registers.CAP_FLOAT, registers.CAP_SCALED, "W")
        currents = self._written(given, registers.CURRENT_FLOAT, registers.CURRENT_SCALED, "A")
        # All of it is checked before any of it is commanded.
        for cap in filter(_is_number, caps):
            check_cap(cap)
        for current in filter(_is_number, currents):
            source.commands.check_max_current(current)
        for cap in caps:
            source.set_cap(cap, by=who)
        for current in currents:
            source.set_max_current(current, by=who)
        for address in (registers.HEARTBEAT, registers.HEARTBEAT_AGAIN):
            if address in given:
                self._heartbeat = given[address]
                source.heartbeat()

    def _written(
        self, given: Mapping[int, int], at_float: int, at_scaled: int, unit: str
    ) -> list[float | None]:
        """Give what is written to two places that mean the same; `None` takes it back."""
        found: list[float | None] = []
        if at_float in given:
            value = self._encoding.read_float32((given[at_float], given[at_float + 1]))
            found.append(None if math.isnan(value) else value)
        if at_scaled in given:
            found.append(self._encoding.read_uint16(given[at_scaled], unit))
        return found

    def _tell_refused(self, by: str, why: str) -> None:
        now = time.monotonic()
        with self._lock:
            is_due = now - self._refused_at.get((by, why), -math.inf) >= _REFUSAL_LOG_INTERVAL
            if is_due:
                # One line a minute of each master and reason, as long as they are few.
                if len(self._refused_at) >= _MOST_MASTERS:
                    self._refused_at.pop(next(iter(self._refused_at)))
                self._refused_at[by, why] = now
        if is_due:
            _logger.warning("%s: Modbus master %s is refused: %s", self._site.name, by, why)


def _is_number(value: float | None) -> bool:
    return value is not None


def _is_well_formed(pdu: bytes) -> bool:
    """Tell whether a request says what it must, and no more than is allowed."""
    if pdu[0] == _WRITE_ONE:
        return len(pdu) == 5
    if len(pdu) < 5:
        return False
    (count,) = struct.unpack(">H", pdu[3:5])
    if pdu[0] == _WRITE:
        return bool(1 <= count <= 123) and len(pdu) == 6 + 2 * count and pdu[5] == 2 * count
    return bool(len(pdu) == 5 and 1 <= count <= 125)


# The messages are pymodbus'; its server is not used: of several requests in one segment version
# 3.16 answers the first alone, and a connection that has carried rubbish stays open and deaf.
def _handler(gateway: ModbusGateway) -> type[socketserver.BaseRequestHandler]:
    class Master(socketserver.BaseRequestHandler):
        """Serves one master: a request, an answer, and so on."""

        request: socket.socket
        server: Any

        def handle(self) -> None:
            """Answer until the master hangs up, is quiet for too long, or sends rubbish."""
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            framer = FramerSocket(DecodePDU(is_server=True))
            by = self.client_address[0]
            pause = 1.0 / _REQUESTS_PER_SECOND
            next_at = time.monotonic()
            try:
                while (asked := _next_request(self.request)) is not None:
                    transaction, unit_id, pdu = asked
                    self.server.note_use(self.request)
                    answer = gateway.answer(unit_id, pdu, by)
                    answer.transaction_id, answer.dev_id = transaction, unit_id
                    self.request.sendall(framer.buildFrame(answer))
                    # A second's worth may come at once; who floods waits from then on.
                    now = time.monotonic()
                    next_at = max(next_at, now - 1.0) + pause
                    if next_at > now:
                        time.sleep(next_at - now)
            except OSError:
                # The master has gone, or takes no answers.
                return

    return Master


def _next_request(connection: socket.socket) -> tuple[int, int, bytes] | None:
    """Read a request: its transaction, its unit and what it asks; `None` at the end.

    Raises:
        OSError: If it does not come in time.
    """
    connection.settimeout(_IDLE_TIMEOUT)
    first = connection.recv(_HEADER.size)
    if not first:
        return None
    # Per whole request, not per byte: one that trickles in holds a thread for no longer.
    deadline = time.monotonic() + _FRAME_TIMEOUT
    header = first + _exactly(connection, _HEADER.size - len(first), deadline)
    transaction, protocol, length, unit_id = _HEADER.unpack(header)
    if protocol != 0 or not 2 <= length <= _LONGEST_PDU + 1:
        # What follows cannot be told apart any more.
        return None
    pdu = _exactly(connection, length - 1, deadline)
    connection.settimeout(_FRAME_TIMEOUT)
    return transaction, unit_id, pdu


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    found = b""
    while len(found) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("a request has begun and does not go on")
        connection.settimeout(left)
        part = connection.recv(count - len(found))
        if not part:
            raise ConnectionError("a request has begun and does not go on")
        found += part
    return found
