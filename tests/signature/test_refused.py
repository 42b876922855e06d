"""Bad input is INVALID_ARGUMENT with what was wrong and what to do; nothing of it is stored."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from earthself.signature import geobuf
from earthself.signature.errors import AlreadyExists, BadSignature, NotFound
from earthself.signature.testing import feature, geotiff, layers
from rasterio import Affine
from rasterio.io import MemoryFile
from shapely.geometry import box, mapping

CODES = np.full((50, 60), 311, "uint16")
MASK = np.zeros((50, 60), "uint8")
GOOD = layers(CODES)
CROSSED = {"type": "Polygon", "coordinates": [[[15, 48], [15.1, 48.1], [15.1, 48], [15, 48.1], [15, 48]]]}


def with_pixel(value, dtype="uint16", shape=(50, 60)):
    pixels = np.full(shape, 311 if dtype in ("uint16", "int16") else 0, dtype)
    pixels[-1, -1] = value
    return geotiff(pixels)


def sparse(width, height, block=512, dtype="uint16"):
    """Make a GeoTIFF of few bytes and many pixels."""
    options = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000), "compress": "deflate", "sparse_ok": True}
    tiles = {"tiled": True, "blockxsize": block, "blockysize": block}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", width=width, height=height, count=1, dtype=dtype, **options, **tiles):
            pass
        return bytes(memory.read())


RASTERS = {
    "segmentation missing": ({"segmentation": b""}, "segmentation is missing"),
    "mask missing": ({"cloud_mask": b""}, "cloud_mask is missing"),
    "no TIFF": ({"segmentation": b"\x89PNG\r\n\x1a\n" + bytes(50)}, "is no TIFF"),
    "base64": ({"segmentation": base64.b64encode(GOOD["segmentation"])}, r"base64 1 time\(s\)"),
    "base64 twice": ({"segmentation": base64.b64encode(base64.b64encode(GOOD["segmentation"]))}, r"base64 2 time\(s\)"),
    "mask base64 twice": ({"cloud_mask": base64.b64encode(base64.b64encode(GOOD["cloud_mask"]))}, r"cloud_mask .* base64 2 time\(s\)"),
    "another format": ({"segmentation": b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>"}, "is no TIFF"),
    "truncated": ({"segmentation": GOOD["segmentation"][:-200]}, "cut off or damaged"),
    "header only": ({"segmentation": GOOD["segmentation"][:100]}, "cut off or damaged"),
    "unknown code": ({"segmentation": with_pixel(999)}, "pixels of 999"),
    "code of no level": ({"segmentation": with_pixel(60)}, "pixels of 60"),
    "negative": ({"segmentation": with_pixel(-1, "int16")}, "pixels of -1"),
    "65535 for none": ({"segmentation": with_pixel(65535)}, "pixels of 65535"),
    "float": ({"segmentation": geotiff(CODES.astype("float32"))}, "of type float32"),
    "32 bits": ({"segmentation": geotiff(CODES.astype("int32"))}, "of type int32"),
    "8 bits": ({"segmentation": geotiff(np.full((50, 60), 3, "uint8"))}, "of type uint8"),
    "two bands": ({"segmentation": geotiff(np.stack([CODES, CODES]))}, "has 2 bands"),
    "no CRS": ({"segmentation": geotiff(CODES, crs=None)}, "has no CRS"),
    "degrees": ({"segmentation": geotiff(CODES, crs="EPSG:4326", transform=Affine(1e-4, 0, 15, 0, -1e-4, 48.75))}, "EPSG:4326"),
    "web map": ({"segmentation": geotiff(CODES, crs="EPSG:3857")}, "EPSG:3857"),
    "another zone": ({name: geotiff(p, crs="EPSG:32631") for name, p in (("segmentation", CODES), ("cloud_mask", MASK))}, "cover 0 %"),
    "turned": ({"segmentation": geotiff(CODES, transform=Affine(10, 1, 500000, 1, -10, 5400000))}, "north up"),
    "upside down": ({"segmentation": geotiff(CODES, transform=Affine(10, 0, 500000, 0, 10, 5400000))}, "north up"),
    "wide": ({"segmentation": sparse(20_000_000, 1)}, "has 20000000x1 pixels; a product has at most 40000 a side"),
    "wide mask": ({"cloud_mask": sparse(40_001, 16, dtype="uint8")}, "cloud_mask has 40001x16 pixels"),
    "high": ({"segmentation": sparse(1, 20_000_000)}, "has 1x20000000 pixels"),
    "large": ({"segmentation": sparse(21_000, 21_000)}, "21000x21000 pixels; .* 400000000 in all"),
    "one block": ({"segmentation": sparse(6_000, 6_000, block=6_016)}, "has blocks of 6016x6016 pixels; .* tiles of 512x512"),
    "smaller mask": ({"cloud_mask": geotiff(MASK[:40])}, "60x40 pixels .* same grid"),
    "moved mask": ({"cloud_mask": geotiff(MASK, transform=Affine(10, 0, 500010, 0, -10, 5400000))}, "same grid"),
    "mask of another CRS": ({"cloud_mask": geotiff(MASK, crs="EPSG:32634")}, "EPSG:32634"),
    "mask of 255": ({"cloud_mask": with_pixel(255, "uint8")}, "pixels of 255"),
    "mask of 16 bits": ({"cloud_mask": geotiff(MASK.astype("uint16"))}, "of type uint16"),
    "smaller than the footprint": ({"segmentation": geotiff(CODES[:20, :30]), "cloud_mask": geotiff(MASK[:20, :30])}, "cover 20 %"),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_georeference_is_refused(call):
    bare = {name: geotiff(p, transform=Affine.identity()) for name, p in (("segmentation", CODES), ("cloud_mask", MASK))}
    with pytest.raises(BadSignature, match="no georeference"):
        call("v1.CreateProduct", data=geobuf.encode(feature("bad")), **bare)


@pytest.mark.parametrize(("given", "said"), RASTERS.values(), ids=RASTERS)
def test_a_bad_raster_is_refused_by_v1_and_by_our_service(call, client, given, said):
    with pytest.raises(BadSignature, match=said):
        call("v1.CreateProduct", data=geobuf.encode(feature("bad")), **{**GOOD, **given})
    with pytest.raises(BadSignature, match=said):
        client.create(feature("bad"), {**GOOD, **given})
    assert list(client.find(product_ids=["bad"])) == []


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("compress", ["deflate", "none", "lzw"])
def test_no_truncated_raster_passes(call, kept, compress):
    whole = geotiff(np.random.default_rng(1).choice(np.array([211, 311, 512], "uint16"), (50, 60)), compress=compress)
    with pytest.raises(BadSignature, match="segmentation"):
        call("v1.CreateProduct", data=geobuf.encode(feature("cut")), **{**GOOD, "segmentation": whole[: int(len(whole) * kept)]})


FEATURES = {
    "no id": ({"id": None}, "id is ''"),
    "control characters": ({"id": "a\nb"}, "printable"),
    "long id": ({"id": "x" * 256}, "1 to 255"),
    "crossed footprint": ({"geometry": CROSSED}, "footprint.*crosses itself"),
    "footprint of a line": ({"geometry": {"type": "LineString", "coordinates": [[15, 48], [16, 48]]}}, "footprint"),
    "swapped footprint": ({"geometry": mapping(box(48.7, 115, 48.8, 115.1))}, "footprint.*swapped"),
    "footprint elsewhere": ({"geometry": mapping(box(20, 40, 21, 41))}, "cover 0 %"),
    "empty footprint": ({"geometry": {"type": "GeometryCollection", "geometries": []}}, "empty"),
}
PROPERTIES = {
    **{f"no {name}": ({name: None}, f"{name}.* missing") for name in ("creation_date", "publication_date", "product_type", "cloud_cover")},
    "no properties": (dict.fromkeys(feature("x")["properties"]), "creation_date, publication_date, product_type, cloud_cover are missing"),
    "empty date": ({"creation_date": ""}, "creation_date.* missing"),
    "no date": ({"creation_date": "yesterday"}, "creation_date.*'yesterday'"),
    "no day": ({"publication_date": "2017-02-30"}, "publication_date.*2017-02-30"),
    "number for a date": ({"creation_date": 1497348631}, "creation_date"),
    "cover over 100": ({"cloud_cover": 130}, "cloud_cover 130"),
    "cover as text": ({"cloud_cover": "12"}, "cloud_cover '12'"),
    "type as number": ({"product_type": 2}, "product_type is 2"),
    "unknown legend": ({"legend": "mine:7"}, "legend.*mine:7"),
    "legend of another level": ({"legend": "clc:1"}, r"legend clc:1, but has codes \[311\]"),
    "too much": ({"note": "x" * 70_000}, "at most 65536"),
}


@pytest.mark.parametrize(("changed", "said"), FEATURES.values(), ids=FEATURES)
def test_a_bad_feature_is_refused(call, changed, said):
    with pytest.raises(BadSignature, match=said):
        call("v1.CreateProduct", data=geobuf.encode({**feature("bad"), **changed}), **GOOD)


@pytest.mark.parametrize(("changed", "said"), PROPERTIES.values(), ids=PROPERTIES)
def test_a_bad_property_is_refused(call, changed, said):
    with pytest.raises(BadSignature, match=said):
        call("v1.CreateProduct", data=geobuf.encode(feature("bad", **changed)), **GOOD)


def _classes(*features, **members):
    return geobuf.encode(
        {"type": "FeatureCollection", "id": "bad", "properties": feature("x")["properties"], "features": list(features), **members}
    )


def _class(category, geometry=None):
    where = geometry or mapping(box(16, 47, 16.01, 47.01))
    return {"type": "Feature", "geometry": where, "properties": {} if category is None else {"category": category}}


CLASSES = {
    "a feature": (geobuf.encode(feature("bad")), "is a GeoJSON Feature; send a FeatureCollection"),
    "no polygons": (_classes(), "no polygons"),
    "no category": (_classes(_class(311), _class(None)), "feature 1 has the category None"),
    "unknown category": (_classes(_class(7)), "feature 0 has the category 7"),
    "crossed": (_classes(_class(311, CROSSED)), "feature 0.*crosses itself"),
    "point": (_classes(_class(311, {"type": "Point", "coordinates": [16, 47]})), "feature 0"),
    "continent": (_classes(_class(311, mapping(box(0, 40, 20, 50)))), "one tile at most"),
    "whole world": (_classes(_class(311, mapping(box(-180, -90, 180, 90)))), "one tile at most"),
    "no id": (_classes(_class(311), id=""), "no id"),
    "no properties": (_classes(_class(311), properties={}), "missing"),
    "legend": (_classes(_class(311), properties=feature("x", legend="clc:2")["properties"]), "legend clc:2"),
    "footprint elsewhere": (_classes(_class(311), geometry=mapping(box(1, 1, 2, 2))), "no polygon lies in its footprint"),
    "empty": (geobuf.Data(), "geobuf is empty"),
}


@pytest.mark.parametrize(("data", "said"), CLASSES.values(), ids=CLASSES)
def test_bad_polygons_are_refused_by_v2(call, data, said):
    with pytest.raises(BadSignature, match=said):
        call("v2.CreateProduct", product=data)


@pytest.mark.parametrize("method", ["v1.ListSegmentation", "v1.ListProductIds", "v2.ListSegmentation", "v2.ListProductIds"])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"wkt": "POLYGON((0 0,1 1"}, "cannot be read"),
        ({"wkt": "POLYGON((0 0,1 1,1 0,0 1,0 0))"}, "crosses itself"),
        ({"start_date": {"seconds": 100}, "end_date": {"seconds": 99}}, "end_date lies before start_date"),
        ({"categories": "x"}, "no CORINE"),
    ],
)
def test_bad_filters_are_refused_by_every_list(call, method, asked, said):
    if "categories" in asked:
        asked = {"categories": ["777"] if method.startswith("v1") else [777]}
    with pytest.raises(BadSignature, match=said):
        call(method, **asked)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_no_results_at_all_cannot_be_asked_for(call, version):
    with pytest.raises(BadSignature, match="ask for 1 or more"):
        call(f"{version}.ListSegmentation", n_results=0)


def test_the_same_content_is_known_and_other_content_is_refused(client, call):
    full = {**GOOD, "confidence": geotiff(np.full((50, 60), 90, "uint8")), "flags": geotiff(MASK)}
    assert client.create(feature("D"), full) == "created"
    # Other bytes, the same pixels; other order and spelling, the same properties and footprint.
    again = {name: geotiff(pixels, compress="lzw", tiled=True, blockxsize=16, blockysize=16) for name, pixels in _pixels(full).items()}
    turned = feature("D", creation_date="2017-06-13T12:10:31+02:00")
    turned["properties"] = dict(reversed(turned["properties"].items()))
    ring = turned["geometry"]["coordinates"][0][:-1]
    turned["geometry"]["coordinates"] = [[*ring[5:], *ring[:6]]]
    assert client.create(turned, again) == "known"
    call("v1.CreateProduct", data=geobuf.encode(feature("D")), **GOOD)
    other = CODES.copy()
    other[3, 3] = 312
    for given, said in (
        ((feature("D"), {**full, "segmentation": geotiff(other)}), "different: segmentation"),
        ((feature("D", cloud_cover=13), full), "different: properties"),
        ((feature("D"), GOOD), "different: confidence, flags"),
        ((feature("D"), {**full, "confidence": geotiff(np.full((50, 60), 91, "uint8"))}), "different: confidence"),
    ):
        with pytest.raises(AlreadyExists, match=said):
            client.create(*given)
    with pytest.raises(AlreadyExists):
        call("v1.CreateProduct", data=geobuf.encode(feature("D")), **{**GOOD, "segmentation": geotiff(other)})
    with pytest.raises(AlreadyExists, match="polygons"):
        call("v2.CreateProduct", product=_classes(_class(311), id="D"))
    assert client.get("D").layers.keys() == full.keys()


def _pixels(tiffs):
    from earthself.signature.lazy import pixels_of

    return {name: pixels_of(content) for name, content in tiffs.items()}


@pytest.mark.parametrize(("name", "pixels"), [("confidence", np.full((50, 60), 101, "uint8")), ("flags", np.full((50, 60), 128, "uint8"))])
def test_our_own_layers_are_checked_too(client, name, pixels):
    with pytest.raises(BadSignature, match=f"{name} has pixels"):
        client.create(feature("bad"), {**GOOD, name: geotiff(pixels)})


def test_an_unknown_layer_is_refused(client):
    with pytest.raises(BadSignature, match=r"layer '\.\./\.\./passwd' is not known"):
        client.create(feature("bad"), {**GOOD, "../../passwd": b"x"})
    client.create(feature("known"), GOOD)
    with pytest.raises(NotFound, match=r"no layer '\.\./lock'"):
        client.get("known", ["../lock"])


def test_an_id_may_look_like_a_path_and_stays_in_the_store(server, client):
    client.create(feature("../../evil/é id"), GOOD)
    assert client.get("../../evil/é id").layers.keys() == GOOD.keys()
    home = server.log.parent / "home"
    assert [path for path in home.parent.rglob("*evil*") if home not in path.parents] == []


def test_nothing_that_was_refused_left_a_file(server, client):
    home = server.log.parent / "home"
    stored = {feature["id"] for feature in client.find()}
    assert len(list((home / "products").glob("*/*"))) == len(stored)
    assert list((home / "staging").iterdir()) == []


@pytest.mark.parametrize("area", ["CURVEPOLYGON((15 48,16 48,16 49,15 48))", "CIRCULARSTRING(15 48,16 48,16 49)"])
@pytest.mark.parametrize("method", ["v1.ListSegmentation", "v2.ListProductIds"])
def test_curves_are_refused_as_areas(call, method, area):
    with pytest.raises(BadSignature, match=r"cannot be read .*Nonlinear geometry types are not currently supported.*; send a POLYGON"):
        call(method, wkt=area)


def test_a_category_of_thousands_of_digits_is_refused(call):
    with pytest.raises(BadSignature, match=r"category '1111.* is no CORINE"):
        call("v1.ListProductIds", categories=["1" * 5000])
    with pytest.raises(BadSignature, match=r"has the category '1111"):
        call("v2.CreateProduct", product=_classes(_class("1" * 5000)))


@pytest.mark.parametrize("name", ["x" * 100_000, "☃" * 100_000], ids=["ascii", "unicode"])
def test_an_error_that_repeats_what_was_sent_still_arrives(client, call, name):
    with pytest.raises(NotFound, match=r"^product '.*…$"):
        client.get(name)
    with pytest.raises(BadSignature, match=r"^category"):
        call("v1.ListProductIds", categories=[name])


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\u2028"], ids=["nul", "line", "separator"])
def test_an_id_that_no_product_can_have_is_not_stored(client, call, name):
    if "\0" in name:
        with pytest.raises(BadSignature, match="has a NUL in it"):
            call("v1.ListSegmentation", product_ids=[name])
    else:
        assert call("v1.ListSegmentation", product_ids=[name]) == []
        assert list(client.find(product_ids=[name])) == []
    for asked in (lambda: client.get(name), lambda: client.delete(name), lambda: client.supersede(name, "other")):
        with pytest.raises(NotFound, match=r"is not stored"):
            asked()


def test_products_do_not_supersede_each_other_in_a_ring(client):
    """Whoever removes what is superseded would remove all of them."""
    for name in ("R1", "R2", "R3"):
        client.create(feature(name), layers(CODES))
    with pytest.raises(BadSignature, match=r"R1 cannot supersede itself"):
        client.supersede("R1", "R1")
    assert client.supersede("R1", "R2")
    assert client.supersede("R2", "R3")
    with pytest.raises(BadSignature, match=r"R1 is superseded by R3 already, .*which then cannot be superseded by it"):
        client.supersede("R3", "R1")
    assert [one["id"] for one in client.find(product_ids=["R1", "R2", "R3"], current=True)] == ["R3"]
