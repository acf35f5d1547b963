"""The message classes of our own descriptors: what they are made of, and that they travel."""

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.message import Message

from microgrid_sync.wire import v0_15_schema, v1alpha18_schema

SCHEMAS = [v0_15_schema, v1alpha18_schema]
TOOL = Path(__file__).parent.parent.parent / "tools" / "make_schema.py"


def classes(schema: ModuleType) -> list[type[Message]]:
    return [
        value
        for value in vars(schema).values()
        if isinstance(value, type) and issubclass(value, Message)
    ]


def test_schema_modules_are_those_of_the_proto_files() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed here")
    subprocess.run([sys.executable, str(TOOL), "--check"], check=True, timeout=60)


def test_there_is_a_class_for_each_message() -> None:
    for schema in SCHEMAS:
        file = schema.ComponentData if schema is v0_15_schema else schema.Microgrid
        names = set(file.DESCRIPTOR.file.message_types_by_name)
        assert {cls.__qualname__ for cls in classes(schema)} == names
        assert all(cls.__module__ == schema.__name__ for cls in classes(schema))


def test_each_message_pickles_and_copies_into_another_process(tmp_path: Path) -> None:
    messages = []
    for schema in SCHEMAS:
        for cls in classes(schema):
            message = cls()
            for field in cls.DESCRIPTOR.fields:
                if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT64):
                    value = getattr(message, field.name)
                    if isinstance(value, int):
                        setattr(message, field.name, 7)
            messages.append(message)
            assert copy.deepcopy(message) == message
            assert copy.copy(message) == message
    path = tmp_path / "messages"
    path.write_bytes(pickle.dumps([(message, message.SerializeToString()) for message in messages]))
    script = (
        "import pickle, sys\n"
        "pairs = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "assert all(m.SerializeToString() == data for m, data in pairs)\n"
        "print(len(pairs))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert int(result.stdout) == len(messages) > 60


def test_loading_again_gives_the_same_messages() -> None:
    before = v0_15_schema.Connection(start=1, end=2).SerializeToString()
    again = importlib.reload(v0_15_schema)
    assert again.Connection.FromString(before).end == 2
