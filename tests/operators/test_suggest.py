"""Where a service should run, as a task asks: its record, its files, the connection by which steps run there, and what it refuses."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from airflow.sdk.exceptions import AirflowFailException
from earthself.data.reference import Reference
from earthself.operators import CloudSuggestOperator
from earthself.operators.errors import TemporaryFailure
from earthself.operators.links import SuggestionLink
from structlog.testing import capture_logs

from tests.benchmark.clouds import NEED
from tests.benchmark.kept import keep

HERE, THERE = {"provider": "North", "region": "N1"}, {"provider": "north", "region": "n2"}


@pytest.fixture
def clouds(monkeypatch):
    """Make connections of these names, with what they say of themselves, and list them."""

    def make(**said: dict[str, str]) -> None:
        for name, fields in said.items():
            text = json.dumps({"conn_type": "kubernetes", "extra": {"earthself": fields}})
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", text)
        monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_CLOUDS", json.dumps([*said, "not_there"]))

    return make


@pytest.fixture
def ask(context, clouds):
    """Run the operator; gives its record and what it logged."""

    def run(need=NEED, *, index: int = -1, **kwargs):
        with capture_logs() as logs:
            record = CloudSuggestOperator(task_id="suggest", need=need, **kwargs).execute(context(index))
        return record, "\n".join(entry["event"] for entry in logs)

    return run


def test_the_record_is_small_and_says_where_and_what_it_rests_on(workspace, clouds, ask):
    keep()
    clouds(here=HERE)
    record, said = ask()
    assert record["best"] == record["placed"]
    place = ("north", "n1", "", "m4", "ondemand", 1)
    assert tuple(record["best"][name] for name in ("cloud", "region", "zone", "offer", "allocation", "rank")) == place
    assert record["best"]["euros"] == pytest.approx(record["best"]["hours"] * 0.36)
    assert (record["connection"], record["reason"], record["no_connection"], record["passed_over"]) == ("here", "", "", [])
    assert len(json.dumps(record)) < 2000
    assert "Run it on m4 of north in n1" in said
    assert "Connection here leads to north n1, rank 1 of 2" in said


def test_the_whole_answer_lies_in_the_runs_folder_and_a_button_leads_to_it(workspace, clouds, ask):
    keep()
    clouds()
    record, _ = ask()
    folder = workspace / "runs/a_dag/manual__1/suggestions/suggest"
    answer = json.loads(Reference.from_dict(record["answer"]).path().read_text())
    schema = json.loads((resources.files("earthself.benchmark") / "schemas/answer.schema.json").read_text())
    jsonschema.validate(answer, schema)
    assert (answer["state"], answer["data_state"], answer["day"]) == (record["state"], record["data_state"], record["day"])
    assert record["answer"]["count"] == len(answer["choices"]) == 2
    assert "Run it on m4 of north in n1" in (folder / "report.html").read_text()
    assert record["report"] == str(folder / "report.html")
    key = SimpleNamespace(dag_id="a_dag", run_id="manual__1", task_id="suggest", map_index=-1)
    link = SuggestionLink().get_link(CloudSuggestOperator(task_id="suggest", need=NEED), ti_key=key)
    assert link == "/earthself/runs/a_dag/manual__1/suggestions/suggest/report.html"


def test_a_mapped_task_has_a_folder_for_each_need(workspace, clouds, ask):
    keep()
    clouds()
    assert ask(index=0)[0]["report"] != ask(index=1)[0]["report"]


def test_a_better_place_without_a_connection_is_passed_over_and_that_is_said(workspace, clouds, ask):
    keep()
    clouds(elsewhere={"provider": "aws", "region": "n1"}, nameless={}, there=THERE)
    record, said = ask()
    assert record["connection"] == "there"
    assert (record["best"]["region"], record["placed"]["region"], record["placed"]["rank"]) == ("n1", "n2", 2)
    assert [(one["cloud"], one["region"], one["rank"]) for one in record["passed_over"]] == [("north", "n1", 1)]
    assert "Passed over, since no connection leads there: north n1 (rank 1)" in said


def test_only_the_connections_that_are_named_count(workspace, clouds, ask):
    keep()
    clouds(here=HERE, there=THERE)
    assert ask()[0]["connection"] == "here"
    assert ask(clouds=["there"])[0]["connection"] == "there"
    with pytest.raises(AirflowFailException, match="there is no connection 'not_there'"):
        ask(clouds=["not_there"])


def test_without_a_connection_it_is_said_or_refused(workspace, clouds, ask):
    keep()
    clouds(elsewhere={"provider": "aws", "region": "us-west-2"})
    record, said = ask()
    assert (record["connection"], record["placed"]) == (None, None)
    assert record["best"]["region"] == "n1"
    assert record["no_connection"] == ("none of the connections leads to an offer that is ranked; they are elsewhere (aws/us-west-2)")
    assert [one["region"] for one in record["passed_over"]] == ["n1", "n2"]
    assert "run where steps without a cloud run" in said
    with pytest.raises(AirflowFailException, match=r"steps cannot be placed: none of the connections.*provider and region"):
        ask(require_connection=True)


def test_without_a_ranking_nothing_is_suggested_and_the_reason_is_given(workspace, clouds, ask):
    keep(measured=("n1",))
    clouds(here=HERE)
    record, said = ask()
    assert (record["best"], record["connection"]) == (None, None)
    assert record["reason"] == record["no_connection"]
    assert record["reason"].startswith("only one offer is known well enough")
    assert "There is no ranking" in said


def test_a_task_that_needs_a_ranking_fails_with_what_to_measure_and_leaves_the_report(workspace, clouds, ask):
    keep(measured=("n1",))
    clouds(here=HERE)
    with pytest.raises(AirflowFailException) as error:
        ask(require_ranking=True)
    command = "earthself-suggest probe numpy_one numpy_all object_store --cloud north --region n2 --offer m4"
    assert command in str(error.value)
    page = Path(str(error.value).rpartition(": ")[2])
    assert command in page.read_text()


def test_a_need_that_nothing_satisfies_names_the_nearest_miss(workspace, clouds, ask):
    keep()
    clouds()
    with pytest.raises(AirflowFailException, match=r"Nothing satisfies the need.*has 4 vCPU, less than 99"):
        ask(NEED | {"machine": {"vcpus": 99}}, require_ranking=True)


def test_a_need_is_a_dict_a_file_or_a_text(workspace, clouds, ask, tmp_path):
    keep()
    clouds()
    file = tmp_path / "need.yaml"
    file.write_text(f"work: {{tiles: 40}}\nprofile: {json.dumps(NEED['profile'])}\n")
    whole = ask()[0]
    for need in (file, str(file), json.dumps(NEED)):
        assert ask(need)[0] == whole


@pytest.mark.parametrize(
    ("need", "says"),
    [
        ({"work": {"tiles": 0}}, "work"),
        (NEED | {"coulds": ["ovh"]}, "'coulds' was unexpected"),
        (NEED | {"collections": ["S2_MSI_L2"]}, "EODAG knows no collection"),
        ('{"work": ', "need is neither JSON nor YAML"),
        ("need.yaml", "write Path\\(__file__\\)"),
        ("/nowhere/need.yaml", "need /nowhere/need.yaml cannot be read .* that the workers see"),
        (7, "need '7' is neither a dict nor an absolute path"),
    ],
)
def test_a_bad_need_fails_at_once_with_its_place(workspace, clouds, ask, need, says):
    clouds()
    with pytest.raises(AirflowFailException, match=says):
        ask(need)


def test_a_database_that_is_away_is_asked_again(workspace, clouds, ask, monkeypatch):
    clouds()
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", "postgresql+psycopg://someone:hunter2@127.0.0.1:1/platform")
    with pytest.raises(TemporaryFailure, match="check EARTHSELF_DATABASE_URL") as error:
        ask()
    assert "hunter2" not in str(error.value)


def test_another_database_may_be_asked(workspace, clouds, ask, tmp_path):
    url = f"sqlite:///{tmp_path / 'other.db'}"
    keep(url)
    clouds()
    assert ask()[0]["best"] is None
    assert ask(database=url)[0]["best"]["offer"] == "m4"
