"""Steps in pods of a real cluster that take more memory than they have."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from earthself.operators import ProcessingStepOperator, StepResources, catalogs
from in_pods import Died, again, connection, fired, lines
from structlog.testing import capture_logs

# Takes 20 MiB for each item, in a process of its own; passes the items on.
GREEDY = """
items=$(grep -o '[A-Z0-9]*[.]json"' $EARTHSELF_STEP_INPUT/catalog.json | grep -v '^[.]' | sed 's/[.]json"//' | tr '\\n' ' ')
echo working on $items
dd if=/dev/zero of=/dev/null bs=$(($(echo $items | wc -w) * 20))M count=1 2>/dev/null || exit 3
cd $EARTHSELF_STEP_OUTPUT
links=
for item in $items; do
  mkdir $item
  echo "{\\"type\\":\\"Feature\\",\\"id\\":\\"$item\\",\\"links\\":[],\\"assets\\":{},\\"properties\\":{}}" > $item/$item.json
  links="$links,{\\"rel\\":\\"item\\",\\"href\\":\\"./$item/$item.json\\"}"
done
echo "{\\"type\\":\\"Catalog\\",\\"id\\":\\"c\\",\\"links\\":[${links#,}]}" > catalog.json
"""


@pytest.fixture
def four(workspace):
    """Reference dict of a catalogue of four items in the run's folder."""
    items = [{"type": "Feature", "id": f"P{n}", "links": [], "assets": {}, "properties": {}} for n in range(1, 5)]
    return catalogs.write_catalog(workspace / "runs/a_dag/manual__1/work/found", "found", items).to_dict()


def step(inputs, **kwargs) -> ProcessingStepOperator:
    kwargs = {"resources": StepResources(0.05, "52Mi"), "command": ["sh", "-c", GREEDY]} | kwargs
    return ProcessingStepOperator(task_id="t", image="localhost/busybox:1", inputs=inputs, eodag_conn_id=None, **kwargs)


def through(make, context) -> tuple[dict, int]:
    """What Airflow does, each time with an operator that knows nothing of the one before; returns the output and how often it waited."""
    waited = 0
    begin = lambda: make().execute(context)  # noqa: E731
    while True:
        try:
            return begin(), waited
        except TaskDeferred as deferred:
            event = asyncio.run(fired(again(deferred.trigger)))
            waited += 1
            begin = lambda event=event: make().resume(context, event)  # noqa: E731


def worked(logs) -> list[str]:
    return [line.removeprefix("working on ").strip() for line in lines(logs) if line.startswith("working on")]


ALL = ["P1 P2 P3 P4", "P1 P2", "P3 P4"]


@pytest.mark.parametrize("patience", [30.0, 0.0], ids=["the worker stays", "the triggerer waits"])
def test_half_the_work_fits_where_the_whole_does_not(kube, task, four, workspace, monkeypatch, patience):  # noqa: PLR0917
    connection(monkeypatch, lambda extra: extra["earthself"].update(patience=patience))
    with capture_logs() as logs:
        reference, waited = through(lambda: step(four, splittable=True, output="mine"), task())
    assert worked(logs) == ALL
    assert waited == (0 if patience else 3)
    root = workspace / "runs/a_dag/manual__1/work"
    assert reference["count"] == 4
    assert sorted(path.name for path in (root / "mine").iterdir()) == ["P1", "P2", "P3", "P4", "catalog.json"]
    account = json.loads((root / "steps/t/run.json").read_text())
    assert [(one["items"], one["killed"]) for one in account["attempts"]] == [(4, True), (2, False), (2, False)]
    assert "sha256:" in account["image"]
    first = json.loads((root / "steps/t/attempts/001/run.json").read_text())
    assert (first["peak_memory"], first["peak_at_least"]) == (52 * 2**20, True)
    kube.wait(lambda: not kube.left())


def test_the_next_size_up_is_a_pod_of_that_size(kube, task, four, workspace):
    with capture_logs() as logs:
        through(lambda: step(four, resources=StepResources(0.05, "32Mi", memory_up_to="100Mi")), task())
    assert worked(logs) == ["P1 P2 P3 P4"] * 3
    account = json.loads((workspace / "runs/a_dag/manual__1/work/steps/t/run.json").read_text())
    assert [one["memory"] // 2**20 for one in account["attempts"]] == [32, 64, 100]
    kube.wait(lambda: not kube.left())


def test_the_peak_of_a_pod_that_ended_well_is_what_its_step_says_or_not_known(kube, task, four, workspace):
    fits = StepResources(0.05, "128Mi")
    with capture_logs() as logs:
        through(lambda: step(four, resources=fits), task())
    assert any("memory not known" in line for line in lines(logs))
    says = """echo '{"status":"done","metrics":{"peak_memory_bytes":41943040}}' > $EARTHSELF_STEP_RESULT"""
    with capture_logs() as logs:
        through(lambda: step(four, resources=fits, command=["sh", "-c", GREEDY + says]), task())
    assert any("40.0 MiB at most" in line for line in lines(logs))
    assert json.loads((workspace / "runs/a_dag/manual__1/work/steps/t/run.json").read_text())["peak_memory"] == 40 * 2**20


def test_a_kill_for_memory_names_request_limit_and_what_is_known_of_the_peak(kube, task, four):
    less = {"spec": {"containers": [{"name": "step", "resources": {"requests": {"memory": "8Mi"}}}]}}
    said = r"request 8.0 MiB, limit 52.0 MiB, peak 52.0 MiB or more \(the limit was reached\)"
    with pytest.raises(AirflowFailException, match=rf"{said}; it was one of its processes, the step itself ended with 3; give it more"):
        through(lambda: step(four, pod_template=less), task())
    with pytest.raises(AirflowFailException, match=rf"{said}; give it more"):
        through(lambda: step(four, pod_template=less, command=["tail", "/dev/zero"]), task())
    with pytest.raises(AirflowFailException, match=r"killed were 4 items with 20.0 MiB, 4 items with 40.0 MiB; raise memory_up_to"):
        through(lambda: step(four, resources=StepResources(0.05, "20Mi", memory_up_to="40Mi"), command=["tail", "/dev/zero"]), task())
    kube.wait(lambda: not kube.left())


@pytest.mark.parametrize(
    "where", ["attempts.Attempts.done", "attempts.Attempts.after", "in_pod.PodStep.begin", "in_pod.PodStep._take_away"]
)
def test_a_worker_that_dies_between_attempts_loses_nothing(kube, task, four, where):
    from earthself.operators import attempts, in_pod

    owner = {"attempts": attempts.Attempts, "in_pod": in_pod.PodStep}[where.partition(".")[0]]
    real, calls = getattr(owner, where.rpartition(".")[2]), []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > (1 if owner is in_pod.PodStep else 0):
            if owner is attempts.Attempts:
                real(self, *args)
            raise Died
        return real(self, *args, **kwargs)

    with capture_logs() as logs:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"earthself.operators.{where}", dies)
            with pytest.raises(Died):
                through(lambda: step(four, splittable=True), task())
        reference, _ = through(lambda: step(four, splittable=True), task())
    assert reference["count"] == 4
    said = worked(logs)
    taken_on = ["P1 P2"] if where.endswith("_take_away") else []
    assert said == sorted([*ALL, *taken_on], key=ALL.index), "a pod that is taken on is read again"
    assert sum("taken on" in line for line in lines(logs)) == len(taken_on)
    kube.wait(lambda: not kube.left())
