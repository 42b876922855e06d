"""The interface is what it says it is: the validator of the STAC API finds nothing, with schemas that lie on this machine."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "processing"))
import stac_schemas

CLASSES = ["core", "collections", "features", "item-search", "item-search#sort", "item-search#fields", "item-search#query"]
CLASSES += ["item-search#filter", "features#filter"]
AROUND = {"type": "Polygon", "coordinates": [[[14, 47], [16, 47], [16, 50], [14, 50], [14, 47]]]}


@pytest.fixture
def local_schemas(monkeypatch):
    """Programs that check STAC documents find schemas here instead of on the web; one that is not here is an error."""
    from stac_validator import utilities

    asked = []

    def fetch(url):
        asked.append(url)
        return stac_schemas.published(url)

    monkeypatch.setattr(utilities, "_schema_cache", fetch)
    monkeypatch.setattr("pystac.validation.stac_validator.JsonSchemaSTACValidator._get_schema", lambda _, url: fetch(url))
    return asked


@pytest.mark.timeout(300)
def test_the_validator_of_the_stac_api_finds_nothing(site, local_schemas):
    from stac_api_validator.validations import QueryConfig, validate_api

    logging.getLogger("stac_api_validator").setLevel(logging.ERROR)
    numbers = {
        f"query_{name}_value": value
        for name, value in zip(("eq", "neq", "lt", "lte", "gt", "gte"), ("12.5", "50", "61", "60", "1", "0"), strict=True)
    }
    texts = {"query_starts_with_value": "S2", "query_ends_with_value": "2A", "query_contains_value": "MSI"}
    warnings, errors = validate_api(
        root_url=site.url,
        ccs_to_validate=CLASSES,
        collection="earthsignature",
        geometry=json.dumps(AROUND),
        auth_bearer_token=None,
        auth_query_parameter=None,
        fields_nested_property="properties.published",
        validate_pagination=True,
        query_config=QueryConfig(
            query_comparison_field="eo:cloud_cover",
            query_substring_field="product:type",
            query_in_field="tags",
            query_in_values="harvest,flood",
            **numbers,
            **texts,
        ),
        transaction_collection=None,
        headers=None,
    )
    assert list(errors) == []
    serious = [text for text in warnings if "stac-check recommendations" not in text and "extra fields" not in text]
    assert serious == [
        "[Item Search] GET Search within bbox=20,20,21,21 to validate ids does not override all other parameters returned 0 results"
    ]
    assert any("classification" in url for url in local_schemas)


def test_every_item_is_valid_with_all_its_extensions(site):
    import pystac

    found = site.get("/search?limit=100").json()
    assert len(found["features"]) == 7
    for document in found["features"]:
        item = pystac.Item.from_dict(document, preserve_dict=False)
        for url in ("product/v1.0.0", "timestamps/v1.1.0", "version/v1.2.0", "web-map-links/v1.2.0"):
            assert any(url in name for name in item.stac_extensions) or url.startswith("web-map")
        stac_schemas.check_item(item)


def test_the_collection_says_what_is_there(site):
    import pystac

    document = site.get("/collections/earthsignature").json()
    collection = pystac.Collection.from_dict(document)
    assert collection.extent.temporal.to_dict()["interval"] == [["2016-01-01T00:00:00Z", "2021-06-13T10:10:31Z"]]
    west, south, east, north = collection.extent.spatial.bboxes[0]
    assert (west, east) == (-180, 180)
    assert (south, north) == pytest.approx((9.99, 48.753), abs=0.02)
    assert collection.summaries.to_dict()["earthself:classes"] == [1, 2, 3, 5, 11, 21, 23, 31, 51, 52, 111, 211, 231, 311, 512, 523]
    assert set(document["item_assets"]) == {"segmentation", "cloud_mask", "confidence", "flags"}
    classes = document["item_assets"]["segmentation"]["classification:classes"]
    assert {entry["value"]: entry["color_hint"] for entry in classes if entry["value"]}[311] == "80FF00"
    assert len({entry["name"] for entry in classes}) == len(classes)
