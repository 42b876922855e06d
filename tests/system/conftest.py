"""One real stack for the whole session, started with `up` as a person would, ended with Ctrl-C by the last test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from earthself.client import Run
from earthself.local.demo import SAMPLE_AREA

from tests.images import Images
from tests.system.chart import IMAGES, Charts, Installed, surroundings
from tests.system.running import DAY, READY_WITHIN, Started, stack_in


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with stack_in(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def area() -> dict:
    return json.loads(SAMPLE_AREA.read_text())


@pytest.fixture(scope="session")
def made(started: Started, area: dict) -> Run:
    """A finished map, ordered with nothing but HTTP."""
    with started.rest("creator") as http:
        body = {"logical_date": None, "conf": {"area": area, "title": "Salzach", **DAY}}
        answer = http.post("/api/v2/dags/land_cover_map/dagRuns", json=body).raise_for_status().json()
    run = started.client().run(answer["dag_run_id"])
    return run.wait(timeout=180, interval=0.2)


@pytest.fixture
def charts(cluster_config: str, cluster: Any, images: Images, tmp_path: Path) -> Charts:
    """Namespaces in which a release of the chart has what it needs."""
    references = {name: images(name).reference for name in IMAGES}
    return lambda name: surroundings(cluster_config, cluster.new_database, tmp_path / name, references)


@pytest.fixture
def chart(charts: Charts) -> Iterator[Installed]:
    with charts("chart") as installed:
        yield installed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(READY_WITHIN + 120))
