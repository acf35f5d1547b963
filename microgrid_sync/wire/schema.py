"""Makes message classes of the descriptors of our own, for any version of protobuf.

Generated code is bound to a version of protobuf's compiler; a serialized descriptor is not. That
is why the package carries descriptors: protobuf 5.26 and anything later makes classes of them.
"""

import sys

from google.protobuf import descriptor_pool, message_factory

# Imported for what it does: our files depend on that of the timestamp.
from google.protobuf.timestamp_pb2 import Timestamp

__all__ = ["Timestamp", "load"]


def load(file: bytes, module_name: str) -> None:
    """Make the message classes of a file, as attributes of a module.

    They are found there again by pickle and copy, which the classes that protobuf hands out are
    not: those are in no module.

    Args:
        file: The serialized descriptor, of ``microgrid_sync/wire/<version>.proto``.
        module_name: The module ``microgrid_sync.wire.<version>_schema``; it is being imported.
    """
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file)
    module = sys.modules[module_name]
    name = f"{module_name.removesuffix('_schema').replace('.', '/')}.proto"
    for message, descriptor in pool.FindFileByName(name).message_types_by_name.items():
        message_class = message_factory.GetMessageClass(descriptor)
        message_class.__module__ = module_name
        message_class.__qualname__ = message
        setattr(module, message, message_class)
