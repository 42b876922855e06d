"""The monitor on the real stack: a product that a provider lists starts a run by itself, once, though the triggerer is killed meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from earthself.client import Client
from earthself.local.sample import DATA
from earthself.local.supervision import Control
from earthself.signature.client import SignatureClient

from tests.system.running import Started, served, until

SAMPLE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_P7040"
PRODUCT = SAMPLE.replace("N9999", "N0205")
"""A baseline without the offset that products of nowadays have."""
AREA = [13.437, 48.302, 13.450, 48.309]
MONITOR = "earthsignature_monitor"
YESTERDAY = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


@pytest.fixture
def admin(started: Started) -> httpx.Client:
    with started.rest() as http:
        yield http
        # The stack is the whole session's: what is watched here must wake nothing under another test.
        http.patch(f"/api/v2/dags/{MONITOR}", json={"is_paused": True})
        http.delete("/api/v2/variables/earthself_monitor")


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """One product of the sample, as if it had been sensed yesterday."""
    folder = tmp_path / "products"
    shutil.copytree(DATA / SAMPLE, folder / SAMPLE)
    item = json.loads((DATA / f"{SAMPLE}.json").read_text())
    item["id"] = PRODUCT
    item["properties"] |= {"datetime": YESTERDAY.isoformat().replace("+00:00", "Z"), "s2:processing_baseline": "02.05"}
    (folder / f"{PRODUCT}.json").write_text(json.dumps(item))
    return folder


def runs(admin: httpx.Client) -> list[dict]:
    return admin.get(f"/api/v2/dags/{MONITOR}/dagRuns", params={"order_by": "run_after"}).raise_for_status().json()["dag_runs"]


def verdicts(client: Client) -> list[str]:
    return [reason["verdict"] for reason in client.why(AREA, f"{YESTERDAY:%Y-%m-%d}")["reasons"]]


def triggerer(started: Started) -> int:
    return next(program.pid for program in Control(Path(started.running.socket)).programs() if program.name == "triggerer")


def test_a_new_product_starts_a_run_by_itself_and_once(started: Started, admin: httpx.Client, products: Path) -> None:
    client = started.client("viewer")
    assert verdicts(client) == ["no watch"], "it is shipped paused"
    settings = {"areas": {"salzach": {"area": AREA, "provider": "shaky", "max_cloud_cover": None, "every_minutes": 1, "goal": {}}}}
    admin.post("/api/v2/variables", json={"key": "earthself_monitor", "value": json.dumps(settings)}).raise_for_status()
    admin.patch(f"/api/v2/dags/{MONITOR}", json={"is_paused": False}).raise_for_status()
    until(lambda: "provider down" in verdicts(client), "the triggerer has asked the provider, which is not there", 120)

    before = triggerer(started)
    os.kill(before, signal.SIGKILL)
    with served(products, started.shaky_port):
        until(lambda: triggerer(started) not in (0, before), "the triggerer is started again")
        until(lambda: "stored" in verdicts(client), "the product is signed and stored", 240)
        until(lambda: all(run["state"] in ("success", "failed") for run in runs(admin)), "the run has ended")

    made = runs(admin)
    assert [(run["run_type"], run["state"]) for run in made] == [("asset_triggered", "success")]
    with SignatureClient(started.running.signature) as database:
        (stored,) = database.find(start=YESTERDAY - timedelta(hours=1), end=YESTERDAY + timedelta(hours=1))
    assert stored["properties"]["earthself:product"] == PRODUCT
    done = subprocess.run(
        [str(Path(sys.executable).with_name("earthself")), "why", ",".join(map(str, AREA)), f"{YESTERDAY:%Y-%m-%d}"],
        env={**os.environ, "EARTHSELF_HOME": str(started.stack.home.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"taken by the run {made[0]['dag_run_id']}" in done.stdout
    (area,) = client.freshness()["areas"]
    assert (area["watch"], area["goal"]) == ("earthself_monitor:salzach", {"hours": 24, "share": 0.95})


LATE = """
from datetime import timedelta
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, task
from earthself.triggers.alerts import run_is_late

late = DeadlineAlert(reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(seconds=1), callback=AsyncCallback(run_is_late))
with DAG("takes_long", schedule=None, deadline=late):

    @task.sensor(poke_interval=1, timeout=300, mode="poke")
    def wait():
        from pathlib import Path

        return Path({path!r}).exists()

    wait()
"""


def test_a_run_that_misses_its_deadline_is_said_by_the_triggerer(started: Started, admin: httpx.Client, tmp_path: Path) -> None:
    """The deadline of the monitor is six hours; here it is a second, with the same callback."""
    file = started.output.parent / "dags" / "takes_long.py"
    file.write_text(LATE.replace("{path!r}", repr(str(tmp_path / "go"))))
    until(lambda: admin.get("/api/v2/dags/takes_long").is_success, "the workflow is there", 120)
    run = admin.post("/api/v2/dags/takes_long/dagRuns", json={"logical_date": None}).raise_for_status().json()["dag_run_id"]
    log = started.stack.home.logs / "triggerer.log"
    until(lambda: f"the run {run} of takes_long is not done by its deadline" in log.read_text(), "the callback has run", 120)
    (tmp_path / "go").touch()
    until(lambda: admin.get(f"/api/v2/dags/takes_long/dagRuns/{run}").json()["state"] == "success", "the run goes on all the same", 120)
