"""Where a step runs whose cloud is "data": where most of its products are kept, as far as there is a cloud; said in the log, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog
from earthself.operators import placement
from earthself.operators.errors import BadRequest
from structlog.testing import capture_logs


@pytest.fixture
def clouds(monkeypatch):
    """Make connections of these names, with what they say of themselves, and list them."""

    def make(**said: dict[str, str]) -> None:
        for name, fields in said.items():
            text = json.dumps({"conn_type": "kubernetes", "extra": {"earthself": fields}})
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", text)
        monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_CLOUDS", json.dumps([*said, "nowhere"]))

    return make


@pytest.fixture
def items(tmp_path):
    def make(*kept: tuple[str, str]) -> list[Path]:
        paths = []
        for number, (provider, collection) in enumerate(kept):
            path = tmp_path / f"{number}.json"
            properties = {"earthself:provider": provider, "earthself:collection": collection}
            path.write_text(json.dumps({"type": "Feature", "id": str(number), "properties": {k: v for k, v in properties.items() if v}}))
            paths.append(path)
        return paths

    return make


WEST, WARSAW = {"provider": "aws", "region": "us-west-2"}, {"provider": "CloudFerro", "region": "WAW3-1"}
COG, SAFE = ("earth_search", "S2_MSI_L2A_COG"), ("creodias", "S2_MSI_L2A")


def placed(paths, name="data"):
    with capture_logs() as logs:
        found = placement.placed(name, paths, structlog.get_logger())
    return found.conn_id, " ".join(entry["event"] for entry in logs)


def test_a_step_runs_where_most_of_its_products_are_and_says_why(clouds, items):
    clouds(west=WEST, warsaw=WARSAW)
    name, said = placed(items(SAFE, SAFE, COG))
    assert name == "warsaw"
    assert "2 of 3 products are of creodias, which keeps them at cloudferro WAW3-1 (https://" in said
    assert placed(items(SAFE, COG, COG))[0] == "west"


def test_where_there_is_no_cloud_for_most_that_for_others_is_better_than_none(clouds, items):
    clouds(west=WEST)
    assert placed(items(SAFE, SAFE, COG))[0] == "west"


def test_what_is_doubtful_is_said(clouds, items):
    clouds(warsaw=WARSAW)
    assert "this may be otherwise" in placed(items(("cop_dataspace", "S2_MSI_L2A")))[1]


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ([COG], r"kept at aws, us-west-2, and the clouds are warsaw \(CloudFerro/WAW3-1\).*earthself_clouds"),
        ([("earth_search", "MOD09")], "nobody has written down where earth_search keeps MOD09"),
        ([("mars_search", "S2_MSI_L2A")], "nobody has written down where mars_search keeps"),
        ([("", "")], "do not say which provider"),
        ([], "it has no products"),
    ],
)
def test_a_step_that_cannot_be_placed_is_refused_with_what_to_do(clouds, items, kept, says):
    clouds(warsaw=WARSAW)
    with pytest.raises(BadRequest, match=says):
        placed(items(*kept))


def test_a_named_cloud_is_that_cloud(clouds, items):
    clouds(west=WEST, warsaw=WARSAW)
    assert placed(items(SAFE), "west") == ("west", "")


def test_a_list_of_clouds_that_is_none_is_refused(monkeypatch, items):
    monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_CLOUDS", '"west"')
    with pytest.raises(BadRequest, match="it must be a JSON list"):
        placed(items(SAFE))
