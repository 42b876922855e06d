"""Message classes of the gRPC interfaces, written by `generate_stubs.py` from `earthself/signature/proto`.

Importing this package makes all services known to `POOL`.
"""

from __future__ import annotations

from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as _own
from earthself.signature.wire.pool import POOL
from earthself.signature.wire.snapearth.api.v1 import older_database_pb2 as _v1
from earthself.signature.wire.snapearth.api.v2 import older_database_pb2 as _v2

__all__ = ["POOL"]
_LOADED = (_own, _v1, _v2)
