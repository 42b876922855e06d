"""The radiometric offset: what products state, what providers are known to do, what pixels tell - and where these disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from earthself.data.errors import BadInput
from earthself.data.offset_table import RULES
from earthself.data.radiometry import (
    OFFSET,
    Offset,
    PixelEvidence,
    RadiometryDisagrees,
    look_at_pixels,
    mixed_baselines,
    offset_from_metadata,
    resolve_offset,
    to_reflectance,
)
from hypothesis import given
from hypothesis import strategies as st

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def product(
    baseline: str | None,
    day: str = "2017-06-13",
    provider: str = "planetary_computer",
    assets: dict[str, Any] | None = None,
    **properties: Any,
) -> dict[str, Any]:
    stamp = day.replace("-", "") + "T101031"
    name = f"S2A_MSIL2A_{stamp}_{baseline or 'N0000'}_R022_T33UUP_20230601T000000" if baseline else "x"
    stated = {"datetime": f"{day}T10:10:31Z", "earthself:provider": provider, "earthself:collection": "S2_MSI_L2A", **properties}
    return {"id": name, "properties": stated, "assets": assets or {}}


def patch(folder: Path, name: str = "27_57", lifted: int = 0) -> dict[str, np.ndarray]:
    """A real patch of 2017 (N9999), whose digital numbers carry no offset; `lifted` adds one, as a reprocessing does."""
    with rasterio.open(folder / "bigearthnet_v2" / f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{name}_12b.tif") as file:
        data = file.read().astype(np.int32)
    return {band: np.where(data[i] > 0, data[i] + lifted, 0).astype(np.uint16) for i, band in enumerate(BANDS)}


def seen(folder: Path, name: str = "27_57", lifted: int = 0) -> PixelEvidence:
    """What such a patch tells by its pixels; it does tell."""
    evidence = look_at_pixels(patch(folder, name, lifted))
    assert evidence.value is not None
    return evidence


# --- the cases that must hold -----------------------------------------------------------------------------------------


def test_the_shipped_sample_carries_no_offset(shared: Path) -> None:
    item = product("N9999", provider="sample")
    assert resolve_offset(item).value == 0
    for name in ("26_57", "27_59", "33_70", "38_58", "70_40"):
        assert resolve_offset(item, evidence=seen(shared, name)).value == 0


def test_a_product_before_the_change_carries_none(shared: Path) -> None:
    item = product("N0209", "2018-10-01")
    assert resolve_offset(item).value == resolve_offset(item, evidence=seen(shared)).value == 0
    with pytest.raises(RadiometryDisagrees):
        resolve_offset(item, evidence=seen(shared, lifted=1000))


def test_a_product_after_the_change_carries_it(shared: Path) -> None:
    item = product("N0400", "2022-06-13")
    assert resolve_offset(item).value == resolve_offset(item, evidence=seen(shared, lifted=1000)).value == OFFSET
    with pytest.raises(RadiometryDisagrees):
        resolve_offset(item, evidence=seen(shared))


def test_a_reprocessed_scene_of_2017_carries_it_too(shared: Path) -> None:
    item = product("N0510", "2017-06-13")
    assert resolve_offset(item).value == resolve_offset(item, evidence=seen(shared, lifted=1000)).value == OFFSET
    with pytest.raises(RadiometryDisagrees):
        resolve_offset(item, evidence=seen(shared))


def test_a_catalogue_that_says_not_applied_although_it_is(shared: Path) -> None:
    item = product("N0511", "2025-03-02", "earth_search", **{"earthsearch:boa_offset_applied": False})
    assert resolve_offset(item).value == OFFSET
    with pytest.raises(RadiometryDisagrees) as caught:
        resolve_offset(item, evidence=seen(shared))
    assert caught.value.exit_code == 65
    assert not caught.value.retry
    assert caught.value.values == (OFFSET, 0)
    assert "-1000" in str(caught.value)
    assert " 0 by its pixels" in str(caught.value)
    assert item["id"] in str(caught.value)


def document(*offsets: int) -> bytes:
    """A product's own metadata, with the offset of each band."""
    bands = b"".join(b'<BOA_ADD_OFFSET band_id="%d">%d</BOA_ADD_OFFSET>' % each for each in enumerate(offsets))
    return b'<n1:Level-2A_User_Product><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>%s</n1:L>' % bands


def raster(*offsets: float) -> dict[str, Any]:
    """Assets with these offsets of reflectance."""
    return {f"B{i:02d}": {"href": "x", "raster:offset": value, "raster:scale": 0.0001} for i, value in enumerate(offsets, 2)}


# --- the order of the witnesses ---------------------------------------------------------------------------------------


def test_the_flag_of_a_catalogue_overrules_the_offset_of_its_assets() -> None:
    """Earth Search left raster:offset at -0.1 where it had applied it."""
    assets = {"B04": {"href": "x", "raster:bands": [{"scale": 0.0001, "offset": -0.1}]}}
    item = product("N0400", "2022-10-23", "earth_search", assets, **{"earthsearch:boa_offset_applied": True})
    offset = resolve_offset(item)
    assert offset.value == 0
    assert "boa_offset_applied is true" in offset.source


def test_a_flag_that_nothing_was_applied_means_nothing_before_the_change() -> None:
    assert resolve_offset(product("N0214", "2020-07-14", "earth_search", **{"earthsearch:boa_offset_applied": False})).value == 0
    assert resolve_offset(product("N0400", "2022-07-14", "earth_search", **{"sentinel:boa_offset_applied": False})).value == OFFSET


@pytest.mark.parametrize(
    "asset",
    [
        {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]},
        {"raster:offset": -0.1, "raster:scale": 0.0001},
        {"bands": [{"name": "B04", "raster:offset": -0.1, "raster:scale": 0.0001}]},
        {"raster:offset": -0.1},
        {"raster:offset": -1000},
    ],
)
def test_the_offset_of_an_asset_is_understood_in_every_version_of_stac(asset: dict[str, Any]) -> None:
    offset = resolve_offset(
        product("N0400", "2022-06-13", assets={"B04": {"href": "x", **asset}, "SCL": {"href": "y", "raster:offset": 0}})
    )
    assert offset.value == OFFSET
    assert "raster:offset" in offset.source
    assert [c.value for c in offset.candidates] == [OFFSET, OFFSET]


def test_a_scale_without_an_offset_states_nothing() -> None:
    offset = resolve_offset(product("N0400", "2022-06-13", assets={"B04": {"href": "x", "raster:bands": [{"scale": 0.0001}]}}))
    assert offset.value == OFFSET
    assert "04.00" in offset.source


def test_metadata_and_table_disagree() -> None:
    item = product("N0400", "2022-06-13", assets={"B04": {"href": "x", "raster:offset": 0.0, "raster:scale": 0.0001}})
    with pytest.raises(RadiometryDisagrees) as caught:
        resolve_offset(item)
    assert caught.value.values == (0, OFFSET)


def test_assets_disagree_with_each_other() -> None:
    assets = {"B04": {"href": "x", "raster:offset": -0.1}, "B08": {"href": "y", "raster:offset": 0.0}}
    with pytest.raises(RadiometryDisagrees, match=r"asset B04.*asset B08"):
        resolve_offset(product("N0400", "2022-06-13", assets=assets))


LIFTED, PLAIN = (OFFSET,), ()


@pytest.mark.parametrize(
    ("item", "metadata", "values"),
    [
        (product("N0400", assets=raster(0.0)), LIFTED, (OFFSET, 0)),
        (product("N9999", assets=raster(-0.1)), PLAIN, (0, OFFSET)),
        (product("N9999", assets=raster(0.0)), LIFTED, (OFFSET, 0)),
        (product("N0400", provider="earth_search", assets=raster(-0.1)), PLAIN, (0, OFFSET)),
        (product("N0400", provider="earth_search", assets=raster(-0.1, 0.0)), None, (OFFSET, 0)),
        (product("N0400", provider="earth_search", **{"a:boa_offset_applied": True, "b:boa_offset_applied": False}), None, (0, OFFSET)),
        (product("N0400", provider="earth_search", **{"b:boa_offset_applied": False, "a:boa_offset_applied": True}), None, (OFFSET, 0)),
        (product("N0301", provider="earth_search", **{"earthsearch:boa_offset_applied": False}), LIFTED, (0, OFFSET)),
        (product("N0500", provider="earth_search", **{"earthsearch:boa_offset_applied": False}), PLAIN, (OFFSET, 0)),
        (product("N0500", provider="earth_search", assets=raster(0.0), **{"a:boa_offset_applied": False}), None, (OFFSET, 0)),
        (product("N0400", **{"s2:processing_baseline": "02.09"}), None, (0, OFFSET)),
        (product("N0209", **{"s2:processing_baseline": "05.10"}), None, (OFFSET, 0)),
    ],
)
def test_no_two_witnesses_differ_unnoticed(item: dict[str, Any], metadata: tuple[int, ...] | None, values: tuple[int, int]) -> None:
    with pytest.raises(RadiometryDisagrees) as caught:
        resolve_offset(item, metadata=None if metadata is None else document(*metadata))
    assert caught.value.values == values


@pytest.mark.parametrize("assets", [raster(-1000.0), raster(-0.09), raster(0.1), {"B04": {"href": "x", "raster:offset": 5}}])
def test_what_is_no_offset_of_sentinel_2_is_refused(assets: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="is neither 0 nor -1000; leave the product out") as caught:
        resolve_offset(product("N9999", assets=assets))
    assert "raster:offset of asset" in str(caught.value)
    with pytest.raises(BadInput, match="is -900 by the product's metadata"):
        resolve_offset(product("N0400"), metadata=document(-900))


def test_a_datatake_processed_anew_outside_the_ground_segment_is_no_contradiction() -> None:
    assert resolve_offset(product("N9999", **{"s2:processing_baseline": "02.05"})).value == 0


def test_the_products_own_document_is_heard() -> None:
    lifted = document(*[OFFSET] * 13)
    assert offset_from_metadata(lifted) == OFFSET
    assert offset_from_metadata(document()) == 0
    assert offset_from_metadata(b"<tileInfo/>") is None
    assert (
        offset_from_metadata(lifted.replace(b'"', b"'").replace(b"<BOA_ADD", b"<n1:BOA_ADD").replace(b" band_id", b"  band_id")) == OFFSET
    )
    with pytest.raises(BadInput, match="different offsets"):
        offset_from_metadata(document(-1000, -900))
    with pytest.raises(BadInput, match="no whole number"):
        offset_from_metadata(lifted.replace(b"-1000", b"-0.1"))
    assert resolve_offset(product("N9999"), metadata=lifted).value == OFFSET
    with pytest.raises(RadiometryDisagrees):
        resolve_offset(product("N0209", "2018-10-01"), metadata=lifted)
    flagged = product("N0400", "2022-10-23", "earth_search", **{"earthsearch:boa_offset_applied": True})
    assert resolve_offset(flagged, metadata=lifted).value == 0  # the document is of the file that Earth Search changed


def test_where_nothing_speaks_it_is_asked_for() -> None:
    item = product(None, "2020-06-13")
    with pytest.raises(BadInput, match="state the offset yourself"):
        resolve_offset(item)
    unflagged = product("N0400", "2022-06-13", "earth_search")
    with pytest.raises(BadInput, match="nothing tells"):
        resolve_offset(unflagged)


def test_pixels_speak_where_the_others_are_silent(shared: Path) -> None:
    unflagged = product("N0400", "2022-06-13", "earth_search")
    assert resolve_offset(unflagged, evidence=look_at_pixels(patch(shared))).value == 0
    offset = resolve_offset(unflagged, evidence=look_at_pixels(patch(shared, lifted=1000)))
    assert offset.value == OFFSET
    assert "1st percentile" in offset.source


def test_a_person_may_overrule_and_it_is_recorded(shared: Path) -> None:
    item = product("N0511", "2025-03-02", "earth_search", **{"earthsearch:boa_offset_applied": False})
    offset = resolve_offset(item, override=0)
    assert (offset.value, offset.source) == (0, "what the request states")
    assert [c.value for c in offset.candidates] == [OFFSET]
    offset = resolve_offset(item, override=OFFSET, evidence=seen(shared))
    assert (offset.value, [c.value for c in offset.candidates]) == (OFFSET, [OFFSET, 0])
    assets = {"B04": {"href": "x", "raster:offset": -0.1}, "B08": {"href": "y", "raster:offset": 7}}
    assert resolve_offset(product("N0400", assets=assets), override=0, metadata=document(-900, -1000)).value == 0
    with pytest.raises(BadInput, match="offset 5 is none that Sentinel-2 products carry; state 0 or -1000"):
        resolve_offset(item, override=5)


def test_dates_speak_where_the_baseline_is_not_stated() -> None:
    assert resolve_offset(product(None, "2023-06-13")).value == OFFSET
    assert resolve_offset(product(None, "2020-06-13", **{"s2:generation_time": "2020-06-13T20:00:00Z"})).value == 0


def test_every_row_of_the_table_says_where_and_when() -> None:
    assert all("20" in rule.source and len(rule.source) > 40 for rule in RULES)
    for baseline, value in (("N0001", 0), ("N0209", 0), ("N0301", 0), ("N0400", OFFSET), ("N0509", OFFSET), ("N0511", OFFSET)):
        for day in ("2016-01-01", "2024-01-01"):
            assert resolve_offset(product(baseline, day)).value == value


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_all_real_patches_tell_that_they_carry_no_offset(shared: Path) -> None:
    files = sorted((shared / "bigearthnet_v2").glob("*_12b.tif"))
    assert len(files) == 21
    for file in files:
        name = "_".join(file.name.split("_")[6:8])
        assert look_at_pixels(patch(shared, name)).value == 0, name
        assert look_at_pixels(patch(shared, name, lifted=1000)).value in (OFFSET, None), name


def test_clouds_over_real_fields_are_never_taken_for_an_offset(shared: Path) -> None:
    """190 dates of two parcel cubes, cloudy ones included: with the scene classification no date is misread."""
    netcdf = pytest.importorskip("netCDF4")
    told = {0: 0, None: 0, OFFSET: 0}
    for file in sorted((shared / "worldcereal").glob("S2_L2A_10m_*.nc")):
        with netcdf.Dataset(file) as fine, netcdf.Dataset(str(file).replace("_10m_", "_20m_")) as coarse:
            fine.set_auto_maskandscale(False)
            coarse.set_auto_maskandscale(False)
            cube = {band: fine[band][:] for band in ("B02", "B03", "B04", "B08")}
            cube |= {band: coarse[band][:].repeat(2, 1).repeat(2, 2) for band in ("B11", "B12")}
            scl = coarse["SCL"][:].repeat(2, 1).repeat(2, 2)
        for date in range(len(scl)):
            here = {band: np.where(array[date] == 65535, 0, array[date]) for band, array in cube.items()}
            told[look_at_pixels(here, scl[date]).value] += 1
            lifted = {band: np.where(array > 0, array.astype(np.int32) + 1000, 0) for band, array in here.items()}
            assert look_at_pixels(lifted, scl[date]).value != 0
    assert told[OFFSET] == 0
    assert told[0] >= 90


def test_water_speaks_where_nothing_grows() -> None:
    rng = np.random.default_rng(1)
    lake = {band: rng.integers(150, 400, (40, 40)).astype(np.uint16) for band in ("B02", "B03", "B04", "B08", "B11", "B12")}
    scl = np.full((40, 40), 6, np.uint8)
    assert look_at_pixels(lake, scl).value == 0
    assert look_at_pixels({band: array + 1000 for band, array in lake.items()}, scl).value == OFFSET


@pytest.mark.parametrize("fill", [0, 9000])
def test_where_nothing_is_dark_the_pixels_are_silent(fill: int) -> None:
    bright = {band: np.full((40, 40), fill, np.uint16) for band in ("B02", "B04", "B08", "B12")}
    assert look_at_pixels(bright).value is None
    assert look_at_pixels({}).value is None
    offset = resolve_offset(product("N0400", "2022-06-13"), evidence=look_at_pixels(bright))
    assert (offset.value, len(offset.candidates)) == (OFFSET, 1)


# --- reflectance ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=50), st.sampled_from([0, OFFSET]))
def test_reflectance_keeps_negatives_and_only_zero_is_no_data(numbers: list[int], offset: int) -> None:
    dn = np.array(numbers, np.uint16)
    made = to_reflectance(dn, offset)
    assert made.dtype == np.float32
    assert np.array_equal(np.isnan(made), dn == 0)
    expected = (dn.astype(np.float64) + offset) / 10000
    assert np.allclose(made[dn > 0], expected[dn > 0], atol=1e-6)
    assert np.array_equal(dn, np.array(numbers, np.uint16))


def test_the_smallest_number_is_data_below_zero_and_not_nodata() -> None:
    made = to_reflectance(np.array([0, 1, 999, 1000, 1001], np.uint16), Offset(OFFSET, "test"))
    assert np.isnan(made[0])
    assert made[1:].tolist() == pytest.approx([-0.0999, -0.0001, 0.0, 0.0001], abs=1e-7)


def test_mixed_baselines_are_reported() -> None:
    items = [product("N0209"), product("N0510"), product("N0510"), product(None)]
    assert "together: N0209 (1), N0510 (2), unknown (1);" in str(mixed_baselines(items))
    assert mixed_baselines(items[1:3]) is None
    assert mixed_baselines([]) is None
