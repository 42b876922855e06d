"""The platform's metrics as Prometheus reads them: real steps are run, and the numbers move."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import signed

PRELUDE = """
import json, os, sys, time
from pathlib import Path
OUT, RESULT = (Path(os.environ["EARTHSELF_STEP_" + name]) for name in ("OUTPUT", "RESULT"))
def leave(**metrics):
    (OUT / "catalog.json").write_text(json.dumps({"type": "Catalog", "id": "o", "stac_version": "1.1.0", "description": "", "links": []}))
    RESULT.write_text(json.dumps({"status": "done", "outputs": 0, "message": "", "metrics": metrics, "warnings": []}))
"""
TOKEN = "for-tests-only"


@pytest.fixture
def scrape(login, run_folder, monkeypatch):
    """Read the metrics as Prometheus does: {(sample, its labels): value}."""
    monkeypatch.setenv("EARTHSELF_METRICS_TOKEN", TOKEN)

    def read() -> dict[tuple[str, frozenset], float]:
        answer = login().get("/earthself/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, answer.text
        families = text_string_to_metric_families(answer.text)
        return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}

    return read


@pytest.fixture
def step(tmp_path: Path, run_folder):
    """Run a step of a few lines as a task of the workflow `mine`; gives its error, or None."""
    from earthself.operators import ProcessingStepOperator

    def run(body: str, task_id: str = "work", **kwargs) -> Exception | None:
        path = tmp_path / "step.py"
        path.write_text(PRELUDE + body)
        operator = ProcessingStepOperator(task_id=task_id, command=[sys.executable, str(path)], eodag_conn_id=None, **kwargs)
        ti = SimpleNamespace(dag_id="mine", run_id="manual__1", task_id=task_id, map_index=-1, try_number=1)
        try:
            operator.execute({"ti": ti, "params": {}})
        except Exception as error:  # noqa: BLE001 - what Airflow would see
            return error
        return None

    return run


def value(found, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_steps_are_counted_by_how_they_end(scrape, step) -> None:
    before = scrape()
    assert value(before, "earthself_steps_started_total", step="work", runtime="local") == 0
    assert step("time.sleep(0.2); leave(items=1, bytes_read=1000)") is None
    assert step("sys.exit(65)") is not None
    assert step("sys.exit(75)") is not None
    assert step("kept = bytearray(300 << 20); time.sleep(60)", resources={"memory": "128Mi"}) is not None
    found = scrape()
    here = {"step": "work", "runtime": "local"}
    assert value(found, "earthself_steps_started_total", **here) == 4
    ended = {
        result: value(found, "earthself_steps_ended_total", result=result, **here)
        for result in ("done", "bad_input", "temporary", "memory")
    }
    assert ended == {"done": 1, "bad_input": 1, "temporary": 1, "memory": 1}
    assert value(found, "earthself_step_seconds_count", **here) == 4
    assert value(found, "earthself_step_seconds_sum", **here) > 0.2
    assert value(found, "earthself_step_seconds_bucket", le="+Inf", **here) == 4, "buckets add up"
    assert value(found, "earthself_step_cpu_seconds_total", **here) > 0
    assert value(found, "earthself_step_peak_memory_bytes_count", **here) == 4
    assert value(found, "earthself_step_peak_memory_bytes_sum", **here) > 128 << 20
    assert value(found, "earthself_read_bytes_total", step="work") == 1000
    failures = {
        reason: value(found, "earthself_task_failures_total", dag_id="mine", reason=reason)
        for reason in ("bad_input", "temporary", "memory")
    }
    assert failures == {"bad_input": 1, "temporary": 1, "memory": 1}
    assert found["earthself_task_failures_total", frozenset({("dag_id", "mine"), ("reason", "provider")})] == 0, (
        "so that the first one is a rise"
    )
    assert step("leave()") is None
    assert value(scrape(), "earthself_steps_ended_total", result="done", **here) == 2, "it goes on from where it was"


def test_no_run_and_no_product_makes_a_series_of_its_own(scrape, step) -> None:
    step("leave(items=1)")
    before = set(scrape())
    step("leave(items=1)")
    assert set(scrape()) == before


def test_a_program_that_was_stopped_counts_as_interrupted(scrape, tmp_path, run_folder) -> None:
    from earthself.operators import ProcessingStepOperator, counting
    from earthself.operators.errors import TemporaryFailure

    operator = ProcessingStepOperator(task_id="t", command=["sleep", "60"], eodag_conn_id=None)
    operator.on_kill()
    ti = SimpleNamespace(dag_id="mine", run_id="manual__1", task_id="t", map_index=-1, try_number=1)
    with pytest.raises(TemporaryFailure):
        operator.execute({"ti": ti, "params": {}})
    assert value(scrape(), counting.STEPS_ENDED + "_total", step="t", runtime="local", result="interrupted") == 1


def test_areas_tell_how_old_their_newest_product_is(scrape) -> None:
    from earthself.data.area import Area
    from earthself.triggers.memory import WAITING, Budget, Memory, Run, Sighting
    from earthself.triggers.watch import Goal, Watch

    now, name = datetime.now(UTC).replace(microsecond=0), "earthself_monitor:salzach"
    with Memory() as memory:
        memory.watch(Watch(name, Area.from_conf(signed.product("x")["bbox"]), goal=Goal(12)), now - timedelta(days=9))
        for number in range(2):
            at = now - timedelta(days=3 - number)
            item = signed.product(f"P{number}")
            item["properties"]["datetime"] = at.isoformat()
            memory.sight(name, [Sighting(item, WAITING, "", at, None, 0)], at)
        memory.claim([name], Run("m", "r"), Budget(), now)
        memory.stored(Run("m", "r"), "P0", None, now)
        memory.asked([name], "earth_search", now, well=True, said="")
    found = scrape()
    assert value(found, "earthself_watch_newest_seen_timestamp_seconds", watch=name) == (now - timedelta(days=2)).timestamp()
    assert value(found, "earthself_watch_newest_stored_timestamp_seconds", watch=name) == (now - timedelta(days=3)).timestamp()
    assert value(found, "earthself_watch_answered_timestamp_seconds", watch=name) == now.timestamp()
    assert value(found, "earthself_watch_goal_seconds", watch=name) == 12 * 3600
    assert value(found, "earthself_watch_promise_broken", watch=name) == 0
    assert value(found, "earthself_watch_products", watch=name, state="stored") == 1
    from earthself.triggers.freshness import check

    with Memory() as memory:
        check(memory, now + timedelta(days=1), [name])
    assert value(scrape(), "earthself_watch_promise_broken", watch=name) == 1


def test_provider_accounts_tell_their_sessions_breaker_and_bytes(scrape) -> None:
    from earthself.data.broker import Account, Grant, Limits, LocalBroker, shared_folder

    broker, account = LocalBroker(shared_folder()), Account("cop_dataspace", "me:secret", "a_team", Limits(10, 10**9))
    broker.token(account, "login", lambda _before: Grant("1", {"Authorization": "Bearer hush"}, {}, 0.0, None))
    broker.moved(account, 5000)
    for _ in range(20):
        broker.answered(account, 503)
    found = scrape()
    by_name = {name: (dict(labels), number) for (name, labels), number in found.items() if number and name.startswith("earthself_provider")}
    assert by_name["earthself_provider_breaker"][0]["state"] == "open"
    assert by_name["earthself_provider_sessions"][1] == 1
    assert by_name["earthself_provider_month_bytes"][1] == 5000
    assert by_name["earthself_provider_month_bytes"][0]["team"] == "a_team"
    assert by_name["earthself_provider_quota_bytes"][1] == 10**9
    assert not any("secret" in str(key) or "hush" in str(key) for key in found)


def test_pods_that_wait_count_as_long_as_somebody_says_so(scrape) -> None:
    from earthself.hooks.tally import Tally
    from earthself.triggers.pods.waiting import PODS_WAITING

    now = datetime.now(UTC)
    with Tally() as tally:
        tally.tell(PODS_WAITING, {"north": 3}, "cloud", "one:1", now)
        tally.tell(PODS_WAITING, {"north": 2, "south": 1}, "cloud", "two:1", now)
        tally.tell(PODS_WAITING, {"north": 9}, "cloud", "dead:1", now - timedelta(minutes=3))
    found = scrape()
    assert (value(found, PODS_WAITING, cloud="north"), value(found, PODS_WAITING, cloud="south")) == (5, 1)


def test_the_volume_of_the_workspace(scrape, run_folder) -> None:
    import shutil

    assert value(scrape(), "earthself_workspace_size_bytes") == shutil.disk_usage(run_folder).total


def test_a_database_that_is_away_takes_no_other_source_with_it(scrape, monkeypatch, step) -> None:
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", "sqlite:////proc/none/earthself.db")
    found = scrape()
    up = {source: value(found, "earthself_source_up", source=source) for source in ("tally", "watches", "accounts", "workspace")}
    assert up == {"tally": 0, "watches": 0, "accounts": 1, "workspace": 1}
    assert value(found, "earthself_workspace_size_bytes") > 0
    assert step("leave()") is None, "what cannot be counted is no reason to fail"


def test_nobody_reads_the_metrics_without_their_own_token(login, scrape, monkeypatch) -> None:
    assert login().get("/earthself/metrics").status_code == 401
    assert login("admin").get("/earthself/metrics").status_code == 401, "a person's token is another one"
    assert login().get("/earthself/metrics", headers={"Authorization": "Bearer für".encode()}).status_code == 401
    monkeypatch.delenv("EARTHSELF_METRICS_TOKEN")
    assert login().get("/earthself/metrics", headers={"Authorization": "Bearer "}).status_code == 403
