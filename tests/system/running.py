"""What the tests of the real stack share."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from earthself.client import Client, connect
from earthself.local import Stack, leftovers
from earthself.local.home import Running
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

    def leftovers(self) -> list[str]:
        return [" ".join(process.cmdline()) for process in leftovers.find(self.running)]


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
