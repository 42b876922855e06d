"""What a finished run leaves: every document against its schema, whole or not at all, and nothing kept quiet."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import finished
import pystac
import pytest
from airflow.sdk.exceptions import AirflowFailException
from earthself.data.manifest import changed_outputs, read_manifest
from earthself.data.workspace import Workspace
from earthself.operators import PublishOperator, catalogs, times
from earthself.operators.errors import OperatorError
from earthself.operators.history import RUN, History
from earthself.operators.links import MapLink
from earthself.operators.publish import check_result, published

LOST = [{"id": "P2", "error": "offsets disagree: -1000 and 0", "retry": False}]


def publish(context, run):
    made = context()
    made["ti"].run_id = run.run_id
    return PublishOperator(task_id="publish").execute(made)


@pytest.fixture
def complete(context, workspace):
    run = finished.run(workspace)
    publish(context, run)
    return run


def test_everything_of_the_contract_is_there(complete, read):
    assert sorted(path.name for path in complete.path.iterdir()) == sorted([*published(complete).values(), "work"])
    result = read(complete.result)
    assert result["status"] == "complete"
    assert result["products"] == {"found": 3, "reused": 1, "processed": 2, "untouched": 0, "superseded": 1, "failed": []}
    assert result["observed_fraction"] == 0.9
    assert result["validated_level"] == 1
    assert result["area_km2"] == pytest.approx(0.43, abs=0.01)
    assert result["bytes_read"] == 1000
    assert result["phases"]["sign"]["reading"] == 1.5
    assert set(result["took"]) == {"publish", "waiting"}
    assert {name: (complete.path / href).is_file() for name, href in result["outputs"].items()} == dict.fromkeys(result["outputs"], True)


def test_warnings_say_what_a_reader_must_know(complete, read):
    said = " | ".join(read(complete.result)["warnings"])
    for part in ("10.0% of the area was not observed", "11.1% of what was observed got no class", "2 models", "older copies"):
        assert part in said
    report = complete.report.read_text()
    for warning in read(complete.result)["warnings"]:
        assert warning in report


def test_baselines_that_only_the_batches_together_mix_are_said(context, workspace, read):
    run = finished.run(workspace)
    path = catalogs.item_paths(run.signatures)[1]
    item = read(path)
    item["properties"]["earthself:baseline"] = "N0209"
    path.write_text(json.dumps(item))
    publish(context, run)
    assert "the map is made of products of the baselines N0209, N0510" in read(run.result)["warnings"]


@pytest.mark.parametrize(
    ("bounds", "named"),
    [
        ({"B 1": [12.7, 48.1, 12.8, 48.2], "A 2": [12.7, 48.0, 12.75, 48.2], "far": [13.4, 48.2, 13.6, 48.4]}, "A 2, B 1"),
        ({"the whole band": [12.5, 48.0, -170.0, 48.3], "over 180": [179.9, 48.0, -179.9, 48.3]}, "the whole band"),
        ({f"s{n}": [12.7, 48.1, 12.8, 48.2] for n in range(8)}, "s0, s1, s2, s3, s4, 3 more"),
    ],
)
def test_a_map_of_land_that_its_model_was_trained_on_says_so(context, workspace, read, bounds, named):
    run = finished.run(workspace)
    card = finished.CARD | {"training": {"sources": ["a field trip"], "bounds": bounds}}
    (run.work / "model.json").write_text(json.dumps({"model": "baseline:1", "card": card}))
    publish(context, run)
    (said,) = (warning for warning in read(run.result)["warnings"] if "was trained on part" in warning)
    assert said.startswith(f"the model was trained on part of this area ({named}): the map is better here than elsewhere")
    assert said in run.report.read_text()


@pytest.mark.parametrize("training", [{}, {"bounds": {}}, {"bounds": {"far": [13.4, 48.2, 13.6, 48.4]}}])
def test_a_map_elsewhere_or_of_a_model_without_bounds_says_nothing_of_training(context, workspace, read, training):
    run = finished.run(workspace)
    (run.work / "model.json").write_text(json.dumps({"model": "baseline:1", "card": finished.CARD | {"training": training}}))
    publish(context, run)
    assert not [warning for warning in read(run.result)["warnings"] if "trained on part" in warning]


def test_without_a_map_there_is_nothing_that_training_could_flatter(context, workspace, read):
    run = finished.run(workspace, found=False)
    card = finished.CARD | {"training": {"bounds": {"here": [12.7, 48.1, 12.8, 48.2]}}}
    (run.work / "model.json").write_text(json.dumps({"model": "baseline:1", "card": card}))
    publish(context, run)
    assert not [warning for warning in read(run.result)["warnings"] if "trained on part" in warning]


def test_the_manifest_explains_the_run(complete):
    manifest = read_manifest(complete.manifest)
    assert manifest["parameters"] == finished.REQUEST
    assert manifest["model"] == {"id": "baseline:1", "sha256": "cd" * 32}
    assert {(entry["product"], entry["reused"]) for entry in manifest["inputs"]} == {("P0", True), ("P1", False), ("P2", False)}
    assert manifest["superseded"] == ["OLD"]
    assert changed_outputs(manifest, complete.path) == []


def test_the_item_is_stac_and_its_assets_lie_beside_it(complete):
    item = pystac.Item.from_file(str(complete.item))
    assert item.properties["earthself:status"] == "complete"
    assert item.properties["title"] == "Fields & <forests>"
    for asset in item.get_assets().values():
        assert Path(asset.get_absolute_href()).is_file()
    assert item.assets["land_cover"].roles == ["data"]


def test_the_catalogue_leads_to_every_result_once(context, workspace, complete):
    publish(context, complete)
    other = finished.run(workspace, "scheduled__2026-01-01T00:00:00+00:00")
    publish(context, other)
    catalog = pystac.Catalog.from_file(str(complete.workspace.catalog))
    assert sorted(item.properties["earthself:run"]["run_id"] for item in catalog.get_items()) == [complete.run_id, other.run_id]


def test_runs_that_publish_at_once_all_enter_the_catalogue(context, workspace):
    runs = [finished.run(workspace, f"manual__{n}") for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda run: publish(context, run), runs))
    catalog = pystac.Catalog.from_file(str(runs[0].workspace.catalog))
    assert len({item.id for item in catalog.get_items()}) == 12


def test_lost_products_make_a_partial_result_that_names_them(context, workspace, read):
    run = finished.run(workspace, failures=LOST)
    assert publish(context, run)["status"] == "partial"
    result = read(run.result)
    assert result["products"]["failed"] == LOST
    assert result["products"]["processed"] == 1
    assert result["warnings"][0] == "product P2 was lost: offsets disagree: -1000 and 0"
    assert "offsets disagree" in run.report.read_text()


def test_nothing_found_is_an_empty_result_with_a_report(context, workspace, read):
    run = finished.run(workspace, found=False)
    assert publish(context, run)["status"] == "empty"
    result = read(run.result)
    check_result(result)
    assert sorted(result["outputs"]) == ["manifest", "report"]
    assert result["observed_fraction"] == 0
    assert result["validated_level"] is None
    assert "No product matches the request" in run.report.read_text()
    assert not run.land_cover.exists()
    assert list(pystac.Catalog.from_file(str(run.workspace.catalog)).get_items()) == []


def test_a_run_that_finds_nothing_when_it_is_done_again_is_empty(context, workspace, complete, read):
    """Whatever the attempt before it left lies beside the new search result."""
    finished.run(workspace, found=False)
    assert publish(context, complete)["status"] == "empty"
    assert not complete.land_cover.exists()


def test_a_run_that_is_published_again_replaces_all_of_it(context, workspace, complete, read):
    import shutil

    shutil.rmtree(complete.work)
    finished.run(workspace, found=False)
    publish(context, complete)
    assert sorted(path.name for path in complete.path.iterdir()) == ["manifest.json", "report.html", "result.json", "work"]
    assert list(pystac.Catalog.from_file(str(complete.workspace.catalog)).get_items()) == []


def test_a_missing_part_fails_and_leaves_what_was_published_before(context, complete, read):
    before = complete.report.read_bytes()
    (complete.output("quicklook") / "quicklook.png").unlink()
    with pytest.raises(AirflowFailException, match=r"quicklook\.png does not exist; clear the task"):
        publish(context, complete)
    assert complete.report.read_bytes() == before
    assert changed_outputs(read_manifest(complete.manifest), complete.path) == []


def test_killed_at_any_moment_a_result_is_whole_or_not_there(workspace):
    finished.run(workspace)
    done = subprocess.run([sys.executable, "-c", _KILLER, str(workspace)], capture_output=True, text=True, check=True)
    whole, none = map(int, done.stdout.split())
    assert whole, done.stderr
    assert whole + none == 16


_KILLER = """
import json, os, signal, sys, time
from earthself.data.manifest import changed_outputs, code_commit, read_manifest
from earthself.data.workspace import Workspace
from earthself.operators import facts, publish, report, times
run = Workspace(sys.argv[1]).run("a_dag", "manual__1")
code_commit()
publish.publish(facts.gather(run), time.time(), time.time())
whole = none = 0
for number in range(16):
    pid = os.fork()
    if not pid:
        while True:
            publish.publish(facts.gather(run), time.time(), time.time())
    time.sleep(0.01 + 0.0131 * number)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if not run.result.is_file():
        none += 1
        continue
    whole += 1
    result = json.loads(run.result.read_text())
    publish.check_result(result)
    assert all((run.path / href).is_file() for href in result["outputs"].values())
    assert changed_outputs(read_manifest(run.manifest), run.path) == []
print(whole, none)
"""


class Strict(HTMLParser):
    """Collects what a report may not have."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "iframe", "object", "embed", "link", "form", "forests", "base"):
            self.bad.append(tag)
        self.bad += [f"{name}={value}" for name, value in attrs if name.startswith("on")]
        self.bad += [str(value) for name, value in attrs if name in ("src", "href") and not str(value).startswith("data:")]

    def handle_data(self, data):
        self.text += data


def test_the_report_loads_nothing_runs_nothing_and_shows_what_was_typed_as_text(context, workspace):
    run = finished.run(workspace, failures=[{"id": "P2", "error": "<script>alert(1)</script>", "retry": False}])
    publish(context, run)
    page = Strict()
    page.feed(run.report.read_text())
    assert page.bad == []
    assert "Fields & <forests>" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "data:image/png;base64," in run.report.read_text()


def test_the_report_has_legend_table_chart_worth_and_provenance(complete):
    text = complete.report.read_text()
    assert text.count("#ffffa8") == 2, "the legend's colour stands in the table and in the chart"
    assert len(re.findall(r"<rect ", text)) == 4
    for part in (
        "20.0 ha",
        "Not for lawyers.",
        "transfer, macro f1",
        "mapped areas, not estimates",
        "level 1",
        "P1",
        "reused",
        "Copernicus Sentinel data 2017",
    ):
        assert part in text


def test_estimates_come_with_their_intervals(context, workspace):
    run = finished.run(workspace)
    head = "code,name,hectares,share,hectares_low,hectares_high,hectares_mapped"
    rows = f"{head}\n2,Agricultural areas,30,0.75,25,35,28\n-1,Unobserved,10,0.25,,,10\n"
    (run.output("statistics") / "statistics.csv").write_text(rows)
    publish(context, run)
    text = run.report.read_text()
    assert "25.0 \u2013 35.0" in text
    assert "error-adjusted estimates" in text


def test_the_run_is_remembered_for_later_estimates(context, workspace):
    publish(context, finished.run(workspace))
    with History() as history:
        (record,) = history.recent(RUN)
    assert record.products == 2
    assert record.pixels == 8192
    assert record.cpu_seconds == 5
    assert (record.guessed_pixels, record.area_pixels) == (4_000, 4_100)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "done"}, "status"),
        ({"observed_fraction": 1.2}, "observed_fraction"),
        ({"outputs": {"x": "/etc/passwd"}}, "outputs/x"),
        ({"validated_level": 4}, "validated_level"),
    ],
)
def test_the_schema_refuses_what_is_no_result(complete, read, change, says):
    with pytest.raises(OperatorError, match=says):
        check_result({**read(complete.result), **change})


def test_time_without_a_task_is_called_waiting(workspace):
    run = Workspace(workspace).run("a_dag", "r")
    times.note(run, "search", -1, (102.0, 104.0), 100.0)
    times.note(run, "sign", 0, (105.0, 109.0), 100.0)
    times.note(run, "sign", 1, (106.0, 111.0), 100.0)
    spent = times.spent(run, 100.0, 120.0, "publish", 112.0)
    assert spent.took == {"search": 2.0, "sign": 6.0, "publish": 8.0, "waiting": 4.0}
    assert spent.seconds == 20


def test_a_run_done_again_in_part_took_what_all_its_parts_took(workspace):
    run = Workspace(workspace).run("a_dag", "r")
    times.note(run, "search", -1, (102.0, 104.0), 100.0)
    times.note(run, "sign", 0, (105.0, 109.0), 100.0)
    times.note(run, "sign", 1, (50_001.0, 50_004.0), 50_000.0)
    times.note(run, "publish", -1, (110.0, 115.0), 100.0)
    spent = times.spent(run, 90_000.0, 90_003.0, "publish", 90_001.0)
    assert spent.took == {"search": 2.0, "sign": 7.0, "publish": 2.0, "waiting": 5.0}
    assert spent.seconds == 9 + 4 + 3, "the days between are nobody's"


def test_publishing_again_changes_neither_what_the_run_took_nor_what_estimates_learn(workspace, context, read):
    from datetime import UTC, datetime
    from types import SimpleNamespace

    from airflow.sdk import DAG

    run = finished.run(workspace)
    with DAG("a_dag", schedule=None) as dag:
        before = [PublishOperator(task_id=name) for name in ("search", "sign")]
        before[0] >> before[1] >> PublishOperator(task_id="publish")
    start = time.time() - 86_400

    def again(started: float) -> list[float]:
        made = context() | {"dag_run": SimpleNamespace(start_date=datetime.fromtimestamp(started, UTC))}
        dag.get_task("publish").execute(made)
        with History() as history:
            return [record.seconds for record in history.recent(RUN)]

    times.note(run, "search", -1, (start, start + 10), start)
    assert again(time.time()) == [], "the time of sign is not known"
    times.note(run, "sign", 0, (start + 10, start + 40), start)
    (first,) = again(time.time())
    (second,) = again(time.time())
    assert 40 <= first < 45
    assert 40 <= second < 45
    result = read(run.result)
    assert result["seconds"] == second
    assert result["took"]["sign"] == 30


def test_links_open_the_published_files(monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setenv("EARTHSELF_DATA_URL", "http://127.0.0.1:8081/")
    key = SimpleNamespace(dag_id="land_cover_map", run_id="manual__2026-01-01T00:00:00+00:00")
    links = {link.name: link.get_link(None, ti_key=key) for link in PublishOperator.operator_extra_links}
    assert links["Report"] == "/earthself/runs/land_cover_map/manual__2026-01-01T00%3A00%3A00%2B00%3A00/report.html"
    result = catalogs.result_id(key.dag_id, key.run_id)
    assert links["Map"] == f"http://127.0.0.1:8081/results/{result}/map"
    assert sorted(links) == ["Map", "Picture", "Report", "STAC item"]
    monkeypatch.delenv("EARTHSELF_DATA_URL")
    assert MapLink().get_link(None, ti_key=key) == ""


def test_the_report_links_the_map_where_data_are_served(context, workspace, complete, monkeypatch):
    assert "/results/" not in complete.report.read_text()
    monkeypatch.setenv("EARTHSELF_DATA_URL", "http://127.0.0.1:8081")
    run = finished.run(workspace, "manual__2")
    publish(context, run)
    assert f'href="http://127.0.0.1:8081/results/{json.loads(run.item.read_text())["id"]}/map"' in run.report.read_text()


def test_result_documents_are_json_that_others_read(complete):
    assert json.loads(complete.result.read_text())["run"] == {"dag_id": "a_dag", "run_id": "manual__1"}
