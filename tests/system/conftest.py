"""One real stack for the whole session, started with `up` as a person would, ended with Ctrl-C by the last test."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from earthself.local import Settings, Stack, leftovers

from tests.system.running import READY_WITHIN, TRIVIAL, Started, environment


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("stack")
    home, dags, output = folder / "home", folder / "dags", folder / "output.txt"
    dags.mkdir()
    (dags / "trivial.py").write_text(TRIVIAL)
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
    yield Started(process, stack, running, output)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    leftovers.end(running)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(READY_WITHIN + 120))
