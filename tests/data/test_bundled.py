"""What is read of EODAG's bundled settings is what EODAG itself makes of them."""

from __future__ import annotations

import subprocess
import sys

from earthself.data.bundled import OVERRIDES, Login, offered, titles


def of(collection, provider):
    return next(one for one in offered()[collection] if one.provider == provider)


def test_providers_have_the_collections_that_eodag_gives_them():
    from eodag.config import load_provider_configs

    theirs = {
        (provider, collection)
        for provider, config in load_provider_configs().items()
        for collection in config.products
        if collection != "GENERIC_COLLECTION"
    }
    ours = {(one.provider, name) for name, found in offered().items() for one in found}
    set_otherwise = {(provider, name) for provider, settings in OVERRIDES.items() for name in settings["products"]}
    assert ours == theirs | set_otherwise
    assert theirs


def test_what_credentials_are_for_is_said():
    assert of("S2_MSI_L2A", "cop_dataspace").login == Login.FILES
    assert of("S2_MSI_L2A", "cop_dataspace_s3").login == Login.SEARCH
    assert of("LANDSAT_C2L2", "usgs").login == Login.SEARCH
    assert of("TIGGE_CF_SFC", "ecmwf").login == Login.FILES
    assert of("S2_MSI_L2A", "planetary_computer").login == Login.NOTHING
    assert of("GHS_BUILT_S", "cop_ghsl").login == Login.NOTHING


def test_what_the_platform_sets_otherwise_is_read_without_a_login():
    assert of("S2_MSI_L2A", "earth_search").login == Login.NOTHING
    assert of("S2_MSI_L1C", "earth_search").login == Login.FILES


def test_orders_and_offline_products_are_told_apart():
    creodias, sara, wekeo = (of("S2_MSI_L2A", name) for name in ("creodias", "sara", "wekeo_main"))
    assert (creodias.orders, creodias.may_be_offline) == (False, True)
    assert (sara.orders, sara.may_be_offline) == (True, False)
    assert (wekeo.orders, wekeo.may_be_offline) == (True, True)
    assert of("LANDSAT_C2L2", "usgs").orders


def test_collections_have_titles_also_those_of_nobody():
    assert titles()["S2_MSI_L2A"] == "SENTINEL2 Level-2A"
    assert set(titles()) - set(offered())
    assert "GENERIC_COLLECTION" not in {*titles(), *offered()}


def test_nothing_of_eodag_is_imported_and_nothing_of_a_user_read(tmp_path):
    mine = "mine:\n  products:\n    S2_MSI_L2A: {_collection: x}\n"
    (tmp_path / "mine.yml").write_text(mine)
    code = (
        "import sys; from earthself.data.bundled import offered, titles; "
        "assert titles() and 'mine' not in {one.provider for one in offered()['S2_MSI_L2A']}; assert 'eodag' not in sys.modules"
    )
    asks = {"EODAG_PROVIDERS_CFG_DIR": str(tmp_path), "EODAG_CFG_DIR": str(tmp_path / "made"), "HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", code], env=asks, check=True, timeout=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yml"]
