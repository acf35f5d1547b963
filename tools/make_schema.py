#!/usr/bin/env python3
"""Makes the schema modules of ``microgrid_sync/wire`` of the ``.proto`` files beside them.

Needs grpcio-tools, at development time alone. With ``--check`` it writes nothing, and fails if a
module is not what it would write.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

WIRE = Path(__file__).parent.parent / "microgrid_sync" / "wire"

_WIDTH = 88
"""Characters of the descriptor's text in a line."""

_HEAD = '''"""The messages of ``{source}``. Made by ``tools/make_schema.py``."""

from typing import TYPE_CHECKING, Any

from microgrid_sync.wire.schema import load

# fmt: off
FILE = (
{lines}
)
# fmt: on
"""The serialized descriptor of the file."""

load(FILE, __name__)

if TYPE_CHECKING:
    # The classes are made when the module is imported.
    def __getattr__(name: str) -> Any: ...
'''


def compile_proto(source: Path) -> bytes:
    """Compile a file into its serialized descriptor, without comments."""
    included = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "set"
        arguments = [
            "protoc",
            f"--proto_path={source.parent}",
            f"--proto_path={included}",
            f"--descriptor_set_out={target}",
            str(source),
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"{source} cannot be compiled")
        (file,) = FileDescriptorSet.FromString(target.read_bytes()).file
    # A name of our own in the pool of all descriptors, whatever else is there.
    file.name = f"microgrid_sync/wire/{source.name}"
    return file.SerializeToString(deterministic=True)


def _lines(data: bytes) -> str:
    lines = []
    while data:
        # Short enough, and never within an escape.
        count = min(len(data), _WIDTH)
        while len(repr(data[:count])) > _WIDTH:
            count -= 1
        lines.append(f"    {data[:count]!r}")
        data = data[count:]
    return "\n".join(lines)


def schema_module(source: Path) -> str:
    """Give the text of a file's schema module."""
    return _HEAD.format(source=source.name, lines=_lines(compile_proto(source)))


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description="Make the schema modules of the .proto files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is old")
    check = parser.parse_args().check
    old = []
    for source in sorted((WIRE / "proto").glob("*.proto")):
        target = WIRE / f"{source.stem}_schema.py"
        text = schema_module(source)
        if target.exists() and target.read_text() == text:
            continue
        if check:
            old.append(target.name)
        else:
            target.write_text(text)
    if old:
        print(f"older than their .proto files: {', '.join(old)}", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
