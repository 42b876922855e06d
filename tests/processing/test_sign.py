"""`sign` and its parts: pixels, georeference, records and failures of signatures, against truth worked out by hand."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import shapely.geometry
from affine import Affine
from earthself.data.area import Area
from earthself.processing.models import load_model
from earthself.processing.raster import Grid
from earthself.processing.scene import place_for
from earthself.processing.steps.fetch import fetch
from earthself.processing.steps.mask import mask
from earthself.processing.steps.mosaic import mosaic
from earthself.processing.steps.segment import segment
from earthself.processing.steps.sign import sign
from products import (
    LEFT,
    SCENE,
    SENSED,
    TOP,
    Products,
    at_10m,
    brightest_model,
    layer,
    pixels_area,
    random_bands,
    run,
    scene,
    shared,
    signatures,
)
from scipy.ndimage import distance_transform_edt, uniform_filter
from stac_schemas import check_item

pytestmark = pytest.mark.usefixtures("brightest")

BANDS = ("B04", "B11", "B09")
LAYERS = ("segmentation", "confidence", "flags", "cloud_mask")
HEIGHT, WIDTH = SCENE


def truth(
    bands: dict[str, np.ndarray], offset: int = 0, dilate: float = 60.0, dark: bool = False, snow: bool = False
) -> dict[str, np.ndarray]:
    """The four layers of the whole product, worked out without windows."""
    height, width = bands["B04"].shape
    stack = np.stack([at_10m(bands[band], band, height, width) for band in BANDS])
    reflectance = (stack.astype(np.float64) + offset) / 10_000
    flags = np.where((stack == 0).any(0), 1, 0).astype(np.uint8)
    if "SCL" in bands:
        scl = bands["SCL"]

        def near(values: tuple[int, ...]) -> np.ndarray:
            found = np.isin(scl, values)
            return distance_transform_edt(~found) * 20 <= dilate if found.any() else found

        coarse = (
            np.isin(scl, (0, 1)) * 1 + near((8, 9, 10)) * 2 + near((3, 2) if dark else (3,)) * 4 + np.isin(scl, (11,) if snow else ()) * 8
        )
        flags |= at_10m(coarse.astype(np.uint8), "SCL", height, width)
    clear = (flags & 15) == 0
    codes = np.where(clear, reflectance.argmax(0) + 1, 0)
    return {"segmentation": codes, "best": np.where(clear, reflectance.max(0), 0), "flags": flags, "cloud_mask": (flags & 2) // 2}


def assert_is(item, wanted: dict[str, np.ndarray]) -> None:
    for key in ("segmentation", "flags", "cloud_mask"):
        np.testing.assert_array_equal(layer(item, key), wanted[key], err_msg=key)
    # The registry gives confidence in whole percent, from a float32.
    assert np.abs(layer(item, "confidence") - 100 * wanted["best"]).max() <= 0.61


def test_every_pixel_of_a_whole_product_is_the_one_worked_out_by_hand(products, tmp_path):
    bands = scene()
    products.add("P", bands)
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert (code, result["status"], result["outputs"]) == (0, "done", 1)
    item = signatures(tmp_path / "out")["P"]
    wanted = truth(bands)
    assert_is(item, wanted)
    assert set(np.unique(layer(item, "segmentation"))) == {0, 1, 2, 3}
    clear = ((wanted["flags"] & 15) == 0).sum() / ((wanted["flags"] & 1) == 0).sum()
    assert item.properties["earthself:clear_fraction"] == pytest.approx(clear, abs=1e-6)
    assert result["metrics"]["pixels"] == HEIGHT * WIDTH
    assert {"cpu_seconds_reading", "cpu_seconds_inference", "cpu_seconds_writing", "bytes_read"} <= set(result["metrics"])


def test_all_layers_lie_on_the_product_s_grid_and_are_what_they_say(products, tmp_path):
    products.add("P", scene())
    run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    item = signatures(tmp_path / "out")["P"]
    kinds = {"segmentation": ("uint16", 0), "confidence": ("uint8", None), "flags": ("uint8", None), "cloud_mask": ("uint8", None)}
    for key, (dtype, nodata) in kinds.items():
        with rasterio.open(item.assets[key].href) as dataset:
            assert (dataset.width, dataset.height, dataset.crs.to_epsg()) == (WIDTH, HEIGHT, 32633)
            assert tuple(dataset.transform)[:6] == (10, 0, LEFT, 0, -10, TOP)
            assert (dataset.dtypes[0], dataset.nodata) == (dtype, nodata)
            if key == "cloud_mask":
                assert dataset.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "1"
            else:
                assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_the_item_is_valid_and_carries_what_reuse_and_replay_need(products, tmp_path):
    bands = scene()
    products.add("P", bands)
    run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask_snow", "true")
    item = signatures(tmp_path / "out")["P"]
    check_item(item)
    properties = item.properties
    wanted = {
        "earthself:product": "P",
        "earthself:observation": "S2A_33UUP_20170613T101031_R022_P",
        "earthself:baseline": "N0209",
        "earthself:model": "brightest:7",
        "earthself:legend": "clc:1",
        "earthself:validated_level": 1,
        "earthself:preprocessing": "pre1:scl:60+snow",
        "earthself:mask": "scl",
        "earthself:offset": 0,
        "eo:cloud_cover": 12.5,
        "proj:code": "EPSG:32633",
    }
    assert {name: properties.get(name) for name in wanted} == wanted
    assert item.datetime.isoformat() == "2017-06-13T10:10:31+00:00"
    inputs = {each["asset"]: each for each in properties["earthself:inputs"]}
    assert set(inputs) == {*BANDS, "SCL"}
    for band, each in inputs.items():
        assert each["window"] == [0, 0, bands[band].shape[1], bands[band].shape[0]]
        assert each["sha256"] == hashlib.sha256(bands[band].tobytes()).hexdigest()
        assert each["bytes"] == bands[band].nbytes
        assert Path(each["href"]).name == f"{band}.tif"
    assert "earthself:place" not in properties


def test_a_window_holds_the_same_pixels_as_the_whole_product(products, tmp_path):
    bands = scene()
    products.add("P", bands)
    products.set_area(pixels_area(600, 530, 20, 700))
    run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    item = signatures(tmp_path / "out")["P_W512-512-512-788"]
    whole = truth(bands)
    assert_is(item, {key: array[512:1300, 512:1024] for key, array in whole.items()})
    with rasterio.open(item.assets["flags"].href) as dataset:
        assert tuple(dataset.transform)[:6] == (10, 0, LEFT + 5120, 0, -10, TOP - 5120)
    inputs = {each["asset"]: each["window"] for each in item.properties["earthself:inputs"]}
    assert inputs["B04"] == [512, 512, 512, 788]
    assert inputs["B11"] == [256, 256, 256, 394]
    assert inputs["B09"] == [85, 85, 86, 132]
    assert inputs["SCL"] == [256 - 15, 256 - 15, 256 + 30, 394 + 15]  # 300 m further where the product goes on
    footprint, window = shapely.geometry.shape(item.geometry), shapely.geometry.shape(pixels_area(512, 512, 512, 788))
    assert footprint.intersection(window).area == pytest.approx(window.area, rel=1e-6)
    assert footprint.area == pytest.approx(window.area, rel=5e-3)


def test_an_area_on_the_edge_of_a_block_needs_no_more_than_that_block(products, tmp_path):
    products.add("P", scene())
    products.set_area(pixels_area(512, 0, 512, 512))
    run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert list(signatures(tmp_path / "out")) == ["P_W512-0-512-512"]


def test_an_area_that_covers_the_product_gives_the_product_s_own_id(products, tmp_path):
    products.add("P", scene())
    products.set_area([12, 47, 14, 49])
    run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert list(signatures(tmp_path / "out")) == ["P"]


@pytest.mark.parametrize(
    ("area", "window"),
    [
        # Its corners are at columns -2372 to 8382 and rows 1590 to 7289 of the tile.
        ([179.5, -17, -179.5, -16.5], (0, 1536, 8704, 6144)),
        ([-179.2, -16.9, -179.1, -16.8], None),
        ([179.5, 60, -179.5, 61], None),
        ([-180, -90, 180, 90], (0, 0, 10980, 10980)),
    ],
)
def test_windows_of_a_tile_that_the_antimeridian_crosses(area, window):
    grid = Grid("EPSG:32701", Affine(10, 0, 150_000, 0, -10, 8_190_000), 10_980, 10_980)
    place = place_for(grid, Area.from_conf(area))
    assert (place and (place.column, place.row, place.width, place.height)) == window


@pytest.mark.parametrize("options", [[], ["--dilate", "100", "--mask_dark", "true", "--mask_snow", "true"], ["--dilate", "0"]])
def test_the_parts_by_hand_give_the_pixels_of_sign(products, tmp_path, options):
    bands = scene()
    products.add("P", bands)
    products.set_area(pixels_area(600, 530, 20, 10))
    run(sign, products.folder, tmp_path / "signed", "--model", "brightest", *options)
    assert run(fetch, products.folder, tmp_path / "fetched", "--model", "brightest")[1]["status"] == "done"
    assert run(mask, tmp_path / "fetched", tmp_path / "masked", *options)[1]["status"] == "done"
    assert run(segment, tmp_path / "masked", tmp_path / "segmented", "--model", "brightest")[1]["status"] == "done"
    one, other = signatures(tmp_path / "signed")["P_W512-512-512-512"], signatures(tmp_path / "segmented")["P_W512-512-512-512"]
    for key in LAYERS:
        np.testing.assert_array_equal(layer(one, key), layer(other, key), err_msg=key)
    assert one.properties == other.properties
    assert one.geometry == other.geometry
    settings = {"dilate": float(options[1]) if options else 60.0, "dark": len(options) > 2, "snow": len(options) > 2}
    assert_is(one, {key: array[512:1024, 512:1024] for key, array in truth(bands, **settings).items()})


def test_a_model_that_looks_around_sees_the_same_neighbours_in_every_window(products, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_MODELS", str(brightest_model(tmp_path / "models", name="blurred", context=1)))
    bands = random_bands(HEIGHT, WIDTH, BANDS)
    products.add("P", bands)
    products.set_area(pixels_area(600, 530, 20, 10))
    run(sign, products.folder, tmp_path / "out", "--model", "blurred", "--mask", "none")
    item = signatures(tmp_path / "out")["P_W512-512-512-512"]
    stack = np.stack([at_10m(bands[band], band, HEIGHT, WIDTH) for band in BANDS]) / 10_000
    mean = np.stack([uniform_filter(band, 3) for band in stack])
    top_two = np.sort(mean, axis=0)[-2:]
    inner = (slice(513, 1023), slice(513, 1023))
    decided = (top_two[1] - top_two[0] > 1e-5)[inner]
    codes, flags = layer(item, "segmentation"), layer(item, "flags")
    np.testing.assert_array_equal(codes[1:-1, 1:-1][decided], (mean.argmax(0) + 1)[inner][decided])
    # Of the rim it cannot know: no byte of the next blocks was read, and none is claimed to be covered.
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert (codes[edge] == 0).all()
        assert (flags[edge] == 1).all()
    assert not flags[1:-1, 1:-1].any()
    assert {each["asset"]: each["window"] for each in item.properties["earthself:inputs"]}["B04"] == [512, 512, 512, 512]
    footprint = shapely.geometry.shape(item.geometry)
    assert not footprint.contains(shapely.geometry.shape(pixels_area(512, 512, 512, 512)))
    assert footprint.buffer(1e-7).contains(shapely.geometry.shape(pixels_area(513, 513, 510, 510)))


def test_a_window_grows_when_its_rim_would_cut_into_the_area(products, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_MODELS", str(brightest_model(tmp_path / "models", name="blurred", context=1)))
    products.add("P", random_bands(HEIGHT, WIDTH, BANDS))
    products.set_area(pixels_area(512, 600, 20, 10))
    run(sign, products.folder, tmp_path / "out", "--model", "blurred", "--mask", "none")
    assert list(signatures(tmp_path / "out")) == ["P_W0-512-1024-512"]


def test_a_whole_product_has_no_rim(products, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_MODELS", str(brightest_model(tmp_path / "models", name="blurred", context=1)))
    products.add("P", random_bands(300, 200, BANDS))
    run(sign, products.folder, tmp_path / "out", "--model", "blurred", "--mask", "none")
    assert not (layer(signatures(tmp_path / "out")["P"], "flags") & 1).any()


def test_an_offset_is_taken_off_before_the_model_sees_a_pixel(products, tmp_path):
    bands = random_bands(600, 600, BANDS)
    for array in bands.values():
        array[array > 0] = np.maximum(array[array > 0], 1100)
    products.add("P", bands, **{"earthself:baseline": "N0510"})
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "none")[1]
    assert result["status"] == "done", result
    item = signatures(tmp_path / "out")["P"]
    assert item.properties["earthself:offset"] == -1000
    assert_is(item, truth(bands, offset=-1000))


@pytest.mark.parametrize(("options", "cautioned"), [((), True), (("--offset", "-1000"), False)])
def test_an_offset_that_no_pixel_confirms_is_said_in_the_map(products, tmp_path, options, cautioned):
    """A catalogue's flag is wrong at times; over snow or desert no dark pixel can tell. Who states the offset need not be told."""
    bands = {band: np.clip(array, 2500, 4000) for band, array in random_bands(300, 280, BANDS).items()}
    products.add("P", bands, **{"earthself:baseline": "N0400", "earthsearch:boa_offset_applied": False})
    run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "none", *options)
    properties = signatures(tmp_path / "out")["P"].properties
    assert properties["earthself:offset"] == -1000
    said = "no dark pixels confirm the offset -1000"
    assert any(said in caution for caution in properties.get("earthself:cautions", ())) == cautioned
    document = run(mosaic, tmp_path / "out", tmp_path / "map")[1]
    assert any(said in warning for warning in document["warnings"]) == cautioned


def test_a_month_that_the_model_did_not_learn_a_class_in_is_said(products, tmp_path):
    bands = load_model("baseline").card.bands
    products.add("june", random_bands(300, 280, bands))
    products.add("january", random_bands(300, 280, bands, seed=2), when=SENSED.replace(month=1))
    assert run(sign, products.folder, tmp_path / "out", "--mask", "none")[0] == 0
    made = signatures(tmp_path / "out")
    assert "earthself:cautions" not in made["june"].properties
    assert "Forest" in made["january"].properties["earthself:cautions"][0]


def test_memory_does_not_grow_with_the_product(products, tmp_path):
    """Sixteen times the pixels; held at once, they would take 130 MB more for the digital numbers alone."""
    peaks = []
    for name, size in (("small", 1024), ("large", 4096)):
        home = Products(tmp_path / name)
        bands = {"B04": np.full((size, size), 900, np.uint16), "B11": np.full((size // 2, size // 2), 800, np.uint16)}
        home.add("P", bands, block=512)
        registry = brightest_model(tmp_path / "models2", ("B04", "B11"), "pair")
        command = [
            sys.executable,
            "-m",
            "earthself.processing",
            "sign",
            "--input",
            str(home.folder),
            "--output",
            str(tmp_path / f"{name}.out"),
        ]
        environment = {"PATH": "/usr/bin:/bin", "EARTHSELF_MODELS": str(registry), "EARTHSELF_STEP_CPUS": "1"}
        command += ["--model", "pair", "--mask", "none", "--json"]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        result = json.loads(answer.stdout)
        assert result["metrics"]["pixels"] == size * size
        peaks.append(result["metrics"]["peak_memory_bytes"])
    assert peaks[1] - peaks[0] < 90e6


def test_the_shipped_model_signs_real_patches(products, tmp_path):
    """One real patch, from its twelve single-band files at 10, 20 and 60 m."""
    bands = {}
    for path in sorted(shared("bigearthnet_v2").glob("*_75_43_B*.tif")):
        with rasterio.open(path) as dataset:
            bands[path.stem.rpartition("_")[2]] = dataset.read(1)
    products.add("P", bands, **{"earthself:baseline": "N9999"})
    result = run(sign, products.folder, tmp_path / "out", "--mask", "none")[1]
    assert result["status"] == "done", result
    item = signatures(tmp_path / "out")["P"]
    codes = layer(item, "segmentation")
    assert codes.shape == (120, 120)
    assert set(np.unique(codes)) <= {0, 1, 2, 3, 4, 5}
    assert (codes > 0).mean() > 0.5
    assert item.properties["earthself:offset"] == 0
