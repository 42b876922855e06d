"""What our operators add to a workflow: trigger to success of a chain shaped like `land_cover_map` whose steps do nothing.

The peer is a plain DAG of the same shape and imports whose tasks each start the same program with `subprocess.run`. Both run
on one stack, in turn, so that a busy machine slows both; the medians count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

ROUNDS = 12
WARM_UP = 2
GOAL = 1.15
SIGNED = 3
"""Batches side by side."""
_PATIENCE = 180.0

_PROGRAM = """
import json, os, sys
out = os.environ.get("EARTHSELF_STEP_OUTPUT")
if out:
    links = [{"rel": "item", "href": "./a/a.json"}]
    os.mkdir(f"{out}/a")
    with open(f"{out}/a/a.json", "w") as file:
        json.dump({"type": "Feature", "id": "a", "assets": {}, "properties": {}}, file)
    with open(f"{out}/catalog.json", "w") as file:
        json.dump({"type": "Catalog", "id": "out", "stac_version": "1.1.0", "description": "nothing", "links": links}, file)
    with open(os.environ["EARTHSELF_STEP_RESULT"], "w") as file:
        json.dump({"status": "done", "outputs": 1, "message": "", "metrics": {}, "warnings": []}, file)
"""

_HEAD = """
import subprocess, sys
from airflow.sdk import DAG, BaseOperator
from earthself.operators import ProcessingStepOperator
COMMAND = [sys.executable, {program!r}]
"""

_OURS = """
def task(name, after=None, **more):
    return ProcessingStepOperator(task_id=name, command=COMMAND, inputs=after and after.output, eodag_conn_id=None, **more)
def mapped(name, after):
    return ProcessingStepOperator.partial(task_id=name, command=COMMAND, eodag_conn_id=None).expand(inputs=[after.output] * {signed})
"""

_PLAIN = """
class Plain(BaseOperator):
    template_fields = ("inputs",)
    def __init__(self, inputs=None, **kwargs):
        super().__init__(**kwargs)
        self.inputs = inputs
    def execute(self, context):
        subprocess.run(COMMAND, check=True)
        return {{"href": "/nowhere/catalog.json", "count": 1, "sha256": "0" * 64}}
def task(name, after=None, **more):
    return Plain(task_id=name, inputs=after and after.output, **more)
def mapped(name, after):
    return Plain.partial(task_id=name).expand(inputs=[after.output] * {signed})
"""

_SHAPE = """
with DAG({dag_id!r}, schedule=None, catchup=False):
    estimate = task("estimate")
    search = task("search", estimate)
    known = task("known", search)
    plan = task("plan", known)
    sign = mapped("sign", plan)
    ingest = task("ingest", plan, trigger_rule="all_done_min_one_success")
    mosaic = task("mosaic", ingest)
    statistics = task("statistics", mosaic)
    quicklook = task("quicklook", mosaic)
    publish = task("publish", mosaic, trigger_rule="none_failed")
    sign >> ingest
    [plan, statistics, quicklook] >> publish
"""


def run() -> list[dict[str, Any]]:
    """Measure on a stack of its own; raises where the stack does not come up or a run fails."""
    with tempfile.TemporaryDirectory() as folder, _stack(Path(folder)) as (url, password):
        client = _client(url, password)
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        for number in range(WARM_UP + ROUNDS):
            for name, taken in seconds.items():
                passed = _trigger(client, name)
                if number >= WARM_UP:
                    taken.append(passed)
    ours, plain = (statistics.median(taken) for taken in seconds.values())
    return [
        {
            "name": "chain of steps that do nothing",
            "value": round(ours, 2),
            "unit": "s from trigger to success",
            "peer": "plain DAG, same shape and imports, one process a task",
            "peer_value": round(plain, 2),
            "ratio": round(ours / plain, 3),
            "goal": GOAL,
        }
    ]


@contextmanager
def _stack(folder: Path) -> Iterator[tuple[str, str]]:
    """Start a local stack with the two workflows; gives its address and the admin's password."""
    dags = folder / "dags"
    dags.mkdir()
    program = folder / "nothing.py"
    program.write_text(_PROGRAM)
    for dag_id, kind in (("ours", _OURS), ("plain", _PLAIN)):
        text = _HEAD.format(program=str(program)) + kind.format(signed=SIGNED) + _SHAPE.format(dag_id=dag_id)
        (dags / f"{dag_id}.py").write_text(text)
    home = folder / "home"
    ports = dict.fromkeys(("EARTHSELF_PORT", "EARTHSELF_SIGNATURE_PORT", "EARTHSELF_DATA_PORT", "EARTHSELF_SAMPLE_PORT"), "0")
    environment = {**os.environ, **ports, "EARTHSELF_HOME": str(home), "EARTHSELF_DAGS": str(dags)}
    command = [sys.executable, "-m", "earthself.local"]
    process = subprocess.Popen([*command, "up"], env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            status = subprocess.run([*command, "status", "--json"], env=environment, capture_output=True, text=True, check=False)
            found = json.loads(status.stdout) if status.returncode == 0 else {}
            if found.get("up"):
                yield found["running"]["url"], json.loads((home / "passwords.json").read_text())["admin"]
                return
            time.sleep(1)
        raise RuntimeError(f"the stack did not come up within {_PATIENCE:.0f} s; see `make up`")
    finally:
        subprocess.run([*command, "down"], env=environment, stdout=subprocess.DEVNULL, check=False)
        process.wait(60)


def _client(url: str, password: str) -> httpx.Client:
    client = httpx.Client(base_url=url, timeout=60)
    answer = client.post("/auth/token", json={"username": "admin", "password": password})
    client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"
    deadline = time.monotonic() + _PATIENCE
    while any(client.get(f"/api/v2/dags/{name}").status_code != 200 for name in ("ours", "plain")):
        if time.monotonic() > deadline:
            raise RuntimeError("Airflow did not find the two workflows")
        time.sleep(0.5)
    return client


def _trigger(client: httpx.Client, dag_id: str) -> float:
    """Seconds from the trigger to the run's end, by Airflow's own clock."""
    answer = client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None})
    address = f"/api/v2/dags/{dag_id}/dagRuns/{answer.raise_for_status().json()['dag_run_id']}"
    while (found := client.get(address).raise_for_status().json())["state"] not in ("success", "failed"):
        time.sleep(0.5)
    if found["state"] == "failed":
        raise RuntimeError(f"the run {address} failed; the bench measures nothing then")
    return (datetime.fromisoformat(found["end_date"]) - datetime.fromisoformat(found["queued_at"])).total_seconds()
