"""`provision_environment` and `release_environment` as Airflow runs them, with the engine of this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow_sandbox import ROOT
from earthself.helpdesk import Actor, Change, Records, State, Wish
from earthself.operators.environments import ApproveEnvironmentOperator
from earthself.provision import Journal, Stage

ADA = Actor("ada")
NEED = {"work": {"tiles": 1}, "profile": "land_cover_map", "storage_gb": 0.1}
SMALL = {"euros": 0, "cpus": 8, "memory_gib": 32, "storage_gb": 1}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def dags(load):
    return {name: load(ROOT / f"dags/{name}.py") for name in ("provision_environment", "release_environment")}


@pytest.fixture
def rules(monkeypatch):
    def say(**variable: Any) -> None:
        monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_PROVISION", json.dumps(variable))

    say(without_approval=SMALL)
    return say


@pytest.fixture
def request_id(home):
    """A request of ada, asked."""
    with Records() as records:
        service = records.register("north", "Floods; `rm -rf ~`", ADA, contact="ada@example.org")
        need = records.express(service.id, NEED, ADA)
        request = records.draft(Wish(need.id, "A place for **floods**"), ADA)
        records.change(request.id, Change(State.ASKED), ADA)
    return request.id


@pytest.fixture
def run(dags):
    def go(name: str, request: str) -> tuple[str, dict[str, list[str]]]:
        made = dags[name].test(run_conf={"request": request})
        states: dict[str, list[str]] = {}
        for instance in sorted(made.get_task_instances(), key=lambda one: one.map_index):
            states.setdefault(instance.task_id, []).append(str(instance.state))
        return str(made.state), states

    return go


def stands(request_id: str) -> State:
    with Records() as records:
        return records.request(request_id).state


def story(request_id: str) -> list[tuple[str, str]]:
    with Records() as records:
        return [(row.result["to"], row.who) for row in reversed(records.audit(subject=request_id)) if row.what == "request changed"]


def test_a_small_request_is_made_handed_over_and_released(run, rules, request_id, home):
    state, states = run("provision_environment", request_id)
    assert (state, states["make"]) == ("success", ["success"] * 5)
    assert states["take_away"] == ["skipped"]
    assert story(request_id) == [
        ("asked", "ada"), ("awaiting approval", "earthself"), ("provisioning", "earthself"), ("ready", "earthself"),
    ]  # fmt: skip
    folder = home / "environments" / request_id
    token = json.loads((folder / "token.json").read_text())["token"]
    assert (folder / "repository.git").is_dir()
    with Records() as records:
        rows = records.audit(subject=request_id)
        assert rows[1].result["approved by"] == "rule"
        assert rows[0].run.startswith("provision_environment/")
    secret = token.rpartition("ess_")[2].split("_", 1)[1]
    kept = [path for path in home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert kept == [folder / "token.json"], "no log, no XCom, no audit, no journal"

    state, _ = run("release_environment", request_id)
    assert (state, stands(request_id)) == ("success", State.RELEASED)
    assert not folder.exists()
    with Journal() as journal:
        assert {one.stage for one in journal.resources(request_id)} == {Stage.GONE}
        assert journal.standing() == []


def test_what_cannot_be_made_says_why_before_anybody_is_asked(run, rules, request_id):
    rules(without_approval=SMALL, quota={"storage_gb": 1e9})
    with Records() as records:
        request = records.request(request_id)
        need = records.express(request.service, {name: value for name, value in NEED.items() if name != "storage_gb"}, ADA)
        large = records.draft(Wish(need.id, "too large"), ADA)
        records.change(large.id, Change(State.ASKED), ADA)
    state, states = run("provision_environment", large.id)
    assert (state, states["plan"], states["approve"]) == ("failed", ["failed"], ["upstream_failed"])
    with Records() as records:
        failed = records.request(large.id)
    assert failed.state is State.FAILED
    assert "GB are wanted and" in failed.reason
    assert "ask for less" in failed.reason


def test_what_fails_on_the_way_is_taken_away_and_said(run, rules, request_id, home, monkeypatch):
    monkeypatch.setenv("PATH", str(home))
    state, states = run("provision_environment", request_id)
    assert state == "failed"
    assert "failed" in states["make"]
    assert not (home / "environments" / request_id).exists()
    with Records() as records:
        request = records.request(request_id)
    assert (request.state, "make another request" in request.reason) == (State.FAILED, True)


def test_nothing_is_made_for_a_draft_nor_twice(run, rules, request_id, home):
    with Records() as records:
        draft = records.draft(records.request(request_id).wish, ADA)
    assert run("provision_environment", draft.id)[0] == "failed"
    assert stands(draft.id) is State.DRAFT
    assert run("provision_environment", request_id)[0] == "success"
    assert run("provision_environment", request_id)[0] == "failed"
    assert stands(request_id) is State.READY, "what stands is not taken away because a second run finds nothing to do"
    assert [path.name for path in (home / "environments").iterdir()] == [request_id]


def test_what_another_run_has_taken_up_is_left_to_it(run, rules, request_id, home):
    other = Actor("earthself", "provision_environment/manual__other")
    with Records() as records:
        records.change(request_id, Change(State.AWAITING_APPROVAL), other)
    assert run("provision_environment", request_id)[0] == "failed"
    assert stands(request_id) is State.AWAITING_APPROVAL
    with Records() as records:
        records.change(request_id, Change(State.PROVISIONING), other)
    assert run("provision_environment", request_id)[0] == "failed"
    assert stands(request_id) is State.PROVISIONING
    assert not (home / "environments").exists()


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ('{"approvers": "admin"}', "approvers: 'admin' is not of type 'array'"),
        ('{"clusters": {"north": {}}}', "clusters.north: 'connection' is a required property"),
        ("{", "is no JSON"),
    ],
)
def test_a_variable_that_cannot_be_used_is_said(home, monkeypatch, variable, said):
    from earthself.operators.environment_order import rules
    from earthself.operators.errors import BadRequest

    monkeypatch.setenv("AIRFLOW_VAR_EARTHSELF_PROVISION", variable)
    with pytest.raises(BadRequest, match=said):
        rules()


def answer(by: str | None, option: str) -> dict[str, Any]:
    from datetime import UTC, datetime

    user = {"id": by, "name": by} if by else None
    return {"chosen_options": [option], "params_input": {}, "responded_at": datetime.now(UTC), "responded_by_user": user}


@pytest.fixture
def approving(request_id, monkeypatch):
    """The task in which a person decides, where its request waits for that."""

    class Instance:
        dag_id, run_id, task_id, map_index, id = "provision_environment", "manual__1", "approve", -1, "1"

    with Records() as records:
        records.change(request_id, Change(State.AWAITING_APPROVAL), ADA)
    operator = ApproveEnvironmentOperator(task_id="approve", subject="s", body="b", by_rule=False, request=request_id)
    monkeypatch.setattr(operator, "skip_all_except", lambda **_: None, raising=False)
    return operator, {"ti": Instance(), "task_instance": Instance()}


def test_who_approves_stands_in_the_audit(approving, request_id):
    operator, context = approving
    operator.execute_complete(context, answer("grace", "Approve"))
    with Records() as records:
        row = records.audit(subject=request_id)[0]
    assert (row.result["to"], row.result["approved by"]) == ("provisioning", "grace")


def test_only_those_who_may_approve_are_asked(approving, rules, monkeypatch):
    from airflow.providers.standard.operators import hitl

    operator, context = approving
    asked: dict[str, Any] = {}
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **given: asked.update(given))
    rules(approvers=["grace", "linus"], approval_hours=2)
    with pytest.raises(TaskAwaitingInput):
        operator.execute(context)
    assert [user["id"] for user in asked["assigned_users"]] == ["grace", "linus"]
    assert operator.response_timeout.total_seconds() == 7200
