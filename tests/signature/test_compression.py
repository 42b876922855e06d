"""Answers are compressed for the client that asks, where that saves something; all others get what they can read."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import pytest
from earthself.signature.client import Connection, SignatureClient
from earthself.signature.testing import running_server
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2
from filled import fields, fill

V1, V2 = "snapearth.api.v1.DatabaseProductService", "snapearth.api.v2.DatabaseProductService"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    home = tmp_path_factory.mktemp("stored") / "home"
    fill(home, 20, fields())
    with running_server(home) as running:
        yield running


class Line:
    """A line to a server that counts what comes back."""

    def __init__(self, target):
        self._there = target.split(":")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            far = socket.create_connection((self._there[0], int(self._there[1])))
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source, target, counts):
        with source, target:
            try:
                while content := source.recv(1 << 16):
                    self.received += len(content) if counts else 0
                    target.sendall(content)
            except OSError:
                return

    def close(self):
        self._socket.close()


@contextmanager
def connected(server, compression=None):
    line = Line(server.target)
    with SignatureClient(Connection(line.target, timeout=60, compression=compression)) as client:
        yield client, line
    line.close()


def cost(server, compression, service, method, request):
    """Ask over a line of its own; gives the bytes that came back and the answers."""
    with connected(server, compression) as (client, line):
        answers = list(client._rpc.stream(service, method, request))
        return line.received, answers


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ((V2, "ListSegmentation", v2.ListSegmentationRequest(n_results=5)), 0.35),
        ((V1, "ListProductIds", v1.ListProductIdsRequest()), 0.75),
        ((V2, "ListProductIds", v2.ListProductIdsRequest()), 0.9),
    ],
    ids=["polygons", "ids", "features"],
)
def test_what_compresses_well_is_compressed_for_who_asks(stored, compression, asked, most):
    plain, answers = cost(stored, None, *asked)
    small, same = cost(stored, compression, *asked)
    assert same == answers
    assert plain > sum(answer.ByteSize() for answer in answers)
    assert small < most * plain


def test_rasters_are_deflated_already_and_travel_as_they_are(stored):
    request = v1.ListSegmentationRequest(n_results=3)
    plain, answers = cost(stored, None, V1, "ListSegmentation", request)
    asked, same = cost(stored, "gzip", V1, "ListSegmentation", request)
    assert same == answers
    assert abs(asked - plain) < 0.02 * plain


def test_another_word_is_as_good_as_none(stored):
    with connected(stored) as (client, _):
        client._rpc._metadata = (("earthself-compression", "zstd"),)
        assert len(list(client.find())) == 20


def test_everything_works_compressed(stored):
    with connected(stored, "gzip") as (client, _):
        assert len(list(client.find())) == 20
        assert sum(1 for _ in client.segmentations(limit=7)) == 7
        assert client.get("P0003").layers.keys() == {"segmentation", "cloud_mask"}
