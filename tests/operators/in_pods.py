"""A step in a pod as tests write it and as Airflow runs it."""

from __future__ import annotations

import asyncio
import json
import os

from airflow.sdk.exceptions import TaskDeferred
from earthself.operators import ProcessingStepOperator, StepResources

ITEM = '{"type":"Feature","stac_version":"1.1.0","id":"one","geometry":null,"links":[],"assets":{},"properties":{"datetime":null}}'
CATALOG = '{"type":"Catalog","stac_version":"1.1.0","id":"c","description":"c","links":[{"rel":"item","href":"./one/one.json"}]}'
COPY = f"""
for item in $(ls $EARTHSELF_STEP_INPUT); do echo "progress 0.5 $item" >&2; done
cd $EARTHSELF_STEP_OUTPUT
mkdir one
echo '{ITEM}' > one/one.json
echo '{CATALOG}' > catalog.json
"""
INSIDE = """
id -u; grep -E '^(CapEff|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status
touch /here 2>/dev/null && echo root-writable; touch $EARTHSELF_STEP_INPUT/here 2>/dev/null && echo input-writable
touch $EARTHSELF_STEP_SCRATCH/x /tmp/x && echo scratch-writable
ls /var/run/secrets/kubernetes.io 2>/dev/null && echo has-token
env | grep -E 'SERVICE_HOST' | grep -v ^KUBERNETES_ && echo has-services
"""


def connection(monkeypatch, change) -> None:
    """Change what the connection says."""
    said = json.loads(os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"])
    change(said["extra"])
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(said))


def step(script: str = COPY, **kwargs) -> ProcessingStepOperator:
    kwargs = {
        "task_id": "t",
        "eodag_conn_id": None,
        "image": "localhost/busybox:1",
        "command": ["sh", "-c", script],
        "resources": StepResources(0.05, "64Mi"),
    } | kwargs
    return ProcessingStepOperator(**kwargs)


def run(operator, context):
    """What Airflow does: execute, let the trigger wait where the task says so, resume."""
    return _to_the_end(operator, context, lambda: operator.execute(context))


def resumed(operator, context, event):
    """What Airflow does when a trigger has fired."""
    return _to_the_end(operator, context, lambda: operator.resume(context, event))


def _to_the_end(operator, context, begin):
    try:
        return begin()
    except TaskDeferred as deferred:
        event = asyncio.run(fired(again(deferred.trigger)))
    return resumed(operator, context, event)


async def fired(trigger):
    """What the trigger says in the end, as it comes out of the database."""
    return json.loads(json.dumps((await anext(aiter(trigger.run()))).payload))


def again(trigger):
    """The trigger as the triggerer makes it, from what is in the database."""
    path, kwargs = trigger.serialize()
    assert path == "earthself.triggers.step_pod.StepPodTrigger"
    return type(trigger)(**json.loads(json.dumps(kwargs)))


def lines(logs) -> list[str]:
    return [entry["event"] for entry in logs]


def template(**container):
    return {"spec": {"containers": [{"name": "step", **container}]}}


class Died(BaseException):
    """The worker is no more."""


async def died(*_):
    raise Died
