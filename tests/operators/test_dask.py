"""A step that asks for a Dask cluster on one machine: it is there, within the step's own share, and gone afterwards."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from earthself.operators import DaskCluster, ProcessingStepOperator, StepResources
from earthself.operators.dask_cluster import OnThisMachine
from earthself.operators.errors import BadRequest, TemporaryFailure
from test_step import gone, wait_for

SHARE = StepResources(cpu=2, memory="1500Mi")

COUNT = """
from distributed import Client
with Client(timeout=20) as client:
    client.wait_for_workers(2, timeout=30)
    found = client.scheduler_info()["workers"].values()
    print("sum", sum(client.gather(client.map(lambda x: x * x, range(10)))))
    print("workers", [(one["nthreads"], one["memory_limit"]) for one in found])
    PIDS.write_text(" ".join(map(str, [os.getppid(), *client.run(os.getpid).values()])))
"""


@pytest.fixture
def step(program, tmp_path):
    def make(body, **kwargs):
        command = program(f"PIDS = Path({str(tmp_path / 'pids')!r})\n{body}")
        kwargs = {"resources": SHARE, "dask": DaskCluster(2, memory="4Gi")} | kwargs
        return ProcessingStepOperator(task_id="t", command=command, eodag_conn_id=None, **kwargs)

    return make


def pids(tmp_path: Path) -> list[int]:
    return [int(pid) for pid in (tmp_path / "pids").read_text().split()]


def test_a_step_has_workers_that_share_what_it_may_use_and_are_gone_afterwards(step, context, workspace, tmp_path):
    assert step(COUNT + "leave('a')").execute(context())["count"] == 1
    log = (workspace / "runs/a_dag/manual__1/work/steps/t/log").read_text()
    assert "sum 285" in log
    assert f"workers {[(1, 500 * 2**20)] * 2}" in log
    assert len(pids(tmp_path)) == 3, "the scheduler's process too"
    assert all(gone(pid) for pid in pids(tmp_path))


def test_a_step_that_fails_takes_its_cluster_along_and_its_exit_code_stays(step, context, tmp_path):
    with pytest.raises(AirflowFailException, match=r"failed with exit code 7: .*no such band"):
        step(COUNT + "print('no such band', file=sys.stderr, flush=True); os._exit(7)").execute(context())
    assert all(gone(pid) for pid in pids(tmp_path))


def test_a_step_that_is_stopped_takes_its_cluster_along(step, context, tmp_path):
    operator = step(COUNT + "time.sleep(60)")
    stopper = threading.Thread(target=lambda: (wait_for(tmp_path / "pids", 90), operator.on_kill()))
    stopper.start()
    with pytest.raises(TemporaryFailure, match="was stopped"):
        operator.execute(context())
    stopper.join()
    assert all(gone(pid) for pid in pids(tmp_path))


def test_a_program_that_is_not_there_is_named(context):
    operator = ProcessingStepOperator(task_id="t", command=["no-such-program"], eodag_conn_id=None, resources=SHARE, dask={"workers": 1})
    with pytest.raises(AirflowFailException, match="no-such-program: cannot be executed"):
        operator.execute(context())


@pytest.mark.parametrize(
    ("dask", "resources", "share"),
    [
        (DaskCluster(8, cpu=4, memory="1Gi"), StepResources(4, "16Gi"), OnThisMachine(4, 1, 2**30)),
        (DaskCluster(1, cpu=2, memory="4Gi"), StepResources(4, "2Gi"), OnThisMachine(1, 2, 2**30)),
        (DaskCluster(2), StepResources(0.5, "2Gi"), OnThisMachine(1, 1, 2**30)),
    ],
)
def test_workers_on_one_machine_get_no_more_than_the_step_has(dask, resources, share):
    assert OnThisMachine.of(dask, resources) == share


@pytest.mark.parametrize(
    ("dask", "says"),
    [
        ({"workers": 0}, "workers=0 is not a number of Dask workers"),
        ({"memory": "lots"}, "not a size"),
        ({"nodes": 3}, "DaskCluster has workers"),
    ],
)
def test_what_is_no_cluster_is_refused(dask, says):
    with pytest.raises(BadRequest, match=says):
        DaskCluster.from_value(dask)
