"""CPU time that today's asyncio client and the SDK's adapter take for a charger's message, in us.

Reads the message in hexadecimal on its standard input. Run by generations.py, in an environment
with frequenz-sdk.
"""

import sys
import time

from frequenz.api.microgrid.v1alpha18 import microgrid_pb2
from frequenz.client.microgrid.component._data_samples_proto import (
    component_data_samples_from_proto,
)
from frequenz.sdk.microgrid._old_component_data import EVChargerData


def main() -> None:
    """Measure and print."""
    payload = bytes.fromhex(sys.stdin.read())
    parse = microgrid_pb2.ReceiveElectricalComponentTelemetryStreamResponse.FromString
    best = float("inf")
    for _ in range(15):
        began = time.process_time()
        for _ in range(500):
            samples = component_data_samples_from_proto(parse(payload).telemetry)
            EVChargerData.from_samples(samples)
        best = min(best, time.process_time() - began)
    print(best / 500 * 1e6)


if __name__ == "__main__":
    main()
