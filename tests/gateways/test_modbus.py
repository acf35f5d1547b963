"""A site for Modbus masters."""

import contextlib
import math
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from microgrid_sync import MicrogridApiClient
from microgrid_sync.gateways import Commands, LiveSite, register_map
from microgrid_sync.gateways.modbus import ModbusGateway
from microgrid_sync.receiver import Receiver, ReceiverFetcher
from microgrid_sync.simulator import Fault, Simulator
from tests.gateways.masters import Master, Refused, record, registers_of
from tests.gateways.sites import CHARGERS, draw, live_site
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.microgrid(sample_interval=0.1)

GATEWAY, FIRST = register_map.GATEWAY_START, register_map.CHARGERS_START
SIZE, RECORD = register_map.CHARGER_SIZE, register_map.RECORD


@contextlib.contextmanager
def serving(url: str, *, safe: float = 4200.0, timeout: float = 60.0, max_age: float = 10.0,
            **options: Any) -> Iterator[tuple[LiveSite, ModbusGateway]]:  # fmt: skip
    with live_site(url, max_age=max_age) as site, Commands(site) as commands:
        source = commands.new_source("modbus", safe_cap_w=safe, heartbeat_timeout=timeout)
        with ModbusGateway(site, port=0, source=source, **options) as gateway:
            yield site, gateway


def request(pdu: bytes, transaction: int = 1, unit: int = 1) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def connected(gateway: ModbusGateway) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


READ_FIRST = struct.pack(">BHH", 4, 0, 2)


class Samples:
    """All that receivers give, by their timestamps in milliseconds."""

    def __init__(self, **receivers: Receiver[Any]) -> None:
        self._receivers = receivers
        self._found: dict[str, dict[int, Any]] = {name: {} for name in receivers}

    def at(self, name: str, milliseconds: int) -> Any:
        """Give the sample of a moment; ``None`` if none has come yet."""
        for value in self._receivers[name].drain():
            self._found[name][round(value.timestamp.timestamp() * 1000)] = value
        return self._found[name].get(milliseconds)


@pytest.mark.both_apis
@pytest.mark.parametrize("order", ["big", "little"])
def test_every_register_is_what_the_client_says(microgrid: Simulator, api: str, order: Any) -> None:
    with serving(f"{microgrid.url}?api={api}", word_order=order) as (site, gateway):
        mine = site.microgrid
        assert mine is not None
        assert site.pool is not None
        fetchers: dict[str, ReceiverFetcher[Any]] = {
            "grid:power": mine.grid.power, "grid:current": mine.grid.current_per_phase,
            "grid:frequency": mine.grid.frequency, "consumers:power": mine.consumer.power,
            "pv:power": mine.pv.power, "batteries:power": mine.battery.power,
            "batteries:soc": mine.battery.soc, "chargers:power": site.pool.power,
            "chargers:current": site.pool.current_per_phase,
        }  # fmt: skip
        receivers = {name: one.new_receiver(maxsize=1000) for name, one in fetchers.items()}
        receivers |= {f"component:{n}": site.client.ev_charger_data(n) for n in CHARGERS}
        samples = Samples(**receivers)
        with Master(gateway.port) as master:
            compared = 0
            for number, value in enumerate(register_map.SITE):
                if value.source in receivers:
                    _compare(samples, master, number * RECORD, value, value.source, order)
                    compared += 1
                else:
                    # The demo has no CHP, and nothing is distributed.
                    assert value.source in {"chp:power", "chargers:target"}
                    (found,) = master.records(number * RECORD, 1, order)
                    assert math.isnan(found.value)
                    assert (found.valid, found.scaled) == (0, -32768)
            for place, charger in enumerate(CHARGERS):
                header = master.input(FIRST + SIZE * place, 3)
                pair = header[:2] if order == "big" else header[1::-1]
                assert pair == [0, charger]
                assert eventually(lambda at=FIRST + SIZE * place + 2: master.input(at) == [3])  # type: ignore[misc] # mypy cannot infer a lambda's default
                for number, value in enumerate(register_map.CHARGER):
                    address = FIRST + SIZE * place + RECORD * (1 + number)
                    source = value.source.format(id=charger)
                    if source in receivers:
                        _compare(samples, master, address, value, source, order)
                        compared += 1
            assert compared == 13 + 2 * 6


def _compare(  # noqa: PLR0917 - what is compared, with what, and how
    samples: Samples, master: Master, address: int, value: Any, source: str, order: str
) -> None:
    """Compare a record with the sample of its timestamp."""
    found = {}

    def read() -> bool:
        (one,) = master.records(address, 1, order)
        found["record"] = one
        found["sample"] = samples.at(source, one.milliseconds)
        return bool(one.valid) and found["sample"] is not None

    assert eventually(read), (value, found)
    sample, read_ = found["sample"], found["record"]
    expected = _of_sample(sample, value)
    (as_float32,) = struct.unpack(">f", struct.pack(">f", expected))
    assert read_.value == as_float32, value
    scale = {"W": 10.0, "A": 0.1, "Hz": 0.01, "%": 0.1, "1": 1.0}[value.unit]
    assert read_.scaled == round(expected / scale), value
    assert read_.age < 100


def _of_sample(sample: Any, value: Any) -> float:
    """Give the number of a sample that a register is to have, without the gateway's own code."""
    phase = int(value.name.split("_")[2]) - 1 if "phase" in value.name else None
    if value.source.startswith("component"):
        if phase is not None:
            return float(sample.current_per_phase[phase])
        if value.unit == "W":
            return float(sample.active_power)
        return float(getattr(sample, value.name).value)
    quantity = [*sample][phase] if phase is not None else sample.value
    return float(quantity.base_value)


def test_states_have_the_numbers_of_the_api(microgrid: Simulator) -> None:
    with serving(microgrid.url) as (_, gateway), Master(gateway.port) as master:
        # Charging, and, after some seconds, locked.
        assert eventually(
            lambda: [one.value for one in master.records(FIRST + 5 * RECORD, 2)] == [4.0, 5.0]
        )


@pytest.mark.both_apis
def test_cap_is_obeyed_in_both_forms(microgrid: Simulator, api: str) -> None:
    with serving(f"{microgrid.url}?api={api}") as (_, gateway), Master(gateway.port) as master:
        assert eventually(lambda: draw(microgrid) > 12_000)
        master.write(register_map.CAP_FLOAT, *registers_of(5000.0))
        assert eventually(lambda: draw(microgrid) <= 5001)
        assert master.holding(0, 2) == registers_of(5000.0)
        assert master.holding(register_map.CAP_SCALED) == [500]
        assert master.input(GATEWAY + 4, 4) == [*registers_of(5000.0), 500, 1]
        assert eventually(lambda: master.records(FIRST + 7 * RECORD, 1)[0].valid)
        master.write_one(register_map.CAP_SCALED, 0xFFFF)
        assert eventually(lambda: draw(microgrid) > 12_000)
        assert math.isnan(record([*master.holding(0, 2), *[0] * 6]).value)
        assert master.input(GATEWAY + 6, 2) == [0xFFFF, 0]


def test_heartbeat_that_stops_leaves_the_safe_value(microgrid: Simulator) -> None:
    with serving(microgrid.url, timeout=1.0) as (_, gateway), Master(gateway.port) as master:
        numbers = iter(range(1, 10_000))

        def cap() -> None:
            number = next(numbers)
            master.write(
                register_map.CAP_FLOAT, *registers_of(11_000.0), *registers_of(60.0), number
            )
            assert master.holding(register_map.HEARTBEAT) == [number]

        def is_capped() -> bool:
            cap()
            return master.input(GATEWAY + 7) == [1] and draw(microgrid) > 5000

        # It may have been overdue before the first came.
        assert eventually(is_capped)
        assert eventually(lambda: draw(microgrid) <= 4201)
        assert master.input(GATEWAY + 6, 2) == [420, 3]
        assert master.input(GATEWAY + 9) == [1]
        # It comes back, and with it what was written.
        stop = threading.Event()

        def beat() -> None:
            with Master(gateway.port) as other:
                while not stop.wait(0.1):
                    other.write_one(register_map.HEARTBEAT_AGAIN, 1)

        thread = threading.Thread(target=beat)
        thread.start()
        assert eventually(lambda: master.input(GATEWAY + 6, 2) == [1100, 1])
        stop.set()
        thread.join(PATIENCE)


def test_limit_is_obeyed_and_shown(microgrid: Simulator) -> None:
    with serving(microgrid.url) as (site, gateway), Master(gateway.port) as master:
        master.write_one(register_map.CURRENT_SCALED, 200)
        assert master.holding(register_map.CURRENT_FLOAT, 2) == registers_of(20.0)
        assert eventually(lambda: master.records(register_map.LIMIT_START, 1)[0].value == 20.0)
        headroom = register_map.LIMIT_START + 4 * RECORD
        assert eventually(lambda: all(one.valid for one in master.records(headroom, 3)))
        assert site.limits


def test_what_is_silent_is_not_valid(microgrid: Simulator) -> None:
    with serving(microgrid.url, max_age=0.5) as (_, gateway), Master(gateway.port) as master:
        microgrid.faults.add(Fault(kind="silent", components=[7]))
        power = FIRST + RECORD

        def is_silent() -> bool:
            found = master.records(power, 7)
            return (
                all(math.isnan(one.value) and one.scaled == -32768 for one in found)
                # How old it is, and of when, is told all the same.
                and found[0].age >= 5
                and found[0].milliseconds > 0
                and bool(master.records(power + SIZE, 1)[0].valid)
                and master.input(FIRST + 2) == [0]
            )

        # What was on its way when it fell silent may still come.
        assert eventually(is_silent)


def test_without_commands_writing_is_refused(
    microgrid: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        live_site(microgrid.url) as site,
        ModbusGateway(site, port=0) as gateway,
        Master(gateway.port) as master,
    ):
        for _ in range(3):
            with pytest.raises(Refused, match="1"):
                master.write(0, *registers_of(5000.0))
        assert master.input(GATEWAY + 3) == [0]
        assert math.isnan(record([*master.holding(0, 2), *[0] * 6]).value)
    assert caplog.text.count("commands are not accepted") == 1
    assert eventually(lambda: draw(microgrid) > 12_000)


@pytest.fixture
def gateway() -> Iterator[ModbusGateway]:
    with Simulator(sample_interval=0.1) as simulator, serving(simulator.url) as (_, found):
        yield found


ILLEGAL: list[tuple[Callable[[Master], object], int]] = [
    (lambda master: master.input(len(register_map.SITE) * RECORD), 2),
    (lambda master: master.input(len(register_map.SITE) * RECORD - 1, 2), 2),
    (lambda master: master.input(FIRST - 1, 2), 2),
    (lambda master: master.input(FIRST + 2 * SIZE), 2),
    (lambda master: master.input(0xFFFF), 2),
    (lambda master: master.holding(5), 2),
    (lambda master: master.holding(4, 2), 2),
    (lambda master: master.write(0, 1), 2),
    (lambda master: master.write_one(1, 1), 2),
    (lambda master: master.write(3, 1, 1), 2),
    (lambda master: master.write(13, 1), 2),
    (lambda master: master.write(0, *registers_of(-5.0)), 3),
    (lambda master: master.write(0, *registers_of(11.0)), 3),
    (lambda master: master.write(0, *registers_of(math.inf)), 3),
    (lambda master: master.write(2, *registers_of(0.0)), 3),
    (lambda master: master.write(2, *registers_of(1e4)), 3),
    # Neither the good part of it nor the bad one.
    (lambda master: master.write(0, *registers_of(5000.0), *registers_of(-1.0)), 3),
    (lambda master: master._found(master.client.read_coils(0, device_id=1)), 1),
    (lambda master: master._found(master.client.write_coil(0, True, device_id=1)), 1),
    (lambda master: master._found(master.client.mask_write_register(device_id=1)), 1),
    (lambda master: master._found(master.client.read_input_registers(0, device_id=2)), 11),
]


def test_what_is_illegal_gets_an_exception(gateway: ModbusGateway) -> None:
    with Master(gateway.port) as master:
        for number, (what, code) in enumerate(ILLEGAL):
            with pytest.raises(Refused) as refused:
                what(master)
            assert refused.value.args == (code,), number
            assert master.input(0, 2)
            assert math.isnan(record([*master.holding(0, 2), *[0] * 6]).value), number


def test_counts_that_cannot_be_get_exception_3(gateway: ModbusGateway) -> None:
    for pdu in (
        struct.pack(">BHH", 4, 0, 0),
        struct.pack(">BHH", 4, 0, 126),
        struct.pack(">BH", 4, 0),
        struct.pack(">BHHB", 16, 0, 2, 4) + b"\0\0",
        struct.pack(">BHHB", 16, 0, 0, 0),
        struct.pack(">BHH", 6, 0, 0) + b"\0",
    ):
        with connected(gateway) as one:
            one.sendall(request(pdu, transaction=7))
            assert one.recv(100) == request(bytes([pdu[0] | 0x80, 3]), transaction=7)


def test_requests_may_come_in_pieces_and_together(gateway: ModbusGateway) -> None:
    with connected(gateway) as one:
        several = b"".join(request(READ_FIRST, transaction=number) for number in range(20))
        one.sendall(several[:5])
        time.sleep(0.05)
        one.sendall(several[5:])
        found = b""
        while len(found) < 20 * 13:
            found += one.recv(4096)
    transactions = [struct.unpack_from(">H", found, 13 * n)[0] for n in range(20)]
    assert transactions == [*range(20)]


def test_rubbish_ends_its_own_connection_alone(gateway: ModbusGateway) -> None:
    chance = random.Random(1)
    with connected(gateway) as good:
        for _ in range(50):
            with connected(gateway) as bad, contextlib.suppress(OSError):
                bad.sendall(b"\1\1\1\1" + chance.randbytes(chance.randrange(1, 300)))
                bad.settimeout(PATIENCE)
                assert bad.recv(100) == b""
            good.sendall(request(READ_FIRST))
            assert len(good.recv(100)) == 13


def test_who_hangs_holds_nobody_up(gateway: ModbusGateway) -> None:
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(connected(gateway))
        good.sendall(request(READ_FIRST))
        assert len(good.recv(100)) == 13
        # More than there may be, some in the middle of a request.
        for number in range(60):
            bad = stack.enter_context(connected(gateway))
            bad.sendall(request(READ_FIRST)[: number % 9])
        good.sendall(request(READ_FIRST))
        assert len(good.recv(100)) == 13
        with Master(gateway.port) as late:
            assert late.input(0, 2)
    assert eventually(lambda: gateway.masters == 0)


def test_half_a_request_is_not_waited_for_forever(
    gateway: ModbusGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgrid_sync.gateways.modbus._FRAME_TIMEOUT", 0.2)
    with connected(gateway) as bad:
        bad.sendall(request(READ_FIRST)[:-1])
        # A gateway that has not read all of it resets the connection.
        with contextlib.suppress(ConnectionResetError):
            assert bad.recv(100) == b""


def test_floods_hold_nobody_up(gateway: ModbusGateway) -> None:
    stop = threading.Event()

    def flood() -> None:
        with connected(gateway) as bad:
            bad.settimeout(0.1)
            while not stop.is_set():
                # It never reads.
                with contextlib.suppress(OSError):
                    bad.sendall(request(READ_FIRST) * 500)

    floods = [threading.Thread(target=flood) for _ in range(3)]
    for thread in floods:
        thread.start()
    try:
        with Master(gateway.port) as good:
            ages = [good.records(0, 1)[0].age for _ in range(50)]
    finally:
        stop.set()
        for thread in floods:
            thread.join(PATIENCE)
    # What is read is not older than without them: samples come each second.
    assert max(ages) < 100


def test_chargers_keep_their_places(microgrid: Simulator) -> None:
    with (
        live_site(microgrid.url) as site,
        ModbusGateway(site, port=0, chargers=(8, 99)) as gateway,
        Master(gateway.port) as master,
    ):
        found = [master.input(FIRST + SIZE * place, 2)[1] for place in range(3)]
        assert found == [8, 99, 7]
        assert master.input(GATEWAY + 2) == [3]
        # One that is not there is no error, but not valid.
        assert not any(one.valid for one in master.records(FIRST + SIZE + RECORD, 7))
        assert master.records(FIRST + 2 * SIZE + RECORD, 1)[0].valid


def test_chargers_of_a_site_that_has_not_answered_are_not_illegal(port: int) -> None:
    with (
        MicrogridApiClient(f"grpc://127.0.0.1:{port}", timeout=1.0) as client,
        LiveSite(client) as site,
        ModbusGateway(site, port=0) as gateway,
        Master(gateway.port) as master,
    ):
        with pytest.raises(Refused) as refused:
            master.input(FIRST)
        assert refused.value.args == (11,)
        assert not any(one.valid for one in master.records(0, len(register_map.SITE)))
        assert master.input(GATEWAY, 3) == [register_map.VERSION, 0, 0]


def test_port_that_is_taken_is_named(gateway: ModbusGateway, microgrid: Simulator) -> None:
    with (
        live_site(microgrid.url) as site,
        pytest.raises(OSError, match=rf"127\.0\.0\.1:{gateway.port} cannot be listened on"),
    ):
        ModbusGateway(site, port=gateway.port)


def test_close_any_number_of_times(microgrid: Simulator) -> None:
    with live_site(microgrid.url) as site:
        gateway = ModbusGateway(site, port=0)
        master = Master(gateway.port)
        assert "ModbusGateway" in repr(gateway)
        gateway.close()
        gateway.close()
        master.close()
