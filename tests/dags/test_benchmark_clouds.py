"""`benchmark_clouds` as Airflow runs it: probes as steps on this machine, samples in the database, and a budget that holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow_sandbox import ROOT
from earthself.benchmark.samples import FAILED, Sample, read
from earthself.benchmark.tables import Samples, Wanted

HERE = {"cloud": "north", "region": "n-1", "offer": "s-2"}


@pytest.fixture(scope="module")
def dag(load):
    return load(ROOT / "dags/benchmark_clouds.py")


@pytest.fixture
def measure(dag, home, monkeypatch):
    """Set the Variable and run the workflow; gives the run's state, its tasks' states, its folder and its result."""

    def go(*targets: dict[str, Any], conf: dict[str, Any] | None = None, **variable: Any):
        variable = {"probes": ["numpy_one"], "repeats": 1, "seconds": 1, "targets": list(targets), **variable}
        monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_BENCHMARK", json.dumps(variable))
        made = dag.test(run_conf=conf)
        states: dict[str, list[str]] = {}
        for instance in sorted(made.get_task_instances(), key=lambda one: one.map_index):
            states.setdefault(instance.task_id, []).append(str(instance.state))
        folder = home / "workspace/runs/benchmark_clouds" / made.run_id
        result = json.loads((folder / "result.json").read_text()) if (folder / "result.json").is_file() else {}
        return str(made.state), states, folder, result

    return go


def kept(**wanted: Any) -> list[Sample]:
    with Samples() as samples:
        return list(samples.find(Wanted(**wanted)))


@pytest.mark.timeout(300)
def test_each_target_is_measured_and_a_bad_one_does_not_stop_the_others(measure, monkeypatch):
    monkeypatch.setenv("EARTHSELF_IMAGE", "registry.example.org/airflow@sha256:1")
    priced = {**HERE, "offer": "s-4", "euros_per_hour": 6.0}
    state, states, folder, result = measure(HERE, {**HERE, "offer": "s-8", "memory": "40Mi"}, priced, probes=["numpy_one", "network"])
    assert state == "success"
    assert states == {"plan": ["success"], "measure": ["success", "failed", "success"], "keep": ["success"]}
    assert [(one["offer"], one["status"]) for one in result["targets"]] == [("s-2", "measured"), ("s-8", "failed"), ("s-4", "measured")]
    small, broken, dear = result["targets"]
    assert result["status"] == "partial"
    assert small["failed"][0] == {"probe": "network", "reason": small["failed"][0]["reason"], "error": small["failed"][0]["error"]}
    assert small["failed"][0]["reason"] in ("failed", "missing")
    assert "killed for memory" in broken["reason"]
    assert dear["euros"] == pytest.approx(dear["minutes"] / 10, abs=6e-5), "6 EUR an hour; minutes are rounded to three digits"
    assert small["euros"] is None
    assert result["euros"] is None, "a sum with an unknown part is unknown"
    assert 0 < result["minutes"] < 2

    (value,) = kept(test="numpy_one", offer="s-2")
    assert value.value > 0
    assert value.labels["image"] == "registry.example.org/airflow@sha256:1"
    assert (value.labels["cloud"], value.labels["region"]) == ("north", "n-1")
    assert [sample.metric for sample in kept(offer="s-8")] == [FAILED]
    assert "killed for memory" in kept(offer="s-8")[0].labels["error"]
    written = read((folder / "samples.ndjson").read_text().splitlines(), "samples")
    assert sorted(written, key=lambda one: one.timestamp) == kept()


def test_without_a_variable_this_machine_is_measured_and_a_run_may_say_how(dag, home, monkeypatch):
    monkeypatch.delenv("AIRFLOW_VAR_EARTHSELF_BENCHMARK", raising=False)
    made = dag.test(run_conf={"probes": ["numpy_one"], "repeats": 2, "seconds": 1})
    result = json.loads((home / "workspace/runs/benchmark_clouds" / made.run_id / "result.json").read_text())
    assert (str(made.state), result["status"], result["samples"]) == ("success", "complete", 2)
    assert {(sample.test, sample.labels.get("cloud")) for sample in kept()} == {("numpy_one", None)}


def test_what_the_budget_has_no_room_for_comes_first_the_next_time(measure):
    one, other = ({**HERE, "offer": name} for name in ("s-2", "s-4"))
    room = {"budget_minutes": 0.2}
    _, states, _, result = measure(one, other, **room)
    assert states["measure"] == ["success"]
    assert [(each["offer"], each["status"]) for each in result["targets"]] == [("s-2", "measured"), ("s-4", "left out")]
    assert "of the budget's 0.2 minutes are left" in result["targets"][1]["reason"]
    assert result["status"] == "partial"
    _, _, _, result = measure(one, other, **room)
    assert [(each["offer"], each["status"]) for each in result["targets"]] == [("s-4", "measured"), ("s-2", "left out")]


def test_a_target_is_skipped_when_others_used_up_the_budget(measure, monkeypatch):
    """The one that begins takes as long as nobody planned: its start is put into the past."""
    from earthself.operators import benchmark_account

    begin = benchmark_account.begin
    monkeypatch.setattr(benchmark_account, "begin", lambda run, number, now: begin(run, number, now - 3600))
    state, states, _, result = measure(HERE, {**HERE, "offer": "s-4"})
    assert (state, sorted(states["measure"])) == ("success", ["skipped", "success"])
    measured, left = sorted(result["targets"], key=lambda one: one["status"], reverse=True)
    assert (measured["status"], left["status"]) == ("measured", "left out")
    assert "and 0 of the budget are left: others took longer than planned" in left["reason"]
    assert result["minutes"] == pytest.approx(60, abs=3)
    assert not kept(offer=left["offer"])


def test_nothing_that_costs_an_unknown_amount_is_measured_against_a_budget_of_money(measure):
    state, states, _, result = measure(HERE, budget_euros=1)
    assert (state, states["measure"], result["status"]) == ("success", ["skipped"], "empty")
    assert "no on-demand price of north n-1 s-2 is known" in result["targets"][0]["reason"]
    _, _, _, result = measure(HERE, budget_euros=1, unpriced=True)
    assert result["status"] == "complete"
    assert result["warnings"] == ["north n-1 s-2 (this machine) costs nobody knows what: no on-demand price of north n-1 s-2 is known"]


def test_the_catalogue_of_offers_says_what_a_target_costs_unless_the_operator_does(measure):
    from earthself.benchmark.offers.catalogue import Catalogue
    from earthself.benchmark.offers.model import Allocation, Price, Rate, Source

    said = Source("a list", "https://example.org", datetime.now(UTC).date())
    with Catalogue() as catalogue:
        dollars = [Price("north", "n-1", offer, Allocation.ON_DEMAND, 12.0, "USD", said) for offer in ("s-2", "s-4")]
        catalogue.add([*dollars, Rate("USD", 0.5, said)])
    _, _, _, result = measure(HERE, {**HERE, "offer": "s-4", "euros_per_hour": 3.0}, budget_euros=1)
    assert result["status"] == "complete"
    small, large = sorted(result["targets"], key=lambda one: one["offer"])
    assert small["euros"] == pytest.approx(6 * small["minutes"] / 60, rel=0.02)
    assert large["euros"] == pytest.approx(3 * large["minutes"] / 60, rel=0.02)
    assert small["price"].startswith("a list, ")
    assert large["price"].startswith("the Variable earthself_benchmark, ")


def test_a_run_in_which_nothing_could_be_measured_fails_with_the_reason(measure, capfd):
    state, states, _, result = measure({**HERE, "memory": "40Mi"})
    assert (state, states["keep"], result["status"]) == ("failed", ["failed"], "empty")
    assert "none of 1 targets could be measured; the first, north n-1 s-2 (this machine): " in capfd.readouterr().out


def test_a_cloud_that_is_not_there_is_left_out_and_said(measure):
    _, states, _, result = measure(HERE, {**HERE, "connection": "nowhere"})
    assert states["measure"] == ["success"]
    assert result["targets"][1]["reason"] == "there is no connection 'nowhere'; make it, or mend the Variable earthself_benchmark"


def test_a_request_that_cannot_be_met_fails_before_anything_is_measured(measure, capfd):
    state, states, _, result = measure(HERE, conf={"budget_minutes": 90}, budget_minutes=30)
    assert (state, states["plan"], result) == ("failed", ["failed"], {})
    assert "budget_minutes=90 is more than the 30 that the Variable earthself_benchmark allows" in capfd.readouterr().out
    assert kept() == []


def test_it_is_shipped_paused_weekly_and_its_form_needs_nothing(dag):
    assert dag.is_paused_upon_creation
    assert dag.timetable.run_immediately == timedelta(0)
    assert all(param.schema["title"] and param.description and param.value is None for param in map(dag.params.get_param, dag.params))
    dag.params.validate()


def test_airflow_can_store_the_workflow_and_read_it_again(dag, airflow_home):
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert stored.task_dict["measure"].max_active_tis_per_dagrun == 1
    saturday = stored.timetable._get_next(datetime(2026, 1, 1, tzinfo=UTC))
    assert (saturday.isoweekday(), saturday.hour) == (6, 2)
