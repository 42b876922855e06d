"""A real server for each module, on a free port with an empty store."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from earthself.signature.client import SignatureClient
from earthself.signature.testing import running_server
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("patient", deadline=None, database=None)  # a busy machine is no failure
settings.load_profile("patient")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("store") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with SignatureClient(server.target, timeout=20) as connected:
        yield connected


@pytest.fixture
def call(client):
    """Call a public method by its name: `call("v1.ListProductIds", wkt=...)` gives the answer, or the list of a stream's answers."""
    from earthself.signature.wire import POOL
    from google.protobuf.message_factory import GetMessageClass

    def asked(method: str, path: str = "snapearth.api.{}.DatabaseProductService", **fields):
        version, name = method.split(".")
        service = path.format(version)
        described = POOL.FindServiceByName(service).methods_by_name[name]
        request = GetMessageClass(described.input_type)(**fields)
        if described.server_streaming:
            return list(client._rpc.stream(service, name, request))
        return client._rpc.unary(service, name, request)

    return asked
