"""Assets of every catalogue under the names of their bands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from earthself.data.items import METADATA, PRODUCT, band_of, normalised
from earthself.data.sources import safe_name

NAME = "S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608"
ALL = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12", "SCL"]


def keyed(assets: dict[str, dict[str, Any]]) -> dict[str, str]:
    raw = {"id": NAME, "geometry": None, "properties": {"datetime": "2017-06-13T10:10:31Z"}, "assets": assets}
    return {key: asset["href"] for key, asset in normalised(raw, "p", "S2_MSI_L2A", open_access=True)["assets"].items()}


def test_earth_search_names_bands_by_colour_and_has_each_twice() -> None:
    colours = ["coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "swir16", "swir22", "scl"]
    cogs = {c: {"href": f"https://cogs.example/{b}.tif"} for c, b in zip(colours, ALL, strict=True)}
    jp2s = {f"{c}-jp2": {"href": f"s3://bucket/R10m/{b}.jp2"} for c, b in zip(colours, ALL, strict=True)}
    others = {
        "visual": {"href": "https://cogs.example/TCI.tif"},
        "aot": {"href": "https://cogs.example/AOT.tif"},
        "wvp": {"href": "https://cogs.example/WVP.tif"},
    }
    made = keyed({**jp2s, **cogs, **others})
    assert list(made)[:13] == ALL
    assert all(made[b] == f"https://cogs.example/{b}.tif" for b in ALL)
    assert {"visual", "aot", "wvp"} <= set(made)


def test_the_data_space_has_each_band_in_several_resolutions() -> None:
    assets = {
        f"{b}_{r}m": {
            "href": f"s3://eodata/R{r}m/T33UUP_20170613T101031_{b}_{r}m.jp2",
            "alternate": {"https": {"href": f"https://zipper.example/{b}_{r}"}},
        }
        for b in ("B02", "B05", "B8A", "SCL")
        for r in (20, 60)
    } | {"B02_10m": {"href": "s3://eodata/R10m/T33UUP_20170613T101031_B02_10m.jp2"}, "TCI_10m": {"href": "s3://eodata/R10m/x_TCI_10m.jp2"}}
    made = keyed(assets)
    assert made["B02"].startswith("s3://")
    assert {k: v for k, v in made.items() if k in ("B05", "B8A", "SCL")} == {
        b: f"https://zipper.example/{b}_20" for b in ("B05", "B8A", "SCL")
    }


def test_file_names_help_where_keys_do_not() -> None:
    made = keyed(
        {"a": {"href": "https://h/GRANULE/IMG_DATA/R10m/T33UUP_20170613T101031_B08_10m.jp2?token=1"}, "b": {"href": "https://h/x/SCL.tif"}}
    )
    assert set(made) == {"B08", "SCL"}


def test_names_in_the_bands_of_an_asset_help_too() -> None:
    assert band_of("asset7", {"href": "https://h/7", "bands": [{"name": "B11"}]}) == ("B11", None)
    assert band_of("asset7", {"href": "https://h/7", "eo:bands": [{"name": "B11"}, {"name": "B12"}]}) is None
    assert band_of("B04", {"href": "https://h/7", "roles": ["thumbnail"]}) is None


def test_archives_and_metadata_documents_are_known_by_what_they_are() -> None:
    made = keyed({"downloadLink": {"href": "https://h/odata/Products(1)/$value"}, "doc": {"href": "https://h/x.SAFE/MTD_MSIL2A.xml"}})
    assert made == {PRODUCT: "https://h/odata/Products(1)/$value", METADATA: "https://h/x.SAFE/MTD_MSIL2A.xml"}


@pytest.mark.parametrize("href", ["file:///etc/passwd", "/etc/passwd", "ftp://h/B04.tif", "../B04.tif", ""])
def test_a_catalogue_cannot_lead_to_local_files(href: str) -> None:
    assert keyed({"B04": {"href": href}}) == {}


def test_item_assets_of_a_real_collection_have_names(shared: Path) -> None:
    collection = json.loads((shared / "stac_items" / "sentinel-2-l2a.collection.json").read_text())
    made = {found[0] for key, asset in collection["item_assets"].items() if (found := band_of(key, asset))}
    assert made == set(ALL)


def test_the_form_of_an_item_is_valid_stac(shared: Path) -> None:
    import pystac

    raw = json.loads((shared / "stac_items" / "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext.json").read_text())
    made = normalised(raw, "planetary_computer", "S2_MSI_L2A", open_access=False)
    assert made["properties"]["proj:code"] == "EPSG:32606"
    assert made["properties"]["earthself:access"] == "login"
    assert pystac.Item.from_dict(made).assets["B8A"].href.endswith("B8A_20m.tif")


@pytest.mark.parametrize("text", ["../../etc/passwd", "a/b", "..", ".hidden", "", "a b", "ü", "x" * 300, "a\0b"])
def test_ids_of_providers_are_made_harmless_and_stay_different(text: str) -> None:
    made = safe_name(text)
    assert "/" not in made
    assert not made.startswith(".")
    assert 0 < len(made) < 160
    assert made != safe_name(text + "x")
    assert safe_name(NAME) == NAME
