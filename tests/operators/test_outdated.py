"""Results made from products that were reprocessed since: flagged beside their files, which keep their checksums."""

from __future__ import annotations

from datetime import UTC, datetime

import finished
import pytest
import signed
from earthself.data.manifest import changed_outputs, read_manifest
from earthself.data.workspace import read_json
from earthself.operators import facts, outdated
from earthself.operators.publish import publish
from earthself.operators.signatures import replaced, supersede

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def result(workspace):
    """A published result of P0, P1 and P2, of baseline N0510."""
    run = finished.run(workspace)
    publish(facts.gather(run), 0.0, 0.0)
    return run


def newer(product: str, baseline: str = "N0511") -> dict:
    made = signed.product(f"{product}_NEW", observation=f"S2A_33UUP_20170613T101031_R022_{product}", baseline=baseline)
    made["properties"] |= {"earthself:product": made["id"], "earthself:legend": "clc:1"}
    return made


def test_a_result_is_flagged_with_the_products_and_what_to_do(result) -> None:
    before = {path.name: path.read_bytes() for path in result.path.iterdir() if path.is_file()}
    assert outdated.flag(result.workspace, [newer("P1")], NOW) == ["a_dag/manual__1"]
    said = read_json(result.outdated)
    assert said["since"] == "2026-06-01T12:00:00Z"
    (entry,) = said["products"]
    assert entry == {
        "product": "P1",
        "baseline": "N0510",
        "observation": "S2A_33UUP_20170613T101031_R022_P1",
        "superseded_by": "P1_NEW",
        "newer_baseline": "N0511",
    }
    assert "order the map again" in said["next"]
    after = {path.name: path.read_bytes() for path in result.path.iterdir() if path.is_file()}
    assert {name: content for name, content in after.items() if name != "outdated.json"} == before
    assert changed_outputs(read_manifest(result.manifest), result.path) == []
    (link,) = [link for link in read_json(result.workspace.catalog)["links"] if link["rel"] == "item"]
    assert link["earthself:outdated"] is True
    (told,) = outdated.listed(result.workspace)
    assert (told["dag_id"], told["run_id"], told["products"]) == ("a_dag", "manual__1", [entry])


def test_it_is_flagged_once_and_added_to(result) -> None:
    outdated.flag(result.workspace, [newer("P1")], NOW)
    assert outdated.flag(result.workspace, [newer("P1")], NOW.replace(day=2)) == []
    assert outdated.flag(result.workspace, [newer("P2")], NOW.replace(day=3)) == ["a_dag/manual__1"]
    said = read_json(result.outdated)
    assert [entry["product"] for entry in said["products"]] == ["P1", "P2"]
    assert said["since"] == "2026-06-01T12:00:00Z", "the first one counts"


@pytest.mark.parametrize("other", [newer("P1", "N0510"), newer("P1", "N0400"), newer("P1", "N9999"), newer("P7")])
def test_a_result_stays_up_to_date_where_nothing_newer_concerns_it(result, other) -> None:
    assert outdated.flag(result.workspace, [other], NOW) == []
    assert not result.outdated.exists()
    assert outdated.listed(result.workspace) == []


def test_a_damaged_manifest_keeps_the_flag_from_no_other_result(result, caplog) -> None:
    beside = result.workspace.run("a_dag", "manual__0")
    beside.path.mkdir(parents=True)
    (beside.path / "result.json").write_text("{}")
    beside.manifest.write_text('{"inputs')
    assert outdated.flag(result.workspace, [newer("P1")], NOW) == ["a_dag/manual__1"]
    assert f"{beside.manifest} cannot be read" in caplog.text


def test_a_result_that_is_published_again_is_up_to_date_again(result) -> None:
    outdated.flag(result.workspace, [newer("P1")], NOW)
    publish(facts.gather(result), 0.0, 0.0)
    assert not result.outdated.exists()
    (link,) = [link for link in read_json(result.workspace.catalog)["links"] if link["rel"] == "item"]
    assert "earthself:outdated" not in link


def stored(name: str, baseline: str, column: int = 0) -> dict:
    made = signed.product(name, observation="S2A_33UUP_20170613T101031_R022", baseline=baseline, column=column)
    made["properties"] |= {"earthself:legend": "clc:1"}
    return made


def test_only_an_older_baseline_whose_ground_the_newer_shows_is_replaced() -> None:
    old, other, new = stored("OLD", "N0400"), stored("BESIDE", "N0400", column=20), stored("NEW", "N0510")
    assert [(a["id"], b["id"]) for a, b in replaced([old, other, new], [new])] == [("OLD", "NEW")]
    assert replaced([new], [new]) == []
    assert replaced([old, new], [old]) == []


def test_a_server_is_told_and_one_that_is_away_or_lost_the_product_is_a_warning(tmp_path) -> None:
    import numpy as np
    from earthself.signature.client import SignatureClient
    from earthself.signature.testing import feature, layers, running_server

    pairs = [(stored("OLD", "N0400"), stored("NEW", "N0510"))]
    with running_server(tmp_path / "home") as server, SignatureClient(server.target, timeout=10) as client:
        for name in ("OLD", "NEW"):
            client.create(feature(name), layers(np.full((50, 60), 312, "uint16")))
        assert supersede(client, pairs) == []
        assert [found["id"] for found in client.find(current=True)] == ["NEW"]
        client.delete("OLD")
        (lost,) = supersede(client, pairs)
        assert lost.startswith("OLD could not be marked as superseded by NEW: product 'OLD' is not stored")
        server.stop()
        (away,) = supersede(client, pairs)
        assert "does not answer" in away
