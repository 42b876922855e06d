"""Spectral indices: right values, and formulas that can do nothing but arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.processing.catalog import read_items
from earthself.processing.errors import BadInput
from earthself.processing.formulas import Formula
from earthself.processing.steps.composite import composite
from earthself.processing.steps.indices import indices
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import context, grid
from stac_schemas import check_item
from test_composite import Products

BANDS = {"B02": "B02", "B04": "B04", "B08": "B08", "N": "B08"}


def evaluate(text, **bands):
    values = {name: np.array(value, np.float32) for name, value in bands.items()}
    return Formula.parse(text, BANDS).evaluate(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(B08 - B04) / (B08 + B04)", 0.5),
        ("(N - B04) / (N + B04)", 0.5),
        ("2.5 * (B08 - B04) / (B08 + 6 * B04 - 7.5 * B02 + 1)", 2.5 * 0.2 / (0.3 + 0.6 - 0.375 + 1)),
        ("-B08 ** 2", -0.09),
        ("B08 ** -1", 1 / 0.3),
        ("B08 ** (1 / 2)", 0.3**0.5),
        ("sqrt(abs(B04 - B08))", 0.2**0.5),
        ("max(B04, min(B08, 0.2))", 0.2),
        ("log(exp(B04))", 0.1),
        (" +B04 ", 0.1),
    ],
)
def test_arithmetic_is_arithmetic(text, expected):
    assert evaluate(text, B02=[0.05], B04=[0.1], B08=[0.3])[0] == pytest.approx(expected, rel=1e-5)


def test_what_has_no_value_is_nan():
    found = evaluate("B04 / B08", B04=[1, 0, np.nan, 1], B08=[0, 0, 1, 4])
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 0.25])
    assert np.isnan(evaluate("sqrt(B04)", B04=[-1])[0])
    assert np.isnan(evaluate("B04 ** 16", B04=[1e9])[0])


@pytest.mark.parametrize("text", ["B02 ** 0", "B02 ** 0 + B04", "max(B02 ** 0, B04)", "B04 ** (0 * 2)"])
def test_no_formula_makes_a_value_of_no_data(text):
    found = evaluate(text, B02=[np.nan, 0.1, 0.2], B04=[np.nan, 0.1, np.nan])
    assert np.isnan(found[0])
    assert found[1] > 0
    assert np.isnan(found[2]) == ("B04" in text)


@pytest.mark.parametrize(("given", "said"), [(1, "is int, not text"), (None, "not text"), ("B02 + " * 90 + "B02", "543 characters")])
def test_what_is_no_formula_is_named(given, said):
    with pytest.raises(BadInput, match=said):
        Formula.parse(given, BANDS)


@pytest.mark.parametrize(
    "text",
    [
        # attributes, calls, subscripts
        "B04.__class__",
        "B04.__class__.__bases__[0].__subclasses__()",
        "().__class__",
        "B04.dtype",
        "__import__('os').system('true')",
        "eval('1')",
        "open('/etc/passwd')",
        "print(B04)",
        "getattr(B04, 'shape')",
        "sqrt.__globals__",
        "(sqrt)(B04).real",
        "sqrt(B04)(B04)",
        "B04[0]",
        "B04[B04 > 0]",
        # other syntax
        "lambda: B04",
        "(lambda: B04)()",
        "[B04 for _ in (1, 2)]",
        "{B04}",
        "{'a': B04}",
        "(B04, B08)",
        "[B04]",
        "(x for x in B04)",
        "B04 if B08 else B02",
        "B04 > B08",
        "B04 and B08",
        "not B04",
        "(x := B04)",
        "f'{B04}'",
        "'a' * B04",
        "b'a'",
        "True + B04",
        "None",
        "... + B04",
        "1j * B04",
        "*B04",
        "await B04",
        "yield B04",
        "B04; B08",
        "import os",
        "B04 = 1",
        # operators that are not on the list
        "B04 // B08",
        "B04 % 2",
        "B04 @ B08",
        "B04 << 2",
        "B04 | 1",
        "~B04",
        # names
        "__builtins__",
        "os",
        "B99 + B04",
        "b04",
        "sqrt",
        "N2 + B04",
        # huge
        "9 ** 9 ** 9 ** 9 * B04",
        "B04 ** 99999",
        "B04 ** -17",
        "B04 ** B08",
        "B04 ** (9 ** 9)",
        "B04 ** (1 / 0)",
        "B04 ** True",
        "B04 * 1e400",
        "B04 * 10000000000",
        "B04 " + "+ B04 " * 100,
        "-" * 100 + "B04",
        "(" * 300 + "B04" + ")" * 300,
        "B04" + " " * 600,
        "+".join(["B04*B04"] * 70),
        # nothing, or no band
        "",
        "   ",
        "1 + 1",
        "sqrt(2)",
        # calls that do not fit
        "sqrt()",
        "sqrt(B04, B08)",
        "sqrt(x=B04)",
        "max(*B04)",
        "min(B04)",
        "sqrt(*[B04])",
        "B04\x00",
    ],
)
def test_every_way_around_is_refused(text):
    with pytest.raises(BadInput) as caught:
        Formula.parse(text, BANDS)
    assert caught.value.exit_code == 65
    assert len(str(caught.value)) < 400


@given(st.text(alphabet="B048+-*/() .,sqrt_[]{}'\"lambda:x%@!~^&|<>=\\\n", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_formula_or_refused(text):
    """Whatever the text, either a formula that gives floats comes out, or the refusal that the user sees."""
    try:
        formula = Formula.parse(text, BANDS)
    except BadInput:
        return
    found = formula.evaluate({name: np.array([0.1, 0.2], np.float32) for name in ("B02", "B04", "B08")})
    assert found.dtype == np.float32
    assert found.shape == (2,)


@pytest.fixture
def products(tmp_path):
    return Products(tmp_path / "in")


def image(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_indices_are_computed_on_reflectance(products, tmp_path):
    """With an offset of -1000 the numbers 1500 and 3000 are reflectances of 5 and 20 %: NDVI 0.6, not a third."""
    item = products.add(1500, bands=("B04", "B08"))
    products.write(Path(item.assets["B08"].href), grid(), 3000, "uint16")
    numbers = np.full((10, 12), 1500)
    numbers[0, 0] = 0
    products.write(Path(item.assets["B04"].href), grid(), numbers, "uint16")
    indices(products.context(tmp_path / "out"), names=("NDVI",), formulas={"ratio": "B08 / B04"})
    ndvi = image(tmp_path / "out" / "p0" / "NDVI.tif")
    assert ndvi.dtype == np.float32
    assert np.isnan(ndvi[0, 0])
    assert ndvi[1:] == pytest.approx(0.6, abs=1e-6)
    assert image(tmp_path / "out" / "p0" / "ratio.tif")[5, 5] == pytest.approx(4, rel=1e-5)
    with rasterio.open(tmp_path / "out" / "p0" / "NDVI.tif") as dataset:
        assert np.isnan(dataset.nodata)
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform == grid().transform
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    (made,) = read_items(tmp_path / "out")
    check_item(made)
    assert made.properties["processing:lineage"] == "ratio = B08 / B04; NDVI = (N-R)/(N+R)"
    assert made.properties["earthself:mask"] == "scl"


def test_clouds_are_hidden_unless_told(products, tmp_path):
    scl = np.full((10, 12), 4)
    scl[:, 0] = 9
    products.add(2000, scl, bands=("B04", "B08"))
    indices(products.context(tmp_path / "auto"), names=("NDVI",))
    found = image(tmp_path / "auto" / "p0" / "NDVI.tif")
    assert np.isnan(found[:, 0]).all()
    assert (found[:, 1:] == 0).all()
    indices(products.context(tmp_path / "none"), names=("NDVI",), mask="none")
    assert (image(tmp_path / "none" / "p0" / "NDVI.tif") == 0).all()


def test_a_product_without_scene_classes_is_computed_with_a_warning_or_refused(products, tmp_path):
    products.add(2000, scl=None, bands=("B04", "B08"))
    assert "p0 has no scene classification" in indices(products.context(tmp_path / "auto"), names=("NDVI",)).warnings[0]
    with pytest.raises(BadInput, match="--mask none"):
        indices(products.context(tmp_path / "scl"), names=("NDVI",), mask="scl")


def test_coarse_bands_are_repeated_to_the_finest(products, tmp_path):
    item = products.add(2000, bands=("B08", "B11"))
    products.write(Path(item.assets["B11"].href), grid(resolution=20, width=6, height=5), np.arange(1001, 1031).reshape(5, 6), "uint16")
    indices(products.context(tmp_path / "out"), formulas={"swir": "B11 + 0 * B08"})
    expected = np.kron(np.arange(1, 31).reshape(5, 6), np.ones((2, 2))) / 10000
    np.testing.assert_allclose(image(tmp_path / "out" / "p0" / "swir.tif"), expected, atol=1e-7)


def test_indices_of_a_composite_use_its_scale(products, tmp_path):
    """A composite on the scale of offset -1000 gives the same NDVI as its products."""
    products.add(500, baseline="N0209", offset=0, bands=("B04", "B08"))
    products.add(1500, baseline="N0510", offset=-1000, bands=("B04", "B08"))
    composite(products.context(tmp_path / "composite"), bands=("B04", "B08"))
    result = indices(context(tmp_path / "composite", tmp_path / "out"), formulas={"red": "B04"})
    assert image(tmp_path / "out" / "composite" / "red.tif") == pytest.approx(0.05, abs=1e-6)
    assert result.warnings == []


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "no index was asked for"),
        ({"names": ("NDVY",)}, "did you mean"),
        ({"names": ("LST",)}, "LST"),
        ({"names": ("kNDVI",)}, "kNDVI cannot be computed"),
        ({"formulas": {"../x": "B04"}}, "cannot be an index's name"),
        ({"formulas": {"x": "B04.T"}}, "Attribute is not allowed"),
        ({"names": ("NDVI",), "formulas": {"NDVI": "B04"}}, "asked for by name and as a formula"),
        ({"names": ("NDWI",)}, "no band B03"),
    ],
)
def test_what_cannot_be_computed_is_refused(products, tmp_path, parameters, said):
    products.add(2000, bands=("B04", "B08"))
    with pytest.raises(BadInput, match=said):
        indices(products.context(tmp_path / "out"), **parameters)
    assert not list((tmp_path / "out").glob("**/*.tif"))


def test_all_of_spyndex_for_sentinel_2_is_understood():
    """Every index of the catalogue that needs nothing but Sentinel-2's bands and known constants is a formula by our list."""
    import spyndex
    from earthself.processing.steps.indices import _catalogued

    bands = {letter for letter, band in spyndex.bands.items() if getattr(band, "sentinel2a", None)}
    constants = {letter for letter, constant in spyndex.constants.items() if constant.default is not None} | {
        "lambdaN",
        "lambdaR",
        "lambdaG",
    }
    names = [name for name, index in spyndex.indices.items() if set(index.bands) <= bands | constants]
    assert len(names) > 150
    for name in names:
        assert _catalogued(name).bands, name


def test_windows_have_no_seams(products, tmp_path, monkeypatch):
    where = grid(width=150, height=130)
    numbers = np.random.default_rng(0).integers(1, 9000, (130, 150))
    products.add(numbers, where=where, bands=("B04", "B08"))
    indices(products.context(tmp_path / "whole"), formulas={"x": "B04 * 2"})
    monkeypatch.setattr("earthself.processing.steps.indices.WINDOW", 64)
    indices(products.context(tmp_path / "parts"), formulas={"x": "B04 * 2"})
    np.testing.assert_array_equal(image(tmp_path / "whole" / "p0" / "x.tif"), image(tmp_path / "parts" / "p0" / "x.tif"))
    assert image(tmp_path / "whole" / "p0" / "x.tif")[129, 149] == pytest.approx((numbers[129, 149] - 1000) / 5000, abs=1e-6)


def test_no_data_is_what_the_file_says(tmp_path):
    products = Products(tmp_path / "in")
    item = products.add(1000, offset=0)
    values = np.full((10, 12), 1000)
    values[:3], values[3] = 65535, 0
    products.write(Path(item.assets["B02"].href), grid(), values, "uint16", nodata=65535)
    indices(products.context(tmp_path / "out"), formulas={"x": "B02 * 2"})
    with rasterio.open(tmp_path / "out" / "p0" / "x.tif") as dataset:
        found = dataset.read(1)
    assert np.isnan(found[:4]).all()
    np.testing.assert_allclose(found[4:], 0.2)
