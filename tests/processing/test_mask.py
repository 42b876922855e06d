"""Masks: which pixels are clouds, shadows, snow, and that no window's edge changes the answer."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from earthself.processing.errors import BadInput
from earthself.processing.masks import MaskOptions, csmask, open_mask
from earthself.processing.masks.dilate import dilated
from earthself.processing.raster import Grid, windows
from earthself.processing.scene import Scene
from earthself.processing.steps.fetch import fetch
from earthself.processing.steps.sign import sign
from products import RESOLUTION, brightest_model, layer, pixels_area, random_bands, run, shared, signatures
from scipy.ndimage import distance_transform_edt

SIX = ("B02", "B03", "B04", "B08", "B11", "B12")


@pytest.fixture(autouse=True)
def _registry(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_MODELS", str(brightest_model(tmp_path / "models", SIX)))


@pytest.mark.parametrize("radius", [0, 0.9, 1, 1.5, 2, 2.5, 3, 5, 15])
def test_masked_pixels_grow_to_all_within_the_distance(radius):
    found = np.random.default_rng(7).random((70, 45)) > 0.995
    found[0, 0] = found[-1, 10] = True
    np.testing.assert_array_equal(dilated(found, radius), distance_transform_edt(~found) <= radius)


def test_nothing_grows_out_of_nothing():
    assert not dilated(np.zeros((5, 5), bool), 3).any()


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        ([], {0: 1, 1: 1, 3: 4, 8: 2, 9: 2, 10: 2}),
        (["--mask_dark", "true"], {0: 1, 1: 1, 2: 4, 3: 4, 8: 2, 9: 2, 10: 2}),
        (["--mask_snow", "true"], {0: 1, 1: 1, 3: 4, 8: 2, 9: 2, 10: 2, 11: 8}),
    ],
)
def test_each_class_of_the_scene_classification_has_its_flag(products, tmp_path, options, masked):
    scl = np.repeat(np.arange(12, dtype=np.uint8), 10)[None].repeat(60, 0)
    products.add("P", random_bands(120, 240, SIX) | {"SCL": scl})
    run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--dilate", "0", *options)
    item = signatures(tmp_path / "out")["P"]
    flags = layer(item, "flags") & 15
    for code in range(12):
        assert set(np.unique(flags[:, code * 20 : code * 20 + 20])) == {masked.get(code, 0)}, code
    np.testing.assert_array_equal(layer(item, "cloud_mask") == 1, (flags & 2) != 0)
    assert (layer(item, "segmentation")[flags != 0] == 0).all()


def test_auto_takes_the_scene_classification_where_there_is_one(products, tmp_path):
    bands = random_bands(120, 120, SIX)
    products.add("A", bands | {"SCL": np.full((60, 60), 4, np.uint8)})
    products.add("B", bands)
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")[1]
    found = signatures(tmp_path / "out")
    assert (found["A"].properties["earthself:mask"], found["A"].properties["earthself:preprocessing"]) == ("scl", "pre1:scl:60")
    assert (found["B"].properties["earthself:mask"], found["B"].properties["earthself:preprocessing"]) == ("csmask", "pre1:csmask:60")
    assert found["B"].properties["earthself:mask_model"] == "1.0.0-4BL2A"
    assert result["warnings"] == []


def test_level_1c_has_a_network_of_its_own_and_is_named(products, tmp_path):
    products.add("A", random_bands(120, 120, SIX), **{"earthself:collection": "S2_MSI_L1C"})
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest")[1]
    assert signatures(tmp_path / "out")["A"].properties["earthself:mask_model"] == "1.0.0-4BL1C"
    assert any(warning.startswith("there are L1C products") for warning in result["warnings"])


def test_no_scene_classification_is_invented(products, tmp_path):
    products.add("B", random_bands(120, 120, SIX))
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "scl")[1]
    assert result["status"] == "nothing"
    assert "no scene classification (asset SCL); use --mask auto or csmask" in result["message"]


def test_no_mask_only_when_asked_for_and_then_it_is_said(products, tmp_path):
    products.add("A", random_bands(120, 120, SIX) | {"SCL": np.full((60, 60), 9, np.uint8)})
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "none")[1]
    item = signatures(tmp_path / "out")["A"]
    assert (item.properties["earthself:mask"], item.properties["earthself:preprocessing"]) == ("none", "pre1:none")
    assert not (layer(item, "flags") & 14).any()
    assert {each["asset"] for each in item.properties["earthself:inputs"]} == set(SIX)
    assert "products were not masked for clouds, because mask=none was asked for" in result["warnings"]


def test_without_the_extra_csmask_says_how_to_install_it(products, tmp_path, monkeypatch):
    products.add("B", random_bands(120, 120, SIX))
    csmask.load.cache_clear()
    monkeypatch.setattr(csmask.importlib.util, "find_spec", lambda name: None)
    code, result = run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "csmask")
    assert code == 65
    assert "pip install 'earthself-processing[csmask]'" in result["message"]
    code, result = run(sign, products.folder, tmp_path / "auto", "--model", "brightest")
    assert (code, result["status"]) == (0, "nothing")
    assert "pip install 'earthself-processing[csmask]'" in result["message"]


def blobs(height: int, width: int) -> dict[str, np.ndarray]:
    """Dark land with bright patches: something for the network to disagree about."""
    rng = np.random.default_rng(3)
    field = np.kron(rng.random((-(-height // 60), -(-width // 60))), np.ones((60, 60)))[:height, :width]
    bands = {}
    for band in SIX:
        n = 1 if band in ("B02", "B03", "B04", "B08") else 2
        base = np.where(field > 0.7, 5500, 600) + rng.integers(0, 300, (height, width))
        bands[band] = base[::n, ::n].astype(np.uint16)
    bands["B04"][:90, :120] = bands["B02"][:90, :120] = 0
    return bands


def test_csmask_gives_a_pixel_the_same_answer_in_every_window(products, tmp_path):
    products.add("P", blobs(900, 1100))
    run(fetch, products.folder, tmp_path / "whole", "--model", "brightest", "--mask", "csmask")
    products.set_area(pixels_area(600, 530, 20, 10))
    run(fetch, products.folder, tmp_path / "part", "--model", "brightest", "--mask", "csmask")
    options = MaskOptions("csmask", 60)
    with Scene.of(signatures(tmp_path / "whole")["P"]) as scene:
        whole = open_mask(options, scene, tmp_path)
        flags = whole.read(scene.grid.window)
        pieces = np.zeros_like(flags)
        for window in windows(scene.grid, 333):
            rows, columns = window.toslices()
            pieces[rows, columns] = whole.read(window)
    np.testing.assert_array_equal(pieces, flags)
    assert (flags & 2).any()
    assert not (flags & 2).all()
    with Scene.of(signatures(tmp_path / "part")["P_W512-512-512-388"]) as scene:
        np.testing.assert_array_equal(open_mask(options, scene, tmp_path).read(scene.grid.window), flags[512:900, 512:1024])


def test_csmask_takes_six_bands_only_of_products_that_fill_a_tile():
    def grid(width: int, height: int) -> Grid:
        return Grid("EPSG:32633", Affine(10, 0, 0, 0, -10, 0), width, height)

    assert csmask.bands_of(lambda band: True, grid(768, 768)) == SIX
    assert csmask.bands_of(lambda band: True, grid(767, 2000)) == SIX[:4]
    assert csmask.bands_of(lambda band: band != "B12", grid(2000, 2000)) == SIX[:4]


def test_csmask_reads_only_the_tiles_that_a_window_touches(products, tmp_path):
    products.add("P", random_bands(1500, 4000, ("B02", "B03", "B04", "B08")))
    products.set_area(pixels_area(1100, 100, 20, 10))
    brightest_model(tmp_path / "models", ("B04",), "red")
    run(fetch, products.folder, tmp_path / "part", "--model", "red", "--mask", "csmask")
    item = signatures(tmp_path / "part")["P_W1024-0-512-512"]
    read = {each["asset"]: each["window"] for each in item.properties["earthself:inputs"]}
    assert set(read) == {"B02", "B03", "B04", "B08"}
    # Cores of 576 pixels: columns 1 and 2 (994 to 1566 with growth), rows 0; 96 pixels of edge around them.
    assert read["B08"] == [480, 0, 1344, 672]


@pytest.mark.parametrize("site", [0, 1])
def test_csmask_finds_real_clouds_and_leaves_clear_land(site, products, tmp_path):
    """Parcel cubes of Flanders: on dates that SCL calls overcast most is found, on clear ones nearly nothing."""
    import netCDF4

    ten, twenty = sorted(shared("worldcereal").glob("S2_L2A_10m_*.nc")), sorted(shared("worldcereal").glob("S2_L2A_20m_*.nc"))
    with netCDF4.Dataset(ten[site]) as fine, netCDF4.Dataset(twenty[site]) as coarse:
        for each in (fine, coarse):
            each.set_auto_maskandscale(False)
        scl = coarse["SCL"][:]
        cloudy = np.isin(scl, (8, 9)).mean(axis=(1, 2))
        clear = np.isin(scl, (4, 5, 6)).mean(axis=(1, 2))
        overcast, fair = int(cloudy.argmax()), int(clear.argmax())
        for name, date in (("overcast", overcast), ("fair", fair)):
            bands = {band: fine[band][date].astype(np.uint16) for band in ("B02", "B03", "B04", "B08")}
            bands |= {band: coarse[band][date].astype(np.uint16) for band in ("B11", "B12")}
            products.add(name, bands)
    result = run(sign, products.folder, tmp_path / "out", "--model", "brightest", "--mask", "csmask", "--dilate", "0", "--offset", "0")[1]
    assert result["status"] == "done", result
    found = signatures(tmp_path / "out")
    assert (layer(found["overcast"], "cloud_mask") == 1).mean() > 0.9
    assert (layer(found["fair"], "flags") & 6 != 0).mean() < 0.05


@pytest.mark.parametrize("mask", ["auto", "scl"])
def test_a_model_of_coarse_bands_alone_is_masked(products, tmp_path, mask):
    """The 10 m bands of csmask, or the 20 m of SCL, are finer than all that this model looks at."""
    coarse = ("B05", "B8A", "B11") if mask == "auto" else ("B09", "B01")
    brightest_model(tmp_path / "models", coarse, name="coarse")
    bands = random_bands(780, 780, (*SIX, *coarse))
    if mask == "scl":
        bands["SCL"] = np.full((390, 390), 4, np.uint8)
        bands["SCL"][:20] = 9
    products.add("P", bands)
    code, document = run(sign, products.folder, tmp_path / "out", "--model", "coarse", "--mask", mask, "--offset", "0", "--retries", "0")
    assert (code, document["status"]) == (0, "done"), document["message"]
    item = signatures(tmp_path / "out")["P"]
    assert item.properties["earthself:mask"] == ("csmask" if mask == "auto" else "scl")
    flags, codes = layer(item, "flags"), layer(item, "segmentation")
    assert flags.shape == ((780, 780) if mask == "auto" else (390, 390))
    best = np.argmax([np.kron(bands[b], np.ones((n, n), int))[: len(flags), : len(flags)] for b, n in _repeats(coarse, mask)], axis=0) + 1
    clear = (flags & 15) == 0
    assert clear.any()
    np.testing.assert_array_equal(codes[clear], best[clear])
    if mask == "scl":
        assert (flags[:20] & 2).all()


def _repeats(bands, mask):
    finest = 10 if mask == "auto" else 20
    return [(band, RESOLUTION[band] // finest) for band in bands]


def test_csmask_looks_at_pixels_of_10_metres_only():
    with pytest.raises(BadInput, match="at 10 m; the product's finest pixels have 20"):
        csmask.bands_of(lambda band: True, Grid("EPSG:32633", Affine(20, 0, 0, 0, -20, 0), 5490, 5490))
