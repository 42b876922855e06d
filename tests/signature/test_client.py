"""Our client: all layers in chunks, lazy arrays, errors that say what to do, and patience with servers that are away."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
import rasterio
from earthself.signature import lazy, services
from earthself.signature.client import AccessRefused, AlreadyExists, BadSignature, NotFound, SignatureClient, SignatureError, Unavailable
from earthself.signature.filters import ALL_CODES
from earthself.signature.rpc import Connection, Rpc
from earthself.signature.store import Store
from earthself.signature.testing import GRID, feature, geotiff, layers
from earthself.signature.wire import POOL
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own
from google.protobuf.message_factory import GetMessageClass
from public_server import public_server
from rasterio.crs import CRS

CODES = np.full((50, 60), 311, "uint16")
CODES[:, :7] = 211
OWN = {
    "earthself:observation": "S2A_33UUP_20170613T101031_R022",
    "earthself:model": "baseline:1.0",
    "earthself:legend": "clc:3",
    "earthself:preprocessing": "pre1:scl:60",
    "earthself:clear_fraction": 0.75,
    "earthself:offset": -1000,
    "earthself:bands": ["B02", "B03"],
}
BIG = type(GRID)(GRID.crs, GRID.transform, 2700, 2600)


@pytest.fixture(scope="module")
def big(client):
    """A product of more than 4 MiB, gRPC's usual limit; gives its pixels."""
    codes = np.array(sorted(ALL_CODES), "uint16")
    pixels = np.random.default_rng(2).choice(codes, (BIG.height, BIG.width))
    assert client.create(feature("big", BIG), layers(pixels, grid=BIG)) == "created"
    return pixels


def test_all_layers_and_properties_come_back(client):
    sent = feature("full", **OWN)
    rasters = {
        **layers(CODES, CODES == 211),
        "confidence": geotiff(np.full((50, 60), 77, "uint8")),
        "flags": geotiff(np.where(CODES == 211, 2, 64).astype("uint8")),
    }
    assert client.create(sent, rasters) == "created"
    assert client.create(sent, rasters) == "known"
    got = client.get("full")
    assert got.layers.keys() == rasters.keys()
    for name, content in rasters.items():
        assert (lazy.pixels_of(got.layers[name]) == lazy.pixels_of(content)).all()
    assert got.feature["properties"] == sent["properties"]
    (found,) = client.find(product_ids=["full"])
    assert found == got.feature
    assert client.get("full", ("flags",)).layers.keys() == {"flags"}


def test_find_filters_and_orders(client):
    for day in (3, 1, 2):
        said = feature(f"day{day}", creation_date=f"2041-05-0{day}T10:00:00Z")
        client.create(said, layers(np.full((50, 60), 30 + day, "uint16")))
    assert [f["id"] for f in client.find(start="2041-05-01", end="2041-05-03")] == ["day2", "day1"]
    assert [f["id"] for f in client.find(start="2041-01-01", limit=2)] == ["day3", "day2"]
    assert [f["id"] for f in client.find(start="2041-01-01", categories=[33, 31])] == ["day3", "day1"]
    assert [f["id"] for f in client.find(product_ids="day2")] == ["day2"]
    assert list(client.find(wkt="POINT(0 0)")) == []


def test_a_segmentation_is_a_lazy_array_with_crs_codes_and_names(client):
    client.create(feature("lazy", **OWN), layers(CODES))
    array = client.segmentation("lazy")
    assert array.chunks is not None
    assert (array.dims, array.shape, array.dtype) == (("y", "x"), (50, 60), np.dtype("uint16"))
    assert (array.to_numpy() == CODES).all()
    assert [array.x[0], array.x[-1], array.y[0], array.y[-1]] == [500005, 500595, 5399995, 5399505]
    crs = CRS.from_wkt(array.spatial_ref.attrs["crs_wkt"])
    assert crs.to_epsg() == 32633
    assert [float(n) for n in array.spatial_ref.attrs["GeoTransform"].split()] == [500000, 10, 0, 5400000, 0, -10]
    assert array.encoding["grid_mapping"] == "spatial_ref"
    meanings = dict(zip(array.attrs["flag_values"].tolist(), array.attrs["flag_meanings"].split(), strict=True))
    assert len(meanings) == len(array.attrs["class_names"]) == 44
    assert meanings[311] == "broad_leaved_forest"
    assert array.attrs["class_names"][0] == "Continuous urban fabric"
    assert (array.attrs["product_id"], array.attrs["creation_date"]) == ("lazy", "2017-06-13T10:10:31Z")


def test_only_the_windows_that_are_asked_for_are_fetched(client, big, monkeypatch):
    array = client.segmentation("big")
    fetched = []
    read = lazy.pixels_of
    monkeypatch.setattr(lazy, "pixels_of", lambda content: fetched.append(len(content)) or read(content))
    assert array.chunks == ((1024, 1024, 552), (1024, 1024, 652))
    assert fetched == []
    part = array.sel(x=slice(500_000 + 20_480, 500_000 + 20_580), y=slice(5_400_000 - 10_000, 5_400_000 - 10_480)).compute()
    assert (part.to_numpy() == big[1000:1048, 2048:2058]).all()
    assert len(fetched) == 2
    assert (array.to_numpy() == big).all()


def test_a_lazy_array_can_be_sent_to_another_process(client, big):
    again = pickle.loads(pickle.dumps(client.segmentation("big")[:10, :10]))  # noqa: S301 - our own bytes
    assert (again.to_numpy() == big[:10, :10]).all()


def test_a_lazy_array_can_be_written_as_netcdf(client, tmp_path):
    client.create(feature("lazy", **OWN), layers(CODES))
    client.segmentation("lazy").to_netcdf(tmp_path / "lazy.nc")
    with rasterio.open(f"netcdf:{tmp_path / 'lazy.nc'}:segmentation") as dataset:
        assert (dataset.read(1) == CODES).all()
        assert dataset.crs.to_epsg() == 32633
        assert tuple(dataset.transform)[:6] == GRID.transform


def test_a_window_is_a_georeferenced_raster_and_must_lie_inside(client):
    client.create(feature("lazy", **OWN), layers(CODES))
    window = lazy.Window(client._connection, "lazy", "segmentation")
    assert (window(5, 10, 4, 3) == CODES[10:13, 5:9]).all()
    for outside in ((-1, 0, 5, 5), (0, 0, 0, 5), (58, 0, 5, 5), (0, 48, 5, 5)):
        with pytest.raises(BadSignature, match=r"is not inside segmentation, which has 60x50 pixels"):
            window(*outside)


def test_large_products_pass_without_a_raised_limit_and_v1_with_one(client, call, big):
    got = client.get("big")
    assert len(got.layers["segmentation"]) > 4 << 20
    assert (lazy.pixels_of(got.layers["segmentation"]) == big).all()
    (answer,) = call("v1.ListSegmentation", product_ids=["big"])
    assert answer.segmentation == got.layers["segmentation"]


def test_errors_have_classes_and_say_what_to_do(client):
    with pytest.raises(NotFound, match="'nobody' is not stored; list what there is") as missing:
        client.get("nobody")
    with pytest.raises(NotFound):
        client.segmentation("nobody")
    with pytest.raises(BadSignature, match="longitude comes first") as bad:
        list(client.find(wkt="POLYGON((48 115,48 116,49 116,48 115))"))
    with pytest.raises(BadSignature, match="write a date like"):
        list(client.find(start="yesterday"))
    with pytest.raises(BadSignature, match="cloud_mask is missing"):
        client.create(feature("half"), {"segmentation": geotiff(CODES)})
    assert [(e.value.exit_code, e.value.retry) for e in (missing, bad)] == [(69, False), (65, False)]


def test_a_token_does_not_travel_in_clear_text():
    with pytest.raises(AccessRefused, match="clear text"):
        SignatureClient("db.example.org:50051", token="secret")
    assert "secret" not in repr(Connection("db.example.org:443", tls=True, token="secret"))


@contextmanager
def served(**methods):
    """A server of hand-made methods: name to (kind of handler, behaviour of bytes); gives its address."""
    seen = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            name = details.method.rsplit("/", 1)[1]
            seen.append((details.method, dict(details.invocation_metadata)))
            kind, behaviour = methods.get(name, (None, None))
            return kind and kind(behaviour)

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", seen
    finally:
        server.stop(0).wait()


def test_a_server_that_is_away_is_asked_again_and_then_named():
    pauses = []
    tries = iter([True, True, False])

    def find(_request, context):
        if next(tries):
            context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        yield b""

    with served(Find=(grpc.unary_stream_rpc_method_handler, find)) as (target, seen):
        rpc = Rpc(Connection(target, token="secret", timeout=20), sleep=pauses.append)
        request = GetMessageClass(POOL.FindMessageTypeByName("earthself.signature.v1.FindRequest"))()
        assert len(list(rpc.stream(lazy.SERVICE, "Find", request))) == 1
        assert len(pauses) == 2
        assert pauses[0] < pauses[1]
        assert {metadata["authorization"] for _, metadata in seen} == {"Bearer secret"}
    with pytest.raises(Unavailable, match=f"{target} does not answer") as away:
        list(rpc.stream(lazy.SERVICE, "Find", request))
    assert len(pauses) == 2 + 3
    assert (away.value.exit_code, away.value.retry) == (75, True)
    assert not SignatureClient(target, timeout=5).health()


def test_what_is_refused_is_not_asked_again():
    def find(_request, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
        yield b""

    with served(Find=(grpc.unary_stream_rpc_method_handler, find)) as (target, seen):
        with pytest.raises(AccessRefused, match="not yours"):
            list(SignatureClient(target).find())
        assert len(seen) == 1


@pytest.mark.parametrize("before", [0, 1])
def test_a_stream_that_stalls_ends_after_the_timeout(before):
    stalled = threading.Event()

    def find(_request, _context):
        yield from [b""] * before
        stalled.wait(20)

    with served(Find=(grpc.unary_stream_rpc_method_handler, find)) as (target, _):
        rpc = Rpc(Connection(target, timeout=0.4))
        request = GetMessageClass(POOL.FindMessageTypeByName("earthself.signature.v1.FindRequest"))()
        answers = rpc.stream(lazy.SERVICE, "Find", request)
        assert len([next(answers) for _ in range(before)]) == before
        with pytest.raises(Unavailable, match=r"no answer within 0\.4 s"):
            next(answers)
        stalled.set()


def test_an_answer_that_does_not_come_ends_after_the_timeout():
    stalled = threading.Event()

    def create(requests, _context):
        list(requests)
        stalled.wait(20)
        return b""

    with served(Create=(grpc.stream_unary_rpc_method_handler, create)) as (target, _):
        with pytest.raises(Unavailable, match=r"no answer within 0\.4 s"):
            SignatureClient(target, timeout=0.4).create(feature("x"), layers(CODES))
        stalled.set()


@pytest.fixture(scope="module")
def public_only(tmp_path_factory):
    """A client of a server without our own service."""
    store = Store.open(tmp_path_factory.mktemp("public") / "home")
    with public_server(store) as target, SignatureClient(target, timeout=20) as connected:
        yield connected
    store.close()


def test_a_server_of_the_public_interface_alone_is_enough(public_only):
    assert public_only.health()
    sent = feature("P")
    rasters = {**layers(CODES), "flags": geotiff(np.zeros((50, 60), "uint8"))}
    assert public_only.create(sent, rasters) == "created"
    assert public_only.create(feature("Q", creation_date="2016-01-01T00:00:00Z"), rasters) == "created"
    assert [f["id"] for f in public_only.find()] == ["P", "Q"]
    assert [f["id"] for f in public_only.find(product_ids=["Q"])] == ["Q"]
    assert [f["id"] for f in public_only.find(limit=1)] == ["P"]
    assert [f["id"] for f in public_only.find(categories=[211], end="2017-01-01")] == ["Q"]
    got = public_only.get("P")
    assert got.layers.keys() == {"segmentation", "cloud_mask"}
    assert got.feature["properties"] == sent["properties"]
    array = public_only.segmentation("P")
    assert (array.to_numpy() == CODES).all()
    assert CRS.from_wkt(array.spatial_ref.attrs["crs_wkt"]).to_epsg() == 32633
    with pytest.raises(NotFound, match="speaks v1 only, which has no layer flags"):
        public_only.get("P", ["flags"])
    with pytest.raises(NotFound, match="is not stored"):
        public_only.get("nobody")


def test_every_error_is_one_of_ours():
    assert all(issubclass(kind, SignatureError) for kind in (AccessRefused, AlreadyExists, BadSignature, NotFound, Unavailable))


def test_a_create_has_an_end(monkeypatch, tmp_path):
    monkeypatch.setattr(services, "MOST_BYTES", 2000)
    store = Store.open(tmp_path / "home")
    creation = services.Own(store).Create()
    chunk = own.CreateRequest(chunk=own.LayerChunk(layer="flags", content=bytes(1500)))
    creation.add(chunk)
    with pytest.raises(BadSignature, match="more than 2000 bytes"):
        creation.add(chunk)
    with pytest.raises(BadSignature, match="without a feature"):
        creation.finish()
    creation.discard()
    assert list((tmp_path / "home" / "staging").iterdir()) == []
    store.close()
