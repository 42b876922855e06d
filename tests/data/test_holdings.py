"""The table of where providers keep their products: each line says who says so and when."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from earthself.data import holdings as module
from earthself.data.bundled import offered
from earthself.data.holdings import digest, holding, holdings


def test_each_line_of_the_table_has_a_source_and_a_date():
    lines = holdings()
    assert len(lines) == len({(one.provider, one.collection) for one in lines})
    for one in lines:
        assert urlsplit(one.source).scheme == "https"
        assert date(2026, 1, 1) <= one.looked_up
        assert one.cloud == one.cloud.lower()
        assert one.regions


def test_a_pattern_stands_for_all_collections_that_fit_and_for_no_other():
    found = holding("creodias", "S2_MSI_L2A")
    assert found is not None
    assert found == holding("creodias", "S2_MSI_L1C")
    assert holding("creodias", "s2_msi_l2a") is holding("creodias", "S3_EFR") is holding("mars", "S2_MSI_L2A") is None


def test_a_place_is_a_region_of_a_cloud():
    found = holding("earth_search", "S2_MSI_L2A_COG")
    assert found is not None
    assert found.is_at("AWS", "US-West-2")
    assert not found.is_at("aws", "us-east-1")
    assert not found.is_at("ovh", "us-west-2")
    assert not found.is_at("aws", "")


def test_each_line_is_of_a_provider_and_a_collection_that_eodag_has():
    pairs = [(one.provider, name) for name, found in offered().items() for one in found]
    for line in holdings():
        assert any(provider == line.provider and fnmatchcase(name, line.collection) for provider, name in pairs), line


def test_another_table_is_another_state(tmp_path, monkeypatch):
    now = digest()
    (tmp_path / "holdings.json").write_text("[]")
    monkeypatch.setattr(module, "_TABLE", tmp_path / "holdings.json")
    digest.cache_clear()
    try:
        assert digest() != now
    finally:
        digest.cache_clear()
