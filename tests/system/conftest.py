"""One real stack for the whole session, started with `up` as a person would, ended with Ctrl-C by the last test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from earthself.client import Run
from earthself.local.demo import SAMPLE_AREA

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(READY_WITHIN + 120))
