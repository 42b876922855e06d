"""What a cluster does to a step's pod that nobody wished: no image, a busy or slow registry, an eviction, a full disk, no API."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from earthself.operators import StepResources
from earthself.operators.errors import TemporaryFailure
from in_pods import COPY, lines, run, step
from registry import Registry
from structlog.testing import capture_logs

PULLED = {"spec": {"containers": [{"name": "step", "imagePullPolicy": "Always"}]}}


@pytest.fixture
def registry():
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    if busybox is None:
        pytest.skip("no busybox; get it with: apt-get install busybox-static")
    with Registry(Path(busybox)) as served:
        yield served


def pulled(registry: Registry, tag: str = "1", **kwargs):
    """A step whose image comes from the registry; its script differs, so that no test finds the pod of another."""
    script = f": {secrets.token_hex(4)};{COPY}"
    return step(script, image=f"{registry.address}/tiny:{tag}", pod_template=PULLED, **kwargs)


def waits_with(kube, word: str) -> bool:
    """Whether a pod's container waits, and its state says the word."""
    states = [state for pod in kube.pods() for state in pod["status"].get("containerStatuses", [])]
    return any(word in json.dumps(state["state"].get("waiting", {})) for state in states)


@contextmanager
def during(work):
    """Do something beside the block, which has to succeed, too."""
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(work)
        yield
        beside.result()


def test_an_image_from_a_registry_is_named_with_its_digest(kube, task, registry, workspace):
    assert run(pulled(registry), task())["count"] == 1
    account = json.loads((workspace / "runs/a_dag/manual__1/work/steps/t/run.json").read_text())
    (manifest,) = [path.removeprefix("manifests/") for path in registry.contents if path.startswith("manifests/sha256")]
    assert account["image"] == f"{registry.address}/tiny@{manifest}"
    kube.wait(lambda: not kube.left())


def test_an_image_that_the_registry_has_not_fails_as_soon_as_it_says_so(kube, task, registry):
    with pytest.raises(AirflowFailException, match=rf"image {registry.address}/tiny:2 cannot be had \(.*not found"):
        run(pulled(registry, "2"), task())
    assert any(path.endswith("manifests/2") for path in registry.asked)
    kube.wait(lambda: not kube.left())


def test_a_rate_limit_is_waited_out_with_the_registrys_words_and_then_tried_again(kube, task, registry):
    registry.refuses = 429
    with pytest.raises(TemporaryFailure, match=r"did not start within 25 s: .*429 Too Many Requests"):
        run(pulled(registry, start_seconds=25), task())
    kube.wait(lambda: not kube.left())


def test_a_rate_limit_that_goes_away_costs_a_wait(kube, task, registry):
    registry.refuses = 429

    def give_way():
        kube.wait(lambda: waits_with(kube, "429"))
        registry.refuses = None

    with during(give_way), capture_logs() as logs:
        assert run(pulled(registry), task())["count"] == 1
    assert any("429 Too Many Requests" in line for line in lines(logs))
    kube.wait(lambda: not kube.left())


def test_a_registry_that_is_slow_is_waited_for(kube, task, registry):
    registry.open.clear()

    def give_way():
        kube.wait(lambda: any("/blobs/" in path for path in registry.asked) and waits_with(kube, "ContainerCreating"))
        registry.open.set()

    with during(give_way):
        assert run(pulled(registry), task())["count"] == 1
    kube.wait(lambda: not kube.left())


def test_a_registry_that_is_too_slow_is_tried_again_later(kube, task, registry):
    registry.open.clear()
    with pytest.raises(TemporaryFailure, match="did not start within 4 s: the node prepares it"):
        run(pulled(registry, start_seconds=4), task())
    assert any("/blobs/" in path for path in registry.asked)
    kube.wait(lambda: not kube.left())


def test_a_pod_that_is_evicted_is_interrupted_and_no_success(kube, task, workspace):
    script = "trap 'exit 0' TERM; echo begun;" + COPY + "sleep 1000 & wait"

    def evict():
        kube.begin()
        (pod,) = kube.pods()
        name = pod["metadata"]["name"]
        version = "policy/v1" if "policy/v1\n" in kube.kubectl("api-versions") else "policy/v1beta1"
        eviction = {"apiVersion": version, "kind": "Eviction", "metadata": {"name": name, "namespace": kube.namespace}}
        path = f"/api/v1/namespaces/{kube.namespace}/pods/{name}/eviction"
        kube.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))

    with during(evict), pytest.raises(TemporaryFailure, match=r"interrupted, not by itself: .*deleted from outside"):
        run(step(script), task())
    assert not (workspace / "runs/a_dag/manual__1/work/t/catalog.json").exists()
    kube.wait(lambda: not kube.left())


def test_a_step_that_ends_while_the_api_server_is_away_for_half_a_minute_has_ended_well(kube, task, door):
    def away():
        kube.begin()
        door.shut = True
        door.cut()
        time.sleep(30)
        door.shut = False

    with during(away), capture_logs() as logs:
        assert run(step("for i in $(seq 8); do echo line $i; sleep 0.5; done;" + COPY), task())["count"] == 1
    assert [line for line in lines(logs) if line.startswith("line ")] == [f"line {i}" for i in range(1, 9)]
    kube.wait(lambda: not kube.left())


def test_a_step_that_fills_its_scratch_is_told_so_and_not_tried_again(kube, task):
    script = "dd if=/dev/zero of=$EARTHSELF_STEP_SCRATCH/x bs=1M count=40; sleep 1000"
    with pytest.raises(AirflowFailException, match=r"scratch.*exceeds.*16Mi.*StepResources\(scratch="):
        run(step(script, resources=StepResources(0.05, "64Mi", scratch="16Mi")), task())
    kube.wait(lambda: not kube.left())
