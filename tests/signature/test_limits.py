"""What a caller may cost: too much of anything is refused with the value and the limit, and the server serves the others on."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import shapely
from earthself.signature import geobuf
from earthself.signature.client import BadSignature, SignatureClient
from earthself.signature.testing import feature, layers, running_server
from earthself.signature.wire.earthself.signature.v1 import signature_pb2 as own
from earthself.signature.wire.snapearth.api.v1 import database_pb2 as v1
from earthself.signature.wire.snapearth.api.v2 import database_pb2 as v2
from processes import forget_peak, peak_memory

RASTERS = layers(np.full((50, 60), 311, "uint16"))
V1, V2, OWN = (
    "snapearth.api.v1.DatabaseProductService",
    "snapearth.api.v2.DatabaseProductService",
    "earthself.signature.v1.SignatureService",
)


def star(corners):
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    far = np.where(np.arange(corners) % 2, 5, 10)
    return shapely.Polygon(np.column_stack([10 + far * np.cos(turn), 45 + far * np.sin(turn)]))


def scribble(corners):
    """A line to and fro over 33 by 33 degrees."""
    return [(n * 3571 % 10009 / 300, n * 7919 % 10007 / 300) for n in range(corners)]


def strips(number):
    across = [shapely.box(0, i * 0.05, 80, i * 0.05 + 0.02) for i in range(number)]
    return [*across, *(shapely.transform(strip, lambda xy: xy[:, ::-1]) for strip in across)]


AREAS = {
    "long text": (" " * 2_000_000 + "POINT(1 2)", r"wkt of 2000010 characters; send at most 1200000"),
    "corners": (star(30_000).wkt, r"wkt with 30001 corners; send at most 20000"),
    "parts": (shapely.MultiPolygon([shapely.box(i % 90, i / 90, i % 90 + 0.5, i / 90 + 0.005) for i in range(1100)]).wkt, "2201 brackets"),
    "nested": ("GEOMETRYCOLLECTION(" * 9 + "POINT(1 2)" + ")" * 9, "more than 8 levels of brackets"),
    "nested in thousands": ("GEOMETRYCOLLECTION(" * 50_000 + "POINT(1 2)" + ")" * 50_000, "wkt with 50001 brackets"),
    "crossing itself": (shapely.MultiLineString([scribble(2000)]).wkt, r"cross each other about \d+ times; at most 50000"),
    "crossing itself beyond 180": (
        shapely.transform(shapely.LineString(scribble(2000)), lambda xy: xy + np.array([160, 0])).wkt,
        r"cross each other about \d+ times; at most 50000",
    ),
    "crossing each other": (shapely.GeometryCollection(strips(240)).wkt, r"cross each other about \d+ times; at most 50000"),
}


@pytest.mark.parametrize(("wkt", "said"), AREAS.values(), ids=AREAS)
@pytest.mark.parametrize("method", ["v1.ListSegmentation", "v1.ListProductIds", "v2.ListSegmentation", "v2.ListProductIds"])
def test_a_costly_area_is_refused(call, client, method, wkt, said):
    with pytest.raises(BadSignature, match=said):
        call(method, wkt=wkt)
    assert client.health()


@pytest.mark.parametrize(
    "wkt",
    [
        star(19_000).wkt,
        shapely.MultiPolygon([shapely.box(i % 22, i // 22, i % 22 + 1, i // 22 + 1) for i in range(440)]).wkt,
        "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(1 2,3 4),GEOMETRYCOLLECTION(MULTIPOINT(1 2,3 4),POLYGON((0 0,1 0,1 1,0 0))))",
        shapely.GeometryCollection(strips(50)).wkt,
    ],
    ids=["detailed", "many neighbours", "collection in a collection", "some crossings"],
)
def test_an_area_within_the_limits_is_answered(call, wkt):
    assert call("v1.ListProductIds", wkt=wkt) == []


def test_ids_and_categories_are_counted(call):
    with pytest.raises(BadSignature, match="10001 product_ids in one question; ask for at most 10000"):
        call("v1.ListSegmentation", product_ids=[f"P{n}" for n in range(10_001)])
    assert call("v1.ListSegmentation", product_ids=[f"P{n}" for n in range(10_000)]) == []
    for version, codes in (("v1", ["311"] * 1001), ("v2", [311] * 1001)):
        with pytest.raises(BadSignature, match="1001 categories"):
            call(f"{version}.ListProductIds", categories=codes)


def raw(target, service, method, content, metadata=()):
    """Send bytes as they are; gives the status and the details."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 24), ("grpc.absolute_max_metadata_size", 1 << 24)]
    with grpc.insecure_channel(target, options=options) as channel:
        try:
            list(channel.stream_stream(f"/{service}/{method}")(iter(content), timeout=60, metadata=metadata))
        except grpc.RpcError as error:
            return error.code(), error.details()
    return grpc.StatusCode.OK, ""


SIZES = [
    (V1, "ListProductIds", 5 << 20, "a message of 5242880 bytes to ListProductIds; it takes at most 4194304"),
    (V2, "CreateProduct", 65 << 20, "a message of 68157440 bytes to CreateProduct; it takes at most 67108864"),
    (OWN, "Create", 17 << 20, "a message of 17825792 bytes to Create; it takes at most 16777216"),
    (OWN, "Get", 5 << 20, "it takes at most 4194304"),
]


@pytest.mark.parametrize(("service", "method", "size", "said"), SIZES, ids=lambda value: value if isinstance(value, str) else "")
def test_each_method_takes_messages_of_its_own_size(server, service, method, size, said):
    code, text = raw(server.target, service, method, [bytes(size)])
    assert (code, said in text) == (grpc.StatusCode.INVALID_ARGUMENT, True), text


def test_the_largest_message_is_a_setting(tmp_path):
    with running_server(tmp_path / "home", "--max-message", str(2 << 20)) as running:
        code, text = raw(running.target, V1, "CreateProduct", [bytes(3 << 20)])
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "3145728 vs. 2097152" in text
        before = forget_peak(running.process.pid)
        with grpc.insecure_channel(running.target, options=[("grpc.max_send_message_length", -1)]) as channel:
            zeros = channel.unary_unary(f"/{V1}/CreateProduct")
            with pytest.raises(grpc.RpcError, match="Decompressed message larger than max"):
                zeros(bytes(500 << 20), compression=grpc.Compression.Gzip, timeout=60)
        assert peak_memory(running.process.pid) - before < 100 << 20
        with SignatureClient(running.target, timeout=20) as client:
            client._rpc._sleep = lambda _seconds: pytest.fail("tried again")
            with pytest.raises(BadSignature, match=r"3145728 vs\. 2097152"):
                client._rpc.unary(V1, "CreateProduct", v1.CreateProductRequest(segmentation=bytes((3 << 20) - 5)))


NOISE = np.random.default_rng(1).bytes(2000)


@pytest.mark.parametrize(
    ("service", "method", "content", "said"),
    [
        (V1, "ListProductIds", [b"\xff" * 50], "the bytes sent are no snapearth.api.v1.ListProductIdsRequest"),
        (V1, "CreateProduct", [NOISE], "the bytes sent are no snapearth.api.v1.CreateProductRequest"),
        (OWN, "Create", [NOISE], "the bytes sent are no earthself.signature.v1.CreateRequest"),
        (V2, "ListSegmentation", [], "a call of ListSegmentation without its ListSegmentationRequest"),
        (V1, "CreateProduct", [], "a call of CreateProduct without its CreateProductRequest"),
        (OWN, "Create", [], "Create without a feature"),
        (V2, "CreateProduct", [v2.CreateProductRequest().SerializeToString() + b"\x0a\xf0\xff\xff\xff\x07"], "the bytes sent are no"),
    ],
)
def test_noise_is_refused(server, service, method, content, said):
    code, text = raw(server.target, service, method, content)
    assert (code, said in text) == (grpc.StatusCode.INVALID_ARGUMENT, True), text


def bomb(kind):
    """Make a geobuf that is small on the wire and large in memory."""
    made = geobuf.Data(keys=["a"])
    feature = made.feature
    feature.geometry.type = 0
    feature.geometry.coords.extend([0, 0])
    if kind == "rings":
        made.feature_collection.features.add().geometry.CopyFrom(geobuf.Data.Geometry(type=4, lengths=[0] * 8_000_000))
    elif kind == "points":
        feature.geometry.coords.extend([0] * 200_000)
    elif kind == "geometries":
        feature.geometry.CopyFrom(geobuf.Data.Geometry(type=6, geometries=[geobuf.Data.Geometry(type=1)] * 110_000))
    elif kind == "properties":
        feature.properties.extend([0] * 200_000)
    else:
        feature.values.add(json_value="[" + "[]," * 100_000 + "[]]")
        feature.properties.extend([0, 0])
    return made


@pytest.mark.parametrize("kind", ["rings", "points", "geometries", "properties", "JSON"])
def test_a_geobuf_that_unfolds_is_refused_and_costs_no_memory(server, call, kind):
    given = {"product": bomb(kind)} if kind == "rings" else {"data": bomb(kind), **RASTERS}
    before = forget_peak(server.process.pid)
    with pytest.raises(BadSignature, match=r"at most \d+"):
        call("v2.CreateProduct" if kind == "rings" else "v1.CreateProduct", **given)
    assert peak_memory(server.process.pid) - before < 200 << 20


def test_a_flood_of_metadata_is_refused(server, client):
    flood = [(f"x-{number}", "y" * 200) for number in range(2000)]
    code, text = raw(server.target, V1, "ListProductIds", [b""], flood)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "metadata size exceeds" in text
    assert client.health()


def test_a_window_has_a_size_and_a_layer_is_asked_for_once(server, client):
    client.create(feature("window"), RASTERS)
    ask = client._rpc.stream
    with pytest.raises(BadSignature, match=r"a window of 5000x5000 pixels; at most 16777216 at a time"):
        list(ask(OWN, "Get", own.GetRequest(product_id="window", layers=["segmentation"], window={"width": 5000, "height": 5000})))
    once, often = (list(ask(OWN, "Get", own.GetRequest(product_id="window", layers=["segmentation"] * n))) for n in (1, 1000))
    assert once == often
