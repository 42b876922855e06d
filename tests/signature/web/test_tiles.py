"""Tiles, previews, figures and legends show the pixels in the legend's colours, of products and of results, found by id only."""

from __future__ import annotations

import io
import json

import httpx
import morecantile
import numpy as np
import pytest
import rasterio
from earthself.data.legends import legend
from earthself.signature.rasters import Grid
from earthself.signature.web import drawing, looks
from earthself.signature.web.shown import Picture
from PIL import Image
from pyproj import Transformer
from web_site import RESULT, publish

TMS = morecantile.tms.get("WebMercatorQuad")
LON, LAT = 15.004, 48.75
KINDS = ["products/forest/segmentation", f"results/{RESULT}/land_cover"]


def rgba(answer):
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return np.array(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def colors(image):
    return {tuple(color) for color in image.reshape(-1, 4).tolist()}


def color(legend_id, code):
    return (*legend(legend_id).colors()[code], 255)


def test_a_tile_has_each_pixel_where_it_lies(site):
    at = TMS.tile(LON, LAT, 16)
    image = rgba(site.get(f"/products/forest/segmentation/tiles/{at.z}/{at.x}/{at.y}.png"))
    assert image.shape == (256, 256, 4)
    bounds = TMS.xy_bounds(at)
    to_grid = Transformer.from_crs("EPSG:3857", "EPSG:32633", always_xy=True)
    wrong = 0
    for row in range(0, 256, 5):
        for column in range(0, 256, 5):
            x = bounds.left + (column + 0.5) / 256 * (bounds.right - bounds.left)
            y = bounds.top - (row + 0.5) / 256 * (bounds.top - bounds.bottom)
            east, north = to_grid.transform(x, y)
            inside = 500_000 <= east < 500_600 and 5_399_500 < north <= 5_400_000
            wanted = color("clc:3", 311 if east < 500_300 else 211) if inside else (0, 0, 0, 0)
            wrong += tuple(image[row, column]) != wanted
    assert wrong <= 20, "only at the edges of pixels, where GDAL's approximation of the way between the systems may decide otherwise"


def test_a_tile_beside_the_raster_is_transparent_and_one_beside_the_world_is_not_there(site):
    at = TMS.tile(20, 10, 12)
    assert colors(rgba(site.get(f"/products/forest/segmentation/tiles/{at.z}/{at.x}/{at.y}.png"))) == {(0, 0, 0, 0)}
    for z, x, y in ((3, 8, 0), (0, 0, 1)):
        answer = site.get(f"/products/forest/segmentation/tiles/{z}/{x}/{y}.png")
        assert (answer.status_code, "is not on the map" in answer.json()["description"]) == (404, True)
    for z, x, y in ((99, 0, 0), (-1, 0, 0), (3, 2**40, 0), (3, "a", 0)):
        assert site.get(f"/products/forest/segmentation/tiles/{z}/{x}/{y}.png").status_code == 400


def test_a_raster_over_the_antimeridian_is_drawn_on_both_sides(site):
    for lon in (179.998, -179.998):
        at = TMS.tile(lon, 10.0, 15)
        image = rgba(site.get(f"/products/over180/segmentation/tiles/{at.z}/{at.x}/{at.y}.png"))
        assert color("clc:3", 523) in colors(image), lon


def test_a_raster_over_the_antimeridian_is_offered_as_close_as_any_other(site):
    lies = site.get("/products/over180/segmentation/tilejson.json").json()
    assert (lies["bounds"][0], lies["bounds"][2]) == (-180, 180)
    lon, lat, _ = lies["center"]
    assert abs(lon) == pytest.approx(180, abs=0.01)
    assert 12 <= lies["minzoom"] <= 14
    assert lies["maxzoom"] >= 16
    at = TMS.tile(lon, lat, lies["minzoom"])
    assert color("clc:3", 523) in colors(rgba(httpx.get(lies["tiles"][0].format(z=at.z, x=at.x, y=at.y))))
    to_map = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    with rasterio.open(f"WMTS:{site.url}/products/over180/WMTSCapabilities.xml,layer=segmentation") as dataset:
        for side in (179.995, -179.995):
            row, column = dataset.index(*to_map.transform(side, lat))
            assert tuple(dataset.read(window=((row, row + 1), (column, column + 1)))[:, 0, 0]) == color("clc:3", 523)


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ("forest/segmentation", {color("clc:3", 311), color("clc:3", 211)}),
        ("coarse/segmentation", {color("clc:1", 3)}),
        ("town/segmentation", {color("clc:3", 111), (0, 0, 0, 0)}),
        ("forest/cloud_mask", {(0x9A, 0xA5, 0xB1, 255), (0, 0, 0, 0)}),
        ("forest/flags", {(0xCB, 0xD2, 0xD9, 255), (0x0B, 0x69, 0xA3, 255)}),
        ("forest/confidence", {tuple(looks.look("confidence").palette[77].tolist())}),
    ],
)
def test_previews_show_all_layers_in_the_colours_of_their_legend(site, layer, found):
    image = rgba(site.get(f"/products/{layer}/preview.png?size=60"))
    assert image.shape == (50, 60, 4)
    assert colors(image) == found


def test_a_result_has_its_bands_as_layers(site):
    at = TMS.tile(LON, LAT, 17)
    assert colors(rgba(site.get(f"/results/{RESULT}/land_cover/tiles/{at.z}/{at.x}/{at.y}.png"))) <= {
        *(color("clc:1", code) for code in (1, 2, 5)),
        (0, 0, 0, 0),
    }
    image = rgba(site.get(f"/results/{RESULT}/observations/preview.png"))
    assert tuple(image[0, 0]) == tuple(looks.look("observations").palette[3])
    assert tuple(image[0, 35]) == (0, 0, 0, 0)


@pytest.mark.parametrize("where", KINDS)
def test_tilejson_names_tiles_that_are_there(site, where):
    lies = site.get(f"/{where}/tilejson.json").json()
    assert lies["tilejson"] == "3.0.0"
    west, south, east, north = lies["bounds"]
    assert (west, south, east, north) == pytest.approx((15, 48.7485, 15.0082, 48.753), abs=1e-3)
    at = TMS.tile((west + east) / 2, (south + north) / 2, lies["minzoom"])
    address = lies["tiles"][0].format(z=at.z, x=at.x, y=at.y)
    assert len(colors(rgba(httpx.get(address)))) > 1
    assert httpx.get(lies["legend"]).json()["entries"]


@pytest.mark.parametrize("where", KINDS)
def test_gdal_opens_the_wmts(site, where):
    base, _, layer = where.rpartition("/")
    address = f"{site.url}/{base}/WMTSCapabilities.xml"
    with rasterio.Env(GDAL_HTTP_TIMEOUT="20"), rasterio.open(f"WMTS:{address},layer={layer}") as dataset:
        assert (dataset.crs.to_epsg(), dataset.count) == (3857, 4)
        to_map = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
        wanted = to_map.transform_bounds(*site.get(f"/{where}/tilejson.json").json()["bounds"])
        assert tuple(dataset.bounds) == pytest.approx(wanted, abs=50)
        image = dataset.read(out_shape=(4, 64, 64))
    wanted = {color("clc:3", 311), color("clc:3", 211)} if "products" in where else {color("clc:1", code) for code in (1, 2, 5)}
    assert wanted <= {tuple(pixel) for pixel in image.reshape(4, -1).T.tolist()}


def test_a_wmts_escapes_what_a_title_says(site, tmp_path):
    title = 'A <b>"map"</b> & more'
    publish(site.home.parent / "workspace", title)
    try:
        from lxml import etree

        document = etree.fromstring(site.get(f"/results/{RESULT}/WMTSCapabilities.xml").content)
        assert document.findtext(".//{http://www.opengis.net/ows/1.1}Title") == title
        page = site.get(f"/results/{RESULT}/map").text
        assert "<b>" not in page
        assert "&lt;b&gt;" in page
    finally:
        publish(site.home.parent / "workspace")


def test_statistics_say_what_share_each_class_has(site):
    found = site.get("/products/forest/segmentation/statistics.json").json()
    assert (found["pixels"], found["sampled"]) == (3000, 1)
    assert {row["value"]: (row["label"], row["share"]) for row in found["values"]} == {
        211: ("Non-irrigated arable land", 0.5),
        311: ("Broad-leaved forest", 0.5),
    }
    assert site.get("/products/forest/confidence/statistics.json").json()["mean"] == 77
    empty = {row["value"]: row["label"] for row in site.get(f"/results/{RESULT}/land_cover/statistics.json").json()["values"]}
    assert empty[0] == "No class, or not observed"


def test_statistics_of_a_large_raster_say_that_they_are_thinned(tmp_path, monkeypatch):
    path = tmp_path / "large.tif"
    with rasterio.open(
        path, "w", driver="COG", width=1000, height=800, count=1, dtype="uint16", crs="EPSG:32633", transform=_transform()
    ) as out:
        out.write(np.full((1, 800, 1000), 311, "uint16"))
    monkeypatch.setattr(drawing, "MOST_PIXELS_COUNTED", 50_000)
    found = drawing.counted(Picture("segmentation", "", path, 1, looks.look("clc:3"), "1"))
    assert found["pixels"] == 800_000
    assert found["sampled"] == pytest.approx(1 / 16, rel=0.01)
    assert found["values"] == [{"value": 311, "label": "Broad-leaved forest", "share": 1.0}]


def _transform():
    from affine import Affine

    return Affine(*Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 5400000.0), 1, 1).transform)


@pytest.mark.parametrize(
    ("where", "value", "label"),
    [
        ("products/forest/segmentation", 311, "Broad-leaved forest"),
        ("products/forest/confidence", 77, "77 %"),
        ("products/forest/flags", 64, "Water by a rule on the spectrum"),
        (f"results/{RESULT}/observations", 3, "3"),
    ],
)
def test_a_point_says_what_is_there(site, where, value, label):
    found = site.get(f"/{where}/point.json?lon=15.001&lat=48.75").json()
    assert (found["value"], found["label"]) == (value, label)
    assert site.get(f"/{where}/point.json?lon=0&lat=0").json()["value"] is None
    assert site.get(f"/{where}/point.json?lon=0&lat=900").status_code == 400


def test_several_flags_are_named_and_the_least_seen_is_drawn():
    look = looks.look("flags")
    assert drawing.meaning(look, 2 | 32) == "Cloud, No class that is sure enough"
    assert look.indexes[2 | 32] == look.indexes[2]
    assert look.indexes[0] == 0


def test_pictures_are_kept_by_browsers_until_the_pixels_change(site):
    path = "/products/forest/segmentation/preview.png"
    first = site.get(path)
    assert "max-age" in first.headers["cache-control"]
    again = site.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert site.get(f"{path}?size=32").headers["etag"] != first.headers["etag"]
    assert site.get("/products/water/segmentation/preview.png").headers["etag"] != first.headers["etag"]
    result = site.get(f"/results/{RESULT}/land_cover/preview.png")
    assert result.headers["cache-control"] == "no-cache"
    publish(site.home.parent / "workspace")
    changed = site.get(f"/results/{RESULT}/land_cover/preview.png", headers={"If-None-Match": result.headers["etag"]})
    assert changed.status_code == 200


@pytest.mark.parametrize("size", [0, 15, 1025, 10**9])
def test_the_size_of_a_preview_is_bounded(site, size):
    answer = site.get(f"/products/forest/segmentation/preview.png?size={size}")
    assert (answer.status_code, "16 to 1024" in answer.json()["description"]) == (400, True)


@pytest.mark.parametrize(
    "path",
    [
        "/products/none/segmentation/preview.png",
        "/products/town/confidence/preview.png",
        "/products/described/segmentation/preview.png",
        "/products/described/WMTSCapabilities.xml/x",
        "/results/none/map",
        "/results/..%2F..%2Fsecret/map",
        f"/results/{RESULT}/assets/secret.txt",
        f"/results/{RESULT}/assets/store-id",
        f"/results/{RESULT}/assets/manifest.json",
        f"/results/{RESULT}/assets/..%2Fitem.json",
        f"/results/{RESULT}/assets/%2Fetc%2Fpasswd",
        "/products/forest/assets/..%2F..%2F..%2Fstore-id",
        "/products/forest/assets/classes.geobuf",
        "/products/%2Fetc%2Fpasswd/segmentation/preview.png",
        "/static/..%2Fapp.py",
        "/static/%2Fetc/passwd",
        "/legends/clc:4.json",
        "/legends/clc:1.exe",
        "/legends/..%2F..%2Fitems.json",
    ],
)
def test_only_what_is_named_by_an_id_is_there(site, path):
    assert site.get(path).status_code == 404


def test_legends_as_json_svg_and_png(site):
    listed = site.get("/legends").json()["legends"]
    assert {"clc:1", "clc:2", "clc:3", "flags", "confidence"} <= {entry["name"] for entry in listed}
    for entry in listed:
        document = httpx.get(entry["href"]).json()
        assert document["title"] == entry["title"]
        svg = httpx.get(entry["href"].replace(".json", ".svg"))
        assert svg.headers["content-type"].startswith("image/svg+xml")
        assert all(one["label"].replace("&", "&amp;") in svg.text for one in document["entries"])
        image = np.array(Image.open(io.BytesIO(httpx.get(entry["href"].replace(".json", ".png")).content)).convert("RGB"))
        wanted = {tuple(int(one["color"][n : n + 2], 16) for n in (1, 3, 5)) for one in document["entries"] if one["color"]}
        assert wanted <= {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    (forest,) = (e for e in site.get("/legends/clc:3.json").json()["entries"] if e["value"] == 311)
    assert (forest["label"], forest["color"]) == ("Broad-leaved forest", "#80ff00")


def test_results_are_listed_newest_first_and_gone_ones_left_out(site):
    listed = site.get("/results").json()["results"]
    assert [entry["id"] for entry in listed] == [RESULT]
    assert listed[0]["title"] == "A map"
    assert httpx.get(listed[0]["tilejson"]).status_code == 200
    page = site.get("/results", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "A map" in page.text


def test_a_raster_that_is_gone_is_said_without_its_place(site):
    store = json.loads(site.get("/products/water/segmentation/tilejson.json").text)
    assert store
    (path,) = site.home.glob("products/2017-07/water-*/segmentation.tif")
    kept = path.read_bytes()
    path.unlink()
    try:
        answer = site.get("/products/water/segmentation/preview.png")
        assert answer.status_code == 500
        assert "store product water again" in answer.json()["description"]
        assert str(site.home) not in answer.text
    finally:
        path.write_bytes(kept)
