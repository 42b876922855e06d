"""Polygons of pixels are made beside the server: others are answered meanwhile, and nothing goes on for a reader that has gone."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from earthself.signature import geobuf
from earthself.signature.client import SignatureClient
from earthself.signature.errors import TooMuch
from earthself.signature.filters import Query
from earthself.signature.polygons import Makers
from earthself.signature.services import V2
from earthself.signature.store import Store
from earthself.signature.testing import GRID, running_server
from earthself.signature.wire import geobuf_pb2
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2
from filled import CODES, fields, fill, hourly, noise
from processes import wait_for

NOISE = replace(GRID, width=1500, height=1500)
"""Nearly two million patches of single pixels: GDAL alone is busy with them for half a minute."""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    home = tmp_path_factory.mktemp("noisy") / "home"
    fill(home, 1, noise(NOISE), NOISE, lambda _: {**hourly(0), "geometry": NOISE.outline()})
    with running_server(home) as running:
        yield running


def makers(server):
    """The processes that a server has started."""
    return [int(pid) for pid in Path(f"/proc/{server.process.pid}/task").glob("*/children") for pid in pid.read_text().split()]


def asking(channel, timeout):
    request = v2.ListSegmentationRequest(product_ids=["P0000"]).SerializeToString()
    return channel.unary_stream("/snapearth.api.v2.DatabaseProductService/ListSegmentation")(request, timeout=timeout)


@pytest.mark.parametrize("how", ["cancelled", "deadline", "hung up"])
def test_others_are_answered_meanwhile_and_nothing_goes_on_for_a_reader_that_has_gone(noisy, how):
    with grpc.insecure_channel(noisy.target) as channel, SignatureClient(noisy.target, timeout=5) as others:
        answers = asking(channel, 8 if how == "deadline" else 600)
        wait_for(lambda: makers(noisy))
        for _ in range(20):
            assert others.health()
            assert len(list(others.find())) == 1
        assert how == "deadline" or not answers.done()
        if how == "cancelled":
            answers.cancel()
        elif how == "hung up":
            channel.close()
        wait_for(lambda: not makers(noisy))


def test_a_maker_that_dies_is_told_and_the_next_one_works(noisy):
    with grpc.insecure_channel(noisy.target) as channel:
        answers = asking(channel, 600)
        wait_for(lambda: makers(noisy))
        os.kill(makers(noisy)[0], signal.SIGKILL)
        with pytest.raises(grpc.RpcError, match="more patches than the 4096 MiB for them hold; read its raster") as caught:
            next(answers)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not makers(noisy)
        again = asking(channel, 600)
        wait_for(lambda: makers(noisy))
        again.cancel()


def test_a_server_that_is_killed_leaves_no_maker_at_work(tmp_path):
    home = tmp_path / "home"
    fill(home, 1, noise(NOISE), NOISE, lambda _: {**hourly(0), "geometry": NOISE.outline()})
    with running_server(home) as server, grpc.insecure_channel(server.target) as channel:
        answers = asking(channel, 600)
        wait_for(lambda: makers(server))
        (maker,) = makers(server)
        server.kill()
        wait_for(lambda: not Path(f"/proc/{maker}").exists() or "State:\tZ" in Path(f"/proc/{maker}/status").read_text())
        assert isinstance(answers.exception(), grpc.RpcError)


def test_more_patches_than_there_is_memory_for_are_told(tmp_path):
    home = tmp_path / "home"
    fill(home, 1, noise(NOISE), NOISE, lambda _: {**hourly(0), "geometry": NOISE.outline()})
    store = Store.open(home)
    store._makers = Makers(memory=500 << 20)
    answers = V2(store).ListSegmentation(v2.ListSegmentationRequest())
    with pytest.raises(TooMuch, match="1 products are left out of this answer: the polygons of P0000 cannot be made"):
        next(answers)
    store.close()


def test_a_maker_is_used_again_and_ends_with_the_store(tmp_path):
    home = tmp_path / "home"
    small = replace(GRID, width=160, height=160)
    fill(home, 3, fields(small), small, lambda number: {**hourly(number), "geometry": small.outline()})
    store = Store.open(home)
    seen = set()
    for number, stored in enumerate(store.find(Query())):
        made = geobuf_pb2.Data.FromString(store.polygons(stored, number / 10))
        found = geobuf.decode(made)
        assert found["id"] == stored.product.product_id
        assert {one["properties"]["category"] for one in found["features"]} <= set(CODES.tolist())
        seen |= {process.pid for process in store._makers._idle}
    assert len(seen) == 1
    store.close()
    assert not Path(f"/proc/{seen.pop()}").exists()
