"""Composites: the median of what was clear, whatever the order, the baselines and the tiles."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio
from earthself.processing import kernels
from earthself.processing.catalog import read_items, write_items
from earthself.processing.errors import BadInput
from earthself.processing.items import declare_extensions, raster_item
from earthself.processing.raster import Grid
from earthself.processing.steps.composite import composite
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import context, grid, lonlat_box
from stac_schemas import check_item

BANDS = ("B02", "B11")


class Products:
    """Collects Sentinel-2 products in a step's input folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.items = []
        folder.mkdir(parents=True)

    def add(self, numbers, scl=4, *, where: Grid | None = None, baseline="N0500", observation=None, offset=-1000, bands=BANDS):
        where = where or grid()
        number = len(self.items)
        name = f"p{number}"
        (self.folder / name).mkdir()
        when = dt.datetime(2024, 5, 1, tzinfo=dt.UTC) + dt.timedelta(days=5 * number)
        observation = observation or f"S2A_33UUP_{when:%Y%m%dT%H%M%S}_R022"
        properties = {"earthself:observation": observation, "earthself:baseline": baseline, "earthself:product": name}
        if offset is not None:
            properties["earthself:offset"] = offset
        item = raster_item(name, where, when, lonlat_box(where), properties)
        for band in (*bands, "SCL"):
            if band == "SCL" and scl is None:
                continue
            values, dtype = (scl, "uint8") if band == "SCL" else (numbers, "uint16")
            path = self.folder / name / f"{band}.tif"
            self.write(path, where, values, dtype)
            item.add_asset(band, rasterio_asset(path))
        self.items.append(declare_extensions(item))
        return item

    @staticmethod
    def write(path, where, values, dtype, nodata=0):
        shape = (where.height, where.width)
        options = {"driver": "GTiff", "width": where.width, "height": where.height, "count": 1, "dtype": dtype, "nodata": nodata}
        with rasterio.open(path, "w", crs=where.crs, transform=where.transform, **options) as dataset:
            dataset.write(np.broadcast_to(np.asarray(values, dtype), shape), 1)

    def context(self, output):
        write_items(self.folder, self.items, "input")
        return context(self.folder, output)


def rasterio_asset(path):
    import pystac

    return pystac.Asset(str(path), media_type=pystac.MediaType.GEOTIFF, roles=["data"])


@pytest.fixture
def products(tmp_path):
    return Products(tmp_path / "in")


def run(products, tmp_path, out="out", **parameters):
    result = composite(products.context(tmp_path / out), **({"bands": BANDS} | parameters))
    with rasterio.open(tmp_path / out / "composite.tif") as dataset:
        return result, dataset.read()


def expected_median(values, usable):
    with np.errstate(all="ignore"):
        stack = np.where(usable, values, np.nan).astype(float)
        ranked = np.sort(stack, axis=0)  # NaN last
    out = np.zeros(values.shape[1:], np.uint16)
    for place in np.ndindex(out.shape):
        known = ranked[(slice(None), *place)][: int(usable[(slice(None), *place)].sum())]
        if len(known):
            out[place] = int(known[(len(known) - 1) // 2] + known[len(known) // 2] + 1) // 2
    return out


@given(number=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_network_finds_the_median_of_what_is_known(number, seed):
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 1, 2, 500, 501, 9000, 65534, 65535], (number, 6, 5)).astype(np.uint16)
    hidden = rng.random((number, 6, 5)) < 0.4
    out = np.empty((6, 5), np.uint16)
    masks = [np.where(mask, 65535, 0).astype(np.uint16) if rng.random() < 0.8 else None for mask in hidden]
    usable = np.stack([plane > 0 if mask is None else (plane > 0) & (mask == 0) for plane, mask in zip(values, masks, strict=True)])
    kernels.median([plane.copy() for plane in values], masks, out)
    np.testing.assert_array_equal(out, expected_median(values, usable))


@pytest.mark.parametrize("number", range(1, 18))
def test_the_network_sorts_every_pattern_of_zeros_and_ones(number):
    """The zero-one principle: what sorts these sorts everything (checked for the half that the median needs)."""
    patterns = np.array(
        list(itertools.product((0, 1), repeat=number)) if number < 13 else np.random.default_rng(0).integers(0, 2, (4096, number))
    )
    rows = list(patterns.T.astype(np.uint16))
    for low, high in kernels.exchanges(number):
        rows[low], rows[high] = np.minimum(rows[low], rows[high]), np.maximum(rows[low], rows[high])
    half = number // 2 + 1
    np.testing.assert_array_equal(np.stack(rows)[:half], np.sort(patterns, axis=1).T[:half])


def test_clouds_shadows_and_no_data_are_left_out(products, tmp_path):
    for value, scl in ((1000, 4), (9000, 9), (100, 3), (1200, 5), (0, 4)):
        products.add(value, scl)
    result, image = run(products, tmp_path)
    assert (image == 1100).all()
    assert result.metrics["observed_fraction"] == 1


def test_an_even_number_is_the_mean_of_the_middle_two_halves_up(products, tmp_path):
    for value in (1000, 1003, 5000, 10):
        products.add(value)
    _, image = run(products, tmp_path)
    assert (image == 1002).all()


def test_what_was_never_clear_is_no_data(products, tmp_path):
    scl = np.full((10, 12), 4)
    scl[:, 3] = 8
    products.add(1500, scl)
    products.add(1600, np.where(scl == 8, 10, 4))
    result, image = run(products, tmp_path)
    assert (image[:, :, 3] == 0).all()
    assert (np.delete(image, 3, axis=2) == 1550).all()
    assert result.metrics["observed_fraction"] == pytest.approx(11 / 12, abs=1e-6)


def test_the_order_of_the_products_changes_no_pixel(products, tmp_path):
    rng = np.random.default_rng(2)
    for observation in ("S2A_33UUP_20240501T101031_R022", "S2A_33UVP_20240501T101031_R022", None, None):
        products.add(rng.integers(0, 3000, (10, 12)), rng.choice([4, 5, 9], (10, 12)), observation=observation)
    images = []
    for number, order in enumerate(list(itertools.permutations(products.items))[::4]):
        products.items = list(order)
        images.append(run(products, tmp_path, out=f"out{number}")[1])
    assert all((image == images[0]).all() for image in images)


def test_overlapping_tiles_of_one_datatake_are_one_date(products, tmp_path):
    same = "20240501T101031_R022"
    products.add(1000, observation=f"S2A_33UUP_{same}")
    products.add(1000, observation=f"S2A_33UVP_{same}")
    products.add(1000, observation=f"S2A_33UWP_{same}")
    products.add(2000)
    result, image = run(products, tmp_path)
    assert (image == 1500).all()  # three times 1000 would win against one 2000
    assert result.metrics["datatakes"] == 2


def test_the_second_tile_of_a_datatake_fills_what_the_first_lacks(products, tmp_path):
    same = "20240501T101031_R022"
    scl = np.full((10, 12), 4)
    scl[:, :4] = 9
    numbers = np.full((10, 12), 1000)
    numbers[:5] = 0
    products.add(numbers, scl, observation=f"S2A_33UUP_{same}")
    products.add(1300, observation=f"S2A_33UVP_{same}")
    _, image = run(products, tmp_path)
    assert (image[:, 5:, 4:] == 1000).all()
    assert (image[:, :5] == 1300).all()
    assert (image[:, :, :4] == 1300).all()


def test_mixed_baselines_are_brought_to_one_scale_and_said(products, tmp_path):
    """DN 500 without an offset and DN 1500 with one are the same 5 % of reflectance; the darkest is not cut off."""
    products.add(np.array([[500] * 6 + [1] * 6] * 10), baseline="N0209", offset=0)
    products.add(np.array([[1500] * 6 + [0] * 6] * 10), baseline="N0510", offset=-1000)
    result, image = run(products, tmp_path)
    assert (image[:, :, :6] == 1500).all()
    assert (image[:, :, 6:] == 1001).all()
    assert any("offset -1000" in warning for warning in result.warnings)
    assert any("N0209" in warning and "N0510" in warning for warning in result.warnings)
    (item,) = read_items(tmp_path / "out")
    band = item.assets["composite"].extra_fields["bands"][0]
    assert (band["raster:scale"], band["raster:offset"]) == (0.0001, -0.1)


def test_products_of_one_old_baseline_stay_as_they_are(products, tmp_path):
    products.add(500, baseline="N0209", offset=0)
    products.add(700, baseline="N0209", offset=0)
    result, image = run(products, tmp_path)
    assert (image == 600).all()
    assert result.warnings == []
    assert read_items(tmp_path / "out")[0].assets["composite"].extra_fields["bands"][0]["raster:offset"] == 0


def test_offsets_that_fetching_did_not_find_are_decided_here(products, tmp_path):
    products.add(1500, baseline="N0510", offset=None)
    products.add(500, baseline="N0209", offset=None)
    result, image = run(products, tmp_path)
    assert (image == 1500).all()
    assert [warning for warning in result.warnings if "no dark pixels confirm the offset" in warning]


def test_a_product_without_scene_classes_is_refused_unless_told(products, tmp_path):
    products.add(1000, scl=None)
    with pytest.raises(BadInput, match=r"p0 has no scene classification .*--mask none"):
        run(products, tmp_path)
    result, image = run(products, tmp_path, mask="none")
    assert (image == 1000).all()
    assert any("no cloud mask" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"bands": ("B02", "B99")}, "B99"),
        ({"bands": ("B02", "B02")}, "each once"),
        ({"bands": ("B03",)}, "no asset B03"),
        ({"masked": (12,)}, "0 to 11"),
        ({"resolution": float("inf")}, "resolution inf"),
    ],
)
def test_parameters_that_cannot_be_are_refused(products, tmp_path, parameters, said):
    products.add(1000)
    with pytest.raises(BadInput, match=said):
        run(products, tmp_path, **parameters)


@pytest.mark.parametrize("size", [10, 20])
def test_no_data_is_what_the_file_says(products, tmp_path, size):
    """No data is 65535 in these bands and 255 in the scene classes, on the composite's own pixels and under coarser ones."""
    where = grid(resolution=size, width=120 // size, height=100 // size)
    pixel, pairs = np.ones((size // 10, size // 10), int), (where.height, where.width // 2)
    for first, second in ((65535, 5), (11, 9), (65535, 65535), (3000, 3000)):
        item = products.add(0)
        values = np.tile([first, second], pairs)
        products.write(Path(item.assets["B02"].href), where, values, "uint16", nodata=65535)
        products.write(Path(item.assets["SCL"].href), where, np.where(values == 3000, 255, 4), "uint8", nodata=255)
    _, image = run(products, tmp_path, bands=("B02", "B11"))
    np.testing.assert_array_equal(image[0], np.kron(np.tile([11, 7], pairs), pixel))


@pytest.mark.parametrize(("band", "dtype"), [("B02", "uint8"), ("B02", "int16"), ("B02", "uint32"), ("B02", "float32"), ("SCL", "float32")])
def test_other_kinds_of_numbers_are_refused(products, tmp_path, band, dtype):
    products.add(1000)
    item = products.add(1000)
    products.write(Path(item.assets[band].href), grid(), 4, dtype)
    with pytest.raises(BadInput, match=rf"p1/{band}\.tif holds {dtype}") as caught:
        run(products, tmp_path)
    assert caught.value.exit_code == 65


def test_a_file_that_breaks_off_is_named(products, tmp_path):
    item = products.add(np.random.default_rng(0).integers(1, 9000, (10, 12)))
    path = Path(item.assets["B11"].href)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"B11\.tif cannot be read: .*fetch it again"):
        run(products, tmp_path)


def test_lifted_numbers_stop_at_the_largest(products, tmp_path):
    """DN 65000 without an offset would be 66000 on the other's scale."""
    products.add(65_000, baseline="N0209", offset=0)
    products.add(65_535, baseline="N0510", offset=-1000)
    _, image = run(products, tmp_path)
    assert (image == 65_535).all()


def test_coarse_bands_are_repeated(products, tmp_path):
    item = products.add(1000)
    coarse = grid(resolution=20, width=6, height=5)
    numbers = np.arange(1, 31).reshape(5, 6)
    products.write(Path(item.assets["B11"].href), coarse, numbers, "uint16")
    _, image = run(products, tmp_path)
    np.testing.assert_array_equal(image[1], np.kron(numbers, np.ones((2, 2))))


def test_products_side_by_side_make_one_image(products, tmp_path):
    products.add(1000, where=grid(width=6))
    products.add(2000, where=grid(left=500_060, width=6))
    result, image = run(products, tmp_path)
    assert image.shape == (2, 10, 12)
    assert (image[:, :, :6] == 1000).all()
    assert (image[:, :, 6:] == 2000).all()
    assert result.metrics["observed_fraction"] == 1


def test_products_in_degrees_make_an_image_in_degrees(products, tmp_path):
    """A pixel of 0.0001 degrees is no pixel of 0 thousandths."""
    where = grid(left=15, top=48, resolution=0.0001, crs="EPSG:4326")
    products.add(1000, where=where)
    _, image = run(products, tmp_path, resolution=0.0001)
    assert image.shape == (2, 10, 12)
    assert (image == 1000).all()


def test_threads_and_windows_change_no_pixel(products, tmp_path):
    from dataclasses import replace

    where = grid(width=1300, height=1100)
    rng = np.random.default_rng(0)
    for _ in range(3):
        scl = np.full((1100, 1300), 4)
        scl[:512, :512] = 9  # a tile that need not be read at all
        scl[rng.random(scl.shape) < 0.3] = 8
        products.add(rng.integers(0, 4000, (1100, 1300)), scl, where=where, bands=("B02",))
    images = []
    for cpus in (1, 3):
        ctx = replace(products.context(tmp_path / f"out{cpus}"), cpus=cpus)
        result = composite(ctx, bands=("B02",))
        with rasterio.open(tmp_path / f"out{cpus}" / "composite.tif") as dataset:
            images.append(dataset.read())
    np.testing.assert_array_equal(*images)
    assert (images[0][0, :512, :512] == 0).all()
    assert result.metrics["tiles_not_read"] == 3
    stack, usable = [], []
    for item in products.items:
        with rasterio.open(item.assets["B02"].href) as band, rasterio.open(item.assets["SCL"].href) as scl:
            stack.append(band.read(1)[600:620, 700:720])
            usable.append((stack[-1] > 0) & (scl.read(1)[600:620, 700:720] == 4))
    np.testing.assert_array_equal(images[0][0, 600:620, 700:720], expected_median(np.stack(stack), np.stack(usable)))


def test_the_item_is_valid_and_names_its_bands(products, tmp_path):
    products.add(1000)
    products.add(1100)
    run(products, tmp_path)
    (item,) = read_items(tmp_path / "out")
    check_item(item)
    bands = item.assets["composite"].extra_fields["bands"]
    assert [band["eo:common_name"] for band in bands] == ["blue", "swir16"]
    assert item.properties["earthself:products"] == ["p0", "p1"]


def test_nothing_to_combine_is_no_failure(products, tmp_path):
    assert composite(products.context(tmp_path / "out")).status == "nothing"
