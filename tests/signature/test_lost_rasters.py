"""A raster that is gone or damaged is said, hides no other product, and is put back when its product is stored again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from earthself.signature import geobuf
from earthself.signature.errors import AlreadyExists, StoreBroken
from earthself.signature.lazy import pixels_of
from earthself.signature.testing import feature, geotiff, layers
from shapely.geometry import box, mapping

CODES = np.full((50, 60), 311, "uint16")
CODES[:20] = 211
GOOD = layers(CODES) | {"confidence": geotiff(np.full((50, 60), 80, "uint8"))}


def gone(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-10:-2] = bytes(byte ^ 0xFF for byte in content[-10:-2])
    path.write_bytes(content)


def file(server, product, name):
    (found,) = (server.log.parent / "home" / "products").glob(f"*/{product}-*/{name}")
    return found


@pytest.mark.parametrize("harm", [gone, cut, flipped])
@pytest.mark.parametrize("layer", ["segmentation", "cloud_mask", "confidence"])
def test_storing_a_product_again_puts_its_raster_back(server, client, harm, layer):
    name = f"{harm.__name__}_{layer}"
    assert client.create(feature(name), GOOD) == "created"
    path = file(server, name, f"{layer}.tif")
    whole = path.read_bytes()
    harm(path)
    assert client.create(feature(name), GOOD) == "known"
    assert path.read_bytes() == whole
    read = client.get(name).layers
    assert (pixels_of(read["segmentation"]) == CODES).all()
    assert (pixels_of(read["confidence"]) == 80).all()
    assert list((server.log.parent / "home" / "staging").iterdir()) == []


def test_a_whole_folder_comes_back(server, client):
    client.create(feature("folder"), GOOD)
    folder = file(server, "folder", "segmentation.tif").parent
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert client.create(feature("folder"), GOOD) == "known"
    assert client.get("folder").layers.keys() == GOOD.keys()


def test_other_content_mends_nothing(server, client):
    client.create(feature("other"), GOOD)
    file(server, "other", "segmentation.tif").unlink()
    with pytest.raises(AlreadyExists, match="different: segmentation"):
        client.create(feature("other"), {**GOOD, **layers(np.full((50, 60), 512, "uint16"))})
    with pytest.raises(StoreBroken, match=r"segmentation\.tif is gone .* or store product other again"):
        client.get("other")


def polygons(name):
    return geobuf.encode(
        {
            "type": "FeatureCollection",
            "id": name,
            "properties": feature("x")["properties"],
            "features": [{"type": "Feature", "geometry": mapping(box(16, 47, 16.01, 47.01)), "properties": {"category": 311}}],
        }
    )


def test_polygons_that_came_as_polygons_are_not_made_up_from_pixels(server, call):
    call("v2.CreateProduct", product=polygons("drawn"))
    (before,) = call("v2.ListSegmentation", product_ids=["drawn"])
    file(server, "drawn", "classes.geobuf").unlink()
    with pytest.raises(StoreBroken, match=r"classes\.geobuf is gone"):
        call("v2.ListSegmentation", product_ids=["drawn"])
    call("v2.CreateProduct", product=polygons("drawn"))
    assert call("v2.ListSegmentation", product_ids=["drawn"]) == [before]


@pytest.mark.parametrize(("method", "harm"), list(itertools.product(("v1.ListSegmentation", "v2.ListSegmentation"), (gone, cut))))
def test_one_lost_raster_hides_no_other_product(server, client, method, harm):
    version = method[:2]
    names = [f"{version}{harm.__name__}{n}" for n in range(3)]
    for n, name in enumerate(names):
        client.create(feature(name, creation_date=f"2020-01-0{3 - n}T00:00:00Z"), GOOD)
    harm(file(server, names[1], "segmentation.tif"))
    from earthself.signature.wire import POOL
    from google.protobuf.message_factory import GetMessageClass

    service = f"snapearth.api.{version}.DatabaseProductService"
    request = GetMessageClass(POOL.FindServiceByName(service).methods_by_name["ListSegmentation"].input_type)(product_ids=names)
    answers = client._rpc.stream(service, "ListSegmentation", request)
    assert next(answers) != next(answers)
    with pytest.raises(StoreBroken, match=f"1 products are left out of this answer: .*{names[1]}"):
        next(answers)
    client.create(feature(names[1], creation_date="2020-01-02T00:00:00Z"), GOOD)
    assert len(list(client._rpc.stream(service, "ListSegmentation", request))) == 3


def test_a_file_of_another_size_is_taken_up_where_its_pixels_are_right(server, client):
    """As after a crash between a file and its size, or a backup made by another GDAL."""
    client.create(feature("resized"), GOOD)
    path = file(server, "resized", "segmentation.tif")
    path.write_bytes(GOOD["segmentation"])
    with pytest.raises(StoreBroken, match=r"segmentation\.tif has \d+ bytes and not \d+; restore it"):
        client.get("resized")
    assert client.create(feature("resized"), GOOD) == "known"
    assert path.read_bytes() == client.get("resized").layers["segmentation"] == GOOD["segmentation"]
