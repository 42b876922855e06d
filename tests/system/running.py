"""What the tests of the real stack share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from earthself.client import Client, connect
from earthself.local import Settings, Stack, leftovers
from earthself.local.home import Running
from earthself.local.ports import free_ports
from earthself.local.sample.provider import application

READY_WITHIN = 240
"""Seconds; twenty on a quiet machine."""

DAY = {"start": "2017-06-13", "end": "2017-06-14"}
"""The only day of the sample."""

TRIVIAL = """
from airflow.sdk import dag, task

@dag(dag_id="trivial", schedule=None)
def trivial():
    @task
    def answer():
        return 42
    answer()

trivial()
"""


SHAKY = """
shaky:
  search:
    type: StacSearch
    api_endpoint: http://127.0.0.1:{port}/search
    discover_queryables: {{fetch_url: null, collection_fetch_url: null}}
    discover_collections: {{fetch_url: null}}
  products: {{S2_MSI_L2A: {{_collection: sentinel-2-l2a}}}}
  download: {{type: HTTPDownload, extract: false}}
"""
"""A provider of the user's own, in `sources.json`."""


@dataclass
class Started:
    """The session's stack."""

    process: subprocess.Popen[str]
    stack: Stack
    running: Running
    output: Path
    shaky_port: int
    """Where the provider `shaky` is looked for; a test serves it."""

    def client(self, user: str = "creator") -> Client:
        return connect(self.running.url, user, self.stack.home.passwords()[user])

    @contextmanager
    def rest(self, user: str = "admin") -> Iterator[httpx.Client]:
        """Airflow's REST API as a user."""
        login = {"username": user, "password": self.stack.home.passwords()[user]}
        with httpx.Client(base_url=self.running.url, timeout=60) as http:
            http.headers["Authorization"] = f"Bearer {http.post('/auth/token', json=login).raise_for_status().json()['access_token']}"
            yield http

    def leftovers(self) -> list[str]:
        return [" ".join(process.cmdline()) for process in leftovers.find(self.running)]


@contextmanager
def stack_in(folder: Path, more: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Start a stack with `up` as a person would; DAG files go to `folder/dags`: one, and those given by name. `more` is its environment."""
    home, dags, output = folder / "home", folder / "dags", folder / "output.txt"
    dags.mkdir()
    for name, text in {"trivial.py": TRIVIAL, **(files or {})}.items():
        (dags / name).write_text(text)
    (shaky_port,) = free_ports(1)
    home.mkdir()
    (home / "sources.json").write_text(json.dumps({"provider_config": SHAKY.format(port=shaky_port)}))
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "earthself.local", "up"],
            env=environment(home, EARTHSELF_DAGS=str(dags), **(more or {})),
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


@contextmanager
def served(folder: Path, port: int) -> Iterator[None]:
    """Serve a folder of products at a port of the loopback interface."""
    server = uvicorn.Server(uvicorn.Config(application(folder), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "the provider answers")
    yield
    server.should_exit = True
    thread.join(10)


def environment(home: Path, **more: str) -> dict[str, str]:
    ports = {"EARTHSELF_PORT": "0", "EARTHSELF_SIGNATURE_PORT": "0", "EARTHSELF_DATA_PORT": "0", "EARTHSELF_SAMPLE_PORT": "0"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EARTHSELF_")}
    return {**kept, **ports, "EARTHSELF_HOME": str(home), **more}


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that other processes do; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.2)
