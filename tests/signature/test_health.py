"""Health: serving, and not serving while the store cannot be read, for the server and each of its services, also to those who watch."""

from __future__ import annotations

import threading

import grpc
import numpy as np
import psycopg
import pytest
from earthself.signature.client import SignatureClient, Unavailable
from earthself.signature.testing import feature, layers, running_server
from grpc_health.v1 import health_pb2, health_pb2_grpc
from processes import wait_for

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = [
    "",
    "snapearth.api.v1.DatabaseProductService",
    "snapearth.api.v2.DatabaseProductService",
    "earthself.signature.v1.SignatureService",
]
RASTERS = layers(np.full((50, 60), 311, "uint16"))


class Watched:
    """What a watcher of a service heard so far."""

    def __init__(self, stub, service=""):
        self.heard = []
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        try:
            for answer in self._call:
                self.heard.append(answer.status)
        except grpc.RpcError:
            pass

    def until(self, status):
        wait_for(lambda: self.heard and self.heard[-1] == status)


@pytest.fixture
def health():
    """Call it with a server for a stub of its health service."""
    channels = []

    def stub(server):
        channels.append(grpc.insecure_channel(server.target))
        return health_pb2_grpc.HealthStub(channels[-1])

    yield stub
    for channel in channels:
        channel.close()


def check(stub, service):
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status


def test_rasters_that_are_away_and_come_back(tmp_path, health):
    home = tmp_path / "home"
    with running_server(home) as running:
        stub = health(running)
        watched = [Watched(stub, service) for service in SERVICES]
        for one in watched:
            one.until(SERVING)
        (home / "products").rename(home / "away")
        for one in watched:
            one.until(NOT_SERVING)
        assert {check(stub, service) for service in SERVICES} == {NOT_SERVING}
        with SignatureClient(running.target, timeout=20) as client:
            assert not client.health()
        (home / "away").rename(home / "products")
        for one in watched:
            one.until(SERVING)
        assert {check(stub, service) for service in SERVICES} == {SERVING}
        assert all(one.heard == [SERVING, NOT_SERVING, SERVING] for one in watched)
    log = running.log.read_text()
    assert "not serving, since the store cannot be read" in log
    assert "Traceback" not in log


def test_a_database_file_that_is_gone(tmp_path, health):
    with running_server(tmp_path / "home") as running:
        stub = health(running)
        file = tmp_path / "home" / "earthsignature.sqlite"
        file.rename(file.with_suffix(".away"))
        wait_for(lambda: check(stub, "") == NOT_SERVING)
        assert not file.exists(), "asking makes no new database"
        file.with_suffix(".away").rename(file)
        wait_for(lambda: check(stub, "") == SERVING)


def test_a_database_server_that_is_away_and_comes_back(tmp_path, health, cluster):
    url = cluster.new_database()
    name = url.rsplit("/", 1)[1]
    with running_server(tmp_path / "home", "--database-url", url) as running, SignatureClient(running.target, timeout=20) as client:
        client._rpc._sleep = lambda _seconds: None
        stub = health(running)
        assert client.create(feature("P"), RASTERS) == "created"
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as operator:
            operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            wait_for(lambda: check(stub, "") == NOT_SERVING)
            with pytest.raises(Unavailable, match="the database does not answer"):
                list(client.find())
            operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_for(lambda: check(stub, "") == SERVING)
        assert [found["id"] for found in client.find()] == ["P"]


def test_a_server_that_stops_says_so_to_watchers(tmp_path, health):
    with running_server(tmp_path / "home") as running:
        watched = Watched(health(running))
        watched.until(SERVING)
        assert running.stop() == 0
        watched.until(NOT_SERVING)


def test_unknown_services_and_watchers_that_do_not_read_hold_nobody(tmp_path, health):
    home = tmp_path / "home"
    with running_server(home) as running, grpc.insecure_channel(running.target) as channel:
        stub = health(running)
        silent = [health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(50)]
        strange = Watched(stub, "another")
        strange.until(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        with pytest.raises(grpc.RpcError) as refused:
            check(stub, "another")
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        (home / "products").rename(home / "away")
        wait_for(lambda: check(stub, "") == NOT_SERVING)
        (home / "away").rename(home / "products")
        for one in silent:
            one.cancel()
