"""Lets a Modbus master cap the chargers, from a program of one's own; needs the extra modbus."""

import logging
import signal
import sys
import threading

from microgrid_sync import MicrogridApiClient
from microgrid_sync.gateways import Commands, LiveSite
from microgrid_sync.gateways.modbus import ModbusGateway

SAFE_CAP_W = 4200.0
HEARTBEAT_TIMEOUT = 60.0


def main(url: str, port: int) -> None:
    """Serve until a signal comes. The cap in W is in the holding registers 0 and 1, as a float."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with MicrogridApiClient(url) as client, LiveSite(client) as site, Commands(site) as commands:
        # Without a heartbeat in register 4 the safe value holds, 30 s after the start at first.
        source = commands.new_source(
            "modbus", safe_cap_w=SAFE_CAP_W, heartbeat_timeout=HEARTBEAT_TIMEOUT
        )
        with ModbusGateway(site, port=port, source=source) as gateway:
            print(f"Modbus TCP on 127.0.0.1:{gateway.port}", flush=True)
            while not stop.wait(5.0):
                state = commands.state()
                cap = "none" if state.cap_w is None else f"{state.cap_w:g} W by {state.cap_by}"
                print(f"cap: {cap}; masters: {gateway.masters}", flush=True)
    print("ended", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: cap_from_modbus.py grpc://host:port MODBUS_PORT")
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
