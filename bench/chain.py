"""What our operators add to a workflow: trigger to success of a chain shaped like `land_cover_map` whose steps do nothing.

The peer is a plain DAG of the same shape and imports whose tasks each start the same program with `subprocess.run`. Both run
on one stack, in turn, so that a busy machine slows both; the medians count.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.stack import seconds_of, stack

ROUNDS = 12
WARM_UP = 2
GOAL = 1.15
SIGNED = 3
"""Batches side by side."""

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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nothing.py").write_text(_PROGRAM)
        head = _HEAD.format(program=str(folder / "nothing.py"))
        dags = {
            dag_id: head + kind.format(signed=SIGNED) + _SHAPE.format(dag_id=dag_id)
            for dag_id, kind in (("ours", _OURS), ("plain", _PLAIN))
        }
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        with stack(folder, dags) as client:
            for number in range(WARM_UP + ROUNDS):
                for dag_id, taken in seconds.items():
                    passed = seconds_of(client, dag_id)
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
