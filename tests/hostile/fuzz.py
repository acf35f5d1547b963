"""Coverage-guided bytes in place of messages: ``python fuzz.py -atheris_runs=N``.

Whatever comes, a message is a value or is skipped; any other exception is a crash, which atheris
reports with the bytes that made it.
"""

import sys

import atheris

with atheris.instrument_imports(include=["microgrid_sync.wire", "microgrid_sync.model"]):
    from microgrid_sync import ComponentCategory
    from microgrid_sync.wire import UndecodableMessage, generation

REQUESTS = [
    generation(api).stream_data(1, category)
    for api in ("v0.15", "v1alpha18")
    for category in (
        ComponentCategory.METER,
        ComponentCategory.INVERTER,
        ComponentCategory.BATTERY,
        ComponentCategory.EV_CHARGER,
    )
]


def one(payload: bytes) -> None:
    """Decode some bytes as the data of each category."""
    for request in REQUESTS:
        try:
            message = request.read(payload)
        except UndecodableMessage:
            continue
        request.make(message)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
