"""The chart in a real cluster: a release of it makes a map with its steps in pods, is changed, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL

import pytest
from earthself.local.ports import free_ports

from tests.helm import RELEASE
from tests.system.chart import SECONDS, Installed, secret, wait
from tests.system.running import DAY

pytestmark = pytest.mark.timeout(2 * SECONDS + 900)
AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer"}


def keys(chart: Installed) -> dict[str, str]:
    return dict(json.loads(chart.kube.kubectl("get", "secret", f"{RELEASE}-earthself-keys", "-o", "json"))["data"])


def workers(chart: Installed) -> str:
    return str(
        json.loads(chart.kube.kubectl("get", "configmap", f"{RELEASE}-earthself-airflow", "-o", "json"))["data"]["EARTHSELF_WORKERS"]
    )


def test_a_release_makes_a_map_is_changed_and_leaves_nothing(chart: Installed, area: dict) -> None:
    chart.change("install")
    folder, result = chart.map(area)
    assert result["products"]["processed"] == 2
    assert all((folder / name).is_file() for name in result["outputs"].values())
    ran = json.loads((folder / "manifest.json").read_text())["code"]["images"]
    assert {image.partition("@")[0] for image in ran.values()} == {chart.values["images"]["processing"]}, "steps ran in pods of the image"
    chart.kube.wait(lambda: not chart.kube.left())

    before, kept = chart.pods(), keys(chart)
    assert set(before) == AIRFLOW | {"signature", "web"}

    def changed(change: Callable[[], None]) -> set[str]:
        """Which parts are new after a change that was made while a step of a run had its pod."""
        old = chart.pods()
        run = chart.client().land_cover_map(area=area, title="Salzach, again", **DAY)
        wait(lambda: bool(chart.kube.left()), lambda: chart.kube.kubectl("get", "pods"), 300)
        change()
        wait(lambda: set(chart.pods()) == set(before), lambda: chart.kube.kubectl("get", "pods"), 120)
        assert keys(chart) == kept, "sessions and stored connections stay good"
        _, made = chart.made(run)
        assert made["products"]["reused"] == 2, "EarthSignature kept what the first run stored"
        new = chart.pods()
        return {component for component in new if new[component] != old[component]}

    assert changed(lambda: chart.change("upgrade", {"airflow": {"heavySteps": 3}})) == AIRFLOW, "parts whose settings changed, no others"
    assert workers(chart) == "3"
    assert changed(lambda: chart.helm("rollback", RELEASE)) == AIRFLOW
    assert workers(chart) == "2"
    chart.uninstall()
    assert (folder / "result.json").is_file(), "the workspace is not the release's"


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


def test_workers_of_celery_make_a_map(chart: Installed, redis: str, area: dict) -> None:
    secret(chart.kube, "test-redis", {"url": redis})
    small = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}}
    workers = {"replicas": 1, "concurrency": 4, "resources": small}
    chart.change("install", {"airflow": {"executor": "CeleryExecutor"}, "celery": {"brokerSecret": "test-redis"}, "workers": workers})
    _, result = chart.map(area, 900)
    assert result["products"]["processed"] == 2
    chart.uninstall()
