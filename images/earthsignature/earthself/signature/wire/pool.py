"""The descriptor pool of our own message classes.

Protobuf's default pool refuses a second definition of a name, and users of EarthSignature have generated theirs already.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
for _module in (timestamp_pb2, descriptor_pb2):
    POOL.AddSerializedFile(_module.DESCRIPTOR.serialized_pb)
