"""`sign` and its parts: pixels, georeference, records and failures of signatures, against truth worked out by hand."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import rasterio
import shapely
import shapely.geometry
from affine import Affine
from earthself.data.area import Area
from earthself.processing.raster import Grid
from earthself.processing.scene import place_for
from scipy.ndimage import distance_transform_edt, uniform_filter

sys.path.insert(0, str(Path(__file__).parent))


from earthself.data.errors import TryAgain
from earthself.data.sources import SourceConfig
from earthself.processing.batch import each_item
from earthself.processing.meter import Meter
from earthself.processing.models import load_model
from earthself.processing.step import StepContext
from earthself.processing.steps.fetch import fetch
from earthself.processing.steps.mask import mask
from earthself.processing.steps.segment import segment
from earthself.processing.steps.sign import sign
from products import LEFT, SENSED, TOP, Products, at_10m, brightest_model, layer, pixels_area, random_bands, run, shared, signatures
from stac_schemas import check_item

BANDS = ("B04", "B11", "B09")
LAYERS = ("segmentation", "confidence", "flags", "cloud_mask")
HEIGHT, WIDTH = 1300, 1100


@pytest.fixture(autouse=True)
def _registry(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_MODELS", str(brightest_model(tmp_path / "models")))


@pytest.fixture
def products(tmp_path):
    return Products(tmp_path / "found")


def scene(seed: int = 1, height: int = HEIGHT, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Random bands with a corner without data, and a scene classification with clouds, shadows and snow here and there."""
    bands = random_bands(height, width, BANDS, seed)
    bands["B04"][:100, :50] = 0
    bands["B11"][140, 30] = 0  # one band is enough
    rng = np.random.default_rng(seed + 100)
    scl = np.full((-(-height // 2), -(-width // 2)), 4, np.uint8)
    for value in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11):
        for row, column in rng.integers(0, scl.shape, (3, 2)):
            scl[row : row + 4, column : column + 3] = value
    # Clouds on both sides of the seams between windows of 1024 and blocks of 512 pixels.
    if height == HEIGHT:
        scl[509:511, 255:257] = 9
        scl[255, 511] = 8
    return bands | {"SCL": scl}


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


def test_a_product_that_the_area_does_not_touch_is_skipped_not_lost(products, tmp_path):
    products.add("P", scene())
    products.set_area([-70, -20, -69, -19])
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert (code, result["status"], result["metrics"]["skipped"], result["metrics"]["failed"]) == (0, "nothing", 1, 0)
    assert "do not touch the area" in result["message"]
    assert json.loads((tmp_path / "out" / "failures.json").read_text()) == []


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


def test_parts_in_the_wrong_order_say_what_to_run(products, tmp_path):
    products.add("P", scene())
    run(fetch, products.folder, tmp_path / "fetched", "--model", "brightest", "--mask", "none")
    assert "run the step mask" in run(segment, tmp_path / "fetched", tmp_path / "a", "--model", "brightest")[1]["message"]
    assert "from the step fetch" in run(mask, products.folder, tmp_path / "b")[1]["message"]


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


def test_one_bad_product_costs_only_itself(products, tmp_path):
    for name in ("A", "B", "C", "D"):
        products.add(name, scene(height=300, width=280))
    (products.folder / "B" / "B11.tif").write_bytes(b"not a raster")
    document = json.loads((products.folder / "C" / "C.json").read_text())
    del document["assets"]["B09"]
    (products.folder / "C" / "C.json").write_text(json.dumps(document))
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert (code, result["status"], result["outputs"], result["metrics"]["failed"]) == (0, "done", 2, 2)
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert [(each["id"], each["retry"]) for each in failures] == [("B", False), ("C", False)]
    assert "B09" in failures[1]["error"]
    assert sorted(signatures(tmp_path / "out")) == ["A", "D"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A", "D", "catalog.json", "failures.json"]
    assert any("product B was lost" in warning for warning in result["warnings"])


def test_when_all_are_lost_the_result_says_the_first_reason(products, tmp_path):
    products.add("A", {band: array for band, array in scene(height=300, width=280).items() if band != "B09"})
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")
    assert (code, result["status"], result["outputs"]) == (0, "nothing", 0)
    assert "the first, A: " in result["message"]
    assert "B09" in result["message"]
    assert len(json.loads((tmp_path / "out" / "failures.json").read_text())) == 1


def test_a_month_that_the_model_did_not_learn_a_class_in_is_said(products, tmp_path):
    bands = load_model("baseline").card.bands
    products.add("june", random_bands(300, 280, bands))
    products.add("january", random_bands(300, 280, bands, seed=2), when=SENSED.replace(month=1))
    assert run(sign, products.folder, tmp_path / "out", "--mask", "none")[0] == 0
    made = signatures(tmp_path / "out")
    assert "earthself:cautions" not in made["june"].properties
    assert "Forest" in made["january"].properties["earthself:cautions"][0]


def test_bands_that_do_not_share_a_grid_are_refused(products, tmp_path):
    bands = scene(height=300, width=280)
    products.add("A", bands | {"B11": bands["B11"][:100]})
    message = run(sign, products.folder, tmp_path / "out", "--model", "brightest")[1]["message"]
    assert "B11 of product A (EPSG:32633, 20 m, 140 x 100) is not on the product's grid (EPSG:32633, 10 m, 280 x 300)" in message


def test_mixed_baselines_never_pass_silently(products, tmp_path):
    products.add("A", random_bands(300, 280, BANDS), **{"earthself:baseline": "N0209"})
    products.add("B", random_bands(300, 280, BANDS, seed=2), **{"earthself:baseline": "N0214"})
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "none")[1]
    assert any("baselines N0209, N0214 are mixed" in warning for warning in result["warnings"])


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--model", "nobody"], "nobody"), (["--dilate", "301"], "300"), (["--retries", "99"], "0 to 10")]
)
def test_what_no_product_could_be_signed_with_is_bad_input(products, tmp_path, arguments, said):
    products.add("A", scene(height=300, width=280))
    code, result = run(
        sign, products.folder, tmp_path / "out", *(["--model", "brightest"] if "--model" not in arguments else []), *arguments
    )
    assert code == 65
    assert said in result["message"]


def test_what_may_pass_is_tried_again_within_a_budget(products, tmp_path):
    for name in "ABC":
        products.add(name, {"B04": np.ones((4, 4), np.uint16)})
    waited: list[float] = []
    attempts = dict.fromkeys("ABC", 0)

    def work(item):
        attempts[item.id] += 1
        if item.id == "A" and attempts["A"] < 3:
            raise TryAgain("busy")
        if item.id != "A":
            raise TryAgain("always busy")
        return item

    (tmp_path / "out").mkdir()
    context = StepContext("test", products.folder, tmp_path / "out", tmp_path, 1)
    result = each_item(context, work, Meter(), retries=10, sleep=waited.append)
    assert attempts["A"] == 3
    assert waited[:2] == [2, 8]
    assert sum(waited) <= 120
    assert result.metrics["seconds_waiting"] == sum(waited)
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert failures == [{"id": name, "error": "always busy", "retry": True} for name in "BC"]


class _Ranges(SimpleHTTPRequestHandler):
    """Serves byte ranges, and says 503 for products called `busy`."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        path = Path(self.translate_path(self.path))
        if "/busy/" in self.path or not path.is_file():
            self.send_error(503 if "/busy/" in self.path else 404)
            return
        data = path.read_bytes()
        start, end = 0, len(data) - 1
        if match := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(match[1]), min(int(match[2] or end), end)
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(data[start : end + 1])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(products):
    handler = functools.partial(_Ranges, directory=str(products.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """Provider settings that ask once."""
    settings = tmp_path / "sources.json"
    settings.write_text(SourceConfig(providers=("sample",), attempts=1).to_json())
    settings.chmod(0o600)
    monkeypatch.setenv("EARTHSELF_SOURCES", str(settings))


def test_a_remote_product_is_read_by_ranges_and_its_address_keeps_no_secret(products, tmp_path, server, impatient):
    products.add("P", scene())
    products.add("busy", scene(seed=2))
    products.set_area(pixels_area(600, 530, 20, 10))
    run(sign, products.folder, tmp_path / "local", "--model", "brightest")
    for path in products.folder.glob("*/*.json"):
        path.write_text(re.sub(r'"href": "[^"]*/(\w+)/(\w+\.tif)"', rf'"href": "{server}/\1/\2?token=hush"', path.read_text()))
    result = run(sign, products.folder, tmp_path / "remote", "--model", "brightest", "--retries", "0")[1]
    assert (result["outputs"], result["metrics"]["failed"]) == (1, 1)
    whole = sum(path.stat().st_size for path in (products.folder / "P").glob("*.tif"))
    assert 0 < result["metrics"]["bytes_read"] < whole
    assert all("token=hush" in asked for asked in _Ranges.asked)
    failure = json.loads((tmp_path / "remote" / "failures.json").read_text())[0]
    assert (failure["id"], failure["retry"]) == ("busy", True)
    for path in (tmp_path / "remote").rglob("*.json"):
        assert "hush" not in path.read_text()
    name = "P_W512-512-512-512"
    one, other = signatures(tmp_path / "local")[name], signatures(tmp_path / "remote")[name]
    for key in LAYERS:
        np.testing.assert_array_equal(layer(one, key), layer(other, key), err_msg=key)
    hashes = [{each["asset"]: each["sha256"] for each in item.properties["earthself:inputs"]} for item in (one, other)]
    assert hashes[0] == hashes[1]


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
