"""A real server for each module, on a free port with an empty store; everything on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
from earthself.signature.client import SignatureClient
from earthself.signature.store import Store
from earthself.signature.testing import running_server
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("patient", deadline=None, database=None)  # a busy machine is no failure
settings.load_profile("patient")
NUMBER = itertools.count()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_database(request, tmp_path_factory):
    """Call it for the URL of a new, empty database."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("databases")
        return lambda: f"sqlite:///{folder / f'{next(NUMBER)}.sqlite'}"
    return request.getfixturevalue("cluster").new_database


@pytest.fixture
def open_store(new_database):
    """Call it with a folder to open the store there, each time with the same database for the same folder; closed at the end."""
    databases, opened = {}, []

    def opening(home):
        if home not in databases:
            databases[home] = new_database()
        store = Store.open(home, databases[home])
        opened.append(store)
        return store

    yield opening
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def database_url(new_database):
    """Of the module's server."""
    return new_database()


@pytest.fixture(scope="module")
def server(tmp_path_factory, database_url):
    with running_server(tmp_path_factory.mktemp("store") / "home", "--database-url", database_url) as running:
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
