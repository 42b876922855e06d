"""One real stack for the whole session, started with `up` as a person would, ended with Ctrl-C by the last test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from earthself.client import Run
from earthself.local import Settings, Stack, leftovers
from earthself.local.demo import SAMPLE_AREA
from earthself.local.ports import free_ports

from tests.system.running import DAY, READY_WITHIN, SHAKY, TRIVIAL, Started, environment


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("stack")
    home, dags, output = folder / "home", folder / "dags", folder / "output.txt"
    dags.mkdir()
    (dags / "trivial.py").write_text(TRIVIAL)
    (shaky_port,) = free_ports(1)
    home.mkdir()
    (home / "sources.json").write_text(json.dumps({"provider_config": SHAKY.format(port=shaky_port)}))
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "earthself.local", "up"],
            env=environment(home, EARTHSELF_DAGS=str(dags)),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    stack = Stack(Settings(home))
    deadline = time.monotonic() + READY_WITHIN
    while "EarthSelf is up" not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
    running = stack.home.running()
    assert running is not None
    yield Started(process, stack, running, output, shaky_port)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    leftovers.end(running)


@pytest.fixture(scope="session")
def area() -> dict:
    return json.loads(SAMPLE_AREA.read_text())


@pytest.fixture(scope="session")
def made(started: Started, area: dict) -> Run:
    """A finished map, ordered with nothing but HTTP."""
    with httpx.Client(base_url=started.running.url, timeout=60) as http:
        login = {"username": "creator", "password": started.stack.home.passwords()["creator"]}
        http.headers["Authorization"] = f"Bearer {http.post('/auth/token', json=login).raise_for_status().json()['access_token']}"
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
