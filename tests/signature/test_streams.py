"""Long answers: they cost what their readers take, nothing after a reader is gone, and little memory however slowly they are read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import grpc
import pytest
from earthself.signature.client import SignatureClient
from earthself.signature.testing import GRID, feature, running_server
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2
from filled import fields, fill, noise
from processes import bytes_read, forget_peak, peak_memory, wait_for

V1, V2, OWN = (
    "snapearth.api.v1.DatabaseProductService",
    "snapearth.api.v2.DatabaseProductService",
    "earthself.signature.v1.SignatureService",
)
NUMBER = 500


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A server of 500 products of more than 200 kB; gives it and their size."""
    home = tmp_path_factory.mktemp("long") / "home"
    size = fill(home, NUMBER)
    assert size > 200_000
    with running_server(home) as running:
        yield running, size


def opened(target):
    """A connection of its own, as another program would have."""
    return grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)])


def listing(channel, service=V1, request=b"", timeout=120):
    return channel.unary_stream(f"/{service}/ListSegmentation")(request, timeout=timeout)


def given_up(server):
    return server.log.read_text().count("was given up after")


@pytest.mark.parametrize("how", ["cancelled", "deadline", "hung up"])
def test_a_reader_that_goes_away_costs_nothing_more(long, how):
    server, size = long
    before, read = given_up(server), bytes_read(server.process.pid)
    with opened(server.target) as channel:
        answers = listing(channel, timeout=0.7 if how == "deadline" else 120)
        assert v1.SegmentationResponse.FromString(next(answers)).product_id == f"P{NUMBER - 1:04}"
        if how == "cancelled":
            answers.cancel()
        elif how == "hung up":
            channel.close()
        wait_for(lambda: given_up(server) > before)
    after = bytes_read(server.process.pid)
    with SignatureClient(server.target, timeout=30) as client:  # other calls go through the same threads
        for _ in range(20):
            assert next(client.find(limit=1))
    assert after - read < 100 * size, "not even a fifth was read before the server knew"
    assert bytes_read(server.process.pid) - after < 5 * size, "and next to nothing after it did"


def test_32_slow_readers_of_500_segmentations_stay_below_300_mb(long):
    """All 32 have begun, each takes a message when its turn comes; at the end one of them reads all that is left."""
    server, _ = long
    forget_peak(server.process.pid)
    channels = [opened(server.target) for _ in range(32)]
    readers = [listing(channel, timeout=600) for channel in channels]
    taken = [0] * len(readers)
    for _ in range(12):
        for number, answers in enumerate(readers):
            assert len(next(answers)) > 200_000
            taken[number] += 1
    peak = peak_memory(server.process.pid)
    rest = sum(1 for _ in readers[7])
    assert taken[7] + rest == NUMBER
    for answers in readers:
        answers.cancel()
    for channel in channels:
        channel.close()
    assert max(peak, peak_memory(server.process.pid)) < 300e6


@pytest.fixture(scope="module")
def polygons(tmp_path_factory):
    """A server of 20 products whose polygons were never asked for."""
    home = tmp_path_factory.mktemp("polygons") / "home"
    fill(home, 20, fields())
    with running_server(home) as running:
        yield running


def test_32_slow_readers_of_polygons_stay_below_300_mb(polygons):
    channels = [opened(polygons.target) for _ in range(32)]
    readers = [listing(channel, V2, timeout=600) for channel in channels]
    for _ in range(2):
        for answers in readers:
            assert len(next(answers)) > 100_000
    assert peak_memory(polygons.process.pid) < 300e6
    for answers in readers:
        answers.cancel()
    for channel in channels:
        channel.close()


def test_a_call_that_waits_for_a_thread_and_is_given_up_is_not_begun(polygons):
    """Of 64 that ask for polygons at once and go, those that no thread came to start no process, which reads 13 MB to begin."""
    before, read = given_up(polygons), bytes_read(polygons.process.pid)
    with opened(polygons.target) as channel, SignatureClient(polygons.target, timeout=60) as client:
        calls = [listing(channel, V2, v2.ListSegmentationRequest(product_ids=["P0000"]).SerializeToString()) for _ in range(64)]
        assert next(client.find(limit=1)), "others are answered meanwhile"
        for call in calls:
            call.cancel()
        wait_for(lambda: given_up(polygons) > before)
        assert next(client._rpc.stream(V2, "ListSegmentation", v2.ListSegmentationRequest(product_ids=["P0000"])))
    assert bytes_read(polygons.process.pid) - read < 20 * 13_000_000


def test_a_whole_product_of_many_megabytes_is_read_as_it_is_taken(tmp_path):
    grid = replace(GRID, width=4000, height=4000)
    size = fill(tmp_path / "home", 1, noise(grid), grid, lambda _: feature("P0000", grid))
    assert size > 12_000_000
    with running_server(tmp_path / "home") as running, ExitStack() as stack:
        before = forget_peak(running.process.pid)
        request = own.GetRequest(product_id="P0000", layers=["segmentation"]).SerializeToString()
        for _ in range(8):
            answers = stack.enter_context(opened(running.target)).unary_stream(f"/{OWN}/Get")(request, timeout=120)
            for _ in range(4):
                next(answers)
        assert peak_memory(running.process.pid) - before < 60_000_000


def test_many_small_messages_come_whole_and_in_order_to_fast_readers(long):
    server, _ = long
    with SignatureClient(server.target, timeout=60) as client, ThreadPoolExecutor(8) as pool:
        wanted = [f"P{number:04}" for number in reversed(range(NUMBER))]
        lists = pool.map(
            lambda _: [one.product_id for one in client._rpc.stream(V1, "ListProductIds", v1.ListProductIdsRequest())], range(16)
        )
        assert all(ids == wanted for ids in lists)
