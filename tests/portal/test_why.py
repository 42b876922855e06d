"""The question `why` by REST: who may ask, what is refused, which runs are named."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import signed

WHERE = signed.product("x")["bbox"]
QUESTION = {"area": WHERE, "time": "2017-06-13"}


@pytest.fixture
def seen(run_folder):
    """A product that a run of another workflow has taken."""
    from earthself.data.area import Area
    from earthself.triggers.memory import WAITING, Budget, Memory, Run, Sighting
    from earthself.triggers.watch import Watch

    at = datetime(2017, 6, 13, 10, tzinfo=UTC)
    with Memory() as memory:
        memory.watch(Watch("w", Area.from_conf(WHERE)), at)
        memory.sight("w", [Sighting(signed.product("P1"), WAITING, "it waits", at, None, 0)], at)
        memory.claim(["w"], Run("somebodys_dag", "secret_run"), Budget(), at + timedelta(hours=1))
    return run_folder


def test_whoever_may_see_the_monitor_may_ask(login, seen) -> None:
    for user in ("viewer", "creator", "admin"):
        answer = login(user).post("/earthself/api/v1/why", json=QUESTION)
        assert answer.status_code == 200, answer.text
        (reason,) = answer.json()["reasons"]
        assert (reason["verdict"], reason["product"], reason["run_id"]) == ("claimed", "P1", "secret_run")
    assert login().post("/earthself/api/v1/why", json=QUESTION).status_code == 401


def test_a_run_that_one_may_not_see_is_not_named(login, seen, monkeypatch) -> None:
    from earthself.portal import rights

    monkeypatch.setattr(rights, "may_see_runs", lambda _user, dag_id: dag_id != "somebodys_dag")
    answer = login("viewer").post("/earthself/api/v1/why", json=QUESTION)
    assert "secret_run" not in answer.text
    assert answer.json()["reasons"][0]["verdict"] == "claimed"


def test_a_period_is_read_too(login, seen) -> None:
    answer = login("viewer").post("/earthself/api/v1/why", json={"area": WHERE, "time": "2017-06-01/2017-06-13"})
    assert "P1" not in answer.text


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, "lacks area and time"),
        ({"area": WHERE}, "lacks time"),
        ({**QUESTION, "x": 1}, "x is not part"),
        ({"area": [1, 2], "time": "2017-06-13"}, "2 numbers"),
        ({"area": WHERE, "time": 5}, "not text"),
        ({"area": WHERE, "time": "yesterday"}, "RFC 3339"),
        ({"area": WHERE, "time": "2017-06-13/2017-06-13"}, "empty"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_the_reason(login, run_folder, question, message) -> None:
    answer = login("viewer").post("/earthself/api/v1/why", json=question)
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


def test_pages_of_other_sites_cannot_ask(login, seen) -> None:
    assert login("viewer", cookie=True).post("/earthself/api/v1/why", json=QUESTION, headers={"Origin": "http://evil"}).status_code == 403


def test_a_database_that_is_away_is_said_and_to_be_tried_again(login, run_folder, monkeypatch, tmp_path) -> None:
    (tmp_path / "broken.db").write_text("this is no database" * 100)
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", f"sqlite:///{tmp_path}/broken.db")
    answer = login("viewer").post("/earthself/api/v1/why", json=QUESTION)
    assert answer.status_code == 503
    assert "EARTHSELF_DATABASE_URL" in answer.json()["detail"]
