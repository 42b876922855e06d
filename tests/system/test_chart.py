"""The chart in a real cluster: a release of it makes a map with its steps in pods, is changed, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
from earthself.local.ports import free_ports

from tests.helm import RELEASE, helm
from tests.images import Images
from tests.system.chart import SECONDS, Installed, secret, surroundings, wait
from tests.system.running import DAY

pytestmark = pytest.mark.timeout(2 * SECONDS + 900)
NAMES = ("airflow", "earthsignature", "processing")


@pytest.fixture(scope="module")
def chart(cluster_config: str, cluster: Any, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A release that is installed and ready."""
    references = {name: images(name).reference for name in NAMES}
    with surroundings(cluster_config, cluster.new_database, tmp_path_factory.mktemp("chart"), references) as installed:
        installed.change("install")
        yield installed


def pods(chart: Installed) -> dict[str, str]:
    """Component -> name of its pod, of those that run; steps' pods are none."""
    found = [pod["metadata"] for pod in chart.objects("pods") if pod["status"]["phase"] == "Running"]
    component = "app.kubernetes.io/component"
    return {one["labels"][component]: one["name"] for one in found if component in one["labels"] and "deletionTimestamp" not in one}


def keys(chart: Installed) -> dict[str, str]:
    return dict(json.loads(chart.kube.kubectl("get", "secret", f"{RELEASE}-earthself-keys", "-o", "json"))["data"])


def test_a_release_makes_a_map_is_changed_and_leaves_nothing(chart: Installed, area: dict) -> None:
    run = chart.client().land_cover_map(area=area, title="Salzach", **DAY)
    run.wait(timeout=600)
    path = chart.workspace / "runs" / "land_cover_map" / run.run_id / "result.json"
    result = json.loads(path.read_text())
    assert result["status"] == "complete"
    assert result["products"]["processed"] == 2
    assert all((path.parent / name).is_file() for name in result["outputs"].values())
    ran = json.loads((path.parent / "manifest.json").read_text())["code"]["images"]
    assert {image.partition("@")[0] for image in ran.values()} == {chart.values["images"]["processing"]}, "steps ran in pods of the image"
    chart.kube.wait(lambda: not chart.kube.left())

    before, kept = pods(chart), keys(chart)
    assert set(before) == {"api-server", "scheduler", "dag-processor", "triggerer", "signature", "web"}
    again = chart.client().land_cover_map(area=area, title="Salzach, again", **DAY)
    wait(lambda: bool(chart.kube.left()), lambda: chart.kube.kubectl("get", "pods"), 300)
    chart.change("upgrade", {"airflow": {"heavySteps": 3}})
    wait(lambda: set(pods(chart)) == set(before), lambda: chart.kube.kubectl("get", "pods"), 120)
    after = pods(chart)
    new = {component for component in after if after[component] != before[component]}
    assert new == {"api-server", "scheduler", "dag-processor", "triggerer"}, "parts whose configuration changed, and no others"
    assert keys(chart) == kept, "sessions and stored connections stay good"
    again.wait(timeout=600)
    second = json.loads((path.parents[1] / again.run_id / "result.json").read_text())
    assert second["status"] == "complete", "a run goes on while the platform is upgraded"
    assert second["products"]["reused"] == 2, "EarthSignature kept what the first run stored"

    chart.change("upgrade", {"backup": {"enabled": True, "volume": {"hostPath": str(chart.backup)}}})
    night = json.loads(chart.kube.kubectl("get", "cronjob", f"{RELEASE}-earthself-backup-signature", "-o", "json"))
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "now"}, "spec": night["spec"]["jobTemplate"]["spec"]}
    chart.kube.kubectl("apply", "-f", "-", text=json.dumps(job))
    chart.kube.kubectl("wait", "job/now", "--for=condition=complete", "--timeout=120s")
    chart.kube.kubectl("delete", "job", "now")
    kept_there = json.loads((chart.backup / "earthsignature" / "archive.json").read_text())
    assert kept_there["products"] == 2

    helm(chart.kube.config, chart.kube.namespace, "uninstall", RELEASE, wait="watcher", timeout=SECONDS)
    wait(lambda: not chart.objects(), lambda: str([(one["kind"], one["metadata"]["name"]) for one in chart.objects()]), 120)
    assert not chart.kube.left()
    assert path.is_file(), "the workspace is not the release's"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis, which Celery's tasks go through."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server; get it with: apt-get install redis-server")
    (port,) = free_ports(1)
    server = subprocess.Popen([program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)], stdout=DEVNULL)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(30)


@pytest.fixture
def another(cluster_config: str, cluster: Any, images: Images, tmp_path: Path) -> Iterator[Installed]:
    """What a release needs; none is installed yet."""
    references = {name: images(name).reference for name in NAMES}
    with surroundings(cluster_config, cluster.new_database, tmp_path / "chart", references) as installed:
        yield installed


def test_workers_of_celery_make_a_map(another: Installed, redis: str, area: dict) -> None:
    secret(another.kube, "test-redis", {"url": redis})
    small = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}}
    workers = {"replicas": 1, "concurrency": 4, "resources": small}
    another.change("install", {"airflow": {"executor": "CeleryExecutor"}, "celery": {"brokerSecret": "test-redis"}, "workers": workers})
    run = another.client().land_cover_map(area=area, title="Salzach", **DAY)
    run.wait(timeout=900)
    result = json.loads((another.workspace / "runs" / "land_cover_map" / run.run_id / "result.json").read_text())
    assert (result["status"], result["products"]["processed"]) == ("complete", 2)
    helm(another.kube.config, another.kube.namespace, "uninstall", RELEASE, wait="watcher", timeout=SECONDS)
    wait(lambda: not another.objects(), lambda: str([(one["kind"], one["metadata"]["name"]) for one in another.objects()]), 120)
    assert not another.kube.left()
