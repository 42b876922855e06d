# ruff: noqa: A002, E501, F401, I001, ICN001, RUF023, RUF100, UP007, UP045
# fmt: off
# mypy: ignore-errors
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as _database_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
